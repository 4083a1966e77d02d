"""A person's own recording: taken over, trained on and scored without a truth, and refused with a sentence when broken.

The recording is made here by scipy's solver from its own equation, without any code of the simulator.
"""

import hashlib
import json
import shutil
import signal as os_signal
import sys

import numpy as np
import pytest
import torch
import yaml
import zarr
from scipy.integrate import solve_ivp

from orchestrator.formats.analysis_log import parse
from tests.trainers.conftest import write_order
from trainers.__main__ import main
from trainers.data import load_signal
from trainers.errors import RefusedError
from trainers.prepare.build import prepare
from trainers.prepare.own import parts
from trainers.schema import METRICS, NEEDS_TRUTH
from trainers.scoring.metrics import load_truth

N, FRAMES, STEP = 30, 2000, 0.05
TRAINING = {"n_epochs": 2, "n_epochs_init": 1, "data_augmentation_loop": 8, "batch_size": 8, "seed": 1,
            "learning_rate_W_start": 2e-2, "learning_rate_start": 5e-3, "W_init_scale": 0.1}  # fmt: skip


def record():
    """Return a chaotic rate network of 30 neurons as somebody else would record it (frames, neurons)."""
    rng = np.random.default_rng(3)
    weights = 1.8 * rng.normal(size=(N, N)) / np.sqrt(N)
    times = np.arange(FRAMES) * STEP
    found = solve_ivp(lambda _, x: -x + weights @ np.tanh(2 * x), (0, times[-1]), rng.normal(size=N), t_eval=times)
    return found.y.T


@pytest.fixture(scope="module")
def u():
    return record()


def spec_of(folder, file, **simulation):
    stated = {"n_neurons": N, "n_frames": FRAMES, "delta_t": STEP, "activity_file": str(file)} | simulation
    config = {"simulation": {k: v for k, v in stated.items() if v is not None},
              "graph_model": {"hidden_dim": 16, "hidden_dim_update": 16}, "training": TRAINING}  # fmt: skip
    path = folder / "SPEC.yaml"
    path.write_text(yaml.safe_dump(
        {"contract": 1, "system": "signal", "profile": "cpu", "regime": "own", "config": config}))  # fmt: skip
    return path


@pytest.fixture(scope="module")
def own(tmp_path_factory, u):
    folder = tmp_path_factory.mktemp("own")
    np.save(folder / "mouse.npy", u)
    assert main(["prepare", str(spec_of(folder, folder / "mouse.npy")), str(folder / "data")]) == 0
    return folder / "data"


def preflight_of(folder):
    return json.loads((folder / "preflight.json").read_text())


# --- what is made of it ----------------------------------------------------------------------------------------------


def test_a_training_gets_the_first_part_and_answers_do_not_stand_in_its_inputs(own, u):
    assert {p.name for p in (own / "train").iterdir()} == {"u.npy", "dataset.json"}
    assert set(json.loads((own / "train" / "dataset.json").read_text())) == {"n_neurons", "n_frames", "delta_t"}
    data, inputs = load_signal(own / "train", own / "inputs")
    assert np.array_equal(data.u.numpy(), u[:1799].astype(np.float32))
    wanted = np.diff(u[:1800].astype(np.float32).astype(float), axis=0) / STEP
    assert np.allclose(data.du[torch.arange(1799)].numpy(), wanted, atol=1e-4)
    given = np.vstack([inputs.heldout_u, inputs.rollout_u0])
    places = np.array([int(np.flatnonzero((u.astype(np.float32) == row).all(axis=1))[0]) for row in given])
    assert places.min() >= 1800 and np.diff(np.sort(places)).min() >= 2
    assert not set(places[:-1]) & set(range(1800, 1900)) and places[-1] == 1800


def test_the_truth_is_the_held_out_stretch_and_nothing_else(own, u):
    truth = load_truth(own)
    assert not truth.known and truth.n_neurons == N
    assert {p.name for p in (own / "truth").iterdir()} == {
        "heldout_du.npy", "rollout_u.npy", "delta_t.npy", "xnorm.npy", "activity.npy", "activity.json", "source.json"
    }  # fmt: skip
    assert np.array_equal(truth.rollout_u[0], u[1800:1900].astype(np.float32))
    rollout, held = parts(FRAMES)
    assert rollout == range(1800, 1900) and held[0] == 1900 and held[-1] < FRAMES - 1
    assert np.allclose(truth.heldout_du, (u[held + 1] - u[held]) / STEP, atol=1e-4)
    assert truth.xnorm == pytest.approx(1.5 * u[:1800].std(), rel=1e-5)


@pytest.mark.parametrize("n_frames", [300, 301, 5000, 100000])
def test_the_two_held_out_parts_never_overlap(n_frames):
    rollout, held = parts(n_frames)
    assert rollout.start == int(0.9 * n_frames) and len(rollout) >= 15 and len(held) >= 7
    assert rollout.stop <= held[0] and held[-1] + 1 < n_frames and np.diff(held).min() >= 2


def test_the_preflight_says_what_there_is_and_what_there_is_not(own):
    found = preflight_of(own)
    assert found["ok"] and found["truth"] is False and found["oracle"] == {} == found["ceiling"]
    assert "finite, not constant, delta_t 0.05 > 0" in found["guard"]["sentence"] and found["guard"]["ok"]
    assert set(found["absent_metrics"]) == NEEDS_TRUTH["signal"]
    assert not NEEDS_TRUTH["signal"] & (set(found["baselines"]) | set(found["null"]))
    assert found["null"]["one_step_R2"] < 0.1
    assert found["baselines"]["test_R2"] is not None and found["baselines"]["one_step_R2"] < 1
    file = own.parent / "mouse.npy"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert found["source"] == {"file": "mouse.npy", "name": "", "sha256": digest, "bytes": file.stat().st_size}
    assert found["warnings"] == []
    assert found["looked_at"] == {"training_frames": 1799, "guard": 1799, "least_squares": 1799}


def test_poor_recordings_are_warned_about(tmp_path, u):
    poor = np.hstack([u[:400], np.ones((400, 500)), u[:400, :1] + 1e5])
    np.save(tmp_path / "poor.npy", poor)
    prepare(spec_of(tmp_path, tmp_path / "poor.npy", n_neurons=531, n_frames=400), tmp_path / "data")
    told = "\n".join(preflight_of(tmp_path / "data")["warnings"])
    assert "360 training frames for 531 neurons" in told and "500 of 531 neurons never change (from 0: 30, 31," in told
    assert "rounding to float32" in told


# --- trained and scored ----------------------------------------------------------------------------------------------


def test_prepare_train_and_score_by_the_programs(own, tmp_path):
    handler = os_signal.getsignal(os_signal.SIGTERM)
    told = {"n_neurons": N, "n_frames": FRAMES, "delta_t": STEP, "connectivity_filling_factor": 1.0}
    run_dir = write_order(tmp_path / "run", own, told, **TRAINING)
    try:
        assert main(["train", str(run_dir)]) == 0
    finally:
        torch.use_deterministic_algorithms(False)
        os_signal.signal(os_signal.SIGTERM, handler)
    assert main(["check", str(run_dir), "--data", str(own)]) == 0
    assert main(["score", str(run_dir), "--data", str(own)]) == 0
    result = json.loads((run_dir / "result.json").read_text())
    there = set(METRICS["signal"]) - NEEDS_TRUTH["signal"]
    for name in NEEDS_TRUTH["signal"]:
        assert result["metrics"][name] == {"value": None, "reason": "no truth: your own data", "version": 1}
    for name in there:
        assert result["metrics"][name]["value"] is not None, name
    assert result["metrics"]["one_step_R2"]["value"] > 0.8 > preflight_of(own)["null"]["one_step_R2"]
    log = (run_dir / "analysis.log").read_text()
    assert "connectivity_R2: n/a (no truth: your own data)\n" in log and parse(log)
    assert {"plots/kinograph.png", "plots/loss.png", "plots/activity.png"} <= set(result["plots"])
    assert not [p for p in result["plots"] if "comparison" in p or "eigenvalues" in p or "support" in p]
    assert [p for p in result["plots"] if p.startswith("plots/matrix/matrix_")]


# --- forms of a file -------------------------------------------------------------------------------------------------


def save_zarr(path, u, name="", **form):
    if name:
        group = zarr.open_group(path, mode="a", **form)
        group.create_array(name, shape=u.shape, dtype=u.dtype, chunks=(700, 30))[:] = u
    else:
        zarr.create_array(path, shape=u.shape, dtype=u.dtype, chunks=(700, 30), **form)[:] = u


FORMS = {
    "fortran.npy": lambda p, u: np.save(p, np.asfortranarray(u)),
    "one.npz": lambda p, u: np.savez(p, u=u),
    "packed.npz": lambda p, u: np.savez_compressed(p, rate=u, other=u[:5]),
    "v3.zarr": lambda p, u: save_zarr(p, u),
    "v2.zarr": lambda p, u: save_zarr(p, u, zarr_format=2),
    "group.zarr": lambda p, u: [save_zarr(p, u, "rate"), save_zarr(p, u[:9], "speed")],
}


@pytest.mark.parametrize("form", list(FORMS))
def test_every_form_of_a_file_gives_the_same_data(form, own, u, tmp_path):
    FORMS[form](tmp_path / form, u)
    name = "rate" if form in ("packed.npz", "group.zarr") else ""
    prepare(spec_of(tmp_path, tmp_path / form, activity_name=name), tmp_path / "data")
    for file in ("train/u.npy", "inputs/heldout_u.npy", "truth/heldout_du.npy", "truth/activity.json"):
        assert (tmp_path / "data" / file).read_bytes() == (own / file).read_bytes(), file


def test_integers_are_numbers(tmp_path, u):
    np.save(tmp_path / "counts.npy", np.round(u * 100).astype(np.int16))
    prepare(spec_of(tmp_path, tmp_path / "counts.npy"), tmp_path / "data")
    assert np.array_equal(np.load(tmp_path / "data" / "train" / "u.npy"), np.round(u[:1800] * 100).astype(np.float32))


# --- broken files ----------------------------------------------------------------------------------------------------


def spoiled(u, frame, neuron, value):
    u = u.copy()
    u[frame, neuron] = value
    return u


def cut(path, u, keep=0.6):
    np.save(path, u)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


def broken_zarr(path, u):
    save_zarr(path, u)
    meta = json.loads((path / "zarr.json").read_text())
    (path / "zarr.json").write_text(json.dumps(meta | {"zarr_format": 9}))


def lost_chunk(path, u):
    save_zarr(path, u)
    (path / "c" / "1" / "0").write_bytes(b"not a chunk")


BROKEN = {
    "missing": ("x.npy", lambda p, u: None, "does not exist; expected numbers of shape"),
    "a folder": ("x", lambda p, u: p.mkdir(), "is a folder and no zarr store"),
    "a text file": ("x.npy", lambda p, u: p.write_text("1, 2, 3"), "is a file that starts with b'1, 2, 3'"),
    "an empty file": ("x.npy", lambda p, u: p.touch(), "is an empty file; expected"),
    "pickled objects": ("x.npy", lambda p, u: np.save(p, np.array([{}, None], object)), "pickled Python objects"),
    "pickled in npz": ("x.npz", lambda p, u: np.savez(p, u=np.array([{}], object)), "pickled Python objects"),
    "one axis": ("x.npy", lambda p, u: np.save(p, u[0]), r"shape \(30,\); expected two axes \(frames, neurons\)"),
    "three axes": ("x.npy", lambda p, u: np.save(p, u[None]), r"shape \(1, 2000, 30\); expected two axes"),
    "transposed": ("x.npy", lambda p, u: np.save(p, u.T), r"neurons by frames; .*save its transpose, numpy.save"),
    "NaN": ("x.npy", lambda p, u: np.save(p, spoiled(u, 1500, 7, np.nan)), "frame 1500, neuron 7 is nan"),
    "infinite": ("x.npy", lambda p, u: np.save(p, spoiled(u, 1999, 0, -np.inf)), "frame 1999, neuron 0 is -inf"),
    "too large": ("x.npy", lambda p, u: np.save(p, spoiled(u, 3, 4, 1e300)), r"frame 3, neuron 4 is 1e\+300"),
    "complex": ("x.npy", lambda p, u: np.save(p, u + 0j), "dtype complex128; expected real numbers"),
    "words": ("x.npy", lambda p, u: np.save(p, np.full((2000, 30), "a")), "dtype <U1; expected real numbers"),
    "no frames": ("x.npy", lambda p, u: np.save(p, u[:0]), r"is empty, shape \(0, 30\)"),
    "other n_frames": ("x.npy", lambda p, u: np.save(p, u[:1900]), r"\(2000, 30\).*set simulation.n_frames: 1900"),
    "other n_neurons": ("x.npy", lambda p, u: np.save(p, u[:, :9]), "set simulation.n_neurons: 9, or name"),
    "constant": ("x.npy", lambda p, u: np.save(p, 0 * u + 3), "no neuron changes over the frames"),
    "several arrays": ("x.npz", lambda p, u: np.savez(p, a=u, b=u), "holds 2 arrays: a, b; set simulation.activity_n"),
    "no arrays": ("x.npz", lambda p, u: np.savez(p), "holds no array"),
    "truncated": ("x.npy", cut, r"is cut off: an array of shape \(2000, 30\) takes 480128 bytes, found 288076"),
    "cut in its header": ("x.npy", lambda p, u: cut(p, u, 1e-4), "damaged header"),
    "truncated npz": ("x.npz", lambda p, u: [np.savez(p, u=u), p.write_bytes(p.read_bytes()[:9000])], "as .npz"),
    "a torn npz": ("x.npz", lambda p, u: [np.savez(p, u=u), tear(p)], "cannot be read as .npz|is damaged"),
    "zarr of another format": ("x.zarr", broken_zarr, "cannot be read as zarr format 2 or 3"),
    "a zarr group of several": ("x.zarr", FORMS["group.zarr"], "holds 2 arrays: rate, speed; set"),
    "a damaged chunk": ("x.zarr", lost_chunk, "frames from .* on cannot be read|cannot be read as zarr"),
}


def tear(path):
    data = bytearray(path.read_bytes())
    data[4000:4100] = bytes(100)
    path.write_bytes(data)


@pytest.mark.parametrize("kind", list(BROKEN))
def test_a_broken_file_is_refused_with_what_to_do_and_leaves_nothing(kind, u, tmp_path, capsys):
    name, make, sentence = BROKEN[kind]
    file = tmp_path / name
    make(file, u)
    before = {*tmp_path.iterdir(), tmp_path / "SPEC.yaml"}
    assert main(["prepare", str(spec_of(tmp_path, file)), str(tmp_path / "data")]) == 13
    assert {*tmp_path.iterdir()} - before == {tmp_path / "data.lock"}
    told = capsys.readouterr().err
    assert told.startswith("prepare: simulation.activity_") and told.count("\n") == 1
    with pytest.raises(RefusedError, match=sentence):
        prepare(spec_of(tmp_path, file), tmp_path / "data")


WRONG = {
    "a name that is not there": ({"activity_name": "b"}, "no array 'b'; there are: a; set simulation.activity_name"),
    "no delta_t": ({"delta_t": None}, "simulation.activity_file is set and simulation.delta_t is not"),
    "too few frames": ({"n_frames": 100}, "has 100 frames; expected at least 300"),
    "noise": ({"noise_model_level": 0.1}, "act on simulations; drop them here"),
    "a name without a file": ({"activity_file": "", "activity_name": "a"}, "activity_file, which is not set"),
}


@pytest.mark.parametrize("kind", list(WRONG))
def test_a_config_that_does_not_fit_is_refused(kind, u, tmp_path):
    keys, sentence = WRONG[kind]
    np.savez(tmp_path / "x.npz", a=u[: keys.get("n_frames", FRAMES)])
    with pytest.raises(RefusedError, match=sentence):
        prepare(spec_of(tmp_path, tmp_path / "x.npz", **keys), tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_name_for_a_file_that_has_one_array_is_refused(u, tmp_path):
    np.save(tmp_path / "x.npy", u)
    with pytest.raises(RefusedError, match="has one array without a name; drop simulation.activity_name"):
        prepare(spec_of(tmp_path, tmp_path / "x.npy", activity_name="a"), tmp_path / "data")


def test_zarr_that_is_not_installed_is_told(u, tmp_path, monkeypatch):
    save_zarr(tmp_path / "x.zarr", u)
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(RefusedError, match=r"package zarr is not installed; install it with `pip install"):
        prepare(spec_of(tmp_path, tmp_path / "x.zarr"), tmp_path / "data")


def test_a_damaged_regime_is_not_taken_for_a_recording(regime, tmp_path):
    """Only truth/source.json says that there is no truth: a W that was lost is an error, not an absent metric."""
    data = shutil.copytree(regime, tmp_path / "data")
    (data / "truth" / "W.npy").unlink()
    with pytest.raises(OSError, match=r"W\.npy"):
        load_truth(data)
