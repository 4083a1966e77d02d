"""A stoichiometry training as a whole: its files, determinism, kill and resume, score, and the control."""

import json
import shutil

import numpy as np
import pytest
import torch

from tests.trainers.reacting import STEPS, config, write_order, write_spec
from tests.trainers.test_training import estimate, restore_global_state  # noqa: F401 (a fixture)
from trainers import stoichiometry, trial
from trainers.errors import DivergedError, RefusedError, StoppedError
from trainers.order import read_order
from trainers.prepare.build import prepare
from trainers.run import Run
from trainers.scoring.check import check
from trainers.scoring.score import score

FULL = {"flux_limit": True, "functions_start": 0.4, "gauge_parameter": True, "S_init": "graph_sign",
        "S_init_scale": 1.0, "lr_scheduler": "cosine", "frame_sampling": "log_time", "coeff_S_floor": 0.01,
        "S_floor_share": 0.2, "S_refit_every": 0.2, "coeff_mass_conservation": 0.1,
        "recurrent_training": True, "time_step": 2, "noise_recurrent_level": 0.01}  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("regime")
    prepare(write_spec(folder / "SPEC.yaml"), folder / "data")
    return folder / "data"


@pytest.fixture
def order(tmp_path, data):
    return lambda name="run", **keys: write_order(tmp_path / name, data, **keys)


def train(run_dir, run=None):
    stoichiometry.train(read_order(run_dir), run_dir, run)
    return run_dir / "out"


def test_a_run_leaves_the_files_of_the_contract_and_is_scored(order, data):
    run_dir = order()
    out = train(run_dir)
    assert {p.name for p in out.iterdir()} == {"checkpoint.pt", "estimate.npz", "estimates", "progress.jsonl",
                                               "train.json"}  # fmt: skip
    final = estimate(out)
    edges = len(np.load(data / "truth" / "told_sto.npy"))
    assert {k: v.shape for k, v in final.items()} == {
        "sto": (edges,), "log_k": (6,), "rate_pair": (2500,), "rate_visited": (100, 6), "heldout_dc": (12, 8),
        "rollout_c": (1, 600, 8), "epoch": (), "step": ()}  # fmt: skip
    assert final["step"] == 2 * STEPS and final["epoch"] == 1
    told = json.loads((out / "train.json").read_text())
    assert {"training.coeff_S_L1", "graph_model.flux_limit", "training.n_runs"} <= set(told["keys_read"])
    assert "training.time_step" in told["keys_idle"] and told["final_loss"] > 0
    check(run_dir, data)
    found = score(run_dir, data)
    assert found["metrics"]["stoichiometry_R2"]["value"] is not None
    assert found["metrics"]["support_AUC"]["reason"] == "no decoy edges"
    log = (run_dir / "analysis.log").read_text()
    for line in (
        "graph alone stoichiometry_R2_sign_only",
        "graph alone stoichiometry_R2_mass_balance",
        "ceiling (true rates and mass balance known) stoichiometry_R2",
        "signs: learned",
    ):
        assert line in log
    plots = {p.rpartition("/")[0] for p in found["plots"]}
    assert plots == {"plots", "plots/stoichiometry", "plots/function/substrate_func", "plots/function/rate_func",
                     "plots/rate_constants"}  # fmt: skip


def test_the_same_order_gives_the_same_bits_and_another_seed_does_not(order):
    first, second = estimate(train(order("a", **FULL))), estimate(train(order("b", **FULL)))
    assert all(np.array_equal(first[k], second[k]) for k in first)
    other = estimate(train(order("c", **FULL, seed=8)))
    assert not np.array_equal(first["sto"], other["sto"])


@pytest.mark.parametrize("at", [2, STEPS, STEPS + 3])
@pytest.mark.parametrize("keys", [{}, FULL])
def test_a_stopped_run_continues_bit_for_bit(order, at, keys):
    class StopAt(Run):
        def record(self, stateful, terms, phase, epoch, step):
            self.stop_requested = step == at
            super().record(stateful, terms, phase, epoch, step)

    whole = estimate(train(order("whole", **keys)))
    run_dir = order("stopped", **keys)
    with pytest.raises(StoppedError):
        train(run_dir, StopAt)
    parts = estimate(train(run_dir))
    assert all(np.array_equal(whole[k], parts[k]) for k in whole)


def test_a_trial_agrees_with_itself(order):
    run_dir = order(**FULL)
    trial.try_out(read_order(run_dir), run_dir)
    assert (run_dir / "out" / "estimate.npz").is_file()


def test_a_loss_that_is_not_finite_ends_the_run(data, tmp_path):
    broken = shutil.copytree(data, tmp_path / "data")
    np.save(broken / "train" / "dc.npy", np.full((2, 54, 8), np.inf, np.float32))
    run_dir = write_order(tmp_path / "run", broken)
    with pytest.raises(DivergedError, match=r"became (inf|nan) at epoch 0.*lower the learning rates"):
        train(run_dir)
    assert not (run_dir / "out" / "train.json").exists()


LONGER = {"flux_limit": True, "hidden_dim": 8, "output_size": 4, "n_epochs": 1, "data_augmentation_loop": 800,
            "batch_size": 64, "n_runs": 4, "S_init": "graph_sign", "S_init_scale": 1.0, "constrain_sign": True,
            "log_k_init_center": -1.0, "log_k_init_width": 2.0, "learning_rate_S_start": 0.02, "learning_rate_k": 0.01,
            "loss": "mse", "normalise_dc": "metabolite", "frame_sampling": "log_time", "functions_start": 0.9,
            "lr_scheduler": "cosine", "coeff_mass_conservation": 0.01}  # fmt: skip


def test_a_shuffled_control_learns_nothing(tmp_path):
    """Twelve metabolites are exhausted within frames, too soon to tell S; the real size is the science test's."""
    size = {"n_runs": 4, "n_metabolites": 12, "n_reactions": 10, "n_frames": 100, "shuffled_control": True}
    prepare(write_spec(tmp_path / "SPEC.yaml", config(simulation=size, **LONGER), seed=3), tmp_path / "data")
    run_dir = write_order(tmp_path / "run", tmp_path / "data", simulation=size, **LONGER)
    train(run_dir)
    found = score(run_dir, tmp_path / "data")
    baseline = json.loads((tmp_path / "data" / "preflight.json").read_text())["baselines"]
    assert found["marks"] and "shuffled in time" in found["marks"][0]
    assert found["metrics"]["stoichiometry_R2"]["value"] < baseline["stoichiometry_R2_mass_balance"]
    assert found["metrics"]["one_step_R2"]["value"] < 0.1


def test_refits_come_at_fractions_of_the_training_and_not_for_any_number_of_edges():
    assert stoichiometry.refit_steps(0.25, 0.7, 100, 9) == {25, 50}
    assert stoichiometry.refit_steps(0.1, 0.3, 10, 9) == {1, 2, 3}
    assert stoichiometry.refit_steps(0.0, 0.7, 100, 10**6) == set()
    with pytest.raises(RefusedError, match="expected 0 or at most 20000 edges, found 20001"):
        stoichiometry.refit_steps(0.1, 0.7, 100, 20001)
