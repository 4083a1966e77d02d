"""People's own recordings through prepare, train and score: an .npz and a zarr file that another program wrote."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.trainers.moving import write_order, write_spec
from trainers.__main__ import main

WRITER = """
import sys
import numpy as np
folder = sys.argv[1]
rng = np.random.default_rng(0)
frames, points = 90, 50
t = np.linspace(0, 1, frames)[:, None]
x = np.empty((frames, points, 2)); x[0] = rng.uniform(0, 3, (points, 2))
def flow(x, t):
    return np.stack([np.sin(2 * np.pi * (x[..., 1] / 3 + t)), np.cos(2 * np.pi * x[..., 0] / 3)], axis=-1)
for k in range(1, frames):
    x[k] = x[k - 1] + 0.05 * flow(x[k - 1], t[k - 1])
x = np.mod(x, 3.0)
v = flow(x, t)
F = np.empty((frames, points, 2, 2)); F[..., 0, :] = v; F[..., 1, :] = x[..., ::-1] ** 2
np.savez(folder + "/own.npz", X=x, vel=v, F=F, L=np.array([3.0]))
import zarr
group = zarr.open_group(folder + "/own.zarr", mode="w")
for name, array in (("X", x), ("vel", v), ("F", F), ("L", np.array([3.0]))):
    group.create_array(name, data=array)
"""
STATED = {"simulation__n_cells": 50, "simulation__n_frames": 90, "simulation__dimension": 2,
          "simulation__delta_t": 0.05, "simulation__box": [3.0], "simulation__positions_name": "X",
          "simulation__box_name": "L"}  # fmt: skip


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    subprocess.run([sys.executable, "-c", WRITER, str(folder)], check=True)
    return folder


def through(tmp_path, own, file, told=None, **keys):
    """Prepare, train and score; return preflight, metrics and the run folder."""
    told = STATED | {"simulation__points_file": str(own / file)} | (told or {})
    spec = write_spec(tmp_path / "SPEC.yaml", **told, **keys)
    assert main(["prepare", str(spec), str(tmp_path / "data")]) == 0
    run = write_order(tmp_path / "run", tmp_path / "data", **told, **keys)
    assert str(own) not in (run / "run.yaml").read_text()
    assert main(["train", str(run)]) == 0
    assert main(["score", str(run), "--data", str(tmp_path / "data")]) == 0
    preflight = json.loads((tmp_path / "data" / "preflight.json").read_text())
    assert preflight["ok"], preflight["reason"]
    metrics = {k: v["value"] for k, v in json.loads((run / "result.json").read_text())["metrics"].items()}
    return preflight, metrics, run


LONG = {"inr_total_steps": 500, "inr_learning_rate": 2e-3, "hidden_dim_inr": 32, "omega_inr": 5.0}


def test_npz_and_zarr_are_learned_alike(tmp_path, own):
    found = []
    for file in ("own.npz", "own.zarr"):
        (tmp_path / file).mkdir()
        found.append(through(tmp_path / file, own, file, **LONG))
    (one, metrics, _), (other, again, _) = found
    assert metrics["heldout_cells_r2"] > 0.95 and metrics["beyond_baselines"] > 0
    assert {k: v for k, v in metrics.items() if "time" not in k} == {k: v for k, v in again.items() if "time" not in k}
    assert one["fingerprint"] == other["fingerprint"] and one["source"]["file"] == "own.npz"
    assert one["activity"]["n_frames"] == 89  # one velocity fewer than positions
    assert one["truth"] is True and any("estimate" in w for w in one["warnings"])


def test_another_field_is_a_matter_of_config(tmp_path, own):
    for name, components in (("vel", 2), ("F", 4)):
        (tmp_path / name).mkdir()
        told = {"simulation__field_name": name}
        called = "velocity" if name == "vel" else name
        preflight, metrics, run = through(tmp_path / name, own, "own.npz", told, inr_field_name=called, **LONG)
        assert preflight["activity"]["n_components"] == components and preflight["activity"]["n_frames"] == 90
        assert metrics["heldout_cells_r2"] > 0.9
        assert f"field_name: {called}" in (run / "results.log").read_text()


def test_a_recording_without_a_box(tmp_path, own):
    told = {"simulation__box": [], "simulation__box_name": "", "simulation__field_name": "vel"}
    preflight, metrics, _ = through(tmp_path, own, "own.npz", told, inr_field_name="vel", **LONG)
    assert metrics["heldout_cells_r2"] > 0.9 and preflight["activity"]["spacing"] is None
    positions = np.load(tmp_path / "data" / "train" / "positions.npy")
    assert positions.min() >= 0 and positions.max() <= 1


def test_a_broken_file_ends_preparation_with_its_sentence_and_leaves_nothing(tmp_path, own, capsys):
    spec = write_spec(tmp_path / "SPEC.yaml", **STATED | {"simulation__n_cells": 51},
                      simulation__points_file=str(own / "own.npz"))  # fmt: skip
    assert main(["prepare", str(spec), str(tmp_path / "data")]) == 13
    assert "set simulation.n_cells: 50" in capsys.readouterr().err and not (tmp_path / "data").exists()


def test_a_field_of_four_components_is_no_velocity_and_a_large_one_is_told(tmp_path, own, capsys):
    told = STATED | {"simulation__points_file": str(own / "own.npz"), "simulation__field_name": "F"}
    spec = write_spec(tmp_path / "SPEC.yaml", **told)
    assert main(["prepare", str(spec), str(tmp_path / "data")]) == 0
    run = write_order(tmp_path / "run", tmp_path / "data", **told)
    assert main(["train", str(run)]) == 13
    assert "the data have the field F, found 'velocity'" in capsys.readouterr().err
    with np.load(own / "own.npz") as arrays:
        np.savez(tmp_path / "large.npz", X=arrays["X"], L=arrays["L"], v=1e4 * arrays["vel"])
    told |= {"simulation__points_file": str(tmp_path / "large.npz"), "simulation__field_name": "v"}
    for name, whiten in (("plain", False), ("whitened", True)):
        spec = write_spec(tmp_path / f"{name}.yaml", **told, inr_whiten=whiten)
        assert main(["prepare", str(spec), str(tmp_path / name)]) == 0
        warnings = json.loads((tmp_path / name / "preflight.json").read_text())["warnings"]
        assert any("set inr.inr_whiten: true" in w for w in warnings) != whiten


def test_a_field_that_is_constant_where_it_is_withheld_is_refused_in_a_sentence(tmp_path, capsys):
    field = np.zeros((60, 10, 1))
    field[:15] = np.random.default_rng(0).standard_normal((15, 10, 1))
    x = np.random.default_rng(1).uniform(0, 3, (60, 10, 2))
    np.savez(tmp_path / "dead.npz", positions=x, c=field)
    told = {"simulation__points_file": str(tmp_path / "dead.npz"), "simulation__n_cells": 10,
            "simulation__n_frames": 60, "simulation__dimension": 2, "simulation__delta_t": 1.0,
            "simulation__box": [3.0], "simulation__field_name": "c"}  # fmt: skip
    spec = write_spec(tmp_path / "SPEC.yaml", **told, inr_field_name="c")
    assert main(["prepare", str(spec), str(tmp_path / "data")]) == 0
    found = json.loads((tmp_path / "data" / "preflight.json").read_text())
    assert not found["ok"] and "scores None on heldout_" in found["reason"]
