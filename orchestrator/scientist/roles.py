"""What the offline scientist does in a slot that has a role of its own.

- *exploit-second*: a step from the second-highest UCB, so that one node's neighbourhood does not take every slot.
- *explore*: the key that this block has tried least, from a node outside the line of the best one.
- *principle-test*: of what one-key steps showed so far the principle that was tested least: the same key is moved the
  same way from a node where nobody has tried it. The principle is quoted in the evidence; the run supports or
  contradicts it like any other step.
- *control*: the best node unchanged, at another training seed, beside the changes that the other slots make.

A slot whose role has nothing to propose does what *exploit-best* does: the protocol of `scientist.offline`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from orchestrator.core.records import Proposal, Role
from orchestrator.core.state import Node
from orchestrator.scientist import learned, policy
from orchestrator.scientist.desk import Desk, Draft
from orchestrator.scientist.moves import key_moves
from orchestrator.scientist.policy import draft, own_key, preferred

Step = tuple[Draft, str, str]
"""Draft, strategy, evidence."""
TEST_STEPS = (1.0, 0.5)


def steps(desk: Desk) -> Iterator[Step]:
    """Yield what the slot's role asks for, in the order of preference; nothing for a role that follows the protocol."""
    if desk.role in _STEPS:
        yield from _STEPS[desk.role](desk)


def _second(desk: Desk) -> Iterator[Step]:
    for made in policy.default(desk, skip=1):
        yield made, "exploit", ""


def _explore(desk: Desk) -> Iterator[Step]:
    leader = desk.leader
    line = desk.scene.ancestors(leader) if leader is not None else []
    outside = [s for s in desk.scores if s.node not in line]
    inside = [s for s in desk.scores if s.node in line]
    for score in (*sorted(outside, key=lambda s: s.visits), *inside):
        node = desk.state.nodes[score.node]
        told = f"UCB {score.ucb:.3f}, {score.visits} visit(s)"
        rule = f"outside the line of the best node ({told})" if score in outside else f"the line of the best ({told})"
        for key in desk.by_trials(desk.rules(node)):
            if key.key != own_key(desk, node):
                for move in preferred(desk, key, node, 1.0):
                    yield draft(desk, node, move.change, rule), "explore", ""


def _principle_test(desk: Desk) -> Iterator[Step]:
    regime = desk.state.regime_name(desk.block)
    known = [k for k in learned.known(desk.state) if k.principle.regime == regime]
    known.sort(key=lambda k: _tests(desk, k))
    for found in known:
        support = ", ".join(map(str, found.principle.support))
        against = ", ".join(map(str, found.principle.against)) or "none"
        evidence = f'tests "{found.principle.text}" (support: {support}; against: {against})'
        for node in _where(desk, found):
            rule = desk.state.contract.key(found.key)
            assert rule is not None
            for step in TEST_STEPS:
                for move in key_moves(rule, node.config, step):
                    if learned.direction(move.change) == found.direction:
                        way = "rises" if found.raises else "falls"
                        told = f"{desk.scene.primary} {way} here too, if the principle holds"
                        yield draft(desk, node, move.change, f"node {node.id} has not had it", told), TEST, evidence


TEST = "principle-test"


def _tests(desk: Desk, found: learned.Known) -> int:
    """Return how many proposals of the block tested a principle."""
    return sum(p.strategy == TEST and _moved(desk, p, found) for p in desk.proposals)


def _moved(desk: Desk, proposal: Proposal, found: learned.Known) -> bool:
    """Return whether a proposal moves the key of a principle its way, and nothing else that counts."""
    changes = desk.state.contract.counted_of(proposal.mutation)
    return len(changes) == 1 and changes[0].key == found.key and learned.direction(changes[0]) == found.direction


def _where(desk: Desk, found: learned.Known) -> list[Node]:
    """Return nodes, highest UCB first, whose key may move and from which it was not moved that way yet."""
    tried = {p.parent for p in desk.proposals if _moved(desk, p, found)}
    nodes = [desk.state.nodes[s.node] for s in desk.scores if s.node not in tried]
    return [n for n in nodes if found.key in {r.key for r in desk.rules(n)}]


def _control(desk: Desk) -> Iterator[Step]:
    leader = desk.leader
    if leader is not None:
        seed = desk.next_training_seed(leader)
        text = f"node {leader.id} unchanged at training seed {seed}: what changes nothing moves by noise only"
        rule = "the best node, unchanged"
        yield Draft(node=leader.id, training_seed=seed, rule=rule, hypothesis=text), "control", ""


_STEPS: dict[Role | None, Callable[[Desk], Iterator[Step]]] = {
    "exploit-second": _second,
    "explore": _explore,
    "principle-test": _principle_test,
    "control": _control,
}
