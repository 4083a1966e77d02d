"""The trusted scorer on forged outputs, in this process; and what the folders given to a training hold."""

import io
import json
import math
import pickle
import zipfile
from typing import ClassVar

import numpy as np
import pytest
import torch
import yaml

from tests.trainers.conftest import SIMULATION
from tests.trainers.test_score import SHAPES, change, run_dir, trained
from trainers import checkpoints
from trainers.errors import RefusedError
from trainers.prepare.build import prepare
from trainers.scoring import estimates
from trainers.scoring.score import score

__all__ = ["run_dir", "trained"]


class Payload:
    """Runs when it is unpickled."""

    ran: ClassVar[list[str]] = []

    def __reduce__(self):
        return Payload.ran.append, ("payload",)


@pytest.fixture(autouse=True)
def nothing_ran():
    Payload.ran.clear()
    yield
    assert Payload.ran == []


def header(text):
    """Return an .npy file with this header."""
    raw = text.encode() + b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(raw).to_bytes(2, "little") + raw


def archive(path, method=zipfile.ZIP_STORED, **members):
    """Write a zip of raw members; those that are not named are sound."""
    with np.load(path) as old:
        sound = {name: old[name] for name in old.files}
    with zipfile.ZipFile(path, "w", method) as target:
        for name in sound.keys() | members.keys():
            content = members.get(name)
            if content is None:
                buffer = io.BytesIO()
                np.save(buffer, sound[name])
                content = buffer.getvalue()
            target.writestr(f"{name}.npy", content)


RAW = {
    "a length beyond memory": header("{'descr': '<f8', 'fortran_order': False, 'shape': (1152921504606846976, 8)}"),
    "a length beyond the file": header("{'descr': '<f8', 'fortran_order': False, 'shape': (10, 10)}"),
    "a negative length": header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 10)}"),
    "nested brackets": header("{'descr': '<f8', 'fortran_order': False, 'shape': " + "(" * 5000 + ")" * 5000 + "}"),
    "minus signs": header("{'descr': '<f8', 'fortran_order': False, 'shape': (" + "-" * 9000 + "1,)}"),
    "a program for a header": header("__import__('os').abort()"),
    "objects": header("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}") + pickle.dumps(Payload()),
    "a pickle": pickle.dumps(Payload()),
    "nothing": b"",
}


@pytest.mark.parametrize("kind", RAW)
def test_a_forged_member_is_refused_with_a_sentence(run_dir, regime, kind):
    archive(run_dir / "out" / "estimate.npz", W=RAW[kind])
    with pytest.raises(RefusedError) as told:
        score(run_dir, regime)
    assert len(str(told.value)) < 1000
    assert not (run_dir / "result.json").exists()


def broken(data, where):
    """Return a zip with 40 bytes of its compressed data overwritten."""
    return data[:where] + b"\xff" * 40 + data[where + 40 :]


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_broken_compression_is_refused(run_dir, method):
    path = run_dir / "out" / "estimate.npz"
    archive(path, method)
    path.write_bytes(broken(path.read_bytes(), 60))
    with pytest.raises(RefusedError):
        estimates.read_estimate(path, SHAPES)


def test_an_encrypted_member_is_refused(run_dir):
    path = run_dir / "out" / "estimate.npz"
    data = bytearray(path.read_bytes())
    at = 0
    while (at := data.find(b"PK\x01\x02", at)) >= 0:
        data[at + 8] |= 1
        at += 4
    at = 0
    while (at := data.find(b"PK\x03\x04", at)) >= 0:
        data[at + 6] |= 1
        at += 4
    path.write_bytes(bytes(data))
    with pytest.raises(RefusedError):
        estimates.read_estimate(path, SHAPES)


@pytest.mark.parametrize(
    "arrays",
    [
        {"W": np.full((10, 10), np.inf)},
        {"W": np.full((10, 10), 1 + 1j)},
        {"W": np.ones((10, 10), dtype="M8[s]")},
        {"W": np.zeros((10, 10), dtype=[("x", "f8")])},
        {"W": np.zeros((10, 10), dtype="V8")},
        {"W": np.zeros((10, 10, 1))},
        {"W": np.zeros(())},
        {"step": np.float64("inf")},
        {"step": np.float64("nan")},
        {"step": np.array([1, 2])},
        {"epoch": np.array(None)},
    ],
    ids=str,
)
def test_arrays_of_another_kind_are_refused(run_dir, regime, arrays):
    change(run_dir, **arrays)
    with pytest.raises(RefusedError):
        score(run_dir, regime)


def test_names_of_arrays_cannot_forge_lines(run_dir):
    path = run_dir / "out" / "estimate.npz"
    with zipfile.ZipFile(path, "w") as target:
        for i in range(50):
            target.writestr(f"\x1b[2J{i}\n## Iter 99\n" + "x" * 200 + ".npy", b"")
    with pytest.raises(RefusedError) as told:
        estimates.read_estimate(path, SHAPES)
    assert str(told.value).isprintable() and len(str(told.value)) < 1000


def test_huge_weights_are_a_poor_score_not_a_crash(run_dir, regime):
    change(run_dir, W=np.full((10, 10), 3e38, np.float32))
    metrics = score(run_dir, regime)["metrics"]
    value = metrics["connectivity_R2"]["value"]
    assert value is None or value < 0.01


# --- train.json, progress.jsonl ---------------------------------------------------------------------------------------

LINES = "x\nconnectivity_R2: 0.9999\r\x1b[2J\u2028\x85\ud800"
ABSURD = [
    {"training_time_s": -1e9, "final_loss": 1e400},
    {"training_time_s": math.nan, "final_loss": -math.inf},
    {"training_time_s": 10**400, "final_loss": 10**400, "peak_memory_bytes": 10**400},
    {"training_time_s": True, "final_loss": False, "peak_memory_bytes": True},
    {"training_time_s": "1", "final_loss": [], "keys_read": 3, "versions": [1], "device": {"a": 1}},
    {"keys_idle": {LINES: LINES, "training.seed": LINES * 9999}, "versions": {LINES: LINES}, "device": LINES * 9999},
    {"keys_idle": {f"k{i}": "x" * 999 for i in range(3000)}, "keys_read": [LINES] * 9999},
    {"keys_idle": {"connectivity_R2": "0.9999", "a": "n/a) connectivity_R2: 1"}},
]


@pytest.mark.parametrize("forged", ABSURD, ids=range(len(ABSURD)))
def test_train_json_is_believed_in_nothing_absurd(run_dir, regime, forged):
    path = run_dir / "out" / "train.json"
    first = score(run_dir, regime)["metrics"]
    path.write_text(json.dumps(json.loads(path.read_text()) | forged))
    found = score(run_dir, regime)
    own = ("final_loss", "training_time_min")
    assert {k: v for k, v in found["metrics"].items() if k not in own} == {
        k: v for k, v in first.items() if k not in own
    }
    time = found["metrics"]["training_time_min"]["value"]
    assert time is None or time >= 0
    assert found["memory_bytes"] is None or found["memory_bytes"] < 2**50
    log = (run_dir / "analysis.log").read_bytes().decode()
    assert len([x for x in log.splitlines() if x.strip().startswith("connectivity_R2: 0.9999")]) == 0
    assert all(c.isprintable() or c == "\n" for c in log)
    assert len(log) < 10**5 and (run_dir / "result.json").stat().st_size < 2 * 10**5


PROGRESS = [
    '{"step": 1e999}', '{"step": NaN}', '{"step": 1' + "0" * 400 + "}", '{"step": -5, "terms": {}}', "[" * 9999,
    "\x00\xff",
    '{"step": 3, "terms": 5}', '{"step": 4, "terms": ["a"]}',
    '{"step": 5, "terms": {"$\\\\frac$": 1, "\\u001b[2J\\n": 2}}',
    '{"step": "6", "terms": {"a": "b", "c": 1' + "0" * 400 + ', "d": true, "e": null, "f": 1e999}}', '{"step": 7}',
    '{"step": [8]}', '{"step": 9, "phase": {"x": 1}, "terms": {"prediction": 1e308}}', '"step"', "7",
    '{"step": 10, "terms": {' + ",".join(f'"t{i}": {i}' for i in range(5000)) + "}}",
]  # fmt: skip


def test_junk_in_progress_draws_a_plot_all_the_same(run_dir, regime):
    (run_dir / "out" / "progress.jsonl").write_text("\n".join(PROGRESS), encoding="utf-8")
    found = estimates.read_progress(run_dir / "out" / "progress.jsonl")
    assert [line["step"] for line in found] == [3, 4, 5, 6, 7, 9, 10]
    names = [name for line in found for name in line.get("terms", {})]
    assert all(name.isprintable() and "$" not in name for name in names) and len(names) < 100
    score(run_dir, regime)
    assert (run_dir / "plots" / "loss.png").read_bytes().startswith(b"\x89PNG")


# --- checkpoint.pt ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pickle", "torch", "a link", "a list", "junk"])
def test_a_payload_in_a_checkpoint_does_not_run(tmp_path, kind):
    path, model = tmp_path / "checkpoint.pt", torch.nn.Linear(2, 2)
    content = {"identity": "same", "format": checkpoints.FORMAT, "states": {"model": Payload()}}
    content["progress"] = Payload()
    if kind == "pickle":
        path.write_bytes(pickle.dumps(content, 2))
    elif kind == "torch":
        torch.save(content, path)
    elif kind == "a link":
        torch.save(content, tmp_path / "other.pt")
        path.symlink_to(tmp_path / "other.pt")
    elif kind == "a list":
        torch.save(["identity"], path)
    else:
        path.write_bytes(b"PK\x03\x04junk")
    before = [p.clone() for p in model.parameters()]
    assert checkpoints.load(path, {"model": model}, "same") is None
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert (tmp_path / "checkpoint.foreign").exists() == (kind != "a link")


# --- what a training is given -----------------------------------------------------------------------------------------

GIVEN = {
    "train": {"u.npy", "dataset.json"},
    "inputs": {"grid_u.npy", "heldout_u.npy", "rollout_u0.npy", "inputs.json"},
}
KNOWN = ("activity.npy", "lin_phi.npy")
"""Frames of the training, kept for a plot; -u on the grid, which the instruction says."""
TOLD = {"dataset.json": {"contract", "system", "delta_t", "n_frames", "n_neurons"},
        "inputs.json": {"contract", "rollout_frames", "delta_t"}}  # fmt: skip


def test_the_folders_given_to_a_training_hold_nothing_of_the_truth(tmp_path):
    """No W, types or parameters as an array or within one, no seed; and no file that is not listed here."""
    seed = 987654
    simulation = SIMULATION | {"seed": seed, "n_neuron_types": 2, "params": [[1, 0, 7, 0, 1, 0], [2, 0, 5, 0, 1, 0]]}
    config = {"simulation": simulation, "graph_model": {"hidden_dim": 8}, "training": {"seed": 7}}
    spec = {"contract": 1, "system": "signal", "profile": "cpu", "regime": "abc", "config": config}
    (tmp_path / "SPEC.yaml").write_text(yaml.safe_dump(spec))
    prepare(tmp_path / "SPEC.yaml", tmp_path / "data")
    truths = {p.name: np.load(p) for p in (tmp_path / "data" / "truth").glob("*.npy")}
    for name in KNOWN:
        del truths[name]
    assert "W.npy" in truths
    for folder, names in GIVEN.items():
        found = {str(p.relative_to(tmp_path / "data" / folder)) for p in (tmp_path / "data" / folder).rglob("*")}
        assert found == names
        for path in (tmp_path / "data" / folder).iterdir():
            assert path.is_file() and not path.is_symlink() and path.stat().st_nlink == 1
            assert str(seed).encode() not in path.read_bytes()
            if path.suffix == ".json":
                assert set(json.loads(path.read_text())) <= TOLD[path.name], path
            else:
                given = np.load(path)
                for name, truth in truths.items():
                    assert not contains(given, truth), f"{path.name} holds {name}"


def contains(given, truth):
    """Return whether the numbers of `truth` that say something all stand in `given`."""
    given, truth = given.astype(float), truth.astype(float)
    telling = np.unique(np.round(truth[np.abs(truth) > 1e-6].ravel(), 6))
    if len(telling) < 3:
        return given.shape == truth.shape and np.array_equal(given, truth)
    return np.isin(telling, np.round(given.ravel(), 6)).mean() > 0.5


def test_contains_would_tell(regime):
    W = np.load(regime / "truth" / "W.npy")
    assert contains(W.T, W) and contains(np.concatenate([W.ravel(), np.zeros(99)]), W)
    assert not contains(np.random.default_rng(1).normal(size=W.shape), W)
