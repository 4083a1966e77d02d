"""The default strategy: one step from the node with the highest UCB.

Order of preference at a node:

1. *follow*: the node's own mutation improved on its parent, or made it the leader within noise: the same key, one more
   step in the same direction;
2. *turn back*: it degraded: the same key, the other side of the parent's value;
3. *next key*: the free key with the fewest trials in this block, in the order of interest (`Desk.order`). It goes first
   to the side where its range is wider on a log scale, upwards when both are equal; learning rates go up first while
   the node is below its best class (a short budget rewards large steps).
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.core import configs, tree
from orchestrator.core.classify import holds
from orchestrator.core.contract import KeyRule
from orchestrator.core.mutation import describe
from orchestrator.core.records import Change, Config, Mutation, Proposal, canonical
from orchestrator.core.state import Node
from orchestrator.core.stats import noise, summarise
from orchestrator.scientist.desk import Desk, Draft, named_keys, stated_values
from orchestrator.scientist.moves import FINE_STEPS, STEPS, Direction, Move, key_moves, wider_side

FILLED = 3
"""Best nodes that fillers run again."""
FILLER_RUNS = 4
"""Runs of a node that are enough for a filler."""


def baseline(desk: Desk) -> Proposal:
    """Return the first proposal of a block: the exploration's start, or the best node carried over."""
    state = desk.state
    assert state.opened is not None
    carried = desk.carried
    config = state.base_config(carried.id if carried else None, desk.block)
    return desk.proposal(
        parent=None,
        base=carried.id if carried else None,
        mutation=Mutation(kind="baseline"),
        config_sha=configs.idea_sha(config),
        training_seed=_first_seed(desk, config, carried),
        strategy="exploit",
        parent_rule=f"new block: carries node {carried.id} over" if carried else "no nodes yet: parent=root",
        hypothesis="the starting point is measured before anything is changed",
    )


def _first_seed(desk: Desk, config: Config, carried: Node | None) -> int:
    """Return the start's training seed, or a new one where the block's first config has run before."""
    code = desk.code_of(carried.id if carried is not None else None)
    ran = desk.state.ideas.get((configs.idea_sha(config), code), [])
    own = int(configs.get(config, "training.seed")) if carried is None else desk.next_training_seed(carried)
    used = [desk.state.iterations[i].proposal.training_seed for i in ran]  # in the block's regime and settings
    if carried is not None and own not in used:
        return own
    return max((seed + 1 for seed in used), default=own)


def spread(desk: Desk) -> Iterator[tuple[Draft, str]]:
    """Yield what runs beside or after the first baseline, with its strategy: the instruction's initial spread.

    While no run of the block has ended, one-key steps from the block's own start follow, as children of root: slots
    need not wait for the baseline.
    """
    first = desk.state.iterations.get(1)
    if desk.block == 1 and not desk.filler:
        node = 1 if first is not None and first.final is not None else None
        start = desk.state.base_config(None, 1)
        for rule in desk.state.contract.spread:
            changes = tuple(
                Change(key=k, old=old, new=v)
                for k, v in rule.values.items()
                if canonical(old := configs.get(start, k)) != canonical(v)
            )
            if changes:
                text = f"as the instruction's initial spread asks: {rule.text}"
                yield Draft(node=node, changes=changes, rule="initial spread", hypothesis=text), "initial-spread"
    if tree.scores(desk.state, desk.block):
        return
    config = desk.state.base_config(desk.carried.id if desk.carried else None, desk.block)
    free = [r for r in desk.state.contract.keys if r.level == "free" and not r.exempt]
    for key in desk.by_trials(desk.rules(desk.carried) if desk.carried else free):
        for move in _sides(desk, key, config, None, 1.0):
            text = describe(desk.state.contract, Mutation(kind="config", changes=(move.change,)))
            told = f"{text}: tried beside the baseline; only this key differs from it"
            yield Draft(node=None, changes=(move.change,), rule="no run has ended yet", hypothesis=told), "exploit"


def filler(desk: Desk) -> Iterator[Draft]:
    """Yield further runs of the best nodes, those with the fewest runs first: the block's end rests on their means."""
    rule, state = desk.state.contract.primary, desk.state
    known = [s for s in desk.scores if s.summary.mean is not None]
    known.sort(key=lambda s: (-tree.reward(rule, s.summary.mean or 0.0), s.node))
    found = []
    for place, score in enumerate(known[:FILLED]):
        node, draw = state.nodes[score.node], state.draw(desk.block)
        own = (state.iterations[i].proposal for i in state.ideas[node.idea])
        pending = (p for p in desk.pending if (p.config_sha, p.code) == node.idea)
        runs = sum(p.simulation_seed == draw for p in (*own, *pending))
        found.append((runs, place, node))
    for runs, place, node in sorted(found, key=lambda f: f[:2]):
        if runs < FILLER_RUNS:
            yield Draft(
                node=node.id,
                training_seed=desk.next_training_seed(node),
                rule=f"the block's last runs go on and this slot is idle; node {node.id} is number {place + 1}",
                hypothesis=f"node {node.id} keeps its place among the best at another training seed",
            )


def replicate(desk: Desk) -> Proposal | None:
    """Return another run of the leader when one is due: 1 in `replicate_every` iterations.

    None where a slot has the role `control`: it runs the leader again all the time.
    """
    every, leader = desk.state.contract.replicate_every, desk.leader
    session = desk.state.session
    if not every or desk.iteration % every or leader is None or (session and "control" in session.roles):
        return None
    draft = Draft(
        node=leader.id,
        training_seed=desk.next_training_seed(leader),
        rule=f"1 in {every} iterations runs the leader again",
        hypothesis=f"node {leader.id} leads by more than the spread between training seeds",
    )
    summary = summarise(desk.state, leader, desk.scene.primary)
    mean = "no result" if summary.mean is None else f"{desk.scene.primary} {summary.mean:.4f}"
    floor = noise(desk.state, desk.scene.primary, desk.block)
    known = "noise not measured yet" if floor.sd is None else f"noise sd {floor.sd:.4f}, {floor.degrees} d.o.f."
    evidence = f"iteration {desk.iteration} is due; node {leader.id} leads with {mean} (n={summary.n}); {known}"
    return desk.build(draft, "replicate", evidence)


def wished(desk: Desk) -> Iterator[tuple[Draft, str]]:
    """Yield steps of the leader to values that a user instruction states (`key = value`) and no node has had."""
    leader = desk.leader
    if leader is None:
        return
    for item in desk.state.contract.user_instructions:
        for rule in named_keys(desk.state, item):
            for value in stated_values(item, rule):
                old = configs.get(leader.config, rule.key)
                had = {canonical(configs.get(n.config, rule.key)) for n in desk.state.nodes.values()}
                if canonical(value) not in had:
                    change = Change(key=rule.key, old=old, new=value)
                    yield draft(desk, leader, change, "the best node, as a user instruction asks"), item.text


def default(desk: Desk, skip: int = 0) -> Iterator[Draft]:
    """Yield steps from the nodes, highest UCB first; the `skip` highest come last."""
    found = tree.scores(desk.state, desk.block)
    ranked = [s for s in found if s.ucb is not None]
    scores = ranked[skip:] + ranked[:skip] + found[len(ranked) :]
    for steps in (STEPS, FINE_STEPS):
        for score in scores:
            node = desk.state.nodes[score.node]
            shown = f" ({score.ucb:.3f})" if score.ucb is not None else ": no node has a result"
            for move in moves(desk, node, steps):
                rank = "second-highest" if score in ranked[skip:] and skip else "highest"
                yield draft(desk, node, move.change, f"{rank} UCB among nodes with an untried move{shown}")


def draft(desk: Desk, node: Node, change: Change, rule: str, expected: str = "") -> Draft:
    """Return a one-key step from a node."""
    text = describe(desk.state.contract, Mutation(kind="config", changes=(change,)))
    if not expected:
        follows = own_key(desk, node) == change.key and desk.scene.effect(node) != "degraded"
        follow = "the last step of this key improved, one more may too"
        if desk.scene.effect(node) == "neutral":
            follow = "the last step of this key took the lead within noise, one more tells"
        expected = (
            follow if follows else f"untried from node {node.id}; only this key differs, so the effect is its own"
        )
    return Draft(node=node.id, changes=(change,), rule=rule, hypothesis=f"{text}: {expected}")


def moves(desk: Desk, node: Node, steps: tuple[float, ...] = STEPS) -> Iterator[Move]:
    """Yield the moves from a node in the order of preference of the module's docstring."""
    rules = desk.rules(node)
    own, effect = own_key(desk, node), desk.scene.effect(node)
    for step in steps:
        yield from _own_moves(desk, rules, node, step)
        if effect == "degraded":
            continue  # a step that made things worse is turned back, or another parent is chosen
        for rule in desk.by_trials(rules):
            if rule.key != own:
                yield from preferred(desk, rule, node, step)


def own_key(desk: Desk, node: Node) -> str | None:
    """Return the key whose change made a node."""
    changes = desk.state.iterations[node.id].changes
    return changes[0].key if changes else None


def _own_direction(desk: Desk, node: Node) -> Direction:
    change = desk.state.iterations[node.id].changes[0]
    if isinstance(change.new, bool | str):
        return "other"
    return "up" if change.new > change.old else "down"


def _own_moves(desk: Desk, rules: list[KeyRule], node: Node, step: float) -> Iterator[Move]:
    effect, own = desk.scene.effect(node), own_key(desk, node)
    rule = next((r for r in rules if r.key == own), None)
    if rule is None or node.parent is None or (effect == "neutral" and not _took_the_lead(desk, node)):
        return
    direction = _own_direction(desk, node)
    if effect != "degraded":
        yield from (m for m in key_moves(rule, node.config, step) if m.direction == direction)
        return
    other = {"up": "down", "down": "up"}.get(direction)
    old = configs.get(node.config, rule.key)
    for move in key_moves(rule, desk.state.nodes[node.parent].config, step):
        if move.direction == other and move.change.new != old:
            yield Move(change=move.change.model_copy(update={"old": old}), direction=move.direction)


def _took_the_lead(desk: Desk, node: Node) -> bool:
    gain = desk.scene.gain(node)
    return gain is not None and gain > 0 and desk.leader is not None and desk.leader.id == node.id


def preferred(desk: Desk, rule: KeyRule, node: Node, step: float) -> list[Move]:
    """Return the moves of a key from a node, the side to try first first."""
    return _sides(desk, rule, node.config, desk.scene.mean(node), step)


def _sides(desk: Desk, rule: KeyRule, config: Config, value: float | None, step: float) -> list[Move]:
    """Return the moves of a key from a config that scores `value` (None: unknown), the side to try first first."""
    found = key_moves(rule, config, step)
    if len(found) < 2:
        return found
    name = desk.state.contract.primary.name
    below = not all(holds(c, value) for c in desk.state.contract.verdicts[0].conditions if c.metric == name)
    up = wider_side(rule, configs.get(config, rule.key)) == "up"
    if "learning_rate" in rule.key and below:
        up = True
    return sorted(found, key=lambda m: (m.direction == "up") != up)
