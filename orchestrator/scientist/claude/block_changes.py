"""Keys that change between blocks only, as Claude is told of them and changes them at a block's end."""

from __future__ import annotations

from orchestrator.core import block_keys, tree
from orchestrator.core.boundary import between_rule
from orchestrator.core.contract import KeyRule
from orchestrator.core.mutation import number
from orchestrator.core.records import Change, canonical
from orchestrator.core.state import State
from orchestrator.core.stats import summarise
from orchestrator.scientist.claude import tools
from orchestrator.scientist.claude.plans import bounds, typed


def made(state: State, block: int, said: list[tools.BlockChange]) -> tuple[Change, ...]:
    """Return the changes for the block after an ended one; raises RefusedError for another key or type of value."""
    found = []
    for one in said:
        rule = between_rule(state, one.key)
        value = typed(rule, one.value)
        found.append(Change(key=rule.key, old=state.value_in(block, rule.key), new=value))
    return tuple(found)


def section(state: State) -> list[str]:
    """Return, at a block's end, a table of the keys that it may change; else nothing."""
    may = block_keys.changeable(state.contract)
    if state.closing is None or not may:
        return []
    primary = state.contract.primary.name
    head = f"| key | name | block {state.closing} has | may be | had by blocks, with the best {primary} |"
    lines = ["## Keys that change between blocks only (changes of end_block)", "", head, "|---|---|---|---|---|"]
    for rule in may:
        now = number(state.value_in(state.closing, rule.key))
        name = block_keys.name_of(state.contract, rule.key)
        lines.append(f"| {rule.key} | {name} | {now} | {bounds(rule)} | {_had(state, rule)} |")
    lines += [f"\nAt most one of these may be true: {', '.join(group)}." for group in _groups(state, may)]
    over = block_keys.compared(state.contract)
    if over is not None:
        name = block_keys.name_of(state.contract, over.key)
        lines += ["", f"Blocks run over the values of {name}; one that no block had fills a gap of the comparison."]
    return lines


def within(state: State, block: int) -> str:
    """Return a sentence on what holds through a block and changes at its end only; "" where nothing does."""
    held = {rule.key: state.value_in(block, rule.key) for rule in block_keys.rules(state.contract)}
    if not held:
        return ""
    return f" Held through the block, changed at its end only: {block_keys.told(state.contract, held)}."


def _groups(state: State, may: tuple[KeyRule, ...]) -> list[tuple[str, ...]]:
    return [group for group in state.contract.exclusive if {rule.key for rule in may} & set(group)]


def _had(state: State, rule: KeyRule) -> str:
    """Return which value which blocks had, each with the best mean of its blocks."""
    groups: dict[str, tuple[str, list[int]]] = {}
    for block in block_keys.begun(state):
        value = state.value_in(block, rule.key)
        groups.setdefault(canonical(value), (number(value), []))[1].append(block)
    return "; ".join(f"{value}: {_blocks(state, blocks)}" for value, blocks in groups.values())


def _blocks(state: State, blocks: list[int]) -> str:
    primary = state.contract.primary
    nodes = (tree.best(state, block) for block in blocks)
    found = [
        (mean, node.id) for node in nodes if node and (mean := summarise(state, node, primary.name).mean) is not None
    ]
    told = f"block{'s' if len(blocks) > 1 else ''} {', '.join(map(str, blocks))}"
    if not found:
        return f"{told} (no result)"
    mean, node = max(found, key=lambda pair: tree.reward(primary, pair[0]))
    return f"{told} ({mean:.4f}, node {node})"
