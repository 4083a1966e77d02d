"""When each strategy's condition holds, computed from the block's records (code changes: `core.strategy_code`).

A plateau is a spread (largest less smallest value) of at most `within` over consecutive ideas, probes left out. Each
function costs O(iterations of the block), but where its row speaks of blocks.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable

from orchestrator.core import configs
from orchestrator.core.contract import StrategyRule
from orchestrator.core.records import Record
from orchestrator.core.scene import PROBES, Scene, rates_of
from orchestrator.core.state import Iteration, Node

BATCH = 4
"""Iterations of a "batch": the parallel slots of the documents that use the word."""
DISTANT = 2
"""Tree edges from which two nodes are distant."""
SLOPE = "avg_slope_ratio"
CLUSTERS = ("embedding_cluster_acc", "cluster_accuracy")

_LEVELS = {"at_least": (operator.ge, ">="), "above": (operator.gt, ">"), "below": (operator.lt, "<"),
           "at_most": (operator.le, "<=")}  # fmt: skip


class Found(Record):
    """What a predicate saw."""

    evidence: str
    since: int
    """First iteration of the evidence: a row that was followed after it is satisfied (see `core.strategy`)."""
    nodes: tuple[int, ...] = ()
    """Nodes that the action is about, the leading one first."""
    keys: tuple[str, ...] = ()
    """Keys that the action is about."""


Predicate = Callable[[Scene, StrategyRule], Found | None]


# Words of evidence


def listed(numbers: Iterable[int]) -> str:
    """Return iteration numbers as text: `4 to 6`, `4, 7`."""
    found = sorted(numbers)
    if len(found) > 2 and found[-1] - found[0] == len(found) - 1:
        return f"{found[0]} to {found[-1]}"
    return ", ".join(map(str, found))


def values_text(values: Iterable[float]) -> str:
    """Return values as text with four decimals; of many, the last six."""
    shown = [f"{v:.4f}" for v in values]
    return ", ".join(shown if len(shown) <= 6 else ["...", *shown[-6:]])


# Building blocks


def metric_of(scene: Scene, rule: StrategyRule) -> str:
    """Return the metric that a row is about."""
    return rule.metric or scene.primary


def level_text(scene: Scene, rule: StrategyRule) -> str:
    """Return the level of a row in words."""
    stated = [f"{sign} {rule.numbers[k]:g}" for k, (_, sign) in _LEVELS.items() if k in rule.numbers]
    return f"{metric_of(scene, rule)} {' and '.join(stated)}" if stated else f"class {scene.best_class}"


def beyond(scene: Scene, rule: StrategyRule, value: float | None) -> bool | None:
    """Return whether a value meets the row's level; None when the row states no level."""
    stated = [(compare, rule.numbers[k]) for k, (compare, _) in _LEVELS.items() if k in rule.numbers]
    if not stated:
        return None
    return value is not None and all(compare(value, bound) for compare, bound in stated)


def success(scene: Scene, rule: StrategyRule, it: Iteration) -> bool:
    """Return whether a run meets the row's level; without one, whether it is of the best class."""
    met = beyond(scene, rule, it.metric(metric_of(scene, rule)).value)
    return scene.verdict(it) == scene.best_class if met is None else met


def tail(items: list[Iteration], holds: Callable[[Iteration], bool]) -> list[Iteration]:
    """Return the longest end of `items` in which every item holds."""
    for i in range(len(items) - 1, -1, -1):
        if not holds(items[i]):
            return items[i + 1 :]
    return items


def measured(scene: Scene, rule: StrategyRule) -> list[tuple[Iteration, float]]:
    """Return the ideas that are no probes and have a value, with it."""
    name = metric_of(scene, rule)
    found = [(it, it.metric(name).value) for it in scene.ideas if it.proposal.strategy not in PROBES]
    return [(it, value) for it, value in found if value is not None]


def plateau(scene: Scene, rule: StrategyRule) -> list[tuple[Iteration, float]]:
    """Return the longest end of the measured ideas that spreads by at most `within`; empty below `count`."""
    found = measured(scene, rule)
    low = high = found[-1][1] if found else 0.0
    start = len(found)
    while start and max(high, found[start - 1][1]) - min(low, found[start - 1][1]) <= rule.numbers["within"] + 1e-12:
        start -= 1
        low, high = min(low, found[start][1]), max(high, found[start][1])
    return found[start:] if len(found) - start >= rule.numbers["count"] else []


def plateau_text(scene: Scene, rule: StrategyRule, flat: list[tuple[Iteration, float]]) -> str:
    """Return the evidence of a plateau."""
    values = [v for _, v in flat]
    return (
        f"{metric_of(scene, rule)} within {max(values) - min(values):.4f} (row: {rule.numbers['within']:g}) in "
        f"iterations {listed(it.proposal.iteration for it, _ in flat)} ({values_text(values)})"
    )


def _streak(scene: Scene, rule: StrategyRule, needed: float) -> Found | None:
    runs = [it for it in scene.runs if it.proposal.strategy not in PROBES]
    good = tail(runs, lambda it: success(scene, rule, it))
    if not good or len(good) < needed:
        return None
    values = [v for it in good if (v := it.metric(metric_of(scene, rule)).value) is not None]
    numbers = listed(it.proposal.iteration for it in good)
    return Found(
        evidence=f"{level_text(scene, rule)} in {len(good)} consecutive runs, probes left out: iterations {numbers} "
        f"({values_text(values)})",
        since=good[0].proposal.iteration,
    )


# Safety


def _degeneracy_break(scene: Scene, rule: StrategyRule) -> Found | None:
    above = rule.numbers["above"]
    found = tail(scene.runs, lambda it: (scene.gap(it) or -math.inf) > above)
    if not found or len(found) < rule.numbers["count"]:
        return None
    gaps = [scene.gap(it) or 0.0 for it in found]
    numbers = listed(it.proposal.iteration for it in found)
    return Found(
        evidence=f"degeneracy gap > {above:g} in iterations {numbers} ({values_text(gaps)})",
        since=found[0].proposal.iteration,
    )


def _k_protect(scene: Scene, rule: StrategyRule) -> Found | None:
    text = rule.condition.lower()
    named = [v.name for v in scene.state.contract.verdicts if v.name.lower() in text]
    if not named:
        return None
    name = max(named, key=len)
    found = tail(scene.runs, lambda it: scene.verdict(it) == name)
    if not found or len(found) < rule.numbers["count"]:
        return None
    numbers = listed(it.proposal.iteration for it in found)
    return Found(evidence=f"iterations {numbers} are all {name}", since=found[0].proposal.iteration)


def _variance_reduction(scene: Scene, rule: StrategyRule) -> Found | None:
    spreads = []
    for node in scene.nodes:
        its = [it for it in scene.runs if it.node == node.id]
        values = [v for it in its if (v := it.metric(metric_of(scene, rule)).value) is not None]
        if len(values) > 1 and max(values) - min(values) > rule.numbers["above"]:
            spreads.append((-(scene.worth(node) or 0.0), node, values, its))
    if not spreads:
        return None
    _, node, values, its = min(spreads, key=lambda s: (s[0], s[1].id))
    return Found(
        evidence=f"node {node.id} gave {metric_of(scene, rule)} {values_text(values)} in iterations "
        f"{listed(it.proposal.iteration for it in its)}: a range of {max(values) - min(values):.4f}",
        since=its[1].proposal.iteration,
        nodes=(node.id,),
    )


# Protocol


def _failure_probe(scene: Scene, rule: StrategyRule) -> Found | None:
    return _streak(scene, rule, rule.numbers["count"])


def _explore(scene: Scene, rule: StrategyRule) -> Found | None:
    share = rule.numbers.get("block_fraction", 0.25) * scene.state.n_iter_block
    return _streak(scene, rule, rule.numbers.get("count", max(1.0, math.ceil(share))))


def _robustness_test(scene: Scene, rule: StrategyRule) -> Found | None:
    leader = scene.leader
    if leader is None:
        return None
    its = [it for it in scene.runs if it.node == leader.id]
    if len(its) != 1 or scene.verdict(its[0]) != scene.best_class:
        return None
    text = f"node {leader.id} leads with {scene.mean(leader):.4f} ({scene.best_class}) and was run once"
    return Found(evidence=text, since=leader.id, nodes=(leader.id,))


def _boundary_skip(scene: Scene, rule: StrategyRule) -> Found | None:
    ends = (scene.best_class, scene.state.contract.verdicts[-1].name)
    found = tail([it for it in scene.runs if it.proposal.strategy in PROBES], lambda it: scene.verdict(it) not in ends)
    if not found or len(found) < rule.numbers["count"]:
        return None
    numbers = listed(it.proposal.iteration for it in found)
    text = f"probes {numbers} are neither {ends[0]} nor {ends[1]}: the boundary is found"
    keys = tuple(dict.fromkeys(k for it in found if (k := key_of(it)) is not None))
    return Found(evidence=text, since=found[0].proposal.iteration, keys=keys)


def key_of(it: Iteration) -> str | None:
    """Return the key that an iteration changed; None when it changed none, or several."""
    return it.changes[0].key if len(it.changes) == 1 else None


def _switch_dimension(scene: Scene, rule: StrategyRule) -> Found | None:
    last = key_of(scene.mutations[-1]) if scene.mutations else None
    if last is None:
        return None
    found = tail(scene.ideas, lambda it: key_of(it) == last)
    if len(found) < rule.numbers["count"]:
        return None
    numbers = listed(it.proposal.iteration for it in found)
    text = f"iterations {numbers} all changed {last}"
    return Found(evidence=text, since=found[0].proposal.iteration, keys=(last,))


# Plateau


def _forced_branch(scene: Scene, rule: StrategyRule) -> Found | None:
    flat = plateau(scene, rule)
    if not flat:
        return None
    recent = dict.fromkeys(k for it, _ in flat if (k := key_of(it)) is not None)
    return Found(evidence=plateau_text(scene, rule, flat), since=flat[0][0].proposal.iteration, keys=tuple(recent))


def _forced_branch_converged(scene: Scene, rule: StrategyRule) -> Found | None:
    branching, _ = rates_of(scene)
    if branching is None or len(scene.mutations) < rule.numbers["count"] or branching >= rule.numbers["below"]:
        return None
    good = sum(scene.verdict(it) == scene.best_class for it in scene.ideas)
    if good < rule.numbers["converged"] * len(scene.ideas):
        return None
    return Found(
        evidence=f"{good} of {len(scene.ideas)} ideas are {scene.best_class} and the branching rate is "
        f"{branching:.0%} over {len(scene.mutations)} mutations",
        since=scene.ideas[0].proposal.iteration,
    )


def _dimension_sweep(scene: Scene, rule: StrategyRule) -> Found | None:
    flat = plateau(scene, rule)
    if not flat or any(beyond(scene, rule, value) is False for _, value in flat[-int(rule.numbers["count"]) :]):
        return None
    return Found(evidence=plateau_text(scene, rule, flat), since=flat[0][0].proposal.iteration)


def _regime_shift(scene: Scene, rule: StrategyRule) -> Found | None:
    name, recent = metric_of(scene, rule), int(rule.numbers["count"]) * BATCH
    if len(scene.iterations) <= recent:
        return None
    first = scene.iterations[-recent].proposal.iteration
    rewards = [
        (scene.reward(value, name), it.proposal.iteration)
        for it in scene.runs
        if (value := it.metric(name).value) is not None
    ]
    before = [r for r in rewards if r[1] < first]
    if not before or not all(it.final for it in scene.iterations[-recent:]):
        return None
    best, at = max(before, key=lambda r: (r[0], -r[1]))
    if any(r > best + scene.floor(name) for r, i in rewards if i >= first):
        return None
    text = f"the best {name} of the block is of iteration {at}; the last {recent} iterations did not beat it"
    return Found(evidence=text, since=at)


def _cross_seed_optimize(scene: Scene, rule: StrategyRule) -> Found | None:
    state, name, count = scene.state, metric_of(scene, rule), int(rule.numbers["count"])
    regime = state.regime_of(scene.block)
    blocks = [b for b in range(1, scene.block) if state.regime_of(b) == regime]
    best: list[tuple[float, int]] = []
    for block in blocks:
        inner = Scene(state, block)
        found = [
            (inner.reward(v, name), it.proposal.iteration)
            for it in inner.runs
            if (v := it.metric(name).value) is not None
        ]
        if found:
            best.append(max(found, key=lambda r: (r[0], -r[1])))
    if len(best) <= count:
        return None
    top, at = max(best[:-count], key=lambda r: (r[0], -r[1]))
    if any(r > top + scene.floor(name) for r, _ in best[-count:]):
        return None
    first = state.first_of(scene.block)
    text = f"the best {name} is of iteration {at}; the last {count} blocks did not beat it"
    return Found(evidence=text, since=first - 1, nodes=(state.iterations[at].node,))


# Progress


def _recombine(scene: Scene, rule: StrategyRule) -> Found | None:
    good = [n for n in scene.nodes if _node_success(scene, rule, n)]
    ranked = sorted(good, key=lambda n: (-(scene.worth(n) or 0.0), n.id))
    if len(ranked) < rule.numbers["count"]:
        return None
    first = ranked[0]
    for other in ranked[1:]:
        keys = differing(scene, first, other)
        apart = scene.distance(first, other) >= DISTANT and not scene.related(first, other)
        if apart and len(keys) >= 2:
            return Found(
                evidence=f"nodes {first.id} and {other.id} ({level_text(scene, rule)}: {scene.mean(first):.4f}, "
                f"{scene.mean(other):.4f}) are {scene.distance(first, other)} steps apart and differ in "
                f"{', '.join(keys)}",
                since=max(first.id, other.id),
                nodes=(first.id, other.id),
                keys=keys,
            )
    return None


def _node_success(scene: Scene, rule: StrategyRule, node: Node) -> bool:
    met = beyond(scene, rule, scene.mean(node, rule.metric))
    return success(scene, rule, scene.state.iterations[node.id]) if met is None else met


def differing(scene: Scene, a: Node, b: Node) -> tuple[str, ...]:
    """Return the free keys in which two nodes differ."""
    free = [k.key for k in scene.state.contract.keys if k.level == "free" and not k.exempt]
    return tuple(k for k in free if configs.get(a.config, k) != configs.get(b.config, k))


def _exploit_tighten(scene: Scene, rule: StrategyRule) -> Found | None:
    _, improvement = rates_of(scene)
    if improvement is None or len(scene.mutations) < rule.numbers["count"] or improvement >= rule.numbers["below"]:
        return None
    text = f"{improvement:.0%} of the block's {len(scene.mutations)} mutations beat their parent by more than noise"
    return Found(evidence=text, since=scene.ideas[0].proposal.iteration)


def _seed_robustness(scene: Scene, rule: StrategyRule) -> Found | None:
    leader = scene.leader
    children = [n for n in scene.nodes if leader is not None and n.parent == leader.id]
    if leader is None or len(children) < rule.numbers["count"]:
        return None
    if any(scene.effect(n) != "degraded" for n in children):
        return None
    text = f"all {len(children)} children of the best node {leader.id} are worse: {listed(n.id for n in children)}"
    return Found(evidence=text, since=leader.id, nodes=(leader.id,))


def _universal_recipe_validate(scene: Scene, rule: StrategyRule) -> Found | None:
    leader, old = scene.leader, next((n for n in scene.nodes if n.parent is None), None)
    if leader is None or old is None or leader.id == old.id:
        return None
    theirs, mean, floor = _by_seed(scene, old), scene.worth(old), scene.floor()
    beaten = [
        seeds
        for seeds, value in _by_seed(scene, leader).items()
        if (bar := theirs.get(seeds, mean)) is not None and value > bar + floor
    ]
    if len(beaten) < rule.numbers["count"]:
        return None
    seeds = ", ".join(f"{training} on draw {draw}" for training, draw in sorted(beaten))
    text = f"node {leader.id} beats node {old.id} of the block's start at training seeds {seeds}"
    return Found(evidence=text, since=leader.id, nodes=(leader.id, old.id))


def _by_seed(scene: Scene, node: Node) -> dict[tuple[int, int], float]:
    its = [it for it in scene.iterations if it.node == node.id]
    values = {it.proposal.iteration: it.metric(scene.primary).value for it in its}
    return {
        (it.proposal.training_seed, it.proposal.simulation_seed): scene.reward(value)
        for it in its
        if (value := values[it.proposal.iteration]) is not None
    }


def _l1_calibration(scene: Scene, rule: StrategyRule) -> Found | None:
    leader, gap = scene.leader, scene.state.contract.gap
    if leader is None or gap is None:
        return None
    value, high, low = (scene.mean(leader, m) for m in (metric_of(scene, rule), gap.minuend, gap.subtrahend))
    if value is None or high is None or low is None or high - low >= rule.numbers["gap"]:
        return None
    if not rule.numbers["low"] <= value <= rule.numbers["high"]:
        return None
    text = f"the best node {leader.id} has {metric_of(scene, rule)} {value:.4f} and a gap of {high - low:.4f}"
    return Found(evidence=text, since=leader.id, nodes=(leader.id,))


def _homeo_kick(scene: Scene, rule: StrategyRule) -> Found | None:
    def holds(it: Iteration) -> bool:
        slope = it.metric(SLOPE).value
        return success(scene, rule, it) and slope is not None and abs(slope) < rule.numbers["slope"]

    found = tail(scene.runs, holds)
    if not found:
        return None
    numbers = listed(it.proposal.iteration for it in found)
    text = f"{level_text(scene, rule)} while |{SLOPE}| < {rule.numbers['slope']:g} in iterations {numbers}"
    return Found(evidence=text, since=found[0].proposal.iteration)


def _embedding_focus(scene: Scene, rule: StrategyRule) -> Found | None:
    count = int(rule.numbers["count"])
    last = scene.runs[-count:]
    for name in CLUSTERS:
        clusters = [v for it in last if (v := it.metric(name).value) is not None]
        slopes = [v for it in last if (v := it.metric(SLOPE).value) is not None]
        if len(clusters) < count or len(slopes) < count or min(map(abs, slopes)) < rule.numbers["slope"]:
            continue
        if max(clusters) < 1.0 and max(clusters) - min(clusters) <= rule.numbers["within"]:
            numbers = listed(it.proposal.iteration for it in last)
            text = (
                f"{SLOPE} is {values_text(slopes)} while {name} stays at {values_text(clusters)}, iterations {numbers}"
            )
            return Found(evidence=text, since=last[0].proposal.iteration)
    return None


PREDICATES: dict[str, Predicate] = {
    "degeneracy-break": _degeneracy_break,
    "k-protect": _k_protect,
    "variance-reduction": _variance_reduction,
    "failure-probe": _failure_probe,
    "explore": _explore,
    "robustness-test": _robustness_test,
    "boundary-skip": _boundary_skip,
    "switch-dimension": _switch_dimension,
    "forced-branch": _forced_branch,
    "forced-branch/converged": _forced_branch_converged,
    "dimension-sweep": _dimension_sweep,
    "regime-shift": _regime_shift,
    "cross-seed-optimize": _cross_seed_optimize,
    "recombine": _recombine,
    "exploit-tighten": _exploit_tighten,
    "seed-robustness": _seed_robustness,
    "universal-recipe-validate": _universal_recipe_validate,
    "L1-calibration": _l1_calibration,
    "homeo-kick": _homeo_kick,
    "embedding-focus": _embedding_focus,
}
"""`Kind.key` -> predicate."""
