"""Snapshot of each ended block in `blocks/NNN/`, and starting again from one (`resume --block N`).

A snapshot holds memory.md, instruction.md, ucb_scores.txt, best.yaml, the best run's estimate and checkpoint, and
block.json, which names the journal's prefix. All but the two binary files are functions of that prefix.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from orchestrator.core import ledger, tree
from orchestrator.core.events import Event, LlmReserved, RunReserved, Session
from orchestrator.core.state import Node, State, fold
from orchestrator.engine.orders import copy_regular
from orchestrator.engine.publish import best_yaml
from orchestrator.engine.sealing import set_aside, state_of
from orchestrator.errors import UserError
from orchestrator.formats import memory, strategy_table, ucb_scores
from orchestrator.paths import Paths, RunPaths
from orchestrator.ports import Launcher
from orchestrator.store import atomic, journal

KEPT_FILES = ("estimate.npz", "checkpoint.pt")


def write_missing(paths: Paths, state: State, events: list[Event]) -> None:
    """Write the snapshot of each ended block that has none; block.json comes last, so that a kill leaves none half."""
    for block, seq in sorted(state.boundary_seq.items()):
        if not (paths.block(block) / "block.json").exists():
            _write(paths, block, fold(state.contract, events[:seq]))


def _write(paths: Paths, block: int, then: State) -> None:
    folder = paths.block(block)
    folder.mkdir(parents=True, exist_ok=True)
    best = tree.best(then, block)
    atomic.write_if_changed(folder / "memory.md", memory.render(then))
    atomic.write_if_changed(folder / "instruction.md", strategy_table.in_force(then))
    atomic.write_if_changed(folder / "ucb_scores.txt", ucb_scores.render(then, block))
    if best is not None:
        atomic.write_if_changed(folder / "best.yaml", best_yaml(then, best))
        _copy_best(best_run(paths, then, best), folder)
    record = {
        "block": block,
        "journal_events": then.seq,
        "iterations": then.last_iteration,
        "regime": then.regime_name(block),
        "simulation_seed": then.draw(block),
        "best_node": best.id if best else None,
        "next_regime": then.boundaries[block].regime,
    }
    changes = {change.key: change.new for change in then.boundaries[block].changes}
    if changes:
        record["next_values"] = changes
    atomic.write_text(folder / "block.json", json.dumps(record, indent=1) + "\n")


def best_run(paths: Paths, state: State, node: Node) -> RunPaths:
    """Return the folder of a node's best run."""
    name = state.contract.primary
    its = [state.iterations[i] for i in node.iterations]
    scored = [(tree.reward(name, v), it) for it in its if (v := it.metric(name.name).value) is not None]
    chosen = max(scored, key=lambda pair: (pair[0], -pair[1].proposal.iteration))[1] if scored else its[0]
    return paths.run(chosen.proposal.iteration, max(1, len(chosen.attempts)))


def _copy_best(run: RunPaths, folder: Path) -> None:
    for name in KEPT_FILES:
        copy_regular(run.out / name, folder / name)


def start_again(paths: Paths, block: int, launcher: Launcher) -> tuple[Path, int]:
    """Set the exploration aside whole and begin a copy that stands where `block` had just ended.

    The copy has the journal up to the block's end, the runs, conversations, data and code of that prefix, and the
    person's notes. What came later stays in the folder set aside; what it cost stays spent.

    Returns:
        The folder that was set aside, and the number of iterations that its last session was asked for.

    Raises:
        UserError: no such ended block; nothing was changed.
    """
    state = state_of(paths)
    if block not in state.boundary_seq:
        ended = ", ".join(map(str, sorted(state.boundary_seq))) or "none"
        raise UserError(f"BLOCK={block}: that block has not ended in {paths.out}; ended blocks: {ended}")
    events = journal.read(paths.journal)
    asked = next(e.body.iterations for e in reversed(events) if isinstance(e.body, Session))
    kept = events[: state.boundary_seq[block]]
    before = ledger.cut_off(state, fold(state.contract, kept))
    spent = [Event(seq=len(kept) + 1, at=events[-1].at, body=before)] if before is not None else []
    old = set_aside(paths, launcher, lambda folder: _copy(paths, Paths(paths.source, folder), kept, spent))
    assert old is not None
    return old, asked


def _copy(old: Paths, new: Paths, kept: list[Event], spent: list[Event]) -> None:
    """Copy what the first events of a journal stand for; the journal comes last: it makes the folder count."""
    for name in (".gitignore", "notes.md"):
        if (old.out / name).exists():
            shutil.copyfile(old.out / name, new.out / name)
    for name in (".git", ".inputs", "blobs", "code", "data"):
        if (old.out / name).is_dir():
            _link_tree(old.out / name, new.out / name)
    for event in kept:
        if isinstance(event.body, RunReserved):
            run = old.run(event.body.iteration, event.body.attempt).root
            if run.is_dir():
                _link_tree(run, new.run(event.body.iteration, event.body.attempt).root)
        if isinstance(event.body, LlmReserved) and (said := old.prompt(event.body.call)).is_file():
            new.prompts.mkdir(exist_ok=True)
            shutil.copyfile(said, new.prompt(event.body.call))
    atomic.write_bytes(new.journal, b"".join(journal.encode(e) for e in [*kept, *spent]))


def _link_tree(source: Path, target: Path) -> None:
    """Copy a folder; files that nothing rewrites in place share their bytes where the file system allows it."""
    in_place = source.name == ".git"

    def link(a: str, b: str) -> None:
        try:
            os.link(a, b, follow_symlinks=False)
        except OSError:
            shutil.copy2(a, b, follow_symlinks=False)

    shutil.copytree(source, target, symlinks=True, copy_function=shutil.copy2 if in_place else link)
