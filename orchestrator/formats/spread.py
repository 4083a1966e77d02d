"""The initial spread: the runs that an instruction suggests to begin with, one a slot.

`read` finds the rows and the values that they name; `spread` holds them against the rules of the keys. A value that
contradicts the instruction's own rules, or that could mean two things, stops the start; a row that names no value is
told and stays prose.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from orchestrator.core import configs
from orchestrator.core.contract import KeyRule, SpreadRule
from orchestrator.core.mutation import check_value, number
from orchestrator.core.records import Config, canonical
from orchestrator.core.schema import KeySchema
from orchestrator.errors import RefusedError
from orchestrator.formats import rules
from orchestrator.formats.draft import SpreadChange, SpreadRow
from orchestrator.formats.markdown import Block, Item, Paragraph, Text, plain
from orchestrator.formats.notes import Notes
from orchestrator.formats.sections import items_after, under
from orchestrator.formats.work import BUDGET, Work

_TITLE = "initial spread"
_SLOT = re.compile(
    r"[\W_]*slot\s*(?:no\.?|#)?\s*(\d+)(?!\d)(?!\s*(?:[-–—/&,]|and\b|to\b|\.\.)\s*\d)[*_]*\s*[]:.)–—-]*[*_]*\s*(.*)",
    re.I | re.S,
)
"""`Slot 1: text`; not `Slot 1-3: text`, which is about several."""
_START = re.compile(
    r"\W*(?:the\s+)?(?:baseline|unchanged|config\.yaml|(?:defaults?|start(?:ing)?)"
    r"(?:\s+(?:config\w*|point|values?|settings?)|(?=\s*(?:[,;:.(]|$))))(?!\w)"
    r"(?![\s,;]*(?:with|but|plus|and|except|\+))",
    re.I,
)
"""A row that is the start itself, whatever values it goes on to state."""
_NAME = r"(?<![\w.-])(?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)?)"
_ONE = rf"(?:\[[^\]]*\]|{rules.NUMBER}(?!\w|\.\d)|(?:true|false)\b)"
_JOINED = r"(?:\s*[=:(]\s*\(?\s*|\s+(?:to\s+)?)"
_CHANGE = re.compile(
    rf"{_NAME}(?:"
    rf"{_JOINED}(?P<new>{_ONE})[\s,(]*(?:instead\s+of|rather\s+than|was)\s+(?P<old>{_ONE})"
    rf"|{_JOINED}(?P<was>{_ONE})\s*(?:-+>|=>|→)\s*(?P<now>{_ONE})"
    rf"|\s+(?:from\s+(?P<from>{_ONE})\s+)?to\s+(?P<to>{_ONE})"
    rf"|\s*=\s*(?P<given>\[[^\]]*\]|\"[^\"]*\"|'[^']*'|[^\s,;()\[\]=]+)"
    rf"|\s*:\s*(?P<said>{_ONE}|[A-Za-z]\w*(?=\s*(?:[,;.)]|$)))"
    rf")",
    re.I,
)
_MORE = re.compile(
    rf",?\s+or\b.*?(?=[,;)]|$)|\s*(?:/|\.\.+|[-–—]|-+>|→|\bto\b|\bthen\b)\s*{rules.NUMBER}(?!\s*=)|\s*(?:[×*]\s*\w|%|x\b|times\b)",
    re.I,
)
"""After a value: another one, or a factor; so it is not certain which is meant."""
_WORD = re.compile(r"(?<![\w.])[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)?")
_WRITE = "write `- Slot 1: name=value`"


@dataclass
class _Entry:
    """A row in the making: its own line, and those of the list below it."""

    slot: int
    block: Block
    depth: int
    parts: list[tuple[int, str]] = field(default_factory=list)


def read(text: Text, notes: Notes) -> list[SpreadRow]:
    """Return the rows below a heading or label with "initial spread", in the order of their slots.

    Rows without a slot number are counted from 0, if no row has one. A row that names no value is left out, and told.
    """
    found = []
    entries = _entries(text, notes)
    _numbering(entries, notes)
    for entry in sorted(entries, key=lambda e: e.slot):
        said = "; ".join(part for _, part in entry.parts if part)
        changes = [c for line, part in entry.parts for c in _changes(part, line)]
        start = bool(_START.match(said))
        if start or changes:
            notes.use(entry.block)
            line = entry.parts[0][0]
            found.append(SpreadRow(slot=entry.slot, text=said, start=start, changes=tuple(changes), line=line))
        else:
            notes.problem(entry.parts[0][0], _unread(entry.slot), stops=False)
    return found


def _unread(slot: int) -> str:
    return f"initial spread, slot {slot}: no value of a key was read, so it is no run; {_WRITE}, or leave it as prose"


def _lines(text: Text) -> Iterator[tuple[Block, int, str, int]]:
    """Yield (block, line, text, depth) of the section's list items, and of plain lines that begin with a slot."""
    items = set(items_after(text, _TITLE))
    below = [b for b in text.blocks if isinstance(b, Item) and under(b, _TITLE)]
    headings = {b.path[-1] for b in below if _SLOT.match(plain(b.text))}
    for block in text.blocks:
        if isinstance(block, Item) and (block in items or (block in below and block.path[-1] in headings)):
            yield block, block.line, plain(block.text), block.depth
        elif isinstance(block, Paragraph) and under(block, _TITLE):
            for line, content in enumerate(map(plain, block.lines), start=block.line):
                if _SLOT.match(content):
                    yield block, line, content, 0


def _entries(text: Text, notes: Notes) -> list[_Entry]:
    """Return the rows in document order, each with the lists below it."""
    lines = list(_lines(text))
    numbered = any(_SLOT.match(content) for _, _, content, _ in lines)
    found: list[_Entry] = []
    for block, line, content, depth in lines:
        slot = _SLOT.match(content)
        if slot:
            found.append(_Entry(int(slot[1]), block, depth, [(line, slot[2])]))
        elif found and depth > found[-1].depth:
            found[-1].parts.append((line, content))
        elif not numbered:
            found.append(_Entry(len(found), block, depth, [(line, content)]))
        else:
            notes.problem(line, f"initial spread: {content!r} names no slot and is not read; {_WRITE}", stops=False)
    return found


def _numbering(entries: list[_Entry], notes: Notes) -> None:
    """Note slots that stand twice (which one is meant?) and those that are missing."""
    first: dict[int, int] = {}
    for entry in entries:
        line = entry.parts[0][0]
        if first.setdefault(entry.slot, line) != line:
            text = f"slot {entry.slot} has a row in line {first[entry.slot]} already; give each slot one row"
            notes.problem(line, f"initial spread: {text}")
    least = min(first, default=0)
    missing = [n for n in range(min(least, 1), max(first, default=0)) if n not in first]
    if missing:
        line = min(line for slot, line in first.items() if slot > missing[0])
        listed = ", ".join(map(str, missing[:8])) + (", ..." if len(missing) > 8 else "")
        notes.problem(line, f"initial spread: no row for slot {listed}; the others follow in their order", stops=False)


def _changes(text: str, line: int) -> Iterator[SpreadChange]:
    """Yield every value that a text gives to a name, and what it was before where the text says so."""
    for match in _CHANGE.finditer(text):
        group = next(g for g in ("new", "now", "to", "given", "said") if match[g] is not None)
        old = next((match[g] for g in ("old", "was", "from") if match[g] is not None), None)
        more = _MORE.match(text, match.end())
        said = text[match.start(group) : more.end() if more else match.end(group)]
        value, sure = _value(match[group])
        was = _value(old)[0] if old is not None else None
        loose = group != "given"
        yield SpreadChange(
            name=match["name"], value=value, was=was, text=said, sure=sure and not more, loose=loose, line=line
        )


def _value(word: str) -> tuple[Any, bool]:
    """Return the value that a word spells, and whether it spells one."""
    word = word if word.endswith("]") else word.rstrip(".:!?*")
    try:
        return rules.value(word), True
    except ValueError:
        return word, False


# Against the rules of the keys


def spread(work: Work, keys: list[KeyRule], start: Config) -> tuple[SpreadRule, ...]:
    """Return one rule a row, with the values in which it differs from the start; of equal rows, the first."""
    by_key = {k.key: k for k in keys}
    found: list[SpreadRule] = []
    first: dict[str, int] = {}
    for row in work.draft.spread:
        values = _Row(work, row, by_key, start).values()
        if values is None:
            continue
        same = first.setdefault(canonical(values), row.slot)
        where = work.draft.where(row.line)
        if same != row.slot:
            what = "its values are those of" if values else "it is the start itself, as is"
            work.problem(where, f"initial spread, slot {row.slot}: {what} slot {same}; left out", stops=False)
            continue
        found.append(SpreadRule(text=row.text, values=values, source=where))
    return tuple(found)


@dataclass
class _Row:
    """One row against the rules."""

    work: Work
    row: SpreadRow
    rules: dict[str, KeyRule]
    start: Config

    def values(self) -> dict[str, Any] | None:
        """Return the values that differ from the start; None when nothing of the row can be run."""
        stated: dict[str, Any] = {}
        named = [(c, self.work.key(c.name)) for c in self.row.changes]
        changes = [(c, k) for c, k in named if self._is_change(c, k)]
        for change, known in changes:
            value = self._checked(change, known)
            if value is None or known is None:
                continue
            if canonical(stated.setdefault(known.key, value)) != canonical(value):
                text = f"{known.key} is {number(stated[known.key])} and {number(value)}; keep one of them"
                self._tell(change.line, text, stops=True)
        if not changes and not self.row.start:
            self.work.problem(self.work.draft.where(self.row.line), _unread(self.row.slot), stops=False)
            return None
        self._silent({k.key for _, k in changes if k})
        if not stated and not self.row.start:
            self._tell(self.row.line, "nothing of it can be run; left out", stops=False)
            return None
        return {k: v for k, v in stated.items() if canonical(v) != canonical(self._at_start(k))}

    def _tell(self, line: int, text: str, *, stops: bool) -> None:
        self.work.problem(self.work.draft.where(line), f"initial spread, slot {self.row.slot}: {text}", stops=stops)

    def _at_start(self, key: str) -> Any:
        section, _, name = key.partition(".")
        return self.start.get(section, {}).get(name)

    def _is_change(self, change: SpreadChange, known: KeySchema | None) -> bool:
        """Return whether `name ... value` is meant as one: `lr_k: 2E-3` is, `note: 3` and `up to 4` are not."""
        if known is None:
            listed = any(change.name in (k.name, k.key, k.short) for k in self.work.draft.keys)
            return self.work.metric(change.name) is None and (not change.loose or listed or "_" in change.name)
        word = change.loose and isinstance(change.value, str)
        return not word or known.fault(change.value) is None

    def _checked(self, change: SpreadChange, known: KeySchema | None) -> Any:
        """Return the typed value; None when it is left out or a problem, which has been told."""
        if known is None:
            near = ", ".join(self.work.schema.nearest_keys(change.name))
            text = f"{change.name}={change.text}: not supported by the trainer: left out"
            text += f" (nearest: {near})" if near else ""
            self._tell(change.line, text, stops=False)
            return None
        if not change.sure:
            text = f"{known.key}: {change.text!r} is not one value; write `{change.name}=value`"
            self._tell(change.line, text, stops=True)
            return None
        value, now = _typed(known, change.value), self._at_start(known.key)
        refused = None if canonical(value) == canonical(now) else self._refused(known, value)
        if refused is not None:
            text, stops = refused
            self._tell(change.line, text, stops=stops)
            return None
        self._of_another_start(change, known, now)
        return value

    def _refused(self, known: KeySchema, value: Any) -> tuple[str, bool] | None:
        """Return why a row may not take a value, and whether that stops the start."""
        if known.key in configs.SEED_KEYS:
            return f"{known.key} = {value} is left out: a seed belongs to a run, ask for a replicate or a draw", False
        if known.section == "claude" or known.key in BUDGET:
            return f"{known.key} = {value} is left out: set {known.name} under `claude:` in config.yaml", False
        rule, fault = self.rules[known.key], known.fault(value)
        if fault:
            return f"{known.key}: {fault}", True
        if rule.level != "free":
            settle = f"or settle it in exploration.yaml (settle: {{{rule.key}: {{level: free}}}})"
            return (
                f"{rule.key} = {number(value)}: it is {rule.level} ({rule.source}); correct one of them, {settle}",
                True,
            )
        try:
            check_value(rule, value)
        except RefusedError as error:
            return str(error), True
        return None

    def _of_another_start(self, change: SpreadChange, known: KeySchema, now: Any) -> None:
        """Tell that the row takes the start to be another one than it is; it runs with what it states."""
        was = _typed(known, change.value if self.row.start else change.was)
        if was is not None and canonical(was) != canonical(now):
            text = (
                f"{known.key} starts at {number(was)} here and at {number(now)} in {self.work.config.where(known.key)}"
            )
            self._tell(change.line, f"{text}: the spread was written for another start", stops=False)

    def _silent(self, named: set[str]) -> None:
        """Tell of keys that a row speaks of without a value that was read."""
        for word in dict.fromkeys(_WORD.findall(self.row.text)):
            known = self.work.key(word) if "_" in word else None
            if known and known.key not in named:
                self._tell(self.row.line, f"{word} is named without a value; it stays at its start", stops=False)


def _typed(known: KeySchema, value: Any) -> Any:
    """Return a value in the key's type, or as it is where the key cannot have it."""
    return known.typed(value) if known.fault(value) is None else value
