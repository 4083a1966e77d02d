"""What a run folder says: state, exit record, and safe reading of files that an untrusted program wrote.

State is read without disturbing anybody. The lock is probed only when a claim is there, and a supervisor claims after
it has taken the lock, so a probe (a shared lock for some microseconds) can never be in the way of the one supervisor
that matters; a second supervisor is turned away by the claim. Supervisors also wait out short strangers' locks.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from orchestrator.core.records import Record
from orchestrator.paths import RunPaths
from orchestrator.ports import ExitRecord, RunState

RECORD_LIMIT_BYTES = 2**20
CLAIM_PATIENCE_S = 0.1
"""How long an empty claim may be the middle of a claim rather than the end of its writer."""


class UntrustedFileError(OSError):
    """A file of an untrusted program that is not what it must be: a link, a pipe, a device, or too large."""


def run_state(run_dir: Path) -> RunState:
    """Return where the run stands, from its folder alone."""
    paths = RunPaths(run_dir)
    if paths.exit.exists():
        return "ended"
    owner = claim_of(run_dir)
    if owner is None:
        return "unclaimed"
    if owner == "revoked":
        return "revoked"
    if lock_held(run_dir):
        return "running"
    return "ended" if paths.exit.exists() else "vanished"  # looked at again: it may have ended in between


def claim_of(run_dir: Path) -> str | None:
    """Return the line in `claim`, None when there is none, "" when its writer died while claiming."""
    deadline = time.monotonic() + CLAIM_PATIENCE_S
    while True:
        try:
            line = RunPaths(run_dir).claim.read_text(encoding="utf-8", errors="replace").strip()
        except FileNotFoundError:
            return None
        if line or time.monotonic() > deadline:
            return line
        time.sleep(0.005)


def claim_pid(run_dir: Path) -> int | None:
    """Return the supervisor's process id as the claim says it (which may long be somebody else's)."""
    word, _, number = (claim_of(run_dir) or "").partition(" ")
    return int(number) if word == "supervisor" and number.isdecimal() else None


def lock_held(run_dir: Path) -> bool:
    """Return whether a supervisor, or the guard of one that was just killed, holds the lock."""
    try:
        descriptor = os.open(RunPaths(run_dir).lock, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def interval(run_dir: Path) -> tuple[float, float] | None:
    """Return when a run was claimed and when it ended, or now (s since 1970); None when it never ran or vanished."""
    paths = RunPaths(run_dir)
    try:
        start = paths.claim.stat().st_mtime
        return start, paths.exit.stat().st_mtime if paths.exit.exists() else _now_if_held(run_dir)
    except FileNotFoundError:
        return None


def _now_if_held(run_dir: Path) -> float:
    if not lock_held(run_dir):
        raise FileNotFoundError(run_dir)
    return time.time()


def revoke(run_dir: Path) -> bool:
    """Claim the folder for the engine; return False when somebody has claimed it before, the engine included."""
    try:
        descriptor = os.open(RunPaths(run_dir).claim, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return False
    try:
        os.write(descriptor, b"revoked\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return True


def exit_record(run_dir: Path) -> ExitRecord | None:
    """Return exit.json, or None when there is none or it cannot be read as one."""
    try:
        return ExitRecord.model_validate_json(read_file(RunPaths(run_dir).exit, RECORD_LIMIT_BYTES))
    except (OSError, ValidationError):
        return None


@contextlib.contextmanager
def open_file(path: Path, *, root: Path | None = None) -> Iterator[BinaryIO]:
    """Yield a file that an untrusted program wrote, opened for reading.

    Args:
        path: The file.
        root: Folder above `path` that is trusted; no component below it may be a link. Default: two levels up, so that
            neither the file nor its folder may be one.

    Raises:
        FileNotFoundError: There is no such file.
        UntrustedFileError: It is a link, or reached through one, or no regular file.
    """
    root = path.parent.parent if root is None else root
    *folders, name = path.relative_to(root).parts
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            below = _open_at(folder, flags | os.O_DIRECTORY, at, path)
            os.close(at)
            at = below
        descriptor = _open_at(name, flags, at, path)
    finally:
        os.close(at)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UntrustedFileError(f"{path}: expected a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def read_file(path: Path, limit: int, *, root: Path | None = None) -> bytes:
    """Return the content of a file that an untrusted program wrote; `path` and `root` as for `open_file`.

    Raises:
        FileNotFoundError: There is no such file.
        UntrustedFileError: It is a link, or reached through one, or no regular file, or larger than `limit` bytes.
    """
    with open_file(path, root=root) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise UntrustedFileError(f"{path}: expected at most {limit} bytes, found more")
    return content


def _open_at(name: str, flags: int, at: int, path: Path) -> int:
    if name == os.pardir:
        raise UntrustedFileError(f"{path}: goes up")
    try:
        return os.open(name, flags, dir_fd=at)
    except FileNotFoundError:
        raise
    except OSError as error:  # ELOOP or ENOTDIR: a link; ENXIO: a socket
        raise UntrustedFileError(f"{path}: {name} is a link or no regular file ({error.strerror})") from error


def tail(path: Path, limit: int = 4096) -> str:
    """Return the last `limit` bytes of a log as text, "" when there is none; undecodable bytes are replaced."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - limit))
            return file.read(limit).decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def write_record(path: Path, record: Record) -> None:
    """Write a record as JSON so that a reader, or a crash, sees all of it or nothing."""
    write_atomic(path, (json.dumps(record.model_dump(mode="json"), indent=1) + "\n").encode())


def write_atomic(path: Path, content: bytes) -> None:
    """Replace `path` by `content`, wholly or not at all, and durably."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
