"""Scoring of system `inr`, as `trainers.scoring.score` asks for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainers.data_points import HELD
from trainers.order import Order
from trainers.scoring.fields import Truth, beyond, load_truth, score_estimate, score_seen, shapes_from, shapes_of

__all__ = [
    "LEARNED",
    "draw_end",
    "draw_moment",
    "input_shapes",
    "lines",
    "load_truth",
    "measure",
    "reason",
    "results",
    "score_estimate",
    "shapes",
]

LEARNED = (*HELD, "frequencies")
RECORDED = ("omega_inr", "inr_learning_rate", "hidden_dim_inr", "n_layers_inr", "inr_total_steps", "inr_batch_size",
            "inr_xy_period", "inr_t_period", "inr_omega_t", "inr_periodic", "inr_whiten", "inr_random_points",
            "inr_lr_scheduler", "inr_grad_clip", "inr_precision", "inr_compile")  # fmt: skip
"""Keys that analysis.log repeats."""
RESULTS = ("final_mse", "final_r2", "slope", "final_r2_strict", "heldout_cells_r2", "heldout_windows_r2",
           "heldout_frames_r2", "ceiling_share", "training_time_min")  # fmt: skip


def shapes(truth: Truth) -> dict[str, tuple[int | None, ...]]:
    """Return the shapes of the final estimate."""
    points = {kind: len(values) for kind, values in truth.held.items()}
    return shapes_from(truth.seen.shape[2], points, truth.seen.shape[:2], truth.n_slices)


def input_shapes(inputs: Path) -> dict[str, tuple[int | None, ...]]:
    """Return the same shapes from what training was given; raises RefusedError."""
    return shapes_of(inputs.parent)


def measure(order: Order, truth: Truth, final: dict[str, Any], trained: dict[str, Any]) -> dict[str, float | None]:
    """Return every metric of a final estimate."""
    minutes = trained["training_time_s"] / 60
    found = score_estimate(final, truth) | score_seen(final["seen"], truth)
    return found | {
        "beyond_baselines": beyond(found["heldout_cells_r2"], truth, "cells"),
        "steps_done": float(final["step"]),
        "n_parameters": float(n_parameters(order.config.inr, truth.told)),
        "time_used": minutes / order.config.training.max_minutes,
        "persistence_time": truth.activity.get("persistence_time"),
    }


def n_parameters(inr: Any, told: dict[str, Any]) -> int:
    """Return weights and biases of the network of a config."""
    h, axes = inr.hidden_dim_inr, int(told["dimension"]) * (2 if inr.inr_periodic else 1)
    outputs = 1 if inr.inr_gradient_mode else int(told["n_components"])
    return (1 + axes) * h + h + inr.n_layers_inr * (h * h + h) + h * outputs + outputs


def reason(name: str, truth: Truth) -> str:
    """Return why a metric is not defined."""
    if name == "ceiling_share":
        return "no ceiling could be measured on these data"
    if name == "persistence_time":
        return "a cell's value stays correlated over the whole recording"
    return "the withheld values are constant" if name.startswith("heldout_") else "not defined for these values"


def lines(order: Order, truth: Truth, preflight: dict[str, Any], trained: dict[str, Any],
          line: Callable[[str], str]) -> list[str]:  # fmt: skip
    """Return analysis.log: data, training, fit, withheld values beside their baselines."""
    active, inr = truth.activity, order.config.inr
    size = ("n_cells", "n_frames", "dimension", "n_components")
    return [
        "--- activity ---",
        *(f"  {name}: {active[name]:.0f}" for name in size),
        f"  rms: {active['rms']:.5f}",
        f"  {line('persistence_time')}",
        f"  withheld: {active['withheld_cells']:.0f} cells, {active['withheld_windows']:.0f} stretch(es) of "
        f"{active['withheld_window_time']:.4g}",
        "--- training ---",
        f"field_name: {inr.inr_field_name}",
        f"inr_type: {inr.inr_type}",
        f"gradient_mode: {inr.inr_gradient_mode}",
        line("training_time_min"),
        line("time_used"),
        line("steps_done"),
        line("n_parameters"),
        *(f"{name}: {getattr(inr, name)}" for name in RECORDED),
        *(f"idle key {name}: n/a ({why})" for name, why in trained["keys_idle"].items()),
        "--- fit: values that were trained on ---",
        *map(line, ("final_r2", "final_r2_strict", "final_mse", "slope", "final_loss")),
        "--- withheld values ---",
        *(told for kind in HELD for told in _kind(kind, truth, line)),
        line("beyond_baselines"),
        "--- limits of these data ---",
        f"  ceiling heldout_cells_r2: {_number(truth.limits['ceiling'])} (from {truth.limits['ceiling_from']})",
        line("ceiling_share"),
        f"  untrained heldout_cells_r2: {_number((preflight.get('null') or {}).get('heldout_cells_r2'))}",
    ]


def _kind(kind: str, truth: Truth, line: Callable[[str], str]) -> list[str]:
    known = truth.limits["baselines"][kind]
    beside = [f"  baseline {name} heldout_{kind}_r2: {_number(known[name])}" for name in known]
    return [line(f"heldout_{kind}_r2"), line(f"heldout_{kind}_mse"), *beside]


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) else "n/a (not measured)"


def results(order: Order, truth: Truth, line: Callable[[str], str]) -> str:
    """Return results.log, in the recorded form."""
    inr, told = order.config.inr, truth.told
    named = {"field_name": inr.inr_field_name, "inr_type": inr.inr_type, "gradient_mode": inr.inr_gradient_mode}
    sizes = {"n_cells": told["n_cells"], "n_frames": told["n_frames"], "n_components": told["n_components"],
             "total_steps": inr.inr_total_steps}  # fmt: skip
    written = [f"{name}: {value}" for name, value in (named | sizes).items()]
    return "\n".join([*written[:3], *map(line, RESULTS[:-1]), *written[3:], line(RESULTS[-1])]) + "\n"


def draw_moment(
    estimate: dict[str, Any], truth: Truth, scores: dict[str, float | None], where: str, folder: Path, tag: str
) -> None:
    """Write the figures of an estimate."""
    from trainers.scoring import plots_inr

    plots_inr.draw_moment(estimate, truth, scores, where, folder, tag)


def draw_end(final: dict[str, Any], truth: Truth, scores: dict[str, float | None], folder: Path) -> None:
    """Write the figures that a run has once."""
    from trainers.scoring import plots_inr

    plots_inr.draw_end(final, truth, scores, folder)
