"""What training may see of a regime: the folders `train/` and `inputs/`. Axis letters: T frames, N neurons.

`train/u.npy` is memory-mapped, so that frames are read when a step asks for them. du/dt is (u[t+1] - u[t]) / delta_t,
which for Euler data is the right-hand side at u[t] to within the rounding of float32; where it is not (process noise, a
recording whose steps are too small for float32) the preparation stores `train/du.npy`, and that is what is used.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from trainers.errors import RefusedError

XNORM_STD = 1.5
"""Activity scale x = 1.5 std(u) at which functions are compared; not rounded (the recorded one could become 0)."""


STD_FRAMES = 4096
"""Frames looked at together by `Differences.std`."""


class Differences:
    """du/dt of frames as forward differences, computed for the frames that are asked for; an index acts as on (T, N).

    Shapes: `frames` (T + 1, N), one more than there are differences.
    """

    def __init__(self, frames: torch.Tensor, delta_t: float) -> None:
        self.frames, self.delta_t = frames, delta_t

    def __getitem__(self, index: Any) -> torch.Tensor:
        return (self.frames[1:][index] - self.frames[:-1][index]) / self.delta_t

    def __len__(self) -> int:
        return len(self.frames) - 1

    @property
    def shape(self) -> torch.Size:
        """(T, N)."""
        return torch.Size((len(self), *self.frames.shape[1:]))

    def std(self) -> torch.Tensor:
        """Return the standard deviation of all differences (a scalar), some frames at a time."""
        total, squares, count = 0.0, 0.0, len(self) * self.frames.shape[1]
        for first in range(0, len(self), STD_FRAMES):
            part = self[slice(first, min(first + STD_FRAMES, len(self)))].double()
            total, squares = total + float(part.sum()), squares + float(part.square().sum())
        return torch.tensor(max(0.0, squares - total**2 / count) / max(1, count - 1)).sqrt()

    def to(self, device: torch.device | str) -> Differences:
        """Return the same differences of frames on a device."""
        return Differences(self.frames.to(device), self.delta_t)


class SignalData(NamedTuple):
    """Training frames: T frames of N neurons that have a du/dt."""

    u: torch.Tensor
    """Activity (T, N)."""
    du: torch.Tensor | Differences
    """du/dt (T, N), u per unit of time; both kinds are read by `du[frames]`."""
    delta_t: float
    """Time between frames."""

    @property
    def xnorm(self) -> float:
        """1.5 std(u), the activity scale."""
        return XNORM_STD * float(self.u.std())

    def on(self, device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor | Differences]:
        """Return u and du on a device; with differences the frames are there once."""
        if isinstance(self.du, Differences):
            moved = self.du.to(device)
            return moved.frames[:-1], moved
        return self.u.to(device), self.du.to(device)


class SignalInputs(NamedTuple):
    """Where the final model is asked to predict: G grid points, K held-out frames, R rollouts, F frames."""

    grid_u: torch.Tensor
    heldout_u: torch.Tensor
    rollout_u0: torch.Tensor
    rollout_frames: int
    delta_t: float


def _array(path: Path) -> torch.Tensor:
    try:
        return torch.from_numpy(np.ascontiguousarray(np.load(path, allow_pickle=False), dtype=np.float32))
    except (OSError, ValueError) as error:
        raise RefusedError(f"{path} cannot be read ({error}); prepare the regime again") from error


def _mapped(path: Path) -> torch.Tensor:
    """Return a float32 array that stays on disk; private copies of pages, because torch wants memory it may write."""
    try:
        found = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise RefusedError(f"{path} cannot be read ({error}); prepare the regime again") from error
    if found.dtype != np.float32 or found.ndim != 2 or not found.flags.c_contiguous or len(found) < 2:
        told = f"{found.dtype} of shape {found.shape}"
        raise RefusedError(f"{path}: expected float32 (frames, neurons) in C order, found {told}; prepare it again")
    return torch.from_numpy(np.asarray(found))


def _json(path: Path) -> dict[str, float]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise RefusedError(f"{path} cannot be read ({error}); prepare the regime again") from error


def load_signal(train: Path, inputs: Path) -> tuple[SignalData, SignalInputs]:
    """Return the training frames and the held-out inputs of a regime.

    The frames stay on disk. With `train/du.npy` all of them are there to train on, without it all but the last.

    Raises:
        RefusedError: a file is missing or unreadable, or shapes disagree.
    """
    told, asked = _json(train / "dataset.json"), _json(inputs / "inputs.json")
    frames, delta_t, stored = _mapped(train / "u.npy"), float(told["delta_t"]), train / "du.npy"
    if stored.exists():
        data = SignalData(frames, _mapped(stored), delta_t)
    else:
        data = SignalData(frames[:-1], Differences(frames, delta_t), delta_t)
    wanted = SignalInputs(
        grid_u=_array(inputs / "grid_u.npy"),
        heldout_u=_array(inputs / "heldout_u.npy"),
        rollout_u0=_array(inputs / "rollout_u0.npy"),
        rollout_frames=int(asked["rollout_frames"]),
        delta_t=float(asked["delta_t"]),
    )
    n = data.u.shape[1]
    if data.u.shape != data.du.shape or wanted.heldout_u.shape[1] != n or wanted.rollout_u0.shape[1] != n:
        raise RefusedError(f"{train}: u, du and the inputs disagree about the number of neurons or frames")
    return data, wanted
