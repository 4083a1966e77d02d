"""The guard of one step: master of everything that the step starts (see supervisor.py, which loads this by its path).

Standard library only. Linux keeps all promises of supervisor.py; elsewhere only the process group is reached.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import Any, NoReturn

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LINUX = sys.platform.startswith("linux")
KILL_PATIENCE_S = 5.0
"""How long killing may take before it is given up (a process may hang in the kernel)."""
OPEN_MAX = 2**16

Json = dict[str, Any]


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process; does nothing where there is no prctl."""
    if LINUX:
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def children_of(parent: int) -> list[int]:
    """Return the direct children of a process (Linux; elsewhere nothing)."""
    found = []
    for name in os.listdir("/proc") if LINUX else ():
        if name.isdigit():
            with contextlib.suppress(OSError, IndexError), open(f"/proc/{name}/stat", "rb") as file:
                if int(file.read().rpartition(b")")[2].split()[1]) == parent:
                    found.append(int(name))
    return found


def reap(statuses: dict[int, int]) -> bool:
    """Collect every ended child into `statuses` (pid -> exit code, negative for a signal); return whether any live."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return True
        statuses[pid] = os.waitstatus_to_exitcode(status)


def kill_below(statuses: dict[int, int], group: int | None = None) -> None:
    """Kill and reap everything below this process, a subreaper; elsewhere than on Linux the process group `group`."""
    deadline = time.monotonic() + KILL_PATIENCE_S
    while time.monotonic() < deadline:
        if group is not None and not LINUX and group not in statuses:
            with contextlib.suppress(OSError):
                os.killpg(group, signal.SIGKILL)
        if not reap(statuses):
            return
        for pid in children_of(os.getpid()):  # ours and not reaped: the number cannot have been given to a stranger
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)


def name_of(pid: int) -> bytes:
    """Return the short name of a process, empty when it is not known."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/comm", "rb") as file:
        return file.read().strip()
    return b""


def ask_to_end(child: int) -> None:
    """Send SIGTERM to the step's program, below bwrap if it runs in one.

    bwrap itself would die of it and take the program along without time for a checkpoint. If it has not yet started
    the program (its first process in the box ignores SIGTERM), there is nothing to save, and it is killed.
    """
    pid, below = child, [child]
    while below:
        pid = below[0]
        below = children_of(pid) if name_of(pid) == b"bwrap" else []
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL if name_of(pid) == b"bwrap" else signal.SIGTERM)


def load_sandbox() -> ModuleType:
    """Return the module sandbox.py next to this file (there is no import path to it: `-I`)."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sandbox.py")
    spec = importlib.util.spec_from_file_location("sandbox", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"no module at {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def become(step: Json, guard: int, output: int) -> NoReturn:
    """Turn this process, fresh from the fork, into the step's program: tied to its guard, confined, with no files."""
    try:
        os.setsid()
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:  # it died before the line above
            os._exit(1)
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals():
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # an early SIGTERM has waited for this
        null = os.open(os.devnull, os.O_RDWR)
        for source, target in ((null, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        os.closerange(3, OPEN_MAX)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if step.get("sandbox") and step.get("file_bytes"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (step["file_bytes"],) * 2)
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("500")  # short of memory, the kernel takes the training before its supervisor
        os.chdir(step["cwd"])
        argv, env = list(step["argv"]), dict(step["env"])
        if step.get("sandbox"):
            argv, env = load_sandbox().enter(argv, step["cwd"], env, step["sandbox"])
        os.execvpe(argv[0], argv, env)
    except BaseException as error:
        os.write(2, f"supervisor: step {step.get('name')} could not be started: {error}\n".encode(errors="replace"))
    finally:
        os._exit(127)


def keep(step: Json, orders: int, reports: int, output: int) -> NoReturn:
    """Start the step and be its master: T on `orders` asks it to end, K or a lost supervisor kills all below."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP})
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    wake = wake_on_signals(lambda _number, _frame: None, signal.SIGCHLD)
    me = os.getpid()
    child = os.fork()
    if child == 0:
        become(step, me, output)
    os.close(output)
    statuses: dict[int, int] = {}
    while child not in statuses:
        ready, _, _ = select.select([orders, wake], [], [])
        if wake in ready:
            os.read(wake, 4096)
        reap(statuses)
        order = os.read(orders, 16) if orders in ready else None
        if order is not None and (order == b"" or b"K" in order):
            break
        if order and child not in statuses:
            ask_to_end(child)
    kill_below(statuses, child)
    with contextlib.suppress(OSError):
        os.write(reports, str(statuses.get(child, -signal.SIGKILL)).encode())
    os._exit(0)


def wake_on_signals(handler: Callable[[int, FrameType | None], None], *numbers: int) -> int:
    """Return a descriptor that becomes readable when one of the signals arrives."""
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    for number in numbers:
        signal.signal(number, handler)
    return readable


def start(step: Json) -> tuple[int, int, int, int]:
    """Fork the guard of a step; return its pid and our ends of its pipes: orders, reports, output."""
    orders_in, orders = os.pipe()
    reports, reports_out = os.pipe()
    output, output_in = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            for descriptor in (orders, reports, output):
                os.close(descriptor)
            keep(step, orders_in, reports_out, output_in)
        finally:
            os._exit(1)
    for descriptor in (orders_in, reports_out, output_in):
        os.close(descriptor)
    return pid, orders, reports, output
