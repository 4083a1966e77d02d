"""What the training frames of a mass-action network determine: identifiable reactions, and the least-squares ceiling.

dc/dt is linear in the rate constants k_j and in slope and offset of each type's homeostasis, so both follow from the
normal equations of that linear problem. Axis letters: T frames, M metabolites, R reactions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainers.prepare.reactions import Network

Array = NDArray[np.float64]
PARALLEL = 1e-8
"""Two reactions whose effects on dc/dt have a cosine within this of +-1 cannot be told apart."""


class Identified(NamedTuple):
    """What data of a network allow."""

    identifiable: NDArray[np.bool_]
    """(R,)."""
    groups: list[list[int]]
    """Reactions that only show together; `[j]` for one that does not show at all."""
    log_k: Array
    """Least squares; in a group the values nearest to the mean of the others (R,)."""
    homeostasis: Array
    """Least squares: slope and offset of each type (types, 2)."""
    condition: float
    """Condition number of the identifiable problem, columns scaled to 1."""


def identify(network: Network, c: Array, dc: Array) -> Identified:
    """Return what frames (T, M) and their dc/dt determine. Cost: O(T R^2)."""
    gram, right = _normal(network, c, dc)
    n_rxn = network.n_reactions
    size = np.sqrt(np.diag(gram))
    groups = _groups(gram[:n_rxn, :n_rxn], size[:n_rxn])
    identifiable = np.ones(n_rxn, bool)
    identifiable[[j for group in groups for j in group]] = False
    leaders = [g[0] for g in groups if size[g[0]] > 0]
    used = np.array([*np.flatnonzero(identifiable), *leaders, *range(n_rxn, len(gram))], dtype=int)
    scaled = gram[np.ix_(used, used)] / np.outer(size[used], size[used])
    found = np.zeros(len(gram))
    found[used] = np.linalg.lstsq(scaled, right[used] / size[used], rcond=1e-14)[0] / size[used]
    known = np.log10(np.maximum(found[:n_rxn], 1e-12))
    middle = float(known[identifiable].mean())
    for group in groups:
        signs = np.sign(gram[group[0], group]) if size[group[0]] > 0 else np.zeros(len(group))
        known[group] = _nearest(signs, found[group[0]], middle)
    power = np.linalg.eigvalsh(scaled)
    condition = float(np.sqrt(power[-1] / power[0])) if power[0] > 0 else float("inf")
    return Identified(identifiable, groups, known, found[n_rxn:].reshape(-1, 2), condition)


def _normal(network: Network, c: Array, dc: Array) -> tuple[Array, Array]:
    """Return the normal equations of dc/dt (T, M) in R rate constants, then slope and offset of each type.

    Reaction j adds S_ij v_j(c) with k = 1, so products of two reactions are (S^T S) * (V^T V).
    """
    v = network._replace(log_k=np.zeros_like(network.log_k)).rates(c)
    of_type = (network.types[:, None] == np.arange(len(network.decay))).astype(np.float64)

    def with_reactions(x: Array) -> Array:
        return (v.T @ x * network.S.T) @ of_type

    slope, offset = with_reactions(c), with_reactions(np.ones_like(c))
    n_rxn, n_types = v.shape[1], of_type.shape[1]
    gram = np.zeros((n_rxn + 2 * n_types,) * 2)
    gram[:n_rxn, :n_rxn] = (network.S.T @ network.S) * (v.T @ v)
    right = np.zeros(len(gram))
    right[:n_rxn] = (v.T @ dc * network.S.T).sum(axis=1)
    for t in range(n_types):
        a, b = n_rxn + 2 * t, n_rxn + 2 * t + 1
        gram[:n_rxn, a], gram[:n_rxn, b] = slope[:, t], offset[:, t]
        gram[a, :n_rxn], gram[b, :n_rxn] = slope[:, t], offset[:, t]
        mine = network.types == t
        gram[a, a], gram[b, b] = (c[:, mine] ** 2).sum(), len(c) * mine.sum()
        gram[a, b] = gram[b, a] = c[:, mine].sum()
        right[a], right[b] = (c[:, mine] * dc[:, mine]).sum(), dc[:, mine].sum()
    return gram, right


def _groups(gram: Array, size: Array) -> list[list[int]]:
    """Return reactions without effect, each alone, and sets of reactions with parallel effects."""
    found = [[int(j)] for j in np.flatnonzero(size == 0)]
    cosine = gram / np.maximum(np.outer(size, size), 1e-300)
    taken: set[int] = {g[0] for g in found}
    for j in range(len(size)):
        if j not in taken:
            like = [int(i) for i in np.flatnonzero(np.abs(np.abs(cosine[j]) - 1.0) < PARALLEL) if i not in taken]
            if len(like) > 1:
                found.append(like)
                taken.update(like)
    return found


def _nearest(signs: Array, total: float, middle: float) -> Array:
    """Return log10 k nearest to `middle` with sum sign * k = total; for equal signs the even split."""
    if not signs.any():
        return np.full(len(signs), middle)
    if (signs > 0).all():
        return np.full(len(signs), np.log10(max(total / len(signs), 1e-12)))
    from scipy.optimize import minimize

    start = np.full(len(signs), middle)
    only = {"type": "eq", "fun": lambda x: (signs * 10.0**x).sum() - total}
    best = minimize(lambda x: ((x - middle) ** 2).sum(), start, constraints=[only], method="SLSQP")
    return np.asarray(best.x)
