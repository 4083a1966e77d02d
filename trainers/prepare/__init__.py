"""Data of a regime, made once from its simulation section, with the checks that stand before iteration 1."""
