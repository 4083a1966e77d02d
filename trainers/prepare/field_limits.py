"""What withheld values can be told without learning, and how much of them any place can tell.

Baselines: the mean; the nearest cell that is trained on, in the same frame (in a withheld stretch: in the nearest frame
outside); and interpolation: of the same cell in time or, where the whole cell is withheld, of the eight nearest cells
by inverse distance.

The ceiling is the part of the variance that time and place decide. Two cells of independent populations that follow the
same signal and are at one place at one time differ only by what the place does not decide, so half their mean squared
difference, carried to distance 0, is the variance that no function of time and place explains (the nugget of a
variogram). A recording has one population: pairs of its own cells are taken then, which is an estimate, since
neighbours act on each other.

Axis letters: T frames, N cells, D axes, C components, K points.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from trainers.prepare.withheld import Withheld

NEIGHBOURS = 8
FRAMES_MAX = 400
"""Frames whose pairs are looked at, at most."""
PAIRS_MIN = 300
BINS = 8
REACHES = (0.1, 0.15, 0.2, 0.3, 0.5)
"""Distances up to which pairs are taken, in mean spacings times two: the first with enough pairs."""


def tree(x: Any, box: Any) -> cKDTree:
    """Return the cells of a frame (N, D) for neighbour search; positions on the far face count as on the near one."""
    return cKDTree(x) if box is None else cKDTree(np.mod(x, box), boxsize=box)


def baselines(x: Any, field: Any, box: Any, held: Withheld) -> dict[str, dict[str, Any]]:
    """Return kind -> name -> predictions (K, C) for the points that are asked for."""
    mean = field[held.kept].mean(axis=0)
    found: dict[str, dict[str, Any]] = {}
    for kind, (frames, cells) in held.asked.items():
        nearest, weighted = _neighbours(x, field, box, held, frames, cells)
        inside = _in_time(x, field, held, frames, cells) if kind != "cells" else weighted
        found[kind] = {"mean": np.broadcast_to(mean, nearest.shape), "neighbour": nearest, "interpolation": inside}
    return found


def _neighbours(x: Any, field: Any, box: Any, held: Withheld, frames: Any, cells: Any) -> tuple[Any, Any]:
    """Return the nearest trained value and the inverse-distance mean of the nearest ones, for each point."""
    nearest, weighted = np.empty((2, len(frames), field.shape[2]))
    known = np.flatnonzero(held.kept.any(axis=1))
    for frame in np.unique(frames):
        at = np.flatnonzero(frames == frame)
        source = known[np.argmin(np.abs(known - frame))]
        there = np.flatnonzero(held.kept[source])
        k = min(NEIGHBOURS, len(there))
        places = x[frame, cells[at]] if box is None else np.mod(x[frame, cells[at]], box)
        apart, index = tree(x[source, there], box).query(places, k=k)
        apart, index = apart.reshape(len(at), k), index.reshape(len(at), k)
        values = field[source, there[index]]
        weight = 1.0 / np.maximum(apart, 1e-9)
        nearest[at] = values[:, 0]
        weighted[at] = np.sum(weight[:, :, None] * values, axis=1) / weight.sum(axis=1)[:, None]
    return nearest, weighted


def _in_time(x: Any, field: Any, held: Withheld, frames: Any, cells: Any) -> Any:
    """Return each point's value interpolated between the trained values of its own cell (at the ends: the next one)."""
    found = np.empty((len(frames), field.shape[2]))
    for cell in np.unique(cells):
        at, there = np.flatnonzero(cells == cell), np.flatnonzero(held.kept[:, cell])
        for c in range(field.shape[2]):
            found[at, c] = np.interp(frames[at], there, field[there, cell, c])
    return found


def unexplained(x: Any, field: Any, box: Any, twins: list[tuple[Any, Any]]) -> float | None:
    """Return the variance (summed over components) that no function of time and place explains; None if not known.

    Args:
        x: positions (T, N, D).
        field: values (T, N, C).
        box: sides, or None.
        twins: positions and values of other populations in the same signal; none: pairs within the recording.
    """
    n_frames, n_cells, dimension = x.shape
    volume = np.prod(box) if box is not None else np.prod(np.ptp(x, axis=(0, 1)))
    spacing = 2 * float(volume / n_cells) ** (1 / dimension)
    some = np.unique(np.linspace(0, n_frames - 1, min(n_frames, FRAMES_MAX)).astype(int))
    apart, half = [], []
    for frame in some:
        for there, values in twins or [(x, field)]:
            mine = tree(x[frame], box)
            pairs = mine.sparse_distance_matrix(
                tree(there[frame], box), REACHES[-1] * spacing, output_type="coo_matrix"
            )
            kept = pairs.row < pairs.col if not twins else slice(None)
            i, j = pairs.row[kept], pairs.col[kept]
            apart.append(pairs.data[kept])
            half.append(0.5 * np.sum((field[frame, i].astype(np.float64) - values[frame, j]) ** 2, axis=1))
    return _at_zero(np.concatenate(apart), np.concatenate(half), spacing)


def _at_zero(apart: Any, half: Any, spacing: float) -> float | None:
    """Return the mean of `half` at distance 0, by a line in the squared distance through bins of pairs."""
    for reach in REACHES:
        near = apart < reach * spacing
        if near.sum() >= PAIRS_MIN * BINS:
            break
    if near.sum() < PAIRS_MIN:
        return None
    edges = np.quantile(apart[near], np.linspace(0, 1, BINS + 1))
    which = np.clip(np.searchsorted(edges, apart[near], side="right") - 1, 0, BINS - 1)
    count = np.bincount(which, minlength=BINS)
    used = count > 0
    middle, mean = (np.bincount(which, v, BINS)[used] / count[used] for v in (apart[near] ** 2, half[near]))
    _, intercept = np.polyfit(middle, mean, 1, w=np.sqrt(count[used]))
    return max(0.0, float(intercept))
