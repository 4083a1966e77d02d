"""Check the end of a block: what a scientist may say and change there.

Every refusal says what was refused, the rule, and the nearest valid thing (it is shown to the scientist).
"""

from __future__ import annotations

import difflib

from orchestrator.core import block_keys, configs, strategy_rows
from orchestrator.core.contract import KeyRule
from orchestrator.core.mutation import check_value, number
from orchestrator.core.records import Boundary, Change, RuleEdit, Turn, canonical
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
    check_changes(state, said)


def check_changes(state: State, said: Boundary) -> None:
    """Raise RefusedError unless each change at a block's end is of a key that may change there, to a value it may have.

    They are for the next block; a key has one value in a block, so `old` is that of the block that ends.
    """
    if said.changes_reason.strip() and not said.changes:
        raise RefusedError(
            "a changes_reason without changes refused: nothing changes; say it in the summary or the focus"
        )
    keys = [change.key for change in said.changes]
    for change in said.changes:
        if keys.count(change.key) > 1:
            raise RefusedError(f"{change.key} refused: it is changed {keys.count(change.key)} times; give one value")
        _check_change(state, said.block, change, between_rule(state, change.key))
    if said.changes and not said.changes_reason.strip():
        raise RefusedError(f"changes of {', '.join(keys)} refused: no reason is given; name the evidence")
    _check_exclusive(state, said)


def between_rule(state: State, key: str) -> KeyRule:
    """Return the rule of a key (by any of its names) that a block's end may change; raises RefusedError for others."""
    may = block_keys.changeable(state.contract)
    names = {name: k for k in state.contract.keys for name in (k.key.split(".")[-1], k.short, k.key)}
    names |= {name: k for k in may for name in (k.key.split(".")[-1], k.short, k.key)}
    rule = names.get(key)
    if rule is not None and rule in may:
        return rule
    listed = ", ".join(k.key for k in may) or "none"
    if rule is None:
        near = difflib.get_close_matches(key[:80], [k.key for k in may], n=3, cutoff=0.3)
        told = f"nearest: {', '.join(near)}" if near else f"a block's end may change {listed}"
        raise RefusedError(f"{key[:80]} refused: no such key; {told}")
    why = f"is frozen ({rule.source})" if rule.level == "frozen" else "changes within blocks, by a proposal"
    raise RefusedError(f"{rule.key} refused: it {why}; a block's end may change {listed}")


def _check_change(state: State, block: int, change: Change, rule: KeyRule) -> None:
    if change.key != rule.key:
        raise RefusedError(f"{change.key} refused: a change names its key in full: {rule.key}")
    check_value(rule, change.new)
    now = state.value_in(block, rule.key)
    if canonical(change.old) != canonical(now):
        raise RefusedError(f"{rule.key}: old value {change.old!r} refused: block {block} has {number(now)}")
    if canonical(change.new) == canonical(now):
        raise RefusedError(f"{rule.key} = {number(now)} refused: that is its value already; leave it out to keep it")


def _check_exclusive(state: State, said: Boundary) -> None:
    """Raise RefusedError when a config that the next block may start from would have two keys of a group true."""
    if not said.changes or state.opened is None:
        return
    new = {change.key: change.new for change in said.changes}
    for base in (None, *state.nodes):
        true = state.contract.clash(configs.with_values(state.base_config(base, said.block + 1), new))
        if true:
            where = "the start" if base is None else f"node {base}"
            others = [key for key in true if new.get(key) is not True] or list(true[1:])
            raise RefusedError(
                f"{', '.join(new)} refused: at most one of {', '.join(true)} may be true, and with these changes the "
                f"config of {where} has all of them; set {' and '.join(others)} to False too"
            )


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
