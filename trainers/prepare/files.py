"""What a regime's folder is made of, and how it is written. Axis letters: T frames, N neurons, G grid points."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.yaml_io import write_text

TRAIN_PART = 0.9
ROLLOUT_FRAMES = 600
HELDOUT_MAX = 1000
"""Held-out frames that are asked for, at most, evenly spread over the last 10 %."""
SHOWN_FRAMES = 2000
"""Frames that are kept for the figure of the activity, about."""
GRID_POINTS = 201
GRID_REACH = 2.0
"""The grid goes from -2 x to 2 x with x = 1.5 std(u), so that +-x are grid points."""


class Frames:
    """A recording on its way to the disk: the training part, and what is kept of the rest."""

    def __init__(self, folder: Path, n_frames: int, n_train: int, n_neurons: int, held: NDArray[np.int64]) -> None:
        for name in ("train", "inputs", "truth"):
            (folder / name).mkdir(exist_ok=True)
        self.n_train = n_train
        shape, path = (n_train, n_neurons), folder / "train" / "u.npy"
        self.train = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        self.held = held
        self.held_u = np.empty((len(held), n_neurons), np.float32)
        self.step = max(1, n_frames // SHOWN_FRAMES)
        self.shown = np.empty((-(-n_frames // self.step), n_neurons), np.float32)

    def add(self, first: int, u: NDArray[np.float32]) -> tuple[slice, NDArray[np.int64]]:
        """Write frames `first`, ... (., N); return where its held-out frames are kept, and which of `u` they are."""
        end = first + len(u)
        if first < self.n_train:
            self.train[first : min(end, self.n_train)] = u[: self.n_train - first]
        kept = slice(*np.searchsorted(self.held, (first, end)))
        rows = self.held[kept] - first
        self.held_u[kept] = u[rows]
        shown = np.arange(-(-first // self.step) * self.step, end, self.step)
        self.shown[shown // self.step] = u[shown - first]
        return kept, rows


def grid(xnorm: float) -> NDArray[np.float32]:
    """Return the activities at which learned functions are compared (G,)."""
    return np.linspace(-GRID_REACH * xnorm, GRID_REACH * xnorm, GRID_POINTS).astype(np.float32)


def save(folder: Path, arrays: dict[str, Any]) -> None:
    """Write arrays by their path below the folder."""
    for name, array in arrays.items():
        np.save(folder / name, array, allow_pickle=False)


def tell(folder: Path, shape: tuple[int, int], rollout_frames: int, delta_t: float, described: dict[str, Any]) -> None:
    """Write the three small json files; `shape` is that of the training part (T, N)."""
    told = {"n_neurons": shape[1], "n_frames": shape[0], "delta_t": delta_t}
    asked = {"rollout_frames": rollout_frames, "delta_t": delta_t}
    write_text(folder / "train" / "dataset.json", json.dumps(told, indent=1) + "\n")
    write_text(folder / "inputs" / "inputs.json", json.dumps(asked, indent=1) + "\n")
    write_text(folder / "truth" / "activity.json", json.dumps(described, indent=1) + "\n")


def fingerprint(folder: Path) -> str:
    """Return the sha256 over names and bytes of the files of the three folders."""
    total = hashlib.sha256()
    for part in ("train", "inputs", "truth"):
        for path in sorted((folder / part).iterdir()):
            total.update(f"{part}/{path.name}\0{path.stat().st_size}\0".encode())
            with open(path, "rb") as file:
                while piece := file.read(2**20):
                    total.update(piece)
    return total.hexdigest()
