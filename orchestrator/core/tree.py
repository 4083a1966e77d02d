"""The tree of experiments and its UCB scores.

Scorers (named, versioned; N and V count nodes, never runs):

- `puct` v1: `R + c * sqrt(N) / (1 + V)`, N nodes of the block, V = 1 + descendants of the node within the block.
- `ucb1` v1: `R + c * sqrt(ln(N + 1) / V)`, the same N and V.

R is the mean of the primary metric over the node's runs, turned so that larger is better. The tree is per block: a
parent outside the block is root. Nodes without R (failed, or not finished) have no score and sort last.
"""

from __future__ import annotations

import math

from orchestrator.core.contract import Contract, MetricRule
from orchestrator.core.memo import per_state
from orchestrator.core.records import Record
from orchestrator.core.state import Node, State
from orchestrator.core.stats import Summary, noise, summarise

SCORERS = {"puct": 1, "ucb1": 1}


class Score(Record):
    """One node's line in ucb_scores.txt."""

    node: int
    parent: int | None
    visits: int
    """1 + descendants within the block."""
    summary: Summary
    ucb: float | None
    """Null for a node without a result; it sorts last."""


def reward(rule: MetricRule, value: float) -> float:
    """Return the metric as a reward: larger is better, whatever the direction."""
    if rule.direction == "max":
        return value
    if rule.direction == "min":
        return -value
    return -abs(value - (rule.target or 0.0))


def block_nodes(state: State, block: int) -> list[Node]:
    """Return the nodes created in a block, by id."""
    return [n for _, n in sorted(state.nodes.items()) if n.block == block]


def visits(nodes: list[Node]) -> dict[int, int]:
    """Return V of each node: 1 + its descendants among `nodes`."""
    count = {n.id: 1 for n in nodes}
    for node in sorted(nodes, key=lambda n: -n.id):
        if node.parent in count:
            count[node.parent] += count[node.id]
    return count


def ucb(scorer: str, r: float, c: float, n: int, v: int) -> float:
    """Return the score of one node (formulas in the module's docstring)."""
    if scorer == "puct":
        return r + c * math.sqrt(n) / (1 + v)
    return r + c * math.sqrt(math.log(n + 1) / v)


def scores(state: State, block: int) -> list[Score]:
    """Return the block's nodes with a finished run, best score first; ties by lower id; failed nodes last."""
    return list(_scores(state, block))


@per_state
def _scores(state: State, block: int) -> tuple[Score, ...]:
    contract: Contract = state.contract
    nodes = block_nodes(state, block)
    seen = [n for n in nodes if any(state.iterations[i].final for i in n.iterations)]
    count, inside = visits(nodes), {n.id for n in nodes}
    rows = []
    for node in seen:
        summary = summarise(state, node, contract.primary.name)
        score = None
        if summary.mean is not None:
            r = reward(contract.primary, summary.mean)
            score = ucb(contract.scorer, r, contract.ucb_c, len(seen), count[node.id])
        parent = node.parent if node.parent in inside else None
        rows.append(Score(node=node.id, parent=parent, visits=count[node.id], summary=summary, ucb=score))
    return tuple(sorted(rows, key=lambda s: (s.ucb is None, -(s.ucb or 0.0), s.node)))


def best(state: State, block: int | None = None) -> Node | None:
    """Return the best node of a block, or (null) of all blocks in the present regime; ties to the lower id.

    The present regime is that of the block shown, until its first result that of the block before.

    Ranked by the mean reward less one standard error, sd / sqrt(n) with the pooled noise floor, so that one lucky run
    does not outrank a config that was good twice. While no replicate has run, by the mean.
    """
    if block is not None:
        return _best(state, frozenset((block,)))
    shown = state.block_shown
    own = best_in_regime(state, state.regime_name(shown))
    return own or (best_in_regime(state, state.regime_name(shown - 1)) if shown > 1 else None)


def best_in_regime(state: State, regime: str) -> Node | None:
    """Return the best node of all blocks in a regime (by name)."""
    return _best(state, frozenset(b for b in range(1, state.block + 1) if state.regime_name(b) == regime))


def carried(state: State) -> Node | None:
    """Return the node that a new block starts from: the best in its regime, else the best of the block before.

    A config carried into a new regime is a new node there (parent=root).
    """
    own = best_in_regime(state, state.regime_name(state.block))
    return own or best_in_regime(state, state.regime_name(max(1, state.block - 1)))


@per_state
def _best(state: State, blocks: frozenset[int]) -> Node | None:
    rule = state.contract.primary
    sd = noise(state, rule.name, min(blocks)).sd or 0.0 if blocks else 0.0
    ranked = []
    for node in state.nodes.values():
        if node.block in blocks:
            summary = summarise(state, node, rule.name)
            if summary.mean is not None:
                ranked.append((sd / math.sqrt(summary.n) - reward(rule, summary.mean), node.id))
    return state.nodes[min(ranked)[1]] if ranked else None
