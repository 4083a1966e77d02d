"""Supervise one run: `python -I -S supervisor.py [--foreground] RUN_DIR` (docs/contract.md, "The run folder").

Standard library only, and never imports `orchestrator`: an engine that is edited, upgraded or dead cannot touch a run
under way. It detaches itself (fork, own session, no inherited descriptor); `--foreground` is for queues that watch the
process themselves. It prints one line, `started PID` or `refused REASON`, and in both cases exits with code 0.

Three processes a run, so that no single kill leaves an orphan:

    supervisor   holds `lock`, enforces the limits, writes exit.json last
      guard      one a step: parent and subreaper of all that the step starts; obeys the supervisor through a pipe
        child    the step's program, in a session of its own

Supervisor killed: the guard sees its pipe end and kills everything below it. It holds the lock too, so a free lock
means that nothing of the run is alive. Guard killed: the kernel kills the child (PR_SET_PDEATHSIG), and what the child
had started falls to the supervisor, a subreaper too, which kills it.

Not covered: both killed in the same instant (the child dies, processes that it had started may live on, except under
bwrap), and systems without prctl such as macOS, where processes that leave the child's group survive, and so does the
child of a killed guard.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import select
import signal
import stat
import sys
import time
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.launch import guard
else:
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("guard", os.path.join(os.path.dirname(os.path.abspath(__file__)), "guard.py"))
    guard = module_from_spec(spec)  # by its path: `-I` leaves no import path to it
    spec.loader.exec_module(guard)

LOCK_PATIENCE_S = 2.0
"""How long a lock is waited for that is held while nothing is claimed: a stranger may be probing it."""
DRAIN_S = 1.0
"""How long output is awaited after the end of a step (a descriptor may have been passed to a stranger)."""
ENTRY_BYTES = 512
"""What a file counts at least in the size of `out/`: empty files are not free, and a walk over millions takes long."""
CLOSING_BYTES = 256
"""Kept free at the end of stdout.log for the line that says why it ends."""
EXIT_WORDS = {
    10: "diverged",
    11: "ran out of memory",
    12: "stopped after a checkpoint",
    13: "refused to run, see out/failure.json",
    127: "could not be started, see stdout.log",
}

Json = dict[str, Any]


class Log:
    """Appends plain lines with UTC times to supervisor.log; a full disk must not stop the supervision."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self, text: str) -> None:
        """Append one line."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with contextlib.suppress(OSError), open(self.path, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{stamp} [{os.getpid()}] {text}\n")


class Cancel:
    """How hard the run was asked to stop: 0 not at all, 1 SIGTERM (or SIGINT), 2 SIGQUIT."""

    level = 0


def _noted(number: int, _frame: FrameType | None) -> None:
    """Remember a request to stop; the wake-up descriptor ends the wait."""
    Cancel.level = max(Cancel.level, 2 if number == signal.SIGQUIT else 1)


# --- the run --------------------------------------------------------------------------------------------------------


class Watched:
    """stdout.log with its cap, and the clocks of silence and folder size."""

    def __init__(self, run_dir: str, limits: Json) -> None:
        self.out = os.path.join(run_dir, "out")
        self.progress = os.path.join(self.out, "progress.jsonl")
        self.limits = limits
        self.log = os.open(os.path.join(run_dir, "stdout.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.written = os.fstat(self.log).st_size
        self.overflow = False
        self.grown_at = time.monotonic()
        self.progress_size = -1
        self.folder_due = time.monotonic() + 0.25

    def write(self, data: bytes) -> None:
        """Append output up to the cap."""
        self.grown_at = time.monotonic()
        room = max(0, int(self.limits["output_bytes"]) - CLOSING_BYTES - self.written)
        self.overflow = self.overflow or len(data) > room
        self._append(data[:room])

    def close(self, closing: str | None) -> None:
        """End the log, with a last line when the run was stopped or output was dropped."""
        if self.overflow and not closing:
            closing = "more was printed than this file may hold"
        if closing:
            room = max(0, int(self.limits["output_bytes"]) - self.written)
            self._append(f"\n[supervisor] {closing}\n".encode()[:room])
        os.close(self.log)

    def _append(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # full disk: the run goes on, its own writes tell
            self.written += os.write(self.log, data)

    def silent_for(self, now: float) -> float:
        """Return the seconds since output or progress last grew."""
        with contextlib.suppress(OSError):
            size = os.lstat(self.progress).st_size
            if size > self.progress_size:
                self.progress_size, self.grown_at = size, now
        return now - self.grown_at

    def too_big(self) -> bool:
        """Return whether `out/` holds more than it may."""
        limit = int(self.limits["folder_bytes"])
        return folder_bytes(self.out, limit) > limit

    def folder_too_big(self, now: float) -> bool:
        """Measure `out/` now and then (at most a twentieth of the time goes into it); return whether it is over."""
        if now < self.folder_due:
            return False
        over = self.too_big()
        spent = time.monotonic() - now
        self.folder_due = now + min(60.0, max(1.0, 20 * spent))
        return over


def folder_bytes(folder: str, enough: float = float("inf")) -> float:
    """Return what `folder` holds, links not followed, counted until it is more than `enough`.

    An entry counts with its length or its space on disk, whichever is more (holes become bytes when they are copied),
    and with `ENTRY_BYTES`. A folder that its owner cannot look into counts as infinitely large: its path is too long,
    or it was closed.
    """
    total, todo = 0.0, [folder]
    while todo and total <= enough:
        try:
            with os.scandir(todo.pop()) as entries:
                for entry in entries:
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    total += ENTRY_BYTES + max(status.st_blocks * 512, status.st_size)
                    if stat.S_ISDIR(status.st_mode):
                        todo.append(entry.path)
                    if total > enough:
                        break
        except OSError as error:
            if error.errno in (errno.ENAMETOOLONG, errno.EACCES):
                return float("inf")
    return total


class Run:
    """Runs the steps in order under the limits; `execute` returns the content of exit.json."""

    def __init__(self, run_dir: str, launch: Json, log: Log, wake: int) -> None:
        self.steps: list[Json] = launch["steps"]
        self.limits: Json = launch["limits"]
        self.log, self.wake = log, wake
        self.started = time.monotonic()
        self.watched = Watched(run_dir, self.limits)
        self.reason: str | None = None
        self.why = ""
        self.forced = self.late = False
        self.seconds: dict[str, float] = {}

    def execute(self) -> Json:
        """Run the steps until one fails or the run is stopped."""
        name, code = self.steps[0]["name"], None
        for step in self.steps:
            self._check(time.monotonic())
            if self.reason is not None or code:
                break
            name, begun = step["name"], time.monotonic()
            self.log(f"step {name}: {json.dumps(step['argv'])}")
            code = self._step(step)
            self.seconds[name] = round(time.monotonic() - begun, 3)
            if self.reason is None and step.get("sandbox") and self.watched.too_big():  # in the end, between two looks
                self.reason, self.late = "output", True
                self.why = self._over()
            self.log(f"step {name}: code {code} after {self.seconds[name]} s")
        self.watched.close(self.why or None)
        return exit_record(name, code, self.reason, self.seconds, self._sentence(name, code))

    def _sentence(self, name: str, code: int | None) -> str:
        if code is None:
            return f"{name} never started: {self.why}"
        if self.late:
            return f"{name} ended with code {code} after {self.seconds[name]:.1f} s and was not accepted: {self.why}"
        if self.reason:
            how = "it had to be killed" if self.forced else f"it ended with code {code} when asked to"
            return f"{name} was stopped after {self.seconds[name]:.1f} s: {self.why}; {how}"
        if code == 0:
            return "finished: " + ", ".join(f"{step} in {spent:.1f} s" for step, spent in self.seconds.items())
        if code < 0:
            return f"{name} was killed by {signal_name(-code)} after {self.seconds[name]:.1f} s, not by its supervisor"
        words = EXIT_WORDS.get(code, "crashed, see stdout.log")
        return f"{name} ended with code {code} after {self.seconds[name]:.1f} s: {words}"

    def _check(self, now: float) -> None:
        """Set the reason to stop, if there is one and it is the first."""
        limits = self.limits
        if self.reason is not None:
            return
        if Cancel.level:
            self.reason, self.why = "cancelled", "it was cancelled"
        elif now - self.started > limits["wall_s"]:
            self.reason, self.why = "wall", f"the run took longer than its limit of {limits['wall_s']:g} s"
        elif self.watched.overflow:
            self.reason = "output"
            self.why = f"it printed more than stdout.log may hold, {limits['output_bytes']} bytes"
        elif self.watched.silent_for(now) > limits["silence_s"]:
            self.reason = "silence"
            self.why = f"no new byte in out/progress.jsonl or stdout.log for {limits['silence_s']:g} s"
        elif self.watched.folder_too_big(now):
            self.reason, self.why = "output", self._over()
        if self.reason is not None:
            self.log(f"stopping: {self.reason}: {self.why}")

    def _over(self) -> str:
        return f"its folder out/ holds more than {self.limits['folder_bytes']} bytes"

    def _wait_s(self, now: float, kill_at: float | None) -> float:
        """Return how long nothing can become due."""
        limits = self.limits
        due: list[float] = [1.0, limits["silence_s"] / 4]
        if kill_at is not None:
            due.append(kill_at - now)
        elif self.reason is None:
            due += [self.started + limits["wall_s"] - now, self.watched.grown_at + limits["silence_s"] - now]
            due.append(self.watched.folder_due - now)
        return max(0.005, min(due))

    def _step(self, step: Json) -> int:
        """Run one step under its guard; return its exit code, negative for a signal."""
        pid, orders, reports, output = guard.start(step | {"file_bytes": int(self.limits["folder_bytes"])})
        self.watched.grown_at = time.monotonic()
        kill_at: float | None = None
        sent = b""
        open_files = [reports, output, self.wake]
        while reports in open_files:
            now = time.monotonic()
            ready, _, _ = select.select(open_files, [], [], self._wait_s(now, kill_at))
            now = time.monotonic()
            if self.wake in ready:
                os.read(self.wake, 4096)
            if output in ready and not self._pump(output):
                open_files.remove(output)
            if reports in ready:
                open_files.remove(reports)
                continue
            self._check(now)
            if self.reason is not None:
                if not sent:
                    sent, kill_at = b"T", now + self.limits["grace_s"]
                    _order(orders, sent)
                if sent == b"T" and (Cancel.level == 2 or (kill_at is not None and now >= kill_at)):
                    sent, kill_at, self.forced = b"K", now + guard.KILL_PATIENCE_S, True
                    _order(orders, sent)
                elif sent == b"K" and kill_at is not None and now >= kill_at:
                    self.log("the guard did not answer: killed")
                    os.kill(pid, signal.SIGKILL)
                    kill_at = now + guard.KILL_PATIENCE_S
        code = self._collect(orders, reports, output, output in open_files)
        if 128 < code <= 192 and (step.get("sandbox") or {}).get("level") == "bwrap":
            return 128 - code  # how bwrap says that the program inside was killed by a signal
        return code

    def _pump(self, output: int) -> bool:
        """Move what the step printed to the log; return whether more may come."""
        data = os.read(output, 65536)
        self.watched.write(data)
        return bool(data)

    def _collect(self, orders: int, reports: int, output: int, more: bool) -> int:
        """Take the guard's report, kill what may have escaped, and read the rest of the output."""
        report = os.read(reports, 64)
        if not report:
            self.log("the guard was killed from outside")
        guard.kill_below({})
        deadline = time.monotonic() + DRAIN_S
        while more and select.select([output], [], [], max(0.0, deadline - time.monotonic()))[0]:
            more = self._pump(output)
        for descriptor in (orders, reports, output):
            os.close(descriptor)
        return int(report) if report else -signal.SIGKILL


def _order(orders: int, letter: bytes) -> None:
    with contextlib.suppress(OSError):
        os.write(orders, letter)


def signal_name(number: int) -> str:
    """Return `SIGKILL` for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


# --- lock, claim, exit record ---------------------------------------------------------------------------------------


def exit_record(step: str, code: int | None, reason: str | None, seconds: dict[str, float], sentence: str) -> Json:
    """Return the content of exit.json."""
    return {
        "contract": 1,
        "step": step,
        "returncode": code,
        "reason": reason,
        "seconds": seconds,
        "sentence": sentence,
    }


def write_atomic(path: str, content: Json) -> None:
    """Write JSON so that a reader sees all of it or nothing."""
    temporary = f"{path}.tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def take_lock(run_dir: str) -> int | None:
    """Return the descriptor of the run's lock, or None when another supervisor is its master."""
    descriptor = os.open(os.path.join(run_dir, "lock"), os.O_RDWR | os.O_CREAT, 0o644)
    deadline = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if os.path.lexists(os.path.join(run_dir, "claim")) or time.monotonic() > deadline:
                os.close(descriptor)
                return None
        time.sleep(0.01)


def claim(run_dir: str) -> str | None:
    """Claim the folder for this process; return None, or who was first."""
    path = os.path.join(run_dir, "claim")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline().strip() or "unknown"
    os.write(descriptor, f"supervisor {os.getpid()}\n".encode())
    os.fsync(descriptor)
    os.close(descriptor)
    return None


def hold(run_dir: str, log: Log) -> None:
    """Hold a shared lock on the files that launch.json lists (leases of GPUs), for life and that of the guards.

    A file that cannot be held is told in the log: the run is worth more than the lease.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):  # told when the steps are read
        with open(os.path.join(run_dir, "launch.json"), encoding="utf-8") as file:
            paths = list(json.load(file).get("holds", ()))
        for path in paths:
            try:
                share(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK))
            except (OSError, TypeError, ValueError) as error:
                log(f"{path} is not held: {error}")


def share(descriptor: int) -> None:
    """Take a shared lock; an exclusive one, of an engine that looks who holds it, is gone in a moment."""
    deadline = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.01)


def detach() -> None:
    """Continue as a process that has no parent, session, terminal or file in common with the caller."""
    if os.fork():
        os._exit(0)
    os.setsid()


def answer(text: str) -> None:
    """Tell the caller how it went (it may be gone) and let go of its pipes."""
    with contextlib.suppress(OSError):
        os.write(1, f"{text}\n".encode(errors="replace"))
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)


def supervise(run_dir: str) -> int:
    """Be the master of one run, from its claim to exit.json; return the exit code of this process."""
    log = Log(os.path.join(run_dir, "supervisor.log"))
    if take_lock(run_dir) is None:
        log("leaving: the lock is held by another supervisor")
        answer("refused the lock is held by another supervisor")
        return 0
    wake = guard.wake_on_signals(_noted, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    first = claim(run_dir)
    if first is not None:
        log(f"leaving: the folder is claimed by {first}")
        answer(f"refused the folder is claimed by {first}")
        return 0
    guard.prctl(guard.PR_SET_CHILD_SUBREAPER, 1)
    log("claimed")
    hold(run_dir, log)  # before the answer: from then on the engine may die
    answer(f"started {os.getpid()}")
    try:
        with open(os.path.join(run_dir, "launch.json"), encoding="utf-8") as file:
            record = Run(run_dir, json.load(file), log, wake).execute()
    except Exception as error:
        guard.kill_below({})
        record = exit_record("launch", None, None, {}, f"the supervisor failed: {type(error).__name__}: {error}")
    log(record["sentence"])
    try:
        write_atomic(os.path.join(run_dir, "exit.json"), record)
    except OSError as error:
        log(f"exit.json could not be written: {error}")
        return 1
    return 0


def main(arguments: list[str]) -> int:
    """Run from the command line."""
    foreground = arguments[:1] == ["--foreground"]
    arguments = arguments[foreground:]
    if len(arguments) != 1 or not os.path.isdir(arguments[0]):
        sys.stderr.write("usage: supervisor.py [--foreground] RUN_DIR (a folder with a launch.json)\n")
        return 2
    run_dir = os.path.abspath(arguments[0])
    os.closerange(3, guard.OPEN_MAX)
    if not foreground:
        detach()
    os.chdir("/")
    return supervise(run_dir)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
