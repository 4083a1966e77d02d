"""Rows of the strategy table: read their numbers, and change them at a block's end."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.core.contract import StrategyRule
from orchestrator.core.records import RuleEdit

MAX_ROWS = 30
"""Rows that a strategy table may hold."""


def read_row(
    name: str,
    condition: str,
    action: str,
    metric: Callable[[str], str | None] = lambda word: None,
    *,
    source: str = "",
    block: int = 0,
) -> StrategyRule:
    """Return a row with the numbers that its condition states.

    Args:
        name: the strategy, e.g. `forced-branch`; one that is not in the registry gives `known=False`.
        condition: as written, e.g. `Same R² plateau (±0.05) for 3+ iters`.
        action: as written.
        metric: returns the scorer's name of a metric word of the condition, or None.
        source: `file:line`.
        block: block at whose end the row was made; 0 is the instruction's own.
    """
    return StrategyRule(name=name, condition=condition, action=action, source=source, block=block)


def edited(rows: tuple[StrategyRule, ...], edits: tuple[RuleEdit, ...], block: int) -> tuple[StrategyRule, ...]:
    """Return `rows` after the edits of a block's end; an edit of a row that is not there changes nothing."""
    for edit in edits:
        made = read_row(edit.strategy, edit.condition, edit.action, source=f"end of block {block}", block=block)
        if edit.op == "remove":
            rows = tuple(r for r in rows if r.name != edit.strategy)
        elif edit.op == "change":
            rows = tuple(made if r.name == edit.strategy else r for r in rows)
        elif len(rows) < MAX_ROWS:
            rows = (*rows, made)
    return rows
