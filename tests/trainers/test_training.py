import json
import shutil

import numpy as np
import pytest
import torch

from tests.trainers.conftest import SIMULATION, write_order, write_spec
from trainers import signal
from trainers.data import load_signal
from trainers.errors import DivergedError, RefusedError, StoppedError
from trainers.order import read_order
from trainers.prepare.build import prepare
from trainers.run import Run
from trainers.scoring.metrics import load_truth, score_estimate
from trainers.settings import Reader, n_iterations, read_config

TOTAL = 2 * n_iterations(SIMULATION["n_frames"], 6, 8)


@pytest.fixture(autouse=True)
def restore_global_state():
    handler = __import__("signal").getsignal(__import__("signal").SIGTERM)
    yield
    __import__("signal").signal(__import__("signal").SIGTERM, handler)
    torch.use_deterministic_algorithms(False)


def train(run_dir):
    signal.train(read_order(run_dir), run_dir)
    return run_dir / "out"


def estimate(out):
    with np.load(out / "estimate.npz") as arrays:
        return {k: arrays[k] for k in arrays.files}


def lines(out):
    return [json.loads(line) for line in (out / "progress.jsonl").read_text().splitlines()]


class StopAt(Run):
    """A run that gets SIGTERM after a given step."""

    at = TOTAL // 2 + 7

    def record(self, stateful, terms, phase, epoch, step):
        self.stop_requested = step == self.at
        super().record(stateful, terms, phase, epoch, step)


def test_a_run_leaves_the_files_of_the_contract(order):
    out = train(order())
    assert {p.name for p in out.iterdir()} == {"checkpoint.pt", "estimate.npz", "estimates", "progress.jsonl",
                                               "train.json"}  # fmt: skip
    assert len(list((out / "estimates").iterdir())) == 3
    final = estimate(out)
    assert {k: v.shape for k, v in final.items()} == {
        "W": (10, 10), "a": (10, 2), "lin_edge": (10, 201), "lin_phi": (10, 201), "heldout_du": (40, 10),
        "rollout_u": (1, 600, 10), "epoch": (), "step": ()}  # fmt: skip
    assert final["step"] == TOTAL and final["epoch"] == 1 and final["W"].dtype == np.float32
    assert not final["W"].diagonal().any() and (final["a"] == 1).all()
    told = json.loads((out / "train.json").read_text())
    names = {"keys_read", "keys_idle", "final_loss", "training_time_s", "device", "versions", "peak_memory_bytes"}
    assert set(told) == names | {"counts"} and told["counts"] == {}
    assert {"training.batch_size", "training.coeff_edge_diff", "graph_model.hidden_dim"} <= set(told["keys_read"])
    assert "training.learning_rate_embedding_start" in told["keys_idle"]
    assert told["final_loss"] > 0
    last = lines(out)[-1]
    assert set(last) == {"phase", "epoch", "step", "total", "loss", "terms", "elapsed_s"}
    assert last["step"] == last["total"] == TOTAL and last["phase"] == 2
    assert last["loss"] == pytest.approx(sum(last["terms"].values()))


def test_the_same_order_gives_the_same_bits_and_another_seed_does_not(order):
    first, second = estimate(train(order("a"))), estimate(train(order("b")))
    assert all(np.array_equal(first[k], second[k]) for k in first)
    other = estimate(train(order("c", seed=8)))
    assert not np.array_equal(first["W"], other["W"])


def test_a_stopped_run_continues_bit_for_bit(order, monkeypatch):
    whole, run_dir = train(order("whole", training_single_type=False)), order("cut", training_single_type=False)
    with monkeypatch.context() as patch, pytest.raises(StoppedError, match="SIGTERM"):
        patch.setattr(signal, "Run", StopAt)
        train(run_dir)
    assert not (run_dir / "out" / "estimate.npz").exists()
    out = train(run_dir)
    left, right = estimate(whole), estimate(out)
    assert all(np.array_equal(left[k], right[k]) for k in left)
    a, b = (json.loads((o / "train.json").read_text())["final_loss"] for o in (whole, out))
    assert a == b
    assert [p.name for p in sorted((whole / "estimates").iterdir())] == [
        p.name for p in sorted((out / "estimates").iterdir())]  # fmt: skip
    saved = [torch.load(o / "checkpoint.pt", weights_only=True)["states"] for o in (whole, out)]
    assert torch.equal(saved[0]["model"]["W"], saved[1]["model"]["W"])
    assert torch.equal(saved[0]["sampler"], saved[1]["sampler"])


def test_a_checkpoint_of_another_identity_is_put_aside(order, regime, tmp_path, monkeypatch):
    run_dir = order("run")
    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        patch.setattr(signal, "Run", StopAt)
        train(run_dir)
    write_order(run_dir, regime, identity="another")
    out = train(run_dir)
    assert (out / "checkpoint.foreign").exists()
    fresh = estimate(train(order("fresh")))
    assert np.array_equal(estimate(out)["W"], fresh["W"])


@pytest.mark.parametrize("junk", [b"", b"not a checkpoint", b"PK\x03\x04torn"])
def test_a_torn_checkpoint_is_put_aside(order, junk):
    run_dir = order()
    (run_dir / "out").mkdir()
    (run_dir / "out" / "checkpoint.pt").write_bytes(junk)
    out = train(run_dir)
    assert (out / "checkpoint.foreign").read_bytes() == junk
    assert (out / "estimate.npz").exists()


def every_term(order, monkeypatch, **keys):
    """Return (epoch, names of the loss terms) of every step."""
    seen = []
    original = Run.record

    def record(self, stateful, terms, phase, epoch, step):
        seen.append((epoch, phase, frozenset(terms)))
        original(self, stateful, terms, phase, epoch, step)

    monkeypatch.setattr(Run, "record", record)
    train(order(**keys))
    return seen


def test_phases_switch_exactly_at_n_epochs_init(order, monkeypatch):
    seen = every_term(order, monkeypatch, n_epochs=3, n_epochs_init=1, coeff_W_L1=1e-3, first_coeff_L1=0.0)
    for epoch, phase, terms in seen:
        assert phase == (1 if epoch < 1 else 2)
        assert terms == ({"prediction", "edge_diff"} if epoch < 1 else {"prediction", "W_L1"})


def test_first_coeff_l1_acts_in_phase_1(order, monkeypatch):
    seen = every_term(order, monkeypatch, n_epochs=1, n_epochs_init=1, first_coeff_L1=1e-3)
    assert {terms for _, _, terms in seen} == {frozenset({"prediction", "edge_diff", "W_L1"})}


RECURRENT = {"recurrent_training": True, "time_step": 4}


def first_loss(order, monkeypatch, name, **keys):
    """Return the prediction loss of the first step."""
    seen = []

    def note(self, stateful, terms, *rest):
        seen.append(terms["prediction"].item())

    monkeypatch.setattr(Run, "record", note)
    train(order(name, **keys))
    return seen[0]


def test_one_noiseless_recurrent_step_is_the_single_step(order, monkeypatch, regime):
    """Same frames need the same sampling range, so the last training frame is cut off for the single step."""
    recurrent = first_loss(order, monkeypatch, "a", recurrent_training=True, time_step=1)
    original = signal.load_signal

    def shorter(train, inputs):
        data, asked = original(train, inputs)
        return data._replace(u=data.u[:-1], du=data.du[:-1]), asked

    monkeypatch.setattr(signal, "load_signal", shorter)
    assert first_loss(order, monkeypatch, "b") == pytest.approx(recurrent, rel=1e-4)


def test_a_noisy_recurrent_run_continues_bit_for_bit(order, monkeypatch):
    keys = RECURRENT | {"noise_recurrent_level": 0.02, "recurrent_training_start_epoch": 1}
    whole, run_dir = train(order("whole", **keys)), order("cut", **keys)
    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        patch.setattr(signal, "Run", StopAt)
        train(run_dir)
    assert np.array_equal(estimate(train(run_dir))["W"], estimate(whole)["W"])


def test_each_epoch_leaves_a_line_of_its_own_terms(order):
    found = lines(train(order(n_epochs=3)))
    assert [line["step"] for line in found if line["epoch"] == 0][-1] == TOTAL // 2
    assert {line["epoch"] for line in found} == {0, 1, 2}
    assert all(("edge_diff" in line["terms"]) == (line["phase"] == 1) for line in found)


@pytest.mark.parametrize("loss", ["norm", "mse"])
def test_normalised_residuals_leave_the_unit_of_the_final_loss(order, regime, loss):
    """The rates are next to nothing, so both trainings see the same residuals."""
    still = {"learning_rate_W_start": 1e-30, "learning_rate_start": 1e-30, "coeff_edge_diff": 0.0, "coeff_W_L1": 0.0}
    outs = [train(order(f"{n}", normalise_du=n, loss=loss, **still)) for n in (False, True)]
    first, second = (json.loads((out / "train.json").read_text())["final_loss"] for out in outs)
    assert second == pytest.approx(first, rel=1e-4)
    sd = float(load_signal(regime / "train", regime / "inputs")[0].du[:].std())
    plain, divided = (lines(out)[-1]["terms"]["prediction"] for out in outs)
    assert plain == pytest.approx(divided * (sd if loss == "norm" else sd**2), rel=1e-3) and abs(sd - 1) > 0.1


def test_embeddings_train_only_with_several_types(order):
    fast = {"training_single_type": False, "learning_rate_embedding_start": 1e-2}
    assert (estimate(train(order(**fast)))["a"] != 1).any()


def test_a_loss_that_is_not_finite_ends_the_run(order, regime, tmp_path):
    data = shutil.copytree(regime, tmp_path / "data")
    np.save(data / "train" / "du.npy", np.full((360, 10), np.inf, np.float32))
    run_dir = write_order(tmp_path / "run", data)
    with pytest.raises(DivergedError, match=r"became (inf|nan) at epoch 0.*lower the learning rates"):
        train(run_dir)
    assert not (run_dir / "out" / "train.json").exists()


def test_small_steps_take_one_thread():
    config = read_config("signal", {"simulation": {"n_neurons": 100}, "training": {"batch_size": 8}})
    assert signal.useful_threads(2, config) == 1
    large = read_config("signal", {"simulation": {"n_neurons": 1000}, "training": {"batch_size": 32}})
    assert signal.useful_threads(2, large) == 2


def test_a_changed_order_is_refused(order):
    run_dir = order()
    path = run_dir / "run.yaml"
    path.write_text(path.read_text().replace("batch_size: 8", "batch_size: 9"))
    with pytest.raises(RefusedError, match="sha256"):
        read_order(run_dir)


def test_an_unknown_key_or_missing_data_is_refused(order, tmp_path):
    with pytest.raises(RefusedError, match="nearest valid keys: training"):
        read_order(order(learning_rate_w_start=1e-3))
    run_dir = write_order(tmp_path / "nodata", tmp_path / "nowhere")
    with pytest.raises(RefusedError, match="prepare the regime again"):
        train(run_dir)


def test_thirty_neurons_are_recovered(tmp_path):
    """A short recovery: from 0 to above 0.95 in a few seconds."""
    simulation = {"n_neurons": 30, "n_frames": 4000}
    prepare(write_spec(tmp_path / "SPEC.yaml", seed=6, **simulation), tmp_path / "data")
    keys = {"data_augmentation_loop": 20, "learning_rate_W_start": 1e-2, "coeff_W_L1": 1e-2, "coeff_edge_diff": 100.0}
    run_dir = write_order(tmp_path / "run", tmp_path / "data", simulation, **keys)
    order = read_order(run_dir)
    data, inputs = load_signal(order.train, order.inputs)
    model = signal.data_train_signal(Reader(order.config), data, inputs, Run(run_dir))
    arrays = {k: v.detach().numpy() for k, v in signal.estimates(model, inputs).items()}
    found = score_estimate(arrays, load_truth(tmp_path / "data"))
    assert found["connectivity_R2"] > 0.95, found
    assert found["connectivity_R2_strict"] > 0.95, found
