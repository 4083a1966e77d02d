"""Read a person's recording of moving points: their positions, and a field that they carry or their velocity.

The file is `simulation.points_file`: an .npz file or a zarr group, whose arrays are named by `positions_name`,
`field_name` and `box_name`; a .npy file or a single zarr array are positions alone. Every cell is in every frame.
`n_frames` counts the frames of the file, so there is one velocity fewer. Nothing is unpickled.

What is not noticed: cells that change places in the array from one frame to the next, cells at a made-up place while
they are not there, two axes that are swapped where they are equally long, and a delta_t in another unit.

Axis letters: T frames, N cells, D dimensions, C components.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainers.errors import RefusedError
from trainers.prepare.cells import minimum_image
from trainers.prepare.readers import Asked, digest, is_one_array, lost_chunks, open_array, read_frames
from trainers.prepare.simulator import CHUNK
from trainers.sections import describe
from trainers.settings_inr import Points

Array = NDArray[np.float64]
Field = NDArray[np.float32]
KEY = "simulation.points_file"
AXES = ("n_frames", "n_cells", "dimension")
STATED = ("n_cells", "n_frames", "dimension", "delta_t", "box")
"""What a config must say about a recording, so that a file of another shape or unit is noticed."""
EXTENT_WARN = 1 / 50
"""Part of the box that positions span, below which the box may be in another unit."""
JUMP = 1 / 4
"""Part of a side: a longer step between two frames may as well be one the other way round the box."""
JUMPS_WARN = 0.01
"""Part of all steps that may be jumps before it is told."""
GAP_WARN = 0.5
"""Part of the cells that jump at once where frames are missing."""
ROUNDING_WARN = 1e-2
"""Part of a velocity that the rounding of stored positions may be before it is told."""
CONSTANT = 4.0
"""Steps of float32 within which a component is constant."""
NUMBERS = "numpy.savez(path, {name}=numpy.asarray(x, dtype='float64'))"


class Tracks(NamedTuple):
    """A recording as it was read."""

    positions: Array
    """(T, N, D), unit of length; in [0, box) where the box is periodic, else as stored."""
    field: Field
    """(T, N, C): the named array, whose further axes are flattened, or the velocity (length/time)."""
    box: Array | None
    """Sides (D,), unit of length; None is no periodic box."""
    source: dict[str, Any]
    """file, names of its arrays ("" where there is one without a name), sha256, bytes."""
    warnings: list[str]


def read_tracks(simulation: Points) -> Tracks:
    """Return the recording that a config names; its frames are n_frames, or one fewer with velocities.

    A velocity is (x[t+1] - x[t]) / delta_t, by minimum image in a periodic box. Memory: float64 positions, a float32
    field, and an array as an .npz file stores it.

    Raises:
        RefusedError: the config does not describe the file, or the file is not what was expected; nothing is written.
    """
    s, path = simulation, Path(simulation.points_file)
    missing = [f"simulation.{name}" for name in STATED if name not in s.model_fields_set]
    if missing:
        told = " and ".join(missing)
        raise RefusedError(
            f"{KEY} is set and {told} {'is' if len(missing) == 1 else 'are'} not; state what the file holds"
        )
    box = np.broadcast_to(np.array(s.box), s.dimension).copy() if s.box else None
    array, where, asked = _open(path, s, "positions_name")
    _check_positions(tuple(array.shape), where, s)
    x = _numbers(array, where, asked, np.float64)
    _check_finite(x, array, where)
    _check_box(path, s, box)
    rounding, warnings = _rounding(np.dtype(array.dtype), x), lost_chunks(array, s.positions_name)
    del array  # of an .npz file it is in memory
    warnings += _place(x, box, where)
    if s.field_name:
        field, lost = _named_field(path, s)
        warnings += lost
    else:
        field, jumps = _velocity(x, box, s.delta_t, where)
        warnings += _velocity_warnings(field, jumps, rounding / s.delta_t)
        x = x[:-1]
    warnings += _constant(field, s, f"{path}, array {s.field_name!r}" if s.field_name else where)
    sha, size = digest(path)
    names = {key: "" if is_one_array(path) else getattr(s, f"{key}_name") for key in ("positions", "field", "box")}
    source = {"file": path.name, "names": names, "sha256": sha, "bytes": size}
    return Tracks(x, field, box, source, warnings)


def _open(path: Path, s: Points, name_key: str) -> tuple[Any, str, Asked]:
    """Return the array that a config key names, where it lies in words, and who asked."""
    name = getattr(s, name_key)
    if name_key == "positions_name" and name == "positions" and is_one_array(path):
        name = ""
    saved = NUMBERS.format(name=name or "positions")
    asked = Asked(
        key=KEY,
        name_key=f"simulation.{name_key}",
        expected="expected an .npz file or a zarr group with positions of shape (frames, cells, dimension)",
        write="write it with numpy.savez(path, positions=x) where x has the shape (frames, cells, dimension)",
        numbers=f"save numbers: {saved}; if it is a list of frames with different cells, the number of cells varies: "
        "keep the cells that are there in all frames, or cut or split the recording",
        damaged=f"copy it again, or write it again with {saved}",
        plain=".npz",
        nearest=True,
    )
    array, where = open_array(path, name, asked), f"{path}, array {name!r}" if name else str(path)
    dtype = np.dtype(array.dtype)
    if dtype.kind == "O":
        raise RefusedError(f"{KEY}: {where} holds Python objects, dtype object; expected real numbers: {asked.numbers}")
    if dtype.kind not in "fiu":
        advice = {"c": "save its real part", "V": "join its fields by numpy.stack"}.get(dtype.kind, "convert it")
        raise RefusedError(
            f"{KEY}: {where} has dtype {dtype}; expected real numbers (float or integer): {advice}, {saved}"
        )
    return array, where, asked


def _numbers(array: Any, where: str, asked: Asked, dtype: Any) -> Any:
    """Return an array of frames as numbers in memory; what is too large becomes infinite."""
    found, first = np.empty(array.shape, dtype), 0
    for piece in read_frames(array, where, CHUNK, asked):
        with np.errstate(over="ignore"):
            found[first : first + len(piece)] = piece
        first += len(piece)
    return found


# --- positions -------------------------------------------------------------------------------------------------------


def _check_positions(shape: tuple[int, ...], where: str, s: Points) -> None:
    stated = tuple(int(getattr(s, name)) for name in AXES)
    wanted = f"({', '.join(AXES)}) = {stated}"
    if len(shape) != 3:
        raise RefusedError(
            f"{KEY}: {where} has shape {shape}; expected three axes {wanted}: {_three_axes(shape, stated)}"
        )
    if 0 in shape:
        raise RefusedError(f"{KEY}: {where} is empty, shape {shape}; expected {wanted}: is it the right array?")
    if shape == stated:
        return
    for order in itertools.permutations(range(3)):
        if tuple(shape[axis] for axis in order) == stated:
            names = ", ".join(AXES[order.index(axis)] for axis in range(3))
            raise RefusedError(
                f"{KEY}: {where} has shape {shape}, which is ({names}); expected {wanted}: save "
                f"numpy.transpose(x, {order})"
            )
    told, beyond = [], []
    for name, found, said in zip(AXES, shape, stated, strict=True):
        limits = describe(Points.model_fields[name])
        if found != said:
            told.append(f"simulation.{name}: {found}")
            if not limits["minimum"] <= found <= limits["maximum"]:
                beyond.append(f"{name} can be {limits['minimum']} to {limits['maximum']}, found {found}")
    advice = f"set {' and '.join(told)}, or name another file or array"
    if beyond:
        advice = f"{' and '.join(beyond)}, so name another file or array"
    if shape[2] != stated[2] and stated[2] in shape[:2]:
        axis = shape.index(stated[2])
        advice += f"; if axis {axis} is that of x, y, ..., save numpy.moveaxis(x, {axis}, 2)"
    if shape[0] != stated[0] and not s.field_name:
        advice += " (n_frames counts the frames of the file, velocities are one fewer)"
    raise RefusedError(f"{KEY}: {where} has shape {shape}; the config states {wanted}: {advice}")


def _three_axes(shape: tuple[int, ...], stated: tuple[int, ...]) -> str:
    """Return what to do about positions that have not three axes."""
    letters = "xyz"[: stated[2]]
    if shape == stated[:2]:
        return f"it may be one coordinate, so save numpy.stack([{', '.join(letters)}], axis=2)"
    if shape == stated[1::-1]:
        transposed = ", ".join(f"{letter}.T" for letter in letters)
        return f"it may be one coordinate with cells first, so save numpy.stack([{transposed}], axis=2)"
    if np.prod(shape, dtype=object) == np.prod(stated, dtype=object):
        return f"it has as many values, so save x.reshape{stated} if they are in that order"
    if len(shape) == 2:
        return "sort a table of points by frame and cell and reshape it, or join coordinates with numpy.stack"
    return "join coordinates with numpy.stack, or save one recording a file"


def _check_finite(x: Array, array: Any, where: str) -> None:
    bad = ~np.isfinite(x)
    if not bad.any():
        return
    gone = np.isnan(x).all(axis=2)
    n_frames, n = gone.shape
    if (gone == bad.any(axis=2)).all():
        frame, cell = np.argwhere(gone)[0]
        there, stay = n - gone.sum(axis=1), int((~gone.any(axis=0)).sum())
        keep = "no cell is there in all frames, so"
        if stay >= describe(Points.model_fields["n_cells"])["minimum"]:
            keep = (
                f"keep the {stay} cells that are there in all frames, x[:, numpy.isfinite(x).all(axis=(0, 2))], and "
                f"set simulation.n_cells: {stay}, or"
            )
        elif stay:
            keep = f"too few cells ({stay}) are there in all frames, so"
        raise RefusedError(
            f"{KEY}: {where}: {gone.sum()} of {n_frames * n} positions are NaN on every axis, the first at frame "
            f"{frame}, cell {cell}: the number of cells varies ({there.min()} to {there.max()} a frame); expected the "
            f"same cells in every frame: {keep} cut or split the recording where cells come and go"
        )
    _refuse_values(bad, array, where, "float64")


def _refuse_values(bad: Any, array: Any, where: str, dtype: str) -> None:
    """Refuse values (T, N, ...) of an array of frames, the first of which is told by its place."""
    first = np.argwhere(bad)[0]
    frame, cell, *further = (int(i) for i in first)
    value = np.asarray(array[frame]).reshape(bad.shape[1:])[tuple(first[1:])]
    component = f", {'axis' if dtype == 'float64' else 'component'} {further[0]}" if further else ""
    raise RefusedError(
        f"{KEY}: {where}: {bad.sum()} of {bad.size} values are not finite in {dtype}, the first is {value} at frame "
        f"{frame}, cell {cell}{component}; expected finite numbers: leave out such cells or frames, or fill the gaps "
        "(and say so where you report results)"
    )


def _rounding(dtype: Any, x: Array) -> float:
    """Return how far two positions (T, N, D) of a dtype can be apart where they are stored as the same, a length."""
    if dtype.kind != "f":
        return 1.0
    return float(np.finfo(dtype).eps) * max(-float(x.min()), float(x.max()))


def _place(x: Array, box: Array | None, where: str) -> list[str]:
    """Wrap positions (T, N, D) in place; return warnings of where they lie."""
    low, high = x.min(axis=(0, 1)), x.max(axis=(0, 1))
    if box is None:
        flat = np.flatnonzero(low == high)
        if len(flat):
            fewer = "save the other two axes and set simulation.dimension: 2" if x.shape[2] - len(flat) == 2 else ""
            raise RefusedError(
                f"{KEY}: {where}: axis {flat[0]} is {low[flat[0]]:g} at every frame and cell; expected positions that "
                f"vary, they are scaled by their extent (simulation.box is []): {fewer or 'is it the right array?'}"
            )
        return []
    found = []
    narrow = np.flatnonzero(high - low < EXTENT_WARN * box)
    if len(narrow):
        told = " and ".join(f"{high[k] - low[k]:.3g} of {box[k]:g} on axis {k}" for k in narrow)
        found.append(f"positions span {told}, less than 1/{1 / EXTENT_WARN:.0f} of the box: is simulation.box in the "
                     "unit of the positions?")  # fmt: skip
    outside = int(((x < 0) | (x >= box)).any(axis=2).sum())
    if outside:
        found.append(f"{outside} of {x.shape[0] * x.shape[1]} positions lie outside [0, box) (they go from "
                     f"{low.min():.4g} to {high.max():.4g}): they were wrapped into it")  # fmt: skip
        np.mod(x, box, out=x)
        x[x >= box] = 0.0  # a negative number next to 0 is rounded to the side
    return found


# --- the box, the field ----------------------------------------------------------------------------------------------


def _check_box(path: Path, s: Points, box: Array | None) -> None:
    if not s.box_name:
        return
    array, where, _ = _open(path, s, "box_name")
    shape = tuple(array.shape)
    if shape not in ((), (1,), (s.dimension,)):
        raise RefusedError(
            f"{KEY}: {where} has shape {shape}; expected one side, or one an axis ({s.dimension},): save such an "
            "array where the box is the same in all frames, or drop simulation.box_name"
        )
    sides = np.asarray(array[...], dtype=np.float64).reshape(-1)
    told = [float(f"{side:.8g}") for side in sides]
    if not (np.isfinite(sides) & (sides > 0)).all():
        raise RefusedError(
            f"{KEY}: {where} holds the sides {told}; expected positive lengths: correct it, or drop simulation.box_name"
        )
    if box is None:
        raise RefusedError(
            f"{KEY}: {where} holds the sides {told} and simulation.box is [], no periodic box: set simulation.box: "
            f"{told}, or drop simulation.box_name"
        )
    eps = float(np.finfo(array.dtype).eps) if np.dtype(array.dtype).kind == "f" else 0.0
    if not np.allclose(sides, box, rtol=max(1e-6, eps), atol=0.0):
        raise RefusedError(
            f"{KEY}: {where} holds the sides {told}; the config states simulation.box: {s.box}: set simulation.box: "
            f"{told}, or correct the file"
        )


def _named_field(path: Path, s: Points) -> tuple[Field, list[str]]:
    """Return the array of the field as (T, N, C), and warnings."""
    array, where, asked = _open(path, s, "field_name")
    shape, wanted = tuple(array.shape), (s.n_frames, s.n_cells)
    if shape[:2] != wanted or 0 in shape:
        advice = "name another array, or save the values of the same frames and cells"
        if shape[:2] == wanted[::-1]:
            advice = "save numpy.swapaxes(x, 0, 1)"
        elif len(shape) == 3 and shape[1:] == wanted:
            advice = "save numpy.moveaxis(x, 0, 2)"
        elif shape[:2] == (wanted[0] - 1, wanted[1]):
            advice = "it has one frame fewer, so cut the positions to the frames that it has, or drop " \
                     "simulation.field_name for velocities by differences"  # fmt: skip
        raise RefusedError(
            f"{KEY}: {where} has shape {shape}; expected (frames, cells, ...) as the positions have, "
            f"({s.n_frames}, {s.n_cells}, ...): {advice}"
        )
    field: Field = _numbers(array, where, asked, np.float32).reshape(*wanted, -1)
    bad = ~np.isfinite(field)
    if bad.any():
        _refuse_values(bad, array, where, "float32")
    return field, lost_chunks(array, s.field_name)


def _velocity(x: Array, box: Array | None, delta_t: float, where: str) -> tuple[Field, NDArray[np.int64]]:
    """Return velocities (T - 1, N, D) of positions (T, N, D), and how many cells jump at each step (T - 1,)."""
    found = np.empty((len(x) - 1, *x.shape[1:]), np.float32)
    jumps = np.zeros(len(found), np.int64)
    for first in range(0, len(found), CHUNK):
        with np.errstate(over="ignore"):
            step = np.diff(x[first : first + CHUNK + 1], axis=0)
            if box is not None:
                step = minimum_image(step, box)
                jumps[first : first + len(step)] = (np.abs(step) > JUMP * box).any(axis=2).sum(axis=1)
            found[first : first + len(step)] = step / delta_t
    if not np.isfinite(found).all():
        frame, cell, _ = np.argwhere(~np.isfinite(found))[0]
        raise RefusedError(
            f"{KEY}: {where}: the velocity of frame {frame}, cell {cell} is too large for float32; expected smaller "
            f"steps over simulation.delta_t {delta_t:g}: are both in the right unit?"
        )
    return found, jumps


def _velocity_warnings(velocity: Field, jumps: NDArray[np.int64], rounding: float) -> list[str]:
    found = []
    n_steps, n = velocity.shape[:2]
    if jumps.sum() > JUMPS_WARN * n_steps * n or jumps.max() > GAP_WARN * n:
        worst = int(jumps.argmax())
        found.append(f"{jumps.sum()} of {n_steps * n} steps are longer than a quarter of the box (most, {jumps[worst]} "
                     f"of {n} cells, from frame {worst} to {worst + 1}), so velocities by differences are ambiguous: "
                     "is simulation.box or delta_t wrong, or are frames missing?")  # fmt: skip
    size = float(np.sqrt(velocity.var(axis=(0, 1), dtype=np.float64).sum()))
    if rounding > ROUNDING_WARN * size:
        found.append(f"velocities vary by {size:.2g} and the rounding of the stored positions alone makes up to "
                     f"{rounding:.1g} of it: save positions with more digits (float64), or name a field")  # fmt: skip
    return found


def _constant(field: Field, s: Points, where: str) -> list[str]:
    """Return a warning of components (T, N, C) that are constant; refuse a field without any other."""
    low, high = (edge.astype(np.float64) for edge in (field.min(axis=(0, 1)), field.max(axis=(0, 1))))
    still = np.flatnonzero(high - low <= CONSTANT * np.finfo(np.float32).eps * np.maximum(abs(low), abs(high)))
    named = f"field {s.field_name!r}" if s.field_name else "velocity"
    if len(still) == len(low):
        value = [float(f"{v:.4g}") for v in low]
        raise RefusedError(
            f"{KEY}: {where}: the {named} is {value if len(value) > 1 else value[0]} at every frame and cell; expected "
            "one that varies, there is nothing to learn: is it the right array?"
        )
    if len(still):
        shown = ", ".join(map(str, still[:10])) + (", ..." if len(still) > 10 else "")
        return [f"{len(still)} of {len(low)} components of the {named} are constant (from 0: {shown}): nothing can be "
                "learned from them"]  # fmt: skip
    return []
