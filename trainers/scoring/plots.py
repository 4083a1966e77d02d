"""Figures of a run, PNG, under the sub-paths that the instructions name. Axis letters: N neurons, G grid points."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from trainers.scoring.metrics import Truth, amplitude, couplings, learned_couplings
from trainers.scoring.support import threshold

DPI = 120
LEARNED, TRUE, FAINT = "#c2410c", "#111827", "#94a3b8"
TYPES = ("#c2410c", "#2563eb", "#059669", "#7c3aed", "#b45309", "#0891b2", "#be185d", "#4d7c0f")
"""Colours of neuron types, taken in turn."""
CURVES_MAX = 40
"""Neurons whose curves are drawn."""
TRACES = 12
matplotlib.rcParams.update({
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10,
    "legend.frameon": False, "axes.linewidth": 0.8,
})  # fmt: skip


def figure_of(width: float, height: float, right: float = 0.15, top: float = 0.35, left: float = 0.7) -> Figure:
    """Return an empty figure with fixed margins in inches (a layout engine takes half of the drawing time)."""
    figure = Figure(figsize=(width, height))
    figure.subplots_adjust(left=left / width, right=1 - right / width, bottom=0.5 / height, top=1 - top / height,
                           wspace=0.08)  # fmt: skip
    return figure


def _colorbar(figure: Figure, image: Any, label: str, bottom: float = 0.5, top: float = 0.6) -> None:
    """Draw a colour bar in the right margin of 0.95 inches."""
    width, height = figure.get_size_inches()
    box = (1 - 0.85 / width, bottom / height, 0.13 / width, 1 - (bottom + top) / height)
    figure.colorbar(image, cax=figure.add_axes(box), label=label)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, metadata={"Software": None})


def plot_loss(progress: list[dict[str, Any]], path: Path) -> None:
    """Draw every loss term over gradient steps, phases marked."""
    figure = figure_of(6.4, 3.8, left=0.95)
    axes = figure.subplots()
    names = list(dict.fromkeys(name for line in progress for name in line.get("terms", {})))
    names.sort(key=lambda name: name != "prediction")
    steps = np.array([line["step"] for line in progress], dtype=float)
    for name, colour in zip(names, (TRUE, "#2563eb", LEARNED, "#059669", "#7c3aed"), strict=False):
        values = np.array([_positive(line.get("terms", {}).get(name)) for line in progress])
        alone = np.isnan(values).any() or len(values) < 3
        axes.plot(steps, values, color=colour, lw=1.3, label=name, marker="." if alone else "")
    starts = [b["step"] for a, b in itertools.pairwise(progress) if a.get("phase") != b.get("phase")]
    for step in starts:
        axes.axvline(step, color=FAINT, lw=0.8, ls=":")
        axes.text(step, 0.98, " phase 2", transform=axes.get_xaxis_transform(), va="top", color=FAINT)
    axes.set(
        xlabel="gradient step",
        ylabel="mean of a term (zeros left out)",
        title="Loss terms, coefficients included",
        yscale="log",
    )
    if names:
        axes.legend(loc="upper right")
    save_figure(figure, path)


def _positive(value: Any) -> float:
    """Return a positive number as it is, anything else as NaN: a gap on a logarithmic axis."""
    return float(value) if isinstance(value, int | float) and value > 0 else float("nan")


def plot_comparison(estimate: dict[str, Any], truth: Truth, scores: dict[str, float | None], where: str,
                    path: Path) -> None:  # fmt: skip
    """Draw learned against true coupling of every pair, with the line of equality."""
    learned, right = couplings(estimate["W"], estimate["lin_edge"], truth)
    off = ~np.eye(len(right), dtype=bool)
    x, y = right[off], learned[off]
    if len(x) > 40000:
        chosen = np.random.default_rng(0).choice(len(x), 40000, replace=False)
        x, y = x[chosen], y[chosen]
    figure = figure_of(4.8, 4.6)
    axes = figure.subplots()
    reach = 1.1 * float(np.abs(x).max())
    tall = max(reach, 1.1 * float(np.quantile(np.abs(y), 0.999)))
    axes.plot([-reach, reach], [-reach, reach], color=TRUE, lw=0.9, ls="--", label="equal")
    axes.scatter(x, y, s=3, color=LEARNED, alpha=0.25, linewidths=0, rasterized=True)
    named = (("R2", "connectivity_R2"), ("strict R2", "connectivity_R2_strict"), ("slope", "connectivity_slope"))
    text = "\n".join(f"{label} {scores[name]:.3f}" for label, name in named)
    axes.text(0.03, 0.97, text, transform=axes.transAxes, va="top")
    axes.set(xlabel="true coupling  g W c", ylabel="learned coupling  W c", xlim=(-reach, reach), ylim=(-tall, tall),
             title=f"Connectivity, {where}")  # fmt: skip
    axes.legend(loc="lower right")
    save_figure(figure, path)


def plot_matrix(estimate: dict[str, Any], truth: Truth, where: str, path: Path) -> None:
    """Draw true and learned couplings as images on one colour scale; the learned ones alone where nothing is known."""
    learned = learned_couplings(estimate["W"], estimate["lin_edge"], truth)
    panels = {"learned": learned}
    if truth.known:
        panels = {"true": couplings(estimate["W"], estimate["lin_edge"], truth)[1], "learned": learned}
    reach = float(np.quantile(np.abs(next(iter(panels.values()))), 0.995)) or 1.0
    figure = figure_of(8.2 if truth.known else 4.9, 4.1, right=1.0, top=0.6)
    cells = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, matrix) in zip(cells, panels.items(), strict=True):
        image = axes.imshow(matrix, cmap="RdBu_r", vmin=-reach, vmax=reach, interpolation="nearest")
        axes.set(title=f"{title} coupling", xlabel="source neuron")
        axes.spines[["top", "right"]].set_visible(True)
    figure.axes[0].set_ylabel("target neuron")
    _colorbar(figure, image, "coupling, u per unit of time")
    figure.suptitle(f"Connectivity, {where}", fontsize=10, y=0.98)
    save_figure(figure, path)


def plot_edge_function(estimate: dict[str, Any], truth: Truth, where: str, path: Path) -> None:
    """Draw lin_edge of some neurons over activity with the truth dashed.

    Both are shown in the gauge in which they pass through 0 half-way and reach 1 at x = 1.5 std(u).
    """
    figure, axes = _function_axes(truth, f"lin_edge (MLP1), {where}", "what a neuron sends, gauge removed")
    _curves(axes, truth, _normal(estimate["lin_edge"], truth), _normal(truth.lin_edge, truth) if truth.known else None)
    axes.set_ylim(-2.2, 2.2)
    axes.legend(loc="upper left")
    save_figure(figure, path)


def plot_self_function(estimate: dict[str, Any], truth: Truth, where: str, path: Path) -> None:
    """Draw lin_phi of some neurons over activity with the truth dashed.

    An offset of lin_edge moves lin_phi by a constant of each neuron, so each learned curve is shown with the constant
    that its own offset explains taken away.
    """
    figure, axes = _function_axes(truth, f"lin_phi (MLP0), {where}", "self term, u per unit of time")
    offset = _middle(estimate["lin_edge"], truth) @ np.asarray(estimate["W"]).T
    learned = estimate["lin_phi"] + offset[:, None]
    _curves(axes, truth, learned, truth.lin_phi)
    reach = 1.8 * float(np.abs(truth.lin_phi if truth.known else learned).max()) or 1.0
    axes.set_ylim(-reach, reach)
    axes.legend(loc="upper right")
    save_figure(figure, path)


def _function_axes(truth: Truth, title: str, label: str) -> tuple[Figure, Any]:
    figure = figure_of(5.0, 3.8)
    axes = figure.subplots()
    low, high = np.quantile(truth.sample, [0.005, 0.995])
    axes.axvspan(low, high, color=FAINT, alpha=0.15, lw=0, label="99 % of the data")
    axes.axhline(0, color=FAINT, lw=0.6)
    axes.set(title=title, xlabel="activity u", ylabel=label, xlim=(truth.grid_u[0], truth.grid_u[-1]))
    return figure, axes


def _curves(axes: Any, truth: Truth, learned: Any, right: Any) -> None:
    """Draw learned curves of some neurons, coloured by true type, and the true one of each type dashed above them."""
    several = truth.n_types > 1
    types = truth.types if truth.known else np.zeros(truth.n_neurons, dtype=int)
    for kind, type_ in enumerate(np.unique(types)):
        members = np.flatnonzero(types == type_)
        drawn = members[
            np.linspace(0, len(members) - 1, min(len(members), CURVES_MAX // truth.n_types + 1)).astype(int)
        ]
        colour = TYPES[kind % len(TYPES)] if several else LEARNED
        name = f"learned, type {type_}" if several else "learned"
        for k, row in enumerate(learned[drawn]):
            axes.plot(truth.grid_u, row, color=colour, lw=1.2, alpha=0.35, label=None if k else name)
        if right is not None:
            axes.plot(truth.grid_u, right[members[0]], color=TRUE, lw=1.2, ls="--", label=None if kind else "true",
                      zorder=3)  # fmt: skip


def _middle(curves: Any, truth: Truth) -> Any:
    """Return (e_j(x) + e_j(-x)) / 2 of each neuron (N,)."""
    return np.array([np.mean(np.interp([-truth.xnorm, truth.xnorm], truth.grid_u, row)) for row in curves])


def _normal(curves: Any, truth: Truth) -> Any:
    size = amplitude(curves, truth.grid_u, truth.xnorm)
    size = np.where(np.abs(size) > 1e-12, size, 1.0)
    return (np.asarray(curves) - _middle(curves, truth)[:, None]) / size[:, None]


def plot_activity(truth: Truth, path: Path) -> None:
    """Draw the simulated activity as an image, and some traces."""
    figure = figure_of(8.2, 4.8, right=1.0)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1.2, 1))
    frames = np.linspace(0, truth.activity["n_frames"], truth.sample.shape[1], endpoint=False)
    reach = float(np.quantile(np.abs(truth.sample), 0.995))
    image = above.imshow(truth.sample, aspect="auto", cmap="RdBu_r", vmin=-reach, vmax=reach, interpolation="nearest",
                         extent=(0, truth.activity["n_frames"], len(truth.sample), 0))  # fmt: skip
    _colorbar(figure, image, "u", bottom=2.55, top=0.35)
    shown = np.linspace(0, len(truth.sample) - 1, min(TRACES, len(truth.sample))).astype(int)
    for row, neuron in enumerate(shown):
        below.plot(frames, truth.sample[neuron] / (1.2 * reach) - row, color=TRUE, lw=0.7)
    below.set(xlabel="frame", ylabel=f"{len(shown)} neurons", yticks=[])
    above.set(ylabel="neuron", title="Simulated activity, first trajectory" if truth.known else "Recorded activity")
    save_figure(figure, path)


def plot_kinograph(found: NDArray[np.float64], right: NDArray[np.float64], scores: dict[str, float | None],
                   path: Path) -> None:  # fmt: skip
    """Draw the second trajectory, true, learned and their difference, as neuron x time images (F, N)."""
    figure = figure_of(9.0, 3.6, right=1.0, top=0.6)
    reach = float(np.quantile(np.abs(right), 0.995))
    shown = np.nan_to_num(found, nan=0.0, posinf=reach, neginf=-reach)
    panels = ((right, "true"), (shown, "learned"), (shown - right, "learned - true"))
    for axes, (frames, title) in zip(figure.subplots(1, 3, sharey=True), panels, strict=True):
        image = axes.imshow(frames.T, aspect="auto", cmap="RdBu_r", vmin=-reach, vmax=reach, interpolation="nearest")
        axes.set(title=title, xlabel="frame")
    figure.axes[0].set_ylabel("neuron")
    _colorbar(figure, image, "u")
    figure.suptitle(f"Held-out trajectory from its first frame, test_R2 {scores['test_R2']:.3f}", fontsize=10, y=0.98)
    save_figure(figure, path)


def plot_embedding(estimate: dict[str, Any], truth: Truth, scores: dict[str, float | None], where: str,
                   path: Path) -> None:  # fmt: skip
    """Draw the first two numbers of each neuron's embedding, coloured by true type."""
    a = np.asarray(estimate["a"])
    x, y = a[:, 0], a[:, 1] if a.shape[1] > 1 else np.zeros(len(a))
    figure = figure_of(5.7, 4.8, right=1.0, top=0.6)
    axes = figure.subplots()
    for kind, type_ in enumerate(np.unique(truth.types)):
        chosen = truth.types == type_
        axes.scatter(x[chosen], y[chosen], s=14, color=TYPES[kind % len(TYPES)], alpha=0.6, linewidths=0,
                     label=f"type {type_}")  # fmt: skip
    named = (("k-means accuracy", "cluster_accuracy_kmeans"), ("recorded form", "cluster_accuracy"))
    text = ", ".join(f"{label} {scores[name]:.3f}" for label, name in named)
    axes.margins(0.1)
    axes.set(xlabel="a[0]", ylabel="a[1]" if a.shape[1] > 1 else "", title=f"Embeddings, {where}\n{text}")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    save_figure(figure, path)


def plot_eigenvalues(learned: NDArray[np.complex128], right: NDArray[np.complex128], path: Path) -> None:
    """Draw the eigenvalues of the true and the learned coupling in the complex plane, with both spectral radii."""
    figure = figure_of(4.8, 5.0, top=0.8)
    axes = figure.subplots()
    turn = np.exp(2j * np.pi * np.linspace(0, 1, 200))
    for values, colour, marker, label in ((right, TRUE, "o", "true"), (learned, LEARNED, "x", "learned")):
        radius = float(np.abs(values).max())
        axes.plot(radius * turn.real, radius * turn.imag, color=colour, lw=0.7, ls=":")
        face = {"facecolors": "none", "edgecolors": colour} if marker == "o" else {"color": colour}
        axes.scatter(values.real, values.imag, s=18, marker=marker, linewidths=0.9,
                     label=f"{label}, radius {radius:.3f}", **face)  # fmt: skip
    axes.set(xlabel="real part", ylabel="imaginary part", aspect="equal")
    figure.suptitle("Eigenvalues of the coupling, gain and gauge removed", fontsize=10, y=0.98)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    save_figure(figure, path)


def plot_support(estimate: dict[str, Any], truth: Truth, scores: dict[str, float | None], path: Path) -> None:
    """Draw how large true zeros and true non-zeros were learned, with the threshold that tells them apart."""
    learned, right = couplings(estimate["W"], estimate["lin_edge"], truth)
    off = ~np.eye(len(right), dtype=bool)
    sizes, real = np.abs(learned[off]), right[off] != 0.0
    low = max(float(np.quantile(sizes, 0.002)), 1e-6 * float(sizes.max()), 1e-300)
    edges = np.geomspace(low, max(float(sizes.max()), 2 * low), 70)
    figure = figure_of(5.6, 3.8)
    axes = figure.subplots()
    for chosen, colour, label in ((~real, FAINT, "true zeros"), (real, LEARNED, "true non-zeros")):
        axes.hist(np.maximum(sizes[chosen], low), edges, color=colour, alpha=0.6, label=label)
    limit = threshold(learned[off])
    if limit:
        axes.axvline(max(limit, low), color=TRUE, lw=1.0, ls="--", label="threshold (truth not used)")
    text = "one population: nothing told apart" if limit is None else (
        f"precision {scores['support_precision']:.3f}\nrecall {scores['support_recall']:.3f}"
    )  # fmt: skip
    axes.text(0.03, 0.66, f"AUC {scores['support_AUC']:.3f}\n{text}", transform=axes.transAxes, va="top")
    axes.set(xscale="log", xlabel="|learned coupling|", ylabel="pairs", title="Which couplings are zero")
    axes.legend(loc="upper left")
    save_figure(figure, path)
