"""The code edits of report.html: what was changed, what came out of it, and the diff, or the command that shows it."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from orchestrator.core import edits
from orchestrator.core.state import Node, State
from orchestrator.errors import RefusedError, UserError
from orchestrator.formats import code_edits
from orchestrator.views.report_html import folded, right, table, text

Diff = Callable[[str, str], str]
"""(tree, tree) -> unified diff between two code states."""
DIFF_CHARACTERS = 20_000
"""Of each edit that are shown."""
COLOUR: dict[edits.Verdict, str] = {"keep": "good", "neutral": "mid", "worse": "bad", "crashed": "bad", "open": "open"}


def section(state: State, out: Path, diff: Diff | None = None) -> str:
    """Return every code edit with its verdict.

    Args:
        state: the fold.
        out: folder of the exploration's repository, for the command that shows an edit.
        diff: gives the text of an edit; null shows the command alone.
    """
    rows = [_row(state, node, out, diff) for node in edits.code_nodes(state)]
    head = ("node", "iteration", "parent", "file, function and change", "verdict", "diff")
    return table(head, rows, "no code was edited")


def _row(state: State, node: Node, out: Path, diff: Diff | None) -> list[str]:
    proposal = state.iterations[node.id].proposal
    code, found = proposal.mutation.code, edits.judged(state, node)
    assert code is not None
    parent = "root" if node.parent is None else node.parent
    said = f"<small>{text(code_edits.where(code))}</small>{text(code.change)}<small>{text(proposal.hypothesis)}</small>"
    if code.repairs is not None:
        said += f"<small>{text(f'repair of iteration {code.repairs}')}</small>"
    verdict = f'<td class="{COLOUR[found.verdict]}">{text(found.sentence)}</td>'
    command = f"git -C {shlex.quote(str(out))} show {code.commit[:12]}"
    shown = _diff(state, node, diff)
    body = f"<code>{text(command)}</code>" + (f"<pre class=flat>{text(shown)}</pre>" if shown else "")
    return [right(node.id), right(proposal.iteration), right(parent), said, verdict, folded(code.commit[:10], body)]


def _diff(state: State, node: Node, diff: Diff | None) -> str:
    """Return an edit against its parent's code, cut where it is long; "" when it cannot be had."""
    if diff is None or node.parent is None:
        return ""
    try:
        told = diff(state.nodes[node.parent].code, node.code)
    except (UserError, RefusedError, OSError):
        return ""
    told = told.encode("utf-8", "replace").decode()
    return told if len(told) <= DIFF_CHARACTERS else told[:DIFF_CHARACTERS] + "\n(cut here)"
