"""Render `ucb_scores.txt`: one line a node, best first; the header names formula, N, c and block."""

from __future__ import annotations

from orchestrator.core import tree
from orchestrator.core.mutation import describe
from orchestrator.core.state import State

FORMULAS = {
    "puct": "R + c*sqrt(N)/(1+V), V = 1 + descendants in the block",
    "ucb1": "R + c*sqrt(ln(N+1)/V), V = 1 + descendants in the block",
}


def render(state: State, block: int) -> str:
    """Return the file's text for one block; a block without a finished node says so."""
    contract, rows = state.contract, tree.scores(state, block)
    first = state.first_of(block)
    last = first + contract.n_iter_block + state.fillers.get(block, 0) - 1
    lines = [
        f"=== UCB Scores (Block {block}, iters {first}-{last}, N={len(rows)}, c={contract.ucb_c:g}) ===",
        f"{contract.scorer} v{tree.SCORERS[contract.scorer]}: {FORMULAS[contract.scorer]}; R = {contract.primary.name}",
        "",
    ]
    if not rows:
        lines.append("no nodes yet: parent=root")
    lines += [_line(state, row) for row in rows]
    return "\n".join(lines) + "\n"


def _line(state: State, row: tree.Score) -> str:
    parent = "root" if row.parent is None else row.parent
    mutation = describe(state.contract, state.iterations[row.node].proposal.mutation)
    if row.ucb is None or row.summary.mean is None:
        outcome = state.iterations[row.node].outcome
        why = row.summary.reason if outcome == "ok" else outcome
        return f"Node {row.node}: UCB=none, parent={parent}, visits={row.visits}, R2=none ({why}), Mutation={mutation}"
    error = f", se={row.summary.standard_error:.3f}" if row.summary.standard_error is not None else ""
    return (
        f"Node {row.node}: UCB={row.ucb:.3f}, parent={parent}, visits={row.visits}, R2={row.summary.mean:.3f}"
        f"{error}, n={row.summary.n}, Mutation={mutation}"
    )
