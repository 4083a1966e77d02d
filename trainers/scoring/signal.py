"""Scoring of the neural signal system, as `trainers.scoring.score` asks for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from trainers.errors import RefusedError
from trainers.order import Order
from trainers.scoring.metrics import Truth, factors, load_truth, score_estimate, spectra
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

LEARNED = ("W", "a", "lin_edge", "lin_phi")
OF_TYPES = ("cluster_accuracy", "cluster_accuracy_kmeans", "embedding_silhouette")


def shapes(truth: Truth) -> dict[str, tuple[int | None, ...]]:
    """Return the shapes of the final estimate."""
    n, g = truth.n_neurons, len(truth.grid_u)
    return {"W": (n, n), "a": (n, None), "lin_edge": (n, g), "lin_phi": (n, g),
            "heldout_du": truth.heldout_du.shape, "rollout_u": truth.rollout_u.shape}  # fmt: skip


def input_shapes(inputs: Path) -> dict[str, tuple[int | None, ...]]:
    """Return the same shapes from what training was given; raises RefusedError."""
    try:
        (g,), (k, n), (r, _) = (np.load(inputs / f"{name}.npy", mmap_mode="r", allow_pickle=False).shape
                                for name in ("grid_u", "heldout_u", "rollout_u0"))  # fmt: skip
        frames = int(json.loads((inputs / "inputs.json").read_text())["rollout_frames"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RefusedError(f"{inputs} is not complete ({error}); prepare the regime again") from error
    return {"W": (n, n), "a": (n, None), "lin_edge": (n, g), "lin_phi": (n, g),
            "heldout_du": (k, n), "rollout_u": (r, frames, n)}  # fmt: skip


def measure(order: Order, truth: Truth, final: dict[str, Any], trained: dict[str, Any]) -> dict[str, float | None]:
    """Return every metric of a final estimate."""
    found: dict[str, float | None] = score_estimate(final, truth)
    described = ("effective_rank_90", "effective_rank_99", "spectral_radius")
    found |= {name: truth.activity.get(name) for name in described}
    if truth.known:
        found["spectral_radius_learned"] = float(abs(_eigenvalues(final, truth)[0]).max())
    rank = _rank(order)
    if rank and truth.known:
        found |= factors(final["W"], final["lin_edge"], truth, rank)
    return found


def _eigenvalues(final: dict[str, Any], truth: Truth) -> tuple[Any, Any]:
    return spectra(final["W"], final["lin_edge"], truth)


def _rank(order: Order) -> int:
    """Return the rank of a low-rank W, 0 for any other."""
    simulation = order.config.simulation.model_dump()
    return int(simulation.get("connectivity_rank", 0)) if simulation["connectivity_type"] == "low_rank" else 0


def reason(name: str, truth: Truth) -> str:
    """Return why a metric is not defined."""
    if name in OF_TYPES and truth.n_types == 1:
        return "one neuron type"
    if name == "embedding_silhouette":
        return "all embeddings coincide, or as many types as neurons"
    if name in ("U_R2", "V_R2"):
        return "W is not of low rank"
    return "every entry of the true W may be non-zero" if name.startswith("support_") else "not measured"


def lines(order: Order, truth: Truth, preflight: dict[str, Any], trained: dict[str, Any],
          line: Callable[[str], str]) -> list[str]:  # fmt: skip
    """Return analysis.log: simulation, training, test and connectivity in the recorded order and spelling."""
    t, active = order.config.training, truth.activity
    rollout = ("test_R2", "test_pearson", "test_R2_100", "test_pearson_100")
    return [
        line("spectral_radius"),
        "--- activity ---",
        f"  shape: ({active['n_frames']:.0f}, {active['n_neurons']:.0f})",
        f"  range: [{active['u_min']:.3f}, {active['u_max']:.3f}]",
        f"  {line('effective_rank_90')}",
        f"  {line('effective_rank_99')}",
        "--- training ---",
        line("training_time_min"),
        *(f"{name}: {getattr(t, name)}" for name in ("n_epochs", "data_augmentation_loop", "batch_size")),
        *_rollout_lines(t, trained["counts"]),
        f"learning_rate_W: {t.learning_rate_W_start}",
        f"learning_rate: {t.learning_rate_start}",
        *(f"{name}: {getattr(t, name)}" for name in ("coeff_W_L1", "coeff_edge_diff")),
        *(f"idle key {name}: n/a ({reason})" for name, reason in trained["keys_idle"].items()),
        "--- test ---",
        *map(line, ("test_R2", "test_pearson", "test_R2_100", "test_pearson_100", "one_step_R2",
                    "kinograph_R2", "kinograph_SSIM", "kinograph_Wasserstein")),
        "--- connectivity ---",
        *map(line, ("cluster_accuracy", "cluster_accuracy_kmeans", "embedding_silhouette",
                    "connectivity_R2", "connectivity_R2_strict", "connectivity_slope", "sign_agreement",
                    "support_AUC", "support_precision", "support_recall", "U_R2", "V_R2",
                    "spectral_radius_learned", "final_loss")),
        "--- limits of these data ---",
        *limits(preflight, "ceiling", "ceiling", "connectivity_R2", "one_step_R2"),
        *limits(preflight, "ceiling", "ceiling", *rollout, "kinograph_R2"),  # the true W rolled out as the model is
        *limits(preflight, "untrained", "null", "connectivity_R2", "test_R2", "test_pearson"),
        *limits(preflight, "linear fit", "baselines", "connectivity_R2", "one_step_R2"),
        *limits(preflight, "standing still", "baselines", "test_R2", "test_R2_100"),
    ]  # fmt: skip


def _rollout_lines(training: Any, counts: dict[str, float]) -> list[str]:
    """Return what analysis.log says about the rollouts that were trained on."""
    names = ["time_step", "recurrent_training"]
    if not training.neural_ODE_training:
        return [f"{name}: {getattr(training, name)}" for name in names]
    evaluations = counts.get("ode_function_evaluations")
    return [
        *(f"{name}: {getattr(training, name)}" for name in (*names, "neural_ODE_training", "ode_method")),
        f"ode_function_evaluations: {'n/a (not counted)' if evaluations is None else f'{evaluations:.1f}'}",
    ]


def draw_moment(
    estimate: dict[str, Any], truth: Truth, scores: dict[str, float | None], where: str, folder: Path, tag: str
) -> None:
    """Write the figures of an estimate."""
    from trainers.scoring import plots

    if truth.known:
        plots.plot_comparison(estimate, truth, scores, where, folder / "matrix" / f"comparison_{tag}.png")
    plots.plot_matrix(estimate, truth, where, folder / "matrix" / f"matrix_{tag}.png")
    plots.plot_edge_function(estimate, truth, where, folder / "function" / "MLP1" / f"func_{tag}.png")
    plots.plot_self_function(estimate, truth, where, folder / "function" / "MLP0" / f"func_{tag}.png")
    if truth.n_types > 1:
        plots.plot_embedding(estimate, truth, scores, where, folder / "embedding" / f"embedding_{tag}.png")


def draw_end(final: dict[str, Any], truth: Truth, scores: dict[str, float | None], folder: Path) -> None:
    """Write the figures that a run has once."""
    from trainers.scoring import plots

    plots.plot_activity(truth, folder / "activity.png")
    if truth.known:
        plots.plot_eigenvalues(*_eigenvalues(final, truth), folder / "eigenvalues.png")
    if scores.get("support_AUC") is not None:
        plots.plot_support(final, truth, scores, folder / "support.png")
    plots.plot_kinograph(final["rollout_u"][0], truth.rollout_u[0], scores, folder / "kinograph.png")
