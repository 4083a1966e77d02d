import json
import shutil

import numpy as np
import pytest

from tests.trainers.conftest import write_spec
from trainers.errors import RefusedError
from trainers.prepare.build import prepare
from trainers.prepare.files import fingerprint
from trainers.prepare.findings import ONE_FOR_TRUTH, oracle_fault, warnings
from trainers.prepare.guard import guard


def preflight_of(folder):
    return json.loads((folder / "preflight.json").read_text())


def test_the_truth_scores_one_and_nothing_scores_nothing(regime):
    found = preflight_of(regime)
    assert found["ok"] and found["reason"] is None and found["guard"]["ok"]
    for name in ("connectivity_R2", "connectivity_R2_strict", "one_step_R2", "test_R2", "test_pearson", "support_AUC"):
        assert found["oracle"][name] == pytest.approx(1.0, abs=1e-9)
    assert found["null"]["connectivity_R2"] < 0.1
    assert found["null"]["connectivity_R2_strict"] < 0.1
    assert found["guard"]["relative_error"] < 5e-5
    assert found["ceiling"]["test_R2_100"] > 0.999
    assert found["activity"]["condition_number"] > 1
    assert set(found) == {"contract", "system", "regime", "generator_version", "fingerprint", "ok", "reason", "guard",
                          "oracle", "null", "ceiling", "baselines", "activity", "marks", "warnings", "truth",
                          "looked_at"}  # fmt: skip


def test_training_is_told_no_truth(regime):
    assert {p.name for p in (regime / "train").iterdir()} == {"u.npy", "dataset.json"}
    assert {p.name for p in (regime / "inputs").iterdir()} == {
        "grid_u.npy", "heldout_u.npy", "rollout_u0.npy", "inputs.json"}  # fmt: skip
    told = json.loads((regime / "train" / "dataset.json").read_text())
    assert set(told) == {"n_neurons", "n_frames", "delta_t"}
    u = np.load(regime / "train" / "u.npy")
    assert u.shape == (360, 10) and u.dtype == np.float32
    held = np.load(regime / "inputs" / "heldout_u.npy")
    assert not any((np.abs(u - row).max(axis=1) == 0).any() for row in held)


def test_the_same_order_gives_the_same_bytes(regime, tmp_path):
    prepare(write_spec(tmp_path / "SPEC.yaml"), tmp_path / "data")
    assert preflight_of(tmp_path / "data") == preflight_of(regime)
    assert fingerprint(tmp_path / "data") == preflight_of(regime)["fingerprint"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["SPEC.yaml", "data", "data.lock"]


def test_another_simulation_seed_is_another_system(regime, tmp_path):
    prepare(write_spec(tmp_path / "SPEC.yaml", seed=6), tmp_path / "data")
    assert preflight_of(tmp_path / "data")["fingerprint"] != preflight_of(regime)["fingerprint"]


def test_a_complete_folder_is_left_alone(regime, tmp_path):
    before = {p: p.stat().st_mtime_ns for p in regime.rglob("*")}
    assert prepare(write_spec(tmp_path / "SPEC.yaml"), regime) is False
    assert {p: p.stat().st_mtime_ns for p in regime.rglob("*")} == before


def test_an_incomplete_folder_is_not_overwritten(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.txt").write_text("keep")
    with pytest.raises(RefusedError, match="without preflight"):
        prepare(write_spec(tmp_path / "SPEC.yaml"), tmp_path / "data")
    assert (tmp_path / "data" / "mine.txt").read_text() == "keep"


def test_odd_paths_and_leftovers_of_a_kill(odd_path):
    leftover = odd_path / ".data.building" / "train"
    leftover.mkdir(parents=True)
    (leftover / "u.npy").write_text("torn")
    assert prepare(write_spec(odd_path / "SPEC.yaml", n_frames=60), odd_path / "data")
    assert preflight_of(odd_path / "data")["guard"]["ok"]


def test_a_broken_order_is_refused(tmp_path):
    (tmp_path / "SPEC.yaml").write_text("contract: 2")
    with pytest.raises(RefusedError, match="expected contract 1"):
        prepare(tmp_path / "SPEC.yaml", tmp_path / "data")


@pytest.fixture
def copied(regime, tmp_path):
    return shutil.copytree(regime, tmp_path / "copy")


def test_the_guard_refuses_the_recorded_transposed_mask(copied):
    """Data simulated with W * mask^T while W is saved: the bug behind the recorded plateau of 0.49."""
    W = np.load(copied / "truth" / "W.npy").astype(float)
    u = np.load(copied / "train" / "u.npy").astype(float)
    du = -u + 7 * np.tanh(u) @ (W * (W != 0).T).T
    np.save(copied / "train" / "du.npy", du.astype(np.float32))
    told = guard(copied)
    assert not told["ok"] and told["relative_error"] > 0.1
    assert "the sparse mask is transposed" in told["sentence"]


def test_the_guard_refuses_another_W(copied):
    np.save(copied / "truth" / "W.npy", np.load(copied / "truth" / "W.npy").T)
    assert "not made by the saved W" in guard(copied)["sentence"]


def test_the_guard_refuses_frames_that_do_not_follow(copied):
    u = np.load(copied / "truth" / "rollout_u.npy")
    np.save(copied / "truth" / "rollout_u.npy", u[:, ::-1])
    assert "do not follow" in guard(copied)["sentence"]


def test_an_oracle_below_one_and_poor_data_are_told():
    perfect = dict.fromkeys(ONE_FOR_TRUTH, 1.0)
    assert oracle_fault(perfect) is None
    assert "score 0.48 on connectivity_R2" in oracle_fault(perfect | {"connectivity_R2": 0.48})
    assert len(warnings({"condition_number": 1e6, "effective_rank_99": 4}, {"connectivity_R2": 0.3})) == 3
    (slow,) = warnings({"condition_number": 5.8e3, "effective_rank_99": 20}, {"connectivity_R2": 1.0})
    assert "slowly" in slow
    assert not warnings({"condition_number": 216.0, "effective_rank_99": 26}, {"connectivity_R2": 1.0})
