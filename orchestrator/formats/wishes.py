"""User instructions: which regimes they ask for, and which keys they free. They win over frozen rules.

An item asks by naming a key: `n_neurons = 200`, `lr_W=5E-3`, `coeff_W_L1: 1E-6 to 1E-2`, `hidden_dim = 32, 64`. A key
of `simulation` asks for a regime, a key that changes between blocks only for a block with that value; another key
becomes free with that value or range added. The rest is prose.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.core import configs
from orchestrator.core.contract import KeyRule, RegimeRule, UserInstruction
from orchestrator.core.records import Config
from orchestrator.core.schema import KeySchema
from orchestrator.formats import rules
from orchestrator.formats.draft import LineOf
from orchestrator.formats.markdown import plain
from orchestrator.formats.work import BUDGET, Work

_NAMED = re.compile(r"(?<![\w.])([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)?)\s*(=|:|\b(?:to|in|of|from|between)\b)\s*(?=\S)")
_RANGE = re.compile(
    rf"(\[|\()?\s*({rules.NUMBER})\s*(?:to|–|—|\.\.|-|(?<=\d)\s+and(?=\s))\s*({rules.NUMBER})\s*[\])]?(?![\w.]*\w)",
    re.I,
)
_BRACKETED = re.compile(rf"[\[(]\s*({rules.NUMBER})\s*,\s*({rules.NUMBER})\s*[\])]")
_ONE = rf"(?:{rules.NUMBER}(?![\w])|true\b|false\b)"
_LIST = re.compile(rf"({_ONE}(?:(?:,\s+(?:and\s+|or\s+)?|\s+and\s+|\s+or\s+){_ONE}(?!\s*=))*)(,\d)?", re.I)
_WORD = re.compile(r"[A-Za-z]\w*")
_JOINED = re.compile(r"\s*(?:,|&|\+|with|at)?\s*")
_BARE = re.compile(
    rf"(?:^|\b(?:for|of|between|and|or|vs\.?|versus|against|at|to|from|both|regimes?)\s+|,\s*)({rules.NUMBER})"
    r"(?=\s*(?:$|[,.;:)]|and\b|or\b|vs\b|versus\b|against\b|regimes?\b|systems?\b|neurons?\b))"
)
_NEVER = re.compile(r"\b(?:do not|don't|never|avoid|without)\b", re.I)
_NOT = re.compile(r"\b(?:do not|don't|never|avoid|without|keep|hold|fix|freeze|not)\b", re.I)


@dataclass(frozen=True)
class Ask:
    """`name = values` or `name: low to high`, as an item words it."""

    name: str
    values: tuple[Any, ...]
    low: float | None
    high: float | None
    start: int
    end: int
    known: KeySchema | None

    @property
    def said(self) -> str:
        """How a message names it."""
        if self.low is not None and self.high is not None:
            return f"{self.name}={self.low:g} to {self.high:g}"
        return f"{self.name}={' or '.join(map(str, self.values))}"

    def holds(self, value: Any) -> bool:
        """Return whether a value of the key is what is asked for."""
        if self.low is not None and self.high is not None:
            return isinstance(value, int | float) and self.low <= value <= self.high
        return any(value == v and isinstance(value, bool) == isinstance(v, bool) for v in self.values)


def asked(work: Work, text: str) -> list[Ask]:
    """Return what an item asks for, key by key, in its order."""
    found: list[Ask] = []
    for match in _NAMED.finditer(text):
        name, sign = match[1], match[2]
        known = work.key(name)
        if sign != "=" and (known is None or not re.search(r"[_.]", name)):
            continue
        if found and match.start() < found[-1].end:
            continue
        ask = _ask(name, sign, text, match.start(), match.end(), known)
        if ask is not None:
            found.append(ask)
    if any(_of_simulation(a) for a in found):
        found = [replace(a, known=_beside_a_system(work, a)) for a in found]
    return found


def _beside_a_system(work: Work, ask: Ask) -> KeySchema | None:
    """Return the key of an ask that stands in one item with keys of `simulation`.

    `n_neurons=200 low_rank=20` is about one system, also where a model key has the alias `low_rank`: a spelling that is
    also a value of a key of `simulation` means that section, or nothing.
    """
    known = ask.known
    if known is None or known.name == ask.name or _of_simulation(ask) or ask.name in work.draft.front.names:
        return known
    if any(ask.name in (k.allowed or ()) for k in work.schema.keys if k.section == "simulation"):
        return work.schema.key(f"simulation.{ask.name}")
    return known


def _ask(name: str, sign: str, text: str, start: int, at: int, known: KeySchema | None) -> Ask | None:
    pair = _BRACKETED.match(text, at) or _RANGE.match(text, at)
    if pair and (" and " not in pair[0] or sign == "between"):
        low, high = float(pair.groups()[-2]), float(pair.groups()[-1])
        return Ask(name, (), min(low, high), max(low, high), start, pair.end(), known)
    listed = _LIST.match(text, at)
    if listed and not listed[2]:
        words = [w.rstrip(".") for w in re.split(r",\s+(?:and\s+|or\s+)?|\s+and\s+|\s+or\s+", listed[1])]
        values = tuple(known.typed(rules.value(w)) if known else rules.value(w) for w in words)
        return Ask(name, values, None, None, start, listed.end(1), known)
    word = _WORD.match(text, at)
    said = sign == "=" or (sign == ":" and known is not None and known.fault(word[0] if word else "") is None)
    if word and not listed and known is not None and known.type == "str" and said:
        return Ask(name, (word[0],), None, None, start, word.end(), known)
    return None


def _groups(asks: list[Ask], text: str) -> list[list[Ask]]:
    """Return asks that stand side by side (`n_neurons=200 low_rank=20`) together: one system has them all."""
    groups: list[list[Ask]] = []
    for ask in asks:
        beside = bool(groups) and bool(_JOINED.fullmatch(text, groups[-1][-1].end, ask.start))
        if beside and all(_same_key(ask) != _same_key(other) for other in groups[-1]):
            groups[-1].append(ask)
        else:
            groups.append([ask])
    return groups


def _same_key(ask: Ask) -> str:
    return ask.known.key if ask.known else ask.name


def _of_simulation(ask: Ask) -> bool:
    return ask.known is not None and ask.known.section == "simulation" and ask.known.key not in configs.SEED_KEYS


# What the asks do


def honoured(work: Work, keys: list[KeyRule]) -> list[KeyRule]:
    """Return the rules of keys with those freed that user instructions name with a value or range."""
    by_key = {k.key: k for k in keys}
    for item in work.draft.user_instructions:
        text, where = plain(item.text), work.draft.where(item.line)
        for ask in asked(work, text):
            if ask.known is None or _of_simulation(ask):
                continue
            if _NOT.search(text):
                told = (
                    f"user instructions: {ask.said!r} with a 'not' or 'keep' is left to the scientist; no key changes"
                )
                work.problem(where, told, stops=False)
            elif ask.known.key in (*configs.SEED_KEYS, *BUDGET) or ask.known.section == "claude":
                told = (
                    "a seed belongs to a run" if ask.known.name == "seed" else "set it under `claude:` in config.yaml"
                )
                work.problem(where, f"user instructions ask for {ask.said}: {told}", stops=False)
            elif _accepted(work, ask, where):
                by_key[ask.known.key] = _freed(work, by_key[ask.known.key], ask, where)
    return list(by_key.values())


def _accepted(work: Work, ask: Ask, where: str) -> bool:
    assert ask.known is not None
    ends = [v for v in (ask.low, ask.high) if v is not None]
    whole = ask.known.type == "int" and all(v.is_integer() for v in ends)
    for value in (*ask.values, *(int(v) if whole else v for v in ends)):
        fault = ask.known.fault(value)
        if fault:
            work.problem(where, f"user instructions ask for {ask.said}: {ask.known.key}: {fault}")
            return False
    return True


def _freed(work: Work, rule: KeyRule, ask: Ask, where: str) -> KeyRule:
    """Return the rule with what is asked for inside it: a frozen key has only its start and that, another key more."""
    frozen = rule.level == "frozen"
    if frozen:
        told = f"user instructions free {rule.key} for {ask.said}; it was frozen ({rule.source})"
        work.problem(where, told, stops=False)
    update: dict[str, Any] = {"level": "free" if frozen else rule.level}
    known = rule.allowed if not frozen else () if rule.start is None else (rule.start,)
    if ask.low is None and known:
        update["allowed"] = tuple(dict.fromkeys((*known, *ask.values)))
    else:
        numbers = [*known, *ask.values, ask.low, ask.high, *(() if known else (rule.low, rule.high))]
        ends = [float(v) for v in numbers if isinstance(v, int | float) and not isinstance(v, bool)]
        open_low, open_high = (not known and bound is None for bound in (rule.low, rule.high))
        update |= {"allowed": (), "low": None if open_low else min(ends), "high": None if open_high else max(ends)}
    new = rule.model_copy(update=update)
    return rule if new == rule else new.model_copy(update={"source": where})


def user_instructions(
    work: Work, start: Config, found: tuple[RegimeRule, ...], keys: list[KeyRule]
) -> tuple[UserInstruction, ...]:
    """Return each item with what it asks for: declared regimes, values of block-level keys, what nothing declares."""
    items = work.draft.user_instructions
    named = [a for i in items for a in asked(work, plain(i.text)) if _of_simulation(a)]
    made = (_instruction(work, item, start, found, named) for item in items)
    return tuple(item.model_copy(update={"between": _between(work, plain(item.text), keys)}) for item in made)


def _between(work: Work, text: str, keys: list[KeyRule]) -> dict[str, tuple[Any, ...]]:
    """Return the values that an item asks of keys which change between blocks only."""
    block = {k.key for k in keys if k.level == "block"}
    asks = [] if _NOT.search(text) else asked(work, text)
    return {a.known.key: a.values for a in asks if a.known is not None and a.known.key in block and a.values}


def _instruction(
    work: Work, item: LineOf, start: Config, found: tuple[RegimeRule, ...], named: list[Ask]
) -> UserInstruction:
    text, where = plain(item.text), work.draft.where(item.line)
    asks = [a for a in asked(work, text) if _of_simulation(a) or (a.known is None and work.metric(a.name) is None)]
    groups = [] if _NEVER.search(text) else [*_groups(asks, text), *([a] for a in _bare(text, asks, named))]
    systems = found or (RegimeRule(name=""),)

    def fits(group: list[Ask], rule: RegimeRule) -> bool:
        return all(a.known is not None and a.holds(_value(rule, start, a.known.key)) for a in group)

    regimes = [r.name for r in found if any(fits(g, r) for g in groups)]
    undeclared: dict[str, None] = {}
    for group in groups:
        alone = [a for a in group if not any(fits([a], r) for r in systems)]
        for ask in alone:
            if ask.said not in undeclared:
                work.problem(where, _undeclared(work, ask), stops=False)
            undeclared[ask.said] = None
        if not alone and not any(fits(group, r) for r in systems):
            together = " ".join(a.said for a in group)
            undeclared[together] = None
            work.problem(where, f"user instructions ask for {together}, and no regime has both: {_ADD}", stops=False)
    return UserInstruction(text=item.text, regimes=tuple(regimes), undeclared=tuple(undeclared), source=where)


_ADD = "add it under `regimes:` in exploration.yaml"


def _undeclared(work: Work, ask: Ask) -> str:
    if ask.known is None:
        found = work.schema.nearest_keys(ask.name)
        near = f" (nearest: {', '.join(found)})" if found else ""
        other = work.key(ask.name)
        which = (
            f"no key of `simulation` is called {ask.name} ({other.key} is)" if other else f"there is no key {ask.name}"
        )
        return (
            f"user instructions ask for {ask.said}, and {which}{'' if other else near}; map the spelling "
            "under `names:` in the front matter, or write it as prose"
        )
    fault = next((f for v in ask.values if (f := ask.known.fault(v))), None)
    frozen = next((f.line for f in work.draft.frozen if f.section == "simulation"), None)
    by = f" (line {frozen} freezes `simulation`)" if frozen else ""
    advice = f"the trainer refuses it: {fault}" if fault else _ADD
    return f"user instructions ask for {ask.said}, and no regime declares it{by}: {advice}"


def _bare(text: str, asks: list[Ask], named: list[Ask]) -> Iterator[Ask]:
    """Yield numbers that stand alone and are values which an item asks of a key of `simulation` by name."""
    for match in _BARE.finditer(text):
        if any(a.start <= match.start(1) < a.end for a in asks):
            continue
        number = rules.value(match[1].rstrip("."))
        for other in named:
            if number in other.values:
                yield Ask(other.name, (number,), None, None, match.start(1), match.end(1), other.known)
                break


def _value(rule: RegimeRule, start: Config, key: str) -> Any:
    return rule.values[key] if key in rule.values else configs.get(start, key)
