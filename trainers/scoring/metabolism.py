"""Metrics of a metabolic network with given S, from plain arrays.

Axis letters: M metabolites, R reactions, D embedding, O reactant orders, G grid points, K held-out frames, F frames.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainers.scoring.clusters import kmeans_accuracy, silhouette

Array = NDArray[np.float64]
Metrics = dict[str, float | None]
OUTLIER = 0.3
"""|delta log_k| from which a reaction is an outlier."""
SHORT = 100
"""Frames of the short horizon."""
DISTANCE, NEIGHBOURS = 0.1, 5
"""Of the recorded clustering of embeddings."""
GATE = 0.25
"""What a failed homeostasis, and unseparated embeddings, take off joint_score."""


class Truth(NamedTuple):
    """What only preparation and scoring know."""

    S: Array
    rxn_sub: NDArray[np.int64]
    met_sub: NDArray[np.int64]
    order: Array
    log_k: Array
    types: NDArray[np.int64]
    decay: Array
    baseline: Array
    identifiable: NDArray[np.bool_]
    """Reactions whose rate constant the training frames determine (R,)."""
    grid_c: Array
    """Recorded and visited range (2, G)."""
    grid_sub: Array
    heldout_dc: Array
    heldout_home: Array
    rollout_c: Array
    activity: dict[str, float]
    sample: Array
    """Some frames of the first trajectory (M, .), for the figure."""

    @property
    def n_types(self) -> int:
        """Return how many types the metabolites have."""
        return len(self.decay)

    @property
    def n_sub(self) -> NDArray[np.int64]:
        """Return the number of substrates of each reaction (R,)."""
        return np.bincount(self.rxn_sub, minlength=len(self.log_k))

    def node(self, grid: Array) -> Array:
        """Return the true homeostatic term of each metabolite at concentrations (G,) as (M, G)."""
        lam, base = self.decay[self.types], self.baseline[self.types]
        return -lam[:, None] * (grid[None] - base[:, None])


def load_truth(data_dir: Path) -> Truth:
    """Return the truth of a regime; raises OSError or ValueError when a file is missing or broken."""
    names = ("S", "rxn_sub", "met_sub", "order", "log_k", "types", "decay", "baseline", "identifiable", "heldout_dc",
             "heldout_home", "rollout_c", "sample")  # fmt: skip
    found: dict[str, Any] = {name: np.load(data_dir / "truth" / f"{name}.npy", allow_pickle=False) for name in names}
    grids = {name: np.load(data_dir / "inputs" / f"{name}.npy").astype(np.float64) for name in ("grid_c", "grid_sub")}
    activity = json.loads((data_dir / "truth" / "activity.json").read_text())
    return Truth(**found, **grids, activity=activity)


def score_estimate(estimate: dict[str, Any], truth: Truth) -> Metrics:
    """Return every metric that follows from an estimate's arrays; None where one is not defined.

    Args:
        estimate: `log_k` (R,), `alpha` (1,), `node` (2, M, G), `sub` (O, G_s), `a` (M, D), `sto` (E,); the final one
            also `heldout_dc`, `heldout_home` (K, M) and `rollout_c` (1, F, M).
        truth: of the same regime.
    """
    found = rate_constants(corrected(estimate, truth), truth)
    found["alpha"] = float(estimate["alpha"][0])
    found |= homeostasis(estimate["node"], truth) | embeddings(np.asarray(estimate["a"], dtype=np.float64), truth)
    found |= substrate_curves(estimate["sub"][0], found["alpha"] or 1.0, truth)
    found["stoichiometry_R2"] = _learned_sto(estimate["sto"], truth)
    found["joint_score"] = joint_score(found, truth.n_types)
    if "heldout_dc" in estimate:
        found["one_step_R2"] = explained(estimate["heldout_dc"], truth.heldout_dc)
        found["homeostasis_R2"] = explained(estimate["heldout_home"], truth.heldout_home)
        found |= dynamics(estimate["rollout_c"][0], truth.rollout_c[0])
    return found


# --- rate constants --------------------------------------------------------------------------------------------------


def corrected(estimate: dict[str, Any], truth: Truth) -> Array:
    """Return log_k + n_substrates log10(alpha) (R,): what k is when MLP_sub(1, 1) is 1. Source: reference 16.8."""
    alpha = max(abs(float(estimate["alpha"][0])), 1e-12)
    return np.asarray(estimate["log_k"], dtype=np.float64) + truth.n_sub * np.log10(alpha)


def rate_constants(log_k: Array, truth: Truth) -> Metrics:
    """Return the metrics of corrected log10 rate constants (R,). Source: reference section 2.4."""
    delta, kept = log_k - truth.log_k, truth.identifiable
    near = np.abs(delta) <= OUTLIER
    enough = 2 * int(near.sum()) >= len(delta)
    return {
        "rate_constants_R2": pearson2(log_k, truth.log_k),
        "rate_constants_R2_identifiable": pearson2(log_k[kept], truth.log_k[kept]),
        "rate_constants_R2_strict": explained(log_k[kept], truth.log_k[kept]),
        "trimmed_R2": pearson2(log_k[near], truth.log_k[near]) if enough else None,
        "n_outliers": float((~near).sum()),
        "slope": float(np.polyfit(truth.log_k[near], log_k[near], 1)[0]) if enough else None,
    }


def pearson2(x: Array, y: Array) -> float | None:
    """Return the squared correlation; None where one side does not vary."""
    if len(x) < 2 or not np.ptp(x) or not np.ptp(y):
        return None
    return float(np.corrcoef(x, y)[0, 1] ** 2)


def explained(found: Array, true: Array) -> float:
    """Return 1 - SSE/SST, the variance taken around the mean of each column."""
    true = np.asarray(true, dtype=np.float64)
    spread = float(np.sum((true - true.mean(axis=0)) ** 2))
    return 1.0 - float(np.sum((np.asarray(found, dtype=np.float64) - true) ** 2)) / spread


# --- homeostasis and embeddings --------------------------------------------------------------------------------------


def homeostasis(node: Array, truth: Truth) -> Metrics:
    """Return slopes and offsets by type of learned curves (2, M, G), on the recorded range and the visited one.

    Deviation from the recorded form: the mean over the metabolites of a type of their curves, not the curve at their
    mean embedding, where no metabolite may be.
    """
    found: Metrics = {}
    ratios: dict[int, list[float]] = {0: [], 1: []}
    for part, grid in enumerate(truth.grid_c):
        for t, (decay, base) in enumerate(zip(truth.decay, truth.baseline, strict=True)):
            slope, offset = np.polyfit(grid, node[part][truth.types == t].mean(axis=0), 1)
            ratios[part].append(float(slope / -decay) if decay else np.nan)
            if part == 0:
                found[f"MLP_node_slope_{t}"], found[f"MLP_node_gt_slope_{t}"] = float(slope), -float(decay)
                found[f"MLP_node_slope_ratio_{t}"] = ratios[0][-1] if decay else None
                found[f"MLP_node_offset_ratio_{t}"] = float(offset / (decay * base)) if decay * base else None
    found["avg_slope_ratio"], found["avg_slope_ratio_visited"] = (
        float(np.mean(ratios[part])) if np.isfinite(ratios[part]).all() else None for part in (0, 1)
    )
    return found


def embeddings(a: Array, truth: Truth) -> Metrics:
    """Return how well embeddings (M, D) tell the types; nothing for one type. Source: reference section 2.4."""
    if truth.n_types == 1:
        return {}
    from scipy.optimize import linear_sum_assignment
    from sklearn.cluster import DBSCAN

    labels = DBSCAN(eps=DISTANCE, min_samples=NEIGHBOURS).fit_predict(a)
    named, index = np.unique(labels, return_inverse=True)
    table = np.zeros((truth.n_types, len(named)))
    np.add.at(table, (truth.types, index), 1)
    rows, columns = linear_sum_assignment(-table)
    return {
        "embedding_cluster_acc": float(table[rows, columns].sum() / len(a)),
        "embedding_n_clusters": float((named >= 0).sum()),
        "embedding_cluster_acc_kmeans": kmeans_accuracy(a, truth.types),
        "embedding_silhouette": silhouette(a, truth.types),
    }


def joint_score(found: Metrics, n_types: int) -> float | None:
    """Return rate_constants_R2 less what failed slopes and unseparated embeddings take off, see the metric table."""
    r2 = found["rate_constants_R2"]
    if r2 is None:
        return None
    ratios = [found.get(f"MLP_node_slope_ratio_{t}") for t in range(n_types)]
    known = [r for r in ratios if r is not None]
    off = [1.0 if r <= 0 else 1.0 - float(np.exp(-abs(np.log(r)))) for r in known]
    gate = float(np.mean(off)) if off else 0.0
    accuracy = found.get("embedding_cluster_acc")
    return r2 - GATE * gate - GATE * (1.0 - (1.0 if accuracy is None else accuracy))


# --- functions and dynamics ------------------------------------------------------------------------------------------


def substrate_curves(sub: Array, alpha: float, truth: Truth) -> Metrics:
    """Return how near MLP_sub(c, 1) / alpha (G_s,) is to c on the grid of visited concentrations."""
    curve = np.asarray(sub, dtype=np.float64) / (alpha or 1.0)
    correlation = float(np.corrcoef(curve, truth.grid_sub)[0, 1]) if np.ptp(curve) else None
    return {"MLP_sub_R2": explained(curve, truth.grid_sub), "MLP_sub_corr": correlation}


def _learned_sto(sto: Array, truth: Truth) -> float | None:
    met, rxn = np.nonzero(truth.S)
    true = truth.S[met, rxn]
    return None if np.array_equal(np.asarray(sto), true) else pearson2(np.asarray(sto, dtype=np.float64), true)


def dynamics(rollout: Array, true: Array) -> Metrics:
    """Return the metrics of a rollout (F, M) against the true one; None where it left the finite numbers."""
    found: Metrics = {}
    for tail, frames in (("", len(true)), ("_100", SHORT)):
        right, got = true[:frames], np.asarray(rollout, dtype=np.float64)[:frames]
        if not np.isfinite(got).all() or np.abs(got).max() > 1e12:
            found |= {f"test_R2{tail}": None, f"test_pearson{tail}": None}
            continue
        moving = right.std(axis=0) > 1e-12
        spread = ((right - right.mean(axis=0)) ** 2).sum(axis=0)[moving]
        missed = ((got - right) ** 2).sum(axis=0)[moving]
        found[f"test_R2{tail}"] = float(np.mean(1.0 - missed / spread))
        found[f"test_pearson{tail}"] = float(np.mean(_correlations(got[:, moving], right[:, moving])))
    return found


def _correlations(x: Array, y: Array) -> Array:
    """Return the correlation of each column; 0 where a prediction stands still."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    size = np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))
    return (x * y).sum(axis=0) / np.where(size > 0, size, 1.0)
