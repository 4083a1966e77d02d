"""Starts and watches runs: a run folder is the only state, and a supervisor per run is its only master."""
