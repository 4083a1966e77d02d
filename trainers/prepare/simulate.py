"""Simulate a regime into its folder, in pieces: 100,000 frames of 1000 neurons take 400 MB of disk and no more memory.

Only u is stored, float32. Training takes du/dt from consecutive frames, (u[t+1] - u[t]) / delta_t, which is what the
Euler step added; `train/du.npy`, the right-hand side at the stored u, is written where that is not exact enough: with
process noise, and where the measured relative error is not below `DIFFERENCE_TOLERANCE` (a short delta_t or activity
that hardly moves: float32 loses the digits).

Axis letters: T frames, N neurons.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainers.data import XNORM_STD
from trainers.errors import RefusedError
from trainers.prepare import files
from trainers.prepare.activity import Recording, connectivity, pieces
from trainers.prepare.simulator import (
    Noise,
    System,
    acting_system,
    draw_system,
    generators,
    trajectory,
    trajectory_chunks,
)
from trainers.settings import Simulation

DIFFERENCE_TOLERANCE = 5e-5
"""Largest relative error of forward differences against the right-hand side at which no du is stored."""


def simulate(simulation: Simulation, folder: Path) -> None:
    """Draw the system, integrate both trajectories, and write `train/`, `inputs/` and `truth/`.

    `train/` holds the first 90 % of the first trajectory and neither types, true parameters nor the simulation seed.

    Cost: O(T N^2); 100,000 frames of 1000 neurons take half a minute on one core.
    """
    if len(simulation.params) != simulation.n_neuron_types:
        raise RefusedError(
            f"simulation.params: expected {simulation.n_neuron_types} row(s), one a neuron type, found "
            f"{len(simulation.params)}; set simulation.params"
        )
    rng = generators(simulation.seed)
    system = draw_system(simulation, rng)
    acting = acting_system(system, simulation.legacy_sparse_transpose)
    noise = Noise(simulation.noise_model_level, rng["noise"]) if simulation.noise_model_level > 0 else None
    n_train = int(files.TRAIN_PART * simulation.n_frames)
    held = np.unique(np.linspace(n_train, simulation.n_frames - 1, files.HELDOUT_MAX).astype(int))
    frames = files.Frames(folder, simulation.n_frames, n_train, simulation.n_neurons, held)
    recording, error = Recording(simulation.n_neurons), DifferenceError(simulation.delta_t)
    held_du = np.empty((len(held), simulation.n_neurons), np.float32)

    first = 0
    for exact in trajectory_chunks(acting, rng["first_state"], simulation, simulation.n_frames, noise):
        u32 = exact.astype(np.float32)
        if not np.isfinite(u32).all():
            raise _not_finite()
        u = u32.astype(np.float64)
        du = acting.rhs(u)
        kept, rows = frames.add(first, u32)
        held_du[kept] = du[rows]
        inside = max(0, n_train - first)
        recording.add(u, du, inside)
        error.add(u32[:inside], du[:inside])
        first += len(u)
    second = trajectory(acting, rng["second_state"], simulation, files.ROLLOUT_FRAMES)[None]
    if not np.isfinite(second).all():
        raise _not_finite()
    if noise is not None or not error.relative < DIFFERENCE_TOLERANCE:
        _store_du(acting, frames.train, folder)

    _write(folder, simulation, system, frames, held_du, second, XNORM_STD * recording.train_std)
    described = connectivity(system) | recording.described()
    files.tell(folder, frames.train.shape, files.ROLLOUT_FRAMES, simulation.delta_t, described)
    frames.train.flush()


def _write(folder: Path, simulation: Simulation, system: System, frames: files.Frames, held_du: NDArray[np.float32],
           second: NDArray[np.float64], xnorm: float) -> None:  # fmt: skip
    grid_u = files.grid(xnorm)
    at = np.repeat(grid_u.astype(np.float64)[:, None], simulation.n_neurons, axis=1)
    files.save(folder, {
        "inputs/grid_u.npy": grid_u,
        "inputs/heldout_u.npy": frames.held_u,
        "inputs/rollout_u0.npy": second[:, 0].astype(np.float32),
        "truth/W.npy": system.W.astype(np.float32),
        "truth/types.npy": system.types,
        "truth/params.npy": system.params,
        "truth/heldout_du.npy": held_du,
        "truth/rollout_u.npy": second,
        "truth/delta_t.npy": np.float64(simulation.delta_t),
        "truth/xnorm.npy": np.float64(xnorm),
        "truth/lin_edge.npy": system.sent(at).T,
        "truth/lin_phi.npy": system.self_term(at).T,
        "truth/activity.npy": frames.shown.T,
    })  # fmt: skip


def _not_finite() -> RefusedError:
    return RefusedError("the simulated activity is not finite; lower delta_t or the gain g in simulation.params")


class DifferenceError:
    """How far forward differences of float32 frames are from the right-hand side, piece by piece."""

    def __init__(self, delta_t: float) -> None:
        self.delta_t = delta_t
        self.wrong = self.size = 0.0
        self.last: tuple[NDArray[np.float32], NDArray[np.float64]] | None = None

    def add(self, u: NDArray[np.float32], du: NDArray[np.float64]) -> None:
        """Take note of frames `u` (., N) and the right-hand side `du` at them; they follow those added before."""
        if len(u) == 0:
            return
        if self.last is not None:
            self._pairs(np.stack([self.last[0], u[0]]), self.last[1][None])
        self._pairs(u, du[:-1])
        self.last = (u[-1], du[-1])

    def _pairs(self, u: NDArray[np.float32], du: NDArray[np.float64]) -> None:
        found = np.diff(u, axis=0) / np.float32(self.delta_t)
        self.wrong += float(np.sum((found - du) ** 2))
        self.size += float(np.sum(du**2))

    @property
    def relative(self) -> float:
        """||differences - du|| / ||du||."""
        return float(np.sqrt(self.wrong / self.size)) if self.size > 0 else float("inf")


def _store_du(system: System, u: NDArray[np.float32], folder: Path) -> None:
    stored = np.lib.format.open_memmap(folder / "train" / "du.npy", mode="w+", dtype=np.float32, shape=u.shape)
    for first, piece in pieces(u):
        stored[first : first + len(piece)] = system.rhs(piece)
    stored.flush()
