"""Judge an ended run from its folder: its outcome, one sentence for people, and its metrics."""

from __future__ import annotations

import hashlib
import json
import math
import re
import signal
from pathlib import Path
from typing import Any

from orchestrator.core.records import Metric, Outcome
from orchestrator.engine.context import Setup
from orchestrator.engine.texts import one_line
from orchestrator.formats import analysis_log
from orchestrator.launch.folder import read_file
from orchestrator.paths import RunPaths
from orchestrator.ports import ExitRecord

RESULT_LIMIT = 4 * 2**20
TAIL_BYTES = 8192
MEMORY_LIMIT = 2**50
KEYS_MAX, WORDS = 200, 200
"""Idle keys that a result may name; characters of a reason."""

_BY_CODE: dict[int, Outcome] = {10: "diverged", 11: "out_of_memory", 12: "killed", 13: "rejected"}
_BY_REASON: dict[str, Outcome] = {"wall": "timed_out", "silence": "timed_out", "output": "crashed"}


class Verdict:
    """Outcome of a run with what the journal records of it."""

    def __init__(self, outcome: Outcome, sentence: str = "", cause: str = "", **rest: Any) -> None:
        self.outcome, self.sentence, self.cause = outcome, sentence, cause or outcome
        self.metrics: dict[str, Metric] = rest.get("metrics", {})
        self.keys_idle: dict[str, str] = rest.get("keys_idle", {})
        self.marks: tuple[str, ...] = rest.get("marks", ())
        self.result_sha: str = rest.get("result_sha", "")
        self.traceback = ""
        self.memory_bytes: int | None = rest.get("memory_bytes")


def judge(setup: Setup, run: RunPaths, record: ExitRecord | None) -> Verdict:
    """Return the verdict on an ended run; `record` is None when its supervisor vanished."""
    if record is None:
        complete = _result(setup, run)
        if complete.outcome == "ok":
            return complete
        return Verdict("killed", "the supervisor vanished before it could write exit.json", "vanished")
    if record.returncode == 0 and (record.reason is None or record.step == "score"):
        return _result(setup, run)
    return _failure(run, record)


def judge_step(run: RunPaths, record: ExitRecord | None) -> str | None:
    """Return why a folder's steps failed, or None when they ended well (for steps that leave no result)."""
    if record is None:
        return f"its supervisor vanished; see {_short(run.supervisor_log)}"
    if record.returncode == 0 and record.reason is None:
        return None
    return _failure(run, record).sentence


def _failure(run: RunPaths, record: ExitRecord) -> Verdict:
    where = f"see {_short(run.stdout)}"
    if record.reason == "cancelled":
        return Verdict("killed", record.sentence or "cancelled by request", "cancelled")
    if record.reason is not None:
        return Verdict(_BY_REASON[record.reason], f"{record.sentence}; {where}", record.reason)
    code = record.returncode if record.returncode is not None else -signal.SIGKILL
    number = -code if code < 0 else code - 128 if 128 < code < 160 else 0
    if number == signal.SIGKILL:
        sentence = f"{record.step} was killed (SIGKILL), often by the system when memory runs out; {where}"
        return Verdict("killed", sentence, "SIGKILL")
    if number == signal.SIGTERM:
        return Verdict("killed", f"{record.step} was stopped by SIGTERM; {where}", "SIGTERM")
    if code in _BY_CODE:
        said = _told(run) if record.step == "train" else _last_line(run)
        told = said or f"{record.step} ended with code {code}"
        return Verdict(_BY_CODE[code], f"{told}; {where}", f"{_BY_CODE[code]}: {_shape(told)}")
    last = _last_line(run)
    name = f"signal {number}" if number else f"exit code {code}"
    return Verdict("crashed", f"{record.step} ended with {name}: {last}; {where}", f"{name}: {_shape(last)}")


def _short(path: Path) -> str:
    """Return a path below the output folder, e.g. `runs/0003-1/stdout.log`."""
    return "/".join(path.parts[-3:] if path.suffix else path.parts[-2:])


def _told(run: RunPaths) -> str:
    try:
        found = json.loads(read_file(run.failure, 65536))
        return one_line(str(found.get("sentence", "")))
    except (OSError, ValueError, AttributeError, RecursionError):
        return ""


def _last_line(run: RunPaths) -> str:
    try:
        with open(run.stdout, "rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            lines = [x for x in file.read().decode(errors="replace").splitlines() if x.strip()]
    except OSError:
        return "no output"
    return next((told for line in reversed(lines) if (told := one_line(line))), "no output")


def _shape(text: str) -> str:
    """Return a sentence without numbers and paths, so that equal causes read equal."""
    return re.sub(r"\S*/\S*", "<path>", re.sub(r"\d+(\.\d+)?(e[+-]?\d+)?", "#", text))[:200]


def _result(setup: Setup, run: RunPaths) -> Verdict:
    try:
        log = read_file(run.analysis_log, RESULT_LIMIT)
        logged, unread = analysis_log.parse(log.decode())
    except (OSError, ValueError) as error:
        return _rejected(run, f"analysis.log cannot be read ({error})")
    if not run.result.exists() and setup.spec.command:
        twice = [line for line in unread if re.split("[:=]", line)[0].strip() in logged]
        if twice:
            return _rejected(run, f"analysis.log says {twice[0].strip()!r} after another value of the same key")
        metrics = _by_name(setup, logged)
        return _with_primary(setup, run, metrics, {}, hashlib.sha256(log).hexdigest(), unread)
    try:
        data = read_file(run.result, RESULT_LIMIT)
        result = json.loads(data)
        metrics = {one_line(k, WORDS): _told_metric(Metric.model_validate(v)) for k, v in result["metrics"].items()}
        named = list(dict(result.get("keys_idle", {})).items())[:KEYS_MAX]
        idle = {one_line(str(k), WORDS): one_line(str(v), WORDS) for k, v in named}
        marks = tuple(one_line(str(m)) for m in result.get("marks", ()))
        memory = _memory(result.get("memory_bytes"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return _rejected(run, f"result.json cannot be read ({error})")
    if result.get("analysis_log_sha256") not in (None, hashlib.sha256(log).hexdigest()):
        return _rejected(run, "analysis.log is not the file that result.json was written with")
    found = _by_name(setup, logged)
    for name, metric in metrics.items():
        if name in found and not _agree(found[name], metric, _format(setup, name)):
            told = f"{name} is {_shown(found[name])} in analysis.log and {_shown(metric)} in result.json"
            return _rejected(run, told)
    verdict = _with_primary(setup, run, metrics, idle, hashlib.sha256(data).hexdigest(), marks=marks)
    verdict.memory_bytes = memory
    return verdict


def _told_metric(metric: Metric) -> Metric:
    """Return a metric whose reason, if there is one, is a short line."""
    return metric if metric.reason is None else metric.model_copy(update={"reason": one_line(metric.reason, WORDS)})


def _memory(value: Any) -> int | None:
    """Return the peak memory that a result states, None when it is no sensible number."""
    return value if type(value) is int and 0 <= value < MEMORY_LIMIT else None


def _with_primary(
    setup: Setup,
    run: RunPaths,
    metrics: dict[str, Metric],
    idle: dict[str, str],
    sha: str,
    unread: list[str] | None = None,
    marks: tuple[str, ...] = (),
) -> Verdict:
    primary = setup.contract.primary.name
    if primary not in metrics:
        named = ", ".join(sorted(metrics)) or "nothing"
        lines = f"; lines that are no metric: {unread[:3]}" if unread else ""
        return _rejected(run, f"no {primary} among the metrics; found {named}{lines}")
    return Verdict("ok", "", "ok", metrics=metrics, keys_idle=idle, result_sha=sha, marks=marks)


def _rejected(run: RunPaths, why: str) -> Verdict:
    why = one_line(why, 1000)
    return Verdict(
        "rejected", f"the result was not accepted: {why}; see {_short(run.root)}", f"rejected: {_shape(why)}"
    )


def _by_name(setup: Setup, logged: dict[str, Metric]) -> dict[str, Metric]:
    """Return logged metrics by their schema names (the log's own keys and aliases are understood)."""
    names: dict[str, str] = {}
    for name, metric in setup.schema["systems"].get(setup.contract.system, {}).get("metrics", {}).items():
        for alias in (name, metric.get("log_key", name), *metric.get("aliases", [])):
            names[alias] = name
    for rule in setup.contract.metrics:
        for alias in (rule.name, *rule.aliases):
            names.setdefault(alias, rule.name)
    return {names.get(key, one_line(key, WORDS)): _told_metric(metric) for key, metric in logged.items()}


def _format(setup: Setup, name: str) -> str | None:
    metrics = setup.schema["systems"].get(setup.contract.system, {}).get("metrics", {})
    found = metrics.get(name, {}).get("format")
    return str(found) if found else None


def _agree(logged: Metric, written: Metric, form: str | None) -> bool:
    if logged.value is None or written.value is None:
        return logged.value is None and written.value is None
    if math.isclose(logged.value, written.value, rel_tol=1e-6, abs_tol=1e-12):
        return True
    return form is not None and math.isclose(logged.value, float(form % written.value), rel_tol=1e-9, abs_tol=1e-12)


def _shown(metric: Metric) -> str:
    return f"{metric.value:g}" if metric.value is not None else str(metric.reason)
