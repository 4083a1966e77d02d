"""Metrics, plots and analysis.log from estimates and the truth; never from a model's code."""
