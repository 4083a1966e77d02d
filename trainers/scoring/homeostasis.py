"""Scoring of system `homeostasis`, as `trainers.scoring.score` asks for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from trainers.errors import RefusedError
from trainers.order import Order
from trainers.scoring.metabolism import Truth, load_truth, score_estimate
from trainers.scoring.score import limits

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

LEARNED = ("log_k", "a", "sto", "alpha", "sub", "node")
ORDERS = 2
RECORDED = ("n_epochs", "data_augmentation_loop", "batch_size", "learning_rate_k", "learning_rate_embedding",
            "learning_rate_node", "learning_rate_sub", "coeff_MLP_sub_diff", "coeff_MLP_node_L1", "coeff_MLP_sub_norm",
            "coeff_k_floor", "time_step", "recurrent_training")  # fmt: skip
"""Keys that analysis.log repeats."""


def shapes(truth: Truth) -> dict[str, tuple[int | None, ...]]:
    """Return the shapes of the final estimate."""
    return _shapes(truth.S.shape, np.count_nonzero(truth.S), truth.grid_c, truth.grid_sub, truth.heldout_dc,
                   truth.rollout_c.shape[1])  # fmt: skip


def input_shapes(inputs: Path) -> dict[str, tuple[int | None, ...]]:
    """Return the same shapes from what training was given; raises RefusedError."""
    try:
        grid_c, grid_sub, held = (np.load(inputs / f"{n}.npy", mmap_mode="r", allow_pickle=False)
                                  for n in ("grid_c", "grid_sub", "heldout_c"))  # fmt: skip
        frames = int(json.loads((inputs / "inputs.json").read_text())["rollout_frames"])
        told = json.loads((inputs.parent / "train" / "dataset.json").read_text())
        with np.load(inputs.parent / "train" / "graph.npz", allow_pickle=False) as graph:
            edges = len(graph["met_all"])
        size = (int(told["n_metabolites"]), int(told["n_reactions"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RefusedError(f"{inputs} is not complete ({error}); prepare the regime again") from error
    return _shapes(size, edges, grid_c, grid_sub, held, frames)


def _shapes(size: tuple[int, ...], edges: int, grid_c: Any, grid_sub: Any, held: Any,
            frames: int) -> dict[str, tuple[int | None, ...]]:  # fmt: skip
    m, r = size
    return {"log_k": (r,), "a": (m, None), "sto": (edges,), "alpha": (1,), "sub": (ORDERS, len(grid_sub)),
            "node": (len(grid_c), m, grid_c.shape[1]), "heldout_dc": held.shape, "heldout_home": held.shape,
            "rollout_c": (1, frames, m)}  # fmt: skip


def measure(order: Order, truth: Truth, final: dict[str, Any], trained: dict[str, Any]) -> dict[str, float | None]:
    """Return every metric of a final estimate."""
    described = ("effective_rank_90", "effective_rank_99")
    return score_estimate(final, truth) | {name: truth.activity.get(name) for name in described}


def reason(name: str, truth: Truth) -> str:
    """Return why a metric is not defined."""
    if name[-2:] in {f"_{t}" for t in range(truth.n_types, 10)}:
        return f"{truth.n_types} metabolite type(s)"
    if name.startswith("embedding_"):
        return "one metabolite type" if truth.n_types == 1 else "all embeddings coincide"
    if name.startswith("test_"):
        return "the rollout left the finite numbers"
    known = {"stoichiometry_R2": "S is given", "trimmed_R2": "more than half of the reactions are outliers",
             "slope": "more than half of the reactions are outliers"}  # fmt: skip
    return known.get(name, "not defined for these values")


def lines(order: Order, truth: Truth, preflight: dict[str, Any], trained: dict[str, Any],
          line: Callable[[str], str]) -> list[str]:  # fmt: skip
    """Return analysis.log: data, training, rate constants, homeostasis, embeddings, test, limits of the data."""
    t, active = order.config.training, truth.activity
    of_types = [f"MLP_node_{what}_{k}" for k in range(truth.n_types)
                for what in ("slope", "gt_slope", "slope_ratio", "offset_ratio")]  # fmt: skip
    excited = sorted(set(truth.order.astype(int).tolist()))
    return [
        "--- activity ---",
        f"  metabolites: {active['n_metabolites']:.0f}",
        f"  reactions: {active['n_reactions']:.0f}",
        f"  identifiable reactions: {active['identifiable_reactions']:.0f}",
        f"  range: [{active['c_min']:.3f}, {active['c_max']:.3f}]",
        f"  homeostasis share of dc/dt (rms): {active['homeostasis_share']:.5f}",
        f"  {line('effective_rank_90')}",
        f"  {line('effective_rank_99')}",
        "--- training ---",
        line("training_time_min"),
        *(f"{name}: {getattr(t, name)}" for name in RECORDED),
        *(f"idle key {name}: n/a ({why})" for name, why in trained["keys_idle"].items()),
        "--- rate constants ---",
        *map(line, ("rate_constants_R2", "rate_constants_R2_identifiable", "rate_constants_R2_strict", "trimmed_R2",
                    "n_outliers", "slope", "alpha", "stoichiometry_R2", "joint_score")),
        "--- functions ---",
        f"MLP_sub orders excited by these data: {' '.join(map(str, excited))}",
        *map(line, ("MLP_sub_R2", "MLP_sub_corr", *of_types, "avg_slope_ratio", "avg_slope_ratio_visited",
                    "homeostasis_R2")),
        "--- embedding ---",
        *map(line, ("embedding_cluster_acc", "embedding_cluster_acc_kmeans", "embedding_n_clusters",
                    "embedding_silhouette")),
        "--- test ---",
        *map(line, ("test_R2", "test_pearson", "test_R2_100", "test_pearson_100", "one_step_R2", "final_loss")),
        "--- limits of these data ---",
        *limits(preflight, "ceiling", "ceiling", "rate_constants_R2", "rate_constants_R2_identifiable", "joint_score",
                "avg_slope_ratio", "test_R2_100"),
        *limits(preflight, "untrained", "null", "rate_constants_R2", "one_step_R2"),
        *limits(preflight, "all k equal, no homeostasis", "baselines", "one_step_R2", "test_R2_100"),
    ]  # fmt: skip


def draw_moment(
    estimate: dict[str, Any], truth: Truth, scores: dict[str, float | None], where: str, folder: Path, tag: str
) -> None:
    """Write the figures of an estimate."""
    from trainers.scoring import plots_homeostasis

    plots_homeostasis.draw_moment(estimate, truth, scores, where, folder, tag)


def draw_end(final: dict[str, Any], truth: Truth, scores: dict[str, float | None], folder: Path) -> None:
    """Write the figures that a run has once."""
    from trainers.scoring import plots_homeostasis

    plots_homeostasis.plot_concentrations(truth, folder / "concentrations.png")
    plots_homeostasis.plot_rollout(final["rollout_c"][0], truth.rollout_c[0], scores, folder / "rollout.png")
