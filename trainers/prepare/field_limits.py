"""What withheld values can be told without learning, and how much of them any place can tell.

Baselines: the mean; the nearest cell that is trained on, in the same frame (in a withheld stretch: in the nearest frame
outside); interpolation: of the same cell in time or, where the whole cell is withheld, of the eight nearest cells by
inverse distance; and for velocities in a withheld stretch the path: a polynomial through the cell's known positions and
velocities at both ends and the place that is asked for.

The ceiling is the part of the variance that time and place decide. Two cells of independent populations that follow the
same signal and are at one place at one time differ only by what the place does not decide, so half their mean squared
difference, carried to distance 0, is the variance that no function of time and place explains (the nugget of a
variogram). A recording has one population: pairs of its own cells are taken then, where there are pairs near enough to
distance 0. Where cells keep apart there are none, and no ceiling is known: carried on from a distance it would be too
high.

Axis letters: T frames, N cells, D axes, C components, K points.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from trainers.prepare.cells import minimum_image
from trainers.prepare.withheld import Withheld

NEIGHBOURS = 8
FRAMES_MAX, CELLS_MAX = 400, 2000
"""Frames, and cells of a frame, whose pairs are looked at, at most."""
PAIRS_MIN = 300
BINS = 8
REACHES = (0.4, 0.6, 0.8, 1.1, 1.8)
"""Distances up to which pairs are taken, in median distances of nearest neighbours: the first with enough pairs."""
NEAREST, NEAR = 0.01, 0.4
"""The nearest pairs, this part of all, must be within this part of the reach, so that 0 is not far."""


def tree(x: Any, box: Any) -> cKDTree:
    """Return the cells of a frame (N, D) for neighbour search; positions on the far face count as on the near one."""
    return cKDTree(x) if box is None else cKDTree(np.mod(x, box), boxsize=box)


def baselines(x: Any, field: Any, box: Any, held: Withheld) -> dict[str, dict[str, Any]]:
    """Return kind -> name -> predictions (K, C) for the points that are asked for."""
    mean = field[held.kept].mean(axis=0, dtype=np.float64)
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
        places = _inside(x[frame, cells[at]], box)
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
    some = np.unique(np.linspace(0, len(x) - 1, min(len(x), FRAMES_MAX)).astype(int))
    cells = np.unique(np.linspace(0, x.shape[1] - 1, min(x.shape[1], CELLS_MAX)).astype(int))
    few = some[:: max(1, len(some) // 5)]
    spacing = np.median([tree(x[f], box).query(_inside(x[f, cells], box), k=2)[0][:, 1] for f in few])
    for reach in REACHES:
        apart, half = _pairs(x, field, box, twins, (some, cells), reach * float(spacing))
        if len(apart) >= PAIRS_MIN * BINS:
            break
    return _at_zero(apart, half, reach * float(spacing))


def _inside(x: Any, box: Any) -> Any:
    return x if box is None else np.mod(x, box)


def _pairs(x: Any, field: Any, box: Any, twins: list[tuple[Any, Any]], looked: tuple[Any, Any], reach: float) -> Any:
    """Return distances of pairs nearer than `reach`, and half their squared differences."""
    (some, cells), apart, half = looked, [np.empty(0)], [np.empty(0)]
    for frame in some:
        mine = tree(x[frame, cells], box)
        for there, values in twins or [(x, field)]:
            pairs = mine.sparse_distance_matrix(tree(there[frame], box), reach, output_type="coo_matrix")
            i, j = cells[pairs.row], pairs.col
            kept = slice(None) if twins else i != j
            apart.append(pairs.data[kept])
            own = field[frame, i[kept]].astype(np.float64)
            half.append(0.5 * np.sum((own - values[frame, j[kept]]) ** 2, axis=1))
    return np.concatenate(apart), np.concatenate(half)


def _at_zero(apart: Any, half: Any, reach: float) -> float | None:
    """Return the mean of `half` at distance 0, by a line in the squared distance through bins of pairs."""
    if len(apart) < PAIRS_MIN:
        return None
    if np.quantile(apart, NEAREST) > NEAR * reach:
        return None
    edges = np.quantile(apart, np.linspace(0, 1, BINS + 1))
    which = np.clip(np.searchsorted(edges, apart, side="right") - 1, 0, BINS - 1)
    count = np.bincount(which, minlength=BINS)
    used = count > 0
    middle, mean = (np.bincount(which, v, BINS)[used] / count[used] for v in (apart**2, half))
    if used.sum() < 2:
        return None
    _, intercept = np.polyfit(middle, mean, 1, w=np.sqrt(count[used]))
    return max(0.0, float(intercept))


def paths(x: Any, field: Any, box: Any, held: Withheld, delta_t: float) -> Any:
    """Return the velocity (K, D) of each point of a withheld stretch by the path of its cell.

    A polynomial of degree 4 in time goes through position and velocity of the last known frame before and the first one
    after, and through the place that is asked for; which way the cell went round the box is taken as known.
    """
    frames, cells = held.asked["windows"]
    found = np.empty((len(frames), x.shape[2]))
    for k, (frame, cell) in enumerate(zip(frames, cells, strict=True)):
        there = np.flatnonzero(held.kept[:, cell])
        before = there[np.searchsorted(there, frame) - 1]
        after = there[min(np.searchsorted(there, frame), len(there) - 1)]
        track = x[before : after + 1, cell]
        if box is not None:
            steps = minimum_image(np.diff(track, axis=0), box)
            track = track[0] + np.concatenate([np.zeros((1, len(box))), np.cumsum(steps, axis=0)])
        span = (after - before) * delta_t
        at = (frame - before) / (after - before)
        powers = np.arange(5)
        rows = [0.0**powers, 1.0**powers, at**powers, _slope(0.0), _slope(1.0)]
        right = [track[0], track[-1], track[frame - before], field[before, cell] * span, field[after, cell] * span]
        found[k] = _slope(at) @ np.linalg.solve(np.array(rows), np.array(right)) / span
    return found


def _slope(s: float) -> Any:
    """Return the derivatives of 1, s, ..., s^4."""
    return np.array([0.0, 1.0, 2 * s, 3 * s**2, 4 * s**3])
