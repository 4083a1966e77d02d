"""The strategy table inside the instruction's copy: rows added, changed and removed at block ends."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from orchestrator.core.records import RuleEdit
from orchestrator.core.state import State


def instruction_text(text: str, edits: Iterable[RuleEdit]) -> str:
    """Return the instruction after rule edits of its strategy table, in their order; all other lines as they were."""
    lines = text.split("\n")  # not splitlines: a form feed is no line end of Markdown
    for edit in edits:
        lines = _edited(lines, edit)
    return "\n".join(lines)


def in_force(state: State, through: int | None = None) -> str:
    """Return the instruction in force (`through`: as it stood when that block had ended; 0 is the opening)."""
    assert state.opened is not None
    last = state.seq if through is None else state.boundary_seq.get(through + 1, state.seq)
    amended = [a.instruction for seq, a in state.amendments if seq <= last]
    ended = [n for n in sorted(state.boundaries) if through is None or n <= through]
    edits = (edit for n in ended for edit in state.rule_edits(n))
    return instruction_text(amended[-1] if amended else state.opened.instruction, edits)


def block_diff(state: State, block: int) -> str:
    """Return the unified diff of the instruction that a block's end made, without context; "" when it made none."""
    before = in_force(state, through=block - 1)
    after = instruction_text(before, state.boundaries[block].rules)
    texts = (before.splitlines(), after.splitlines())
    lines = list(difflib.unified_diff(*texts, "instruction.md", "instruction.md", lineterm="", n=0))
    return "\n".join(lines)


def _row_text(edit: RuleEdit) -> str:
    return f"| {edit.condition} | **{edit.strategy}** | {edit.action} |"


def _table(lines: list[str]) -> range:
    """Return the lines of the strategy table's rows; empty when the instruction has none."""
    for at, line in enumerate(lines):
        cells = [c.strip().lower() for c in line.strip().strip("|").split("|")]
        if line.strip().startswith("|") and "condition" in cells and "strategy" in cells:
            end = at + 2
            while end < len(lines) and lines[end].strip().startswith("|"):
                end += 1
            return range(at + 2, end)
    return range(0)


def _is_row(line: str, strategy: str) -> bool:
    cells = [c.strip().strip("*`") for c in line.strip().strip("|").split("|")]
    return strategy in cells


def _edited(lines: list[str], edit: RuleEdit) -> list[str]:
    rows = _table(lines)
    at = next((i for i in rows if _is_row(lines[i], edit.strategy)), None)
    if edit.op == "add":
        if rows and at is None:
            return [*lines[: rows.stop], _row_text(edit), *lines[rows.stop :]]
        return lines
    if at is None:
        return lines
    return [*lines[:at], *([_row_text(edit)] if edit.op == "change" else []), *lines[at + 1 :]]
