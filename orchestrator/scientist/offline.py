"""The embedded scientist: follows the written protocol without a language model, deterministically.

A block begins with its baseline. Then, for each iteration, the first of these that the contract accepts:

1. every `replicate_every` iterations another run of the leader at a new training seed; then, where code may be edited,
   the run that decides an edit, and the prepared patch that is due (`scientist.patches`);
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

from collections.abc import Iterable

from orchestrator.core import slots, strategy, tree
from orchestrator.core.records import Proposal, Turn
from orchestrator.core.scene import Scene
from orchestrator.core.state import State
from orchestrator.core.strategy import Trigger
from orchestrator.core.strategy_kinds import kind_of
from orchestrator.ports import CodeOffice, Office
from orchestrator.scientist import learned, patches, policy, roles
from orchestrator.scientist.actions import ACTIONS, COSTLY
from orchestrator.scientist.boundary import boundary
from orchestrator.scientist.desk import Desk

STEPS_BETWEEN = 2
"""Plain steps between two rows that are followed: 2 solved 37 of 40 made-up landscapes in 12 runs, 1 solved 29."""
_ACTIONS = {**ACTIONS, **patches.ACTIONS}
FOLLOWING = (None, "exploit-best", "exploit-second")
"""Roles whose steps are counted between rows: the other slots have a plan of their own."""
COSTLY_SHARE = 3
"""One in so many iterations of a block may be a probe or a further run of the best node."""


class OfflineScientist:
    """Deterministic policy behind the `Scientist` port."""

    name = "offline"
    patient = False

    def __init__(self) -> None:
        self._code: CodeOffice | None = None
        """Null: no code is edited, in another scientist's place."""

    def attach(self, office: Office) -> None:
        """Take what lends the code."""
        self._code = office.code

    def propose(self, state: State, n: int) -> Turn:
        """Return what the finished runs show and `n` new proposals (fewer when nothing untried is left)."""
        proposals = _proposals(state, n, self._code) if state.closing is None else []
        leader = proposals[0].parent if proposals else _leader_by_ucb(state)
        return Turn(
            turn=len(state.turns) + 1,
            based_on=state.seq,
            asked=n,
            scientist=self.name,
            reflections=tuple(learned.reflect(state, it, leader) for it in state.unreflected),
            proposals=tuple(proposals),
            emerging=tuple(learned.emerging(state)),
            principles=learned.principles(state) if state.unreflected else (),
            acknowledged=learned.acknowledged(state),
            boundary=boundary(state),
        )


def _proposals(state: State, n: int, code: CodeOffice | None) -> list[Proposal]:
    """Return proposals for the free slots: nothing beyond a block is proposed before its runs are final."""
    proposals: list[Proposal] = []
    ending = slots.full(state)
    scene = Scene(state, ending or state.block)
    left = 0 if ending else state.first_of(state.block) + state.n_iter_block - state.last_iteration - 1
    for place, slot in enumerate(slots.free(state, n)):
        iteration = state.last_iteration + 1 + place
        filler = place >= left
        desk = Desk(state, iteration, tuple(proposals), scene=scene, slot=slot, filler=filler, office=code)
        proposal = _filler(desk) if desk.filler else _next(desk)
        if proposal is None:
            break
        proposals.append(proposal)
    return proposals


def fillers(state: State, n: int, regular: tuple[Proposal, ...]) -> list[Proposal]:
    """Return further runs of leaders for the slots that a turn with these regular proposals leaves idle."""
    made: list[Proposal] = []
    ending = slots.full(state)
    scene = Scene(state, ending or state.block)
    for place, slot in list(enumerate(slots.free(state, n)))[len(regular) :]:
        pending = (*regular, *made)
        proposal = _filler(Desk(state, state.last_iteration + 1 + place, pending, scene=scene, slot=slot, filler=True))
        if proposal is None:
            break
        made.append(proposal)
    return made


def _filler(desk: Desk) -> Proposal | None:
    """Return a further run of a leader while regular runs of a complete block go on."""
    awaited = (*(it.proposal for it in desk.state.open_iterations), *desk.pending)
    if not desk.state.contract.replicate_every or all(p.filler for p in awaited):
        return None
    return _first(desk, ((d, "replicate", "") for d in policy.filler(desk)))


def _first(desk: Desk, steps: Iterable[roles.Step]) -> Proposal | None:
    """Return the first of some steps that the contract accepts."""
    return next((made for step in steps if (made := desk.build(*step)) is not None), None)


def _leader_by_ucb(state: State) -> int | None:
    ranked = tree.scores(state, state.block_of(max(state.last_iteration, 1)))
    return ranked[0].node if ranked else None


def _next(desk: Desk) -> Proposal | None:
    if not desk.proposals:
        return policy.baseline(desk)
    made = _first(desk, ((d, name, "") for d, name in policy.spread(desk))) or policy.replicate(desk)
    made = made or _first(desk, ((d, "user-instruction", f"asked for: {a}") for d, a in policy.wished(desk)))
    made = made or _first(desk, patches.deciding(desk)) or _first(desk, patches.due(desk))
    return made or _first(desk, roles.steps(desk)) or _by_protocol(desk)


def _by_protocol(desk: Desk) -> Proposal | None:
    triggers = [t for t in strategy.active(desk.state, desk.block, desk.pending) if t.group != "default"]
    for trigger in _to_follow(desk, triggers):
        for draft in _ACTIONS[trigger.kind](desk, trigger):
            made = desk.build(draft, trigger.strategy, _evidence(trigger.evidence, triggers, trigger))
            if made is not None:
                return made
    evidence = _evidence("", triggers)
    return _first(desk, ((d, "exploit", evidence) for d in policy.default(desk)))


def _to_follow(desk: Desk, triggers: list[Trigger]) -> list[Trigger]:
    """Return the triggers that may be followed now (see the module's docstring)."""
    steps = [p for p in desk.proposals if p.role in FOLLOWING and p.strategy not in ("replicate", "initial-spread")]
    rested = all(p.strategy == "exploit" for p in steps[-STEPS_BETWEEN:])
    every, end = desk.state.contract.replicate_every, desk.state.first_of(desk.block + 1)
    due = sum(i % every == 0 for i in range(desk.iteration + 1, end)) if every else 0
    costly = due + sum(_is_costly(p) for p in desk.proposals)
    affordable = costly < max(1, desk.state.n_iter_block // COSTLY_SHARE)
    return [
        t
        for t in triggers
        if t.kind in _ACTIONS and (rested or t.group == "safety") and (affordable or t.kind not in COSTLY)
    ]


def _is_costly(proposal: Proposal) -> bool:
    kind = kind_of(proposal.strategy, "")
    return proposal.mutation.kind == "replicate" or (kind is not None and kind.names[0] in COSTLY)


def _evidence(seen: str, triggers: list[Trigger], followed: Trigger | None = None) -> str:
    others = ", ".join(t.strategy for t in triggers if t is not followed)
    return "; ".join(part for part in (seen, f"also active: {others}" if others else "") if part)
