"""Metrics of a metabolic network with learned S, from plain arrays.

Axis letters: M metabolites, R reactions, E told edges, G grid points, V visited states, K held-out frames, F frames.

Gauges. S and k share a scale for each reaction while rates are flat; `stoichiometry_R2` looks at S as it is, and
`stoichiometry_R2_reduced` at its columns in smallest whole numbers. Messages have no meaning of their own: rate_func
undoes any map of them, so neither network is compared alone. Compared are rates without their constants, each
scaled to a mean of 1: on the grid of (c, |s|) for a reaction with that one substrate (`substrate_func_*`), and of
every reaction at visited states (`rate_func_*`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainers.scoring.metabolism import Array, Metrics, dynamics, explained, pearson2
from trainers.scoring.metrics import auc
from trainers.scoring.support import precision_recall, threshold

LARGEST = 6
"""Largest entry of a column in smallest whole numbers: 3 substrates with 2 each make one product."""
NEAR = 0.2
"""A column is in whole numbers when none of its entries is farther than this from one."""


class Truth(NamedTuple):
    """What only preparation and scoring know."""

    S: Array
    edges: NDArray[np.int64]
    """Metabolite and reaction of each told edge (2, E)."""
    sto: Array
    """True S on the told edges, 0 on decoys (E,)."""
    is_substrate: NDArray[np.bool_]
    """Told edges that are told to be substrates (E,)."""
    log_k: Array
    rate_pair: Array
    """True rate without constant of a single substrate (G,)."""
    rate_visited: Array
    """True rates without constants at visited states (V, R)."""
    grid_pair: Array
    heldout_dc: Array
    rollout_c: Array
    activity: dict[str, float]
    sample: Array
    """Some frames of the first trajectory (M, .), for the figure."""
    types: NDArray[np.int64]

    @property
    def has_decoys(self) -> bool:
        """Return whether false edges are told."""
        return bool((self.sto == 0).any())


def load_truth(data_dir: Path) -> Truth:
    """Return the truth of a regime; raises OSError or ValueError when a file is missing or broken."""
    names = ("S", "log_k", "rate_pair", "rate_visited", "heldout_dc", "rollout_c", "sample", "types")
    found: dict[str, Any] = {name: np.load(data_dir / "truth" / f"{name}.npy", allow_pickle=False) for name in names}
    edges, sto, met_sub, rxn_sub = (
        np.load(data_dir / "truth" / f"{name}.npy", allow_pickle=False)
        for name in ("told_edges", "told_sto", "met_sub", "rxn_sub")
    )
    place = edges[0] * len(found["log_k"]) + edges[1]
    return Truth(
        **found,
        edges=edges,
        sto=sto,
        is_substrate=np.isin(place, met_sub * len(found["log_k"]) + rxn_sub),
        grid_pair=np.load(data_dir / "inputs" / "grid_pair.npy").astype(np.float64),
        activity=json.loads((data_dir / "truth" / "activity.json").read_text()),
    )


def score_estimate(estimate: dict[str, Any], truth: Truth) -> Metrics:
    """Return every metric that follows from an estimate's arrays; None where one is not defined.

    Args:
        estimate: `sto` (E,), `log_k` (R,), `rate_pair` (G,), `rate_visited` (V, R); the final one also `heldout_dc`
            (K, M) and `rollout_c` (1, F, M).
        truth: of the same regime.
    """
    found = matrices(np.asarray(estimate["sto"], dtype=np.float64), truth)
    found |= functions(estimate, truth)
    if "heldout_dc" in estimate:
        found["one_step_R2"] = explained(estimate["heldout_dc"], truth.heldout_dc)
        found |= dynamics(estimate["rollout_c"][0], truth.rollout_c[0])
    return found


# --- stoichiometry ---------------------------------------------------------------------------------------------------


def matrices(sto: Array, truth: Truth) -> Metrics:
    """Return the metrics of a learned S on the told edges (E,)."""
    true, real = truth.sto, truth.sto != 0
    known, right = reduced(sto, truth), reduced(true, truth)
    return {
        "stoichiometry_R2": pearson2(sto, true),
        "stoichiometry_R2_strict": explained(sto, true),
        "sign_accuracy": float(np.mean(np.sign(sto[real]) == np.sign(true[real]))),
        "exact_match": float(np.mean(np.round(sto) == true)),
        "stoichiometry_R2_reduced": pearson2(known, right),
        "exact_match_reduced": float(np.mean(np.round(known) == np.round(right))),
    } | _support(sto, real)


def _support(sto: Array, real: NDArray[np.bool_]) -> Metrics:
    """Return how well sizes tell true edges from decoys; nothing without decoys."""
    if real.all():
        return {}
    limit = threshold(sto)
    precision, recall = precision_recall(np.abs(sto) > (np.inf if limit is None else limit), real)
    return {"support_AUC": auc(np.abs(sto[real]), np.abs(sto[~real])), "support_precision": precision,
            "support_recall": recall}  # fmt: skip


def reduced(sto: Array, truth: Truth) -> Array:
    """Return S with each column scaled to the smallest whole numbers that its entries are near to (E,).

    The largest entry becomes 1, 2, ... or `LARGEST`: the first for which every entry is within `NEAR` of a whole number
    (not 0, unless decoys are told), else the one for which the farthest entry is nearest. The truth's values are not
    looked at. Columns of 2s become columns of 1s.
    """
    found, least = np.array(sto, dtype=np.float64), 0.0 if truth.has_decoys else 1.0
    for j in range(len(truth.log_k)):
        mine = np.flatnonzero(truth.edges[1] == j)
        size = float(np.abs(found[mine]).max(initial=0.0))
        if size == 0.0:
            continue
        forms = found[mine] / size * np.arange(1, LARGEST + 1)[:, None]
        whole = np.maximum(np.round(np.abs(forms)), least)
        off = np.abs(np.abs(forms) - whole).max(axis=1)
        near = np.flatnonzero(off < NEAR)
        found[mine] = forms[near[0] if len(near) else int(off.argmin())]
    return found


# --- functions -------------------------------------------------------------------------------------------------------


def scaled(rates: Any) -> Array:
    """Return rates divided by their mean over the first axis: their scale belongs to k."""
    rates = np.asarray(rates, dtype=np.float64)
    return rates / np.maximum(rates.mean(axis=0), 1e-300)


def functions(estimate: dict[str, Any], truth: Truth) -> Metrics:
    """Return the metrics of the rate functions and of the rate constants.

    rate_constants: log10 of k times the mean rate without constant over the visited states.
    """
    pair, right_pair = scaled(estimate["rate_pair"]), scaled(truth.rate_pair)
    visited, right = scaled(estimate["rate_visited"]).ravel(), scaled(truth.rate_visited).ravel()
    return {
        "substrate_func_R2": explained(pair, right_pair),
        "substrate_func_corr": correlation(pair, right_pair),
        "rate_func_R2": explained(visited, right),
        "rate_func_corr": correlation(visited, right),
        "rate_constants_R2": pearson2(*constants(estimate, truth)),
    }


def constants(estimate: dict[str, Any], truth: Truth) -> tuple[Array, Array]:
    """Return learned and true log10 k (R,), each with the mean of its rate at visited states taken in."""
    learned = np.asarray(estimate["rate_visited"], dtype=np.float64).mean(axis=0)
    mine = np.asarray(estimate["log_k"], dtype=np.float64) + np.log10(np.maximum(learned, 1e-300))
    return mine, truth.log_k + np.log10(truth.rate_visited.mean(axis=0))


def correlation(x: Array, y: Array) -> float | None:
    """Return the correlation; None where one side does not vary."""
    return float(np.corrcoef(x, y)[0, 1]) if np.ptp(x) > 1e-12 and np.ptp(y) > 1e-12 else None
