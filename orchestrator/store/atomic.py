"""Whole-file writes that a crash cannot tear.

Accepted trade-offs: a crash may leave a hidden temporary sibling (`.name.tmp`), which the next write of the same file
replaces; the folder is fsynced on Linux and macOS, not elsewhere.
"""

from __future__ import annotations

import os
from pathlib import Path


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data`, wholly or not at all. Raises OSError; the old file is then still there."""
    temporary = path.with_name(f".{path.name}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by UTF-8 `text`, wholly or not at all."""
    write_bytes(path, text.encode())


def write_if_changed(path: Path, text: str) -> bool:
    """Write `text` unless the file holds exactly that; return whether it wrote."""
    data = text.encode()
    if path.is_file() and not path.is_symlink() and path.read_bytes() == data:
        return False
    write_bytes(path, data)
    return True


def sync_folder(folder: Path) -> None:
    """Make a rename or a new file in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
