"""Score a run: read its estimates, write analysis.log, plots and result.json.

What differs between systems is in a module each (trainers/systems.py, part `score`), with these functions:

* `load_truth(data_dir)`: what a run is compared with;
* `shapes(truth)`: name -> shape of the arrays of the final estimate, those in `LEARNED` also of every other one;
* `input_shapes(inputs)`: the same from what training was given, for a trial;
* `score_estimate(estimate, truth)`: the metrics of what is learned, from the arrays in `LEARNED` alone;
* `measure(order, truth, final, trained)`: name -> value, None where it is not defined;
* `reason(name, truth)`: why a metric is not defined;
* `lines(order, truth, preflight, trained, line)`: analysis.log, `line(name)` spells a metric;
* `draw_moment(estimate, truth, scores, where, folder, tag)`: the figures of an estimate; `tag` ends their names;
* `draw_end(final, truth, scores, folder)`: those that a run has once;
* `results(order, truth, line)`, where there is one: results.log, the recorded short form.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from pathlib import Path
from typing import Any

from trainers.errors import RefusedError
from trainers.order import read_order
from trainers.schema import METRICS, NEEDS_TRUTH, MetricSpec
from trainers.scoring import estimates
from trainers.systems import part
from trainers.yaml_io import write_text

Value = tuple[float | None, str | None]
"""A metric: a finite number, or None with the reason."""
NO_TRUTH = "no truth: your own data"
MEMORY_LIMIT = 2**50
KEYS_MAX = 200


def score(run_dir: Path, data_dir: Path) -> dict[str, Any]:
    """Score `run_dir` against `data_dir`; return and write result.json (last).

    Raises:
        RefusedError: an estimate, train.json or the data cannot be used; no result.json is then written.
    """
    started = time.monotonic()
    order = read_order(run_dir)
    system = part(order.system, "score")
    truth, preflight = _truth(system, data_dir)
    out = run_dir / "out"
    trained = _trained(estimates.read_json(out / "train.json"))
    final = estimates.read_estimate(out / "estimate.npz", system.shapes(truth))
    found: dict[str, float | None] = system.measure(order, truth, final, trained)
    found |= {"final_loss": trained["final_loss"], "training_time_min": trained["training_time_s"] / 60}
    absent = NEEDS_TRUTH[order.system] if preflight.get("truth") is False else frozenset()
    specs = METRICS[order.system]
    metrics = {
        name: (None, NO_TRUTH) if name in absent else _value(found.get(name), system.reason(name, truth))
        for name in specs
    }
    measured = time.monotonic()

    def line(name: str) -> str:
        return f"{specs[name].log_key or name}: {shown(specs[name], metrics[name])}"

    marks = [f"mark: {mark}" for mark in _marks(preflight)]
    log = "\n".join([*marks, *system.lines(order, truth, preflight, trained, line)]) + "\n"
    write_text(run_dir / "analysis.log", log)
    if hasattr(system, "results"):
        write_text(run_dir / "results.log", system.results(order, truth, line))
    plots = _draw(system, run_dir, truth, final, found)
    result = {
        "contract": 1,
        "iteration": order.iteration,
        "attempt": order.attempt,
        "metrics": {
            name: {"value": value, "reason": reason, "version": specs[name].version}
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


def _truth(system: Any, data_dir: Path) -> tuple[Any, dict[str, Any]]:
    try:
        return system.load_truth(data_dir), json.loads((data_dir / "preflight.json").read_text())
    except (OSError, ValueError, KeyError) as error:
        raise RefusedError(f"{data_dir} is not a complete regime ({error}); prepare it again") from error


def _draw(system: Any, run_dir: Path, truth: Any, final: dict[str, Any], scores: dict[str, float | None]) -> list[str]:
    """Have every figure drawn; return their paths below the run folder."""
    from trainers.scoring.plots import plot_loss  # matplotlib takes a second, which a refused run need not wait

    out, folder, shapes = run_dir / "out", run_dir / "plots", system.shapes(truth)
    learned = {name: shapes[name] for name in system.LEARNED}
    moments = [estimates.read_estimate(path, learned) for path in estimates.list_moments(out / "estimates")]
    for estimate in (*(m for m in moments if m["step"] != final["step"]), final):
        now = scores if estimate is final else system.score_estimate(estimate, truth)
        where = f"epoch {estimate['epoch']}, step {estimate['step']}"
        system.draw_moment(estimate, truth, now, where, folder, f"{estimate['epoch']}_{estimate['step']}")
    plot_loss(estimates.read_progress(out / "progress.jsonl"), folder / "loss.png")
    system.draw_end(final, truth, scores, folder)
    return sorted(str(path.relative_to(run_dir)) for path in folder.rglob("*.png"))


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


def _value(value: float | None, reason: str) -> Value:
    if value is None:
        return None, reason
    if math.isfinite(value):
        return float(value), None
    return None, "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"


def shown(spec: MetricSpec, value: Value) -> str:
    """Return a metric as analysis.log spells it."""
    number, reason = value
    if number is not None:
        return spec.format % number
    return str(reason) if reason in ("nan", "inf", "-inf") else f"n/a ({reason})"


def limits(preflight: dict[str, Any], label: str, source: str, *names: str) -> list[str]:
    """Return lines of analysis.log about what the preflight measured."""
    known = preflight.get(source) or {}
    return [f"  {label} {name}: {_number(known.get(name))}" for name in names]


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) else "n/a (not measured)"
