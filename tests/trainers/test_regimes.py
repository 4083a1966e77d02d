"""Kinds of connectivity, types, noise and the legacy switch: the data change as stated, and every preflight holds."""

import hashlib
import json
import shutil
import signal as os_signal

import numpy as np
import pytest
import torch
import yaml

from tests.trainers.conftest import write_order, write_spec
from trainers import signal
from trainers.data import load_signal
from trainers.errors import RefusedError
from trainers.idle import idle_keys
from trainers.order import read_order
from trainers.prepare.build import prepare
from trainers.prepare.findings import oracle_fault
from trainers.prepare.guard import guard, step_error
from trainers.prepare.simulator import acting_system, draw_connectivity, draw_system, generators
from trainers.scoring.score import score
from trainers.settings import Simulation, load_yaml, read_config

FOUR = [[1, 0, 10, 1, 1, 0], [1, 0, 10, 2, 1, 0], [2, 0, 10, 1, 1, 0], [2, 0, 10, 2, 1, 0]]
UNLIKE = [[1, 0, 7, 0, 1, 0], [1.5, 0.1, 4, 0.5, 2, 0.3]]
KINDS = {
    "chaotic": {"connectivity_filling_factor": 1.0},
    "low_rank": {"connectivity_type": "low_rank", "connectivity_rank": 4, "connectivity_filling_factor": 1.0},
    "sparse_low_rank": {"connectivity_type": "low_rank", "connectivity_rank": 4},
    "Lorentz": {"connectivity_type": "Lorentz", "params": FOUR[:1]},
    "Dale": {"Dale_law": True, "Dale_law_factor": 0.7},
    "four_types": {"connectivity_type": "Lorentz", "n_neuron_types": 4, "params": FOUR,
                   "connectivity_filling_factor": 1.0},
    "unlike_types": {"n_neuron_types": 2, "params": UNLIKE},
    "noise": {"noise_model_level": 0.3},
    "legacy": {"legacy_sparse_transpose": True},
}  # fmt: skip
SIZE = {"n_neurons": 30, "n_frames": 600}
BEYOND = 2 / np.pi * np.arctan(1 / 25)
"""Part of a standard Cauchy distribution beyond 25, and the median size of the others."""
MEDIAN = np.tan(np.pi / 4 * (1 - BEYOND))
LEGACY = {**SIZE, **KINDS["legacy"]}


def drawn(seed=1, **keys):
    simulation = Simulation(**({"n_neurons": 80} | keys))
    return draw_system(simulation, generators(seed))


def preflight_of(folder):
    return json.loads((folder / "preflight.json").read_text())


@pytest.fixture
def after_training():
    """Undo what a training in this process sets for the whole process."""
    handler = os_signal.getsignal(os_signal.SIGTERM)
    yield
    os_signal.signal(os_signal.SIGTERM, handler)
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module")
def legacy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("legacy")
    prepare(write_spec(folder / "SPEC.yaml", **LEGACY), folder / "data")
    return folder / "data"


# --- what each key does to the data ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 4, 20])
def test_low_rank_has_its_rank_and_the_variance_of_chaotic(rank):
    simulation = Simulation(connectivity_type="low_rank", connectivity_rank=rank, n_neurons=200)
    W = draw_connectivity(simulation, np.random.default_rng(0))
    assert np.linalg.matrix_rank(W) == rank
    assert 200 * W.var() == pytest.approx(1.0, abs=0.3)
    assert not drawn(connectivity_type="low_rank", connectivity_rank=rank).W.diagonal().any()


def test_lorentz_has_heavy_tails_that_are_cut_to_zero():
    scaled = drawn(connectivity_type="Lorentz", n_neurons=200).W * 200**0.7
    off = scaled[~np.eye(200, dtype=bool)]
    assert 15 < np.abs(off).max() <= 25 + 1e-4
    assert np.mean(off == 0.0) == pytest.approx(BEYOND, abs=0.005)
    assert np.median(np.abs(off[off != 0])) == pytest.approx(MEDIAN, abs=0.03)


def test_lorentz_is_divided_by_another_power_in_large_networks():
    def scale(n):
        simulation = Simulation(connectivity_type="Lorentz", n_neurons=n)
        W = draw_connectivity(simulation, np.random.default_rng(0))
        return MEDIAN / np.median(np.abs(W[W != 0]))

    assert scale(1999) == pytest.approx(1999**0.7, rel=0.01)
    assert scale(2000) == pytest.approx(2000**0.675, rel=0.01)


@pytest.mark.parametrize("kind", ["chaotic", "Lorentz"])
def test_dale_gives_every_sender_one_sign(kind):
    free = drawn(connectivity_type=kind, connectivity_filling_factor=0.5).W
    W = drawn(connectivity_type=kind, connectivity_filling_factor=0.5, Dale_law=True, Dale_law_factor=0.7).W
    assert (W[:, :56] >= 0).all() and (W[:, 56:] <= 0).all() and (W < 0).any()
    assert np.array_equal(np.abs(W), np.abs(free))


@pytest.mark.parametrize("kind", ["chaotic", "low_rank", "Lorentz"])
def test_filling_thins_every_kind_alike(kind):
    keys = {"connectivity_type": kind, "connectivity_rank": 5}
    full, half = drawn(**keys).W, drawn(**keys, connectivity_filling_factor=0.5).W
    kept = half != 0
    assert np.array_equal(half[kept], full[kept])
    assert np.count_nonzero(half) / np.count_nonzero(full) == pytest.approx(0.5, abs=0.03)


def test_types_are_equal_blocks_and_each_has_its_row():
    system = drawn(n_neuron_types=4, params=FOUR)
    assert np.array_equal(system.types, np.repeat([0, 1, 2, 3], 20))
    u = np.full(80, 0.5)
    expected = [-a * 0.5 + b + s * np.tanh(0.5) for a, b, _, s, _, _ in FOUR]
    assert np.allclose(system.self_term(u), np.repeat(expected, 20))
    assert np.array_equal(system.W, drawn().W)


def test_noise_moves_the_frames_by_its_size_and_leaves_du_the_drift(tmp_path):
    for name, level in (("still", 0.0), ("noisy", 0.3)):
        prepare(write_spec(tmp_path / f"{name}.yaml", **SIZE, noise_model_level=level), tmp_path / name)
    still, noisy = tmp_path / "still", tmp_path / "noisy"
    assert np.array_equal(np.load(still / "truth" / "W.npy"), np.load(noisy / "truth" / "W.npy"))
    u, du = (np.load(noisy / "train" / f"{n}.npy").astype(float) for n in ("u", "du"))
    left = np.diff(u, axis=0) - 0.01 * du[:-1]
    assert left.std() == pytest.approx(0.3, rel=0.05)
    assert abs(np.mean(left[1:] * left[:-1])) < 0.05 * 0.3**2
    assert preflight_of(noisy)["guard"]["relative_error"] < 1e-6
    assert np.array_equal(np.load(still / "truth" / "rollout_u.npy"), np.load(noisy / "truth" / "rollout_u.npy"))
    assert not guard(noisy)["ok"] and "do not follow" in guard(noisy)["sentence"]
    assert not guard(noisy, noise_level=0.4)["ok"] and guard(noisy, noise_level=0.3)["ok"]
    assert not guard(still, noise_level=0.3)["ok"]


def test_noise_below_the_digits_of_the_frames_is_no_fault():
    rng = np.random.default_rng(0)
    du = rng.normal(0, 3, (300, 20))
    u = np.vstack([np.zeros(20), np.cumsum(0.01 * du + 1e-6 * rng.normal(size=du.shape), axis=0)]).astype(np.float32)
    assert step_error(*np.stack([u[:-1], u[1:]]).astype(float), du, 0.01, 1e-6) < 0.01


# --- preflight of every kind -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(KINDS))
def test_preflight_holds_for_every_kind(kind, tmp_path):
    prepare(write_spec(tmp_path / "SPEC.yaml", **SIZE, **KINDS[kind]), tmp_path / "data")
    found = preflight_of(tmp_path / "data")
    assert found["ok"], found["reason"]
    assert found["guard"]["relative_error"] < 1e-4
    names = ["connectivity_R2", "connectivity_R2_strict"] + ["one_step_R2", "test_R2"] * (kind != "legacy")
    if kind in ("four_types", "unlike_types"):
        names += ["cluster_accuracy", "cluster_accuracy_kmeans"]
        assert found["null"]["cluster_accuracy_kmeans"] <= 0.5
    for name in names:
        assert found["oracle"][name] == pytest.approx(1.0, abs=1e-6)
    assert found["null"]["connectivity_R2"] < 0.05
    assert found["ceiling"]["one_step_R2"] > 0.999
    assert found["baselines"]["connectivity_R2"] is not None
    assert bool(found["marks"]) == (kind == "legacy")
    assert found["warnings"][: len(found["marks"])] == found["marks"]


def test_truth_tells_types_and_training_does_not(tmp_path):
    prepare(write_spec(tmp_path / "SPEC.yaml", **SIZE, **KINDS["four_types"]), tmp_path / "data")
    assert np.array_equal(np.load(tmp_path / "data" / "truth" / "params.npy"), FOUR)
    assert set(np.load(tmp_path / "data" / "truth" / "types.npy")) == {0, 1, 2, 3}
    assert set(json.loads((tmp_path / "data" / "train" / "dataset.json").read_text())) == {
        "n_neurons", "n_frames", "delta_t"}  # fmt: skip


# --- what a config may say -------------------------------------------------------------------------------------------


def test_a_training_is_told_no_params_and_needs_none():
    told = {k: v for k, v in KINDS["four_types"].items() if k != "params"}
    assert read_config("signal", {"simulation": told}).simulation.n_neuron_types == 4


def test_several_types_train_without_params(tmp_path, after_training):
    prepare(write_spec(tmp_path / "SPEC.yaml", **SIZE, **KINDS["four_types"]), tmp_path / "data")
    keys = {**SIZE, **KINDS["four_types"]}
    run_dir = write_order(tmp_path / "run", tmp_path / "data", keys, training_single_type=False)
    body = load_yaml((run_dir / "run.yaml").read_text())
    del body["config"]["simulation"]["params"], body["sha256"]
    text = yaml.safe_dump(body)
    (run_dir / "run.yaml").write_text(text + f"sha256: {hashlib.sha256(text.encode()).hexdigest()}\n")
    signal.train(read_order(run_dir), run_dir)
    assert "simulation.params" not in json.loads((run_dir / "out" / "train.json").read_text())["keys_read"]
    assert len(np.unique(np.load(run_dir / "out" / "estimate.npz")["a"], axis=0)) == 30


def test_data_of_several_types_need_their_params(tmp_path):
    spec = tmp_path / "SPEC.yaml"
    body = {"simulation": {"n_neuron_types": 4}}
    spec.write_text(f"contract: 1\nsystem: signal\nprofile: cpu\nregime: abc\nconfig: {json.dumps(body)}\n")
    with pytest.raises(RefusedError, match=r"expected 4 row\(s\), one a neuron type, found 1"):
        prepare(spec, tmp_path / "data")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"n_neuron_types": 2, "params": FOUR}, r"expected 2 row\(s\)"),
        ({"connectivity_type": "lorentz"}, "Lorentz"),
        ({"connectivity_type": "low_rank", "connectivity_rank": 101}, "at most n_neurons = 100"),
        ({"legacy_sparse_transpose": True}, "changes nothing"),
        ({"Dale_law_factor": 1.5}, "less than or equal to 1"),
        ({"n_neurons": 3, "n_neuron_types": 4}, "at most n_neurons = 3"),
    ],
)
def test_a_simulation_that_cannot_be_is_refused(keys, words):
    with pytest.raises(RefusedError, match=words):
        read_config("signal", {"simulation": keys})


def test_keys_that_cannot_act_are_told():
    idle = idle_keys(read_config("signal", {"simulation": {"connectivity_rank": 20, "Dale_law_factor": 0.3}}))
    assert idle["simulation.connectivity_rank"] == "connectivity_type is chaotic"
    assert idle["simulation.Dale_law_factor"] == "Dale_law is false"
    acting = {"connectivity_type": "low_rank", "connectivity_rank": 20, "Dale_law": True, "Dale_law_factor": 0.3}
    assert not any(k.startswith("simulation.") for k in idle_keys(read_config("signal", {"simulation": acting})))


# --- the legacy switch -----------------------------------------------------------------------------------------------


def test_the_switch_simulates_the_transposed_mask_and_saves_W(legacy):
    W = np.load(legacy / "truth" / "W.npy").astype(float)
    data, _ = load_signal(legacy / "train", legacy / "inputs")
    u, du = data.u.numpy().astype(float), data.du[:].numpy()
    assert np.allclose(du, -u + 7 * np.tanh(u) @ (W * (W != 0).T).T, atol=1e-3)
    assert 0.4 < np.count_nonzero(W) / W.size < 0.6
    system = drawn(connectivity_filling_factor=0.5)
    assert acting_system(system, False) is system
    assert np.array_equal(system.W, drawn(connectivity_filling_factor=0.5, legacy_sparse_transpose=True).W)


def test_the_guard_names_the_defect_when_the_switch_is_not_set(legacy):
    told = guard(legacy)
    assert not told["ok"] and told["relative_error"] > 0.1
    assert "fits W o mask^T, not the saved W: the sparse mask is transposed" in told["sentence"]
    assert "\n" not in told["sentence"] and ". " not in told["sentence"]


def test_the_switch_does_not_excuse_other_data(legacy, regime, tmp_path):
    assert "drop the switch" in guard(regime, legacy_sparse_transpose=True)["sentence"]
    copied = shutil.copytree(legacy, tmp_path / "copy")
    np.save(copied / "truth" / "W.npy", np.load(copied / "truth" / "W.npy")[::-1])
    assert "not made by the saved W" in guard(copied, legacy_sparse_transpose=True)["sentence"]


def test_preflight_of_legacy_data_is_honest(legacy):
    found = preflight_of(legacy)
    (mark,) = found["marks"]
    assert found["guard"]["ok"] and "W o mask^T" in found["guard"]["sentence"]
    assert found["ceiling"]["connectivity_R2"] == pytest.approx(0.5, abs=0.12)
    assert f"least squares: {found['ceiling']['connectivity_R2']:.3f}" in mark and "filling factor 0.5" in mark
    assert found["oracle"]["one_step_R2"] < 0.9 and found["ceiling"]["one_step_R2"] > 0.999
    assert "one_step_R2" in oracle_fault(found["oracle"])


def test_every_result_on_legacy_data_is_marked(legacy, tmp_path, after_training):
    run_dir = write_order(tmp_path / "run", legacy, simulation=LEGACY, data_augmentation_loop=1)
    signal.train(read_order(run_dir), run_dir)
    result = score(run_dir, legacy)
    assert result["marks"] == preflight_of(legacy)["marks"]
    assert f"mark: {result['marks'][0]}" in (run_dir / "analysis.log").read_text().splitlines()
