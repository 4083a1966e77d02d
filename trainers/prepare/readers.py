"""Open a person's recording, an array of frames by neurons: .npy, .npz, or a zarr array or group.

Nothing is unpickled. Every refusal says what was expected, what was found, and what to do. A .npy or zarr
array is read piece by piece; an .npz array is unpacked in memory.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from trainers.errors import RefusedError

KEY, NAME_KEY = "simulation.activity_file", "simulation.activity_name"
EXPECTED = "expected numbers of shape (frames, neurons) in a .npy file, an .npz file or a zarr array"
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
ZARR_FILES = ("zarr.json", ".zarray", ".zgroup")
NAMES_SHOWN = 20


def open_array(path: Path, name: str) -> Any:
    """Return an array that can be sliced by frames and has `shape` and `dtype`.

    Args:
        path: a .npy or .npz file, or a zarr folder, told by what is in it.
        name: of the array in an npz file or a zarr group; "" where there is one.

    Raises:
        RefusedError: nothing there, not one of the formats, damaged, or no such array.
    """
    if not path.exists():
        raise RefusedError(f"{KEY}: {path} does not exist; {EXPECTED}; set {KEY} to the path of your recording")
    if path.is_dir():
        return _zarr(path, name)
    try:
        with open(path, "rb") as file:
            start = file.read(8)
    except OSError as error:
        raise RefusedError(f"{KEY}: {path} cannot be read ({error.strerror}); make it readable") from error
    if start.startswith(b"\x93NUMPY"):
        if name:
            raise RefusedError(
                f"{NAME_KEY}: {path} is a .npy file, which has one array without a name; drop {NAME_KEY}"
            )
        return _npy(path)
    if start.startswith(b"PK"):
        return _npz(path, name)
    told = "an empty file" if not start else f"a file that starts with {start!r}"
    raise RefusedError(
        f"{KEY}: {path} is {told}; {EXPECTED}; write it with numpy.save(path, u) where u has one row a frame"
    )


def _npy(path: Path) -> Any:
    with open(path, "rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            if version not in HEADERS:
                raise ValueError(f"format version {version}")
            shape, _, dtype = HEADERS[version](file)
        except (ValueError, SyntaxError, UnicodeDecodeError) as error:
            told = str(error).splitlines()[0][:200]
            raise RefusedError(
                f"{KEY}: {path} has a damaged header ({told}); write it again with numpy.save"
            ) from error
        start = file.tell()
    if dtype.hasobject:
        raise RefusedError(f"{KEY}: {path} holds pickled Python objects, which are never loaded; {_saved_as_numbers()}")
    wanted, there = start + int(np.prod(shape, dtype=object)) * dtype.itemsize, path.stat().st_size
    if there < wanted:
        raise RefusedError(
            f"{KEY}: {path} is cut off: an array of shape {shape} takes {wanted} bytes, found {there}; copy it again"
        )
    if 0 in shape:
        return np.empty(shape, dtype)  # an empty file cannot be mapped
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _saved_as_numbers() -> str:
    return "save numbers: numpy.save(path, numpy.asarray(u, dtype='float32'))"


def _npz(path: Path, name: str) -> Any:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            chosen = _chosen(path, name, list(arrays.files))
            found = arrays[chosen]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        told = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        if "pickle" in told:
            told = "it holds pickled Python objects, which are never loaded"
        raise RefusedError(f"{KEY}: {path} cannot be read as .npz ({told}); {_saved_as_numbers()}") from error
    except Exception as error:  # zlib and lzma raise their own
        raise RefusedError(f"{KEY}: {path} is damaged ({type(error).__name__}: {error}); copy it again") from error
    return np.asarray(found)


def _chosen(path: Path, name: str, names: list[str]) -> str:
    shown = ", ".join(names[:NAMES_SHOWN]) or "none"
    if not names:
        raise RefusedError(f"{KEY}: {path} holds no array; {EXPECTED}")
    if not name and len(names) > 1:
        raise RefusedError(f"{NAME_KEY}: {path} holds {len(names)} arrays: {shown}; set {NAME_KEY} to one of them")
    if name and name not in names:
        raise RefusedError(f"{NAME_KEY}: {path} holds no array {name!r}; there are: {shown}; set {NAME_KEY} to one")
    return name or names[0]


def _zarr(path: Path, name: str) -> Any:
    if not any((path / file).is_file() for file in ZARR_FILES):
        raise RefusedError(f"{KEY}: {path} is a folder and no zarr store (no {' or '.join(ZARR_FILES)}); {EXPECTED}")
    try:
        import zarr
    except ImportError as error:
        raise RefusedError(
            f"{KEY}: {path} is a zarr store and the package zarr is not installed; install it with "
            "`pip install 'experiment-orchestrator[data]'`, or save the array as .npy"
        ) from error
    try:
        found = zarr.open(str(path), mode="r")
        if isinstance(found, zarr.Group):
            found = found[_chosen(path, name, sorted(key for key, _ in found.arrays()))]
        elif name:
            raise RefusedError(f"{NAME_KEY}: {path} is one zarr array without a name; drop {NAME_KEY}")
        np.asarray(found[:1])  # a codec that is not there is told here
    except RefusedError:
        raise
    except Exception as error:  # zarr and its codecs raise of every kind on a store they cannot read
        told = f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else 'no details'}"
        raise RefusedError(
            f"{KEY}: {path} cannot be read as zarr format 2 or 3 ({told}); write it again with zarr, or as .npy"
        ) from error
    return found


def read_frames(array: Any, path: Path, size: int) -> Iterator[Any]:
    """Yield pieces of at most `size` frames; a damaged piece is refused by name."""
    for first in range(0, array.shape[0], size):
        try:
            yield np.asarray(array[first : first + size])
        except Exception as error:  # a broken chunk or codec of zarr, a disk
            told = f"{type(error).__name__}: {error}"
            raise RefusedError(
                f"{KEY}: {path}: frames from {first} on cannot be read ({told[:200]}); copy it again"
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
