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
from pathlib import Path
from typing import Any

import numpy as np

from trainers.errors import RefusedError

SIZE_MAX = 512 * 2**20
MOMENTS_MAX = 50
TERMS_MAX, TERM_MAX = 20, 1e100
COUNT_MAX = 2**53
NAME = re.compile(r"^(\d{3,6})_(\d{7,12})\.npz$")


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
            explode: `rollout_*` are taken as they are).
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
                    there = ", ".join(map(ascii, arrays.files[:20]))
                    raise RefusedError(f"{path.name}: array {name!r} is missing; found {there[:500]}")
                found[name] = _checked(path.name, name, arrays[name], shapes.get(name, ()))
    except RefusedError:
        raise
    except Exception as error:  # zipfile, zlib, lzma and numpy raise of every kind on a crafted file, memory included
        raise RefusedError(f"{path.name} is not a readable npz without pickles ({str(error)[:500]!r})") from error
    return found


def _checked(file: str, name: str, array: Any, shape: tuple[int | None, ...]) -> Any:
    if array.ndim != len(shape) or any(w is not None and w != f for w, f in zip(shape, array.shape, strict=True)):
        expected = tuple("any" if w is None else w for w in shape)
        raise RefusedError(f"{file}: {name} has shape {array.shape}, expected {expected}")
    if array.dtype.kind not in "fiu":
        raise RefusedError(f"{file}: {name} has dtype {array.dtype}, expected numbers")
    if shape == ():
        return int(array)
    if not name.startswith("rollout_") and not np.isfinite(array).all():
        raise RefusedError(f"{file}: {name} holds NaN or infinite values")
    return array.astype(np.float64)


def list_moments(folder: Path) -> list[Path]:
    """Return intermediate estimates by gradient step, at most `MOMENTS_MAX` evenly spread ones."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    try:
        found = [(int(match[2]), path) for path in folder.iterdir() if (match := NAME.match(path.name))]
    except OSError:  # a folder that its training has closed
        return []
    ordered = [path for _, path in sorted(found)]
    if len(ordered) <= MOMENTS_MAX:
        return ordered
    return [ordered[i] for i in np.linspace(0, len(ordered) - 1, MOMENTS_MAX).astype(int)]


def line_of(value: Any, limit: int = 200) -> str:
    """Return what a training wrote as one printable line: a newline would forge lines of analysis.log."""
    shown = "".join(c if c.isprintable() else " " for c in str(value)[: 4 * limit])
    return " ".join(shown.split())[:limit]


def _progress_line(found: dict[str, Any]) -> dict[str, Any]:
    """Return a line with a whole step and, if it has terms, their numbers; raises ValueError for other steps."""
    step = int(found["step"])
    if not 0 <= step < COUNT_MAX:
        raise ValueError(f"step {step}")
    line = found | {"step": step}
    if "terms" in found:
        terms = found["terms"] if isinstance(found["terms"], dict) else {}
        line["terms"] = {line_of(k, 40).replace("$", ""): _term(v) for k, v in list(terms.items())[:TERMS_MAX]}
    return line


def _term(value: Any) -> float | None:
    if type(value) is int and abs(value) < COUNT_MAX:
        return float(value)
    return value if isinstance(value, float) and abs(value) < TERM_MAX else None


def read_progress(path: Path) -> list[dict[str, Any]]:
    """Return the readable lines of progress.jsonl in order; a repeated stretch of a resumed run counts once."""
    lines: dict[int, dict[str, Any]] = {}
    try:
        text = read_bytes(path, 64 * 2**20).decode(errors="replace")
    except RefusedError:
        return []
    for line in text.splitlines():
        try:
            found = _progress_line(json.loads(line))
            lines[found["step"]] = found
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
            continue
    return [lines[step] for step in sorted(lines)]
