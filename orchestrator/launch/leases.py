"""Leases: two explorations on one machine do not use the same GPU by accident.

A lease is a shared flock on a file that stands for one GPU and one exploration. The engine holds it, and so does the
supervisor of each run on that GPU (`holds` in launch.json), so it lives exactly as long as something of the exploration
may be on the GPU, and a kill, of whatever kind, needs no tidying up. A GPU is taken by another exploration when an
exclusive flock on one of its other files fails. Looking and taking happen under a lock on the folder: of two engines
that start in one instant, one sees the other.

    /tmp/orchestrator-leases/               mode 1777, shared by all users; ORCHESTRATOR_LEASES names another folder
        GPU-1d2c...@5f0c2a91b7e3d644        GPU, and sha of the exploration's output folder
            {"exploration": "...", "pid": 4242, "since": "2026-11-21T22:00:00Z"}       for people only

Files stay (a shared lock also keeps systemd-tmpfiles from removing them while they are in use).

What this does not stop: programs that take no lease; explorations in containers that do not share the folder, or that
share it and write to the same path; runs that the queue of a cluster starts on other machines; somebody who means to
get in the way, in a folder that all may write.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from orchestrator.errors import NeedsPersonError
from orchestrator.ports import Gpu

DEFAULT = "/tmp/orchestrator-leases"
"""Not below TMPDIR: it may differ between the users, or the sessions, of one machine."""
VARIABLE = "ORCHESTRATOR_LEASES"
PATIENCE_S = 10.0
"""How long another engine may look for a GPU."""
CONTENT_LIMIT = 4096
OPEN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Leases:
    """The GPUs that one exploration uses on this machine, until `close` or the end of the process.

    Args:
        out: the exploration's output folder. Two objects of one user for one folder never stand in each other's way.
    """

    def __init__(self, out: Path) -> None:
        self.out = Path(os.path.realpath(out))
        self.folder = Path(os.path.abspath(os.environ.get(VARIABLE) or DEFAULT))
        self.files: dict[str, str] = {}
        """Name of each GPU that is held -> its file, for `holds` of launch.json."""
        self._held: list[int] = []
        self._mine = hashlib.sha256(b"%d:%s" % (os.geteuid(), os.fsencode(self.out))).hexdigest()[:16]

    def __enter__(self) -> Leases:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of all GPUs; runs that are still alive hold theirs by themselves."""
        for descriptor in self._held:
            os.close(descriptor)
        self._held, self.files = [], {}

    def take(self, gpus: Sequence[Gpu], wanted: int, share: bool) -> list[Gpu]:
        """Return at most `wanted` of these GPUs, held from now on; none are needed of an empty list.

        Those on which runs of this exploration are alive come first, then those that nobody else uses, each with the
        most free memory first. With `share` a GPU that another exploration uses will do where no other is left.

        Raises:
            NeedsPersonError: others use all of them, or the folder of leases cannot be used. Nothing is held.
        """
        if not gpus:
            return []
        folder = self._open_folder()
        try:
            self._lock(folder, fcntl.LOCK_EX, self.folder)
            others = {gpu.uuid: self._others(folder, gpu) for gpu in gpus}
            alive = {gpu.uuid for gpu in gpus if self._alive(folder, gpu)}
            usable = [gpu for gpu in gpus if share or not others[gpu.uuid]]
            if not usable:
                raise NeedsPersonError(_refusal(gpus, others))
            usable.sort(key=lambda gpu: (gpu.uuid not in alive, bool(others[gpu.uuid]), -(gpu.free_bytes or 0)))
            chosen = usable[: max(1, wanted)]
            try:
                for gpu in chosen:
                    self._hold(folder, gpu)
            except BaseException:
                self.close()
                raise
        finally:
            os.close(folder)
        return [_without_own(gpu) if gpu.uuid in alive else gpu for gpu in chosen]

    def look(self) -> None:
        """Return when the folder of leases can be used; it is made if need be, and nothing is held.

        Raises:
            NeedsPersonError: it cannot; says why and what to do.
        """
        os.close(self._open_folder())
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise self._unusable("this user may not write there")

    # --- the folder ------------------------------------------------------------------------------------------------

    def _open_folder(self) -> int:
        """Return a descriptor of the folder, made if need be."""
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(self.folder, 0o777)
                os.chmod(self.folder, 0o1777)
            descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | OPEN)
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from error
        mode = os.fstat(descriptor).st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            os.close(descriptor)
            raise self._unusable(f"anybody may remove files there (mode {stat.S_IMODE(mode):o})")
        return descriptor

    def _unusable(self, why: str) -> NeedsPersonError:
        return NeedsPersonError(
            f"{self.folder}: expected a folder, no link, that every user of GPUs on this machine can write (mode "
            f"1777): {why}. Mend or remove it, or name another folder in the environment variable {VARIABLE}"
        )

    def _lock(self, descriptor: int, kind: int, path: Path) -> None:
        """Take a lock until the descriptor is closed; nobody needs to hold one that is in the way for long."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise self._unusable(f"another program has locked {path} for {PATIENCE_S:g} s") from None
            time.sleep(0.01)

    # --- files -----------------------------------------------------------------------------------------------------

    def _name(self, gpu: Gpu) -> str:
        return f"{_plain(gpu.uuid)}@{self._mine}"

    def _others(self, folder: int, gpu: Gpu) -> list[str]:
        """Return who else uses a GPU, in words."""
        start = f"{_plain(gpu.uuid)}@"
        names = [n for n in sorted(os.listdir(folder)) if n.startswith(start) and n != self._name(gpu)]
        return [told for name in names if (told := self._user(folder, name))]

    def _user(self, folder: int, name: str) -> str:
        """Return who holds another exploration's file, "" when nobody does; what cannot be looked at counts as held."""
        path = self.folder / name
        try:
            descriptor = os.open(name, os.O_RDONLY | OPEN, dir_fd=folder)
        except FileNotFoundError:
            return ""
        except OSError as error:
            return f"somebody: {path} cannot be read ({error.strerror}); remove it if nothing runs there"
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return f"somebody: {path} is no regular file; remove it"
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return _owner(os.pread(descriptor, CONTENT_LIMIT, 0), path)
        finally:
            os.close(descriptor)
        return ""

    def _alive(self, folder: int, gpu: Gpu) -> bool:
        """Return whether something of this exploration is on a GPU already: runs of an engine that has died."""
        try:
            descriptor = os.open(self._name(gpu), os.O_RDONLY | OPEN, dir_fd=folder)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _hold(self, folder: int, gpu: Gpu) -> None:
        name = self._name(gpu)
        path = self.folder / name
        try:
            try:
                descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | OPEN, 0o600, dir_fd=folder)
                os.fchmod(descriptor, 0o644)  # whatever the umask: other users must be able to look
            except FileExistsError:
                descriptor = os.open(name, os.O_RDWR | OPEN, dir_fd=folder)
        except OSError as error:
            raise self._unusable(f"{path} cannot be written ({error.strerror})") from error
        self._held.append(descriptor)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise self._unusable(f"{path} is no regular file of its own")
        self._lock(descriptor, fcntl.LOCK_SH, path)
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        content = {"exploration": str(self.out), "pid": os.getpid(), "since": stamp}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, (json.dumps(content) + "\n").encode(), 0)
        self.files[gpu.name] = str(path)


def _plain(uuid: str) -> str:
    """Return a UUID as a part of a file name."""
    return re.sub(r"[^A-Za-z0-9.-]", "_", uuid)[:100]


def _without_own(gpu: Gpu) -> Gpu:
    """Return a GPU of which what is free is not known, because runs of this exploration are on it."""
    return gpu.model_copy(update={"free_bytes": None})


def _owner(content: bytes, path: Path) -> str:
    """Return whose file it is, from what an engine wrote there (for people: it may be anything)."""
    try:
        found = json.loads(content)
        told = f"{found['exploration']} (pid {int(found['pid'])}, since {found['since']})"
    except (ValueError, KeyError, TypeError):
        return f"an exploration that did not say which (it holds {path})"
    return "the exploration in " + "".join(c if c.isprintable() else "?" for c in told)[:1000]


def _refusal(gpus: Sequence[Gpu], others: dict[str, list[str]]) -> str:
    names = [f"  GPU {gpu.name} ({gpu.uuid}): {'; '.join(others[gpu.uuid])}" for gpu in gpus]
    return "\n".join(
        (
            "every GPU is used by another exploration:",
            *names,
            "Wait until it has ended, choose other GPUs with CUDA_VISIBLE_DEVICES=..., or set `share_gpus: true` in "
            "exploration.yaml to run beside it",
        )
    )
