"""Write the views from the fold: memory.md, analysis.md, ucb_scores.txt, best.yaml, contract.yaml, instruction.md.

Every view is a function of the journal: deleted files come back byte for byte. `analysis.md` is appended to while its
bytes are the ones written last, and re-rendered when they are not.

What a person writes into memory.md or analysis.md is kept: `absorb` finds lines that the engine did not write, makes
them an event, and the next rendering shows them under "Notes from people". To tell a person's line from a view that a
kill left stale, the last two texts meant for each file lie in `.views/`, written before the file itself.
"""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path

from orchestrator.core import lineage, tree
from orchestrator.core.configs import idea_sha
from orchestrator.core.events import Body, Human
from orchestrator.core.state import Node, State
from orchestrator.core.stats import summarise
from orchestrator.engine.sealing import NOTES, write_sealed
from orchestrator.formats import analysis, memory, ucb_scores, yaml_edit
from orchestrator.paths import Paths
from orchestrator.store import atomic


class Views:
    """Writer of one exploration's views."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._shadows = paths.out / ".views"
        self._entries: dict[int, str] = {}

    def publish(self, state: State, append: Callable[[Body], None]) -> None:
        """Bring every view up to date with `state`, after keeping what people wrote (`append` makes it an event)."""
        if state.opened is None:
            return
        self._absorb(state, append)
        write_sealed(self._paths, state)
        self._write(self._paths.memory, memory.render(state))
        self._write(self._paths.analysis, analysis.render(state, self._entries))
        atomic.write_if_changed(self._paths.ucb_scores, ucb_scores.render(state, state.block_shown))
        best = tree.best(state)
        if best is not None:
            atomic.write_if_changed(self._paths.best, best_yaml(state, best))

    def _absorb(self, state: State, append: Callable[[Body], None]) -> None:
        for path in (self._paths.memory, self._paths.analysis):
            text = self._edited(path)
            known = {(note.what, note.text) for note in state.notes}
            if text and (path.name, text) not in known:
                append(Human(number=len(state.notes) + 1, what=path.name, text=text))
        self._absorb_notes(state, append)

    def _absorb_notes(self, state: State, append: Callable[[Body], None]) -> None:
        """Make the present text of notes.md an event, so that a scientist is told of it, whole, from then on."""
        name, text = self._paths.notes.name, (_read(self._paths.notes) or "").strip()
        last = next((note.text for note in reversed(state.notes) if note.what == name), NOTES.strip())
        if text and text != last:
            append(Human(number=len(state.notes) + 1, what=name, text=text))

    def _edited(self, path: Path) -> str:
        """Return the lines of a view that the engine did not write, "" when there are none."""
        now, meant, before = (
            _read(p) for p in (path, self._shadows / path.name, self._shadows / f"{path.name}.before")
        )
        if now is None or meant is None or now in (meant, before):
            return ""
        if meant.startswith(now) and now.startswith(before or ""):
            return ""  # an appending that a kill cut short
        return "\n".join(added(meant.splitlines(), now.splitlines())).strip("\n")

    def _write(self, path: Path, text: str) -> None:
        shadow = self._shadows / path.name
        meant = _read(shadow)
        if meant != text:
            self._shadows.mkdir(exist_ok=True)
            if meant is not None:
                os.replace(shadow, self._shadows / f"{path.name}.before")
            atomic.write_text(shadow, text)
        if meant is not None and text.startswith(meant) and _read(path) == meant:
            _append(path, text[len(meant) :])
        else:
            atomic.write_if_changed(path, text)


def added(before: list[str], after: list[str]) -> list[str]:
    """Return the lines of `after` that `before` does not have, in order.

    Lines are equal or they are not: to look for alike ones, as `difflib.ndiff` does, takes hours on a long log that an
    editor has reformatted.
    """
    start = sum(1 for _ in takewhile(lambda two: two[0] == two[1], zip(before, after, strict=False)))
    before, after = before[start:], after[start:]
    end = sum(1 for _ in takewhile(lambda two: two[0] == two[1], zip(reversed(before), reversed(after), strict=False)))
    before, after = before[: len(before) - end], after[: len(after) - end]
    found = []
    for _, i1, i2, j1, j2 in difflib.SequenceMatcher(None, before, after).get_opcodes():
        known = Counter(before[i1:i2])  # frequent lines are not matched in long texts
        for line in after[j1:j2]:
            if known[line]:
                known[line] -= 1
            else:
                found.append(line)
    return found


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _append(path: Path, text: str) -> None:
    if not text:
        return
    with open(path, "ab") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def best_yaml(state: State, node: Node) -> str:
    """Return a node's config with what it scored."""
    name = state.contract.primary.name
    summary = summarise(state, node, name)
    error = "" if summary.standard_error is None else f", standard error {summary.standard_error:.4f}"
    regime = state.regime_name(node.block)
    where = f", regime {regime}" if regime else ""
    head = (
        f"# node {node.id}{where}: {name} {summary.mean:.4f} (n={summary.n}{error}); "
        f"config sha {idea_sha(node.config)[:12]}\n"
    )
    exploration = state.opened.exploration if state.opened is not None else ""
    ends = [state.iterations[i].final for i in node.iterations]
    marks = dict.fromkeys(mark for end in ends if end is not None for mark in end.marks)
    edited = lineage.code_commit(state, node.id)
    how = f"make adopt EXP={exploration} NODE={node.id} prints the patch"
    code = f"# its code was edited: commit {(edited or '')[:10]}; {how}\n"
    said = "".join(f"# marked: {mark}\n" for mark in marks) + (code if edited else "")
    return head + said + yaml_edit.dump(node.config)
