"""Read what a training left, trusting nothing: regular files only, no links, a size cap, no pickle, known shapes.

What it does not stop: arrays of the right shape that a training made up. Metrics compare them with a truth that the
training was never given.
"""

from __future__ import annotations

import io
import json
import os
import re
import stat
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from trainers.errors import RefusedError

SIZE_MAX = 512 * 2**20
MOMENTS_MAX = 50
NAME = re.compile(r"^(\d{3,6})_(\d{7,12})\.npz$")
LEARNED = ("W", "a", "lin_edge", "lin_phi")


def read_bytes(path: Path, limit: int = SIZE_MAX) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        RefusedError: missing, a link, not a regular file, or larger than `limit` bytes.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise RefusedError(f"{path.name} cannot be opened ({error.strerror}); a training must leave it") from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise RefusedError(f"{path.name} is not a regular file")
        if status.st_size > limit:
            raise RefusedError(f"{path.name} has {status.st_size} bytes, at most {limit} are read")
        return file.read(limit + 1)


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object; raises RefusedError."""
    try:
        found = json.loads(read_bytes(path, 4 * 2**20))
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"{path.name} is not JSON ({error})") from error
    if not isinstance(found, dict):
        raise RefusedError(f"{path.name} must hold an object, found {type(found).__name__}")
    return found


def read_estimate(path: Path, shapes: dict[str, tuple[int | None, ...]]) -> dict[str, Any]:
    """Return the arrays of an estimate as float64, with `epoch` and `step` as integers.

    Args:
        path: an npz file.
        shapes: array name -> shape; None is any length.

    Raises:
        RefusedError: unreadable, an array missing, of a wrong shape, not numbers, or not finite (a rollout may
            explode: `rollout_u` alone is taken as it is).
    """
    data = read_bytes(path)
    found: dict[str, Any] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > SIZE_MAX:
                raise RefusedError(f"{path.name} unpacks to more than {SIZE_MAX} bytes")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            for name in (*shapes, "epoch", "step"):
                if name not in arrays:
                    raise RefusedError(f"{path.name}: array {name!r} is missing; found {', '.join(arrays.files)}")
                found[name] = _checked(path.name, name, arrays[name], shapes.get(name, ()))
    except (OSError, ValueError, OverflowError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise RefusedError(f"{path.name} is not a readable npz without pickles ({error})") from error
    return found


def _checked(file: str, name: str, array: Any, shape: tuple[int | None, ...]) -> Any:
    if array.ndim != len(shape) or any(w is not None and w != f for w, f in zip(shape, array.shape, strict=True)):
        expected = tuple("any" if w is None else w for w in shape)
        raise RefusedError(f"{file}: {name} has shape {array.shape}, expected {expected}")
    if array.dtype.kind not in "fiu":
        raise RefusedError(f"{file}: {name} has dtype {array.dtype}, expected numbers")
    if shape == ():
        return int(array)
    if name != "rollout_u" and not np.isfinite(array).all():
        raise RefusedError(f"{file}: {name} holds NaN or infinite values")
    return array.astype(np.float64)


def list_moments(folder: Path) -> list[Path]:
    """Return intermediate estimates by gradient step, at most `MOMENTS_MAX` evenly spread ones."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    found = [(int(match[2]), path) for path in folder.iterdir() if (match := NAME.match(path.name))]
    ordered = [path for _, path in sorted(found)]
    if len(ordered) <= MOMENTS_MAX:
        return ordered
    return [ordered[i] for i in np.linspace(0, len(ordered) - 1, MOMENTS_MAX).astype(int)]


def read_progress(path: Path) -> list[dict[str, Any]]:
    """Return the readable lines of progress.jsonl in order; a repeated stretch of a resumed run counts once."""
    lines: dict[int, dict[str, Any]] = {}
    try:
        text = read_bytes(path, 64 * 2**20).decode(errors="replace")
    except RefusedError:
        return []
    for line in text.splitlines():
        try:
            found = json.loads(line)
            lines[int(found["step"])] = found
        except (ValueError, OverflowError, KeyError, TypeError, RecursionError):
            continue
    return [lines[step] for step in sorted(lines)]
