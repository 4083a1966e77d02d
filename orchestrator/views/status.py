"""`make status`: where an exploration stands, from its journal alone; restores the views when no engine is at work."""

from __future__ import annotations

from orchestrator.core.state import State
from orchestrator.engine.live import read_live
from orchestrator.engine.publish import Views
from orchestrator.engine.sealing import state_of
from orchestrator.errors import JournalError
from orchestrator.launch.folder import run_state
from orchestrator.paths import Paths
from orchestrator.store import journal
from orchestrator.views import lines
from orchestrator.views.console import live_text


def show(paths: Paths) -> str:
    """Return the status as text.

    Raises:
        UserError: nothing has run there yet.
    """
    state = state_of(paths)
    restored = _restore(paths, state)
    return "\n".join([*_head(state), *_tree(state), *_running(paths, state), *_foot(paths, state, restored)])


def _restore(paths: Paths, state: State) -> bool:
    try:
        with journal.Journal(paths.journal, paths.engine_lock) as writer:
            Views(paths).publish(state, lambda body: state.apply(writer.append(body)))
    except (JournalError, OSError):
        return False  # an engine is at work and writes them itself, or the folder is read-only
    return True


def _head(state: State) -> list[str]:
    opened, session = state.opened, state.session
    if opened is None or session is None:
        return ["opened, no session yet"]
    rows = [
        f"{opened.exploration}: profile {opened.profile}, device {opened.device}, seed {opened.seed}, "
        f"session {session.session} ({session.scientist}, {session.slots} slot(s), sandbox {session.sandbox})"
    ]
    primary = state.contract.primary.name
    rows += [f"regime {r.name}: {lines.preflight_line(r, primary)}" for r in state.regimes]
    return rows


def _tree(state: State) -> list[str]:
    rows: list[str] = []
    for block in range(1, state.block_of(max(state.last_iteration, 1)) + 1):
        found = lines.tree_lines(state, block)
        if found:
            rows += [f"block {block}:", *(f"  {lines.node_line(state, depth, it)}" for depth, it in found)]
    return rows


def _running(paths: Paths, state: State) -> list[str]:
    rows = []
    for it in state.open_iterations:
        for attempt in it.attempts:
            if attempt.ended is None:
                alive = run_state(paths.run(it.proposal.iteration, attempt.number).root) == "running"
                word = "in flight" if alive else "interrupted (make resume goes on)"
                run = read_live(paths, it, attempt.number)
                rows.append(f"{word}: iter {it.proposal.iteration}: {live_text(run)}")
    return rows


def _foot(paths: Paths, state: State, restored: bool) -> list[str]:
    total = state.session.iterations if state.session else 0
    rows = [lines.best_line(state), lines.left_line(state, total)]
    if state.alarms and state.session and state.alarms[-1].session == state.session.session:
        rows.append(f"stopped: {state.alarms[-1].sentence}")
    if not restored and paths.paused.exists():  # an engine is at work, and waits
        rows.append(f"paused until it is mended: {paths.paused.read_text(encoding='utf-8').strip()}")
    views = "views written" if restored else "views not written now (an engine is at work, or the folder is read-only)"
    return [*rows, f"{views}: {paths.memory}, {paths.analysis}, {paths.ucb_scores}"]
