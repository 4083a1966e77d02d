"""Scoring of system `stoichiometry`, as `trainers.scoring.score` asks for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from trainers.errors import RefusedError
from trainers.order import Order
from trainers.scoring.score import limits
from trainers.scoring.stoichiometric import Truth, load_truth, score_estimate

__all__ = [
    "LEARNED",
    "draw_end",
    "draw_moment",
    "input_shapes",
    "lines",
    "load_truth",
    "measure",
    "reason",
    "score_estimate",
    "shapes",
]

LEARNED = ("sto", "log_k", "rate_pair", "rate_visited")
RECORDED = ("n_epochs", "data_augmentation_loop", "batch_size", "n_runs", "learning_rate_start",
            "learning_rate_S_start", "coeff_S_L1", "coeff_S_integer", "coeff_mass_conservation", "coeff_S_floor",
            "frame_sampling", "functions_start", "gauge_parameter", "time_step", "recurrent_training")  # fmt: skip
"""Keys that analysis.log repeats."""
SIGNS_LEARNED, SIGNS_STARTED = "learned", "started from the graph, then learned"
SIGNS_GIVEN = "given (constrain_sign): sign_accuracy is 1 by construction"


def shapes(truth: Truth) -> dict[str, tuple[int | None, ...]]:
    """Return the shapes of the final estimate."""
    return _shapes(truth.S.shape, len(truth.sto), len(truth.rate_pair), len(truth.rate_visited), truth.heldout_dc,
                   truth.rollout_c.shape[1])  # fmt: skip


def input_shapes(inputs: Path) -> dict[str, tuple[int | None, ...]]:
    """Return the same shapes from what training was given; raises RefusedError."""
    try:
        pair, visited, held = (np.load(inputs / f"{n}.npy", mmap_mode="r", allow_pickle=False)
                               for n in ("grid_pair", "rate_c", "heldout_c"))  # fmt: skip
        frames = int(json.loads((inputs / "inputs.json").read_text())["rollout_frames"])
        told = json.loads((inputs.parent / "train" / "dataset.json").read_text())
        with np.load(inputs.parent / "train" / "graph.npz", allow_pickle=False) as graph:
            edges = len(graph["met_all"])
        size = (int(told["n_metabolites"]), int(told["n_reactions"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RefusedError(f"{inputs} is not complete ({error}); prepare the regime again") from error
    return _shapes(size, edges, len(pair), len(visited), held, frames)


def _shapes(size: tuple[int, ...], edges: int, pairs: int, visited: int, held: Any,
            frames: int) -> dict[str, tuple[int | None, ...]]:  # fmt: skip
    m, r = size
    return {"sto": (edges,), "log_k": (r,), "rate_pair": (pairs,), "rate_visited": (visited, r),
            "heldout_dc": held.shape, "rollout_c": (1, frames, m)}  # fmt: skip


def measure(order: Order, truth: Truth, final: dict[str, Any], trained: dict[str, Any]) -> dict[str, float | None]:
    """Return every metric of a final estimate; those of S are absent where it was given."""
    found = score_estimate(final, truth)
    if order.config.training.freeze_stoichiometry:
        found = {name: value for name, value in found.items() if name not in OF_S}
    return found | {name: truth.activity.get(name) for name in ("effective_rank_90", "effective_rank_99")}


OF_S = ("stoichiometry_R2", "stoichiometry_R2_strict", "sign_accuracy", "exact_match", "stoichiometry_R2_reduced",
        "exact_match_reduced")  # fmt: skip


def reason(name: str, truth: Truth) -> str:
    """Return why a metric is not defined."""
    if name.startswith("support_"):
        return "no decoy edges"
    if name.startswith("test_"):
        return "the rollout left the finite numbers"
    if name in OF_S:
        return "S is given, or does not vary"
    return "a curve does not vary" if name.endswith("_corr") else "not defined for these values"


def signs_of(training: Any) -> str:
    """Return how the signs of S came about."""
    if training.constrain_sign:
        return SIGNS_GIVEN
    return SIGNS_STARTED if training.S_init == "graph_sign" else SIGNS_LEARNED


def lines(order: Order, truth: Truth, preflight: dict[str, Any], trained: dict[str, Any],
          line: Callable[[str], str]) -> list[str]:  # fmt: skip
    """Return analysis.log: data, training, stoichiometry beside its baselines and ceiling, functions, test, limits."""
    t, active = order.config.training, truth.activity
    return [
        "--- activity ---",
        f"  metabolites: {active['n_metabolites']:.0f}",
        f"  reactions: {active['n_reactions']:.0f}",
        f"  true edges: {active['edges']:.0f}",
        f"  told edges: {len(truth.sto)}",
        f"  range: [{active['c_min']:.3f}, {active['c_max']:.3f}]",
        f"  {line('effective_rank_90')}",
        f"  {line('effective_rank_99')}",
        "--- training ---",
        line("training_time_min"),
        f"flux limit in the model: {order.config.graph_model.flux_limit}",
        *(f"{name}: {getattr(t, name)}" for name in RECORDED),
        *(f"idle key {name}: n/a ({why})" for name, why in trained["keys_idle"].items()),
        "--- stoichiometry ---",
        f"signs: {signs_of(t)}",
        *map(line, ("stoichiometry_R2", "stoichiometry_R2_strict", "sign_accuracy", "exact_match",
                    "stoichiometry_R2_reduced", "exact_match_reduced")),
        *limits(preflight, "graph alone", "baselines", "stoichiometry_R2_sign_only", "stoichiometry_R2_mass_balance",
                "exact_match_sign_only", "exact_match_mass_balance"),
        *limits(preflight, "ceiling (true rates and mass balance known)", "ceiling", "stoichiometry_R2", "exact_match"),
        *map(line, ("support_AUC", "support_precision", "support_recall")),
        "--- functions ---",
        *map(line, ("substrate_func_R2", "substrate_func_corr", "rate_func_R2", "rate_func_corr",
                    "rate_constants_R2")),
        "--- test ---",
        *map(line, ("test_R2", "test_pearson", "test_R2_100", "test_pearson_100", "one_step_R2", "final_loss")),
        "--- limits of these data ---",
        *limits(preflight, "untrained", "null", "stoichiometry_R2", "one_step_R2", "substrate_func_corr"),
    ]  # fmt: skip


def draw_moment(
    estimate: dict[str, Any], truth: Truth, scores: dict[str, float | None], where: str, folder: Path, tag: str
) -> None:
    """Write the figures of an estimate."""
    from trainers.scoring import plots_stoichiometry

    plots_stoichiometry.draw_moment(estimate, truth, scores, where, folder, tag)


def draw_end(final: dict[str, Any], truth: Truth, scores: dict[str, float | None], folder: Path) -> None:
    """Write the figures that a run has once."""
    from trainers.scoring import plots_homeostasis

    plots_homeostasis.plot_concentrations(truth, folder / "concentrations.png")
    plots_homeostasis.plot_rollout(final["rollout_c"][0], truth.rollout_c[0], scores, folder / "rollout.png")
