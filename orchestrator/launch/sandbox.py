"""Confine a step to named files, without network, environment or other processes in reach.

Standard library only: the supervisor loads this file by its path and calls `enter` in the child, after the fork.
Everyone else calls `best_level`. Levels:

- `bwrap`: own namespaces for files, processes, network, IPC and host name, no capability, an empty `/tmp`. The file
  tree holds the system's libraries, the step's own interpreter, `read_only` and `writable`; nothing else exists.
- `landlock` (Linux, no program needed): files outside of the same lists cannot be opened, made, renamed or removed;
  no TCP (kernel ABI 4); no signals and no abstract sockets to the outside (ABI 6); no ptrace of outside processes,
  which covers their environment and memory; no capability. On x86-64 and ARM64 a list of system calls beside it, which
  Landlock does not see: no socket of any kind (with devices: none but local ones, which CUDA needs), no System V or
  POSIX queue or shared segment, no keyring, no io_uring; changes of mode, owner and times do nothing.
- `none`: nothing but the clean environment, the limits and the process handling of the supervisor.

A level that does not work raises; it is never replaced by a weaker one silently.

What is NOT stopped, at any level: errors in the kernel and in GPU drivers; use of CPU, memory and GPU; time and size
side channels; anything in the given files themselves, and in the folders of the interpreter, which are readable whole.

At `landlock` in addition: seeing that files exist and their sizes; the list of processes and their command lines; with
devices, sockets by path name (a reachable docker.sock is a way out); before ABI 3 truncation, before 5 device ioctls;
on other processors all that the list of system calls stops. It has no private `/tmp` and no `/dev/shm`: set TMPDIR
below a writable path (workers that share memory through `/dev/shm` do not work). A read-only path inside a writable one
is refused, because Landlock can only widen.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import struct
import subprocess
import sys
from typing import Any, Literal

Level = Literal["bwrap", "landlock", "none"]
Json = dict[str, Any]

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store")
"""Programs and libraries of the system; links are kept as links."""
SYSTEM_FILES = (
    "/etc/alternatives",
    "/etc/fonts",
    "/etc/group",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
)
"""What libraries ask at their start: addresses, names, time zone, processors. None holds a secret."""
KERNEL_FILES = ("/proc/sys", "/proc/irq", "/proc/bus")
"""Settings of the running kernel, made read-only under bwrap. It does so itself for a user who may write to these
folders, and root without capabilities may not; but to the files in them, which belong to root, it may."""
GPU_FILES = ("/sys", "/proc/driver/nvidia", "/usr/local/cuda", "/etc/nvidia")
"""Only with devices."""
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
TMP_BYTES = 2**30
"""Size of the private /tmp under bwrap; it is memory."""


class SandboxError(Exception):
    """The level cannot be applied as asked; the message says why."""


def enter(argv: list[str], cwd: str, env: dict[str, str], sandbox: Json) -> tuple[list[str], dict[str, str]]:
    """Return the command and environment to execute; at level `landlock`, confine this process at once.

    Raises SandboxError; the process must then not go on.
    """
    level = sandbox["level"]
    if level == "bwrap":
        return bwrap_command(argv, cwd, env, sandbox), {"PATH": "/usr/bin:/bin"}
    if level == "landlock":
        confine(argv, sandbox, env.get("PATH"))
    elif level != "none":
        raise SandboxError(f"unknown sandbox level {level!r}: expected bwrap, landlock or none")
    return argv, env


@functools.cache
def best_level() -> Level:
    """Return the strongest level that really works on this machine (tries it once, about 20 ms)."""
    if why_not("bwrap") is None:
        return "bwrap"
    return "landlock" if why_not("landlock") is None else "none"


@functools.cache
def why_not(level: Level) -> str | None:
    """Return None when `level` works here, else one sentence that says why it does not."""
    if level == "none":
        return None
    if level == "landlock":
        if landlock_abi() < 1:
            return "the kernel has no Landlock"
        filtered = platform.machine() not in CALLS or ctypes.CDLL(None).prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0
        return None if filtered else "the kernel has no seccomp"
    try:
        command = bwrap_command(["/bin/true"], "/", {}, {"read_only": [], "writable": [], "devices": []})
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
    except (SandboxError, OSError, subprocess.SubprocessError) as error:
        return str(error)
    return None if done.returncode == 0 else f"bwrap failed: {done.stderr.strip()}"


def hide_environment() -> None:
    """Make this process's environment and memory unreadable for other processes of the same user (Linux).

    For the engine, which holds the key: its children's sandboxes may be weak. Core dumps and debuggers go with it.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE


# --- what an interpreter needs --------------------------------------------------------------------------------------


def interpreter_paths(program: str, path: str | None = None) -> list[str]:
    """Return the folders that a Python program needs: its virtual environment and the installation it was made from.

    Follows the links of `program` one by one; an environment that is itself a link is found by both its names. A folder
    counts only if it is an environment (pyvenv.cfg) or holds lib/pythonX.Y/os.py, so that a link in a home folder's
    bin/ does not open the home folder.
    """
    import shutil

    found: list[str] = []
    step = shutil.which(program, path=path) or program
    if os.path.isabs(step):
        _add_prefix(os.path.dirname(os.path.dirname(os.path.normpath(step))), found)
    for _ in range(40):
        step = os.path.join(os.path.realpath(os.path.dirname(step)), os.path.basename(step))
        _add_prefix(os.path.dirname(os.path.dirname(step)), found)
        if not os.path.islink(step):
            break
        step = os.path.normpath(os.path.join(os.path.dirname(step), os.readlink(step)))
    return [prefix for prefix in found if not _inside(prefix, ("/usr",))]


def _add_prefix(prefix: str, found: list[str]) -> None:
    config = os.path.join(prefix, "pyvenv.cfg")
    if prefix == "/" or prefix in found:
        return
    if os.path.isfile(config):
        found.append(prefix)
        with open(config, encoding="utf-8") as file:
            for line in file:
                key, _, value = line.partition("=")
                if key.strip() == "home":
                    _add_prefix(os.path.dirname(os.path.realpath(value.strip())), found)
    elif _has_library(prefix):
        found.append(prefix)


def _has_library(prefix: str) -> bool:
    library = os.path.join(prefix, "lib")
    names = os.listdir(library) if os.path.isdir(library) else []
    return any(name.startswith("python3") and os.path.isfile(os.path.join(library, name, "os.py")) for name in names)


def _inside(path: str, folders: tuple[str, ...] | list[str]) -> bool:
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)


# --- bubblewrap -----------------------------------------------------------------------------------------------------


def bwrap_command(argv: list[str], cwd: str, env: dict[str, str], sandbox: Json) -> list[str]:
    """Return the command line that runs `argv` under bwrap. Raises SandboxError when there is no bwrap."""
    import shutil

    program = shutil.which("bwrap", path=os.environ.get("PATH", "") + ":/usr/bin:/bin:/usr/local/bin")
    if program is None:
        raise SandboxError("there is no bwrap on this machine (Debian, Fedora: package bubblewrap)")
    command = [program, "--unshare-all", "--die-with-parent", "--cap-drop", "ALL", "--clearenv"]
    for key, value in env.items():
        command += ["--setenv", key, value]
    for path in SYSTEM:
        if os.path.islink(path):
            command += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            command += ["--ro-bind", path, path]
    devices = list(sandbox.get("devices", ()))
    command += ["--proc", "/proc", "--dev", "/dev", "--size", str(TMP_BYTES), "--tmpfs", "/tmp"]
    for path in KERNEL_FILES:
        command += ["--ro-bind-try", path, path]
    for path in (*SYSTEM_FILES, *(GPU_FILES if devices else ())):
        if not _inside(path, SYSTEM):
            command += ["--ro-bind-try", path, path]
    for device in devices:
        command += ["--dev-bind", device, device]
    binds = [(path, "--ro-bind") for path in interpreter_paths(argv[0], env.get("PATH"))]
    binds += [(os.path.abspath(path), "--ro-bind") for path in sandbox["read_only"]]
    binds += [(os.path.abspath(path), "--bind") for path in sandbox["writable"]]
    for path, option in sorted(binds, key=lambda bind: bind[0].count("/")):  # a folder before what lies in it
        command += [option, path, path]
    command += ["--remount-ro", "/"]  # else what is written beside the given folders succeeds, and is lost
    return [*command, "--chdir", cwd, "--", *argv]


# --- Landlock -------------------------------------------------------------------------------------------------------

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
FOR_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
READ = EXECUTE | READ_FILE | READ_DIR
FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
TCP = 0b11
"""Bind and connect (ABI 4)."""
SCOPES = 0b11
"""Abstract sockets and signals (ABI 6)."""


class Ruleset(ctypes.Structure):
    """struct landlock_ruleset_attr."""

    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class PathBeneath(ctypes.Structure):
    """struct landlock_path_beneath_attr."""

    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def _syscall(number: int, *arguments: Any) -> int:
    result = int(ctypes.CDLL(None, use_errno=True).syscall(number, *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise SandboxError(f"Landlock call {number}: {os.strerror(code)}")
    return result


@functools.cache
def landlock_abi() -> int:
    """Return the kernel's Landlock version, 0 without Landlock."""
    if not sys.platform.startswith("linux") or platform.machine() == "alpha":  # the one with other call numbers
        return 0
    try:
        return _syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    except SandboxError:
        return 0


def confine(argv: list[str], sandbox: Json, search: str | None = None) -> None:
    """Confine this process and all it will start, for ever; it can then run `argv`. Raises SandboxError."""
    abi = landlock_abi()
    if abi < 1:
        raise SandboxError("the kernel has no Landlock")
    read_only = [os.path.realpath(path) for path in sandbox["read_only"]]
    writable = [os.path.realpath(path) for path in sandbox["writable"]]
    for path in read_only:
        if _inside(path, writable):
            raise SandboxError(f"Landlock cannot make {path} read-only inside a writable folder")
    devices = list(sandbox.get("devices", ()))
    rights = FILE_RIGHTS[min(abi, 5)]
    attribute = Ruleset(rights, TCP, SCOPES)
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    rules = _syscall(CREATE_RULESET, ctypes.byref(attribute), ctypes.c_size_t(size), ctypes.c_uint32(0))
    optional = [*SYSTEM, *SYSTEM_FILES, "/proc", *(GPU_FILES if devices else ())]
    for path in filter(os.path.exists, optional):
        _allow(rules, path, READ & rights)
    for path in [*interpreter_paths(argv[0], search), *read_only]:
        _allow(rules, path, READ & rights)
    for path in [*filter(os.path.exists, DEVICES), *devices]:
        _allow(rules, path, (READ_FILE | WRITE_FILE | TRUNCATE | IOCTL_DEV) & rights)
    for path in writable:
        _allow(rules, path, rights & ~EXECUTE)
    drop_capabilities()
    _syscall(RESTRICT_SELF, ctypes.c_int(rules), ctypes.c_uint32(0))
    os.close(rules)
    forbid_calls(local_sockets=bool(devices))


def drop_capabilities() -> None:
    """Give up every privilege of root for ever; without this, root may read other processes' environments all the same.

    Measured on Linux 6.18: Landlock refuses ptrace, but CAP_PERFMON alone opens /proc/PID/environ and maps.
    """
    libc = ctypes.CDLL(None)
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS: no program can give any back
    libc.prctl(47, 4, 0, 0, 0)  # PR_CAP_AMBIENT, clear all
    for capability in range(64):
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP; refused to others than root, who have none
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    if libc.capset(header, (ctypes.c_uint32 * 6)()) != 0:
        raise SandboxError("the capabilities of this process could not be dropped")


# --- system calls that Landlock does not see --------------------------------------------------------------------------

PR_GET_SECCOMP, PR_SET_SECCOMP, FILTER = 21, 22, 2
PERMISSION, NO_CALL = 1, 38
"""EPERM, ENOSYS."""
NOTHING = 0
"""The call answers that it was done, and does nothing: programs set modes and times of what they copy."""
CALLS: dict[str, tuple[int, int, dict[int, tuple[int, ...]]]] = {
    "x86_64": (0xC000003E, 41, {
        NOTHING: (90, 91, 92, 93, 94, 260, 268, 452, 132, 235, 261, 280),
        NO_CALL: (425, 426, 427),
        PERMISSION: (29, 30, 31, 64, 65, 66, 220, 68, 69, 70, 71, 240, 241, 248, 249, 250, 188, 189, 190, 197, 198, 199,
                     463, 466, 101, 310, 311, 438, 165, 166, 272, 308, 298, 321, 323),
    }),
    "aarch64": (0xC00000B7, 198, {
        NOTHING: (52, 53, 54, 55, 452, 88),
        NO_CALL: (425, 426, 427),
        PERMISSION: (190, 191, 192, 193, 194, 195, 196, 186, 187, 188, 189, 180, 181, 217, 218, 219, 5, 6, 7, 14, 15,
                     16, 463, 466, 117, 270, 271, 438, 40, 39, 97, 268, 241, 280, 282),
    }),
}  # fmt: skip
"""Processor -> its audit number, the number of `socket`, answer -> numbers of calls: mode, owner, times; io_uring (it
makes sockets past `socket`); System V segments, semaphores and queues, POSIX queues, keys, attributes, ptrace and
memory of others, mounts and namespaces, perf, bpf, userfaultfd."""


class Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def forbid_calls(*, local_sockets: bool) -> None:
    """Refuse the calls of `CALLS` and sockets to this process and all it will start, for ever. Raises SandboxError.

    Does nothing on processors whose numbers are not listed.
    """
    if platform.machine() not in CALLS:
        return
    code = filter_program(platform.machine(), local_sockets)
    program = Program(len(code) // 8, code)
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_SECCOMP, FILTER, ctypes.byref(program), 0, 0) != 0:
        raise SandboxError(f"the filter of system calls was refused: {os.strerror(ctypes.get_errno())}")


def filter_program(machine: str, local_sockets: bool) -> bytes:
    """Return the filter as the kernel's classic BPF: a chain of `if number == n: answer`."""
    audit, socket, answers = CALLS[machine]
    load, equal, at_least, answer, allow, refuse = 0x20, 0x15, 0x35, 0x06, 0x7FFF0000, 0x00050000
    lines: list[tuple[int, int, int, int]] = [
        (load, 0, 0, 4),  # seccomp_data.arch: another one has other numbers
        (equal, 1, 0, audit),
        (answer, 0, 0, refuse | NO_CALL),
        (load, 0, 0, 0),  # seccomp_data.nr
    ]
    if machine == "x86_64":  # the x32 numbers of the same calls
        lines += [(at_least, 0, 1, 0x40000000), (answer, 0, 0, refuse | NO_CALL)]
    for code, numbers in answers.items():
        for number in numbers:
            lines += [(equal, 0, 1, number), (answer, 0, 0, refuse | code)]
    if local_sockets:
        lines += [(equal, 0, 3, socket), (load, 0, 0, 16), (equal, 1, 0, 1), (answer, 0, 0, refuse | PERMISSION)]
    else:
        lines += [(equal, 0, 1, socket), (answer, 0, 0, refuse | PERMISSION)]
    return b"".join(struct.pack("=HBBI", *line) for line in [*lines, (answer, 0, 0, allow)])


def _allow(rules: int, path: str, rights: int) -> None:
    """Allow `rights` on a file, or on a folder and all below it."""
    try:
        descriptor = os.open(path, getattr(os, "O_PATH", 0) | os.O_CLOEXEC)
    except OSError as error:
        raise SandboxError(f"sandbox path {path}: {error.strerror}") from error
    try:
        rule = PathBeneath(rights if os.path.isdir(path) else rights & FOR_FILES, descriptor)
        _syscall(ADD_RULE, ctypes.c_int(rules), ctypes.c_int(1), ctypes.byref(rule), ctypes.c_uint32(0))
    finally:
        os.close(descriptor)
