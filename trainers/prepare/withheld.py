"""What of a recording of points is withheld, and which of it is asked for.

Whole cells (a fifth), whole stretches of time longer than what a cell remembers, and single values of the other cells.
Positions of withheld cells and of withheld frames are not given either, only those of the points that are asked for.
Withheld cells are asked for all at once, at few frames that are a persistence time apart, in random order: between two
such frames a cell goes further than its neighbour is away, so nobody can follow it through them and take differences.
Of a withheld stretch each cell is asked for once, near its middle; what its known path before and after tells is one of
the baselines (`path`). A single withheld value of a velocity follows from the known positions beside it.

Axis letters: T frames, N cells, D axes, C components, K points.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

CELLS_PART = 0.2
VALUES_PART = 0.05
WINDOWS_PART, WINDOW_MAX = 0.15, 0.2
"""Part of the frames that two windows may take (else there is one), and that a window may take at most."""
WINDOW_TIMES = 1.05
"""Length of a window in persistence times."""
ASKED_MAX = 20000
"""Points of a kind that are asked for, at most."""
LAGS = 200
MIDDLE = 1 / 5
"""Part of a withheld stretch, around its middle, from which points are asked for."""

Ints = NDArray[np.int64]


class Withheld(NamedTuple):
    """What training does not see."""

    cells: Ints
    """Withheld cells."""
    windows: list[range]
    """Withheld frames, stretch by stretch."""
    kept: NDArray[np.bool_]
    """(T, N) values that training sees."""
    asked: dict[str, tuple[Ints, Ints]]
    """Kind -> frames and cells (K,) of the points that are asked for."""
    remembered: int | None
    """Persistence of the field in frames, see `persistence`."""


def persistence(field: Any) -> int | None:
    """Return frames after which a cell's value has correlation 1/e with itself; None where it never falls so low."""
    centred = np.asarray(field, dtype=np.float64)
    centred = centred - centred.mean(axis=(0, 1))
    centred /= max(float(np.abs(centred).max()), 1e-300)
    power = float(np.mean(centred**2))
    lags = np.unique(np.geomspace(1, len(field) // 2, LAGS).astype(int))
    low = (int(lag) for lag in lags if float(np.mean(centred[lag:] * centred[:-lag])) < power / math.e)
    return next(low, None)


def windows(n_frames: int, remembered: int | None) -> list[range]:
    """Return the stretches of frames that are withheld: two if they are short, else one in the middle."""
    most = max(1, int(WINDOW_MAX * n_frames))
    length = most if remembered is None else min(most, math.ceil(WINDOW_TIMES * remembered))
    number = 2 if 2 * length <= WINDOWS_PART * n_frames else 1
    middles = [(i + 1) * n_frames // (number + 1) for i in range(number)]
    return [range(m - length // 2, m - length // 2 + length) for m in middles]


def withhold(field: Any, seed: int) -> Withheld:
    """Return what of a field (T, N, C) is withheld; `seed` draws it."""
    (n_frames, n_cells), rng = field.shape[:2], np.random.default_rng([seed, 10**6])
    remembered = persistence(field)
    held = np.sort(rng.permutation(n_cells)[: max(1, round(CELLS_PART * n_cells))])
    stretches = windows(n_frames, remembered)
    kept = np.ones((n_frames, n_cells), bool)
    kept[:, held] = False
    inside = np.concatenate([np.asarray(s) for s in stretches])
    kept[inside] = False
    single = kept & (rng.random(kept.shape) < VALUES_PART)
    kept &= ~single
    others, outside = np.setdiff1d(np.arange(n_cells), held), np.setdiff1d(np.arange(n_frames), inside)
    asked = {
        "cells": _at_once(outside, held, remembered or n_frames // 4, rng),
        "windows": _once(stretches, others, rng),
        "frames": tuple(np.nonzero(single)),
    }
    return Withheld(held, stretches, kept, {k: _few(*v, rng) for k, v in asked.items()}, remembered)


def _at_once(frames: Ints, cells: Ints, apart: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Return all cells at frames of which no two are nearer than `apart`."""
    chosen = [int(frames[rng.integers(0, min(apart, len(frames)))])]
    while len(later := frames[frames >= chosen[-1] + apart]):
        chosen.append(int(later[0]))
    return np.repeat(chosen, len(cells)), np.tile(cells, len(chosen))


def _once(stretches: list[range], cells: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Return each cell once in each stretch, near its middle."""
    found = []
    for stretch in stretches:
        reach = max(1, int(MIDDLE * len(stretch)))
        first = stretch.start + (len(stretch) - reach) // 2
        found.append(rng.integers(first, first + reach, len(cells)))
    return np.concatenate(found), np.tile(cells, len(stretches))


def _few(frames: Ints, cells: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
    order = rng.permutation(len(frames))[:ASKED_MAX]
    return frames[order], cells[order]
