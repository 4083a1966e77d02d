"""Slots: positions for runs in flight, what each is for, and what may be proposed for them.

A slot belongs to an open iteration from the turn that proposes it until its deciding run is judged. A *filler* is a
replicate beyond the block's length: while the block's last runs go on, an idle slot runs a leader again.
"""

from __future__ import annotations

from orchestrator.core.records import Proposal, Role, Turn
from orchestrator.core.state import State
from orchestrator.errors import RefusedError

ROLES: tuple[Role, ...] = ("exploit-best", "exploit-second", "explore", "principle-test")
"""Of four slots, and of each four after them, as the seed documents' loops had them."""
FEW: dict[int, tuple[Role, ...]] = {1: (), 2: ROLES[:2], 3: ROLES[:3]}
"""Of few slots (docs/log.md has what was measured on made-up landscapes)."""


def roles(count: int, wanted: tuple[Role, ...] = ()) -> tuple[Role, ...]:
    """Return the role of each of `count` slots: those of exploration.yaml, repeated as needed, else the usual ones."""
    pattern = wanted or FEW.get(count, ROLES)
    return tuple(pattern[slot % len(pattern)] for slot in range(count)) if pattern else ()


def free(state: State, count: int) -> list[int]:
    """Return the `count` lowest slots that no open iteration has."""
    taken = {it.proposal.slot for it in state.open_iterations}
    return [slot for slot in range(count + len(taken)) if slot not in taken][:count]


def role(state: State, slot: int) -> Role | None:
    """Return what a slot's proposals are for; None where the session has no roles (one slot)."""
    known = state.session.roles if state.session else ()
    return known[slot % len(known)] if known else None


def full(state: State) -> int | None:
    """Return the block whose iterations are all proposed and not all final; None when there is none."""
    last = max((it.block for it in state.open_iterations), default=0)
    return last if 0 < last < state.block else None


def check(state: State, turn: Turn) -> None:
    """Raise RefusedError unless each proposal has a free slot of its own, and fillers fill only what is idle."""
    offered = free(state, len(turn.proposals))
    for proposal in turn.proposals:
        if proposal.slot not in offered:
            left = ", ".join(map(str, offered)) or "none"
            raise RefusedError(f"slot {proposal.slot} of iteration {proposal.iteration} refused: free now are {left}")
        offered.remove(proposal.slot)
    for i, proposal in enumerate(turn.proposals):
        if proposal.filler:
            _check_filler(state, proposal, turn.proposals[:i])
        elif any(p.filler for p in turn.proposals[:i]):
            raise RefusedError(f"iteration {proposal.iteration} refused: fillers come last in a turn")


def _check_filler(state: State, proposal: Proposal, before: tuple[Proposal, ...]) -> None:
    iteration, block = proposal.iteration, state.block_for(proposal)
    if proposal.mutation.kind != "replicate":
        raise RefusedError(f"iteration {iteration} refused: a filler runs a finished node again; its block is complete")
    regular = [p for p in before if not p.filler]
    planned = state.planned + len(regular)
    if planned != block * state.n_iter_block:
        raise RefusedError(
            f"iteration {iteration} refused: block {block} has iterations left; a filler comes after them"
        )
    running = [it for it in state.open_iterations if it.block == block and not it.proposal.filler]
    if not running and not regular:
        raise RefusedError(f"iteration {iteration} refused: no run of block {block} is waited for, so no slot is idle")
