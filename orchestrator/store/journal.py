"""The append-only journal: one event a line, and an event exists if and only if its newline exists.

Opening for writing takes the exploration's lock; only the holder truncates a torn tail, before its first append.
Each append is one write of one line followed by fsync, after checking that the file still ends where this engine
left it. A bad line in the middle is an error that names its number: nothing is guessed, nothing is dropped.

Not covered: a disk that acknowledges fsync and loses the data; a network file system without working flock.
"""

from __future__ import annotations

import fcntl
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from pydantic import ValidationError

from orchestrator.core.events import Body, Event
from orchestrator.errors import JournalError
from orchestrator.store.atomic import sync_folder


def encode(event: Event) -> bytes:
    """Return the journal line of an event, newline included."""
    return json.dumps(event.model_dump(mode="json"), separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def parse(data: bytes, path: Path) -> tuple[list[Event], int]:
    """Return the events of a journal and the offset just after the last whole line.

    Raises:
        JournalError: a whole line that is no event, or a gap in the sequence; names file and line.
    """
    end = data.rfind(b"\n") + 1
    events: list[Event] = []
    for number, line in enumerate(data[:end].split(b"\n")[:-1], start=1):
        try:
            event = Event.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            raise JournalError(
                f"{path}, line {number}: not a journal event ({first['msg']} at {'.'.join(map(str, first['loc']))}). "
                "The lines before it are whole. Restore the file from a backup, or move the folder away and start again"
            ) from None
        if event.seq != number:
            raise JournalError(f"{path}, line {number}: expected sequence number {number}, found {event.seq}")
        events.append(event)
    return events, end


def read(path: Path) -> list[Event]:
    """Return the events of a journal without locking or changing it; a torn last line is ignored."""
    return parse(path.read_bytes(), path)[0] if path.exists() else []


def take_lock(path: Path) -> int:
    """Return a descriptor that holds an exploration's lock; closing it frees the lock.

    Raises:
        JournalError: another engine holds it.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 100, 0).decode(errors="replace").strip()
        os.close(lock)
        raise JournalError(
            f"another engine ({holder or 'unknown process'}) is running this exploration: {path.parent}. "
            "Watch it with `make status`, or stop it first"
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"pid {os.getpid()}\n".encode(), 0)
    return lock


class Journal:
    """Writer of one exploration's journal; a context manager that holds the lock."""

    def __init__(self, path: Path, lock: Path) -> None:
        self.path, self._lock_path = path, lock
        self.events: list[Event] = []
        self._end = 0
        self._fd = -1
        self._lock = -1

    def __enter__(self) -> Journal:
        """Take the lock, read the events, drop a torn tail.

        Raises:
            JournalError: another engine holds the lock, or the journal is damaged in the middle.
        """
        self._lock = take_lock(self._lock_path)
        try:
            self._open()
        except BaseException:
            os.close(self._lock)
            raise
        return self

    def _open(self) -> None:
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            data = self.path.read_bytes()
            self.events, self._end = parse(data, self.path)
            if self._end != len(data):
                os.ftruncate(self._fd, self._end)
                os.fsync(self._fd)
        except BaseException:
            os.close(self._fd)
            raise
        sync_folder(self.path.parent)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)
        os.close(self._lock)

    def append(self, body: Body) -> Event:
        """Make one event durable and return it.

        Raises:
            JournalError: somebody else wrote to the file; nothing was appended.
            OSError: the disk refused; a part of the line may be there, which the next opening drops.
        """
        found = os.fstat(self._fd).st_size
        if found != self._end:
            raise JournalError(f"{self.path}: expected {self._end} bytes, found {found}: another program wrote to it")
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        event = Event(seq=len(self.events) + 1, at=at, body=body)
        line = encode(event)
        written = os.write(self._fd, line)
        if written != len(line):
            raise OSError(f"{self.path}: wrote {written} of {len(line)} bytes: is the disk full?")
        os.fsync(self._fd)
        self._end += len(line)
        self.events.append(event)
        return event
