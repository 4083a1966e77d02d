r"""Simulated neural activity. Axis letters: T frames, N neurons, P types, r rank.

.. math::
    \frac{du_i}{dt} = -a_i u_i + b_i + s_i \tanh(u_i) + g_i \sum_j W_{ij}\, \varphi((u_j - h_j) / w_j)

integrated by forward Euler from u = 5 randn. Row i of W is the target, column j the source, in the simulator as in the
saved file: the recorded simulator transposed its edge list for filling < 1 and saved another W than it used
(`legacy_sparse_transpose` does that again, knowingly).

Frames come in pieces, so that a recording of any length fits in memory; see `trainers.prepare.activity` for what is
said about them.

Process noise is added to u after every Euler step of the first trajectory: `noise_model_level` is its standard
deviation a step, not scaled by the square root of delta_t. The stored du/dt is the right-hand side at the stored u, the
drift without the noise; the second trajectory has none, so that a rollout has one right answer.

Source: SCIENCE of the project, section "Neural signal"; reference sections 3.1.1 to 3.1.6, 16.1 and 19. Deviations:
exactly `n_frames` frames are kept (recorded: one more); one random generator a purpose; no noise in rollouts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainers.settings import Simulation

Array = NDArray[np.float64]
INITIAL_STD = 5.0
"""Standard deviation of u at the first integrated frame."""
CHUNK = 1024
"""Frames of a piece: memory does not grow with the length of a recording."""
LORENTZ_CUT = 25.0
"""Draws of the Cauchy distribution beyond this size become 0 (they are not clipped)."""
LORENTZ_POWERS = ((2000, 0.7), (4000, 0.675), (8000, 0.67), (8001, 0.66))
"""(N below this, exponent of N that divides the draws); larger networks take 0.5."""


class System(NamedTuple):
    """A drawn system."""

    W: Array
    """Connectivity (N, N), diagonal 0."""
    types: NDArray[np.int64]
    """Type of each neuron (N,)."""
    params: Array
    """[a, b, g, s, w, h] of each type (P, 6)."""

    def sent(self, u: Array) -> Array:
        """Return phi((u_j - h_j) / w_j), (..., N) -> (..., N)."""
        _, _, _, _, w, h = self.params[self.types].T
        return np.tanh((u - h) / w)

    def self_term(self, u: Array) -> Array:
        """Return -a u + b + s tanh(u), (..., N) -> (..., N)."""
        a, b, _, s, _, _ = self.params[self.types].T
        return -a * u + b + s * np.tanh(u)

    def coupling(self) -> Array:
        """Return g_i W_ij (N, N): what multiplies the sent activity."""
        return self.params[self.types][:, 2:3] * self.W

    def embedding(self) -> Array:
        """Return an embedding that tells the types, one direction each (N, P)."""
        return np.asarray(np.eye(len(self.params))[self.types])

    def rhs(self, u: Array) -> Array:
        """Return du/dt, (..., N) -> (..., N), u per unit of time."""
        return self.self_term(u) + self.sent(u) @ self.coupling().T


class Noise(NamedTuple):
    """Process noise of an integration."""

    level: float
    """Standard deviation that every Euler step adds to u, in u."""
    rng: np.random.Generator


def generators(seed: int) -> dict[str, np.random.Generator]:
    """Return one random generator a purpose, all from one seed: a change of one purpose leaves the others alone."""
    names = ("connectivity", "filling", "first_state", "second_state", "noise")  # a new purpose goes to the end
    children = np.random.SeedSequence(seed).spawn(len(names))
    return {name: np.random.default_rng(child) for name, child in zip(names, children, strict=True)}


def draw_system(simulation: Simulation, rng: dict[str, np.random.Generator]) -> System:
    """Return a system: W drawn, signed by Dale's law, thinned by the filling factor, diagonal 0; types in equal blocks.

    Neuron i is of type floor(i P / N). Dale's law makes every column (source) of one sign: the first
    `Dale_law_factor` N columns are >= 0, the others <= 0.

    Shapes: see `System`. Source: reference sections 3.1.3 and 3.1.6.
    """
    n = simulation.n_neurons
    W = draw_connectivity(simulation, rng["connectivity"])
    if simulation.Dale_law:
        W = np.abs(W)
        W[:, int(n * simulation.Dale_law_factor) :] *= -1.0
    W *= rng["filling"].random((n, n)) <= simulation.connectivity_filling_factor
    np.fill_diagonal(W, 0.0)
    types = np.arange(n) * simulation.n_neuron_types // n
    W = W.astype(np.float32).astype(np.float64)  # simulate with exactly what is saved
    return System(W=W, types=types, params=np.asarray(simulation.params, dtype=np.float64))


def draw_connectivity(simulation: Simulation, rng: np.random.Generator) -> Array:
    """Return the full W (N, N) of a connectivity type.

    chaotic: N(0, 1/N). low_rank: U V / sqrt(r N), U (N, r) and V (r, N) standard normal, so the variance is 1/N too.
    Lorentz: standard Cauchy with |s| > 25 set to 0, over N^0.7 (another power from N = 2000 on).
    """
    n, rank = simulation.n_neurons, simulation.connectivity_rank
    if simulation.connectivity_type == "low_rank":
        left = rng.standard_normal((n, rank))
        return np.asarray(left @ rng.standard_normal((rank, n)) / np.sqrt(rank * n))
    if simulation.connectivity_type == "Lorentz":
        s = rng.standard_cauchy((n, n))
        s[np.abs(s) > LORENTZ_CUT] = 0.0
        return np.asarray(s / n ** next((power for below, power in LORENTZ_POWERS if n < below), 0.5))
    return np.asarray(rng.standard_normal((n, n)) / np.sqrt(n))


def acting_system(system: System, legacy_sparse_transpose: bool) -> System:
    """Return the system that makes the data: `system` itself, or its W o mask^T under the legacy switch.

    The mask is where W is not 0: an interaction i <- j acts only if the entry (j, i) is kept too.

    Source: reference section 3.1.4.
    """
    return system._replace(W=system.W * (system.W != 0.0).T) if legacy_sparse_transpose else system


def integrate(system: System, u0: Array, n_steps: int, delta_t: float, noise: Noise | None = None) -> Array:
    """Return the states after 0, 1, ..., `n_steps` Euler steps (n_steps + 1, N), each row its own memory."""
    return np.concatenate(list(integrate_chunks(system, u0, n_steps + 1, delta_t, noise)))


def integrate_chunks(
    system: System, u0: Array, n_frames: int, delta_t: float, noise: Noise | None = None, size: int = CHUNK
) -> Iterator[Array]:
    """Yield `n_frames` states, from `u0` on, in pieces of at most `size` frames (., N), each piece its own memory.

    Cost: O(N^2) a frame; memory for two pieces.
    """
    coupling, u = system.coupling(), np.asarray(u0, dtype=np.float64)
    for first in range(0, n_frames, size):
        frames = np.empty((min(size, n_frames - first), len(u)))
        for t in range(len(frames)):
            if first + t > 0:
                u = u + delta_t * (system.self_term(u) + coupling @ system.sent(u))
                if noise is not None:
                    u += noise.level * noise.rng.standard_normal(len(u))
            frames[t] = u
        yield frames


def trajectory_chunks(
    system: System, rng: np.random.Generator, simulation: Simulation, n_frames: int, noise: Noise | None = None
) -> Iterator[Array]:
    """Yield `n_frames` frames from another initial state in pieces (., N).

    Frames from `start_frame` to 0 are integrated and dropped. The state at frame 0 is rounded to float32 and the rest
    integrated from there, so that a rollout from the saved state is the same trajectory (the system is chaotic).
    """
    u0 = INITIAL_STD * rng.standard_normal(simulation.n_neurons)
    for frames in integrate_chunks(system, u0, 1 - simulation.start_frame, simulation.delta_t, noise):
        u0 = frames[-1]
    u0 = u0.astype(np.float32).astype(np.float64)
    yield from integrate_chunks(system, u0, n_frames, simulation.delta_t, noise)


def trajectory(
    system: System, rng: np.random.Generator, simulation: Simulation, n_frames: int, noise: Noise | None = None
) -> Array:
    """Return the frames of `trajectory_chunks` in one array (T, N)."""
    return np.concatenate(list(trajectory_chunks(system, rng, simulation, n_frames, noise)))
