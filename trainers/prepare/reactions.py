"""Metabolic networks: draw one, its rates and its right-hand side, in float64.

Axis letters: M metabolites, R reactions, E edges of a bipartite graph, C frames (concentration vectors).

    dc_i/dt = -lambda_t (c_i - c0_t) + sum_j S_ij v_j(c)

S is the *net* stoichiometry; the reactant orders, which the rates depend on, are kept apart from it: in the
autocatalytic reaction A + B -> 2 B both orders are 1 while the net column is -1, +1.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainers.settings_metabolism import Metabolism

Array = NDArray[np.float64]
Index = NDArray[np.int64]
RATE_WIDTH, RATE_MESSAGE = 32, 16
"""Hidden width of the random rate MLPs, and numbers that a substrate sends to its reaction (seed 000)."""


class Mlp(NamedTuple):
    """A random MLP with tanh between its layers: weights (in, out) and biases (out,)."""

    layers: tuple[tuple[Array, Array], ...]

    def __call__(self, x: Array) -> Array:
        """Return the output (..., out) of x (..., in)."""
        for number, (weight, bias) in enumerate(self.layers):
            x = (np.tanh(x) if number else x) @ weight + bias
        return x


class Network(NamedTuple):
    """A metabolic network with everything that decides its dynamics."""

    S: Array
    """Net stoichiometry (M, R), whole numbers; every column sums to 0."""
    met_sub: Index
    """Metabolite of each substrate edge (E_sub,); `rxn_sub` is its reaction, `order` its reactant order."""
    rxn_sub: Index
    order: Array
    log_k: Array
    """log10 of the rate constants (R,)."""
    types: Index
    """Type of each metabolite (M,), from 0, in blocks of nearly equal size."""
    decay: Array
    """lambda of each type, 1/time."""
    baseline: Array
    """Homeostatic concentration of each type."""
    circadian: tuple[float, float] = (0.0, 1.0)
    """Relative amplitude and period (time) of the baseline's modulation."""
    substrate_func: Mlp | None = None
    """Message of a substrate, [c, order] -> RATE_MESSAGE; None with mass action."""
    rate_func: Mlp | None = None
    flux_limit: bool = False
    delta_t: float = 1.0

    @property
    def n_reactions(self) -> int:
        """Return R."""
        return int(self.S.shape[1])

    def rates(self, c: Array) -> Array:
        """Return v (C, R) of concentrations (C, M), before any flux limit.

        Mass action: k_j prod c^order, 0 for a reaction without edges. Otherwise k_j softplus(rate_func(h_j)) with h_j
        the sum of substrate_func([c, order]) over the substrates.
        """
        k, at = 10.0**self.log_k, c[:, self.met_sub]
        if self.substrate_func is None or self.rate_func is None:
            v = np.zeros((len(c), self.n_reactions))
            named, starts = np.unique(self.rxn_sub, return_index=True)  # edges stand reaction by reaction
            v[:, named] = np.multiply.reduceat(at**self.order, starts, axis=1)
            return k * v
        sent = self.substrate_func(np.stack([at, np.broadcast_to(self.order, at.shape)], axis=-1))
        h = np.zeros((len(c), self.n_reactions, RATE_MESSAGE))
        named, starts = np.unique(self.rxn_sub, return_index=True)
        h[:, named] = np.add.reduceat(sent, starts, axis=1)
        return k * np.logaddexp(0.0, self.rate_func(h)[..., 0])

    def limited(self, c: Array, v: Array) -> Array:
        """Return v (C, R) scaled so that no reaction takes more of a substrate in a step than its share of it.

        Each substrate allows the fraction c / (consumption of all reactions * delta_t) of its reactions, at most 1; a
        reaction has the smallest fraction of its substrates.
        """
        taking = np.zeros((c.shape[1], self.n_reactions))
        taking[self.met_sub, self.rxn_sub] = self.order * self.delta_t
        allowed = np.minimum(1.0, c / np.maximum(v @ taking.T, 1e-300))
        scale = np.ones_like(v)
        named, starts = np.unique(self.rxn_sub, return_index=True)
        scale[:, named] = np.minimum.reduceat(allowed[:, self.met_sub], starts, axis=1)
        return v * scale

    def net_rates(self, c: Array) -> Array:
        """Return v (C, R) of concentrations (C, M), flux limit included: dc/dt is S v and the homeostatic term."""
        v = self.rates(c)
        return self.limited(c, v) if self.flux_limit else v

    def homeostasis(self, c: Array, time: Array | float = 0.0) -> Array:
        """Return -lambda (c - c0) of concentrations (C, M); `time` (C,) moves c0 where it is circadian."""
        amplitude, period = self.circadian
        wave = 1.0 + amplitude * np.sin(2 * np.pi * np.asarray(time, dtype=np.float64) / period)
        return -self.decay[self.types] * (c - self.baseline[self.types] * np.reshape(wave, (-1, 1)))

    def rhs(self, c: Array, time: Array | float = 0.0) -> Array:
        """Return dc/dt (C, M) at concentrations (C, M) and times (C,)."""
        return self.net_rates(c) @ self.S.T + self.homeostasis(c, time)


def draw_network(simulation: Metabolism) -> Network:
    """Return the network of a config: autocatalytic cycles first, then random reactions.

    A cycle takes distinct metabolites, unused ones while there are enough of them; its reactions A + B -> 2 B go round
    the ring. int(n_reactions * cycle_fraction) reactions are for cycles, and those that do not fill a cycle stay
    without edges. A random reaction has 1 to 3 substrates with coefficients 1 or 2 and 1 to 3 products, among which
    what is consumed is shared as evenly as whole numbers allow.

    Source: reference sections 1.1.2 and 2.1.2; the order of draws from one legacy generator is the recorded one, so
    seed 42 gives the recorded reactions. Rate constants and rate functions have generators of their own.
    """
    s = simulation
    legacy = np.random.RandomState(s.seed)
    S = np.zeros((s.n_metabolites, s.n_reactions))
    substrates = _cycles(s, legacy, S) + _random_reactions(s, legacy, S)
    rng = {name: np.random.default_rng((s.seed, number)) for number, name in enumerate(("k", "functions"))}
    functions: tuple[Mlp | None, Mlp | None] = (None, None)
    if not s.use_mass_action:
        functions = (_mlp(rng["functions"], (2, RATE_WIDTH, RATE_WIDTH, RATE_MESSAGE)),
                     _mlp(rng["functions"], (RATE_MESSAGE, RATE_WIDTH, RATE_WIDTH, 1)))  # fmt: skip
    met, rxn, order = (np.array(column) for column in zip(*substrates, strict=True))
    return Network(
        S=S,
        met_sub=met.astype(np.int64),
        rxn_sub=rxn.astype(np.int64),
        order=order.astype(np.float64),
        log_k=rng["k"].uniform(s.log_k_min, s.log_k_max, s.n_reactions),
        types=np.arange(s.n_metabolites) * s.n_metabolite_types // s.n_metabolites,
        decay=np.array(s.homeostatic_lambda, dtype=np.float64),
        baseline=np.array(s.homeostatic_baseline, dtype=np.float64),
        circadian=(s.circadian_amplitude, s.circadian_period),
        substrate_func=functions[0],
        rate_func=functions[1],
        flux_limit=s.flux_limit,
        delta_t=s.delta_t,
    )


def _cycles(s: Metabolism, rng: np.random.RandomState, S: Array) -> list[tuple[int, int, int]]:
    """Write the cycles into S; return (metabolite, reaction, order) of their substrate edges."""
    found: list[tuple[int, int, int]] = []
    unused = list(range(s.n_metabolites))
    for cycle in range(int(s.n_reactions * s.cycle_fraction) // s.cycle_length):
        pool = unused if len(unused) >= s.cycle_length else list(range(s.n_metabolites))
        ring = [int(m) for m in rng.choice(pool, size=s.cycle_length, replace=False)]
        unused = [m for m in unused if m not in ring]
        for i, food in enumerate(ring):
            reaction, catalyst = cycle * s.cycle_length + i, ring[(i + 1) % s.cycle_length]
            found += [(food, reaction, 1), (catalyst, reaction, 1)]
            S[food, reaction], S[catalyst, reaction] = -1.0, 1.0
    return found


def _random_reactions(s: Metabolism, rng: np.random.RandomState, S: Array) -> list[tuple[int, int, int]]:
    """Write the reactions after those of the cycles into S; return their substrate edges as `_cycles` does."""
    found: list[tuple[int, int, int]] = []
    most = max(2, min(s.max_metabolites_per_reaction, s.n_metabolites // 2))
    for reaction in range(int(s.n_reactions * s.cycle_fraction), s.n_reactions):
        n_sub, n_prod = int(rng.randint(1, most)), int(rng.randint(1, most))
        members = [int(m) for m in rng.choice(s.n_metabolites, size=n_sub + n_prod, replace=False)]
        orders = [int(rng.randint(1, 3)) for _ in range(n_sub)]
        share, left = divmod(sum(orders), n_prod)
        made = [share + (i < left) for i in range(n_prod)]
        rng.shuffle(made)
        found += [(m, reaction, order) for m, order in zip(members[:n_sub], orders, strict=True)]
        S[members[:n_sub], reaction] = -np.array(orders, dtype=np.float64)
        S[members[n_sub:], reaction] = made
    return found


def _mlp(rng: np.random.Generator, widths: tuple[int, ...]) -> Mlp:
    """Return an MLP whose weights and biases are uniform in +-1/sqrt(inputs) (torch's default)."""
    layers = []
    for a, b in itertools.pairwise(widths):
        reach = a**-0.5
        layers.append((rng.uniform(-reach, reach, (a, b)), rng.uniform(-reach, reach, b)))
    return Mlp(tuple(layers))


class Simulated(NamedTuple):
    """A trajectory: concentrations and the right-hand side at them, both (T, M), and the times (T,)."""

    c: Array
    dc: Array
    time: Array


def simulate_run(
    network: Network, simulation: Metabolism, rng: np.random.Generator, n_frames: int, pulses: bool = True
) -> Simulated:
    """Return a single trajectory of `simulate_runs`."""
    return simulate_runs(network, simulation, [rng], n_frames, pulses)[0]


def simulate_runs(
    network: Network, simulation: Metabolism, rngs: list[np.random.Generator], n_frames: int, pulses: bool = True
) -> list[Simulated]:
    """Return forward Euler frames from c(0) ~ U(c_min, c_max), concentrations kept at or above 0; one run a generator.

    With `perturbation_every` a pulse multiplies a random tenth of the concentrations by exp(N(0, strength^2)) every so
    many frames; dc/dt is that of the state after the pulse. All runs step together: 20 cost little more than one.
    """
    s = simulation
    c = np.stack([rng.uniform(s.c_min, s.c_max, s.n_metabolites) for rng in rngs])
    frames, rates = (np.empty((len(rngs), n_frames, s.n_metabolites)) for _ in range(2))
    for t in range(n_frames):
        if pulses and s.perturbation_every and t and t % s.perturbation_every == 0:
            for run, rng in enumerate(rngs):
                hit = rng.random(s.n_metabolites) < s.perturbation_part
                c[run] *= np.exp(s.perturbation_strength * hit * rng.standard_normal(s.n_metabolites))
        frames[:, t] = c
        rates[:, t] = network.rhs(c, t * s.delta_t)
        c = np.maximum(c + s.delta_t * rates[:, t], 0.0)
    time = np.arange(n_frames) * s.delta_t
    return [Simulated(c, dc, time) for c, dc in zip(frames, rates, strict=True)]
