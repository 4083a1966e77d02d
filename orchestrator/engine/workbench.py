"""What the engine lends to a scientist that edits code (`ports.CodeOffice`): texts, patches, trials, commits.

Texts and commits live in the exploration's own repository; the user's is never written. A trial is an event, so an edit
that is asked about again (a conversation that a kill cut short, a replay) is not tried again.
"""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.core import lineage
from orchestrator.core.configs import idea_sha
from orchestrator.core.events import CodeChecked
from orchestrator.core.records import sha_of
from orchestrator.core.state import State
from orchestrator.errors import JournalError, TrialRefusedError
from orchestrator.paths import Paths
from orchestrator.ports import Candidate
from orchestrator.vcs import code, git, message

Trial = Callable[[str, Candidate], CodeChecked]
"""Tries the tree of a candidate with its config and makes it an event."""


class Workbench:
    """The code of one exploration.

    Args:
        paths: of the exploration.
        ledger: gives the fold as it is now.
        trial: what tries an edit; None where every edit has been tried (a replay).
    """

    def __init__(self, paths: Paths, ledger: Callable[[], State], trial: Trial | None) -> None:
        self._folder, self._ledger, self._trial = paths.out, ledger, trial

    def text(self, tree: str, path: str) -> str:
        """Return a file of a code state; raises RefusedError."""
        return code.read_file(self._folder, tree, path)

    def patched(self, tree: str, patch: str) -> dict[str, str]:
        """Return path -> new text after a unified diff; raises RefusedError."""
        return code.patched(self._folder, tree, patch)

    def combined(self, base: str, trees: tuple[str, str]) -> dict[str, str]:
        """Return path -> new text with both edits; raises RefusedError."""
        return code.combined(self._folder, base, trees)

    def prove(self, candidate: Candidate) -> tuple[str, str]:
        """Return (tree, commit) of an edit that survived its trial; raises RefusedError."""
        state = self._ledger()
        assert state.opened is not None
        base = state.nodes[candidate.base].code if candidate.base is not None else state.opened.code
        tree = code.tree_with(self._folder, base, candidate.texts)
        found = state.checks.get((tree, sha_of(candidate.config)))
        if found is None:
            if self._trial is None:
                raise JournalError(
                    f"the journal has no trial of the code {tree[:12]} of iteration {candidate.iteration}"
                )
            found = self._trial(tree, candidate)
        if not found.ok:
            raise TrialRefusedError(f"the code edit of iteration {candidate.iteration} refused: {found.sentence}")
        branch = f"exploration/{state.opened.exploration}"
        parent = lineage.code_commit(state, candidate.base) or git.opening_commit(self._folder, branch)
        if parent is None:
            raise JournalError(
                f"{self._folder} has no commit of the code at the opening: its git repository is damaged"
            )
        text = message.edit_message(state.opened.exploration, candidate, idea_sha(candidate.config))
        return tree, code.commit_edit(self._folder, tree, parent, text, candidate.iteration)
