"""Mutation magnitudes: the steps that an instruction lists for its keys (`- Learning rates: x2 or /2`).

`read` finds the list and its steps; `applied` gives them to the free keys that each label names, by the key's name or
as one of the groups in `GROUPS`. The list stops nothing: a line that cannot be read, or that no key can use, is told,
and the range of the key goes on to set its steps.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Literal

from orchestrator.core.contract import KeyRule, Step
from orchestrator.formats.draft import DraftMagnitude
from orchestrator.formats.markdown import Text, plain
from orchestrator.formats.notes import Notes
from orchestrator.formats.sections import items_after
from orchestrator.formats.work import Work

_TITLE = "mutation magnitude"
_REMARK = re.compile(r"(?:\([^()]*\))?\.?$")
_OR = re.compile(r"\s*(?:[,;]|\bor\b|\band\b|\s/\s)\s*", re.I)
_NUMBER = r"((?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)"
_SPELLINGS = {ord("−"): "-", ord("–"): "-", ord("×"): "x", ord("X"): "x", ord("*"): "x", ord("÷"): "/"}
_FACTOR = re.compile(rf"x\s*{_NUMBER}|{_NUMBER}\s*x")
_DIVISOR = re.compile(rf"/\s*{_NUMBER}")
_FACTOR_BOTH = re.compile(rf"x\s*/\s*/\s*{_NUMBER}")
_SUM = re.compile(rf"([-+])\s*{_NUMBER}")
_SUM_BOTH = re.compile(rf"(?:\+\s*/?\s*-|±)\s*{_NUMBER}")
_AND = re.compile(r"\s*(?:[,&/+]|\band\b)\s*")
_WRITE = "write `- learning rates: x2 or /2` or `- name: +128 or -128`"
GROUPS: tuple[tuple[str, re.Pattern[str], re.Pattern[str]], ...] = tuple(
    (title, re.compile(label), re.compile(name))
    for title, label, name in (
        (
            "learning rates", r"(?:all )?(?:learning rates?|lrs?)",
            r"^(?!.*(?:schedul|warm|decay)).*(?:learning_rate|(?:^|_)lr(?:_|$))",
        ),
        (
            "network size", r"(?:network|model) size|(?:network )?width|hidden (?:dim(?:ension)?s?|size|width)",
            "^hidden_dim",
        ),
        ("training steps", r"(?:n |(?:number of |total )?(?:training )?)steps", r"(?:total_steps|n_steps)$"),
        ("layers", r"(?:n |number of )?(?:hidden )?layers|(?:network )?depth", "^n_layers"),
        ("batch size", r"batch sizes?|batch", "batch_size"),
    )
)  # fmt: skip
"""(name of a group, its labels, the names of its keys); the budget key belongs to the training steps, too."""


def read(text: Text, notes: Notes) -> list[DraftMagnitude]:
    """Return the items below a heading or label with "mutation magnitude"; one that cannot be read is told."""
    found = []
    for item in items_after(text, _TITLE):
        said = " ".join(plain(item.text).split())
        label, colon, rest = said.partition(":")
        try:
            if not colon or not label.strip():
                raise ValueError(f"{said!r} names no key")
            steps = tuple(dict.fromkeys(_steps(rest)))
        except ValueError as error:
            notes.problem(item.line, f"mutation magnitude: {error}, so the line is not used; {_WRITE}", stops=False)
            continue
        notes.use(item)
        found.append(DraftMagnitude(label=label.strip(), steps=steps, line=item.line))
    return found


def _steps(text: str) -> Iterator[Step]:
    """Yield the steps of one item in their order; raises ValueError at the first part that is none."""
    for part in _OR.split(_REMARK.sub("", text.strip()).strip()):
        made = _step(part.translate(_SPELLINGS))
        if not made:
            raise ValueError(f"{part!r} in {text.strip()!r} is no step")
        yield from made


def _step(part: str) -> list[Step]:
    """Return the steps that one part spells: one, both ways of one, or none where it cannot be read."""
    made: list[tuple[Literal["*", "+"], float]] = []
    if found := _FACTOR.fullmatch(part) or _FACTOR_BOTH.fullmatch(part):
        made.append(("*", _number(found)))
    if (found := _DIVISOR.fullmatch(part) or _FACTOR_BOTH.fullmatch(part)) and _number(found):
        made.append(("*", 1 / _number(found)))
    if found := _SUM.fullmatch(part):
        made.append(("+", float(found[1] + found[2])))
    elif found := _SUM_BOTH.fullmatch(part):
        made += [("+", _number(found)), ("+", -_number(found))]
    nothing = any(not math.isfinite(v) or v == 0 or (op == "*" and v == 1) for op, v in made)
    return [] if nothing else [Step(op=op, value=v) for op, v in made]


def _number(found: re.Match[str]) -> float:
    return float(next(g for g in found.groups() if g))


# What the labels name


def applied(work: Work, keys: list[KeyRule]) -> list[KeyRule]:
    """Return the rules with the steps that the instruction lists; the line that names a key goes before its group's."""
    named: dict[str, DraftMagnitude] = {}
    grouped: dict[str, DraftMagnitude] = {}
    for item in work.draft.magnitudes:
        for label in _labels(work, item.label):
            known = work.key(label)
            table = grouped if known is None else named
            rules = _of_group(work, item, label, keys) if known is None else _of_key(work, item, known.key, keys)
            for rule in rules:
                first = table.setdefault(rule.key, item)
                if first.steps != item.steps:
                    _tell(work, item, f"line {first.line} gives other steps of {rule.key}, which are used")
    listed = grouped | named
    return [k.model_copy(update={"steps": listed[k.key].steps}) if k.key in listed else k for k in keys]


def _labels(work: Work, label: str) -> list[str]:
    """Return what a label names: itself, or the parts of a list (`omega and batch_size`)."""
    parts = [] if work.key(label) or _group(label) else [part for part in _AND.split(label) if part]
    return parts or [label]


def _group(label: str) -> tuple[str, re.Pattern[str]] | None:
    said = re.sub(r"\([^()]*\)|[\s_-]+", " ", label.lower()).strip()
    return next(((title, names) for title, labels, names in GROUPS if labels.fullmatch(said)), None)


def _of_key(work: Work, item: DraftMagnitude, key: str, keys: list[KeyRule]) -> list[KeyRule]:
    rule = next((k for k in keys if k.key == key), None)
    why = f"{key} is no key that changes" if rule is None else _unusable(rule)
    if why:
        _tell(work, item, f"{why}, so these steps are not used")
    return [rule] if rule is not None and not why else []


def _of_group(work: Work, item: DraftMagnitude, label: str, keys: list[KeyRule]) -> list[KeyRule]:
    group = _group(label)
    if group is None:
        near, known = work.schema.nearest_keys(label), ", ".join(title for title, _, _ in GROUPS)
        nearest = f"; nearest: {', '.join(near)}" if near else ""
        _tell(work, item, f"{label!r} names no key and no group of keys ({known}){nearest}")
        return []
    title, names = group
    rules = [k for k in keys if names.search(k.key.partition(".")[2])]
    if title == "training steps":
        rules += [k for k in keys if k.key == work.schema.budget and k not in rules]
    usable = [k for k in rules if not _unusable(k)]
    if not usable:
        free = [why for k in rules if k.level == "free" and (why := _unusable(k))]
        _tell(work, item, f"{'; '.join(free) or f'no free key is one of the {title}'}, so these steps are not used")
    return usable


def _unusable(rule: KeyRule) -> str:
    """Return why a key cannot move by steps of its own, "" when it can."""
    if rule.level != "free":
        return f"{rule.key} is {rule.level} ({rule.source})"
    if rule.allowed or rule.type not in ("int", "float"):
        return f"{rule.key} moves along its list of values"
    return ""


def _tell(work: Work, item: DraftMagnitude, text: str) -> None:
    work.problem(work.draft.where(item.line), f"mutation magnitude of {item.label}: {text}", stops=False)
