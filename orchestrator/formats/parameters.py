"""Reads what an instruction says of config keys: fenced YAML, parameter tables, the `claude:` list, freezing words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from orchestrator.core.contract import Level
from orchestrator.errors import InstructionError
from orchestrator.formats import rules, yaml_edit
from orchestrator.formats.draft import DraftClaude, DraftKey, Frozen
from orchestrator.formats.markdown import Block, Fence, Heading, Item, Paragraph, Table, codes, plain
from orchestrator.formats.notes import Notes

SECTIONS = ("simulation", "graph_model", "training", "inr", "claude")
CLAUDE_KEYS = ("n_epochs", "data_augmentation_loop", "n_iter_block", "ucb_c")
_BLOCK = re.compile(
    r"block-level|block boundar(?:y|ies) only|fixed (?:for all iterations )?within (?:the |a |one )?block", re.I
)
_FROZEN = re.compile(r"\bfrozen\b|\bfixed\b|\bdo not change", re.I)
_FREEZES = re.compile(r"\b(?:[Ff]rozen|FROZEN|FIXED)\b|\b(?i:do not change)")
_UNSURE = re.compile(r"\b(?:frozen|fixed|free|block-level)\b\s*\?", re.I)
_FREE = re.compile(
    r"\bfree\b|exploration space|explorable|can tune|change within block|mutable|tunable|training parameters", re.I
)
_FREE_TOO = re.compile(r"\bfree\b|exploration space|explorable|can tune|tunable", re.I)
"""Words that contradict "frozen" in the same label."""
_NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)?")
_COMMENT = re.compile(r"(?:^|\s)#\s*(.*)$")
_SECTION_OF = re.compile(r"\bin (?:the )?`(\w+):?`\s+section|\((\w+) section\)")
_LOOKS_LIKE_CONFIG = re.compile(r"(?:\s*#.*\n)*(?:training|simulation|graph_model|inr|claude):\s*\n")
_OUTSIDE = re.compile(r"outside (?:of )?(?:the )?`\w+:?`(?: section)?")


def level_of(text: str) -> Level | None:
    """Return the level that a heading, label or comment states; None when it states none."""
    if _BLOCK.search(text):
        return "block"
    if _FROZEN.search(text):
        return "frozen"
    return "free" if _FREE.search(text) else None


class Keys:
    """Gathers keys in document order, merges repeated ones, and notes contradictions."""

    def __init__(self, notes: Notes) -> None:
        self.notes = notes
        self.found: dict[str, DraftKey] = {}
        self.frozen: list[Frozen] = []
        self.claude: dict[str, DraftClaude] = {}
        self._sections: dict[int, str] = {}
        self._labels: list[Paragraph] = []

    def read(self, blocks: Iterable[Block]) -> None:
        """Read every block; memory skeletons must have been left out."""
        asked_claude = False
        path: tuple[Heading, ...] = ()
        for block in blocks:
            if block.path != path:
                path, self._labels, asked_claude = block.path, [], False
            if isinstance(block, Paragraph):
                asked_claude = "`claude:`" in block.text
                self._paragraph(block)
            elif isinstance(block, Item):
                if asked_claude:
                    self._claude_item(block)
                self._item(block)
                self._frozen_statements(block, ((block.line, block.text),))
            elif isinstance(block, Table):
                self._table(block)
            elif isinstance(block, Fence):
                self._fence(block)
            if isinstance(block, Table | Fence):
                self._labels = []
        self._check()

    # Where a group of keys belongs, and at which level.

    def _paragraph(self, block: Paragraph) -> None:
        found = _SECTION_OF.search(block.text)
        if found and block.path:
            self._sections[block.path[-1].line] = found[1] or found[2]
        if block.label:
            self._labels.append(block)
        sentences = [(block.line + i, s) for i, t in enumerate(block.lines) for s in re.split(r"(?<=[.!;])\s+", t)]
        self._frozen_statements(block, sentences)

    def _level(self, block: Block) -> Level | None:
        texts = [(p.line, p.text) for p in reversed(self._labels)] + [(h.line, h.text) for h in reversed(block.path)]
        for line, text in texts:
            level = level_of(text)
            if level is None:
                continue
            if _UNSURE.search(text) or (level == "frozen" and _FREE_TOO.search(text) and "only" not in text):
                self.notes.problem(line, f"{plain(text)!r} does not say for certain whether the keys below are {level}")
            return level
        return None

    def _section(self, block: Block) -> str | None:
        for heading in reversed(block.path):
            if heading.line in self._sections:
                return self._sections[heading.line]
            named = _SECTION_OF.search(heading.text)
            if named:
                return named[2]
        return None

    # Statements such as "DO NOT change `simulation:` parameters except `seed`".

    def _frozen_statements(self, block: Block, sentences: Iterable[tuple[int, str]]) -> None:
        for line, text in sentences:
            if not _FREEZES.search(text) or _BLOCK.search(text):
                continue
            kept, _, excepted = _OUTSIDE.sub("", text).partition("except")
            spans = codes(kept)
            sections = [s.rstrip(":") for s in spans if s.rstrip(":") in SECTIONS]
            worded = re.search(r"\b(simulation|graph_model|training|inr) parameters\b", kept, re.I)
            if worded and not sections:
                sections = [worded[1].lower()]
            keys = tuple(s for s in spans if _NAME.fullmatch(s) and s not in SECTIONS)
            if not sections and not keys:
                continue
            if _UNSURE.search(text):
                self.notes.problem(line, f"{plain(text)!r} does not say for certain what is frozen")
                continue
            exceptions = tuple(c for c in codes(excepted) if _NAME.fullmatch(c))
            self.notes.use(block)
            for section in (*sections,) or (None,):
                self.frozen.append(Frozen(section=section, keys=keys, exceptions=exceptions, line=line))

    # The four keys of `claude:`.

    def _claude_item(self, item: Item) -> None:
        names = [c for c in codes(item.text) if c in CLAUDE_KEYS]
        for name in names[:1]:
            self.claude.setdefault(name, DraftClaude(name=name, line=item.line))
            self.notes.use(item)

    # List items such as "`coeff_W_L1`: L1 on W. Range: 1E-6 to 1E-4".

    def _item(self, item: Item) -> None:
        name = re.match(r"`([A-Za-z_]\w*)`", item.text)
        if not name or name[1] in CLAUDE_KEYS:
            return
        try:
            bounds = rules.comment_bounds(plain(item.text))
        except ValueError as error:
            self.notes.problem(item.line, f"{name[1]}: {error}", key=name[1])
            return
        if bounds is not None:
            self.notes.use(item)
            level, section = self._level(item), self._section(item)
            fields = _bounded(bounds, item.line)
            self._add(DraftKey(name=name[1], section=section, level=level, comment=item.text, line=item.line, **fields))

    # Fenced YAML.

    def _fence(self, fence: Fence) -> None:
        if fence.info not in ("yaml", "yml") and (fence.info or not _LOOKS_LIKE_CONFIG.match(fence.text)):
            return
        try:
            doc = yaml_edit.read("\n" * (fence.line - 1) + fence.text, self.notes.source)
        except InstructionError as error:
            where, _, text = str(error).partition(": ")
            line = next((int(p) for p in where.split(":")[1:] if p.isdigit()), fence.line)
            self.notes.problem(line, text)
            return
        level = self._level(fence)
        for section, values in doc.config.items():
            if section not in SECTIONS or not isinstance(values, dict):
                known = ", ".join(SECTIONS)
                self.notes.problem(
                    fence.line, f"`{section}` is no section of a config ({known}); not read", stops=False
                )
                continue
            self.notes.use(fence)
            for key in _fence_keys(fence, doc, section, values, level, self.notes):
                if section == "claude":
                    value = key.default if key.has_default else None
                    self.claude[key.name] = DraftClaude(name=key.name, value=value, line=key.line)
                else:
                    self._add(key)

    # Tables.

    def _table(self, table: Table) -> None:
        parameter = table.column("parameter", "hyperparameter")
        if parameter is None:
            return
        self.notes.use(table)
        name_at = next((i for i in (table.column("config key", "yaml path"), parameter) if i is not None), parameter)
        default_at, range_at = table.column("default", "value"), table.column("typical range", "range", "allowed")
        level, section = self._level(table), self._section(table)
        for line, cells in table.rows:
            spelled = (codes(cells[name_at]) or [plain(cells[name_at])])[0]
            if not _NAME.fullmatch(spelled):
                self.notes.problem(line, f"{spelled!r} is not the name of a config key", stops=False)
                continue
            own, _, name = spelled.rpartition(".")
            short = (codes(cells[parameter]) or [plain(cells[parameter])])[0]
            default, has_default = None, False
            bounds = None
            try:
                if default_at is not None and plain(cells[default_at]):
                    default, has_default = rules.value(cells[default_at]), True
                if range_at is not None:
                    cell = plain(cells[range_at])
                    if cell.startswith("[") and "[unused" in " ".join(cells).lower():
                        default, has_default = rules.value(cell), True
                    else:
                        bounds = rules.cell_bounds(cells[range_at], default)
            except ValueError as error:
                self.notes.problem(line, f"{name}: {error}", key=name)
            fields = _bounded(bounds, line)
            self._add(
                DraftKey(
                    name=name, section=own or section, level=level, default=default, has_default=has_default,
                    short=short if short != name else None, comment=" | ".join(cells), line=line, **fields,
                )
            )  # fmt: skip

    # Merging.

    def _add(self, key: DraftKey) -> None:
        old = self.found.get(key.name)
        if old is None or (old.section and key.section and old.section != key.section):
            self.found[key.name if old is None else key.key] = key
            return
        update: dict[str, Any] = {
            f: getattr(key, f) for f in ("section", "level", "short") if getattr(old, f) is None and getattr(key, f)
        }
        if key.level and old.level and key.level != old.level:
            self.notes.problem(
                key.line, f"{key.name} is {key.level} here and {old.level} in line {old.line}", key=key.name
            )
        if key.has_default and old.has_default and key.default != old.default:
            self.notes.problem(
                key.line, f"{key.name} is {key.default} here and {old.default} in line {old.line}", key=key.name
            )
        elif key.has_default and not old.has_default:
            update |= {"default": key.default, "has_default": True}
        update |= self._merged_bounds(old, key)
        self.found[key.name] = old.model_copy(update=update)

    def _merged_bounds(self, old: DraftKey, key: DraftKey) -> dict[str, Any]:
        if key.range_line is None:
            return {}
        new = {"low": key.low, "high": key.high, "allowed": key.allowed, "range_line": key.range_line}
        if old.range_line is None:
            return new
        first, second = (old.low, old.high, old.allowed), (key.low, key.high, key.allowed)
        if first == second:
            return {}
        if key.allowed and not old.allowed and all(_inside(old, v) for v in key.allowed):
            return {"allowed": key.allowed}
        if old.allowed and not key.allowed and all(_inside(key, v) for v in old.allowed):
            return {}
        self.notes.problem(
            key.line, f"{key.name}: {_said(key)} here and {_said(old)} in line {old.range_line}", key=key.name
        )
        return {}

    def _check(self) -> None:
        """Note keys that are both free and frozen, and add keys that only a statement freezes."""
        for statement in self.frozen:
            for key in list(self.found.values()):
                hit = key.name in statement.keys or (
                    statement.section is not None
                    and not statement.keys
                    and key.section == statement.section
                    and key.name not in statement.exceptions
                )
                if hit and key.level in ("free", "block"):
                    self.notes.problem(
                        key.line, f"{key.key} is {key.level} here and frozen in line {statement.line}", key=key.name
                    )
            for name in statement.keys:
                if name not in self.found and name not in CLAUDE_KEYS:
                    self._add(DraftKey(name=name, section=statement.section, level="frozen", line=statement.line))


def _inside(key: DraftKey, value: Any) -> bool:
    if not isinstance(value, int | float):
        return False
    return (key.low is None or value >= key.low) and (key.high is None or value <= key.high)


def _said(key: DraftKey) -> str:
    return ", ".join(map(str, key.allowed)) if key.allowed else f"{key.low} to {key.high}"


def _bounded(bounds: rules.Bounds | None, line: int) -> dict[str, Any]:
    if bounds is None:
        return {}
    return {"low": bounds.low, "high": bounds.high, "allowed": bounds.allowed, "range_line": line}


def _fence_keys(
    fence: Fence, doc: yaml_edit.Document, section: str, values: dict[str, Any], level: Level | None, notes: Notes
) -> Iterator[DraftKey]:
    """Yield the keys of one section of a fence; full-line comments with a level word govern the keys below them."""
    comments, levels = _comments(fence, doc, section, values, level, notes)
    for name, value in values.items():
        comment, line = " ".join(comments[name]), doc.lines[f"{section}.{name}"]
        bounds = None
        if section != "claude":
            try:
                bounds = rules.comment_bounds(comment, value)
            except ValueError as error:
                notes.problem(line, f"{name}: {error}", key=name)
            if _UNSURE.search(comment):
                notes.problem(line, f"{name}: {comment!r} does not say for certain whether it is frozen", key=name)
            elif level_of(comment) == "frozen" and levels[name] != "frozen":
                listed = levels[name] or "changeable"
                notes.problem(line, f"{name}: listed as {listed}, but its comment says {comment!r}", key=name)
        yield DraftKey(
            name=name, section=section, level=levels[name], default=value, has_default=value is not None,
            comment=comment, line=line, **_bounded(bounds, line),
        )  # fmt: skip


def _comments(
    fence: Fence, doc: yaml_edit.Document, section: str, values: dict[str, Any], level: Level | None, notes: Notes
) -> tuple[dict[str, list[str]], dict[str, Level | None]]:
    """Return the comments beside each key of a section, and the level that holds where the key stands."""
    keys = {doc.lines[f"{section}.{name}"]: name for name in values}
    comments: dict[str, list[str]] = {name: [] for name in values}
    levels: dict[str, Level | None] = {}
    current: str | None = None
    for line, text in enumerate(fence.text.split("\n"), start=fence.line):
        if line < doc.lines[section] or any(doc.lines[section] < doc.lines[s] <= line for s in doc.config):
            continue
        if line in keys:
            current = keys[line]
            levels[current] = level
        found = _COMMENT.search(text)
        if found and text.lstrip().startswith("#"):
            if _UNSURE.search(found[1]):
                notes.problem(line, f"comment {found[1]!r} does not say for certain what is frozen")
            level = level_of(found[1]) or level
        elif found and current:
            comments[current].append(found[1])
    return comments, levels
