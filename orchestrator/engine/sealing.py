"""What was sealed when an exploration was opened, and setting an old exploration aside."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.core.contract import Contract
from orchestrator.core.events import Amended, Opened, Session
from orchestrator.core.records import sha_of
from orchestrator.core.state import State, fold
from orchestrator.engine.context import Setup
from orchestrator.errors import InstructionError, JournalError, UserError
from orchestrator.formats import strategy_table, yaml_edit
from orchestrator.paths import Paths
from orchestrator.ports import Launcher, Limits
from orchestrator.store import atomic, journal
from orchestrator.vcs import git

CONTRACT_HEAD = "# A view of the journal, which seals it: a change here is refused.\n"
NOTES = "# Notes from people\n\nWrite here; the engine never changes this file.\n"


def opened_of(paths: Paths) -> Opened | None:
    """Return the opening event (always the first), or None when nothing was opened."""
    if not paths.journal.exists():
        return None
    with open(paths.journal, "rb") as file:
        line = file.readline()
    if not line.endswith(b"\n"):
        return None
    events, _ = journal.parse(line, paths.journal)
    return events[0].body if isinstance(events[0].body, Opened) else None


def rules_of(paths: Paths) -> list[Opened | Amended]:
    """Return the events that set the rules, oldest first; the last one is in force.

    Raises:
        JournalError: nothing was opened there, or the journal is damaged.
    """
    opened = opened_of(paths)
    if opened is None:
        raise JournalError(f"{paths.journal} has no opening event: remove {paths.out} and start again")
    data = paths.journal.read_bytes()
    if b'"type":"amended"' not in data:
        return [opened]
    return [e.body for e in journal.parse(data, paths.journal)[0] if isinstance(e.body, Opened | Amended)]


def sealed_contract(paths: Paths) -> Contract:
    """Return the contract in force of an opened exploration.

    Raises:
        JournalError: the sealed contract does not have its sha, or contract.yaml was edited.
    """
    found = rules_of(paths)
    rules = [Contract.model_validate(r.contract) for r in found]
    contract = rules[-1]
    if any(sha_of(event.contract) != event.contract_sha for event in found):  # as written: fields may have joined since
        raise JournalError(f"{paths.journal}: the contract does not have the sha it was sealed with")
    if paths.contract.exists() and _shown(paths) not in rules:  # an older one: a kill before the view was written
        raise JournalError(
            f"{paths.contract} was changed after it was sealed. Delete it (it is written again as it was); "
            "to change the rules edit the instruction, config.yaml or exploration.yaml: the next turn takes that up"
        )
    return contract


def _shown(paths: Paths) -> Contract | None:
    try:
        return Contract.model_validate(yaml_edit.load(paths.contract.read_text(encoding="utf-8"), str(paths.contract)))
    except (OSError, ValueError, InstructionError):
        return None


def state_of(paths: Paths) -> State:
    """Return where an exploration stands, from its journal alone.

    Raises:
        UserError: nothing has run there yet.
    """
    if not paths.journal.exists():
        raise UserError(f"nothing has run in {paths.out}: start with `make explore EXP={paths.source.name}`")
    return fold(sealed_contract(paths), journal.read(paths.journal))


def contract_text(state: State) -> str:
    """Return contract.yaml: the contract in force, as it was sealed."""
    rules = state.amendments[-1][1] if state.amendments else state.opened
    sealed = rules.contract if rules is not None else {}
    return CONTRACT_HEAD + yaml_edit.dump(sealed or state.contract.model_dump(mode="json"))


def write_sealed(paths: Paths, state: State) -> None:
    """Write the views of the rules in force (contract.yaml, instruction.md) and, once, notes.md."""
    assert state.opened is not None
    atomic.write_if_changed(paths.contract, contract_text(state))
    atomic.write_if_changed(paths.instruction, strategy_table.in_force(state))
    if not paths.notes.exists():
        atomic.write_text(paths.notes, NOTES)


def last_session(paths: Paths) -> Session | None:
    """Return what the last session was asked for: iterations in all, slots, mode; None when there was none."""
    sessions = [e.body for e in journal.read(paths.journal) if isinstance(e.body, Session)]
    return sessions[-1] if sessions else None


def code_in_use(setup: Setup) -> str:
    """Commit and export `models/` and `trainers/` as they are; return their tree sha."""
    paths = setup.paths
    message = f"Code in use when {setup.name} was opened\n\nExploration: {setup.name}"
    _, tree = git.commit_code(paths.out, setup.source_root, f"exploration/{setup.name}", message)
    git.export_code(paths.out, tree, paths.code / tree)
    return tree


def set_aside(paths: Paths, launcher: Launcher, begin: Callable[[Path], None] | None = None) -> Path | None:
    """Rename the output folder with its date; return the new name, or None when there was nothing.

    Runs that outlived their engine are cancelled first (with a checkpoint), so that none writes into the new folder.

    Args:
        paths: of the exploration.
        launcher: of its runs.
        begin: fills the folder that takes the old one's place; until it has, nothing is renamed.

    Raises:
        JournalError: an engine is at work there, or a run does not stop. Nothing was renamed.
    """
    if not paths.out.exists():
        return None
    lock = journal.take_lock(paths.engine_lock)
    try:
        _stop_all(paths, launcher)
        new = successor(paths)
        shutil.rmtree(new, ignore_errors=True)  # of an attempt that was killed
        if begin is not None:
            new.mkdir()
            begin(new)
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        target = paths.out.with_name(f"{paths.out.name}-{stamp}")
        paths.out.rename(target)
        if begin is not None:
            new.rename(paths.out)
    finally:
        os.close(lock)
    return target


def successor(paths: Paths) -> Path:
    """Return the folder that is about to take the output folder's place."""
    return paths.out.with_name(f"{paths.out.name}.next")


def finish(paths: Paths) -> None:
    """Finish a setting aside that was killed between its two renamings."""
    if not paths.out.exists() and (successor(paths) / paths.journal.name).exists():
        successor(paths).rename(paths.out)


def _stop_all(paths: Paths, launcher: Launcher) -> None:
    found = [*paths.runs.glob("*"), *paths.trials.glob("*"), *paths.data.glob("*.prepare-*")]
    runs = [p for p in (*found, *paths.confirmations.glob("*/runs/*")) if p.is_dir()]
    flying = [p for p in runs if launcher.state(p) == "running" or launcher.revoke(p)]
    for path in flying:
        launcher.cancel(path)
    deadline = time.monotonic() + Limits().grace_s + 10.0
    while any(launcher.state(p) == "running" for p in flying):
        if time.monotonic() > deadline:
            raise JournalError(f"a run in {paths.out} does not stop: {flying[0]}. Stop it, then try again")
        time.sleep(0.05)
