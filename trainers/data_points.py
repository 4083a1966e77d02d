"""What training may see of a regime of points. Axis letters: F frames, N points, D axes, C components, K held-out.

`train/` has `frames.npy` (F,) the number of each frame, `positions.npy` (F, N, D) scaled to [0, 1), `field.npy`
(F, N, C) and `kept.npy` (F, N), false where a value is withheld (it is 0 there). `inputs/` has the points (time and
place, scaled) at which the field is asked for.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from trainers.errors import RefusedError

HELD = ("cells", "windows", "frames")
"""Kinds of withheld values: whole cells, whole stretches of time, single values of a cell."""


class PointData(NamedTuple):
    """Training frames."""

    t: torch.Tensor
    """Time of each frame (F,), scaled to [0, 1)."""
    x: torch.Tensor
    """Positions (F, N, D), scaled to [0, 1)."""
    field: torch.Tensor
    """Values (F, N, C), in their own unit."""
    kept: torch.Tensor
    """Which of them may be trained on (F, N)."""
    names: tuple[str, ...]
    """What the field may be called."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """F, N, D, C."""
        return (*self.x.shape, self.field.shape[2])  # type: ignore[return-value]


class PointInputs(NamedTuple):
    """Points at which the field is asked for, time first (K, 1 + D)."""

    held: dict[str, torch.Tensor]
    """By the names of HELD."""
    slices: torch.Tensor
    seen_every: int
    """Of the training frames every this many are asked for again."""


def load_points(train: Path, inputs: Path) -> tuple[PointData, PointInputs]:
    """Return the training frames and the held-out points of a regime.

    Raises:
        RefusedError: a file is missing or unreadable, or shapes disagree.
    """
    try:
        told = json.loads((train / "dataset.json").read_text())
        asked = json.loads((inputs / "inputs.json").read_text())
        frames, n_frames = _array(train / "frames.npy"), int(told["n_frames"])
        names = tuple(map(str, told["field"]))
        seen_every = int(asked["seen_every"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RefusedError(f"{train} or {inputs} is not complete ({error}); prepare the regime again") from error
    t = torch.from_numpy((frames / n_frames).astype(np.float32))
    data = PointData(t, *(_tensor(train / f"{part}.npy") for part in ("positions", "field", "kept")), names)
    held = {kind: _tensor(inputs / f"points_{kind}.npy") for kind in HELD}
    wanted = PointInputs(held, _tensor(inputs / "slices.npy"), seen_every)
    shapes = {len(data.t), len(data.x), len(data.field), len(data.kept)}
    if len(shapes) > 1 or data.x.shape[:2] != data.field.shape[:2] or data.x.shape[:2] != data.kept.shape:
        raise RefusedError(f"{train}: frames, positions, field and kept disagree about frames or points")
    if any(p.shape[1] != 1 + data.x.shape[2] for p in (*wanted.held.values(), wanted.slices)):
        raise RefusedError(f"{inputs}: expected points of {1 + data.x.shape[2]} numbers, a time and a place")
    return data, wanted


def _array(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise RefusedError(f"{path} cannot be read ({error}); prepare the regime again") from error


def _tensor(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(_array(path)))
