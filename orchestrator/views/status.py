"""`make status`: where an exploration stands, from its journal alone; restores the views when no engine is at work."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime

from orchestrator.core import block_keys, edits
from orchestrator.core.state import State
from orchestrator.core.usage import RunTime, Usage, Use, length, usage
from orchestrator.engine.context import Live
from orchestrator.engine.live import read_live
from orchestrator.engine.publish import Views
from orchestrator.engine.sealing import state_of
from orchestrator.errors import JournalError
from orchestrator.formats import code_edits, code_permission, pacing
from orchestrator.launch.folder import run_state
from orchestrator.paths import Paths
from orchestrator.store import journal
from orchestrator.views import costs, lines
from orchestrator.views.console import live_text, step_text

FALSIFIED = 5
"""Code edits that were left behind and are listed, the newest."""


def show(paths: Paths) -> str:
    """Return the status as text.

    Raises:
        UserError: nothing has run there yet.
    """
    state = state_of(paths)
    refused = _restore(paths, state)
    at_work = isinstance(refused, JournalError)
    used = usage(journal.read(paths.journal), datetime.now(UTC) if at_work else None)
    running = _running(paths, state)
    taken = [run.elapsed_s for run, alive in running if alive and not run.iteration.proposal.filler]
    parts = [
        _head(state),
        _tree(state),
        _slots(state, used, running),
        [_run_line(used, run, alive) for run, alive in running],
        costs.section(state),
        _falsified(paths, state),
        _foot(paths, state, refused, taken),
    ]
    return "\n".join(line for part in parts for line in part)


def _restore(paths: Paths, state: State) -> JournalError | OSError | None:
    """Write the views and return None, or return why not: an engine is at work and writes them, or they cannot be."""
    try:
        with journal.Journal(paths.journal, paths.engine_lock) as writer:
            Views(paths).publish(state, lambda body: state.apply(writer.append(body)))
    except (JournalError, OSError) as error:
        return error
    return None


def _head(state: State) -> list[str]:
    opened, session = state.opened, state.session
    if opened is None or session is None:
        return ["opened, no session yet"]
    rows = [
        f"{opened.exploration}: profile {opened.profile}, device {opened.device}, seed {opened.seed}, "
        f"session {session.session} ({session.scientist}, {lines.slots_text(session)}, sandbox {session.sandbox})"
    ]
    if state.contract.code == "on":
        rows.append(code_permission.told(state.contract, session.sandbox))
    primary = state.contract.primary.name
    rows += [f"regime {r.name}: {lines.preflight_line(r, primary)}" for r in state.regimes]
    return rows


def _tree(state: State) -> list[str]:
    rows: list[str] = []
    for block in range(1, state.block_of(max(state.last_iteration, 1)) + 1):
        found = lines.tree_lines(state, block)
        if found:
            settings = block_keys.shown(state, block)
            rows += [f"block {block}{f' ({settings})' if settings else ''}:"]
            rows += [*(f"  {lines.node_line(state, depth, it)}" for depth, it in found)]
    return rows


def _running(paths: Paths, state: State) -> list[tuple[Live, bool]]:
    """Return each run that has not ended, and whether it is alive."""
    found = []
    for it in state.open_iterations:
        for attempt in it.attempts:
            if attempt.ended is None:
                alive = run_state(paths.run(it.proposal.iteration, attempt.number).root) == "running"
                found.append((read_live(paths, it, attempt.number), alive))
    return found


def _run_line(used: Usage, run: Live, alive: bool) -> str:
    word = "in flight" if alive else "interrupted (make resume goes on)"
    where = ""
    if len(used.slots) > 1:
        ran = _time_of(used, run)
        where = lines.place(ran.slot, ran.device)
    return f"{word}: iter {run.iteration.proposal.iteration}{where}: {live_text(run)}"


def _time_of(used: Usage, run: Live) -> RunTime:
    key = (run.iteration.proposal.iteration, run.attempt)
    return next(ran for ran in used.runs if (ran.iteration, ran.attempt) == key)


def _slots(state: State, used: Usage, running: list[tuple[Live, bool]]) -> list[str]:
    """Return one line for one slot, else a table with what each slot runs now."""
    if len(used.slots) < 2:
        return [f"slot: {_idle_text(used.total)}"] if used.total.utilisation is not None else []
    now = {_time_of(used, run).slot: _now_text(run, alive) for run, alive in running}
    for it in state.open_iterations:
        if not it.in_flight:
            now.setdefault(it.proposal.slot, f"iter {it.proposal.iteration} waits")
    rows: list[tuple[str, ...]] = [("slot", "role", "runs", "busy", "idle", "utilisation", "mean wait", "now")]
    for slot in used.slots:
        rows.append((str(slot.slot), slot.role or "-", *_figures(slot), now.get(slot.slot, "-")))
    rows.append(("all", "", *_figures(used.total), ""))
    if not now:
        rows = [row[:-1] for row in rows]
    if not any(slot.role for slot in used.slots):
        rows = [(row[0], *row[2:]) for row in rows]
    return [*lines.aligned(rows), *_preparing(used)]


def _now_text(run: Live, alive: bool) -> str:
    return f"iter {run.iteration.proposal.iteration}: {step_text(run) if alive else 'interrupted'}"


def _figures(use: Use) -> tuple[str, ...]:
    wait = "-" if use.mean_wait_s is None else lines.duration(use.mean_wait_s)
    return str(use.runs), lines.duration(use.busy_s), lines.duration(use.idle_s), lines.share(use.utilisation), wait


def _idle_text(use: Use) -> str:
    preparing = f" ({lines.duration(use.preparing_s)} of it preparing data)" if use.preparing_s >= 1 else ""
    return f"utilisation {lines.share(use.utilisation)}, idle {lines.duration(use.idle_s)}{preparing}"


def _preparing(used: Usage) -> list[str]:
    seconds = length(used.preparing)
    return [f"  preparing data: {lines.duration(seconds)}, a part of the idle time"] if seconds >= 1 else []


def _falsified(paths: Paths, state: State) -> list[str]:
    """Return the code edits that made it worse or crashed for good, with the command that shows their diff."""
    rows = []
    for node in edits.falsified(state)[-FALSIFIED:]:
        code = state.iterations[node.id].proposal.mutation.code
        assert code is not None
        said = code_edits.one_line(edits.judged(state, node).sentence)
        rows.append(
            f"code edit left behind: node {node.id}, {code_edits.where(code)}, {code_edits.one_line(code.change)}"
        )
        rows.append(f"  {said}")
        rows.append(f"  git -C {shlex.quote(str(paths.out))} show {code.commit[:12]}")
    return rows


def _foot(paths: Paths, state: State, refused: Exception | None, running: list[float]) -> list[str]:
    total = state.session.iterations if state.session else 0
    timed = pacing.state_text(state)
    bests = [*lines.other_bests(state), lines.best_line(state)]
    rows = [*bests, *([timed] if timed else []), lines.left_line(state, total, running)]
    if state.alarms and state.session and state.alarms[-1].session == state.session.session:
        rows.append(f"stopped: {state.alarms[-1].sentence}")
    if refused is not None and paths.paused.exists():  # an engine is at work, and waits
        rows.append(f"paused until it is mended: {paths.paused.read_text(encoding='utf-8').strip()}")
    views = "views written" if refused is None else f"views not written now ({_why(refused)})"
    return [*rows, f"{views}: {paths.memory}, {paths.analysis}, {paths.ucb_scores}"]


def _why(refused: Exception) -> str:
    return "an engine is at work" if isinstance(refused, JournalError) else f"the folder is read-only: {refused}"
