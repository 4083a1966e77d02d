"""Metric table of system `homeostasis`."""

from __future__ import annotations

from trainers.metric_spec import MetricSpec, r2
from trainers.settings_homeostasis import TYPES_MAX

_SLOPE = "Slope of the mean MLP_node of the metabolites of type {t} over c from 0 to 40 (recorded range)."


def _best_at_1(description: str, *aliases: str) -> MetricSpec:
    return MetricSpec("target", "%.4f", description, aliases, target=1.0)


def _of_types() -> dict[str, MetricSpec]:
    found: dict[str, MetricSpec] = {}
    for t in range(TYPES_MAX):
        found |= {
            f"MLP_node_slope_{t}": MetricSpec("none", "%.6f", _SLOPE.format(t=t), unit="1/time"),
            f"MLP_node_gt_slope_{t}": MetricSpec("none", "%.6f", f"True slope of type {t}, -lambda.", unit="1/time"),
            f"MLP_node_slope_ratio_{t}": _best_at_1(f"Learned over true slope of type {t}."),
            f"MLP_node_offset_ratio_{t}": _best_at_1(f"Learned over true offset at c = 0 of type {t}."),
        }
    return found


HOMEOSTASIS_METRICS: dict[str, MetricSpec] = {
    "joint_score": r2(
        "rate_constants_R2 gated by the homeostasis: less 0.25 times the mean over types of 1 - exp(-|ln(slope "
        "ratio)|) (1 where the sign is wrong), less 0.25 times 1 - embedding_cluster_acc. A slope ratio is best at 1."
    ),
    "rate_constants_R2": r2(
        "Recorded form: Pearson^2 of learned and true log10 k over all reactions, learned ones after the scalar "
        "correction log_k + n_substrates log10(alpha).",
        "k_R2",
    ),
    "rate_constants_R2_identifiable": r2(
        "The same over the reactions whose rate constant the training frames determine (found from the data)."
    ),
    "rate_constants_R2_strict": r2("1 - SSE/SST of corrected log10 k over the identifiable reactions; nothing fitted."),
    "trimmed_R2": r2("rate_constants_R2 without outliers; not defined if they are more than half."),
    "n_outliers": MetricSpec("min", "%d", "Reactions with |delta log_k| > 0.3 after the correction.", unit="reactions"),
    "slope": _best_at_1("Slope of learned on true log10 k without outliers."),
    "alpha": _best_at_1("MLP_sub(1, 1), the scale that k has taken over."),
    "avg_slope_ratio": _best_at_1("Mean over types of the learned over the true slope.", "slope_ratio"),
    "avg_slope_ratio_visited": _best_at_1(
        "The same with slopes over the concentrations that the training frames visit (5 to 95 %)."
    ),
    **_of_types(),
    "homeostasis_R2": r2("1 - SSE/SST of MLP_node's output against the true homeostatic term on held-out frames."),
    "embedding_cluster_acc": r2(
        "Recorded form: DBSCAN clusters of the embeddings (distance 0.1, 5 neighbours, noise a cluster of its own) "
        "matched one to one with the types.",
        "cluster_acc",
    ),
    "embedding_cluster_acc_kmeans": r2("The same with as many k-means clusters as there are types."),
    "embedding_n_clusters": MetricSpec("none", "%d", "DBSCAN clusters, noise not counted.", unit="clusters"),
    "embedding_silhouette": r2("Silhouette of the embeddings under the true types."),
    "MLP_sub_R2": r2(
        "1 - SSE/SST of MLP_sub(c, 1) / alpha against c over the visited range; c^2 is not compared where no reactant "
        "has order 2 (not excited)."
    ),
    "MLP_sub_corr": r2("Correlation of the same curves."),
    "one_step_R2": r2("1 - SSE/SST of dc/dt on held-out frames (the last 10 %)."),
    "test_R2": r2("Second trajectory, 600 frames: mean over metabolites of 1 - SSE/SST in time; unbounded below.",
                  corrected_by="test_R2_100"),
    "test_pearson": r2("Second trajectory, 600 frames: mean over metabolites of the correlation in time.",
                       corrected_by="test_pearson_100"),
    "test_R2_100": r2("test_R2 over the first 100 frames: the system is chaotic, the short horizon is comparable."),
    "test_pearson_100": r2("test_pearson over the first 100 frames."),
    "stoichiometry_R2": r2("Pearson^2 of learned and true S on the known edges; not defined while S is frozen."),
    "final_loss": MetricSpec(
        "min", "%.4e", "Mean over the last epoch of about the root mean square error of dc/dt, penalties excluded.",
        (), "", "concentration/time",
    ),
    "training_time_min": MetricSpec("min", "%.2f", "Wall time of the training loop.", ("time_min",), "", "min"),
    "effective_rank_90": MetricSpec("none", "%d", "Modes for 90 % of the uncentred variance of c.", ("eff_rank_90",),
                                    "effective rank (90% var)", "modes"),
    "effective_rank_99": MetricSpec("none", "%d", "Modes for 99 % of the uncentred variance of c.", ("eff_rank",),
                                    "effective rank (99% var)", "modes"),
}  # fmt: skip

HOMEOSTASIS_TRUTH = frozenset(HOMEOSTASIS_METRICS) - {
    "one_step_R2", "test_R2", "test_pearson", "test_R2_100", "test_pearson_100", "final_loss", "training_time_min",
    "effective_rank_90", "effective_rank_99", "alpha",
}  # fmt: skip
"""Metrics that compare with true parameters."""
