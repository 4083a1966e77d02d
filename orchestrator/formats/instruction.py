"""Reads an instruction (markdown that scientists write) into a typed draft with the line of every item.

The grammar is instructions/README.md. What is there but cannot be read with certainty becomes a problem with its
line; a heading from which nothing was read is listed. Nothing is checked against a trainer here (see `compile`).
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from orchestrator.errors import InstructionError
from orchestrator.formats import magnitudes, sections, spread, statements, yaml_edit
from orchestrator.formats.draft import DraftClass, DraftMetric, FrontMatter, InstructionDraft, Labels, LineOf
from orchestrator.formats.markdown import Fence, Heading, Item, Paragraph, Text, parse
from orchestrator.formats.notes import Notes
from orchestrator.formats.parameters import Keys

_MEMORY = re.compile(r"memory (?:file )?structure", re.I)
_AFTER_MEMORY = re.compile(r"^(?:theoretical )?background", re.I)
_PROTOCOL = re.compile(
    r"file structure|full log|working memory|iteration (?:loop|workflow)|^step [a-z0-9.]+\b|block workflow", re.I
)
"""Headings of the written protocol that the engine itself carries out."""


def read_instruction(text: str, source: str) -> InstructionDraft:
    """Return the draft of an instruction; problems are in it, with their lines.

    Raises:
        InstructionError: the text is empty, has no heading, or its front matter cannot be read.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise InstructionError(f"{source}: the file is empty; start from instructions/TEMPLATE.md")
    front, body = _front_matter(text, source)
    parsed = parse(body)
    if not parsed.headings:
        raise InstructionError(f"{source}:1: no heading found; expected `# Title`, see instructions/TEMPLATE.md")
    notes = Notes(source)
    main, memory = _without_memory(parsed)
    keys = Keys(notes)
    keys.read(main.blocks)
    classes = sections.classes(main, notes)
    metrics = _with_primary(sections.metrics(main, notes), classes, notes)
    form, labels = sections.log_form(main, notes)
    fields: dict[str, Any] = {
        "keys": tuple(keys.found.values()),
        "frozen": tuple(keys.frozen),
        "claude": tuple(keys.claude.values()),
        "starts": sections.starts(main, notes),
        "spread": spread.read(main, notes),
        "magnitudes": magnitudes.read(main, notes),
        "order": sections.order(main, notes),
        "plan": sections.plan(main, notes),
        "strategies": sections.strategies(main, notes),
        "diagnosis": sections.diagnosis(main, notes),
        "gap": sections.gap(main, notes),
        "files": sections.files(main, notes),
        "log_form": form,
        **{f"log_{k}": labels.get(k, Labels()) for k in ("config", "metrics", "activity", "visual")},
        "memory_headings": sections.memory(memory),
        "memory_cap": sections.first_number(main, "cap", notes),
        "principle_support": sections.first_number(parsed, "support", notes),
        "max_changes": sections.first_number(main, "changes", notes),
        "exempt": sections.exempt(main, notes),
        "figures": sections.figures(main, notes),
        "user_instructions": sections.user_instructions(main, notes),
        "noise_scales": statements.noise_scales(main),
        "reductions": statements.reductions(main),
        "layers": statements.layers(main),
        "goal": _goal(main, notes),
    }
    return InstructionDraft(
        source=source,
        front=front,
        title=LineOf(text=parsed.headings[0].text, line=parsed.headings[0].line),
        metrics=tuple(metrics),
        classes=tuple(classes),
        unmapped=_unmapped(main, front, notes),
        problems=tuple(notes.problems),
        **fields,
    )


def _front_matter(text: str, source: str) -> tuple[FrontMatter, str]:
    """Return the front matter and the text with as many empty lines in its place."""
    lines = text.split("\n")
    if lines[0].rstrip() != "---":
        return FrontMatter(), text
    end = next((i for i, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), None)
    if end is None:
        raise InstructionError(f"{source}:1: front matter is not closed; end it with a line `---`")
    inner = "\n".join(["", *lines[1:end]])
    try:
        front = FrontMatter.model_validate(yaml_edit.load(inner, source) if inner.strip() else {})
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        known = ", ".join(FrontMatter.model_fields)
        raise InstructionError(f"{source}:1: front matter: {found}; fields: {known}") from error
    return front, "\n".join([""] * (end + 1) + lines[end + 1 :])


def _without_memory(text: Text) -> tuple[Text, Text]:
    """Return the document without its memory skeleton, and the skeleton."""
    inside: set[Heading] = set()
    top: Heading | None = None
    for heading in text.headings:
        if top and (heading.level <= top.level or _AFTER_MEMORY.match(heading.text)):
            top = None
        if top is None and _MEMORY.search(heading.text):
            top = heading
        if top:
            inside.add(heading)

    def lies_in(path: tuple[Heading, ...]) -> bool:
        return bool(path) and path[-1] in inside

    skeleton = tuple(b for b in text.blocks if lies_in(b.path))
    main = tuple(
        replace(b, path=tuple(h for h in b.path if h not in inside)) for b in text.blocks if not lies_in(b.path)
    )
    return (
        Text(tuple(h for h in text.headings if h not in inside), main),
        Text(tuple(h for h in text.headings if h in inside and not _MEMORY.search(h.text)), skeleton),
    )


def _goal(text: Text, notes: Notes) -> LineOf | None:
    parts: list[str] = []
    first = 0
    for block in text.blocks:
        if block.path and "goal" in block.path[-1].text.lower() and isinstance(block, Paragraph | Item | Fence):
            first = first or block.line
            parts.append("\n".join(block.lines) if isinstance(block, Paragraph) else f"- {block.text}")
            notes.use(block)
    return LineOf(text="\n".join(parts), line=first) if parts else None


def _with_primary(metrics: list[DraftMetric], classes: list[DraftClass], notes: Notes) -> list[DraftMetric]:
    """Return the metrics with a primary one: stated, or the only metric that the classes are about."""
    if any(m.role == "primary" for m in metrics):
        return metrics
    judged = {c.metric for cls in classes for alternative in cls.alternatives for c in alternative}
    names = judged - {None}
    if len(names) != 1 or any(not c.alternatives for c in classes):
        notes.problem(
            classes[0].line if classes else 1,
            "no primary metric; write `Primary metric: \\`name\\` (higher is better)` under the goal, "
            "or set `primary:` in exploration.yaml".replace("\\`", "`"),
            key="primary",
        )
        return metrics
    name, line = str(names.pop()), classes[0].line
    notes.problem(line, f"primary metric {name}: taken from the classes, which judge nothing else", stops=False)
    if not any(m.name == name for m in metrics):
        return [*metrics, DraftMetric(name=name, role="primary", line=line)]
    return [m.model_copy(update={"role": "primary"}) if m.name == name else m for m in metrics]


def _unmapped(text: Text, front: FrontMatter, notes: Notes) -> tuple[LineOf, ...]:
    """Return the topmost headings from which, and from below which, nothing was read."""
    children: dict[Heading, set[Heading]] = {h: {h} for h in text.headings}
    parents: dict[Heading, tuple[Heading, ...]] = {}
    path: tuple[Heading, ...] = ()
    for heading in text.headings:
        path = (*(h for h in path if h.level < heading.level), heading)
        parents[heading] = path[:-1]
        for above in path:
            children[above].add(heading)
    prose = {name.lower() for name in front.prose}
    found: list[LineOf] = []
    dropped: set[Heading] = set()
    for heading in text.headings[1:]:
        if any(h in dropped or h.text.lower() in prose for h in (*parents[heading], heading)):
            continue
        if any(h.line in notes.used for h in children[heading]):
            continue
        if not _PROTOCOL.search(heading.text):
            found.append(LineOf(text=heading.text, line=heading.line))
            dropped.add(heading)
    return tuple(found)
