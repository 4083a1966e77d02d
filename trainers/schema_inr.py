"""Metric table of system `inr`."""

from __future__ import annotations

from trainers.metric_spec import MetricSpec, r2

_HELD = {
    "cells": "cells of which nothing was trained on",
    "windows": "the trained cells in stretches of time of which nothing was trained on, longer than a cell remembers",
    "frames": "single withheld values of trained cells, between trained values of the same cell",
}

INR_METRICS: dict[str, MetricSpec] = {
    "heldout_cells_r2": r2(f"1 - SSE/SST of the field over {_HELD['cells']}."),
    "heldout_windows_r2": r2(f"1 - SSE/SST over {_HELD['windows']}."),
    "heldout_frames_r2": r2(f"1 - SSE/SST over {_HELD['frames']}; interpolating the cell is hard to beat."),
    "ceiling_share": r2(
        "heldout_cells_r2 over the part of the variance that time and place decide (measured before any training)."
    ),
    "beyond_baselines": MetricSpec(
        "max", "%.4f", "heldout_cells_r2 less the best of mean, nearest trained cell and interpolation between the "
        "eight nearest.",
    ),
    "final_r2": MetricSpec("max", "%.6f", "Recorded form: Pearson^2 over the values that were trained on (of more than "
                           "6 million numbers every few frames); blind to scale and offset."),
    "final_r2_strict": MetricSpec("max", "%.6f", "1 - SSE/SST over the same values."),
    "final_mse": MetricSpec("min", "%.6e", "Mean squared error a component over the same values.", (), "",
                            "field^2"),
    "slope": MetricSpec("target", "%.4f", "Slope of learned on true values over the same.", target=1.0),
    "heldout_cells_mse": MetricSpec("min", "%.6e", "Mean squared error a component over withheld cells.", (), "",
                                    "field^2"),
    "heldout_windows_mse": MetricSpec("min", "%.6e", "The same over withheld stretches of time.", (), "", "field^2"),
    "heldout_frames_mse": MetricSpec("min", "%.6e", "The same over single withheld values.", (), "", "field^2"),
    "final_loss": MetricSpec(
        "min", "%.4e", "Root mean square error a component in the last tenth of the steps.", (), "", "field"
    ),
    "steps_done": MetricSpec("none", "%d", "Gradient steps taken; fewer than inr_total_steps where time ran out.",
                             (), "", "steps"),
    "n_parameters": MetricSpec("none", "%d", "Weights and biases.", (), "", "parameters"),
    "training_time_min": MetricSpec(
        "min", "%.2f", "Wall time of training, set-up and last predictions included.", ("time_min",), "", "min"
    ),
    "time_used": MetricSpec("min", "%.4f", "training_time_min over training.max_minutes; above 1 it took too long."),
    "persistence_time": MetricSpec("none", "%.4f", "Time after which a cell's value has correlation 1/e with itself.",
                                   (), "persistence time", "time"),
}  # fmt: skip

INR_TRUTH: frozenset[str] = frozenset()
"""Metrics that compare with true parameters: none, so people's own recordings have them all."""
