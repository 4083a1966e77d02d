"""A person's recording of moving points is read as it was written, or refused with what was found and what to do.

The recordings are written here, without any code of the simulation: cells that drift and swing, folded into their box.
"""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
import zarr

from trainers.errors import RefusedError
from trainers.prepare.tracks import read_tracks
from trainers.settings_inr import Points

T, N, STEP = 60, 12, 0.05
SIDES = {2: [2.0, 3.0], 3: [2.0, 3.0, 1.5]}

SCRIPT = """
import json, sys
import numpy
spec = json.loads(sys.argv[1])
data = dict(numpy.load(spec["from"]))
if spec["to"].endswith(".npz"):
    numpy.savez_compressed(spec["to"], **data)
else:
    import zarr
    group = zarr.open_group(spec["to"], mode="w", zarr_format=spec["format"])
    for name, values in data.items():
        chunks = tuple(max(1, -(-n // 3)) for n in values.shape)
        group.create_array(name, shape=values.shape, dtype=values.dtype, chunks=chunks)[...] = values
"""
"""How somebody else writes a file: it knows of nothing but numpy and zarr."""


def unfolded(dimension, n_frames=T):
    """Return paths (T, N, D) that go round the box, before they are folded into it."""
    rng = np.random.default_rng(7)
    times = STEP * np.arange(n_frames)[:, None, None]
    start = rng.uniform(0, 1, (N, dimension)) * SIDES[dimension]
    drift, phase = rng.normal(0, 1.5, (N, dimension)), rng.uniform(0, 6, (N, dimension))
    return start + drift * times + 0.2 * np.sin(2 * times + phase)


def folded(dimension, n_frames=T):
    return unfolded(dimension, n_frames) % SIDES[dimension]


def write(path, zarr_format=3, **arrays):
    """Write arrays to an .npz file or a zarr group from a process of its own."""
    kept = path.with_name(path.name + ".given.npz")
    np.savez(kept, **arrays)
    spec = json.dumps({"from": str(kept), "to": str(path), "format": zarr_format})
    subprocess.run([sys.executable, "-c", SCRIPT, spec], check=True)
    kept.unlink()
    return path


def points(path, dimension=2, **keys):
    """Return the section `simulation` of a config that describes a recording; None leaves a key out."""
    stated = {"points_file": str(path), "n_frames": T, "n_cells": N, "dimension": dimension, "delta_t": STEP,
              "box": SIDES[dimension]} | keys  # fmt: skip
    return Points(**{name: value for name, value in stated.items() if value is not None})


def field_of(x, *components):
    return np.sin(x[..., :1].reshape(*x.shape[:2], *[1] * len(components)) + np.arange(np.prod(components)).reshape(
        components))  # fmt: skip


# --- what is read ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dimension", [2, 3])
def test_velocities_go_across_the_boundary(dimension, tmp_path):
    x = folded(dimension)
    wanted = np.diff(unfolded(dimension), axis=0) / STEP
    assert (np.abs(np.diff(x, axis=0) / STEP - wanted) > 1).any(axis=2).sum() > 20  # many do cross it
    found = read_tracks(points(write(tmp_path / "x.npz", positions=x), dimension))
    assert found.positions.shape == found.field.shape == (T - 1, N, dimension)
    assert found.positions.dtype == np.float64 and found.field.dtype == np.float32 and found.warnings == []
    assert np.array_equal(found.positions, x[:-1]) and np.array_equal(found.box, SIDES[dimension])
    assert np.allclose(found.field, wanted, atol=1e-5)


@pytest.mark.parametrize("dimension", [2, 3])
def test_npz_and_both_formats_of_zarr_are_read_alike(dimension, tmp_path):
    x = folded(dimension)
    arrays = {"where": x, "stress": field_of(x, 2, 2), "L": np.array(SIDES[dimension], np.float32)}
    keys = {"positions_name": "where", "field_name": "stress", "box_name": "L"}
    found = [read_tracks(points(write(tmp_path / name, form, **arrays), dimension, **keys))
             for name, form in (("x.npz", 0), ("v2.zarr", 2), ("v3.zarr", 3))]  # fmt: skip
    assert (tmp_path / "v2.zarr" / ".zgroup").is_file() and (tmp_path / "v3.zarr" / "zarr.json").is_file()
    for tracks in found:
        assert np.array_equal(tracks.positions, x) and tracks.warnings == []
        assert tracks.field.shape == (T, N, 4) and tracks.field.dtype == np.float32
        assert np.array_equal(tracks.field, arrays["stress"].reshape(T, N, 4).astype(np.float32))
    assert [tracks.source["file"] for tracks in found] == ["x.npz", "v2.zarr", "v3.zarr"]
    raw = (tmp_path / "x.npz").read_bytes()
    assert found[0].source == {
        "file": "x.npz", "names": {"positions": "where", "field": "stress", "box": "L"}, "bytes": len(raw),
        "sha256": hashlib.sha256(raw).hexdigest(),
    }  # fmt: skip


@pytest.mark.parametrize("form", ["x.npz", "x.zarr"])
def test_velocities_of_npz_and_zarr_are_the_same(form, tmp_path):
    x = folded(3)
    found = read_tracks(points(write(tmp_path / form, 2, positions=x), 3))
    assert np.allclose(found.field, np.diff(unfolded(3), axis=0) / STEP, atol=1e-5)


def save_one(path, x, form):
    if form == "npy":
        np.save(path, x)
    else:
        zarr.create_array(path, shape=x.shape, dtype=x.dtype, chunks=(25, *x.shape[1:]), zarr_format=int(form))[:] = x


@pytest.mark.parametrize("form", ["npy", "2", "3"])
@pytest.mark.parametrize("name", [None, "positions", ""])
def test_a_single_array_is_positions_alone(form, name, tmp_path):
    path = tmp_path / "x.npy"
    save_one(path, folded(2), form)
    found = read_tracks(points(path, positions_name=name))
    assert np.array_equal(found.positions, folded(2)[:-1])
    assert found.source["names"] == {"positions": "", "field": "", "box": ""}


def test_a_scalar_field_has_one_component(tmp_path):
    x = folded(2)
    found = read_tracks(points(write(tmp_path / "x.npz", positions=x, ca=x[..., 0]), field_name="ca"))
    assert found.field.shape == (T, N, 1) and found.positions.shape == (T, N, 2)
    assert np.array_equal(found.field[..., 0], x[..., 0].astype(np.float32))


@pytest.mark.parametrize("form", ["x.npz", "x.zarr"])
def test_half_floats_are_read_and_their_rounding_is_told(form, tmp_path):
    x = folded(2).astype(np.float16)
    path = write(tmp_path / form, positions=x, field=field_of(x, 3).astype(np.float16))
    found = read_tracks(points(path, field_name="field"))
    assert np.array_equal(found.positions, x) and found.field.shape == (T, N, 3) and found.warnings == []
    (told,) = read_tracks(points(path)).warnings
    assert "velocities vary by" in told and "rounding of the stored positions" in told and "float64" in told


def test_whole_numbers_are_positions(tmp_path):
    x = np.round(folded(2) * 10000).astype(np.int32) % [20000, 30000]
    found = read_tracks(points(write(tmp_path / "x.npz", positions=x), box=[20000.0, 30000.0]))
    assert np.array_equal(found.positions, x[:-1]) and found.warnings == []
    assert np.allclose(found.field, np.diff(unfolded(2), axis=0) / STEP * 10000, atol=1.1 / STEP)


def test_without_a_box_positions_stay_as_they_are(tmp_path):
    x = unfolded(2)
    found = read_tracks(points(write(tmp_path / "x.npz", positions=x), box=[]))
    assert found.box is None and found.warnings == [] and np.array_equal(found.positions, x[:-1])
    assert np.allclose(found.field, np.diff(x, axis=0) / STEP, atol=1e-5)


def test_one_side_is_that_of_all_axes_and_duplicates_are_fine(tmp_path):
    x = unfolded(3) % 2.1
    x[:, 1] = x[:, 0]
    found = read_tracks(
        points(write(tmp_path / "x.npz", positions=x, box=np.float16(2.1)), 3, box=[2.1], box_name="box")
    )
    assert np.array_equal(found.box, [2.1, 2.1, 2.1]) and found.warnings == []


# --- what is told and not refused ------------------------------------------------------------------------------------


def test_unfolded_positions_are_wrapped_and_counted(tmp_path):
    x, sides = unfolded(2), SIDES[2]
    x[0, 0] = -1e-20  # its remainder is rounded to the side itself
    found = read_tracks(points(write(tmp_path / "x.npz", positions=x, f=field_of(x, 1)), field_name="f"))
    assert ((found.positions >= 0) & (found.positions < sides)).all()
    apart = (found.positions - x) / sides
    assert np.allclose(apart, np.round(apart), atol=1e-12)
    outside = ((x < 0) | (x >= sides)).any(axis=2).sum()
    (told,) = found.warnings
    assert told.startswith(f"{outside} of 720 positions lie outside [0, box) (they go from {x.min():.4g} to")


def test_a_box_in_another_unit_is_told(tmp_path):
    path = write(tmp_path / "x.npz", positions=folded(2))
    (told,) = read_tracks(points(path, box=[2000.0, 3000.0])).warnings
    assert told.startswith(
        "positions span 1.99 of 2000 on axis 0 and 2.99 of 3000 on axis 1, less than 1/50 of the box"
    )
    told = "\n".join(read_tracks(points(path, box=[0.1])).warnings)
    assert "lie outside [0, box)" in told and "steps are longer than a quarter of the box" in told


def test_jumps_and_missing_frames_are_told(tmp_path):
    x, y = folded(2), folded(2, T + 30)
    gap = np.concatenate([y[:20], y[50:]])
    (told,) = read_tracks(points(write(tmp_path / "gap.npz", positions=gap))).warnings
    assert "from frame 19 to 20" in told and "are ambiguous: is simulation.box or delta_t wrong" in told
    swapped = x.copy()
    swapped[::2] = swapped[::2, ::-1]
    (told,) = read_tracks(points(write(tmp_path / "swapped.npz", positions=swapped))).warnings
    assert "of 708 steps are longer than a quarter of the box" in told and "frames missing" in told


@pytest.mark.parametrize("form, file", [(2, "0.0.0"), (3, "c/0/0/0")])
def test_chunks_that_were_not_copied_are_told(form, file, tmp_path):
    x = folded(2)
    path = write(tmp_path / "x.zarr", form, positions=x, f=field_of(x, 2))
    assert read_tracks(points(path, field_name="f")).warnings == []
    (path / "f" / file).unlink()
    (told,) = read_tracks(points(path, field_name="f")).warnings
    assert "1 of 18 chunks of f are not in the zarr store and were read as 0.0: copy it again" in told
    (path / "positions" / file).unlink()
    assert "1 of 18 chunks of positions are not in the zarr store" in read_tracks(points(path)).warnings[0]


def test_a_constant_component_is_told(tmp_path):
    x = folded(2)
    f = field_of(x, 3)
    f[..., 1] = 4.0
    (told,) = read_tracks(points(write(tmp_path / "x.npz", positions=x, f=f), field_name="f")).warnings
    assert told.startswith("1 of 3 components of the field 'f' are constant (from 0: 1)")


# --- what is refused -------------------------------------------------------------------------------------------------


def with_value(x, place, value):
    x = np.array(x, float)
    x[place] = value
    return x


def ragged(path, x):
    frames = np.empty(T, object)
    frames[:] = [frame[: N - t % 2] for t, frame in enumerate(x)]
    np.savez(path, positions=frames)


def come_and_go(x):
    x = x.copy()
    x[20:, 3] = np.nan
    x[:5, 8] = np.nan
    return x


def cut(path, x, part):
    np.savez(path, positions=x)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])


def tear(path, x):
    np.savez_compressed(path, positions=x)
    data = bytearray(path.read_bytes())
    data[4000:4100] = bytes(100)
    path.write_bytes(data)


def lost_chunk(path, x):
    save_one(path, x, "3")
    (path / "c" / "1" / "0" / "0").write_bytes(b"not a chunk")


def objects(path, x):
    group = zarr.open_group(path, mode="w", zarr_format=2)
    group.create_array("positions", shape=(T, N, 2), dtype="<U4")[:] = "a"


def keep(**arrays):
    """Return a writer of an .npz file of arrays, each of which is made from the positions."""
    return lambda path, x: np.savez(path, **{name: make(x) for name, make in arrays.items()})


def positions(make):
    return keep(positions=make)


def npy(make):
    def save(path, x):
        with open(path, "wb") as file:  # numpy.save would add .npy to the name
            np.save(file, make(x))

    return save


def same(x):
    return x


def npy_with_a_torn_header(path, x):
    npy(same)(path, x)
    path.write_bytes(path.read_bytes().replace(b"}", b" ", 1))


SHAPE = "(n_frames, n_cells, dimension) = (60, 12, 2)"
BROKEN = {
    "missing": (lambda p, x: None, {}, ["x.npz does not exist", "expected an .npz file or a zarr group", "set simula"]),
    "a text file": (lambda p, x: p.write_text("1,2,3"), {}, ["a file that starts with b'1,2,3'", "numpy.savez(path"]),
    "an empty file": (lambda p, x: p.touch(), {}, ["is an empty file", "numpy.savez(path, positions=x)"]),
    "a folder": (lambda p, x: p.mkdir(), {}, ["is a folder and no zarr store", "expected an .npz file or a zarr"]),
    "no arrays": (lambda p, x: np.savez(p), {}, ["holds no array", "expected an .npz file"]),
    "truncated": (lambda p, x: cut(p, x, 0.7), {}, [
        "cannot be read as .npz (File is not a zip file)", "copy it again",
    ]),
    "torn": (tear, {}, ["x.npz", "copy it again"]),
    "a damaged chunk": (lost_chunk, {}, ["frames from 0 on cannot be read", "copy it again"]),
    "pickled": (positions(lambda x: np.array([{}], object)), {}, ["pickled Python objects", "numpy.savez(path, posit"]),
    "pickled npy": (npy(lambda x: np.array([{}], object)), {}, ["pickled Python objects"]),
    "a torn header": (npy_with_a_torn_header, {}, ["x.npz has a damaged header", "write it again with numpy.save"]),
    "ragged": (ragged, {}, ["pickled", "number of cells varies", "all frames, or cut or split the recording"]),
    "another name": (keep(position=same, ca=same), {}, [
        "holds no array 'positions'; there are: position, ca",
        "set simulation.positions_name to one (the nearest is 'position')",
    ]),
    "several arrays": (keep(a=same, b=same), {"positions_name": ""}, ["holds 2 arrays: a, b; set simulation.posi"]),
    "another field": (keep(positions=same, velocity=same), {"field_name": "Velocities"}, [
        "simulation.field_name: ", "no array 'Velocities'", "the nearest is 'velocity'",
    ]),
    "a field of a npy": (npy(same), {"field_name": "ca"}, ["one array without a name; drop simulation.field_name"]),
    "a name in a npy": (npy(same), {"positions_name": "x"}, ["array without a name; drop simulation.positions_name"]),
    "one coordinate": (keep(positions=lambda x: x[..., 0], y=same), {}, [
        "array 'positions' has shape (60, 12); expected three axes", SHAPE, "numpy.stack([x, y], axis=2)",
    ]),
    "one, cells first": (positions(lambda x: x[..., 0].T), {}, ["shape (12, 60)", "numpy.stack([x.T, y.T], axis=2)"]),
    "flat": (positions(lambda x: x.reshape(T, -1)), {}, ["shape (60, 24)", "save x.reshape(60, 12, 2)"]),
    "a table": (positions(lambda x: np.ones((99, 4))), {}, [
        "shape (99, 4)", "sort a table of points by frame and cell",
    ]),
    "four axes": (positions(lambda x: np.stack([x, x])), {}, ["shape (2, 60, 12, 2)", SHAPE, "numpy.stack"]),
    "cells first": (positions(lambda x: x.swapaxes(0, 1)), {}, [
        "shape (12, 60, 2), which is (n_cells, n_frames, dimension)", SHAPE, "numpy.transpose(x, (1, 0, 2))",
    ]),
    "axes first": (positions(lambda x: np.moveaxis(x, 2, 0)), {}, [
        "shape (2, 60, 12), which is (dimension, n_frames, n_cells)", "numpy.transpose(x, (1, 2, 0))",
    ]),
    "axes backwards": (positions(lambda x: x.T), {}, ["numpy.transpose(x, (2, 1, 0))"]),
    "no frames": (positions(lambda x: x[:0]), {}, ["is empty, shape (0, 12, 2)", "is it the right array"]),
    "other sizes": (positions(lambda x: x[:55, :11]), {}, [
        "shape (55, 11, 2)", f"the config states {SHAPE}", "set simulation.n_frames: 55 and simulation.n_cells: 11",
        "n_frames counts the frames of the file, velocities are one fewer",
    ]),
    "other dimension": (positions(lambda x: np.dstack([x, x[..., :1]])), {}, ["set simulation.dimension: 3, or name"]),
    "too few cells": (positions(lambda x: x[:, :4]), {}, [
        "n_cells can be 10 to 1000000, found 4", "name another file",
    ]),
    "axes first and longer": (positions(lambda x: np.moveaxis(np.vstack([x, x]), 2, 0)), {}, [
        "numpy.moveaxis(x, 0, 2)",
    ]),
    "NaN": (positions(lambda x: with_value(x, (41, 7, 1), np.nan)), {}, [
        "'positions': 1 of 1440 values are not finite in float64, the first is nan at frame 41, cell 7, axis 1",
        "leave out such cells or frames, or fill the gaps",
    ]),
    "infinite": (positions(lambda x: with_value(x, (slice(50, 52), 0), -np.inf)), {}, [
        "4 of 1440", "the first is -inf at frame 50, cell 0, axis 0",
    ]),
    "cells come and go": (positions(come_and_go), {}, [
        "45 of 720 positions are NaN on every axis, the first at frame 0, cell 8",
        "the number of cells varies (11 to 12 a frame)", "keep the 10 cells that are there in all frames",
        "set simulation.n_cells: 10, or cut or split",
    ]),
    "frames without cells": (positions(lambda x: with_value(x, slice(9, 11), np.nan)), {}, [
        "(0 to 12 a frame)", "no cell is there in all frames, so cut or split the recording",
    ]),
    "complex": (positions(lambda x: x + 0j), {}, ["dtype complex128; expected real numbers", "save its real part"]),
    "words": (positions(lambda x: x.astype(str)), {}, [
        "dtype <U32; expected real numbers", "convert it, numpy.savez(",
    ]),
    "words of zarr": (objects, {}, ["array 'positions' has dtype <U4", "expected real numbers"]),
    "records": (positions(lambda x: np.zeros((T, N), "f4,f4")), {}, ["dtype [('f0', '<f4')", "numpy.stack"]),
    "a field of other frames": (keep(positions=same, v=lambda x: np.diff(x, axis=0)), {"field_name": "v"}, [
        "array 'v' has shape (59, 12, 2); expected (frames, cells, ...)", "as the positions have, (60, 12, ...)",
        "one frame fewer", "drop simulation.field_name",
    ]),
    "a field, cells first": (keep(positions=same, v=lambda x: x.swapaxes(0, 1)), {"field_name": "v"}, [
        "shape (12, 60, 2)", "save numpy.swapaxes(x, 0, 1)",
    ]),
    "a field, components first": (keep(positions=same, v=lambda x: np.moveaxis(x, 2, 0)), {"field_name": "v"}, [
        "shape (2, 60, 12)", "save numpy.moveaxis(x, 0, 2)",
    ]),
    "a field of cells": (keep(positions=same, v=lambda x: x[0, :, 0]), {"field_name": "v"}, [
        "shape (12,)", "the same frames",
    ]),
    "a field of words": (keep(positions=same, v=lambda x: x.astype(str)), {"field_name": "v"}, [
        "array 'v' has dtype <U32",
    ]),
    "a field with NaN": (keep(positions=same, v=lambda x: with_value(x, (3, 4, 1), np.nan)), {"field_name": "v"}, [
        "array 'v': 1 of 1440 values are not finite in float32", "the first is nan at frame 3, cell 4, component 1",
    ]),
    "a field too large": (keep(positions=same, v=lambda x: with_value(x[..., 0], (3, 4), 1e300)), {"field_name": "v"}, [
        "the first is 1e+300 at frame 3, cell 4, component 0",
    ]),
    "a constant field": (keep(positions=same, v=lambda x: 0 * x + 3), {"field_name": "v"}, [
        "array 'v': the field 'v' is [3.0, 3.0] at every frame and cell", "there is nothing to learn",
    ]),
    "still cells": (positions(lambda x: np.repeat(x[:1], T, 0)), {}, ["the velocity is [0.0, 0.0] at every frame"]),
    "a drift": (positions(lambda x: (x[:1] + STEP * np.arange(T)[:, None, None]) % SIDES[2]), {}, [
        "the velocity is [1.0, 1.0]",
    ]),
    "another box": (keep(positions=same, L=lambda x: np.array([2.0, 3.5])), {"box_name": "L"}, [
        "array 'L' holds the sides [2.0, 3.5]; the config states simulation.box: [2.0, 3.0]",
        "set simulation.box: [2.0, 3.5], or correct the file",
    ]),
    "a negative box": (keep(positions=same, L=lambda x: np.array([2.0, -3.0])), {"box_name": "L"}, [
        "array 'L' holds the sides [2.0, -3.0]; expected positive lengths", "drop simulation.box_name",
    ]),
    "a box and none": (keep(positions=same, L=lambda x: np.array(2.0)), {"box_name": "L", "box": []}, [
        "sides [2.0] and simulation.box is []", "set simulation.box: [2.0], or drop simulation.box_name",
    ]),
    "a box a frame": (keep(positions=same, L=lambda x: np.ones((T, 2))), {"box_name": "L"}, [
        "'L' has shape (60, 2)", "one side",
    ]),
    "a plane": (positions(lambda x: np.dstack([x, 0 * x[..., :1]])), {"dimension": 3, "box": []}, [
        "axis 2 is 0 at every frame and cell", "simulation.dimension: 2",
    ]),
    "a wrong delta_t": (positions(same), {"delta_t": 1e-300}, ["too large for float32", "simulation.delta_t 1e-300"]),
    "a config of half": (positions(same), {"delta_t": None, "box": None}, [
        "simulation.points_file is set and simulation.delta_t and simulation.box are not",
        "; state what the file holds",
    ]),
    "no n_cells": (positions(same), {"n_cells": None}, ["simulation.n_cells is not; state what the file holds"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(BROKEN))
def test_what_is_broken_is_refused_with_what_was_found_and_what_to_do(kind, tmp_path):
    make, keys, words = BROKEN[kind]
    make(tmp_path / "x.npz", folded(2))
    with pytest.raises(RefusedError) as refused:
        read_tracks(points(tmp_path / "x.npz", **keys))
    told = str(refused.value)
    assert told.startswith("simulation.") and "\n" not in told and len(told) < 700 and "RefusedError" not in told
    for word in words:
        assert word in told, told
    assert str(tmp_path / "x.npz") in told or "state what the file holds" in told


def test_zarr_that_is_not_installed_is_told(tmp_path, monkeypatch):
    save_one(tmp_path / "x.zarr", folded(2), "3")
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(RefusedError, match=r"package zarr is not installed; install .*, or save the array as \.npz"):
        read_tracks(points(tmp_path / "x.zarr"))


def test_a_path_that_cannot_be_looked_at_is_refused(tmp_path):
    with pytest.raises(RefusedError, match="cannot be read"):
        read_tracks(points(tmp_path / ("x" * 300)))


@pytest.mark.parametrize("form", [2, 3])
def test_a_broken_array_of_a_zarr_group_is_told_by_name(form, tmp_path):
    path = write(tmp_path / "x.zarr", form, positions=with_value(folded(2), (41, 7, 1), np.nan), box=np.array(2.5))
    with pytest.raises(RefusedError, match=r"x\.zarr, array 'positions': 1 of 1440 .* frame 41, cell 7, axis 1"):
        read_tracks(points(path))
    path = write(tmp_path / "y.zarr", form, positions=folded(2), box=np.array(2.5))
    with pytest.raises(RefusedError, match=r"array 'box' holds the sides \[2\.5\]; the config states"):
        read_tracks(points(path, box_name="box"))
    with pytest.raises(RefusedError, match=r"no array 'boxes'; there are: box, positions; .*nearest is 'box'"):
        read_tracks(points(path, box_name="boxes"))


@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.9, 0.99, 0.999])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_every_cut_of_an_npz_file_is_refused(save, part, tmp_path):
    save(tmp_path / "x.npz", positions=folded(2), other=folded(2))
    data = (tmp_path / "x.npz").read_bytes()
    (tmp_path / "x.npz").write_bytes(data[: int(part * len(data))])
    with pytest.raises(RefusedError, match="copy it again"):
        read_tracks(points(tmp_path / "x.npz"))
