"""Metric table of system `stoichiometry`."""

from __future__ import annotations

from trainers.metric_spec import MetricSpec, r2

STOICHIOMETRY_METRICS: dict[str, MetricSpec] = {
    "stoichiometry_R2": r2(
        "Recorded form: Pearson^2 of learned and true S over the edges that the graph tells (decoys have a true 0). "
        "The graph alone gives 0.8 (signs) to 0.92 (signs and mass balance); both stand in analysis.log.",
        "S_R2",
    ),
    "stoichiometry_R2_strict": r2("1 - SSE/SST of the same; nothing is fitted.", "S_R2_strict"),
    "sign_accuracy": r2("Fraction of true edges whose learned sign is right; 1 by construction with constrain_sign."),
    "exact_match": r2("Fraction of told edges whose learned entry is the true one after rounding."),
    "stoichiometry_R2_reduced": r2(
        "stoichiometry_R2 after each column, learned and true, is scaled to its smallest whole numbers (2 A -> 2 B "
        "becomes A -> B): ratios inside a reaction."
    ),
    "exact_match_reduced": r2("exact_match after the same."),
    "support_AUC": r2("Chance that a true edge is learned larger in size than a decoy."),
    "support_precision": r2(
        "Fraction of the edges told apart from zero that are true; the threshold is where a narrow and a wide normal "
        "population of learned entries are equally likely. 0 when they look like one population; chance is 0.5."
    ),
    "support_recall": r2("Fraction of the true edges that are told apart from zero."),
    "substrate_func_R2": r2(
        "1 - SSE/SST of the rate without constant of a reaction with one substrate on the seed's grid (c 0 to 10, |s| "
        "0 to 3, 50 x 50), scaled to mean 1. Messages alone cannot be compared: rate_func undoes any map of them."
    ),
    "substrate_func_corr": r2("Correlation of the same."),
    "rate_func_R2": r2(
        "1 - SSE/SST of the rates without constants of all reactions at 100 visited states, each scaled to mean 1; "
        "random message vectors have no meaning across models."
    ),
    "rate_func_corr": r2("Correlation of the same."),
    "rate_constants_R2": r2(
        "Pearson^2 of learned and true log10 k, each times the mean of its rate without constant at visited states.",
        "k_R2",
    ),
    "one_step_R2": r2("1 - SSE/SST of dc/dt on held-out frames (the last 10 %, where little moves)."),
    "test_R2": r2("Second trajectory, 600 frames: mean over metabolites of 1 - SSE/SST in time; unbounded below."),
    "test_pearson": r2("Second trajectory, 600 frames: mean over metabolites of the correlation in time."),
    "test_R2_100": r2("test_R2 over the first 100 frames."),
    "test_pearson_100": r2("test_pearson over the first 100 frames."),
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

STOICHIOMETRY_TRUTH = frozenset(STOICHIOMETRY_METRICS) - {
    "one_step_R2", "test_R2", "test_pearson", "test_R2_100", "test_pearson_100", "final_loss", "training_time_min",
    "effective_rank_90", "effective_rank_99",
}  # fmt: skip
"""Metrics that compare with true parameters."""
