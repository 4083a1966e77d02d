"""When the strategies about code edits (verdicts: `core.edits`), and about the form of the model, hold."""

from __future__ import annotations

import re

from orchestrator.core import edits
from orchestrator.core.contract import StrategyRule
from orchestrator.core.edits import Judged, Verdict
from orchestrator.core.scene import Scene
from orchestrator.core.state import Node
from orchestrator.core.strategy_predicates import (
    Found,
    Predicate,
    key_of,
    listed,
    metric_of,
    plateau,
    plateau_text,
    values_text,
)

_SAME = re.compile(r"(\w+)\s*=\s*([\w.+-]+).*?\b(?:as|and|to)\s+([\w.+-]+)\s*$", re.I)


def _edits(scene: Scene, rule: StrategyRule) -> list[tuple[Node, Judged]]:
    """Return the block's code nodes with their verdicts, run or not; a crashed one that was mended is left out."""
    state, inside = scene.state, {it.node for it in scene.iterations}
    found = [n for n in edits.code_nodes(state, scene.block) if n.id in inside]
    mended = {c.repairs for n in found if (c := state.iterations[n.id].proposal.mutation.code) is not None}
    return [(n, edits.judged(state, n, metric=rule.metric)) for n in found if n.id not in mended]


def _newest(scene: Scene, rule: StrategyRule, wanted: tuple[Verdict, ...], *, last: bool) -> Found | None:
    """Return the newest decided code node if its verdict is wanted; with `last`, if no edit was proposed after it."""
    decided = [(node, found) for node, found in _edits(scene, rule) if found.verdict != "open"]
    if not decided or decided[-1][1].verdict not in wanted:
        return None
    node, found = decided[-1]
    ended = scene.state.iterations[node.id].attempts[-1].ended_seq or 0
    proposed = [it for it in scene.iterations if it.proposal.mutation.kind == "code"]
    if last and any(it.seq > ended for it in proposed):
        return None  # that edit is the answer to this one
    origin = edits.reference(scene.state, node)
    waits = any(it.node == node.id for it in edits.awaiting_repair(scene.state))
    more = f" (it may be mended {edits.repairs_left(scene.state, node.id)} more time(s))" if waits else ""
    return Found(
        evidence=f"the code edit of node {node.id}: {found.sentence}{more}",
        since=node.id,
        nodes=(node.id, origin.id) if origin is not None else (node.id,),
    )


def _code_refine(scene: Scene, rule: StrategyRule) -> Found | None:
    return _newest(scene, rule, ("keep",), last=False)


def _code_revert(scene: Scene, rule: StrategyRule) -> Found | None:
    return _newest(scene, rule, ("worse", "crashed"), last=True)


def _code_next_priority(scene: Scene, rule: StrategyRule) -> Found | None:
    return _newest(scene, rule, ("neutral",), last=True)


def _code_modification(scene: Scene, rule: StrategyRule) -> Found | None:
    if any(found.verdict == "open" for _, found in _edits(scene, rule)):
        return None
    flat = plateau(scene, rule)
    codes = {it.proposal.code for it, _ in flat}
    keys = {k for it, _ in flat if (k := key_of(it)) is not None}
    if not flat or len(codes) > 1 or len(keys) < 2:
        return None
    names = ", ".join(sorted(keys))
    return Found(
        evidence=f"{plateau_text(scene, rule, flat)} over changes of {names}",
        since=flat[0][0].proposal.iteration,
        keys=tuple(sorted(keys)),
    )


def _multi_code_modification(scene: Scene, rule: StrategyRule) -> Found | None:
    """Look for neutral edits of one node, each tried alone, that were not taken together yet; the newest such node."""
    state, alone, tried = scene.state, dict[int, list[Node]](), set[frozenset[int]]()
    for node, found in _edits(scene, rule):
        code, origin = state.iterations[node.id].proposal.mutation.code, edits.reference(state, node)
        if code is not None and code.combines:
            tried.add(frozenset(code.combines))
        elif origin is not None and found.verdict == "neutral":
            alone.setdefault(origin.id, []).append(node)
    enough = [(nodes[-1].id, o) for o, nodes in alone.items() if len(nodes) >= max(2, rule.numbers["count"])]
    if not enough or not plateau(scene, rule):
        return None
    origin_id = max(enough)[1]
    nodes = alone[origin_id]
    two = nodes[-2:]
    values = _values(scene, rule, [state.nodes[origin_id], *nodes])
    if values is None or any(pair.issuperset(n.id for n in two) for pair in tried):
        return None
    return Found(
        evidence=f"the code edits of nodes {listed(n.id for n in nodes)}, each alone on node {origin_id}, left "
        f"{metric_of(scene, rule)} where it was: with node {origin_id} {values_text(values)}",
        since=nodes[-1].id,
        nodes=tuple(n.id for n in two),
    )


def _values(scene: Scene, rule: StrategyRule, nodes: list[Node]) -> list[float] | None:
    """Return the means of nodes; None when one has none, or they spread by more than `within`."""
    values = [v for n in nodes if (v := scene.mean(n, rule.metric)) is not None]
    if len(values) < len(nodes) or max(values) - min(values) > rule.numbers["within"]:
        return None
    return values


def _identifiability_test(scene: Scene, rule: StrategyRule) -> Found | None:
    ran = {n.id for n in scene.nodes}
    whole = [n for n, found in _edits(scene, rule) if n.id in ran and found.verdict != "crashed"]
    found = [(n, edits.reference(scene.state, n)) for n in whole]
    tried = [(n, origin) for n, origin in found if origin is not None][-int(rule.numbers["count"]) :]
    if len(tried) < rule.numbers["count"]:
        return None
    values = _values(scene, rule, [n for both in tried for n in both])
    if values is None:
        return None
    return Found(
        evidence=f"the code edits of nodes {listed(n.id for n, _ in tried)} left {metric_of(scene, rule)} where it "
        f"was: with their parents {values_text(values)}",
        since=tried[-1][0].id,
        nodes=tuple(n.id for n, _ in tried),
    )


def _fixed_model_sweep(scene: Scene, rule: StrategyRule) -> Found | None:
    match = _SAME.search(rule.condition)
    if match is None:
        return None
    section = next((s for s, values in scene.state.contract.start.items() if match[1] in values), None)
    if section is None:
        return None
    found = []
    for wanted in (match[2], match[3]):
        nodes = [n for n in scene.nodes if str(n.config[section][match[1]]).lower() == wanted.lower()]
        ranked = [(-worth, n.id) for n in nodes if (worth := scene.worth(n, rule.metric)) is not None]
        if not ranked:
            return None
        found.append(scene.state.nodes[min(ranked)[1]])
    values = [scene.mean(n, rule.metric) or 0.0 for n in found]
    if abs(values[0] - values[1]) > rule.numbers["within"]:
        return None
    return Found(
        evidence=f"{match[1]}={match[2]} (node {found[0].id}) and {match[3]} (node {found[1].id}) give the same "
        f"{metric_of(scene, rule)}: {values_text(values)}",
        since=max(n.id for n in found),
        nodes=(found[0].id,),
        keys=(f"{section}.{match[1]}",),
    )


CODE_PREDICATES: dict[str, Predicate] = {
    "code-refine": _code_refine,
    "code-revert": _code_revert,
    "code-next-priority": _code_next_priority,
    "code-modification": _code_modification,
    "multi-code-modification": _multi_code_modification,
    "identifiability-test": _identifiability_test,
    "fixed-model-sweep": _fixed_model_sweep,
}
"""`Kind.key` -> predicate."""
