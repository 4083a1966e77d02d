"""Try an edited code in the sandbox before it is committed: compile, import, a few gradient steps, a readable estimate.

A trial is two steps in a folder of its own below `trials/`, started like a run by the same launcher: `trainers try`
(the edited code, sandboxed, limits always) and `trainers check` (the code at the opening, which reads the estimate that
the first one left). What it does not stop: docs/sandbox.md.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from orchestrator.core.events import CodeChecked
from orchestrator.core.records import Config, sha_of
from orchestrator.engine import orders
from orchestrator.engine.context import Adapters, Setup
from orchestrator.errors import StoppedError
from orchestrator.formats import tracebacks
from orchestrator.launch import folder
from orchestrator.paths import RunPaths
from orchestrator.ports import Limits
from orchestrator.vcs import git

LIMITS = Limits(wall_s=180.0, silence_s=90.0, output_bytes=2**20, folder_bytes=2**30)
TRIES = 2
"""A trial that was killed from outside says nothing about the code and is tried once more."""
LOST = "lost"
KILLED = "its trial was killed twice, perhaps for lack of memory"
STOPPED_CODE = 12
"""Exit code of a training that was asked to stop."""
CLAIM_DEADLINE_S = 60.0
POLL_S = 0.05
OUTPUT_LIMIT = 2**20


def trial(
    setup: Setup, adapters: Adapters, codes: tuple[str, str], config: Config, go_on: Callable[[], bool]
) -> CodeChecked:
    """Return what became of a trial of a code with a config; a trial that an earlier engine began is taken up.

    Args:
        setup: the exploration.
        adapters: launcher, sandbox, GPUs.
        codes: tree sha of the edited code, and of the code at the opening.
        config: seeds included.
        go_on: called while waiting; False ends it.

    Raises:
        StoppedError: `go_on` returned False.
    """
    sha = sha_of(config)
    for code in codes:
        git.export_code(setup.paths.out, code, setup.paths.code / code)
    number, killed = 1, 0
    while True:
        run = setup.paths.trial(codes[0], sha, number)
        where = adapters.launcher.state(run.root) if run.root.exists() else None
        if where is None or (where == "unclaimed" and not run.launch.exists()):
            adapters.launcher.submit(run.root, orders.trial(setup, adapters, codes, config, run, LIMITS))
        _wait(adapters, run, go_on)
        told = _told(setup, adapters, codes[0], run)
        killed += told == KILLED
        if told == LOST or (told == KILLED and killed < TRIES):
            number += 1
            continue
        return CodeChecked(
            tree=codes[0],
            config_sha=sha,
            ok=told == "",
            sentence=told,
            sandbox=adapters.sandbox,
            seconds=_seconds(adapters, run),
        )


def _seconds(adapters: Adapters, run: RunPaths) -> float:
    record = adapters.launcher.exit_record(run.root)
    return round(sum(record.seconds.values()), 3) if record else 0.0


def _wait(adapters: Adapters, run: RunPaths, go_on: Callable[[], bool]) -> None:
    deadline = time.monotonic() + CLAIM_DEADLINE_S
    while True:
        state = adapters.launcher.state(run.root)
        if state in ("ended", "vanished", "revoked"):
            return
        if state == "unclaimed" and time.monotonic() > deadline and adapters.launcher.revoke(run.root):
            return
        if not go_on():
            adapters.launcher.cancel(run.root)
            raise StoppedError
        time.sleep(POLL_S)


def _told(setup: Setup, adapters: Adapters, code: str, run: RunPaths) -> str:
    """Return what is to be said of a trial: "" when it ended well, LOST when it was not let to its end."""
    record = adapters.launcher.exit_record(run.root)
    if record is None or record.reason == "cancelled" or record.returncode == STOPPED_CODE:
        return LOST
    if record.reason is None and record.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return KILLED
    if record.returncode == 0 and record.reason is None:
        return ""
    if record.reason is not None:
        return f"its trial of a few gradient steps did not end well: {record.sentence}"
    if record.step == "check":
        return f"its trial ran, and what it left cannot be scored: {crash_text(setup, code, run)}"
    if record.step == "launch":
        return f"its trial could not be started: {record.sentence}"
    return f"its trial of a few gradient steps failed (exit code {record.returncode}):\n{crash_text(setup, code, run)}"


def crash_text(setup: Setup, code: str, run: RunPaths) -> str:
    """Return the own lines of the traceback that a run left in stdout.log."""
    try:
        text = folder.read_file(run.stdout, OUTPUT_LIMIT).decode(errors="replace")
    except OSError:
        return "no output"
    return tracebacks.own_lines(text, str(setup.paths.code / code / "train")) or "no output"
