"""Write the views from the fold: memory.md, analysis.md, ucb_scores.txt, best.yaml.

Every view is a function of the journal: deleted files come back byte for byte. `analysis.md` is appended to while its
bytes are the ones written last, and re-rendered when they are not.
"""

from __future__ import annotations

import os
from pathlib import Path

from orchestrator.core import tree
from orchestrator.core.configs import idea_sha
from orchestrator.core.state import State
from orchestrator.core.stats import summarise
from orchestrator.formats import analysis, memory, ucb_scores, yaml_edit
from orchestrator.paths import Paths
from orchestrator.store import atomic


class Views:
    """Writer of one exploration's views."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._written = ""
        self._count = -1

    def publish(self, state: State) -> None:
        """Bring every view up to date with `state`."""
        if state.opened is None:
            return
        self._analysis(state)
        block = state.block_of(max(state.last_iteration, 1))
        atomic.write_if_changed(self._paths.memory, memory.render(state))
        atomic.write_if_changed(self._paths.ucb_scores, ucb_scores.render(state, block))
        best = best_yaml(state)
        if best:
            atomic.write_if_changed(self._paths.best, best)

    def _analysis(self, state: State) -> None:
        entries = analysis.entries(state)
        whole = analysis.header(state) + "".join(entries)
        path = self._paths.analysis
        if self._count >= 0 and len(entries) > self._count and _holds(path, self._written):
            _append(path, "".join(entries[self._count :]))
        else:
            atomic.write_if_changed(path, whole)
        self._written, self._count = whole, len(entries)


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_bytes() == text.encode()
    except OSError:
        return False


def _append(path: Path, text: str) -> None:
    with open(path, "ab") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def best_yaml(state: State) -> str | None:
    """Return the best node's config with what it scored, or None while there is none."""
    node = tree.best(state)
    if node is None:
        return None
    name = state.contract.primary.name
    summary = summarise(state, node, name)
    error = "" if summary.standard_error is None else f", standard error {summary.standard_error:.4f}"
    head = (
        f"# node {node.id}: {name} {summary.mean:.4f} (n={summary.n}{error}); config sha {idea_sha(node.config)[:12]}\n"
    )
    return head + yaml_edit.dump(node.config)
