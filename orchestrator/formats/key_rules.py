"""Rules of config keys: what the instruction frees, within which bounds; everything else is frozen."""

from __future__ import annotations

import math
import re
from typing import Any

from orchestrator.core import configs
from orchestrator.core.contract import KeyRule
from orchestrator.core.exploration import TARGET, Settled
from orchestrator.core.records import Config
from orchestrator.core.schema import KeySchema
from orchestrator.formats.draft import DraftKey
from orchestrator.formats.work import BUDGET, Work

ROOM = 4
"""Times that a budget which a profile sets may be scaled up and down, whatever the instruction's range."""
_WORD = re.compile(r"[A-Za-z_]\w*")


def keys(work: Work, start: Config) -> list[KeyRule]:
    """Return one rule a key of the schema: those that the instruction lists, in its order, then the frozen rest."""
    found: dict[str, KeyRule] = {}
    for item in work.draft.keys:
        if item.section == "claude":
            continue
        known = work.key(item.key) or (None if item.section else work.key(item.name))
        if known is None:
            _unsupported(work, item)
        elif known.key not in found:
            found[known.key] = _rule(work, item, known, start)
    for known in work.schema.keys:
        if known.key not in found:
            found[known.key] = _default_rule(work, known, start)
    taken: dict[str, int] = {}
    for rule in found.values():
        taken[rule.short] = taken.get(rule.short, 0) + 1
    return [r if taken[r.short] == 1 else r.model_copy(update={"short": r.key}) for r in found.values()]


def _unsupported(work: Work, item: DraftKey) -> None:
    near = work.schema.nearest_keys(item.name)
    hint = f" (nearest: {', '.join(near)})" if near else ""
    work.problem(
        work.draft.where(item.line), f"{item.key}: not supported by the trainer: cannot be explored{hint}",
        stops=False, key=item.name,
    )  # fmt: skip


def _short(work: Work, known: KeySchema) -> str:
    label = next((n for n in work.draft.log_config.labels if (k := work.key(n)) and k.key == known.key), None)
    return label or next(iter(known.aliases), known.name)


def _default_rule(work: Work, known: KeySchema, start: Config) -> KeyRule:
    if work.scaled(known):
        return _scaled_rule(work, None, known, start)
    frozen = next((f for f in work.draft.frozen if f.section == known.section and not f.keys), None)
    source = work.draft.where(frozen.line) if frozen else "not named free by the instruction"
    if known.key in BUDGET:
        source = f"set by claude.{known.name}"
    settled = work.settled(known.key)
    level = settled.level if settled and settled.level else "frozen"
    if known.key in configs.SEED_KEYS:
        level, source = "frozen", "a seed belongs to a run: ask for a replicate or a draw"
    return _bounded(work, KeyRule(
        key=known.key, short=_short(work, known), type=known.type, level=level,
        low=_low(known), high=known.maximum, allowed=known.allowed or (),
        start=start[known.section].get(known.name), exempt=known.key in configs.SEED_KEYS, source=source,
    ), settled, known)  # fmt: skip


def _rule(work: Work, item: DraftKey, known: KeySchema, start: Config) -> KeyRule:
    where, settled = work.draft.where(item.line), work.settled(known.key)
    if work.scaled(known):
        return _scaled_rule(work, item, known, start)
    if known.key in (*configs.SEED_KEYS, *BUDGET):
        if known.key in BUDGET:
            text = f"{known.key}: set by claude.{known.name}, so it is frozen here"
            work.problem(where, text, stops=False)
        return _default_rule(work, known, start)
    level = settled.level if settled and settled.level else item.level
    if level is None:
        work.problem(where, f"{item.key}: described, but not said to be free; frozen", stops=False, key=item.name)
    low, high = (_low(known) if item.low is None else item.low), (known.maximum if item.high is None else item.high)
    rule = KeyRule(
        key=known.key, short=_short(work, known), type=known.type, level=level or "frozen", low=low, high=high,
        allowed=tuple(known.typed(v) for v in item.allowed) or known.allowed or (),
        start=start[known.section].get(known.name), exempt=work.excused(known), source=where,
    )  # fmt: skip
    if settled:
        return _bounded(work, rule, settled, known)
    return _checked(work, _widened(work, rule, known) if rule.level == "free" else rule, known)


def _scaled_rule(work: Work, item: DraftKey | None, known: KeySchema, start: Config) -> KeyRule:
    """Return the rule of the budget key where it may follow the training time."""
    source = f"{TARGET} {work.target:g} in exploration.yaml" if work.target is not None else ""
    low, high, allowed = _low(known), known.maximum, known.allowed or ()
    if item is not None:
        source = work.draft.where(item.line)
        low, high = (low if item.low is None else item.low), (high if item.high is None else item.high)
        allowed = tuple(known.typed(v) for v in item.allowed) or allowed
    rule = KeyRule(
        key=known.key, short=_short(work, known), type=known.type, level="free", low=low, high=high, allowed=allowed,
        start=start[known.section].get(known.name), exempt=True, source=source,
    )  # fmt: skip
    settled = work.settled(known.key)
    if settled is not None:
        return _bounded(work, rule, settled, known)
    return _checked(work, _widened(work, rule, known), known)


def _widened(work: Work, rule: KeyRule, known: KeySchema) -> KeyRule:
    """Return the rule with a range around a start that a profile sets: the instruction's range is of its own scale.

    `ROOM` times up and down: a rollout of 4 steps, or a guess that is off as much, must fit. Of a key that is no budget
    (a width) only where the start is out of the range.
    """
    section, missing = ("claude", None) if known.key in BUDGET else (known.section, known.default)
    stated = work.config.config.get(section)
    own, start = (stated if isinstance(stated, dict) else {}).get(known.name, missing), rule.start
    if own is None or own == start or rule.allowed or rule.low is None or rule.high is None:
        return rule
    if known.key != work.schema.budget and rule.low <= start <= rule.high:
        return rule
    least = max(start // ROOM, 1) if rule.type == "int" else start / ROOM
    low, high = min(rule.low, least), max(rule.high, start * ROOM)
    low, high = max(low, _low(known) or low), min(high, known.maximum or high)
    if (low, high) == (rule.low, rule.high):
        return rule
    told = f"; {rule.low:g} to {rule.high:g} there, widened for profile {work.profile}, which starts at {start:g}"
    return rule.model_copy(update={"low": low, "high": high, "source": rule.source + told})


def time_target(work: Work, keys: list[KeyRule]) -> float | None:
    """Return the minutes that a training should take; notes what keeps a target from being held."""
    target, where = work.target, f"exploration.yaml: {TARGET}"
    if target is None:
        return None
    rule = next((k for k in keys if k.key == work.schema.budget), None)
    if rule is None:
        text = (
            f"{target:g} cannot be held: the trainer of system {work.schema.system} names no budget key; leave it out"
        )
        work.problem(where, text)
    elif rule.level != "free":
        text = f"{rule.key} is {rule.level} ({rule.source}), so nothing holds it at {target:g} min"
        work.problem(where, text, stops=False)
    limit = next((k for k in keys if k.key == work.schema.time_limit), None)
    if limit is not None and isinstance(limit.start, int | float) and target > limit.start:
        work.problem(where, f"{target:g} min is over the limit, {limit.key} {limit.start:g}; lower it, or raise that")
    if target * 60 >= work.spec.limits.wall_s:
        text = (
            f"{target:g} min is not below limits.wall_s, {work.spec.limits.wall_s:g} s: runs on target would be stopped"
        )
        work.problem(where, f"{text}; raise limits.wall_s")
    return target


def _time_limit(work: Work, keys: list[KeyRule]) -> None:
    """Note that a training at its own limit would be stopped, and lost, by the limit of the run."""
    rule = next((k for k in keys if k.key == work.schema.time_limit), None)
    minutes, wall = rule.start if rule is not None else None, work.spec.limits.wall_s
    if rule is not None and isinstance(minutes, int | float) and minutes * 60 >= wall:
        text = f"limits.wall_s, {wall:g} s, is not above {rule.key}, {minutes:g} min: a training at its limit would be "
        work.problem("exploration.yaml", f"{text}killed, not scored; raise limits.wall_s", stops=False)


def _bounded(work: Work, rule: KeyRule, settled: Settled | None, known: KeySchema) -> KeyRule:
    if settled is None:
        return rule
    update: dict[str, Any] = {"source": "exploration.yaml: settle"}
    if settled.range:
        update |= {"low": settled.range[0], "high": settled.range[1], "allowed": ()}
    if settled.allowed:
        low, high = (None, None) if settled.range is None else settled.range
        update |= {"low": low, "high": high, "allowed": tuple(known.typed(v) for v in settled.allowed)}
    return _checked(work, rule.model_copy(update=update), known)


def _checked(work: Work, rule: KeyRule, known: KeySchema) -> KeyRule:
    """Note bounds outside the trainer's, and a start outside the bounds."""
    where = rule.source
    for bound in (rule.low, rule.high):
        if bound is not None and not known.within(bound) and known.type in ("int", "float"):
            work.problem(where, f"{rule.key}: {bound:g} is outside what the trainer accepts ({known.bounds})")
    for value in rule.allowed:
        fault = known.fault(value)
        if fault:
            work.problem(where, f"{rule.key}: {fault}")
    start = rule.start
    if rule.level == "frozen" or isinstance(start, bool) or not isinstance(start, int | float):
        outside = bool(rule.allowed) and rule.level != "frozen" and start not in rule.allowed
    else:
        low, high = (
            rule.low if rule.low is not None else -math.inf,
            rule.high if rule.high is not None else math.inf,
        )
        outside = not low <= start <= high or (bool(rule.allowed) and start not in rule.allowed)
    if outside:
        said = ", ".join(map(str, rule.allowed)) if rule.allowed else f"{rule.low} to {rule.high}"
        work.problem(work.config.where(rule.key), f"{rule.key}: {start!r} is outside {said} ({where})")
    return rule


def agreement(work: Work, keys: list[KeyRule]) -> None:
    """Note, with lines, starts that differ between instruction and config.yaml, exclude each other, or pass a limit."""
    _exclusive(work, keys)
    _time_limit(work, keys)
    stated = [(k.key, k.default, k.line) for k in work.draft.keys if k.has_default]
    stated += [(s.name, s.value, s.line) for s in work.draft.starts]
    stated += [(f"claude.{c.name}", c.value, c.line) for c in work.draft.claude if c.value is not None]
    own = work.config.config
    for name, value, line in stated:
        known = work.key(name)
        if known is None or known.key in configs.SEED_KEYS or known.key in BUDGET:
            continue
        section = own.get(known.section)
        found = section.get(known.name, known.default) if isinstance(section, dict) else known.default
        if not _equal(known.typed(value), known.typed(found)):
            where = work.config.where(known.key)
            work.problem(
                work.draft.where(line),
                f"{known.key} starts at {value!r} here and at {found!r} in {where}; make them equal",
            )


def _exclusive(work: Work, keys: list[KeyRule]) -> None:
    """Note groups of which at most one key may be true, and two are at the start, or which change at two levels."""
    by_key = {k.key: k for k in keys}
    for group in work.schema.exclusive:
        names = " and ".join(group)
        true = [k for k in group if k in by_key and by_key[k].start is True]
        if len(true) > 1:
            where = work.config.where(next((k for k in true if k in work.config.lines), true[0]))
            work.problem(
                where, f"{' and '.join(true)} are true; at most one of {names} may be: set the others to False"
            )
        levels = {by_key[k].level: by_key[k] for k in group if k in by_key and by_key[k].level != "frozen"}
        if len(levels) > 1:
            free, block = levels["free"], levels["block"]
            work.problem(
                free.source,
                f"{free.key} is free and {block.key} changes between blocks only ({block.source}), and at most one of "
                f"{names} may be true: give both one level (settle: {{{free.key}: {{level: block}}}})",
            )


def focus(work: Work) -> tuple[str, ...]:
    """Return the focus of block 1, 2, ..."""
    return tuple(p.text for p in sorted(work.draft.plan, key=lambda p: p.block))


def order(work: Work, keys: list[KeyRule]) -> tuple[str, ...]:
    """Return the free keys: as the block plan and the exploration order name them, then as listed."""
    free = [k.key for k in keys if k.level == "free" and not k.exempt]
    named: list[str] = []
    for text in (*focus(work), *(o.text for o in work.draft.order)):
        for word in _WORD.findall(text):
            known = work.key(word)
            if known and known.key in free:
                named.append(known.key)
    return tuple(dict.fromkeys((*named, *free)))


def _low(known: KeySchema) -> float | None:
    if known.minimum is not None and known.exclusive_minimum:
        return known.minimum + 1 if known.type == "int" else math.nextafter(known.minimum, math.inf)
    return known.minimum


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, bool) or isinstance(b, bool) or not isinstance(a, int | float) or not isinstance(b, int | float):
        return bool(a == b)
    return math.isclose(a, b, rel_tol=1e-12, abs_tol=0.0)
