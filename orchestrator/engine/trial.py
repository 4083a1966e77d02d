"""Try an edited code in the sandbox before it is committed: compile, import, a few gradient steps, a readable estimate.

A trial is two steps in a folder of its own below `trials/`, started like a run by the same launcher: `trainers try`
(the edited code, sandboxed, limits always) and `trainers check` (the code at the opening, which reads the estimate that
the first one left). What it does not stop: docs/sandbox.md.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Literal, NamedTuple

from orchestrator.core.events import CodeChecked
from orchestrator.core.records import Config, sha_of
from orchestrator.engine import ends, orders
from orchestrator.engine.context import Adapters, Setup
from orchestrator.errors import NeedsPersonError
from orchestrator.formats import tracebacks
from orchestrator.launch import folder
from orchestrator.paths import RunPaths
from orchestrator.ports import ExitRecord, LaunchSpec, Limits
from orchestrator.vcs import git

LIMITS = Limits(wall_s=180.0, silence_s=90.0, output_bytes=2**20, folder_bytes=2**30)
TRIES = 2
"""Ends that may be the machine's doing (killed, out of time, out of memory) are the code's when they come twice."""
LOSSES = 3
"""Trials of one call that nobody ran, after which a person is needed."""
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
"""What a person mends: told as it is."""
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
        NeedsPersonError: this machine does not run trials, or must not run edited code.
    """
    if why := orders.unconfined(setup, adapters, codes):
        raise NeedsPersonError(why)
    sha = sha_of(config)
    for code in codes:
        git.export_code(setup.paths.out, code, setup.paths.code / code)
    number = doubtful = lost = 0
    while True:
        number += 1
        run = setup.paths.trial(codes[0], sha, number)
        where = adapters.launcher.state(run.root) if run.root.exists() else None
        own = where is None or (where == "unclaimed" and not run.launch.exists())
        if own:
            _submit(adapters, run, orders.trial(setup, adapters, codes, config, run, LIMITS))
        ends.wait(adapters, run, go_on)
        end = _end(setup, adapters, codes[0], run, own)
        lost += end.kind == "lost" and own
        doubtful += end.kind == "doubtful"
        if lost >= LOSSES:
            raise NeedsPersonError(f"the trial of the code {codes[0][:12]} could not be run {LOSSES} times: {end.told}")
        if end.kind == "lost" or (end.kind == "doubtful" and doubtful < TRIES):
            continue
        return CodeChecked(
            tree=codes[0],
            config_sha=sha,
            ok=end.kind == "ok",
            sentence=end.told,
            sandbox=adapters.sandbox,
            seconds=_seconds(adapters, run),
        )


def _submit(adapters: Adapters, run: RunPaths, spec: LaunchSpec) -> None:
    """Start a trial; one that cannot be started counts as lost, as a machine under load may have done that."""
    try:
        adapters.launcher.submit(run.root, spec)
    except OSError as error:
        if error.errno in DISK:
            raise
        adapters.launcher.revoke(run.root)  # False: a supervisor has claimed it after all, and the folder decides


def _seconds(adapters: Adapters, run: RunPaths) -> float:
    record = adapters.launcher.exit_record(run.root)
    return round(sum(record.seconds.values()), 3) if record else 0.0


class _End(NamedTuple):
    """How a trial ended."""

    kind: Literal["ok", "refused", "doubtful", "lost"]
    """doubtful: the code or the machine; lost: it was not let to its end, which says nothing."""
    told: str = ""


def _end(setup: Setup, adapters: Adapters, code: str, run: RunPaths, own: bool) -> _End:
    """Return how a trial ended; `own`: this engine started it, so that no other can have stopped it."""
    record = adapters.launcher.exit_record(run.root)
    if record is None:
        if own and adapters.launcher.state(run.root) == "vanished":
            return _End("doubtful", "its trial ended twice together with the program that watched it")
        return _End("lost", f"no supervisor ran it; see {run.root}")
    if record.step == "launch":
        return _End("lost", record.sentence)
    if record.reason == "cancelled":
        return _End("doubtful" if own else "lost", "its trial was cancelled twice, and nobody had asked for it")
    if record.reason in ("wall", "silence"):
        return _End("doubtful", f"its trial of a few gradient steps did not end well, twice: {record.sentence}")
    if record.reason is not None:
        return _End("refused", f"its trial of a few gradient steps did not end well: {record.sentence}")
    return _by_code(setup, code, run, record)


def _by_code(setup: Setup, code: str, run: RunPaths, record: ExitRecord) -> _End:
    """Return how a trial ended that was not stopped from here."""
    match record.returncode:
        case 0:
            return _End("ok")
        case -9 | 137:
            return _End("doubtful", "its trial was killed twice, perhaps for lack of memory")
        case 11:
            return _End("doubtful", f"its trial ran out of memory twice: {crash_text(setup, code, run)}")
        case 12:
            return _End("doubtful", "its trial ended twice as if it had been asked to stop (exit code 12)")
    if record.step == "check":
        return _End("refused", f"its trial ran, and what it left cannot be scored: {crash_text(setup, code, run)}")
    told = f"its trial of a few gradient steps failed (exit code {record.returncode})"
    return _End("refused", f"{told}:\n{crash_text(setup, code, run)}")


def crash_text(setup: Setup, code: str, run: RunPaths) -> str:
    """Return the own lines of the traceback that a run left in stdout.log."""
    try:
        text = folder.read_file(run.stdout, OUTPUT_LIMIT).decode(errors="replace")
    except OSError:
        return "no output"
    return tracebacks.own_lines(text, str(setup.paths.code / code / "train")) or "no output"
