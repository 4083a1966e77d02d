"""prepare, train and score of system `homeostasis`, through the real programs."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.trainers.metabolism import STEPS, TRAINING, write_order, write_spec
from trainers.__main__ import main
from trainers.prepare.build import prepare
from trainers.prepare.metabolic_guard import guard
from trainers.scoring.metabolism import embeddings, load_truth, rate_constants, score_estimate

ALLOWED = {"c.npy", "dc.npy", "graph.npz", "dataset.json"}


@pytest.fixture(scope="module")
def regime(tmp_path_factory):
    folder = tmp_path_factory.mktemp("homeostasis")
    prepare(write_spec(folder / "SPEC.yaml"), folder / "data")
    return folder / "data"


@pytest.fixture(scope="module")
def scored(tmp_path_factory, regime):
    run = write_order(tmp_path_factory.mktemp("run") / "run", regime)
    assert main(["train", str(run)]) == 0
    assert main(["score", str(run), "--data", str(regime)]) == 0
    return run


def test_the_preflight_passes_and_says_what_the_data_allow(regime):
    found = json.loads((regime / "preflight.json").read_text())
    assert found["ok"], found["reason"]
    for name in ("rate_constants_R2", "avg_slope_ratio", "embedding_cluster_acc", "joint_score", "one_step_R2"):
        assert found["oracle"][name] == pytest.approx(1.0, abs=1e-6), name
    assert found["ceiling"]["rate_constants_R2_identifiable"] == pytest.approx(1.0, abs=1e-4)
    assert found["null"]["one_step_R2"] < 0.1
    assert found["baselines"]["rate_constants_R2"] is None and found["baselines"]["one_step_R2"] < 0.9
    assert any("without effect" in w and "[9]" in w for w in found["warnings"])
    assert any("not excited" in w for w in found["warnings"])


def test_training_is_given_no_truth(regime):
    assert {p.name for p in (regime / "train").iterdir()} == ALLOWED
    assert {p.name for p in (regime / "inputs").iterdir()} == {
        "grid_c.npy", "grid_sub.npy", "heldout_c.npy", "rollout_c0.npy", "inputs.json"}  # fmt: skip
    with np.load(regime / "train" / "graph.npz") as graph:
        assert set(graph.files) == {"met_sub", "rxn_sub", "met_all", "rxn_all", "order", "sto"}
    truth = load_truth(regime)
    told = np.concatenate([np.load(p).ravel() for p in (regime / "train").glob("*.npy")])
    assert not np.isin(truth.log_k.astype(np.float32), told).any()
    assert len(np.load(regime / "train" / "c.npy")[0]) == 270


def test_the_same_order_gives_the_same_bytes_and_another_seed_another_network(tmp_path, regime):
    for name, seed in (("same", 5), ("other", 6)):
        prepare(write_spec(tmp_path / f"{name}.yaml", simulation__seed=seed), tmp_path / name)
    prints = [json.loads((f / "preflight.json").read_text())["fingerprint"]
              for f in (regime, tmp_path / "same", tmp_path / "other")]  # fmt: skip
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize("planted", ["truth/S.npy", "truth/log_k.npy", "truth/decay.npy", "train/dc.npy", "train/c.npy",
                                     "truth/heldout_dc.npy", "truth/rollout_c.npy"])  # fmt: skip
def test_the_guard_catches_data_that_the_saved_network_did_not_make(planted, tmp_path, regime):
    import shutil

    folder = tmp_path / "data"
    shutil.copytree(regime, folder)
    assert guard(folder, 0.1)["ok"]
    array = np.load(folder / planted)
    if planted == "truth/S.npy":
        array[np.nonzero(array)[0][0], np.nonzero(array)[1][0]] *= 2
    elif planted == "train/c.npy":
        array[0, 50:] = array[0, 50:][::-1]
    else:
        array.reshape(-1)[...] = array.reshape(-1) * 1.5 + 0.01
    np.save(folder / planted, array)
    assert not guard(folder, 0.1)["ok"]


def test_a_run_is_scored_in_the_lines_and_figures_of_the_instruction(scored):
    log = (scored / "analysis.log").read_text().splitlines()
    keys = [line.strip().partition(":")[0] for line in log]
    for name in ("rate_constants_R2", "trimmed_R2", "n_outliers", "slope", "alpha", "avg_slope_ratio",
                 "MLP_node_slope_0", "MLP_node_gt_slope_1", "embedding_cluster_acc", "embedding_n_clusters",
                 "embedding_silhouette", "test_R2", "test_pearson", "final_loss", "MLP_sub_R2"):  # fmt: skip
        assert keys.count(name) == 1, name
    assert "  ceiling rate_constants_R2" in [line.partition(":")[0] for line in log]
    assert "MLP_sub orders excited by these data: 1" in log
    result = json.loads((scored / "result.json").read_text())
    assert result["metrics"]["MLP_node_slope_2"] == {"value": None, "reason": "2 metabolite type(s)", "version": 1}
    assert result["metrics"]["stoichiometry_R2"]["reason"] == "S is given"
    for folder in ("function/substrate_func/MLP_sub_", "function/rate_func/MLP_node_", "rate_constants/comparison_",
                   "embedding/embedding_"):  # fmt: skip
        assert sum(p.startswith(f"plots/{folder}") for p in result["plots"]) >= 2
    assert "plots/loss.png" in result["plots"]


def test_every_key_of_the_config_was_read(scored):
    from trainers.settings_homeostasis import HomeostasisModel, HomeostasisTraining

    read = set(json.loads((scored / "out" / "train.json").read_text())["keys_read"])
    named = {f"training.{k}" for k in HomeostasisTraining.model_fields}
    named |= {f"graph_model.{k}" for k in HomeostasisModel.model_fields}
    behind = {"training.coeff_S_L1", "training.coeff_S_integer", "training.coeff_mass_conservation",
              "training.noise_recurrent_level", "training.k_floor_threshold", "training.time_step",
              "training.learning_rate_start", "training.embedding_clusters_max",
              "training.embedding_replacement_at"}  # fmt: skip
    assert named - behind <= read


def test_equal_orders_train_equally_and_a_killed_training_goes_on_as_if_it_was_not(tmp_path, regime):
    wholes = []
    for name in ("one", "two"):
        run = write_order(tmp_path / name, regime, n_epochs=2)
        assert main(["train", str(run)]) == 0
        wholes.append((run / "out" / "estimate.npz").read_bytes())
    assert wholes[0] == wholes[1]
    run = write_order(tmp_path / "killed", regime, n_epochs=2)
    code = ("import os, sys; from trainers.__main__ import main; from trainers.run import Run; old = Run.record\n"
            "def record(self, stateful, terms, phase, epoch, step):\n"
            f"    old(self, stateful, terms, phase, epoch, step)\n    if step == {STEPS + 2}: os._exit(9)\n"
            "Run.record = record; main(sys.argv[1:])")  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code, "train", str(run)], check=False).returncode == 9
    assert main(["train", str(run)]) == 0
    with np.load(run / "out" / "estimate.npz") as found, np.load(tmp_path / "one" / "out" / "estimate.npz") as whole:
        for name in whole.files:
            assert np.array_equal(found[name], whole[name]), name


def test_a_trial_passes_and_its_check_too(tmp_path, regime):
    run = write_order(tmp_path / "trial", regime)
    assert main(["try", str(run)]) == 0
    assert main(["check", str(run), "--data", str(regime)]) == 0


def test_a_shuffled_control_is_marked_and_its_dc_is_that_of_other_frames(tmp_path, regime):
    prepare(write_spec(tmp_path / "SPEC.yaml", simulation__shuffled_control=True), tmp_path / "data")
    found = json.loads((tmp_path / "data" / "preflight.json").read_text())
    assert found["ok"] and "shuffled_control" in found["marks"][0]
    left, right = (np.load(f / "train" / "dc.npy") for f in (tmp_path / "data", regime))
    assert not np.array_equal(left, right)
    assert np.array_equal(np.sort(left[0], axis=0), np.sort(right[0], axis=0))
    run = write_order(tmp_path / "run", tmp_path / "data", simulation__shuffled_control=True)
    assert main(["train", str(run)]) == 0
    assert main(["score", str(run), "--data", str(tmp_path / "data")]) == 0
    assert (run / "analysis.log").read_text().startswith("mark: shuffled_control")


def test_more_runs_than_the_data_have_are_refused(tmp_path, regime, capsys):
    run = write_order(tmp_path / "run", regime, n_runs=3, simulation__n_runs=3)
    assert main(["train", str(run)]) == 13
    assert "asks for 3 runs and the data have 2" in capsys.readouterr().err


def test_metrics_are_blind_to_the_gauge_and_not_to_the_slopes(scored, regime):
    truth = load_truth(regime)
    with np.load(scored / "out" / "estimate.npz") as held:
        estimate = {k: held[k].astype(float) for k in held.files if k not in ("epoch", "step")}
    before = score_estimate(estimate, truth)
    moved = dict(estimate, alpha=estimate["alpha"] * 4, sub=estimate["sub"] * 4,
                 log_k=estimate["log_k"] - truth.n_sub * np.log10(4))  # fmt: skip
    after = score_estimate(moved, truth)
    for name in ("rate_constants_R2", "rate_constants_R2_strict", "n_outliers", "MLP_sub_R2"):
        assert after[name] == pytest.approx(before[name], rel=1e-6), name
    assert after["alpha"] == pytest.approx(4 * before["alpha"])
    true = dict(estimate, log_k=truth.log_k, alpha=np.ones(1), a=np.stack([truth.types] * 2, axis=1).astype(float),
                node=np.stack([truth.node(g) for g in truth.grid_c]))  # fmt: skip
    assert score_estimate(true, truth)["joint_score"] == pytest.approx(1.0)
    doubled = score_estimate(dict(true, node=2 * true["node"]), truth)
    assert doubled["avg_slope_ratio"] == pytest.approx(2.0)
    assert doubled["joint_score"] == pytest.approx(1 - 0.25 * 0.5)
    wrong = score_estimate(dict(true, node=-true["node"]), truth)
    assert wrong["joint_score"] == pytest.approx(0.75)
    mixed = score_estimate(dict(true, a=np.zeros_like(true["a"])), truth)
    assert mixed["embedding_cluster_acc"] == 0.5 and mixed["embedding_silhouette"] is None


def test_the_true_constants_score_null_against_a_shuffled_truth(tmp_path):
    size = {"simulation__n_metabolites": 60, "simulation__n_reactions": 91}
    prepare(write_spec(tmp_path / "SPEC.yaml", **size), tmp_path / "data")
    truth, rng = load_truth(tmp_path / "data"), np.random.default_rng(0)
    a = np.stack([truth.types] * 2, axis=1).astype(float)
    found = []
    for _ in range(30):
        other = truth._replace(log_k=rng.permutation(truth.log_k), types=rng.permutation(truth.types))
        found.append(rate_constants(truth.log_k, other) | embeddings(a, other))
    assert rate_constants(truth.log_k, truth)["rate_constants_R2"] == pytest.approx(1.0)
    assert np.mean([f["rate_constants_R2"] for f in found]) < 0.03
    assert max(f["rate_constants_R2_strict"] for f in found) < 0
    assert max(f["embedding_cluster_acc"] for f in found) < 0.75


def test_the_starting_values_are_those_that_the_tests_train():
    assert TRAINING["batch_size"] * STEPS <= 300
