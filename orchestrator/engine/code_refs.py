"""Git refs as a view of the fold: each edited node keeps one, and the exploration's branch stands at the best node.

Written after the event that made the node, so a kill leaves no ref that the journal does not know; what is missing or
too much is put right at the next publishing.
"""

from __future__ import annotations

from orchestrator.core import lineage, tree
from orchestrator.core.state import State
from orchestrator.paths import Paths
from orchestrator.vcs import git


class CodeRefs:
    """Writer of one exploration's refs."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._last: tuple[dict[int, str], str | None] | None = None

    def publish(self, state: State) -> None:
        """Bring the refs up to date with `state`; costs nothing while nothing has changed."""
        if state.opened is None or state.contract.command is not None:
            return
        nodes = {
            n: change.commit for n in state.nodes if (change := state.iterations[n].proposal.mutation.code) is not None
        }
        best = tree.best(state)
        wanted = nodes, lineage.code_commit(state, best.id) if best is not None else None
        known = (self._paths.out / ".git" / "refs" / "nodes").is_dir()
        if wanted == self._last or not (nodes or known):
            return
        branch = f"exploration/{state.opened.exploration}"
        at = wanted[1] or git.opening_commit(self._paths.out, branch)
        if at is not None:
            git.set_refs(self._paths.out, nodes, branch, at)
        self._last = wanted
