"""What the offline scientist does when a row of the strategy table holds.

Each action yields drafts in the order of preference; the first that the contract accepts is proposed, else the next
trigger is taken, at last the default. Strategies about code: `scientist.patches`. The
strategies about seeds are runs at stated seeds: another training seed measures noise, another simulation seed is
another draw, whose runs are shown but do not enter the node's mean.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Literal

from orchestrator.core import configs
from orchestrator.core.contract import KeyRule
from orchestrator.core.mutation import describe, number
from orchestrator.core.records import Change, Mutation
from orchestrator.core.state import Node
from orchestrator.core.strategy import Trigger
from orchestrator.scientist.desk import Desk, Draft
from orchestrator.scientist.moves import Move, key_moves, range_ends
from orchestrator.scientist.policy import draft, moves, own_key, preferred

Action = Callable[[Desk, Trigger], Iterator[Draft]]
Wanted = Literal["up", "down", "any"]
_VERBS: tuple[tuple[str, Wanted], ...] = (
    (r"increas\w*|rais\w*|enabl\w*|more", "up"),
    (r"decreas\w*|reduc\w*|lower\w*|shorten\w*|disabl\w*|less", "down"),
    (r"sweep|vary|test|tun\w+|change|turn|try|focus|explore|keep|give", "any"),
)
_DEGENERACY: tuple[tuple[str, Wanted], ...] = (
    ("coeff_edge_diff", "up"), ("coeff_W_L1", "up"), ("first_coeff_L1", "up"),
    ("n_epochs", "down"), ("data_augmentation_loop", "down"),
)  # fmt: skip
SMALL_STEPS = (0.5, 0.25)
ENOUGH_RUNS = 3
"""Runs after which a node's spread is known well enough to look for a neighbour with less of it."""


# Reading an action


def named_keys(desk: Desk, text: str) -> list[tuple[KeyRule, Wanted]]:
    """Return the keys that an action names, with the direction of the verb before each."""
    found: list[tuple[KeyRule, Wanted]] = []
    direction: Wanted = "any"
    for word in re.findall(r"\w+", text):
        verb = next((d for pattern, d in _VERBS if re.fullmatch(pattern, word, re.I)), None)
        direction = verb or direction
        for rule in desk.state.contract.keys:
            names = (rule.short, rule.key.split(".")[-1], *(("L1",) if rule.key.endswith("coeff_W_L1") else ()))
            if word in names and rule.level == "free" and not rule.exempt and rule.key not in [r.key for r, _ in found]:
                found.append((rule, direction))
    return found


def _directed(desk: Desk, node: Node, wanted: list[tuple[KeyRule, Wanted]], text: str) -> Iterator[Draft]:
    allowed = {r.key for r in desk.rules(node)}
    for step in (1.0, *SMALL_STEPS):
        for rule, direction in wanted:
            if rule.key in allowed:
                for move in preferred(desk, rule, node, step):
                    if direction in ("any", _side(move)):
                        yield draft(desk, node, move.change, _of(node), text)


def _side(move: Move) -> str:
    if isinstance(move.change.new, bool):
        return "up" if move.change.new else "down"
    return move.direction


def _of(node: Node) -> str:
    return f"the best node {node.id}"


def _from(desk: Desk, trigger: Trigger) -> Node | None:
    """Return the node that a trigger names, else the leader."""
    return desk.state.nodes[trigger.nodes[0]] if trigger.nodes else desk.leader


# Safety


def _degeneracy_break(desk: Desk, trigger: Trigger) -> Iterator[Draft]:
    if desk.leader is None:
        return
    wanted = named_keys(desk, trigger.action)
    for name, direction in _DEGENERACY:
        rule = next((r for r in desk.state.contract.keys if r.key.split(".")[-1] == name and r.level == "free"), None)
        if rule is not None and rule.key not in [r.key for r, _ in wanted]:
            wanted.append((rule, direction))
    yield from _directed(desk, desk.leader, wanted, "the degeneracy gap shrinks")


def _as_worded(desk: Desk, trigger: Trigger) -> Iterator[Draft]:
    node = desk.leader
    if node is not None:
        wanted = named_keys(desk, trigger.action)
        yield from _directed(desk, node, wanted, f"answers {trigger.strategy}: {trigger.evidence}")


def _variance_reduction(desk: Desk, trigger: Trigger) -> Iterator[Draft]:
    node = desk.state.nodes[trigger.nodes[0]]
    if len(node.iterations) < ENOUGH_RUNS:
        yield from _again(desk, node, f"node {node.id}'s runs differ too much", "tells a lucky run from a wide spread")
    yield from _tighten(desk, node, f"neighbour of node {node.id}, whose runs differ", "its runs agree better")


# Protocol


def _failure_probe(desk: Desk, trigger: Trigger) -> Iterator[Draft]:
    node = desk.leader
    if node is None:
        return
    name = desk.state.contract.primary.name
    own = own_key(desk, node)
    for rule in sorted(desk.by_trials(desk.rules(node)), key=lambda r: r.key != own):
        old = configs.get(node.config, rule.key)
        ahead = desk.state.iterations[node.id].changes
        for end in _ahead_first(range_ends(rule, old), ahead[0] if ahead and rule.key == own else None):
            text = f"at the end of its range {name} is no longer where the streak has it"
            yield draft(desk, node, Change(key=rule.key, old=old, new=end), _of(node), text)


def _ahead_first(ends: list[Any], change: Change | None) -> list[Any]:
    """Return the ends of a range with the one that a step was heading for first."""
    if change is None or isinstance(change.new, str):
        return ends
    return sorted(ends, key=lambda e: (e > change.new) != (change.new > change.old))


def _explore(desk: Desk, trigger: Trigger) -> Iterator[Draft]:
    if not desk.scene.nodes:
        return
    chain = desk.scene.ancestors(desk.scene.nodes[-1])
    for score in desk.scores:
        if score.node not in chain:
            node = desk.state.nodes[score.node]
            rule = f"outside the recent chain ({', '.join(map(str, chain))}), UCB {score.ucb:.3f}"
            yield from (draft(desk, node, move.change, rule) for move in moves(desk, node))


def _robustness(desk: Desk, trigger: Trigger) -> Iterator[Draft]:
    node = _from(desk, trigger)
    if node is not None:
        yield from _again(desk, node, _of(node), "its lead holds at another training seed")


def _again(desk: Desk, node: Node, rule: str, expected: str) -> Iterator[Draft]:
    seed = desk.next_training_seed(node)
    yield Draft(
        node=node.id,
        training_seed=seed,
        rule=rule,
        hypothesis=f"node {node.id} at training seed {seed}: {expected}",
    )


def _other_key(desk: Desk, trigger: Trigger) -> Iterator[Draft]:
    for score in desk.scores:
        node = desk.state.nodes[score.node]
        rule = f"highest UCB ({score.ucb:.3f}), another key than {_short(desk, trigger.keys)}"
        yield from _others(desk, node, trigger.keys, rule)


def _others(desk: Desk, node: Node, without: tuple[str, ...], rule: str) -> Iterator[Draft]:
    for step in (1.0, *SMALL_STEPS):
        for key in desk.by_trials(desk.rules(node)):
            if key.key not in without:
                for move in preferred(desk, key, node, step):
                    yield draft(desk, node, move.change, rule)


def _short(desk: Desk, keys: tuple[str, ...]) -> str:
    rules = [desk.state.contract.key(k) for k in keys]
    return ", ".join(r.short for r in rules if r) or "before"


# Plateau


def _forced_branch(desk: Desk, trigger: Trigger) -> Iterator[Draft]:
    words = ["second", "third", "fourth"]
    for place, score in enumerate(desk.scores[1:4]):
        node = desk.state.nodes[score.node]
        rule = f"{words[place]}-highest UCB ({score.ucb:.3f}), another key than {_short(desk, trigger.keys)}"
        yield from _others(desk, node, trigger.keys, rule)


def _lower_half(desk: Desk, trigger: Trigger) -> Iterator[Draft]:
    for score in desk.scores[(len(desk.scores) + 1) // 2 :]:
        node = desk.state.nodes[score.node]
        rule = f"the lower half of the tree by UCB ({score.ucb:.3f})"
        yield from (draft(desk, node, move.change, rule) for move in moves(desk, node))


def _dimension_sweep(desk: Desk, trigger: Trigger) -> Iterator[Draft]:
    node = desk.leader
    if node is None:
        return
    untried = [r for r in desk.by_trials(desk.rules(node)) if not desk.trials[r.key]]
    named = [r.key for r, _ in named_keys(desk, trigger.action)]
    for rule in sorted(untried, key=lambda r: r.key not in named):
        for move in preferred(desk, rule, node, 1.0):
            yield draft(
                desk, node, move.change, _of(node), "a key that nobody has tried in this block leaves the plateau"
            )


def _regime_shift(desk: Desk, trigger: Trigger) -> Iterator[Draft]:
    node = desk.leader
    if node is None:
        return
    kinds = [r for r in desk.rules(node) if r.type in ("bool", "str") or r.allowed]
    named = [r for r, _ in named_keys(desk, trigger.action)]
    rules = {r.key: r for r in (*named, *desk.by_trials(kinds), *desk.by_trials(desk.rules(node)))}
    wanted: list[tuple[KeyRule, Wanted]] = [(r, "any") for r in rules.values()]
    yield from _directed(desk, node, wanted, "a key of another kind leaves the plateau")


def _other_draw(desk: Desk, trigger: Trigger) -> Iterator[Draft]:
    node = _from(desk, trigger)
    if node is None or node.block != desk.block:
        node = desk.leader
    if node is None:
        return
    ran = {desk.state.iterations[i].proposal.simulation_seed for i in desk.state.ideas[node.idea]}
    regime = desk.state.regime_name(desk.block)
    its = [it for it in desk.state.iterations.values() if desk.state.regime_name(it.block) == regime]
    known = sorted({it.proposal.simulation_seed for it in its} - ran)
    for draw in (*known, desk.next_draw()):
        name = desk.state.contract.primary.name
        value = desk.scene.mean(node)
        shown = "" if value is None else f" {value:.4f}"
        yield Draft(
            node=node.id,
            simulation_seed=draw,
            rule=_of(node),
            hypothesis=f"on draw {draw} (simulation.seed, another system of this kind) node {node.id} keeps its "
            f"{name}{shown} within {3 * desk.scene.floor():.4f}",
        )


# Progress


def _recombine(desk: Desk, trigger: Trigger) -> Iterator[Draft]:
    first, second = (desk.state.nodes[n] for n in trigger.nodes[:2])
    keys = _theirs(desk, first, second)
    sets = [keys] if len(keys) > 1 and not re.search(r"\bone\b", trigger.action, re.I) else []
    for chosen in (*sets, *((k,) for k in keys)):
        changes = tuple(
            Change(key=k, old=configs.get(first.config, k), new=configs.get(second.config, k)) for k in chosen
        )
        text = describe(desk.state.contract, Mutation(kind="config", changes=changes))
        yield Draft(
            node=first.id,
            changes=changes,
            second=second.id,
            rule=f"recombines node {first.id}, the better, with node {second.id}",
            hypothesis=f"{text}: what each node gained by itself adds up",
        )


def _theirs(desk: Desk, first: Node, second: Node) -> tuple[str, ...]:
    """Return the keys that the second node changed since the two nodes' common ancestor, and the first did not."""
    path = desk.scene.ancestors(first)
    meet = next((n for n in desk.scene.ancestors(second) if n in path), None)
    base = desk.state.nodes[meet].config if meet is not None else None
    if base is None:
        return ()
    free = [r.key for r in desk.state.contract.keys if r.level == "free" and not r.exempt]
    return tuple(
        k
        for k in free
        if configs.get(second.config, k) != configs.get(base, k)
        and configs.get(first.config, k) == configs.get(base, k)
    )


def _exploit_tighten(desk: Desk, trigger: Trigger) -> Iterator[Draft]:
    if desk.leader is not None:
        yield from _tighten(desk, desk.leader, _of(desk.leader), "a small step of a minor key adds to the best node")


def _tighten(desk: Desk, node: Node, rule: str, expected: str) -> Iterator[Draft]:
    major = major_key(desk)
    for step in SMALL_STEPS:
        for key in desk.by_trials(desk.rules(node)):
            if key.key != major and not isinstance(configs.get(node.config, key.key), bool):
                for move in key_moves(key, node.config, step):
                    yield draft(desk, node, move.change, rule, expected)


def major_key(desk: Desk) -> str | None:
    """Return the key whose change gained most in this block."""
    gains = [(g, -n.id, own_key(desk, n)) for n in desk.scene.nodes if (g := desk.scene.gain(n)) is not None and g > 0]
    return max(gains)[2] if gains else None


def _l1_calibration(desk: Desk, trigger: Trigger) -> Iterator[Draft]:
    node = _from(desk, trigger)
    if node is None:
        return
    allowed = {r.key.split(".")[-1]: r for r in desk.rules(node)}
    if "coeff_W_L1" not in allowed and "n_epochs_init" in allowed:  # L1 has no epoch of phase 2 to act in
        rule = allowed["n_epochs_init"]
        old = configs.get(node.config, rule.key)
        text = f"gives phase 2 an epoch ({rule.short} {number(old)} -> {number(old - 1)}), in which L1 acts"
        yield draft(desk, node, Change(key=rule.key, old=old, new=old - 1), _of(node), text)
    wanted: list[tuple[KeyRule, Wanted]] = [(allowed["coeff_W_L1"], "any")] if "coeff_W_L1" in allowed else []
    yield from _directed(desk, node, wanted, "the pressure of L1 that suits this regime is elsewhere")


def _fixed_model_sweep(desk: Desk, trigger: Trigger) -> Iterator[Draft]:
    node = desk.state.nodes[trigger.nodes[0]]
    named = [k.key for k, _ in named_keys(desk, trigger.action)]
    rules = sorted(desk.by_trials(desk.rules(node)), key=lambda r: r.key not in named)
    wanted: list[tuple[KeyRule, Wanted]] = [(r, "any") for r in rules if r.key not in trigger.keys]
    yield from _directed(desk, node, wanted, "with the right form of the model another setting breaks the ceiling")


ACTIONS: dict[str, Action] = {
    "degeneracy-break": _degeneracy_break,
    "k-protect": _as_worded,
    "variance-reduction": _variance_reduction,
    "failure-probe": _failure_probe,
    "explore": _explore,
    "robustness-test": _robustness,
    "boundary-skip": _other_key,
    "switch-dimension": _other_key,
    "forced-branch": _forced_branch,
    "forced-branch/converged": _lower_half,
    "dimension-sweep": _dimension_sweep,
    "regime-shift": _regime_shift,
    "cross-seed-optimize": _other_draw,
    "identifiability-test": _other_draw,
    "recombine": _recombine,
    "exploit-tighten": _exploit_tighten,
    "seed-robustness": _robustness,
    "universal-recipe-validate": _other_draw,
    "L1-calibration": _l1_calibration,
    "fixed-model-sweep": _fixed_model_sweep,
    "homeo-kick": _as_worded,
    "embedding-focus": _as_worded,
}
"""`Kind.key` -> action."""

COSTLY = frozenset(
    ("failure-probe", "robustness-test", "variance-reduction", "seed-robustness", "cross-seed-optimize",
     "identifiability-test", "universal-recipe-validate")
)  # fmt: skip
"""Kinds that learn about the best node instead of looking for a better one."""
