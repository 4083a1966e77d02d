"""Check a whole turn against the contract and the state: the last word, whoever the scientist is."""

from __future__ import annotations

from orchestrator.core import boundary, mutation, slots
from orchestrator.core.records import Turn
from orchestrator.core.state import State
from orchestrator.errors import RefusedError


def check(state: State, turn: Turn, n: int) -> None:
    """Raise RefusedError unless `turn` may be taken now, with at most `n` proposals; nothing is changed."""
    if len(turn.proposals) > n:
        raise RefusedError(f"{len(turn.proposals)} proposals refused: {n} slot(s) are free")
    boundary.check(state, turn)
    slots.check(state, turn)
    for i, proposal in enumerate(turn.proposals):
        mutation.check(state, proposal, turn.proposals[:i])
