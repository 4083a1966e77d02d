import hashlib
import json
import math
import os
import shutil

import numpy as np
import pytest

from tests.trainers.conftest import write_order
from trainers import signal
from trainers.errors import RefusedError
from trainers.order import read_order
from trainers.schema import METRICS, SCHEMA_FILE
from trainers.scoring.estimates import list_moments, read_estimate, read_progress
from trainers.scoring.score import _trained, score

SHAPES = {"W": (10, 10), "a": (10, None), "lin_edge": (10, 201), "lin_phi": (10, 201), "heldout_du": (40, 10),
          "rollout_u": (1, 600, 10)}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory, regime):
    handler = __import__("signal").getsignal(__import__("signal").SIGTERM)
    run_dir = write_order(tmp_path_factory.mktemp("trained"), regime)
    signal.train(read_order(run_dir), run_dir)
    __import__("torch").use_deterministic_algorithms(False)
    __import__("signal").signal(__import__("signal").SIGTERM, handler)
    return run_dir


@pytest.fixture
def run_dir(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def change(run_dir, **arrays):
    path = run_dir / "out" / "estimate.npz"
    with np.load(path) as old:
        content = {k: old[k] for k in old.files} | arrays
    np.savez(path, **{k: v for k, v in content.items() if v is not None})


def logged(run_dir):
    lines = (run_dir / "analysis.log").read_text().splitlines()
    return dict(line.strip().split(": ", 1) for line in lines if ": " in line)


def test_log_and_result_agree_on_every_metric(run_dir, regime):
    result = score(run_dir, regime)
    assert result == json.loads((run_dir / "result.json").read_text())
    assert set(result["metrics"]) == set(METRICS["signal"])
    assert result["marks"] == [] and "mark:" not in (run_dir / "analysis.log").read_text()
    log = logged(run_dir)
    for name, spec in METRICS["signal"].items():
        metric, text = result["metrics"][name], log[spec.log_key or name]
        if metric["value"] is None:
            assert text == f"n/a ({metric['reason']})"
        else:
            assert text == spec.format % metric["value"] and math.isfinite(float(text))
    for name in ("cluster_accuracy", "cluster_accuracy_kmeans", "embedding_silhouette"):
        assert result["metrics"][name] == {"value": None, "reason": "one neuron type", "version": 1}
    for name in ("U_R2", "V_R2"):
        assert result["metrics"][name]["reason"] == "W is not of low rank"
    digest = hashlib.sha256((run_dir / "analysis.log").read_bytes()).hexdigest()
    assert result["analysis_log_sha256"] == digest
    assert result["data_fingerprint"] == json.loads((regime / "preflight.json").read_text())["fingerprint"]


def test_recorded_lines_stand_in_their_order(run_dir, regime):
    score(run_dir, regime)
    text = (run_dir / "analysis.log").read_text()
    recorded = ["spectral radius: ", "--- activity ---\n", "  shape: (400, 10)\n", "  range: [",
                "  effective rank (90% var): ", "  effective rank (99% var): ", "training_time_min: ", "n_epochs: 2\n",
                "data_augmentation_loop: 6\n", "batch_size: 8\n", "time_step: 1\n",
                "recurrent_training: False\n", "learning_rate_W: 0.003\n", "learning_rate: 0.001\n",
                "coeff_W_L1: 0.001\n", "test_R2: ", "test_pearson: ", "kinograph_R2: ", "kinograph_SSIM: ",
                "kinograph_Wasserstein: ", "cluster_accuracy: n/a (one neuron type)\n", "connectivity_R2: ",
                "final_loss: "]  # fmt: skip
    places = [text.index(part) for part in recorded]
    assert places == sorted(places)


def test_figures_stand_under_the_named_paths(run_dir, regime):
    plots = score(run_dir, regime)["plots"]
    steps = [(0, 6), (0, 36), (1, 78), (1, 120)]
    parts = ("matrix/comparison", "matrix/matrix", "function/MLP0/func", "function/MLP1/func")
    wanted = {f"plots/{part}_{e}_{s}.png" for e, s in steps for part in parts}
    names = ("loss", "activity", "kinograph", "eigenvalues", "support")
    assert set(plots) == wanted | {f"plots/{name}.png" for name in names}
    for name in plots:
        assert (run_dir / name).read_bytes().startswith(b"\x89PNG")


def test_the_ceiling_of_the_rollout_is_the_true_W_and_stands_in_the_log(run_dir, regime):
    score(run_dir, regime)
    log, preflight = logged(run_dir), json.loads((regime / "preflight.json").read_text())
    for name in ("test_R2", "test_pearson", "test_R2_100", "test_pearson_100"):
        assert log[f"ceiling {name}"] == f"{preflight['ceiling'][name]:.4f}"
    assert float(log["ceiling test_pearson_100"]) > 0.99
    assert log["standing still test_R2_100"] == f"{preflight['baselines']['test_R2_100']:.4f}"


def test_two_types_have_their_embeddings_scored_and_drawn(run_dir, regime, tmp_path):
    data = shutil.copytree(regime, tmp_path / "two")
    np.save(data / "truth" / "types.npy", np.repeat([0, 1], 5))
    np.save(data / "truth" / "params.npy", np.repeat(np.load(data / "truth" / "params.npy")[:1], 2, axis=0))
    change(run_dir, a=np.repeat([[0.0, 0.0], [1.0, 1.0]], 5, axis=0))
    result = score(run_dir, data)
    for name in ("cluster_accuracy", "cluster_accuracy_kmeans", "embedding_silhouette"):
        assert result["metrics"][name]["value"] == 1.0 and logged(run_dir)[name] == "1.0000"
    assert "plots/embedding/embedding_1_120.png" in result["plots"]


def test_a_low_rank_regime_has_its_factors_scored(run_dir, regime):
    write_order(run_dir, regime, simulation={"connectivity_type": "low_rank", "connectivity_rank": 2})
    metrics = score(run_dir, regime)["metrics"]
    for name in ("U_R2", "V_R2"):
        assert metrics[name]["value"] < 1.0 and logged(run_dir)[name] == f"{metrics[name]['value']:.4f}"


def test_the_recorded_dynamics_name_the_metric_that_corrects_them():
    metrics = json.loads(SCHEMA_FILE.read_text())["systems"]["signal"]["metrics"]
    named = {name: spec["corrected_by"] for name, spec in metrics.items() if spec["corrected_by"]}
    assert named == {"test_R2": "test_R2_100", "test_pearson": "test_pearson_100"}
    assert set(named.values()) <= set(metrics)


def test_scoring_twice_gives_the_same_metrics(run_dir, regime):
    first = score(run_dir, regime)["metrics"]
    assert score(run_dir, regime)["metrics"] == first


def test_a_rollout_that_explodes_is_told_not_refused(run_dir, regime):
    change(run_dir, rollout_u=np.full((1, 600, 10), np.inf, np.float32))
    metrics = score(run_dir, regime)["metrics"]
    assert metrics["test_R2"]["value"] == 0.0
    assert metrics["kinograph_R2"] == {"value": None, "reason": "-inf", "version": 1}
    assert logged(run_dir)["kinograph_SSIM"] == "nan"


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"W": np.full((10, 10), np.nan)}, "W holds NaN"),
        ({"W": np.zeros((9, 9))}, r"W has shape \(9, 9\), expected \(10, 10\)"),
        ({"W": None}, "array 'W' is missing"),
        ({"W": np.full((10, 10), "x")}, "expected numbers"),
        ({"W": np.full((10, 10), None)}, "pickles"),
        ({"lin_edge": np.zeros((10, 5))}, "lin_edge has shape"),
        ({"heldout_du": None}, "heldout_du"),
    ],
)
def test_a_bad_estimate_is_refused_with_a_sentence(run_dir, regime, arrays, words):
    change(run_dir, **arrays)
    with pytest.raises(RefusedError, match=words):
        score(run_dir, regime)
    assert not (run_dir / "result.json").exists()


def test_links_folders_and_large_files_are_not_read(run_dir, regime, monkeypatch):
    path = run_dir / "out" / "estimate.npz"
    real = run_dir / "real.npz"
    os.rename(path, real)
    path.symlink_to(real)
    with pytest.raises(RefusedError, match="cannot be opened"):
        read_estimate(path, SHAPES)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(RefusedError, match="not a regular file"):
        read_estimate(path, SHAPES)
    path.unlink()
    with pytest.raises(RefusedError, match="a training must leave it"):
        read_estimate(path, SHAPES)
    monkeypatch.setattr("trainers.scoring.estimates.SIZE_MAX", 1000)
    monkeypatch.setattr("trainers.scoring.estimates.read_bytes.__defaults__", (1000,))
    with pytest.raises(RefusedError, match="at most 1000"):
        read_estimate(real, SHAPES)


def test_a_bomb_is_not_unpacked(run_dir, monkeypatch):
    path = run_dir / "out" / "estimate.npz"
    with np.load(path) as old:
        np.savez_compressed(path, **{k: old[k] for k in old.files}, bomb=np.zeros(10**7))
    monkeypatch.setattr("trainers.scoring.estimates.SIZE_MAX", 10**7)
    with pytest.raises(RefusedError, match="unpacks to more"):
        read_estimate(path, SHAPES)


def test_junk_is_refused(run_dir):
    path = run_dir / "out" / "estimate.npz"
    for junk in (b"", b"PK\x05\x06" + b"\0" * 18, b"hello", path.read_bytes()[:2000]):
        path.write_bytes(junk)
        with pytest.raises(RefusedError):
            read_estimate(path, SHAPES)


def test_odd_names_among_the_moments_and_torn_progress_are_skipped(tmp_path):
    for name in ("000_0000010.npz", "000_0000005.npz", "x.npz", "001_0000020.npz.tmp"):
        (tmp_path / name).write_bytes(b"")
    assert [p.name for p in list_moments(tmp_path)] == ["000_0000005.npz", "000_0000010.npz"]
    assert list_moments(tmp_path / "none") == []
    (tmp_path / "progress.jsonl").write_text('{"step": 2}\n{"step": 1}\nnull\n{"step": 2, "loss": 1}\n{"ste')
    assert read_progress(tmp_path / "progress.jsonl") == [{"step": 1}, {"step": 2, "loss": 1}]


def test_the_peak_memory_of_the_training_is_in_the_result(run_dir, regime):
    peak = json.loads((run_dir / "out" / "train.json").read_text())["peak_memory_bytes"]
    assert 10**7 < peak < 10**12  # of this process, torch included
    assert score(run_dir, regime)["memory_bytes"] == peak


@pytest.mark.parametrize("peak", [None, True, -1, 1.5, "9", 2**50, [1], float("inf")])
def test_a_peak_that_is_no_sensible_number_is_null(peak):
    assert _trained({"peak_memory_bytes": 10**8})["peak_memory_bytes"] == 10**8
    assert _trained(json.loads(json.dumps({"peak_memory_bytes": peak})))["peak_memory_bytes"] is None


def test_a_strange_train_json_does_no_harm(run_dir, regime):
    (run_dir / "out" / "train.json").write_text('{"final_loss": "good", "keys_idle": [1], "training_time_s": null}')
    metrics = score(run_dir, regime)["metrics"]
    assert metrics["final_loss"]["value"] is None and metrics["training_time_min"]["reason"] == "nan"
    (run_dir / "out" / "train.json").write_text("[]")
    with pytest.raises(RefusedError, match="must hold an object"):
        score(run_dir, regime)


# --- what was trained on ----------------------------------------------------------------------------------------------


def trained_with(run_dir, regime, counts, **training):
    """Score a copy whose order has other training keys and whose train.json has these counts."""
    write_order(run_dir, regime, **training)
    path = run_dir / "out" / "train.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"counts": counts}))
    score(run_dir, regime)
    return logged(run_dir)


def test_a_neural_ode_has_its_solver_and_evaluations_in_the_log(run_dir, regime):
    ode = {"neural_ODE_training": True, "ode_method": "dopri5", "time_step": 4}
    log = trained_with(run_dir, regime, {"ode_function_evaluations": 12.04}, **ode)
    assert (log["time_step"], log["recurrent_training"], log["neural_ODE_training"]) == ("4", "False", "True")
    assert log["ode_method"] == "dopri5" and log["ode_function_evaluations"] == "12.0"
    lines = (run_dir / "analysis.log").read_text().splitlines()
    assert lines.index("ode_method: dopri5") > lines.index("--- training ---") < lines.index("--- test ---")


def test_single_steps_and_rollouts_are_named_and_no_solver(run_dir, regime):
    log = trained_with(run_dir, regime, {"ode_function_evaluations": 3}, recurrent_training=True, time_step=16)
    assert (log["time_step"], log["recurrent_training"]) == ("16", "True")
    assert "ode_method" not in log and "ode_function_evaluations" not in log


@pytest.mark.parametrize(
    "counts",
    [None, 3, "12", [], {}, {"ode_function_evaluations": "12"},
     {"ode_function_evaluations": [1]}, {"ode_function_evaluations": -1}, {"ode_function_evaluations": True},
     {"ode_function_evaluations": 10**400}, {"ode_function_evaluations": math.nan},
     {"ode_function_evaluations": math.inf}, {"a\nconnectivity_R2: 1": 2.0}],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_counts_that_a_training_made_up_are_left_out(counts):
    assert _trained({"counts": counts})["counts"].get("ode_function_evaluations") is None


def test_made_up_counts_do_not_forge_a_line(run_dir, regime):
    counts = {"ode_function_evaluations": "7\nconnectivity_R2: 1", "a\nconnectivity_R2: 1": 2.0}
    log = trained_with(run_dir, regime, counts, neural_ODE_training=True)
    assert log["ode_function_evaluations"] == "n/a (not counted)" and log["connectivity_R2"] != "1"


def test_embeddings_that_coincide_have_no_silhouette(run_dir, regime, tmp_path):
    data = shutil.copytree(regime, tmp_path / "two")
    np.save(data / "truth" / "types.npy", np.repeat([0, 1], 5))
    np.save(data / "truth" / "params.npy", np.repeat(np.load(data / "truth" / "params.npy")[:1], 2, axis=0))
    metric = score(run_dir, data)["metrics"]["embedding_silhouette"]
    assert metric["value"] is None and "all embeddings coincide" in metric["reason"]
