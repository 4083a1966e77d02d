"""Show code edits: the block of a log entry, the lines of their verdicts, the table of what was tried.

Source: seed documents 002 and 004, Step 5.2, "Logging Code Modifications". What a model wrote stands on one line, with
printable characters only.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.core import edits, lineage, tree
from orchestrator.core.records import CodeChange, Proposal
from orchestrator.core.state import Iteration, Node, State

ROWS = 20
"""Edits that the table shows at most."""
_HEAD = ("Node", "Iter", "Parent", "File and function", "Change", "Verdict", "Commit")


def one_line(text: str) -> str:
    """Return a text on one line, without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def cell(text: str) -> str:
    """Return a text for a cell of a markdown table."""
    return one_line(text).replace("|", "\\|")


def block(proposal: Proposal) -> list[str]:
    """Return the `CODE MODIFICATION` lines of an entry; none for an iteration without a code edit."""
    code = proposal.mutation.code
    if code is None:
        return []
    lines = ["CODE MODIFICATION:"]
    for edit in code.edits:
        lines += [f"  File: {edit.path}", f"  Function: {edit.unit}"]
    return [
        *lines,
        f"  Change: {one_line(code.change)}",
        f"  Hypothesis: {one_line(proposal.hypothesis)}",
        f"  Commit: {_commit(proposal, code)}",
    ]


def source(proposal: Proposal) -> str:
    """Return what an edit was made from: `node 3`."""
    return "the start" if proposal.base is None else f"node {proposal.base}"


def _commit(proposal: Proposal, code: CodeChange) -> str:
    added, removed = sum(e.added for e in code.edits), sum(e.removed for e in code.edits)
    parts = [f"{code.commit[:7]} (+{added} -{removed} lines)", f"against the code of {source(proposal)}"]
    if code.repairs is not None:
        parts.append(f"repair of iteration {code.repairs}")
    if code.combines:
        parts.append(f"the edits of nodes {' and '.join(map(str, code.combines))} together")
    if code.patch:
        parts.append(f"prepared patch {one_line(code.patch)}")
    return ", ".join(parts)


# Verdicts


def verdict_lines(state: State, it: Iteration) -> list[str]:
    """Return the `Code verdict` lines of a finished iteration (see `told`)."""
    return [
        f"Code verdict{'' if found.node == it.proposal.iteration else f' of node {found.node}'}: "
        f"{one_line(found.sentence)}"
        for found in told(state, it)
    ]


def told(state: State, it: Iteration) -> list[edits.Judged]:
    """Return the verdicts that a finished iteration is about: on its own edit, or on those that its run changed.

    They are as known when it was judged, so that an entry stays as it was written. Edits of its own block only: a
    config that is carried over may tell more about old ones.
    """
    if it.proposal.mutation.code is not None:
        return [edits.judged(state, state.nodes[it.node], it.judged_seq)]
    return list(_told(state, it))


def _told(state: State, it: Iteration) -> Iterator[edits.Judged]:
    ended = it.attempts[-1].ended_seq if it.attempts else None
    if ended is None:
        return
    idea = state.nodes[it.node].idea
    for node in edits.code_nodes(state, it.block):
        origin = edits.reference(state, node)
        concerned = idea == node.idea or (origin is not None and idea == origin.idea)
        if concerned and state.iterations[node.id].seq < ended:
            before, after = (edits.judged(state, node, until) for until in (ended - 1, ended))
            if (before.verdict, before.provisional, before.n) != (after.verdict, after.provisional, after.n):
                yield edits.judged(state, node, it.judged_seq)


# Tables


def shown(state: State) -> list[Node]:
    """Return the edits that matter now.

    Of all blocks those that failed, then those that are kept or that a block's best node carries; at last the others
    of the block shown.
    """
    fallen, every = edits.falsified(state), edits.code_nodes(state)
    here = [n for n in every if n.block == state.block_shown]
    leaders = [node for b in range(1, state.block_shown + 1) if (node := tree.best(state, b)) is not None]
    used = {proposal.iteration for node in leaders for proposal in lineage.code_path(state, node.id)}
    gone = {n.id for n in [*here, *fallen]}
    kept = [n for n in every if n.id not in gone and (n.id in used or edits.judged(state, n).verdict == "keep")]
    return [*fallen, *kept, *(n for n in here if n not in fallen)]


def table(state: State, rows: int = ROWS) -> list[str]:
    """Return a markdown table of the edits that matter now, at most `rows` of them; nothing when there are none.

    The oldest of those that failed are left out first.
    """
    nodes = shown(state)
    if not nodes:
        return []
    lines = [_row(_HEAD), _row(["---"] * len(_HEAD)), *(_row(_cells(state, node)) for node in nodes[-rows:])]
    left = len(nodes) - rows
    return [*lines, f"({left} more: analysis.md has them)"] if left > 0 else lines


def _cells(state: State, node: Node) -> list[str]:
    it = state.iterations[node.id]
    code = it.proposal.mutation.code
    assert code is not None
    parent = "root" if node.parent is None else str(node.parent)
    said = edits.judged(state, node).sentence
    number = it.proposal.iteration
    return [str(node.id), str(number), parent, cell(where(code)), cell(code.change), cell(said), code.commit[:10]]


def _row(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"


def carried(state: State, node: int) -> str:
    """Return the iterations whose code edits a node trains with, `code of iter 5`; "" for the code at the opening."""
    found = [str(proposal.iteration) for proposal in lineage.code_path(state, node)]
    return f"code of iter {', '.join(found)}" if found else ""


def where(code: CodeChange) -> str:
    """Return files and functions of a change: `trainers/signal.py: data_train_signal`."""
    return "; ".join(dict.fromkeys(f"{edit.path}: {edit.unit}" for edit in code.edits))


def waiting(state: State) -> list[str]:
    """Return what is to be done about the edits of the block in progress: runs that decide, repairs that are due."""
    lines = []
    for node in edits.code_nodes(state, state.block):
        found = edits.judged(state, node)
        if found.verdict == "open":
            lines.append(f"- Undecided: node {node.id} is {one_line(found.sentence)}")
    for it in edits.awaiting_repair(state):
        number = it.proposal.iteration
        said = one_line(edits.judged(state, state.nodes[it.node]).sentence)
        left = edits.repairs_left(state, number)
        lines.append(f"- May be repaired ({left} repair(s) left, from parent {it.proposal.parent}): {said}")
    return lines
