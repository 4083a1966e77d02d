"""Figures of system `homeostasis`, PNG, under the sub-paths that the instruction names.

Axis letters: M metabolites, R reactions, G grid points, F frames.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from trainers.scoring.metabolism import OUTLIER, Metrics, Truth, corrected
from trainers.scoring.plots import FAINT, LEARNED, TRUE, TYPES, figure_of, save_figure

TRACES = 12


def draw_moment(estimate: dict[str, Any], truth: Truth, scores: Metrics, where: str, folder: Path, tag: str) -> None:
    """Write the four figures of an estimate: rate constants, both functions, embeddings."""
    plot_rate_constants(estimate, truth, scores, where, folder / "rate_constants" / f"comparison_{tag}.png")
    plot_substrate(estimate, truth, where, folder / "function" / "substrate_func" / f"MLP_sub_{tag}.png")
    plot_node(estimate, truth, scores, where, folder / "function" / "rate_func" / f"MLP_node_{tag}.png")
    plot_embedding(estimate, truth, scores, where, folder / "embedding" / f"embedding_{tag}.png")


def _told(value: float | None, form: str = ".3f") -> str:
    return "n/a" if value is None else format(value, form)


def plot_rate_constants(estimate: dict[str, Any], truth: Truth, scores: Metrics, where: str, path: Path) -> None:
    """Draw learned against true log10 k, identifiable and other reactions apart, with the line of equality."""
    log_k = corrected(estimate, truth)
    figure = figure_of(4.8, 4.6)
    axes = figure.subplots()
    low, high = truth.log_k.min() - 0.1, truth.log_k.max() + 0.1
    axes.plot([low, high], [low, high], color=TRUE, lw=0.9, ls="--", label="equal")
    axes.fill_between([low, high], [low - OUTLIER, high - OUTLIER], [low + OUTLIER, high + OUTLIER], color=FAINT,
                      alpha=0.15, lw=0, label=f"within {OUTLIER}")  # fmt: skip
    sure = truth.identifiable
    axes.scatter(truth.log_k[sure], log_k[sure], s=9, color=LEARNED, alpha=0.7, lw=0, label="identifiable")
    axes.scatter(truth.log_k[~sure], log_k[~sure], s=16, facecolors="none", edgecolors=TRUE, lw=0.8,
                 label="not determined by the data")  # fmt: skip
    reach = max(0.5, float(np.quantile(np.abs(log_k - truth.log_k), 0.98)))
    named = {"R2": "rate_constants_R2", "identifiable": "rate_constants_R2_identifiable", "alpha": "alpha"}
    text = "\n".join(f"{label} {_told(scores.get(name))}" for label, name in named.items())
    axes.text(0.03, 0.97, text, transform=axes.transAxes, va="top")
    axes.set(xlabel="true log10 k", ylabel="learned log10 k, corrected by alpha", xlim=(low, high),
             ylim=(low - reach, high + reach), title=f"Rate constants, {where}")  # fmt: skip
    axes.legend(loc="lower right")
    save_figure(figure, path)


def plot_substrate(estimate: dict[str, Any], truth: Truth, where: str, path: Path) -> None:
    """Draw MLP_sub(c, 1) and MLP_sub(c, 2), scaled by alpha, over c with c and c^2 dashed."""
    figure = figure_of(8.2, 3.8)
    excited = set(truth.order.astype(int).tolist())
    c = truth.grid_sub
    alpha = float(estimate["alpha"][0]) or 1.0
    for number, axes in enumerate(figure.subplots(1, 2), start=1):
        axes.plot(c, estimate["sub"][number - 1] / alpha**1, color=LEARNED, lw=1.5, label=f"learned |s| = {number}")
        axes.plot(c, c**number, color=TRUE, lw=1.0, ls="--", label=f"true c^{number}")
        note = "" if number in excited else "  (not excited by these data)"
        axes.set(xlabel="concentration c", title=f"MLP_sub, |s| = {number}{note}")
        axes.legend(loc="upper left")
    figure.axes[0].set_ylabel("MLP_sub / alpha")
    figure.subplots_adjust(wspace=0.2, top=0.82)
    figure.suptitle(where, fontsize=9, y=0.98)
    save_figure(figure, path)


def plot_node(estimate: dict[str, Any], truth: Truth, scores: Metrics, where: str, path: Path) -> None:
    """Draw the homeostatic term of every metabolite over c, coloured by type, with the truth dashed."""
    figure = figure_of(5.6, 4.2, left=0.9)
    axes = figure.subplots()
    grid = truth.grid_c[0]
    right = truth.node(grid)
    for t in range(truth.n_types):
        mine, colour = truth.types == t, TYPES[t % len(TYPES)]
        curves = estimate["node"][0][mine]
        axes.plot(grid, curves.T, color=colour, lw=0.4, alpha=0.35)
        ratio = _told(scores.get(f"MLP_node_slope_ratio_{t}"), ".2f")
        axes.plot(grid, curves.mean(axis=0), color=colour, lw=1.8, label=f"type {t}, slope ratio {ratio}")
        axes.plot(grid, right[mine][0], color=TRUE, lw=1.1, ls="--", label="true" if t == 0 else None)
    axes.axvspan(*truth.grid_c[1][[0, -1]], color=FAINT, alpha=0.12, lw=0, label="90 % of the data")
    reach = 1.6 * float(np.abs(right).max()) or 1.0
    axes.set(xlabel="concentration c", ylabel="MLP_node, concentration per unit of time", ylim=(-reach, reach),
             xlim=(grid[0], grid[-1]), title=f"Homeostasis (MLP_node), {where}")  # fmt: skip
    axes.legend(loc="lower left")
    save_figure(figure, path)


def plot_embedding(estimate: dict[str, Any], truth: Truth, scores: Metrics, where: str, path: Path) -> None:
    """Draw the first two components of every embedding, coloured by true type."""
    figure = figure_of(4.6, 4.3)
    axes = figure.subplots()
    a = estimate["a"]
    second = a[:, 1] if a.shape[1] > 1 else np.zeros(len(a))
    for t in range(truth.n_types):
        mine = truth.types == t
        axes.scatter(a[mine, 0], second[mine], s=14, color=TYPES[t % len(TYPES)], alpha=0.8, lw=0, label=f"type {t}")
    accuracy, means = (_told(scores.get(n), ".2f") for n in ("embedding_cluster_acc", "embedding_cluster_acc_kmeans"))
    axes.set(xlabel="a_1", ylabel="a_2", title=f"Embeddings, {where}\ncluster accuracy {accuracy}, k-means {means}")
    figure.subplots_adjust(top=0.86)
    axes.legend(loc="best")
    save_figure(figure, path)


def plot_concentrations(truth: Truth, path: Path) -> None:
    """Draw the concentrations of some metabolites of the first trajectory over its frames, on a logarithmic axis."""
    figure = figure_of(6.8, 3.6)
    axes = figure.subplots()
    some = np.linspace(0, len(truth.sample) - 1, TRACES).astype(int)
    step = truth.activity["n_frames"] / truth.sample.shape[1]
    for i in some:
        colour = TYPES[int(truth.types[i]) % len(TYPES)]
        axes.plot(np.arange(truth.sample.shape[1]) * step, truth.sample[i], lw=0.8, alpha=0.8, color=colour)
    axes.set(xlabel="frame", ylabel="concentration", yscale="log", title=f"{TRACES} metabolites, coloured by type")
    save_figure(figure, path)


def plot_rollout(rollout: Any, true: Any, scores: Metrics, path: Path) -> None:
    """Draw the second trajectory of some metabolites, true (dashed) and as the model runs it freely."""
    figure = figure_of(6.8, 3.8)
    axes = figure.subplots()
    order = np.argsort(-true.std(axis=0))[:: max(1, true.shape[1] // 6)][:6]
    for number, i in enumerate(order):
        colour = TYPES[number % len(TYPES)]
        axes.plot(true[:, i], color=TRUE, lw=0.9, ls="--", label="true" if number == 0 else None)
        axes.plot(np.clip(rollout[:, i], -1e6, 1e6), color=colour, lw=1.1, label="model" if number == 0 else None)
    axes.set(xlabel="frame", ylabel="concentration", ylim=(0, 1.2 * float(true[:, order].max())),
             title=f"Second trajectory: R2 {_told(scores.get('test_R2'))}, first 100 frames "
                   f"{_told(scores.get('test_R2_100'))}")  # fmt: skip
    axes.legend(loc="upper right")
    save_figure(figure, path)
