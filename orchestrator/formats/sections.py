"""Reads the parts of an instruction that are no config keys: metrics, classes, strategies, log form, plan, ..."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from orchestrator.formats import rules
from orchestrator.formats.draft import (
    BlockFocus,
    DraftClass,
    DraftDiagnosis,
    DraftGap,
    DraftMetric,
    EditableFile,
    Labels,
    LineOf,
    StartingPoint,
    StrategyRow,
)
from orchestrator.formats.markdown import CODE, Block, Fence, Heading, Item, Paragraph, Table, Text, codes, parse, plain
from orchestrator.formats.notes import Notes

_PRIMARY = re.compile(r"primary (?:optimization )?(?:metric|target)|\(PRIMARY\)", re.I)
_UNQUOTED = re.compile(r"primary (?:optimization )?metric\**\s*:\s*\**\s*([A-Za-z_]\w*)", re.I)
_SECONDARY = re.compile(r"secondary (?:metric|target)s?", re.I)
_GOAL_VERB = re.compile(r"\b(maximi[sz]e|minimi[sz]e)\s+(?:the\s+)?[`*]+([A-Za-z_]\w*)[`*]+", re.I)
_TARGET = re.compile(rf"(?:\btarget(?: \w+)?:?|\bnear|\bideal:?|^~|=)\s*~?\s*({rules.NUMBER})(?!\s*[%\d])")
_CLASS_ITEM = re.compile(r"^(?:\*\*(.+?)\*\*\s*:?|([A-Z][\w -]*?)\s*:)\s*(.*)$")
_BLOCK_ITEM = re.compile(r"^\**Block (\d+)(\+?)\**\s*(?:[:—–-]|\s-\s)\**\s*(.*)$")
_CAP = re.compile(r"~?(\d+)\s*lines max|at most (\d+) lines", re.I)
_SUPPORT = re.compile(r"(\d+)\+?\s*supporting iterations", re.I)
_CHANGES = re.compile(
    r"\b(?:mutate|change)\s+(?:only\s+|at most\s+)?(one|two|\d+)(?:\s*[-–]\s*(\d+))?\s+(?:parameters?|keys?)", re.I
)
_EXEMPT = re.compile(r"\b(?:does|do) not (?:apply|count)\b", re.I)
_KEY_WORD = re.compile(r"\b[a-z][A-Za-z]*_\w+\b")
_FIGURE = re.compile(r"\.(?:png|tiff?)$")
_GAP = re.compile(r"degeneracy\s+gap\b[^`\n]{0,20}\s?`(\w+)\s*[-−–]\s*(\w+)`", re.I)
_GAP_LIMIT = re.compile(rf"\bgap\s+(?:is\s+)?(?:>|≥|>=|over|above|(?:larger|more)\s+than)\s*({rules.NUMBER})", re.I)
_NO_EVIDENCE = re.compile(r"\btrust\b|\bnothing\b|\b(?:no|not)\s+evidence\b", re.I)
_PAIR = re.compile(rf"\b([A-Za-z_]\w*)\s*=\s*({rules.NUMBER}|true|false|True|False)(?![\w.])")
_NONE_YET = re.compile(r"^\W*(?:none|nothing)(?: yet| so far)?(?:[.!]\s.*|\W*)$", re.I)


def prose(text: Text) -> Iterator[tuple[Block, int, str]]:
    """Yield (block, line, text) of every source line of paragraphs and every list item."""
    for block in text.blocks:
        if isinstance(block, Paragraph):
            for i, line in enumerate(block.lines):
                yield block, block.line + i, line
        elif isinstance(block, Item):
            yield block, block.line, block.text


def under(block: Block, *words: str) -> bool:
    """Return whether a heading above the block holds one of `words` (lower case)."""
    return any(word in h.text.lower() for h in block.path for word in words)


def items_after(text: Text, *words: str) -> Iterator[Item]:
    """Yield list items that directly follow a label, or stand under a heading, with one of `words`."""
    labelled = False
    path: tuple[Heading, ...] = ()
    for block in text.blocks:
        labelled = labelled and block.path == path
        path = block.path
        if isinstance(block, Item):
            heading = block.path[-1].text.lower() if block.path else ""
            if labelled or heading in words or any(w in heading for w in words if " " in w or w == "classification"):
                yield block
        else:
            labelled = (
                isinstance(block, Paragraph)
                and block.label
                and any(w in block.text.lower() for w in words if w != "metrics")
            )


def direction(text: str) -> tuple[Literal["max", "min", "target"] | None, float | None]:
    """Return the direction that a description states, and the target value."""
    low = plain(text).lower().strip()
    if re.search(r"\bhigher\b|maximi", low) or re.match(r"(?:>|≥)", low):
        return "max", None
    if re.search(r"\blower\b|minimi", low) or re.match(r"(?:<|≤)", low):
        return "min", None
    found = _TARGET.search(low)
    return ("target", float(found[1])) if found else (None, None)


def metrics(text: Text, notes: Notes) -> list[DraftMetric]:
    """Return the metrics in document order, merged by name."""
    found: dict[str, DraftMetric] = {}

    def add(metric: DraftMetric) -> None:
        old = found.get(metric.name)
        if old is None:
            found[metric.name] = metric
            return
        update = {"aliases": tuple(dict.fromkeys((*old.aliases, *metric.aliases)))}
        fields: dict[str, object] = dict(update)
        if metric.role == "primary":
            fields |= {"role": "primary", "line": old.line if old.role == "primary" else metric.line}
        if old.direction is None and metric.direction:
            fields |= {"direction": metric.direction, "target": metric.target}
        found[metric.name] = old.model_copy(update=fields)

    for metric in (*_stated_metrics(text, notes), *_listed_metrics(text, notes), *_tabled_metrics(text, notes)):
        add(metric)
    primary = [m for m in found.values() if m.role == "primary"]
    for other in primary[1:]:
        notes.problem(
            other.line, f"a second primary metric: {other.name}; line {primary[0].line} names {primary[0].name}",
            key="primary",
        )  # fmt: skip
    return list(found.values())


def _stated_metrics(text: Text, notes: Notes) -> Iterator[DraftMetric]:
    for block, line, content in prose(text):
        verb = _GOAL_VERB.search(content) if under(block, "goal") else None
        if verb:
            notes.use(block)
            way: Literal["max", "min"] = "max" if verb[1].lower().startswith("max") else "min"
            yield DraftMetric(name=verb[2], role="primary", direction=way, line=line)
            continue
        first, second = _PRIMARY.search(content), _SECONDARY.search(content)
        marker = first or second
        if marker and not CODE.search(content):
            bare = _UNQUOTED.search(content)
            if bare:
                notes.use(block)
                yield DraftMetric(name=bare[1], role="primary", direction=direction(content)[0], line=line)
            continue
        if not marker:
            continue
        notes.use(block)
        if CODE.match(content):
            marked = [(CODE.match(content), content)]
        else:
            spans = list(CODE.finditer(content, marker.end())) or list(CODE.finditer(content))[-1:]
            ends = [s.start() for s in spans[1:]] + [len(content)]
            marked = [(s, content[s.end() : e]) for s, e in zip(spans, ends, strict=True)]
        for span, rest in marked[:1] if first else marked:
            if span is not None:
                way_, target = direction(rest)
                yield DraftMetric(
                    name=span[1], role="primary" if first else "secondary", direction=way_, target=target, line=line
                )


def _listed_metrics(text: Text, notes: Notes) -> Iterator[DraftMetric]:
    for item in items_after(text, "metrics from", "metrics in", "metrics"):
        span = CODE.match(item.text)
        if span:
            notes.use(item)
            aliases = tuple(re.findall(r"`(\w+)=\w+`", item.text[span.end() :]))
            way, target = direction(item.text[span.end() :])
            yield DraftMetric(name=span[1], direction=way, target=target, aliases=aliases, line=item.line)


def _tabled_metrics(text: Text, notes: Notes) -> Iterator[DraftMetric]:
    for table in text.blocks:
        if isinstance(table, Table) and table.header[0].lower() == "metric":
            notes.use(table)
            better, described = table.column("better", "good value", "direction"), table.column("description")
            for line, cells in table.rows:
                name = (codes(cells[0]) or [plain(cells[0])])[0]
                text_ = cells[described] if described is not None else ""
                way, target = direction(cells[better]) if better is not None else (None, None)
                role: Literal["primary", "secondary"] = "primary" if _PRIMARY.search(text_) else "secondary"
                aliases = tuple(re.findall(r"`(\w+)`", text_)) if "log label" in text_.lower() else ()
                yield DraftMetric(name=name, role=role, direction=way, target=target, aliases=aliases, line=line)


def classes(text: Text, notes: Notes) -> list[DraftClass]:
    """Return the classes, best first as listed."""
    rows: list[tuple[Block, int, str, str]] = []
    for item in items_after(text, "classification"):
        named = _CLASS_ITEM.match(item.text)
        if named:
            rows.append((item, item.line, (named[1] or named[2]).strip(": "), named[3]))
        else:
            notes.problem(
                item.line, f"class {item.text!r} cannot be read; write `- **Name**: metric > 0.9`", key="classes"
            )
    for block in text.blocks:
        if isinstance(block, Table) and block.header[0].lower() in ("class", "verdict") and len(block.header) > 1:
            rows += [(block, line, plain(cells[0]), cells[1]) for line, cells in block.rows]
    found = []
    for block, line, name, condition in rows:
        notes.use(block)
        try:
            alternatives = rules.conditions(condition)
        except ValueError as error:
            alternatives = ()
            notes.problem(line, f"class {name}: {error}", key="classes")
        found.append(DraftClass(name=name, alternatives=alternatives, text=plain(condition), line=line))
    return found


def starts(text: Text, notes: Notes) -> list[StartingPoint]:
    """Return `name=value` starting points."""
    found = []
    for item in (b for b in text.blocks if isinstance(b, Item) and under(b, "starting point", "prior knowledge")):
        pairs = [m for span in codes(item.text) for m in [_PAIR.fullmatch(span.strip())] if m]
        notes.use(item)
        found += [StartingPoint(name=m[1], value=rules.value(m[2]), line=item.line) for m in pairs]
    return found


def order(text: Text, notes: Notes) -> list[LineOf]:
    """Return the ordered items of an exploration order."""
    found = [i for i in items_after(text, "exploration order") if i.ordered]
    for item in found:
        notes.use(item)
    return [LineOf(text=i.text, line=i.line) for i in found]


def plan(text: Text, notes: Notes) -> list[BlockFocus]:
    """Return the block plan."""
    found = []
    for item in (b for b in text.blocks if isinstance(b, Item)):
        match = _BLOCK_ITEM.match(item.text)
        if match:
            notes.use(item)
            found.append(BlockFocus(block=int(match[1]), onwards=bool(match[2]), text=plain(match[3]), line=item.line))
    return found


def strategies(text: Text, notes: Notes) -> list[StrategyRow]:
    """Return the rows of strategy tables."""
    found = []
    for table in (b for b in text.blocks if isinstance(b, Table)):
        at = [table.column(n) for n in ("condition", "strategy", "action")]
        if None not in at:
            notes.use(table)
            for line, cells in table.rows:
                condition, strategy, action = (plain(cells[i]) for i in at if i is not None)
                found.append(StrategyRow(condition=condition, strategy=strategy, action=action, line=line))
    return found


def diagnosis(text: Text, notes: Notes) -> list[DraftDiagnosis]:
    """Return the rows of diagnosis tables."""
    found = []
    for table in (b for b in text.blocks if isinstance(b, Table)):
        at = table.column("diagnosis")
        if at is not None:
            notes.use(table)
            for line, cells in table.rows:
                pairs = [(h, plain(c)) for i, (h, c) in enumerate(zip(table.header, cells, strict=False)) if i != at]
                said = plain(cells[at]) if at < len(cells) else ""
                found.append(DraftDiagnosis(cells=tuple(pairs), diagnosis=said, line=line, table=table.line))
    return found


def gap(text: Text, notes: Notes) -> DraftGap | None:
    """Return the definition of the degeneracy gap, and the gap above which the dynamics are no evidence."""
    defined: DraftGap | None = None
    above: tuple[float, int] | None = None
    for block in text.blocks:
        if not isinstance(block, Paragraph | Item):
            continue
        content = "\n".join(block.lines) if isinstance(block, Paragraph) else block.text
        formula = _GAP.search(content)
        if formula and defined is None:
            notes.use(block)
            line = block.line + content[: formula.start()].count("\n")
            defined = DraftGap(minuend=formula[1], subtrahend=formula[2], line=line)
        limit = _GAP_LIMIT.search(content)
        if limit and above is None and _NO_EVIDENCE.search(content[limit.end() :]):
            notes.use(block)
            above = (float(limit[1]), block.line + content[: limit.start()].count("\n"))
    return defined.model_copy(update={"above": above}) if defined else None


def files(text: Text, notes: Notes) -> list[EditableFile]:
    """Return the rows of the table of files that may change."""
    found = []
    for table in (b for b in text.blocks if isinstance(b, Table)):
        at, said = table.column("file"), table.column("permission")
        if at is not None and said is not None:
            notes.use(table)
            for line, cells in table.rows:
                path, permission = plain(cells[at]), plain(cells[said])
                found.append(
                    EditableFile(path=path, permission=permission, functions=tuple(codes(cells[said])), line=line)
                )
    return found


def log_form(text: Text, notes: Notes) -> tuple[LineOf | None, dict[str, Labels]]:
    """Return the log form and the labels of its lines of facts (`Config:`, ...) and of its `Visual:` line."""
    for fence in (b for b in text.blocks if isinstance(b, Fence)):
        labels: dict[str, Labels] = {}
        for line, content in enumerate(fence.text.split("\n"), start=fence.line):
            kind, _, rest = content.partition(":")
            if kind in ("Config", "Metrics", "Activity", "Visual"):
                labels[kind.lower()] = Labels(labels=tuple(_labels(rest)), line=line)
        if labels.get("config", Labels()).labels:
            notes.use(fence)
            return LineOf(text=fence.text, line=fence.line), labels
    return None, {}


def _labels(text: str) -> Iterator[str]:
    depth, part = 0, ""
    for c in f"{text},":
        depth += (c in "[(") - (c in "])")
        if c == "," and depth == 0:
            found = re.match(r"\s*(\w+)\s*=", part)
            if found:
                yield found[1]
            part = ""
        else:
            part += c


def first_number(text: Text, kind: Literal["cap", "support", "changes"], notes: Notes) -> tuple[int, int] | None:
    """Return (number, line) of the first statement of the memory cap, principle support, or changes per mutation."""
    pattern = {"cap": _CAP, "support": _SUPPORT, "changes": _CHANGES}[kind]
    for block, line, content in prose(text):
        found = pattern.search(content)
        if found:
            notes.use(block)
            word = next(g for g in reversed(found.groups()) if g)
            return {"one": 1, "two": 2}.get(word.lower()) or int(word), line
    return None


def exempt(text: Text, notes: Notes) -> list[LineOf]:
    """Return keys that a line excuses from the one-change rule."""
    found = []
    for block, line, content in prose(text):
        match = _EXEMPT.search(content)
        if match and _CHANGES.search(block.text if isinstance(block, Paragraph | Item) else ""):
            notes.use(block)
            found += [LineOf(text=word, line=line) for word in _KEY_WORD.findall(content[match.end() :].split(",")[0])]
    return found


def figures(text: Text, notes: Notes) -> list[LineOf]:
    """Return paths of figures to look at."""
    found = []
    for block, line, content in prose(text):
        for span in codes(content):
            if _FIGURE.search(span):
                notes.use(block)
                found.append(LineOf(text=span, line=line))
    return found


def user_instructions(text: Text, notes: Notes) -> list[LineOf]:
    """Return the list items under "User instructions", or the paragraphs where it has no list; "None yet." is none."""
    blocks = [b for b in text.blocks if isinstance(b, Paragraph | Item) and under(b, "user instructions")]
    for block in blocks:
        notes.use(block)
    items = [b for b in blocks if isinstance(b, Item)] or blocks
    return [LineOf(text=b.text, line=b.line) for b in items if not _NONE_YET.match(b.text)]


def memory(text: Text) -> list[LineOf]:
    """Return the headings of the memory skeleton, written as headings or as a fenced markdown text."""
    found = [
        LineOf(text=f"{'#' * h.level} {h.text}", line=h.line)
        for h in text.headings
        if any(h in b.path for b in text.blocks) or h.level > 1
    ]
    for fence in (b for b in text.blocks if isinstance(b, Fence) and b.info in ("markdown", "md")):
        inner = parse(fence.text, fence.line - 1)
        found += [LineOf(text=f"{'#' * h.level} {h.text}", line=h.line) for h in inner.headings]
    return found
