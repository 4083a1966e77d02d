"""Stop rules of exploration.yaml that follow from the state (the clock's rule, `until`, is the engine's)."""

from __future__ import annotations

from orchestrator.core import block_keys, tree
from orchestrator.core.records import canonical
from orchestrator.core.state import State
from orchestrator.core.stats import noise, summarise


def target_reached(state: State, target: float | None) -> str | None:
    """Return a sentence when the best mean primary metric in the next iteration's regime has reached the target."""
    node, rule = tree.best_in_regime(state, state.regime_name(state.block)), state.contract.primary
    if target is None or node is None:
        return None
    summary = summarise(state, node, rule.name)
    if summary.mean is None or tree.reward(rule, summary.mean) < tree.reward(rule, target):
        return None
    return f"target reached: node {node.id} has {rule.name} {summary.mean:.4f} (n={summary.n}), target {target:g}"


def without_gain(state: State, blocks: int | None) -> str | None:
    """Return a sentence when the last `blocks` complete blocks did not improve on the best before them.

    A gain must exceed the noise floor (pooled standard deviation) once that is measured. Only blocks of one regime, and
    of the same values of the keys that change between blocks, are compared: the first of its kind is a gain.
    """
    complete = sum(not it.proposal.filler for it in state.done) // state.n_iter_block
    if blocks is None or complete <= blocks:
        return None
    rule = state.contract.primary
    floor = 0.0
    for block in range(complete - blocks + 1, complete + 1):
        floor = noise(state, rule.name, block).sd or 0.0
        earlier = [b for b in range(1, complete - blocks + 1) if _kind(state, b) == _kind(state, block)]
        before = max((x for b in earlier if (x := best_of(state, b)) is not None), default=None)
        after = best_of(state, block)
        if before is None or (after is not None and after > before + floor):
            return None
    return f"no gain beyond the noise floor ({floor:.4f}) in the last {blocks} block(s)"


def _kind(state: State, block: int) -> tuple[str, str]:
    values = {rule.key: state.value_in(block, rule.key) for rule in block_keys.rules(state.contract)}
    return state.regime_name(block), canonical(values)


def best_of(state: State, block: int) -> float | None:
    """Return the best reward (larger is better) of the nodes of a block."""
    node, rule = tree.best(state, block), state.contract.primary
    mean = summarise(state, node, rule.name).mean if node is not None else None
    return None if mean is None else tree.reward(rule, mean)
