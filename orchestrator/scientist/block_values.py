"""Which values the keys that change between blocks take in the next block, and why: the offline scientist's rule.

The first of these that changes something:

1. a value that a user instruction asks for and no block had;
2. where blocks run over a key with a list of values (`compare`): the next larger value that no block of the next
   block's regime had, then the next smaller one; a regime begins at the value that the block before it had;
3. when all were had: another key of an exclusive group (neural_ODE_training for recurrent_training) that may change
   between blocks and was never true, at the value of the best block;
4. the values of the best block.

A key that becomes true turns the others of its exclusive group off. With a time target the budget key is scaled with
them, so that the block's first run, which changes nothing, is near it already.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrator.core import block_keys, configs, pace, tree
from orchestrator.core.boundary import check_changes
from orchestrator.core.contract import KeyRule
from orchestrator.core.mutation import check_value, number
from orchestrator.core.records import Boundary, Change, canonical
from orchestrator.core.state import State
from orchestrator.core.stats import summarise
from orchestrator.errors import RefusedError


def next_values(state: State, regime: str) -> tuple[tuple[Change, ...], str]:
    """Return the changes for the block after the one that ends, in a regime, and their reason; ((), "") for none."""
    assert state.closing is not None
    for values, reason in _candidates(state, state.closing, regime):
        changes = tuple(_changes(state, state.closing, values))
        if changes and _lawful(state, changes, reason):
            return changes, reason
    return (), ""


def at_pace(state: State, regime: str, changes: tuple[Change, ...], reason: str) -> tuple[tuple[Change, ...], str]:
    """Return the changes and their reason with the budget that brings the next block's first run to the time target."""
    assert state.closing is not None
    carried, closing, rule = tree.carried(state), state.closing, pace.budget_rule(state.contract)
    target = state.contract.time_target_min
    if rule is None or target is None:
        return changes, reason
    own = next((r.values for r in state.contract.regimes if r.name == regime), {})
    base = state.base_config(carried.id if carried else None, closing + 1)
    config = configs.with_values(base, own | {change.key: change.new for change in changes})
    wanted, minutes = pace.wanted_budget(state, config, closing + 1), pace.predicted_min(state, config, closing + 1)
    old = state.value_in(closing, rule.key)
    if wanted is None or minutes is None or canonical(wanted.new) == canonical(old):
        return changes, reason
    told = (
        f"{rule.short} {number(wanted.new)} keeps the training near {pace.shown(target)} min (predicted "
        f"{pace.shown(minutes)} with {number(wanted.old)})"
    )
    return (*changes, Change(key=rule.key, old=old, new=wanted.new)), "; ".join(filter(None, (reason, told)))


def _lawful(state: State, changes: tuple[Change, ...], reason: str) -> bool:
    """Return whether the law of a block's end takes some changes: a person may have narrowed what a key may be."""
    assert state.closing is not None
    said = Boundary(
        block=state.closing, summary=(), regime="", focus="", hypothesis="", changes=changes, changes_reason=reason
    )
    try:
        check_changes(state, said)
    except RefusedError:
        return False
    return True


def asked_for(state: State) -> Iterator[tuple[KeyRule, Any]]:
    """Yield (key, value) that user instructions ask of keys which change between blocks, and no block had."""
    for item in state.contract.user_instructions:
        for key, values in item.between.items():
            rule = next((k for k in block_keys.rules(state.contract) if k.key == key), None)
            for value in values if rule is not None else ():
                if rule is not None and not _had(state, key, value):
                    yield rule, value


def _had(state: State, key: str, value: Any) -> bool:
    return any(canonical(state.value_in(b, key)) == canonical(value) for b in block_keys.begun(state))


def _candidates(state: State, closing: int, regime: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield values with their reason, what is to be tried first first."""
    for rule, value in asked_for(state):
        if _valid(rule, value):
            name = block_keys.told(state.contract, {rule.key: value})
            yield (
                {rule.key: value},
                f"a user instruction asks for {name}, and no block had it; {_reached(state, closing)}",
            )
    over = block_keys.compared(state.contract)
    if over is None:
        return
    blocks = [b for b in range(1, closing + 1) if state.regime_name(b) == regime]
    if not blocks:
        return  # the regime begins where the block before it was: the two are then compared at one value
    new = _new_value(state, over, blocks)
    if new is not None:
        name = block_keys.told(state.contract, {over.key: new[0]})
        yield (
            {over.key: new[0]},
            f"no block{f' of regime {regime}' if regime else ''} had {name}; {_reached(state, closing)}",
        )
        return
    best = _best_block(state, over, blocks)
    if best is None:
        return
    value = state.value_in(best, over.key)
    known = f"every value of {block_keys.name_of(state.contract, over.key)} was had; {_reached(state, best)}, the best"
    for key in _other_modes(state, best):
        told = block_keys.name_of(state.contract, key)
        yield {over.key: value, key: True}, f"{known}; {told} was never true"
    again = {rule.key: state.value_in(best, rule.key) for rule in block_keys.rules(state.contract)}
    yield {k: v for k, v in again.items() if _usable(state, k, v)}, known


def _valid(rule: KeyRule, value: Any) -> bool:
    try:
        check_value(rule, value)
    except RefusedError:
        return False
    return True


def _usable(state: State, key: str, value: Any) -> bool:
    rule = state.contract.key(key)
    return rule is not None and _valid(rule, value)


def _new_value(state: State, rule: KeyRule, blocks: list[int]) -> tuple[Any] | None:
    """Return the next value of a key's list that none of some blocks had, upwards first, or None."""
    values = block_keys.allowed(rule)
    had = {canonical(state.value_in(b, rule.key)) for b in blocks}
    now = state.value_in(blocks[-1], rule.key)
    if rule.type in ("int", "float"):
        larger = [v for v in values if v > now]
        smaller = [v for v in reversed(values) if v < now]
    else:
        at = values.index(now) if now in values else -1
        larger, smaller = list(values[at + 1 :]), list(reversed(values[: max(at, 0)]))
    return next(((v,) for v in (*larger, *smaller) if canonical(v) not in had), None)


def _best_block(state: State, rule: KeyRule, blocks: list[int]) -> int | None:
    """Return the block whose best node is best, among those with a value that the key may still have."""
    primary, ranked = state.contract.primary, []
    for block in blocks:
        node = tree.best(state, block)
        mean = summarise(state, node, primary.name).mean if node is not None else None
        if mean is not None and _valid(rule, state.value_in(block, rule.key)):
            ranked.append((-tree.reward(primary, mean), block))
    return min(ranked)[1] if ranked else None


def _other_modes(state: State, block: int) -> Iterator[str]:
    """Yield keys that no block had true, each of an exclusive group of which a block has another one true."""
    may = {rule.key for rule in block_keys.rules(state.contract)}
    for group in state.contract.exclusive:
        if any(key in may and state.value_in(block, key) is True for key in group):
            yield from (key for key in group if key in may and not _had(state, key, True) and _usable(state, key, True))


def _changes(state: State, closing: int, values: dict[str, Any]) -> Iterator[Change]:
    """Yield what differs from the block that ends; what becomes true turns the others of its group off."""
    may = {rule.key for rule in block_keys.rules(state.contract)}
    true = [key for key, value in values.items() if value is True]
    off = {other: False for key in true for other in block_keys.beside(state.contract, key)}
    for key, value in (values | off).items():
        if key in may and canonical(old := state.value_in(closing, key)) != canonical(value):
            yield Change(key=key, old=old, new=value)


def _reached(state: State, block: int) -> str:
    """Return what a block's best node reached: `block 1 (time_step=1) reached connectivity_R2 0.9980 (node 3, n=2)`."""
    name, node, settings = state.contract.primary.name, tree.best(state, block), block_keys.shown(state, block)
    where = f"block {block}" + (f" ({settings})" if settings else "")
    if node is None:
        return f"{where} gave no {name}"
    found = summarise(state, node, name)
    return f"{where} reached {name} {found.mean:.4f} (node {node.id}, n={found.n})"
