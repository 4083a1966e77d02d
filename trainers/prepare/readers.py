"""Open an array of a person's recording, whose first axis are frames: .npy, .npz, or a zarr array or group.

Nothing is unpickled. Every refusal says what was expected, what was found, and what to do, in the words of the
config section that asks. A .npy or zarr array is read piece by piece; an .npz array is unpacked in memory.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import tokenize
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trainers.errors import RefusedError

HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
ZARR_FILES = ("zarr.json", ".zarray", ".zgroup")
NAMES_SHOWN = 20


class Asked(NamedTuple):
    """What a config section asks of a file: words of the refusals."""

    key: str
    """Config key of the file, with its section."""
    name_key: str
    """Config key of the array's name."""
    expected: str
    """Form of the file; begins with "expected"."""
    write: str
    """How to write such a file."""
    numbers: str
    """What to do about pickled objects."""
    damaged: str
    """What to do about an .npz file that cannot be read."""
    plain: str = ".npy"
    """Format to take where zarr fails."""
    nearest: bool = False
    """A name that is not there is told with the one that is nearest."""


def open_array(path: Path, name: str, asked: Asked) -> Any:
    """Return an array that can be sliced by frames and has `shape` and `dtype`.

    Args:
        path: a .npy or .npz file, or a zarr folder, told by what is in it.
        name: of the array in an npz file or a zarr group; "" where there is one.
        asked: by whom.

    Raises:
        RefusedError: nothing there, not one of the formats, damaged, or no such array.
    """
    try:
        there, folder = path.exists(), path.is_dir()
    except OSError as error:  # a folder above it is closed, a name is too long
        raise RefusedError(f"{asked.key}: {path} cannot be read ({error.strerror}); make it readable") from error
    if not there:
        raise RefusedError(
            f"{asked.key}: {path} does not exist; {asked.expected}; set {asked.key} to the path of your recording"
        )
    if folder:
        return _zarr(path, name, asked)
    try:
        with open(path, "rb") as file:
            start = file.read(8)
    except OSError as error:
        raise RefusedError(f"{asked.key}: {path} cannot be read ({error.strerror}); make it readable") from error
    if start.startswith(b"\x93NUMPY"):
        if name:
            raise RefusedError(
                f"{asked.name_key}: {path} is a .npy file, which has one array without a name; drop {asked.name_key}"
            )
        return _npy(path, asked)
    if start.startswith(b"PK"):
        return _npz(path, name, asked)
    told = "an empty file" if not start else f"a file that starts with {start!r}"
    raise RefusedError(f"{asked.key}: {path} is {told}; {asked.expected}; {asked.write}")


def _npy(path: Path, asked: Asked) -> Any:
    with open(path, "rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            if version not in HEADERS:
                raise ValueError(f"format version {version}")
            shape, _, dtype = HEADERS[version](file)
        except (ValueError, SyntaxError, tokenize.TokenError) as error:
            told = str(error).splitlines()[0][:200]
            raise RefusedError(
                f"{asked.key}: {path} has a damaged header ({told}); write it again with numpy.save"
            ) from error
        start = file.tell()
    if dtype.hasobject:
        raise RefusedError(f"{asked.key}: {path} holds pickled Python objects, which are never loaded; {asked.numbers}")
    wanted, there = start + int(np.prod(shape, dtype=object)) * dtype.itemsize, path.stat().st_size
    if there < wanted:
        raise RefusedError(
            f"{asked.key}: {path} is cut off: an array of shape {shape} takes {wanted} bytes, found {there}; copy it "
            "again"
        )
    if 0 in shape:
        return np.empty(shape, dtype)  # an empty file cannot be mapped
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _npz(path: Path, name: str, asked: Asked) -> Any:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            chosen = _chosen(path, name, list(arrays.files), asked)
            found = arrays[chosen]
    except RefusedError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        told, advice = str(error).splitlines()[0][:200] if str(error) else type(error).__name__, asked.damaged
        if "pickle" in told:
            told, advice = "it holds pickled Python objects, which are never loaded", asked.numbers
        raise RefusedError(f"{asked.key}: {path} cannot be read as .npz ({told}); {advice}") from error
    except Exception as error:  # zlib and lzma raise their own
        raise RefusedError(
            f"{asked.key}: {path} is damaged ({type(error).__name__}: {error}); copy it again"
        ) from error
    return np.asarray(found)


def _chosen(path: Path, name: str, names: list[str], asked: Asked) -> str:
    key, shown = asked.name_key, ", ".join(names[:NAMES_SHOWN]) or "none"
    if not names:
        raise RefusedError(f"{asked.key}: {path} holds no array; {asked.expected}")
    if not name and len(names) > 1:
        raise RefusedError(f"{key}: {path} holds {len(names)} arrays: {shown}; set {key} to one of them")
    if name and name not in names:
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.4) if asked.nearest else []
        near = f" (the nearest is {close[0]!r})" if close else ""
        raise RefusedError(f"{key}: {path} holds no array {name!r}; there are: {shown}; set {key} to one{near}")
    return name or names[0]


def _zarr(path: Path, name: str, asked: Asked) -> Any:
    if not any((path / file).is_file() for file in ZARR_FILES):
        told = f"a folder and no zarr store (no {' or '.join(ZARR_FILES)})"
        raise RefusedError(f"{asked.key}: {path} is {told}; {asked.expected}")
    try:
        import zarr
    except ImportError as error:
        raise RefusedError(
            f"{asked.key}: {path} is a zarr store and the package zarr is not installed; install it with "
            f"`pip install 'experiment-orchestrator[data]'`, or save the array as {asked.plain}"
        ) from error
    try:
        found = zarr.open(str(path), mode="r")
        if isinstance(found, zarr.Group):
            found = found[_chosen(path, name, sorted(key for key, _ in found.arrays()), asked)]
        elif name:
            raise RefusedError(f"{asked.name_key}: {path} is one zarr array without a name; drop {asked.name_key}")
        np.asarray(found[:1] if found.shape else found[()])  # a codec that is not there is told here
    except RefusedError:
        raise
    except Exception as error:  # zarr and its codecs raise of every kind on a store they cannot read
        told = f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else 'no details'}"
        raise RefusedError(
            f"{asked.key}: {path} cannot be read as zarr format 2 or 3 ({told}); write it again with zarr, or as "
            f"{asked.plain}"
        ) from error
    return found


def is_one_array(path: Path) -> bool:
    """Return whether a path is a .npy file or a single zarr array, which has no name."""
    try:
        if path.is_dir():
            v3 = path / "zarr.json"
            return (path / ".zarray").is_file() or json.loads(v3.read_bytes()).get("node_type") == "array"
        with open(path, "rb") as file:
            return file.read(6) == b"\x93NUMPY"
    except (OSError, ValueError, AttributeError):  # open_array says what is wrong with it
        return False


def lost_chunks(array: Any, name: str) -> list[str]:
    """Return a warning of chunks that a zarr array has no files of: all fill values, or not copied."""
    chunks, there = getattr(array, "nchunks", 0), getattr(array, "nchunks_initialized", 0)
    if there >= chunks:
        return []
    return [f"{chunks - there} of {chunks} chunks of {name or 'the array'} are not in the zarr store and were read as "
            f"{array.fill_value}: copy it again, unless they hold nothing else"]  # fmt: skip


def read_frames(array: Any, where: Path | str, size: int, asked: Asked) -> Iterator[Any]:
    """Yield pieces of at most `size` frames; a damaged piece is refused by name, `where` being file (and array)."""
    for first in range(0, array.shape[0], size):
        try:
            yield np.asarray(array[first : first + size])
        except Exception as error:  # a broken chunk or codec of zarr, a disk
            told = f"{type(error).__name__}: {error}"
            raise RefusedError(
                f"{asked.key}: {where}: frames from {first} on cannot be read ({told[:200]}); copy it again"
            ) from error


def digest(path: Path) -> tuple[str, int]:
    """Return the sha256 and the number of bytes of a file, or of all files of a folder with their names."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    total, size = hashlib.sha256(), 0
    for file in files:
        if file is not path:
            total.update(f"{file.relative_to(path).as_posix()}\0{file.stat().st_size}\0".encode())
        with open(file, "rb") as opened:
            while piece := opened.read(2**20):
                total.update(piece)
                size += len(piece)
    return total.hexdigest(), size
