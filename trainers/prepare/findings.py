"""What the measurements of a regime mean: faults that stop an exploration, marks, and warnings."""

from __future__ import annotations

from trainers.prepare.baselines import Metrics

CONDITION_WARN = 1e4
CONDITION_SLOW = 1e3
"""Ordinary draws have 70 to 340; one with 5.8e3 reached 0.776 where others passed 0.99 (docs/log.md)."""
RANK_WARN, RANK_POOR = 10, 20
"""Effective rank (99 % var) below which activity counts as near a limit cycle, and where it does if the condition
number, too, is above `CONDITION_WARN`. Ordinary draws have 10 to 71 (docs/log.md)."""
ORACLE_TOLERANCE = 1e-6
ONE_FOR_TRUTH = (
    "connectivity_R2", "connectivity_R2_strict", "connectivity_slope", "sign_agreement", "one_step_R2",
    "test_R2", "test_pearson", "test_R2_100", "test_pearson_100", "kinograph_R2", "kinograph_SSIM",
)  # fmt: skip
"""Metrics that the true parameters score 1 on; support_AUC too where it is defined."""
ONE_FOR_PARAMETERS = ("connectivity_R2", "connectivity_R2_strict", "connectivity_slope", "sign_agreement")
"""Those that compare parameters alone: the saved W of legacy data scores 1 on them and explains the data badly."""
ONE_FOR_TYPES = ("cluster_accuracy", "cluster_accuracy_kmeans")
"""Those that are measured where there are several types."""
NULL_MAX = 0.1
NULL_CHECKED = ("connectivity_R2", "connectivity_R2_strict", "one_step_R2")


def legacy_marks(filling: float, oracle: Metrics, ceiling: Metrics) -> list[str]:
    """Return the sentence that every result on data of the legacy switch carries.

    Args:
        filling: declared filling factor, the expected ceiling of connectivity_R2.
        oracle: metrics of the saved W, which did not make the data.
        ceiling: metrics of the W that least squares finds on the data.
    """
    best, explained = (_shown(m[k]) for m, k in ((ceiling, "connectivity_R2"), (oracle, "one_step_R2")))
    return [
        "legacy_sparse_transpose: the data come from W o mask^T while W is saved, as in the recorded simulator; the "
        f"best possible connectivity_R2 is about the filling factor {filling:g} (least squares: {best}), the saved W "
        f"itself has one_step_R2 {explained}, and no result here compares with correct data"
    ]


def _shown(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"


def oracle_fault(oracle: Metrics, names: tuple[str, ...] = ONE_FOR_TRUTH) -> str | None:
    """Return a sentence when the true parameters do not score 1 on one of the metrics `names`."""
    for name in (*names, *(n for n in ONE_FOR_TYPES if n in oracle)):
        value = oracle[name]
        if value is None or not abs(value - 1.0) < ORACLE_TOLERANCE:
            return f"the true parameters score {value} on {name} instead of 1: the metric or the data are wrong"
    return None


def null_fault(null: Metrics, names: tuple[str, ...] = NULL_CHECKED) -> str | None:
    """Return a sentence when an untrained model already scores on one of the metrics `names`."""
    for name in names:
        value = null[name]
        if value is None or value > NULL_MAX:
            return (
                f"an untrained model scores {value} on {name} (at most {NULL_MAX:g}): the metric can be had for nothing"
            )
    return None


def warnings(active: dict[str, float], ceiling: Metrics) -> list[str]:
    """Return sentences about data that are poor in information: they warn and stop nothing."""
    found = []
    condition, rank = active["condition_number"], active["effective_rank_99"]
    if rank < RANK_WARN or (condition > CONDITION_WARN and rank < RANK_POOR):
        found.append(f"effective rank (99% var) is {rank:.0f} (ordinary draws: {RANK_WARN} or more) and the condition "
                     f"number of the sent activity {condition:.1e}: the activity is near a limit cycle, and tells "
                     "little about W; try another draw with SEED=")  # fmt: skip
    elif condition > CONDITION_WARN:
        found.append(f"condition number of the sent activity is {condition:.1e} (above {CONDITION_WARN:.0e}): W is "
                     "poorly determined by these data")  # fmt: skip
    elif condition > CONDITION_SLOW:
        found.append(f"condition number of the sent activity is {condition:.1e} (ordinary draws: below 1e3): the data "
                     "determine W, but gradient training gets there slowly; try another draw with SEED=")  # fmt: skip
    best = ceiling["connectivity_R2"]
    if best is None or best < 0.999:
        found.append(f"least squares with everything else known reaches connectivity_R2 {best} on these data")
    return found


def own_warnings(active: dict[str, float]) -> list[str]:
    """Return sentences about a recording that is poor in information."""
    rank = active["effective_rank_99_centred"]
    if rank >= RANK_WARN:
        return []
    return [f"{rank:.0f} modes hold 99 % of the variance (below {RANK_WARN}): the activity says little about a W of "
            f"{active['n_neurons']:.0f} neurons"]  # fmt: skip
