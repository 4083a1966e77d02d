"""Simulate overdamped active cells in a periodic box: what moves, and what it is known from.

A cell i has a position x and a unit polarity p, in D dimensions:

    dx_i/dt = v p_i + sum_j k (r0 - r_ij) (x_i - x_j)/r_ij     over cells nearer than r0
    dp_i    = kappa (g - (g . p_i) p_i) dt + rotational diffusion of rate D_r

g(x, t) is a signal that all cells share: a Gaussian, solenoidal, periodic vector field of rms 1 whose correlation
falls as exp(-r^2 / (2 l^2)) in space (before it is made solenoidal) and as (1 + s/tau) exp(-s/tau) in time. So
neighbours move alike over the length l, and a cell forgets where it went; without g, polarities would be independent
and there would be no field to learn. Populations that share one g and nothing else tell how much of a velocity the
place decides.

Axis letters: P populations, N cells, D dimensions, K modes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Array = NDArray[np.float64]
SPECTRUM_MIN = 1e-4
"""Modes whose variance is less than this part of the largest are left out."""
BURN_IN = 3.0
"""Times tau that pass before the first frame."""


class Cells(NamedTuple):
    """What is simulated."""

    n_cells: int
    dimension: int
    box: float
    """Side of the periodic box."""
    speed: float
    signal_length: float
    signal_time: float
    alignment: float
    """kappa, 1/time."""
    rotational_diffusion: float
    """D_r, 1/time."""
    pair_stiffness: float
    """k, 1/time: mobility times stiffness."""
    pair_range: float
    """r0."""


class Signal:
    """The field g: amplitudes of its modes, which move on with the time."""

    def __init__(self, cells: Cells, rng: np.random.Generator) -> None:
        reach = int(np.ceil(cells.box / (2 * np.pi) * np.sqrt(-2 * np.log(SPECTRUM_MIN)) / cells.signal_length))
        numbers = [n for n in itertools.product(range(-reach, reach + 1), repeat=cells.dimension) if n > (0,) * len(n)]
        k = 2 * np.pi / cells.box * np.array(numbers, dtype=float)
        weight = np.exp(-np.sum(k**2, axis=1) * cells.signal_length**2 / 2)
        kept = weight >= SPECTRUM_MIN * weight.max()
        self.k, self.tau, self.rng = k[kept], cells.signal_time, rng
        weight = weight[kept]
        free = max(1, cells.dimension - 1)  # directions across k
        self.std = np.sqrt(weight / weight.sum() / free)[None, :, None]
        """Standard deviation of a component of an amplitude: the mean of |g|^2 over places is 1."""
        self.a = self.std * self._across(rng.standard_normal((2, len(self.k), cells.dimension)))
        self.b = self.std / self.tau * self._across(rng.standard_normal(self.a.shape))

    def _across(self, a: Array) -> Array:
        """Return amplitudes (2, K, D) without their part along k: a field without sources."""
        if self.k.shape[1] == 1:
            return a
        unit = self.k / np.linalg.norm(self.k, axis=1, keepdims=True)
        return np.asarray(a - np.sum(a * unit, axis=2, keepdims=True) * unit)

    def step(self, dt: float) -> None:
        """Move on by `dt`: each amplitude is a critically damped oscillator in white noise."""
        noise = self._across(self.rng.standard_normal(self.a.shape))
        kick = 2 * self.std / self.tau**1.5 * np.sqrt(dt) * noise
        self.b = self.b + dt * (-2 / self.tau * self.b - self.a / self.tau**2) + kick
        self.a = self.a + dt * self.b

    def at(self, x: Array) -> Array:
        """Return g at places (..., D)."""
        phase = x @ self.k.T
        return np.asarray(np.cos(phase) @ self.a[0] + np.sin(phase) @ self.a[1])


def pair_velocity(x: Array, cells: Cells) -> Array:
    """Return what the soft pair force of each population adds to its velocities (P, N, D)."""
    found = np.zeros_like(x)
    for own, places in zip(found, x, strict=True):
        tree = cKDTree(places, boxsize=cells.box)
        i, j = tree.query_pairs(cells.pair_range, output_type="ndarray").T
        apart = minimum_image(places[i] - places[j], cells.box)
        r = np.maximum(np.linalg.norm(apart, axis=1, keepdims=True), 1e-12)
        push = cells.pair_stiffness * (cells.pair_range - r) * apart / r
        for axis in range(x.shape[2]):
            own[:, axis] += np.bincount(i, push[:, axis], len(own)) - np.bincount(j, push[:, axis], len(own))
    return found


def minimum_image(apart: Any, box: Any) -> Any:
    """Return differences of places as the shortest ones of a periodic box (`box`: a side, or one an axis)."""
    return apart - box * np.round(apart / box)


def walk(cells: Cells, seed: int, populations: int, delta_t: float, substeps: int) -> Iterator[Array]:
    """Yield the positions of all populations (P, N, D), each axis in [0, box), frame by frame, without end.

    Args:
        cells: what is simulated.
        seed: the signal, and each population, draw from generators of their own.
        populations: P.
        delta_t: time between two frames.
        substeps: Euler steps of a frame.
    """
    signal = Signal(cells, np.random.default_rng([seed, 0]))
    draws = [np.random.default_rng([seed, 1 + p]) for p in range(populations)]
    shape = (cells.n_cells, cells.dimension)
    x = np.stack([rng.uniform(0.0, cells.box, shape) for rng in draws])
    p = _unit(np.stack([rng.standard_normal(shape) for rng in draws]))
    dt = delta_t / substeps
    kick = np.sqrt(2 * cells.rotational_diffusion * dt)
    burn_in = int(np.ceil(BURN_IN * cells.signal_time / dt))
    for step in itertools.count(-burn_in):
        if step >= 0 and step % substeps == 0:
            yield x
        g = signal.at(x)
        turn = cells.alignment * dt * (g - np.sum(g * p, axis=2, keepdims=True) * p)
        x = np.mod(x + dt * (cells.speed * p + pair_velocity(x, cells)), cells.box)
        p = _unit(p + turn + kick * np.stack([rng.standard_normal(shape) for rng in draws]))
        signal.step(dt)


def _unit(p: Array) -> Array:
    return np.asarray(p / np.linalg.norm(p, axis=2, keepdims=True))
