"""Ranges, values and conditions as people write them in one cell or one comment.

Each reader returns None when the text makes no claim, and raises ValueError when it makes one that cannot be read
with certainty.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from orchestrator.core.contract import Op
from orchestrator.errors import InstructionError
from orchestrator.formats import yaml_edit
from orchestrator.formats.draft import DraftCondition
from orchestrator.formats.markdown import plain

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_END = r"\s*(?=$|[)\]—–(#]|-\s|\.(?:\s|$))"
_RANGE = re.compile(rf"[\[(]?\s*({NUMBER})\s*(?:to|-|–|—|\.\.)\s*({NUMBER})\s*[\])]?{_END}")
_MARKED_RANGE = re.compile(r"\b[Rr]ange(?:\s*:\s*|\s+(?=[\d(\[.+-]))(.*)$")
_MARKED_VALUES = re.compile(r"\b(?:[Vv]alues|[Oo]ptions|[Cc]hoose from|[Aa]llowed)\s*:\s*(.*)$")
_CAN_TRY = re.compile(r"\bcan try ([\w.+-]+)")
_COMPARE = re.compile(rf"^(?:(.+?)\s*)?(>=|<=|>|<|≥|≤|=)\s*({NUMBER})$")
_BETWEEN = re.compile(rf"^(.*?)\s*(?:\bin\b\s*)?\[?\s*({NUMBER})\s*(?:-|–|—|to|,)\s*({NUMBER})\s*\]?$")
_NAME = re.compile(r"^[A-Za-z_][\w²]*$")
_NEAR = re.compile(rf"^(?:~|≈|near|about|around)\s*({NUMBER})$", re.I)
_OPS: dict[str, Op] = {">": ">", "<": "<", ">=": ">=", "<=": "<=", "≥": ">=", "≤": "<="}


@dataclass(frozen=True)
class Bounds:
    """A range or a closed list."""

    low: float | None = None
    high: float | None = None
    allowed: tuple[Any, ...] = ()


def value(text: str) -> Any:
    """Return one YAML scalar; raises ValueError when it is none."""
    text = plain(text).replace("−", "-")
    try:
        return yaml_edit.load(f"x: {text}", "cell")["x"]
    except InstructionError as error:
        raise ValueError(f"{text!r} is no single value") from error


def _bounds(low: str, high: str) -> Bounds:
    bounds = Bounds(float(low), float(high))
    if not math.isfinite(float(low)) or not math.isfinite(float(high)):
        raise ValueError(f"range {low} to {high}: not a finite number")
    if float(low) > float(high):
        raise ValueError(f"range {low} to {high}: the first number is larger than the second")
    return bounds


def comment_bounds(text: str, default: Any = None) -> Bounds | None:
    """Return the bounds that a YAML comment states: `range: a to b`, `values: 1, 2`, `can try False`."""
    marked = _MARKED_RANGE.search(text)
    if marked:
        found = _RANGE.match(marked[1].strip())
        if not found:
            raise ValueError(f"range {marked[1].strip()!r} cannot be read; write `range: 1E-4 to 1E-2`")
        return _bounds(found[1], found[2])
    whole = re.fullmatch(rf"\s*({NUMBER})\s*(?:to|–|—|\.\.)\s*({NUMBER})\s*", text)
    if whole:
        return _bounds(whole[1], whole[2])
    marked = _MARKED_VALUES.search(text)
    if marked:
        return Bounds(allowed=_listed(marked[1]))
    tried = _CAN_TRY.search(text)
    if tried:
        return Bounds(allowed=tuple(dict.fromkeys((default, value(tried[1])))))
    if "(True/False)" in text:
        return Bounds(allowed=(True, False))
    return None


def _listed(text: str) -> tuple[Any, ...]:
    text = re.split(r"\s[—–-]\s|\)", text)[0].rstrip(" .")
    parts = [p for p in re.split(r"\s*(?:,|\bor\b)\s*", text) if p]
    if len(parts) < 2 or any(len(p.split()) > 1 for p in parts):
        raise ValueError(f"values {text!r} cannot be read; write `values: 8, 16, 32`")
    return tuple(value(p) for p in parts)


def cell_bounds(text: str, default: Any = None) -> Bounds | None:
    """Return the bounds of a table's Range cell: `a to b`, `[a, b]`, `1, 4, 16`, `true/false`, `0+`, `any integer`."""
    text = plain(text).replace("−", "-").replace("\\|", "|")
    if text.lower() in ("", "-", "—", "any", "any integer", "any number"):
        return None
    if text.lower() in ("true/false", "false/true"):
        return Bounds(allowed=(True, False))
    if isinstance(default, list):
        return None
    more = re.fullmatch(rf"({NUMBER})\s*\+", text)
    if more:
        return Bounds(low=float(more[1]))
    pair = re.fullmatch(rf"\[\s*({NUMBER})\s*,\s*({NUMBER})\s*\]", text) or re.fullmatch(
        rf"({NUMBER})\s*(?:to|–|—|\.\.|-)\s*({NUMBER})", text
    )
    if pair:
        return _bounds(pair[1], pair[2])
    if "," in text:
        return Bounds(allowed=_listed(text))
    raise ValueError(f"range {text!r} cannot be read; write `1E-4 to 1E-2` or `8, 16, 32`")


def _condition(text: str) -> tuple[DraftCondition, ...]:
    text = plain(text).replace("−", "-").strip(" .")
    found = _COMPARE.match(text)
    if found:
        name, op, number = found[1], found[2], float(found[3])
        if op == "=":
            pair: tuple[tuple[Op, float], ...] = ((">=", number), ("<=", number))
        else:
            pair = ((_OPS[op], number),)
    else:
        found = _BETWEEN.match(text)
        if not found:
            raise ValueError(f"condition {text!r} cannot be read; write `connectivity_R2 > 0.9` or `name 0.1-0.9`")
        name, bounds = found[1] or None, _bounds(found[2], found[3])
        pair = ((">=", bounds.low or 0.0), ("<=", bounds.high or 0.0))
    if name and not _NAME.match(name):
        raise ValueError(f"condition {text!r} cannot be read: {name!r} is not the name of one metric")
    return tuple(DraftCondition(metric=name or None, op=o, value=v) for o, v in pair)


def cell_conditions(text: str) -> tuple[tuple[tuple[Op, float], ...], ...]:
    """Return the alternatives of a diagnosis cell: `> 0.95`, `0.3–0.9`, `~0`, `0.3-0.8 or 1.2-3.0`; () asks nothing.

    `~x`, `near x` and `about x` mean closer to x than a tenth of it; near 0 means between -0.1 and 0.1.
    """
    text = plain(text).replace("−", "-").replace("\\|", "|").strip()
    if text.lower() in ("", "-", "—", "–", "any", "*"):
        return ()
    alternatives = []
    for alternative in re.split(r"\s+or\s+", text, flags=re.I):
        pairs: list[tuple[Op, float]] = []
        for part in re.split(r"\s+and\s+", alternative, flags=re.I):
            near = _NEAR.match(part)
            if near:
                middle = float(near[1])
                margin = round(abs(middle) / 10, 12) or 0.1
                pairs += [(">", middle - margin), ("<", middle + margin)]
                continue
            found = _condition(part)
            if any(c.metric for c in found):
                raise ValueError(f"cell {text!r} cannot be read; write `> 0.9`, `0.3-0.9`, `~0`, or leave it empty")
            pairs += [(c.op, c.value) for c in found]
        alternatives.append(tuple(pairs))
    return tuple(alternatives)


def conditions(text: str) -> tuple[tuple[DraftCondition, ...], ...]:
    """Return the alternatives of a class: `a > 0.9 AND b in [0.5, 2]`, `a < 0.9 OR t > 60`; raises ValueError."""
    alternatives = []
    for alternative in re.split(r"\s+(?:OR|or)\s+", text):
        parts = [_condition(part) for part in re.split(r"\s+(?:AND|and)\s+", alternative)]
        alternatives.append(tuple(c for part in parts for c in part))
    return tuple(alternatives)
