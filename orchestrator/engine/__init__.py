"""The loop: propose, run, judge, remember; and everything that makes it survive."""
