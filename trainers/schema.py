"""Metric table of every system, and the generator of `trainers/schema.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainers.metric_spec import MetricSpec, r2
from trainers.schema_homeostasis import HOMEOSTASIS_METRICS, HOMEOSTASIS_TRUTH
from trainers.schema_inr import INR_METRICS, INR_TRUTH
from trainers.schema_stoichiometry import STOICHIOMETRY_METRICS, STOICHIOMETRY_TRUTH
from trainers.sections import describe, fields
from trainers.settings import SYSTEMS
from trainers.yaml_io import write_text

SCHEMA_FILE = Path(__file__).with_name("schema.json")


SIGNAL_METRICS: dict[str, MetricSpec] = {
    "connectivity_R2": r2(
        "Recorded form: Pearson^2 of learned and true W over all N^2 pairs, each column scaled by its sender's learned "
        "or true amplitude. Blind to one global scale.",
        "conn_R2",
    ),
    "connectivity_R2_strict": r2(
        "1 - SSE/SST of the coupling W_ij (e_j(x) - e_j(-x))/2 against g_i W_ij (phi_j(x) - phi_j(-x))/2, "
        "x = 1.5 std(u), off the diagonal; nothing is fitted.",
        "conn_R2_strict",
    ),
    "connectivity_slope": MetricSpec("none", "%.4f", "Slope of learned on true coupling, 1 when the gain is right."),
    "sign_agreement": r2("Fraction of true non-zero weights whose learned sign is right."),
    "support_AUC": r2(
        "Chance that a true non-zero weight is learned larger in size than a true zero (filling factor < 1)."
    ),
    "support_precision": r2(
        "Fraction of the couplings told apart from zero that are truly non-zero (filling factor < 1). The threshold is "
        "where a narrow and a wide normal population of learned couplings are equally likely: the truth is not looked "
        "at. 0 when they look like one population; chance is the filling factor."
    ),
    "support_recall": r2(
        "Fraction of the true non-zero couplings that are told apart from zero, threshold as for support_precision."
    ),
    "U_R2": r2(
        "Low-rank W: 1 - SSE/SST of what targets share, the left factor of the coupling cut to the true rank, rotated "
        "onto the true one; no gauge counts."
    ),
    "V_R2": r2("As U_R2 for the right factor: what sources share."),
    "one_step_R2": r2(
        "1 - SSE/SST of du/dt on held-out frames (the last 10 %), variance taken around each neuron's mean."
    ),
    "test_R2": r2(
        "Second trajectory, 600 frames: mean over every tenth frame of R2 of a line fit across neurons.",
        corrected_by="test_R2_100",
    ),
    "test_pearson": r2(
        "Second trajectory, 600 frames: mean over neurons of the correlation in time.", corrected_by="test_pearson_100"
    ),
    "test_R2_100": r2("test_R2 over the first 100 frames: the system is chaotic, the short horizon is comparable."),
    "test_pearson_100": r2("test_pearson over the first 100 frames."),
    "kinograph_R2": r2("Mean over frames of 1 - SSE/SST across neurons, second trajectory.", "kino_R2"),
    "kinograph_SSIM": r2("Structural similarity of the neuron x time images, second trajectory.", "kino_SSIM"),
    "kinograph_Wasserstein": MetricSpec(
        "min", "%.4f", "Mean over principal modes of the 1-D Wasserstein distance in true standard deviations.",
        ("kino_WD", "kinograph_WD"), "", "standard deviations",
    ),
    "cluster_accuracy": r2(
        "Recorded form: fraction of neurons whose type is the median type of their single-linkage cluster (distance "
        "0.1, embeddings scaled to [0, 1]); not defined for one type.",
        "cluster_acc",
    ),
    "cluster_accuracy_kmeans": r2(
        "Fraction of neurons in the right one of as many k-means clusters of the embeddings as there are types, "
        "matched one to one; not defined for one type.",
        "cluster_acc_kmeans",
    ),
    "embedding_silhouette": r2(
        "Silhouette of the embeddings under the true types: 1 when each type is a group of its own, 0 when they are "
        "mixed; not defined for one type, nor where all embeddings coincide.",
        "silhouette",
    ),
    "final_loss": MetricSpec(
        "min", "%.4e",
        "Mean over the last epoch of the root mean square error of du/dt a neuron and frame, regularisers excluded.",
        (), "", "u/time",
    ),
    "training_time_min": MetricSpec("min", "%.2f", "Wall time of the training loop.", ("time_min",), "", "min"),
    "effective_rank_90": MetricSpec(
        "none", "%d", "Singular values for 90 % of the activity's uncentred variance.", ("eff_rank_90",),
        "effective rank (90% var)", "modes",
    ),
    "effective_rank_99": MetricSpec(
        "none", "%d", "Singular values for 99 % of the activity's uncentred variance.", ("eff_rank",),
        "effective rank (99% var)", "modes",
    ),
    "spectral_radius": MetricSpec(
        "none", "%.3f", "Largest |eigenvalue| of the true W, without the gain g.", (), "spectral radius"
    ),
    "spectral_radius_learned": MetricSpec(
        "none", "%.3f",
        "Largest |eigenvalue| of the learned coupling, gauge removed, in the unit of `spectral radius`, which is its "
        "ideal.",
    ),
}  # fmt: skip

NEEDS_TRUTH: dict[str, frozenset[str]] = {
    "signal": frozenset({
        "connectivity_R2", "connectivity_R2_strict", "connectivity_slope", "sign_agreement", "support_AUC",
        "support_precision", "support_recall", "U_R2", "V_R2", "cluster_accuracy", "cluster_accuracy_kmeans",
        "embedding_silhouette", "spectral_radius", "spectral_radius_learned",
    }),
    "homeostasis": HOMEOSTASIS_TRUTH,
    "stoichiometry": STOICHIOMETRY_TRUTH,
    "inr": INR_TRUTH,
}  # fmt: skip
"""Metrics that compare with true parameters: absent, never zero, on people's own recordings."""

METRICS: dict[str, dict[str, MetricSpec]] = {
    "signal": SIGNAL_METRICS,
    "homeostasis": HOMEOSTASIS_METRICS,
    "stoichiometry": STOICHIOMETRY_METRICS,
    "inr": INR_METRICS,
}


def build() -> dict[str, Any]:
    """Return the content of schema.json."""
    systems: dict[str, Any] = {}
    for system, config in SYSTEMS.items():
        sections: dict[str, dict[str, Any]] = {}
        for section, name, field in fields(config):
            sections.setdefault(section, {})[name] = describe(field)
        metrics = {
            name: spec._asdict()
            | {"aliases": list(spec.aliases), "log_key": spec.log_key or name}
            | {"needs_truth": name in NEEDS_TRUTH[system]}
            for name, spec in METRICS[system].items()
        }
        systems[system] = {
            "generator_version": config.generator_version,
            "cost": config.cost,
            "cost_per": config.cost_per,
            "budget": config.budget,
            "time_limit": config.time_limit,
            "exclusive": config.exclusive,
            "sections": sections,
            "metrics": metrics,
        }
    return {"contract": 1, "systems": systems}


def text() -> str:
    """Return schema.json as it must stand in the repository."""
    return json.dumps(build(), indent=1) + "\n"


def write(path: Path = SCHEMA_FILE) -> None:
    """Rewrite schema.json."""
    write_text(path, text())
