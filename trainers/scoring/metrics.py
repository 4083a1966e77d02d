"""Metrics of the neural signal system, from plain arrays.

Axis letters: N neurons, G grid points, K held-out frames, R rollouts, F rollout frames.

The couplings that are compared do not depend on the gauge (W -> c W, lin_edge -> lin_edge / c + d): column j of W is
multiplied by c_j = (e_j(x) - e_j(-x)) / 2, half of what sender j's message changes between activity -x and x.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainers.scoring.clusters import kmeans_accuracy, recorded_accuracy, silhouette
from trainers.scoring.support import precision_recall, threshold

Array = NDArray[np.float64]
Metrics = dict[str, float | None]
STEP = 10
"""test_R2 looks at every tenth frame."""
SHORT = 100
"""Frames of the short horizon."""
SOURCE = "truth/source.json"
"""Names a recording of one's own, there instead of the arrays of a known system."""
MODES_MAX = 20
MODES_PART = 0.99


class Truth(NamedTuple):
    """What only preparation and scoring know. Of people's own recordings the system is not known: `W` is None then."""

    grid_u: Array
    xnorm: float
    heldout_du: Array
    rollout_u: Array
    activity: dict[str, float]
    sample: Array
    """Some frames of the first trajectory (N, .), for the figure."""
    W: Any = None
    types: Any = None
    params: Any = None
    lin_edge: Any = None
    lin_phi: Any = None

    @property
    def known(self) -> bool:
        """Return whether the system behind the data is known."""
        return self.W is not None

    def coupling(self) -> Array:
        """Return g_i W_ij, what multiplies the sent activity (N, N); g is the third number of a type's row."""
        return self.params[self.types][:, 2:3] * self.W

    @property
    def n_types(self) -> int:
        """Return how many types the neurons have."""
        return len(np.unique(self.types)) if self.known else 1

    @property
    def n_neurons(self) -> int:
        """Return N."""
        return int(self.heldout_du.shape[1])


def load_truth(data_dir: Path) -> Truth:
    """Return the truth of a regime; raises OSError or ValueError when a file is missing or broken."""

    def array(name: str) -> Any:
        return np.load(data_dir / name, allow_pickle=False)

    names = () if (data_dir / SOURCE).is_file() else ("W", "types", "params", "lin_edge", "lin_phi")
    system = {name: array(f"truth/{name}.npy") for name in names}
    if system:
        system["W"] = system["W"].astype(np.float64)
    return Truth(
        **system,
        grid_u=array("inputs/grid_u.npy").astype(np.float64),
        xnorm=float(array("truth/xnorm.npy")),
        heldout_du=array("truth/heldout_du.npy").astype(np.float64),
        rollout_u=array("truth/rollout_u.npy"),
        activity=json.loads((data_dir / "truth" / "activity.json").read_text()),
        sample=array("truth/activity.npy"),
    )


def score_estimate(estimate: dict[str, Any], truth: Truth) -> Metrics:
    """Return every metric that follows from an estimate's arrays; None where one is not defined.

    Args:
        estimate: `W` (N, N), `lin_edge` (N, G), `a` (N, D) where there are embeddings, and for the final one
            `heldout_du` (K, N), `rollout_u` (R, F, N).
        truth: of the same regime; without a known system the metrics that compare with it are left out.
    """
    found = connectivity(estimate["W"], estimate["lin_edge"], truth) if truth.known else {}
    if "a" in estimate and truth.n_types > 1:
        a = np.asarray(estimate["a"], dtype=np.float64)
        found["cluster_accuracy"] = recorded_accuracy(a, truth.types)
        found["cluster_accuracy_kmeans"] = kmeans_accuracy(a, truth.types)
        found["embedding_silhouette"] = silhouette(a, truth.types)
    if "heldout_du" in estimate:
        found["one_step_R2"] = one_step_r2(estimate["heldout_du"], truth.heldout_du)
    if "rollout_u" in estimate:
        found |= dynamics(np.asarray(estimate["rollout_u"], dtype=np.float64), truth.rollout_u)
    return found


# --- connectivity ----------------------------------------------------------------------------------------------------


def amplitude(curves: Array, grid: Array, x: float) -> Array:
    """Return c_j = (e_j(x) - e_j(-x)) / 2 of curves (N, G) on a grid (G,), linear between grid points (N,)."""
    at = np.array([[np.interp(u, grid, row) for u in (-x, x)] for row in np.asarray(curves, dtype=np.float64)])
    return (at[:, 1] - at[:, 0]) / 2


def learned_couplings(W: Array, lin_edge: Array, truth: Truth) -> Array:
    """Return learned gauge-free couplings (N, N)."""
    return np.asarray(W, dtype=np.float64) * amplitude(lin_edge, truth.grid_u, truth.xnorm)


def couplings(W: Array, lin_edge: Array, truth: Truth) -> tuple[Array, Array]:
    """Return learned and true gauge-free couplings, each (N, N)."""
    learned = learned_couplings(W, lin_edge, truth)
    right = truth.coupling() * amplitude(truth.lin_edge, truth.grid_u, truth.xnorm)
    return learned, right


def connectivity(W: Array, lin_edge: Array, truth: Truth) -> Metrics:
    """Return the metrics of the learned connectivity.

    `connectivity_R2` is the recorded form: Pearson^2 over all N^2 pairs of W times c_j. The true W has its gain g_i: a
    learned W cannot tell them apart, and where all types have one gain it changes nothing. The strict form compares
    the couplings themselves, off the diagonal, and fits nothing.

    Source: reference sections 6.1 and 16.5.
    """
    learned, right = couplings(W, lin_edge, truth)
    off = ~np.eye(len(right), dtype=bool)
    a, b = learned[off], right[off]
    real = b != 0.0
    precision, recall = None, None
    if not real.all():
        limit = threshold(a)
        precision, recall = precision_recall(np.abs(a) > (np.inf if limit is None else limit), real)
    return {
        "connectivity_R2": pearson(learned.ravel(), right.ravel()) ** 2,
        "connectivity_R2_strict": r2(a, b, b.mean()),
        "connectivity_slope": float(np.cov(a, b)[0, 1] / np.var(b, ddof=1)),
        "sign_agreement": float(np.mean(np.sign(a[real]) == np.sign(b[real]))),
        "support_AUC": auc(np.abs(a[real]), np.abs(a[~real])),
        "support_precision": precision,
        "support_recall": recall,
    }


def spectra(W: Array, lin_edge: Array, truth: Truth) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """Return the eigenvalues of the learned and of the true coupling, each (N,), in the unit of the true W's own.

    Both are divided by the number that gives the true coupling the spectral radius of the true W (for one type: by the
    gain and the amplitude, and the second is then exactly the spectrum of W). No gauge counts.

    Cost: O(N^3).
    """
    learned, right = (np.linalg.eigvals(matrix) for matrix in couplings(W, lin_edge, truth))
    scale = float(np.abs(np.linalg.eigvals(truth.W)).max()) / (float(np.abs(right).max()) or 1.0)
    return learned * scale, right * scale


def factors(W: Array, lin_edge: Array, truth: Truth, rank: int) -> Metrics:
    """Return how well the factors of a low-rank coupling are learned: `U_R2` (targets) and `V_R2` (sources).

    Learned and true coupling, gauge removed, are cut to `rank` by singular values, U = u sqrt(s) and V = v sqrt(s)
    (N, rank); each learned factor is rotated onto the true one and then compared: 1 - SSE/SST, SST around 0.

    Source: reference section 6.5. Deviation: couplings, so that no gauge counts. Cost: O(N^3).
    """
    from scipy.linalg import orthogonal_procrustes

    halves = []
    for matrix in couplings(W, lin_edge, truth):
        u, s, v = np.linalg.svd(matrix)
        size = np.sqrt(s[:rank])
        halves.append((u[:, :rank] * size, v[:rank].T * size))
    scores = [
        r2(found @ orthogonal_procrustes(found, right)[0], right, 0.0) for found, right in zip(*halves, strict=True)
    ]
    return {"U_R2": scores[0], "V_R2": scores[1]}


def r2(found: Array, right: Array, centre: Array | float) -> float:
    """Return 1 - SSE/SST of `found` against `right`, SST around `centre`."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return float(1.0 - np.sum((found - right) ** 2) / np.sum((right - centre) ** 2))


def pearson(a: Array, b: Array) -> float:
    """Return the correlation of two vectors; 0 when one of them is constant."""
    a, b = a - a.mean(), b - b.mean()
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.clip(a @ b / size, -1.0, 1.0)) if size > 0.0 else 0.0


def auc(positive: Array, negative: Array) -> float | None:
    """Return the chance that a positive is larger than a negative, ties counted half; None without either."""
    if len(positive) == 0 or len(negative) == 0:
        return None
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, side="left")
    upto = np.searchsorted(ordered, positive, side="right")
    return float(np.mean(below + upto) / (2 * len(negative)))


# --- dynamics --------------------------------------------------------------------------------------------------------


def one_step_r2(found: Array, right: Array) -> float:
    """Return 1 - SSE/SST of du/dt (K, N), SST around each neuron's mean over the frames."""
    return r2(np.asarray(found, dtype=np.float64), right, right.mean(axis=0))


def dynamics(found: Array, right: Array) -> Metrics:
    """Return the rollout and kinograph metrics, means over rollouts (R, F, N); not finite frames count as failed."""
    each = [_rollout(f, t) for f, t in zip(found, right, strict=True)]
    return {name: float(np.mean([one[name] for one in each])) for name in each[0]}


def _rollout(found: Array, right: Array) -> dict[str, float]:
    return {
        "test_R2": test_r2(found, right),
        "test_pearson": test_pearson(found, right),
        "test_R2_100": test_r2(found[: SHORT + 1], right[: SHORT + 1]),
        "test_pearson_100": test_pearson(found[:SHORT], right[:SHORT]),
        "kinograph_R2": kinograph_r2(found, right),
        "kinograph_SSIM": kinograph_ssim(found, right),
        "kinograph_Wasserstein": kinograph_wasserstein(found, right),
    }


def test_r2(found: Array, right: Array) -> float:
    """Return the mean over every tenth frame of the R2 of a line fit across neurons (F, N).

    The line is fitted to the neurons whose residual is within three standard deviations and R2 taken over all. A frame
    that is not finite, larger than 1e6, or has no spread counts 0.

    Source: reference sections 6.3 and 16.6 (recorded form, there against a trajectory of a transposed W).
    """
    values = []
    for t in range(STEP, len(right), STEP):
        gt, pred = right[t], found[t]
        if not np.isfinite(pred).all() or np.abs(pred).max() > 1e6 or pred.std() < 1e-6 or gt.std() < 1e-6:
            values.append(0.0)
            continue
        residual = pred - gt - np.mean(pred - gt)
        kept = np.abs(residual) <= 3 * residual.std() + 1e-9
        slope, offset = np.polyfit(gt[kept], pred[kept], 1)
        values.append(max(-1.0, r2(slope * gt + offset, pred, pred.mean())))
    return float(np.mean(values))


def test_pearson(found: Array, right: Array) -> float:
    """Return the mean over neurons of the correlation in time (F, N); a trace that is not finite counts 0."""
    pairs = zip(found.T, right.T, strict=True)
    return float(np.mean([pearson(f, r) if np.isfinite(f).all() else 0.0 for f, r in pairs]))


def kinograph_r2(found: Array, right: Array) -> float:
    """Return the mean over frames of 1 - SSE/SST across neurons (F, N); NaN for a rollout that is not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        sse = np.sum((found - right) ** 2, axis=1)
        sst = np.sum((right - right.mean(axis=1, keepdims=True)) ** 2, axis=1)
        return float(np.mean(1.0 - sse / sst))


def kinograph_ssim(found: Array, right: Array) -> float:
    """Return the structural similarity of the neuron x time images (F, N), data range 2 max|u|."""
    from skimage.metrics import structural_similarity

    if not np.isfinite(found).all():
        return float("nan")
    if min(right.shape) < 7:  # the window of the similarity
        return float("nan")
    return float(structural_similarity(right.T, found.T, data_range=2 * np.abs(right).max()))


def kinograph_wasserstein(found: Array, right: Array) -> float:
    """Return the mean 1-D Wasserstein distance along the true principal modes, in true standard deviations (F, N).

    Modes up to 99 % of the variance, at most 20. Source: reference section 6.4.
    """
    from scipy.stats import wasserstein_distance

    if not np.isfinite(found).all():
        return float("nan")
    mean = right.mean(axis=0)
    _, s, modes = np.linalg.svd(right - mean, full_matrices=False)
    share = np.cumsum(s**2) / np.sum(s**2)
    count = min(MODES_MAX, int(np.searchsorted(share, MODES_PART)) + 1)
    on_true, on_found = (right - mean) @ modes[:count].T, (found - mean) @ modes[:count].T
    pairs = zip(on_found.T, on_true.T, strict=True)
    return float(np.mean([wasserstein_distance(f, t) / t.std() for f, t in pairs]))
