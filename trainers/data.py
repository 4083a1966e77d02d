"""What training may see of a regime: the folders `train/` and `inputs/`. Axis letters as in the classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from trainers.errors import RefusedError

XNORM_STD = 1.5
"""Activity scale x = 1.5 std(u) at which functions are compared; not rounded (the recorded one could become 0)."""


class SignalData(NamedTuple):
    """Training frames: T frames of N neurons."""

    u: torch.Tensor
    """Activity (T, N)."""
    du: torch.Tensor
    """du/dt (T, N), u per unit of time."""
    delta_t: float
    """Time between frames."""

    @property
    def xnorm(self) -> float:
        """1.5 std(u), the activity scale."""
        return XNORM_STD * float(self.u.std())


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


def _json(path: Path) -> dict[str, float]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise RefusedError(f"{path} cannot be read ({error}); prepare the regime again") from error


def load_signal(train: Path, inputs: Path) -> tuple[SignalData, SignalInputs]:
    """Return the training frames and the held-out inputs of a regime.

    Raises:
        RefusedError: a file is missing or unreadable, or shapes disagree.
    """
    told, asked = _json(train / "dataset.json"), _json(inputs / "inputs.json")
    data = SignalData(_array(train / "u.npy"), _array(train / "du.npy"), float(told["delta_t"]))
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
