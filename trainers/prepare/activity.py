"""What a recording is like, added up piece by piece. Axis letters: T frames, N neurons."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from trainers.prepare.simulator import CHUNK, System

Array = NDArray[np.float64]


class Recording:
    """Sums over the frames of a recording; memory O(N^2), cost O(T N^2)."""

    def __init__(self, n_neurons: int) -> None:
        self.n_frames, self.n_train = 0, 0
        self.low, self.high = np.inf, -np.inf
        self.sum, self.train_sum, self.train_squares = np.zeros(n_neurons), 0.0, 0.0
        self.products = np.zeros((n_neurons, n_neurons))
        self.du_squares = 0.0

    def add(self, u: Array, du: Array, n_train: int = 0) -> None:
        """Take note of frames `u` (., N) and their `du`; the first `n_train` of them belong to the training part."""
        self.n_frames += len(u)
        self.low, self.high = min(self.low, float(u.min())), max(self.high, float(u.max()))
        self.sum += u.sum(axis=0)
        self.products += u.T @ u
        self.du_squares += float(np.sum(du**2))
        part = u[:n_train]
        self.n_train += part.size
        self.train_sum += float(part.sum())
        self.train_squares += float(np.sum(part**2))

    @property
    def train_std(self) -> float:
        """Standard deviation over all numbers of the training part (n - 1 in the denominator)."""
        mean = self.train_sum / self.n_train
        return float(np.sqrt(max(0.0, self.train_squares - self.n_train * mean**2) / (self.n_train - 1)))

    def described(self) -> dict[str, float]:
        """Return range, spread and effective ranks, these on the uncentred data unless the name says otherwise.

        Source: reference section 3.1.8. Cost: O(N^3).
        """
        n, mean = self.n_frames, self.sum / self.n_frames
        size = n * len(mean)
        spectrum = np.linalg.eigvalsh(self.products)[::-1]
        centred = np.linalg.eigvalsh(self.products - n * np.outer(mean, mean))[::-1]
        variance = float(np.trace(self.products)) / size - float(mean.mean()) ** 2
        return {
            "effective_rank_90": rank_of(spectrum, 0.90),
            "effective_rank_99": rank_of(spectrum, 0.99),
            "effective_rank_99_centred": rank_of(centred, 0.99),
            "n_frames": float(n),
            "n_neurons": float(len(mean)),
            "u_min": self.low,
            "u_max": self.high,
            "u_std": float(np.sqrt(max(0.0, variance))),
            "du_rms": float(np.sqrt(self.du_squares / size)),
        }


def connectivity(system: System) -> dict[str, float]:
    """Return descriptions of W. Cost: O(N^3)."""
    return {
        "spectral_radius": float(np.abs(np.linalg.eigvals(system.W)).max()),
        "gain_spectral_radius": float(np.abs(np.linalg.eigvals(system.coupling())).max()),
        "filling": float(np.count_nonzero(system.W) / (system.W.size - len(system.W))),
    }


def rank_of(spectrum: Array, part: float) -> float:
    """Return the smallest k whose first k eigenvalues (decreasing) hold `part` of their sum."""
    share = np.cumsum(np.clip(spectrum, 0.0, None))
    if share[-1] <= 0.0:
        return 0.0
    return float(np.searchsorted(share / share[-1], part) + 1)


def pieces(frames: NDArray[np.floating], size: int = CHUNK, overlap: int = 0) -> Iterator[tuple[int, Array]]:
    """Yield (first frame, frames as float64) of pieces, each with the next `overlap` frames where there are any."""
    for first in range(0, len(frames) - overlap, size):
        yield first, np.asarray(frames[first : min(first + size, len(frames) - overlap) + overlap], dtype=np.float64)


def spread(count: int, most: int) -> NDArray[np.int64]:
    """Return all numbers below `count`, or `most` of them evenly spread from the first to the last."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def affordable(n_neurons: int, budget: float, least: int) -> int:
    """Return how many frames a calculation of O(N^2) a frame may look at, at least `least`."""
    return max(least, int(budget / n_neurons**2))
