"""Which code a node trains: the code edits that lead to it from the code that was opened with."""

from __future__ import annotations

from orchestrator.core.records import Proposal
from orchestrator.core.state import State


def code_path(state: State, node: int | None) -> tuple[Proposal, ...]:
    """Return the proposals whose code edits lead to the code of a node (or iteration), the first edit first.

    A proposal's code comes from its `base`; a replicate's from the node that it runs again; null is the code at
    opening, without edits.
    """
    found = []
    while node is not None:
        proposal = state.iterations[node].proposal
        if proposal.mutation.code is not None:
            found.append(proposal)
        node = proposal.mutation.replicate_of or proposal.base
    return tuple(reversed(found))


def code_commit(state: State, node: int | None) -> str | None:
    """Return the commit of a node's code; None is the code at opening."""
    path = code_path(state, node)
    return path[-1].mutation.code.commit if path and path[-1].mutation.code else None


def edited(state: State) -> tuple[int, ...]:
    """Return the nodes whose code is not that of the opening, by id."""
    return tuple(node for node in sorted(state.nodes) if code_commit(state, node) is not None)
