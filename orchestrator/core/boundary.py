"""Check the end of a block: what a scientist may say and change there.

Every refusal says what was refused, the rule, and the nearest valid thing (it is shown to the scientist).
"""

from __future__ import annotations

import difflib

from orchestrator.core import strategy_rows
from orchestrator.core.records import Boundary, RuleEdit, Turn
from orchestrator.core.state import State
from orchestrator.errors import RefusedError

MAX_SUMMARY_LINES = 3


def check(state: State, turn: Turn) -> None:
    """Raise RefusedError unless the turn ends the block that is to be ended, and no other.

    A turn that ends a block proposes nothing: the next block's data are prepared in between.
    """
    closing, said = state.closing, turn.boundary
    if closing is None:
        if said is not None:
            raise RefusedError(f"end of block {said.block} refused: no block is complete now; leave `boundary` out")
        _check_within(state, turn)
        return
    if said is None:
        raise RefusedError(
            f"a turn without `boundary` refused: block {closing} is complete, so this turn ends it (summary, rule "
            "edits, the next block's regime, focus and hypothesis)"
        )
    if turn.proposals:
        raise RefusedError(f"proposals refused: block {closing} ends in this turn; the next turn begins block +1")
    if said.block != closing:
        raise RefusedError(f"end of block {said.block} refused: the complete block is {closing}")
    check_end(state, said)
    check_rules(state, said.rules)


def _check_within(state: State, turn: Turn) -> None:
    """Raise RefusedError when a proposal begins a block before the one before it is ended."""
    for proposal in turn.proposals:
        block = state.block_for(proposal)
        if proposal.iteration == state.first_of(block) and block > 1 and block - 1 not in state.boundaries:
            raise RefusedError(
                f"iteration {proposal.iteration} refused: it begins block {block}, and block {block - 1} is not ended; "
                "propose fewer, and wait for its runs"
            )


def check_end(state: State, said: Boundary) -> None:
    """Raise RefusedError unless a block's end has its words, and the next block's regime and keys exist."""
    if not 1 <= len(said.summary) <= MAX_SUMMARY_LINES:
        raise RefusedError(f"a summary of {len(said.summary)} lines refused: 1 to {MAX_SUMMARY_LINES} lines")
    for name in ("focus", "hypothesis"):
        if not getattr(said, name).strip():
            raise RefusedError(f"an empty {name} refused: say it in one line")
    names = [r.name for r in state.contract.regimes]
    if names and said.regime not in names:
        raise RefusedError(f"regime {said.regime!r} refused: declared are {', '.join(names)} (exploration.yaml)")
    if not names and said.regime:
        raise RefusedError(f'regime {said.regime!r} refused: exploration.yaml declares none; use ""')
    for key in said.focus_keys:
        if state.contract.key(key) is None:
            near = difflib.get_close_matches(key, [k.key for k in state.contract.keys], n=3, cutoff=0.3)
            raise RefusedError(f"focus key {key} refused: no such key; nearest: {', '.join(near) or 'none'}")


def check_rules(state: State, edits: tuple[RuleEdit, ...]) -> None:
    """Raise RefusedError unless the edits of one block's end fit the strategy table, in their order."""
    rows = {row.name for row in state.strategies}
    for edit in edits:
        if not edit.reason.strip():
            raise RefusedError(f"rule edit of {edit.strategy} refused: it gives no reason; name the evidence")
        if "|" in edit.condition + edit.action or "\n" in edit.condition + edit.action:
            raise RefusedError(f"rule edit of {edit.strategy} refused: a table cell is one line without `|`")
        if edit.op == "add":
            if edit.strategy in rows:
                raise RefusedError(f"row {edit.strategy} refused: the table has it; change it instead")
            if len(rows) >= strategy_rows.MAX_ROWS:
                raise RefusedError(f"row {edit.strategy} refused: the table is full ({strategy_rows.MAX_ROWS} rows)")
            rows.add(edit.strategy)
        elif edit.strategy not in rows:
            near = ", ".join(difflib.get_close_matches(edit.strategy, sorted(rows), n=3, cutoff=0.3)) or "none"
            raise RefusedError(f"row {edit.strategy} refused: the table has no such row; nearest: {near}")
        elif edit.op == "remove":
            rows.discard(edit.strategy)
