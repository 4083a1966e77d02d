"""Rows of the strategy table: read their numbers, and change them at a block's end."""

from __future__ import annotations

import re
from collections.abc import Callable

from orchestrator.core.contract import StrategyRule
from orchestrator.core.records import RuleEdit
from orchestrator.core.strategy_kinds import READERS, kind_of

MAX_ROWS = 30
"""Rows that a strategy table may hold."""
_METRIC_WORD = re.compile(r"[A-Za-z][\w²]*")
_PRIMARY_WORDS = ("R2", "R²")


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

    A number that the condition does not state is the registry's default, and listed in `assumed`.

    Args:
        name: the strategy, e.g. `forced-branch`; one that is not in the registry gives `known=False`.
        condition: as written, e.g. `Same R² plateau (±0.05) for 3+ iters`.
        action: as written.
        metric: returns the scorer's name of a metric word of the condition, or None.
        source: `file:line`.
        block: block at whose end the row was made; 0 is the instruction's own.
    """
    kind = kind_of(name, condition)
    fields = {"name": name, "condition": condition, "action": action, "source": source, "block": block}
    if kind is None:
        return StrategyRule.model_validate(fields | {"known": False})
    stated = {number: READERS[number](condition) for number in kind.reads}
    numbers = {number: value for number, value in stated.items() if value is not None}
    if "count" in numbers and "count" in kind.reads:
        numbers["count"] = max(1.0, numbers["count"])
    assumed = {number: value for number, value in kind.defaults.items() if number not in numbers}
    if "count" in numbers:
        assumed.pop("block_fraction", None)  # "5 consecutive successes" needs no share of a block
    words = [w for w in _METRIC_WORD.findall(condition) if w not in _PRIMARY_WORDS] if kind.metric else []
    found = next((m for m in map(metric, words) if m is not None), None)
    return StrategyRule.model_validate(
        fields | {"metric": found, "numbers": numbers | assumed, "assumed": tuple(sorted(assumed))}
    )


def edited(rows: tuple[StrategyRule, ...], edits: tuple[RuleEdit, ...], block: int) -> tuple[StrategyRule, ...]:
    """Return `rows` after the edits of a block's end.

    A row that is added under a name that is there replaces it; a change or removal of a row that is not there changes
    nothing. An empty condition or action of an edit keeps the row's own, and a changed row keeps its metric.
    """
    for edit in edits:
        old = next((r for r in rows if r.name == edit.strategy), None)
        if edit.op == "remove":
            rows = tuple(r for r in rows if r.name != edit.strategy)
            continue
        condition, action = edit.condition or (old.condition if old else ""), edit.action or (old.action if old else "")
        made = read_row(edit.strategy, condition, action, source=f"end of block {block}", block=block)
        if old is not None:
            made = made.model_copy(update={"metric": old.metric})
            rows = tuple(made if r.name == edit.strategy else r for r in rows)
        elif edit.op == "add" and len(rows) < MAX_ROWS:
            rows = (*rows, made)
    return rows
