"""The embedded scientist: follows the written protocol without a language model, deterministically.

A block begins with its baseline. Then, for each iteration, the first of these that the contract accepts:

1. every `replicate_every` iterations another run of the leader at a new training seed;
2. the action of the first row of the strategy table that holds (`core.strategy`, `scientist.actions`). A row is
   followed when the two proposals before it (replicates of 1 left out) were plain steps, so that the search for a
   better node goes on in between; rows about safety are always followed. Probes and further runs of the best node, the
   replicates of 1 included, take at most a third of a block;
3. a step from the node with the highest UCB (`scientist.policy`).

When a block is complete, its end comes first (`scientist.boundary`), in a turn without proposals. "Improved" and
"degraded" mean by more than one pooled standard deviation of replicates once that is known. Keys that a run reported as
unable to act are passed over. Nothing is random: each turn can be recomputed from the journal prefix that it names.
"""

from __future__ import annotations

from orchestrator.core import strategy, tree
from orchestrator.core.records import Proposal, Turn
from orchestrator.core.scene import Scene
from orchestrator.core.state import State
from orchestrator.core.strategy import Trigger
from orchestrator.core.strategy_kinds import kind_of
from orchestrator.scientist import learned, policy
from orchestrator.scientist.actions import ACTIONS, COSTLY
from orchestrator.scientist.boundary import boundary
from orchestrator.scientist.desk import Desk

STEPS_BETWEEN = 2
"""Plain steps between two rows that are followed: 2 solved 37 of 40 made-up landscapes in 12 runs, 1 solved 29."""
COSTLY_SHARE = 3
"""One in so many iterations of a block may be a probe or a further run of the best node."""


class OfflineScientist:
    """Deterministic policy behind the `Scientist` port."""

    name = "offline"

    def propose(self, state: State, n: int) -> Turn:
        """Return what the finished runs show and `n` new proposals (fewer when nothing untried is left)."""
        proposals: list[Proposal] = []
        block = state.block
        waits = any(it.block < block for it in state.open_iterations) or state.closing is not None
        scene = Scene(state, block)
        for iteration in range(state.last_iteration + 1, state.last_iteration + 1 + n):
            if waits or state.block_of(iteration) != block:
                break  # nothing beyond a block is proposed before its runs are final
            proposal = _next(Desk(state, iteration, tuple(proposals), scene=scene))
            if proposal is None:
                break
            proposals.append(proposal)
        leader = proposals[0].parent if proposals else _leader_by_ucb(state)
        return Turn(
            turn=len(state.turns) + 1,
            based_on=state.seq,
            scientist=self.name,
            reflections=tuple(learned.reflect(state, it, leader) for it in state.unreflected),
            proposals=tuple(proposals),
            emerging=tuple(learned.emerging(state)),
            principles=learned.principles(state) if state.unreflected else (),
            acknowledged=learned.acknowledged(state),
            boundary=boundary(state),
        )


def _leader_by_ucb(state: State) -> int | None:
    ranked = tree.scores(state, state.block_of(max(state.last_iteration, 1)))
    return ranked[0].node if ranked else None


def _next(desk: Desk) -> Proposal | None:
    if not desk.proposals:
        return policy.baseline(desk)
    made = policy.replicate(desk)
    if made is not None:
        return made
    for draft, asked in policy.wished(desk):
        made = desk.build(draft, "user-instruction", f"asked for: {asked}")
        if made is not None:
            return made
    triggers = [t for t in strategy.active(desk.state, desk.block, desk.pending) if t.group != "default"]
    for trigger in _to_follow(desk, triggers):
        for draft in ACTIONS[trigger.kind](desk, trigger):
            made = desk.build(draft, trigger.strategy, _evidence(trigger.evidence, triggers, trigger))
            if made is not None:
                return made
    evidence = _evidence("", triggers)
    for draft in policy.default(desk):
        made = desk.build(draft, "exploit", evidence)
        if made is not None:
            return made
    return None


def _to_follow(desk: Desk, triggers: list[Trigger]) -> list[Trigger]:
    """Return the triggers that may be followed now (see the module's docstring)."""
    steps = [p for p in desk.proposals if p.mutation.kind != "replicate" or p.strategy != "replicate"]
    rested = all(p.strategy == "exploit" for p in steps[-STEPS_BETWEEN:])
    every, end = desk.state.contract.replicate_every, desk.state.first_of(desk.block + 1)
    due = sum(i % every == 0 for i in range(desk.iteration + 1, end)) if every else 0
    costly = due + sum(_is_costly(p) for p in desk.proposals)
    affordable = costly < max(1, desk.state.n_iter_block // COSTLY_SHARE)
    return [
        t
        for t in triggers
        if t.kind in ACTIONS and (rested or t.group == "safety") and (affordable or t.kind not in COSTLY)
    ]


def _is_costly(proposal: Proposal) -> bool:
    kind = kind_of(proposal.strategy, "")
    return proposal.mutation.kind == "replicate" or (kind is not None and kind.names[0] in COSTLY)


def _evidence(seen: str, triggers: list[Trigger], followed: Trigger | None = None) -> str:
    others = ", ".join(t.strategy for t in triggers if t is not followed)
    return "; ".join(part for part in (seen, f"also active: {others}" if others else "") if part)
