"""Score a run: read its estimates, write analysis.log, plots and result.json."""

from __future__ import annotations

import hashlib
import json
import math
import time
from pathlib import Path
from typing import Any

from trainers.errors import RefusedError
from trainers.order import Order, read_order
from trainers.schema import METRICS, NEEDS_TRUTH, MetricSpec
from trainers.scoring import estimates
from trainers.scoring.metrics import Truth, factors, load_truth, score_estimate, spectra
from trainers.yaml_io import write_text

Value = tuple[float | None, str | None]
"""A metric: a finite number, or None with the reason."""
NO_TRUTH = "no truth: your own data"
OF_TYPES = ("cluster_accuracy", "cluster_accuracy_kmeans", "embedding_silhouette")
MEMORY_LIMIT = 2**50
KEYS_MAX = 200


def score(run_dir: Path, data_dir: Path) -> dict[str, Any]:
    """Score `run_dir` against `data_dir`; return and write result.json (last).

    Raises:
        RefusedError: an estimate, train.json or the data cannot be used; no result.json is then written.
    """
    started = time.monotonic()
    order = read_order(run_dir)
    truth, preflight = _truth(data_dir)
    out = run_dir / "out"
    trained = _trained(estimates.read_json(out / "train.json"))
    shapes = _shapes(truth)
    final = estimates.read_estimate(out / "estimate.npz", shapes)
    found: dict[str, float | None] = score_estimate(final, truth)
    found |= {"final_loss": trained["final_loss"], "training_time_min": trained["training_time_s"] / 60}
    described = ("effective_rank_90", "effective_rank_99", "spectral_radius")
    found |= {name: truth.activity.get(name) for name in described}
    eigenvalues = spectra(final["W"], final["lin_edge"], truth) if truth.known else None
    if eigenvalues:
        found["spectral_radius_learned"] = float(abs(eigenvalues[0]).max())
    rank = _rank(order)
    if rank and truth.known:
        found |= factors(final["W"], final["lin_edge"], truth, rank)
    absent = frozenset() if truth.known else NEEDS_TRUTH[order.system]
    metrics = {
        name: (None, NO_TRUTH) if name in absent else _value(name, found.get(name), truth)
        for name in METRICS[order.system]
    }
    measured = time.monotonic()
    log = log_text(order, truth, preflight, trained, metrics)
    write_text(run_dir / "analysis.log", log)
    plots = draw(run_dir, truth, final, shapes, found, eigenvalues)
    result = {
        "contract": 1,
        "iteration": order.iteration,
        "attempt": order.attempt,
        "metrics": {
            name: {"value": value, "reason": reason, "version": METRICS[order.system][name].version}
            for name, (value, reason) in metrics.items()
        },
        "keys_read": trained["keys_read"],
        "keys_idle": trained["keys_idle"],
        "timings": {
            "train": trained["training_time_s"] if math.isfinite(trained["training_time_s"]) else None,
            "metrics": round(measured - started, 3),
            "plots": round(time.monotonic() - measured, 3),
        },
        "versions": trained["versions"],
        "device": trained["device"],
        "memory_bytes": trained["peak_memory_bytes"],
        "data_fingerprint": preflight.get("fingerprint"),
        "analysis_log_sha256": hashlib.sha256(log.encode()).hexdigest(),
        "plots": plots,
        "marks": _marks(preflight),
    }
    write_text(run_dir / "result.json", json.dumps(result, indent=1, allow_nan=False) + "\n")
    return result


def _truth(data_dir: Path) -> tuple[Truth, dict[str, Any]]:
    try:
        return load_truth(data_dir), json.loads((data_dir / "preflight.json").read_text())
    except (OSError, ValueError, KeyError) as error:
        raise RefusedError(f"{data_dir} is not a complete regime ({error}); prepare it again") from error


def _marks(preflight: dict[str, Any]) -> list[str]:
    """Return the sentences that every result on these data carries (preflight.json `marks`)."""
    return [str(mark) for mark in preflight.get("marks") or []]


def _trained(content: dict[str, Any]) -> dict[str, Any]:
    """Return train.json with every field in its type, whatever the training wrote."""
    loss, seconds = _float(content.get("final_loss")), _float(content.get("training_time_s"))
    texts = {k: v for k, v in content.items() if k in ("keys_idle", "versions") and isinstance(v, dict)}
    keys, memory = content.get("keys_read"), content.get("peak_memory_bytes")
    return {
        "final_loss": loss,
        "training_time_s": seconds if seconds is not None and seconds >= 0 else math.nan,
        "keys_read": list(map(estimates.line_of, keys[:KEYS_MAX])) if isinstance(keys, list) else [],
        "keys_idle": _texts(texts.get("keys_idle", {})),
        "versions": _texts(texts.get("versions", {})),
        "device": estimates.line_of(content.get("device")),
        "counts": _counts(content.get("counts")),
        "peak_memory_bytes": memory if type(memory) is int and 0 <= memory < MEMORY_LIMIT else None,
    }


def _float(value: Any) -> float | None:
    try:
        return float(value) if type(value) in (int, float) else None
    except OverflowError:  # a whole number of 400 digits
        return None


def _counts(found: Any) -> dict[str, float]:
    """Return the finite, non-negative numbers of an object by name, whatever else stands in it."""
    if not isinstance(found, dict):
        return {}
    known = {estimates.line_of(k): _float(v) for k, v in list(found.items())[:KEYS_MAX]}
    return {k: v for k, v in known.items() if v is not None and 0.0 <= v < estimates.COUNT_MAX}


def _texts(found: dict[Any, Any]) -> dict[str, str]:
    return {estimates.line_of(k): estimates.line_of(v) for k, v in list(found.items())[:KEYS_MAX]}


def _shapes(truth: Truth) -> dict[str, tuple[int | None, ...]]:
    n, g = truth.n_neurons, len(truth.grid_u)
    return {"W": (n, n), "a": (n, None), "lin_edge": (n, g), "lin_phi": (n, g),
            "heldout_du": truth.heldout_du.shape, "rollout_u": truth.rollout_u.shape}  # fmt: skip


def _rank(order: Order) -> int:
    """Return the rank of a low-rank W, 0 for any other."""
    simulation = order.config.simulation.model_dump()
    return int(simulation.get("connectivity_rank", 0)) if simulation["connectivity_type"] == "low_rank" else 0


def _value(name: str, value: float | None, truth: Truth) -> Value:
    if name in OF_TYPES and truth.n_types == 1:
        return None, "one neuron type"
    if value is None and name == "embedding_silhouette":
        return None, "all embeddings coincide, or as many types as neurons"
    if value is None and name in ("U_R2", "V_R2"):
        return None, "W is not of low rank"
    if value is None:
        full = name.startswith("support_") and "every entry of the true W may be non-zero"
        return None, full or "not measured"
    if math.isfinite(value):
        return float(value), None
    return None, "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"


def log_text(order: Order, truth: Truth, preflight: dict[str, Any], trained: dict[str, Any],
             metrics: dict[str, Value]) -> str:  # fmt: skip
    """Return analysis.log: simulation, training, test and connectivity in the recorded order and spelling."""
    specs, t, active = METRICS[order.system], order.config.training, truth.activity

    def line(name: str) -> str:
        return f"{specs[name].log_key or name}: {shown(specs[name], metrics[name])}"

    def limits(label: str, source: str, *names: str) -> list[str]:
        known = preflight.get(source) or {}
        return [f"  {label} {name}: {_number(known.get(name))}" for name in names]

    rollout = ("test_R2", "test_pearson", "test_R2_100", "test_pearson_100")
    lines = [
        *(f"mark: {mark}" for mark in _marks(preflight)),
        line("spectral_radius"),
        "--- activity ---",
        f"  shape: ({active['n_frames']:.0f}, {active['n_neurons']:.0f})",
        f"  range: [{active['u_min']:.3f}, {active['u_max']:.3f}]",
        f"  {line('effective_rank_90')}",
        f"  {line('effective_rank_99')}",
        "--- training ---",
        line("training_time_min"),
        *(f"{name}: {getattr(t, name)}" for name in ("n_epochs", "data_augmentation_loop", "batch_size")),
        *_rollout_lines(t, trained["counts"]),
        f"learning_rate_W: {t.learning_rate_W_start}",
        f"learning_rate: {t.learning_rate_start}",
        *(f"{name}: {getattr(t, name)}" for name in ("coeff_W_L1", "coeff_edge_diff")),
        *(f"idle key {name}: n/a ({reason})" for name, reason in trained["keys_idle"].items()),
        "--- test ---",
        *map(line, ("test_R2", "test_pearson", "test_R2_100", "test_pearson_100", "one_step_R2",
                    "kinograph_R2", "kinograph_SSIM", "kinograph_Wasserstein")),
        "--- connectivity ---",
        *map(line, ("cluster_accuracy", "cluster_accuracy_kmeans", "embedding_silhouette",
                    "connectivity_R2", "connectivity_R2_strict", "connectivity_slope", "sign_agreement",
                    "support_AUC", "support_precision", "support_recall", "U_R2", "V_R2",
                    "spectral_radius_learned", "final_loss")),
        "--- limits of these data ---",
        *limits("ceiling", "ceiling", "connectivity_R2", "one_step_R2"),
        *limits("ceiling", "ceiling", *rollout, "kinograph_R2"),  # the true W rolled out as the model is
        *limits("untrained", "null", "connectivity_R2", "test_R2", "test_pearson"),
        *limits("linear fit", "baselines", "connectivity_R2", "one_step_R2"),
        *limits("standing still", "baselines", "test_R2", "test_R2_100"),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _rollout_lines(training: Any, counts: dict[str, float]) -> list[str]:
    """Return what analysis.log says about the rollouts that were trained on."""
    names = ["time_step", "recurrent_training"]
    if not training.neural_ODE_training:
        return [f"{name}: {getattr(training, name)}" for name in names]
    evaluations = counts.get("ode_function_evaluations")
    return [
        *(f"{name}: {getattr(training, name)}" for name in (*names, "neural_ODE_training", "ode_method")),
        f"ode_function_evaluations: {'n/a (not counted)' if evaluations is None else f'{evaluations:.1f}'}",
    ]


def shown(spec: MetricSpec, value: Value) -> str:
    """Return a metric as analysis.log spells it."""
    number, reason = value
    if number is not None:
        return spec.format % number
    return str(reason) if reason in ("nan", "inf", "-inf") else f"n/a ({reason})"


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) else "n/a (not measured)"


def draw(run_dir: Path, truth: Truth, final: dict[str, Any], shapes: dict[str, tuple[int | None, ...]],
         scores: dict[str, float | None], eigenvalues: tuple[Any, Any] | None) -> list[str]:  # fmt: skip
    """Write the figures of every moment; return their paths below the run folder."""
    from trainers.scoring import plots

    out, folder = run_dir / "out", run_dir / "plots"
    learned = {name: shapes[name] for name in estimates.LEARNED}
    moments = [estimates.read_estimate(path, learned) for path in estimates.list_moments(out / "estimates")]
    for estimate in (*(m for m in moments if m["step"] != final["step"]), final):
        tag = f"{estimate['epoch']}_{estimate['step']}"
        where = f"epoch {estimate['epoch']}, step {estimate['step']}"
        now = scores if estimate is final else score_estimate(estimate, truth)
        if truth.known:
            plots.plot_comparison(estimate, truth, now, where, folder / "matrix" / f"comparison_{tag}.png")
        plots.plot_matrix(estimate, truth, where, folder / "matrix" / f"matrix_{tag}.png")
        plots.plot_edge_function(estimate, truth, where, folder / "function" / "MLP1" / f"func_{tag}.png")
        plots.plot_self_function(estimate, truth, where, folder / "function" / "MLP0" / f"func_{tag}.png")
        if truth.n_types > 1:
            plots.plot_embedding(estimate, truth, now, where, folder / "embedding" / f"embedding_{tag}.png")
    plots.plot_loss(estimates.read_progress(out / "progress.jsonl"), folder / "loss.png")
    plots.plot_activity(truth, folder / "activity.png")
    if eigenvalues:
        plots.plot_eigenvalues(*eigenvalues, folder / "eigenvalues.png")
    if scores.get("support_AUC") is not None:
        plots.plot_support(final, truth, scores, folder / "support.png")
    plots.plot_kinograph(final["rollout_u"][0], truth.rollout_u[0], scores, folder / "kinograph.png")
    return sorted(str(path.relative_to(run_dir)) for path in folder.rglob("*.png"))
