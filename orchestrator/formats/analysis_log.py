"""Read `analysis.log`: `key: value` lines, section headers, and the spellings of numbers seen in real logs."""

from __future__ import annotations

import math
import re

from orchestrator.core.records import Metric

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_NOT_FINITE = {"nan": "nan", "inf": "inf", "+inf": "inf", "-inf": "-inf", "infinity": "inf", "-infinity": "-inf"}


def read_value(text: str) -> Metric | None:
    """Return the metric that a value's text gives, or None when it is no number and no marker.

    `0.5`, `-0.5`, `9.8e-05`, `2.903E+02`, `~1.065` and `18.4min` are numbers; `nan`, `inf`, `-inf` and
    `n/a (reason)` are metrics without a value.
    """
    text = text.strip().lstrip("~").rstrip(" .,;")
    lower = text.lower()
    if lower in _NOT_FINITE:
        return Metric(value=None, reason=_NOT_FINITE[lower])
    if lower.startswith("n/a"):
        return Metric(value=None, reason=text[3:].strip(" ()") or "n/a")
    match = _NUMBER.match(text)
    if match is None or not re.fullmatch(r"(?![eE]$)\s*[a-zA-Z%]*|\s+(\(.*|\+/-.*|±.*)", text[match.end() :]):
        return None
    value = float(match.group())
    if not math.isfinite(value):
        return Metric(value=None, reason="-inf" if value < 0 else "inf")
    return Metric(value=value)


def parse(text: str) -> tuple[dict[str, Metric], list[str]]:
    """Return the metrics by the keys that the log uses, and the lines that are neither metric nor header.

    The first value of a key counts; a second, different one is reported among the unread lines.
    """
    metrics: dict[str, Metric] = {}
    unread: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith("---"):
            continue
        key, separator, rest = _split(stripped)
        value = read_value(rest.split("<--")[0]) if separator else None
        if value is None or not key or (key in metrics and metrics[key] != value):
            unread.append(line)
        else:
            metrics[key] = value
    return metrics, unread


def _split(line: str) -> tuple[str, str, str]:
    positions = [p for p in (line.find(":"), line.find("=")) if p > 0]
    if not positions:
        return line, "", ""
    at = min(positions)
    return line[:at].strip(), line[at], line[at + 1 :]
