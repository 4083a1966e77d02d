"""LocalLauncher: runs on this machine, each under a detached supervisor process.

The supervisor forks itself away (see supervisor.py), so the engine has no child to wait for: `submit` waits only for
the short process that forks, and learns from its one line of output whether the claim was won. Nobody is left to
become a zombie as long as process 1 collects orphans, as every init does; in a container whose first process is the
engine itself, use `docker run --init`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from orchestrator.launch import folder
from orchestrator.paths import RunPaths
from orchestrator.ports import ExitRecord, LaunchSpec, RunState

SUPERVISOR = Path(__file__).with_name("supervisor.py")
START_S = 30.0
"""Longest time a supervisor may take to claim (a loaded machine, a slow network file system)."""
HARD_S = 3.0
"""Time given to a supervisor to kill its run before it is killed itself."""


class LocalLauncher:
    """Starts supervisors as processes of this machine. Holds no state: any instance may adopt any folder."""

    def submit(self, run_dir: Path, spec: LaunchSpec) -> None:
        """Write launch.json and start a supervisor; returns once it has claimed the folder, after about 50 ms.

        Raises OSError (FileExistsError when the folder is already claimed) with nothing started.
        """
        run_dir = run_dir.absolute()
        paths = RunPaths(run_dir)
        owner = folder.claim_of(run_dir)
        if owner is not None:
            raise FileExistsError(
                f"{run_dir} is already claimed ({owner or 'by nobody'}): a new run needs a new folder"
            )
        paths.out.mkdir(exist_ok=True)
        folder.write_record(paths.launch, spec)
        command = [sys.executable, "-I", "-S", os.fspath(SUPERVISOR), os.fspath(run_dir)]
        env = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}  # no key for /proc/PID/environ
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=START_S,
                cwd="/",
                env=env,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired as error:
            raise OSError(f"the supervisor of {run_dir} did not claim within {START_S:g} s") from error
        word, _, rest = done.stdout.decode(errors="replace").strip().partition(" ")
        if word == "refused":
            raise FileExistsError(f"{run_dir} was not started: {rest}")
        if word != "started":
            said = done.stderr.decode(errors="replace").strip()[-2000:]
            raise OSError(f"the supervisor of {run_dir} did not start: {said} (see {paths.supervisor_log})")

    def state(self, run_dir: Path) -> RunState:
        """Return where the run stands, from its folder alone."""
        return folder.run_state(run_dir)

    def exit_record(self, run_dir: Path) -> ExitRecord | None:
        """Return exit.json, or None when there is none (or it is not readable as one)."""
        return folder.exit_record(run_dir)

    def revoke(self, run_dir: Path) -> bool:
        """Claim the folder for the engine; True when no supervisor had claimed it (it then never starts)."""
        return folder.revoke(run_dir)

    def cancel(self, run_dir: Path, *, hard: bool = False) -> None:
        """Ask the run's supervisor to stop; does nothing when none is running.

        Soft: SIGTERM to the step, then the grace time, then SIGKILL. Returns at once. Hard: SIGKILL to the step at
        once; a supervisor that does not obey within 3 s is killed, and its guard then kills the step.
        """
        if not signal_supervisor(run_dir, signal.SIGQUIT if hard else signal.SIGTERM) or not hard:
            return
        deadline = time.monotonic() + HARD_S
        while time.monotonic() < deadline:
            if not folder.lock_held(run_dir):
                return
            time.sleep(0.01)
        signal_supervisor(run_dir, signal.SIGKILL)


def signal_supervisor(run_dir: Path, number: int) -> bool:
    """Signal the process that has claimed this folder and has its lock open now; return whether there was one.

    The process is pinned first (pidfd) and checked then, so a number that was given to a stranger is never signalled.
    """
    pid = folder.claim_pid(run_dir)
    if pid is None or pid == os.getpid() or not folder.lock_held(run_dir):  # ours: a scripted run
        return False
    if not hasattr(os, "pidfd_open"):
        return _signal_by_command(pid, number)
    try:
        pinned = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if not _has_open(pid, RunPaths(run_dir).lock):
            return False
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pinned, number)
            return True
        return False
    finally:
        os.close(pinned)


def _has_open(pid: int, path: Path) -> bool:
    """Return whether a process has a file open (Linux)."""
    wanted = path.stat()
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found = os.stat(f"/proc/{pid}/fd/{name}")
                if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                    return True
    return False


def _signal_by_command(pid: int, number: int) -> bool:
    """Signal a process whose command line is a supervisor's (systems without pidfd; not free of races)."""
    shown = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, timeout=10)
    if SUPERVISOR.name not in shown.stdout:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False
