"""Figures of system `inr`, PNG, under the sub-paths that the instruction names. Axis letters: C components, S side."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from trainers.data_points import HELD
from trainers.scoring.fields import Metrics, Truth, best_of
from trainers.scoring.plots import DPI, FAINT, LEARNED, TRUE, TYPES, figure_of, save_figure

__all__ = ["DPI", "draw_end", "draw_moment"]

POINTS_MAX = 4000
NAMED = {"cells": "withheld cells", "windows": "withheld time", "frames": "withheld single values"}
BINS = 60


def draw_moment(estimate: dict[str, Any], truth: Truth, scores: Metrics, where: str, folder: Path, tag: str) -> None:
    """Write the two figures of an estimate: predictions against the truth, and the first layer's frequencies."""
    plot_comparison(estimate, truth, scores, where, folder / "field" / f"comparison_{tag}.png")
    plot_frequencies(estimate, truth, where, folder / "omega" / f"spectrum_{tag}.png")


def draw_end(final: dict[str, Any], truth: Truth, scores: Metrics, folder: Path) -> None:
    """Write the figures that a run has once: slices of the field, error over time."""
    plot_slices(final["slices"], truth, folder / "field" / "slices.png")
    plot_errors(final, truth, folder / "field" / "error_over_time.png")


def plot_comparison(estimate: dict[str, Any], truth: Truth, scores: Metrics, where: str, path: Path) -> None:
    """Draw predicted against true components of each kind of withheld values, with the line of equality."""
    figure = figure_of(9.6, 3.7, top=0.65)
    for axes, kind in zip(figure.subplots(1, 3, sharey=True), HELD, strict=True):
        true, found = truth.held[kind], estimate[kind]
        some = np.linspace(0, len(true) - 1, min(len(true), POINTS_MAX)).astype(int)
        reach = 1.1 * float(np.abs(true).max()) or 1.0
        axes.plot([-reach, reach], [-reach, reach], color=TRUE, lw=0.9, ls="--")
        for c in range(true.shape[1]):
            axes.scatter(true[some, c], found[some, c], s=4, alpha=0.35, lw=0, color=TYPES[c % len(TYPES)],
                         label=f"component {c + 1}", rasterized=True)  # fmt: skip
        score, best = scores.get(f"heldout_{kind}_r2"), _best(truth, kind)
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), xlabel="true",
                 title=f"{NAMED[kind]}\nR2 {_told(score)}, best baseline {_told(best)}")  # fmt: skip
    figure.axes[0].set_ylabel("learned")
    figure.axes[0].legend(loc="upper left", markerscale=2)
    figure.text(0.995, 0.01, where, ha="right", fontsize=7, color=FAINT)
    save_figure(figure, path)


def _best(truth: Truth, kind: str) -> float | None:
    return best_of(truth.limits["baselines"][kind])


def _told(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def plot_frequencies(estimate: dict[str, Any], truth: Truth, where: str, path: Path) -> None:
    """Draw how many units of the first layer have which frequency in time and in space, beside those of the data."""
    figure = figure_of(7.6, 3.4, top=0.4)
    active = truth.activity
    duration = active["n_frames"] * float(truth.told["delta_t"])
    remembered = active.get("persistence_time")
    in_data = (duration / remembered if remembered else None, _per_length(truth))
    for axes, values, known, name in zip(
        figure.subplots(1, 2, sharey=True), np.abs(estimate["frequencies"]), in_data,
        ("time: radians over the recording", "space: radians over the box"), strict=True,
    ):  # fmt: skip
        high = max(float(values.max()), 1.5 * (known or 0.0), 1e-6)
        share = np.full(len(values), 1 / len(values))
        axes.hist(values, bins=BINS, range=(0, high), weights=share, color=LEARNED, alpha=0.8)
        if known:
            axes.axvline(known, color=TRUE, ls="--", lw=1.0, label="1 / correlation length of the data")
            axes.legend(loc="upper right")
        axes.set(xlabel=name)
    figure.axes[0].set_ylabel("part of the first layer")
    figure.suptitle(f"Frequencies omega W of the first layer, {where}", fontsize=10, y=0.98)
    save_figure(figure, path)


def _per_length(truth: Truth) -> float | None:
    length, side = truth.activity.get("signal_length"), truth.activity.get("box")
    return side / length if length and side else None


def plot_slices(slices: Any, truth: Truth, path: Path) -> None:
    """Draw the first component on a plane through the middle at three times; true values of cells near it as dots."""
    times, side = len(truth.slabs), math.isqrt(len(slices) // len(truth.slabs))
    fields = slices[:, 0].reshape(times, side, side)
    reach = max(float(np.abs(slab[:, 2]).max()) for slab in truth.slabs if len(slab)) if any(
        len(slab) for slab in truth.slabs) else float(np.abs(fields).max()) or 1.0  # fmt: skip
    figure = figure_of(9.6, 3.5, right=0.9, top=0.6)
    for number, (axes, field, slab) in enumerate(zip(figure.subplots(1, times), fields, truth.slabs, strict=True)):
        image = axes.imshow(field, origin="lower", extent=(0, 1, 0, 1), cmap="RdBu_r", vmin=-reach, vmax=reach)
        axes.scatter(slab[:, 0], slab[:, 1], c=slab[:, 2], cmap="RdBu_r", vmin=-reach, vmax=reach, s=26,
                     edgecolors=TRUE, lw=0.6)  # fmt: skip
        axes.set(title=f"time {('1/6', '1/2', '5/6')[number]} of the recording", xlabel="axis 1", xlim=(0, 1),
                 ylim=(0, 1))  # fmt: skip
    figure.axes[0].set_ylabel("axis 2")
    box = figure.add_axes((0.925, 0.15, 0.014, 0.67))
    figure.colorbar(image, cax=box, label="first component")
    figure.suptitle("Learned field on a plane through the middle; dots: cells near it, true", fontsize=10, y=0.99)
    save_figure(figure, path)


def plot_errors(final: dict[str, Any], truth: Truth, path: Path) -> None:
    """Draw the root mean square error over the recording: trained values, withheld cells, withheld time."""
    figure = figure_of(6.8, 3.6, left=0.95)
    axes = figure.subplots()
    squares = np.where(truth.seen_kept[:, :, None], (final["seen"] - truth.seen) ** 2, 0).sum(axis=(1, 2))
    count = np.maximum(1, truth.seen_kept.sum(axis=1)) * truth.seen.shape[2]
    gaps = np.flatnonzero(np.diff(truth.seen_frames) > 2 * np.median(np.diff(truth.seen_frames))) + 1
    frames = np.insert(truth.seen_frames.astype(float), gaps, np.nan)
    axes.plot(frames, np.insert(np.sqrt(squares / count), gaps, np.nan), color=TRUE, lw=0.9, label="trained values")
    for kind, colour in (("cells", LEARNED), ("windows", "#2563eb")):
        at, error = truth.frames[kind], np.mean((final[kind] - truth.held[kind]) ** 2, axis=1)
        edges = np.unique(np.linspace(at.min(), at.max() + 1, min(BINS // 2, np.ptp(at) + 2)).astype(int))
        which = np.searchsorted(edges, at, side="right") - 1
        number = np.bincount(which, minlength=len(edges))
        shown = number > 0
        mean = np.sqrt(np.bincount(which, error, len(edges))[shown] / number[shown])
        axes.plot(np.append(edges[1:], edges[-1])[shown] / 2 + edges[shown] / 2, mean, color=colour, lw=1.2, marker=".",
                  ls="" if kind == "windows" else "-", label=NAMED[kind])  # fmt: skip
    rms = truth.activity.get("rms")
    if rms:
        axes.axhline(rms / math.sqrt(truth.seen.shape[2]), color=FAINT, lw=0.8, ls=":", label="rms of the field")
    axes.set(xlabel="frame", ylabel="rms error a component", yscale="log", title="Error over time")
    axes.legend(loc="best", fontsize=8)
    save_figure(figure, path)
