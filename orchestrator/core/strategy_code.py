"""When the strategies about code changes, and about the form of the model, hold."""

from __future__ import annotations

import re

from orchestrator.core.contract import StrategyRule
from orchestrator.core.scene import Effect, Scene
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


def code_changes(scene: Scene) -> list[Node]:
    """Return the block's nodes whose code differs from their parent's."""
    nodes = scene.state.nodes
    return [n for n in scene.nodes if n.parent is not None and n.code != nodes[n.parent].code]


def _newest(scene: Scene, rule: StrategyRule, wanted: Effect) -> Found | None:
    changed = code_changes(scene)
    if not changed or scene.effect(changed[-1], rule.metric) != wanted:
        return None
    node = changed[-1]
    parent = scene.state.nodes[node.parent or 0]
    mine, theirs = (scene.mean(n, rule.metric) for n in (node, parent))
    text = f"{mine:.4f} against {theirs:.4f}" if mine is not None and theirs is not None else "no result"
    return Found(
        evidence=f"the code change of node {node.id} {wanted}: {metric_of(scene, rule)} {text} of parent {parent.id}, "
        f"noise floor {scene.floor(rule.metric):.4f}",
        since=node.id,
        nodes=(node.id, parent.id),
    )


def _code_refine(scene: Scene, rule: StrategyRule) -> Found | None:
    return _newest(scene, rule, "improved")


def _code_revert(scene: Scene, rule: StrategyRule) -> Found | None:
    return _newest(scene, rule, "degraded")


def _code_next_priority(scene: Scene, rule: StrategyRule) -> Found | None:
    return _newest(scene, rule, "neutral")


def _code_modification(scene: Scene, rule: StrategyRule) -> Found | None:
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
    changed = code_changes(scene)[-int(rule.numbers["count"]) :]
    if len(changed) < rule.numbers["count"]:
        return None
    both = [(n, scene.state.nodes[n.parent or 0]) for n in changed]
    found = [scene.mean(n, rule.metric) for pair in both for n in pair]
    values = [v for v in found if v is not None]
    if len(values) < len(found) or max(values) - min(values) > rule.numbers["within"]:
        return None
    return Found(
        evidence=f"the code changes of nodes {listed(n.id for n in changed)} left {metric_of(scene, rule)} where it "
        f"was: with their parents {values_text(values)}",
        since=changed[-1].id,
        nodes=tuple(n.id for n in changed),
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
    "identifiability-test": _multi_code_modification,
    "fixed-model-sweep": _fixed_model_sweep,
}
"""`Kind.key` -> predicate."""
