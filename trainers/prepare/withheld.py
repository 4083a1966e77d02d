"""What of a recording of points is withheld, and which of it is asked for.

Whole cells (a fifth), whole stretches of time longer than what a cell remembers, and single values of the other cells.
Positions of withheld cells and of withheld frames are not given either, only those of the points that are asked for, in
random order and, of one cell, at least half a persistence time apart: nobody need be able to follow a cell through them
and take differences.

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


def persistence(field: Any) -> int | None:
    """Return frames after which a cell's value has correlation 1/e with itself; None where it never falls so low."""
    centred = field - field.mean(axis=(0, 1))
    power = float(np.mean(centred**2))
    lags = np.unique(np.geomspace(1, len(field) // 2, LAGS).astype(int))
    before = 0
    for lag in lags:
        if float(np.mean(centred[lag:] * centred[:-lag])) < power / math.e:
            return int(max(before + 1, lag))
        before = int(lag)
    return None


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
    apart = max(1, (remembered or n_frames // 4) // 2)
    asked = {
        "cells": _spread(outside, held, apart, rng),
        "windows": _spread(inside, others, min(apart, max(1, len(stretches[0]) // 3)), rng),
        "frames": tuple(np.nonzero(single)),
    }
    return Withheld(held, stretches, kept, {k: _few(*v, rng) for k, v in asked.items()})


def _spread(frames: Ints, cells: Ints, apart: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Return every `apart`-th of the frames for each cell, from a random one on."""
    starts = rng.integers(0, apart, len(cells))
    picked = [frames[start::apart] for start in starts]
    return np.concatenate(picked), np.repeat(cells, [len(p) for p in picked])


def _few(frames: Ints, cells: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
    order = rng.permutation(len(frames))[:ASKED_MAX]
    return frames[order], cells[order]
