"""The embedded scientist: follows the written protocol without a language model, deterministically.

It proposes the baseline first, then one mutation from the node with the highest UCB. Order of preference at a node:

1. *follow*: the node's own mutation improved on its parent: the same key, one more step in the same direction;
2. *turn back*: it degraded: the same key, the other side of the parent's value;
3. *next key*: the free key with the fewest trials in this block, in the instruction's order. It goes first to the side
   where its range is wider on a log scale, upwards when both are equal; learning rates go up first while the node is
   below its best class (a short budget rewards large steps).

"Improved" and "degraded" mean by more than one pooled standard deviation of replicates once that is known. Keys that
a run reported as unable to act are passed over. Every `replicate_every` iterations the leader runs again at a new
training seed. Nothing is random: each turn can be recomputed from the journal prefix that it names.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.core import configs, tree
from orchestrator.core.classify import holds
from orchestrator.core.contract import KeyRule
from orchestrator.core.mutation import describe, number
from orchestrator.core.records import Boundary, Mutation, Proposal, Reflection, Turn
from orchestrator.core.state import Iteration, Node, State
from orchestrator.core.stats import noise, summarise
from orchestrator.formats.entry import idle_keys
from orchestrator.scientist.moves import STEPS, Direction, Move, key_moves, wider_side


class OfflineScientist:
    """Deterministic policy behind the `Scientist` port."""

    name = "offline"

    def propose(self, state: State, n: int) -> Turn:
        """Return what the finished runs show and `n` new proposals (fewer when nothing untried is left)."""
        proposals: list[Proposal] = []
        first = state.block_of(state.last_iteration + 1)
        waits = any(it.block < first for it in state.open_iterations)
        if state.closing is not None:
            n = 0
        for iteration in range(state.last_iteration + 1, state.last_iteration + 1 + n):
            proposal = None if waits or state.block_of(iteration) != first else _next(state, iteration, proposals)
            if proposal is None:
                break  # nothing beyond a block is proposed before its runs are final
            proposals.append(proposal)
        leader = proposals[0].parent if proposals else _leader_by_ucb(state)
        return Turn(
            turn=len(state.turns) + 1,
            based_on=state.seq,
            scientist=self.name,
            reflections=tuple(_reflect(state, it, leader) for it in state.unreflected),
            proposals=tuple(proposals),
            emerging=tuple(_emerging(state)),
            boundary=_boundary(state),
        )


def _leader_by_ucb(state: State) -> int | None:
    ranked = tree.scores(state, state.block_of(max(state.last_iteration, 1)))
    return ranked[0].node if ranked else None


def _boundary(state: State) -> Boundary | None:
    if state.closing is None:
        return None
    regimes = state.contract.regimes
    following = regimes[state.closing % len(regimes)].name if regimes else ""
    return Boundary(block=state.closing, summary=("ended",), regime=following, focus="all free keys", hypothesis="none")


# Proposals


def _next(state: State, iteration: int, pending: list[Proposal]) -> Proposal | None:
    block = state.block_of(iteration)
    taken = {n.config_sha for n in state.nodes.values()} | {p.config_sha for p in pending}
    nodes = tree.block_nodes(state, block)
    if not nodes and not pending:
        return _baseline(state, iteration)
    replicate = _replicate(state, iteration, block, pending)
    if replicate is not None:
        return replicate
    for score in tree.scores(state, block):
        node = state.nodes[score.node]
        for strategy, move in _moves(state, node):
            config = configs.apply(node.config, (move.change,))
            if configs.idea_sha(config) not in taken:
                rule = f"highest UCB among nodes with an untried move ({score.ucb:.3f})" if score.ucb else "no score"
                return _mutate(state, iteration, node, move, strategy, rule)
    return None


def _proposal(state: State, iteration: int, **fields: object) -> Proposal:
    assert state.opened is not None
    start = state.opened.start
    defaults: dict[str, object] = {
        "iteration": iteration,
        "code": state.opened.code,
        "training_seed": configs.get(start, "training.seed"),
        "simulation_seed": _draw(state, iteration),
    }
    return Proposal.model_validate(defaults | fields)


def _draw(state: State, iteration: int) -> int:
    assert state.opened is not None
    draw = state.draw(state.block_of(iteration))
    return int(configs.get(state.opened.start, "simulation.seed")) if draw is None else draw


def _baseline(state: State, iteration: int) -> Proposal:
    assert state.opened is not None
    carried = tree.carried(state)
    config = state.base_config(carried.id if carried else None, state.block_of(iteration))
    seed = _next_seed(state, carried, []) if carried else configs.get(config, "training.seed")
    return _proposal(
        state,
        iteration,
        parent=None,
        base=carried.id if carried else None,
        mutation=Mutation(kind="baseline"),
        config_sha=configs.idea_sha(config),
        training_seed=seed,
        strategy="exploit",
        parent_rule=f"new block: carries node {carried.id} over" if carried else "no nodes yet: parent=root",
        hypothesis="the starting point is measured before anything is changed",
    )


def _replicate(state: State, iteration: int, block: int, pending: list[Proposal]) -> Proposal | None:
    every, leader = state.contract.replicate_every, tree.best(state, block)
    if not every or iteration % every or leader is None:
        return None
    return _proposal(
        state,
        iteration,
        parent=leader.parent,
        base=leader.id,
        mutation=Mutation(kind="replicate", replicate_of=leader.id),
        config_sha=leader.config_sha,
        training_seed=_next_seed(state, leader, pending),
        strategy="seed-robustness",
        parent_rule=f"1 in {every} iterations runs the leader again",
        hypothesis=f"node {leader.id} leads by more than the spread between training seeds",
    )


def _next_seed(state: State, node: Node, pending: list[Proposal]) -> int:
    """Return a training seed at which the node's idea was never run."""
    used = [state.iterations[i].proposal.training_seed for i in state.ideas[node.idea]]
    return max(used + [p.training_seed for p in pending if p.config_sha == node.config_sha]) + 1


def _mutate(state: State, iteration: int, node: Node, move: Move, strategy: str, rule: str) -> Proposal:
    mutation = Mutation(kind="config", changes=(move.change,))
    return _proposal(
        state,
        iteration,
        parent=node.id,
        base=node.id,
        mutation=mutation,
        config_sha=configs.idea_sha(configs.apply(node.config, (move.change,))),
        strategy=strategy,
        parent_rule=rule,
        hypothesis=_hypothesis(state, node, move),
    )


def _hypothesis(state: State, node: Node, move: Move) -> str:
    text = describe(state.contract, Mutation(kind="config", changes=(move.change,)))
    effect = _effect(state, node)
    if effect == "improved" and node.id == state.iterations[node.id].node and _own_key(state, node) == move.change.key:
        return f"{text}: the last step of this key improved, one more may too"
    return f"{text}: untried from node {node.id}; only this key differs, so the effect is its own"


# Which move from a node


def _moves(state: State, node: Node) -> Iterator[tuple[str, Move]]:
    """Yield (strategy, move) from a node in the order of preference of the module's docstring."""
    idle = {key for i in node.iterations if (end := state.iterations[i].final) for key in end.keys_idle}
    rules = [r for r in state.contract.keys if r.level == "free" and not r.exempt and r.key not in idle]
    own, effect = _own_key(state, node), _effect(state, node)
    for step in STEPS:
        for move in _own_moves(rules, node, own, effect, state, step):
            yield "exploit", move
        if effect == "degraded":
            continue  # a step that made things worse is turned back, or another parent is chosen
        for rule in _by_trials(state, rules, node.block):
            if rule.key != own:
                for move in _preferred(state, rule, node, step):
                    yield "exploit" if _is_leader(state, node) else "explore", move


def _is_leader(state: State, node: Node) -> bool:
    leader = tree.best(state, node.block)
    return leader is not None and leader.id == node.id


def _own_key(state: State, node: Node) -> str | None:
    changes = state.iterations[node.id].proposal.mutation.changes
    return changes[0].key if changes else None


def _own_direction(state: State, node: Node) -> Direction:
    change = state.iterations[node.id].proposal.mutation.changes[0]
    if isinstance(change.new, bool | str):
        return "other"
    return "up" if change.new > change.old else "down"


def _own_moves(
    rules: list[KeyRule], node: Node, own: str | None, effect: str, state: State, step: float
) -> Iterator[Move]:
    rule = next((r for r in rules if r.key == own), None)
    if rule is None or node.parent is None or effect == "neutral":
        return
    direction = _own_direction(state, node)
    if effect == "improved":
        yield from (m for m in key_moves(rule, node.config, step) if m.direction == direction)
    elif effect == "degraded":
        other = {"up": "down", "down": "up"}.get(direction)
        old = configs.get(node.config, rule.key)
        for move in key_moves(rule, state.nodes[node.parent].config, step):
            if move.direction == other:
                yield Move(change=move.change.model_copy(update={"old": old}), direction=move.direction)


def _effect(state: State, node: Node) -> str:
    """Return improved, degraded or neutral: a node against its parent, by the noise floor."""
    if node.parent is None:
        return "neutral"
    rule = state.contract.primary
    mine, theirs = (summarise(state, n, rule.name).mean for n in (node, state.nodes[node.parent]))
    if mine is None or theirs is None:
        return "degraded"
    gain = tree.reward(rule, mine) - tree.reward(rule, theirs)
    floor = noise(state, rule.name).sd or 0.0
    if abs(gain) <= max(floor, 1e-3):
        return "neutral"
    return "improved" if gain > 0 else "degraded"


def _by_trials(state: State, rules: list[KeyRule], block: int) -> list[KeyRule]:
    listed = [*state.contract.order, *(k.key for k in state.contract.keys)]
    order = {key: listed.index(key) for key in listed}
    trials = dict.fromkeys((r.key for r in rules), 0)
    for node in tree.block_nodes(state, block):
        for change in state.iterations[node.id].proposal.mutation.changes:
            if change.key in trials:
                trials[change.key] += 1
    return sorted(rules, key=lambda r: (trials[r.key], order[r.key]))


def _preferred(state: State, rule: KeyRule, node: Node, step: float) -> list[Move]:
    moves = key_moves(rule, node.config, step)
    if len(moves) < 2:
        return moves
    name = state.contract.primary.name
    value = summarise(state, node, name).mean
    below = not all(holds(c, value) for c in state.contract.verdicts[0].conditions if c.metric == name)
    up = wider_side(rule, configs.get(node.config, rule.key)) == "up"
    if "learning_rate" in rule.key and below:
        up = True
    return sorted(moves, key=lambda m: (m.direction == "up") != up)


# What finished runs show


def _reflect(state: State, it: Iteration, leader: int | None) -> Reflection:
    return Reflection(iteration=it.proposal.iteration, observation=_observe(state, it), next_parent=leader)


def _observe(state: State, it: Iteration) -> str:
    rule, final = state.contract.primary, it.final
    metric = it.metric(rule.name)
    if metric.value is None:
        why = final.sentence if final and final.outcome != "ok" else f"{rule.name} is {metric.reason}"
        return f"no result to compare: {why}"
    text = f"{rule.name} {metric.value:.4f}"
    if it.proposal.mutation.kind == "replicate":
        summary = summarise(state, state.nodes[it.node], rule.name)
        return f"{text}; node {it.node} now {summary.mean:.4f} over {summary.n} runs ({_floor(state)})"
    parent = state.nodes.get(it.proposal.parent) if it.proposal.parent is not None else None
    theirs = summarise(state, parent, rule.name).mean if parent else None
    if parent is None or theirs is None:
        return f"{text}; nothing to compare with yet"
    gain = metric.value - theirs
    return f"{text} against {theirs:.4f} of parent {parent.id}: {gain:+.4f}, {_judge(state, gain)}"


def _judge(state: State, gain: float) -> str:
    sd = noise(state, state.contract.primary.name).sd
    if sd is None:
        return "noise not measured yet"
    return f"{'beyond' if abs(gain) > 3 * sd else 'within'} three noise standard deviations ({_floor(state)})"


def _floor(state: State) -> str:
    floor = noise(state, state.contract.primary.name)
    return "noise not measured yet" if floor.sd is None else f"noise sd {floor.sd:.4f}, {floor.degrees} d.o.f."


def _emerging(state: State) -> Iterator[str]:
    leader, rule = tree.best(state), state.contract.primary
    if leader is not None:
        summary = summarise(state, leader, rule.name)
        yield f"Best so far: node {leader.id}, {rule.name} {summary.mean:.4f} (n={summary.n}); {_floor(state)}"
    for rule_, gains in sorted(_gains(state).items()):
        yield f"{rule_}: " + "; ".join(gains) + "."
    idle = {k: v for it in state.done if it.final for k, v in idle_keys(state.contract, it.final).items()}
    for key, reason in sorted(idle.items()):
        yield f"{key} could not act: {reason}."


def _gains(state: State) -> dict[str, list[str]]:
    """Return, by key, each one-key step of the current block with its gain and the iteration that shows it."""
    rule, found = state.contract.primary, dict[str, list[str]]()
    for node in tree.block_nodes(state, state.block_of(max(state.last_iteration, 1))):
        changes = state.iterations[node.id].proposal.mutation.changes
        mine = summarise(state, node, rule.name).mean
        theirs = summarise(state, state.nodes[node.parent], rule.name).mean if node.parent is not None else None
        if len(changes) == 1 and mine is not None and theirs is not None:
            key = state.contract.key(changes[0].key)
            step = f"{number(changes[0].old)} -> {number(changes[0].new)}: {mine - theirs:+.4f} (iter {node.id})"
            found.setdefault(key.short if key else changes[0].key, []).append(step)
    return found
