"""The toy child keeps docs/contract.md, so that tests of the engine mean something."""

import hashlib
import json
import math
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import yaml

from orchestrator.formats import analysis_log
from tests.toy import wait_for

from .. import toy_child
from .conftest import RUN_YAML, TOY, make_run, read_json


def toy(run_dir, mode, *options, env=None):
    argv = [sys.executable, "-I", "-S", str(TOY), mode, str(run_dir), *options]
    return subprocess.run(argv, capture_output=True, text=True, timeout=20, env=env or {}).returncode


def both(run_dir, *options):
    assert toy(run_dir, "train", *options) == 0
    assert toy(run_dir, "score", *options) == 0
    return read_json(run_dir / "result.json")


def value(run_dir):
    return read_json(run_dir / "result.json")["metrics"]["connectivity_R2"]["value"]


def test_files_of_the_contract(tmp_path):
    run_dir = make_run(tmp_path)
    result = both(run_dir)
    log = (run_dir / "analysis.log").read_bytes()
    assert result["analysis_log_sha256"] == hashlib.sha256(log).hexdigest()
    metrics, unread = analysis_log.parse(log.decode())
    assert unread == []
    assert {k: v.value for k, v in metrics.items() if k in result["metrics"]} == {
        k: v["value"] for k, v in result["metrics"].items()
    }
    with np.load(run_dir / "out" / "estimate.npz", allow_pickle=False) as arrays:
        assert arrays["epoch"].dtype == np.int64 and arrays["epoch"].shape == ()
        assert arrays["W"].tolist() == [[0, 1], [-1, 0]]
    assert sorted(p.name for p in (run_dir / "out" / "estimates").iterdir())[0] == "000_0000010.npz"
    lines = [json.loads(line) for line in (run_dir / "out" / "progress.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 31))
    assert "training.learning_rate_W_start" in result["keys_read"]


def test_it_tells_its_device_and_a_peak_memory_of_choice(tmp_path):
    run_dir = make_run(tmp_path)
    assert toy(run_dir, "train", "--memory", "12", env={"CUDA_VISIBLE_DEVICES": "1"}) == 0
    assert toy(run_dir, "score", env={"CUDA_VISIBLE_DEVICES": ""}) == 0
    assert (run_dir / "out" / "device.txt").read_text() == "1"
    assert read_json(run_dir / "result.json")["memory_bytes"] == 12
    assert both(make_run(tmp_path, "b"))["memory_bytes"] is None


@pytest.mark.parametrize("style", [False, True, None])
def test_any_style_of_yaml(tmp_path, style):
    order = yaml.load(RUN_YAML, yaml.SafeLoader)  # noqa: TID251 (the spelling of numbers is under test)
    order["config"]["training"]["learning_rate_start"] = 0.0008
    order["config"]["training"]["learning_rate_W_start"] = 0.002
    run_dir = make_run(tmp_path)
    (run_dir / "run.yaml").write_text(yaml.safe_dump(order, default_flow_style=style, sort_keys=False))
    parsed = toy_child.Order(str(run_dir), {})
    assert (parsed.iteration, parsed.identity, parsed.epochs, parsed.seed) == (3, "abc", 3, "7")
    assert float(parsed.training["learning_rate_W_start"]) == 0.002
    assert parsed.config["graph_model"] == {"hidden_dim": "8"}
    assert parsed.config["simulation"] == {"n_neurons": "10"}


def test_the_metric_can_be_searched():
    best = toy_child.connectivity({"learning_rate_W_start": "8e-3", "learning_rate_start": "8e-4"}, "1")
    for key in ("learning_rate_W_start", "learning_rate_start"):
        at = {"learning_rate_W_start": "8e-3", "learning_rate_start": "8e-4"}
        values = [toy_child.connectivity(at | {key: str(float(at[key]) * 4**-n)}, "1") for n in range(4)]
        assert values == sorted(values, reverse=True)
    repeats = [toy_child.connectivity({"learning_rate_W_start": "8e-3"}, str(seed)) for seed in range(200)]
    assert 0.007 < np.std(repeats) < 0.013
    assert best == toy_child.connectivity({"learning_rate_start": "8e-4", "learning_rate_W_start": "8e-3"}, "1")


@pytest.mark.parametrize(
    "fault, metric, reason",
    [("negative", -0.52, None), ("tiny", 9.8e-05, None), ("inf", None, "inf"), ("nan_metric", None, "nan"),
     ("na", None, "no neuron was active")],
)  # fmt: skip
def test_odd_values(tmp_path, fault, metric, reason):
    run_dir = make_run(tmp_path)
    result = both(run_dir, "--fault", fault)
    assert result["metrics"]["connectivity_R2"] == {"value": metric, "reason": reason, "version": 1}
    read = analysis_log.parse((run_dir / "analysis.log").read_text())[0]["connectivity_R2"]
    assert (read.value, read.reason) == (metric, reason)


def test_disagree_and_missing(tmp_path):
    run_dir = make_run(tmp_path)
    both(run_dir, "--fault", "disagree")
    assert not math.isclose(
        value(run_dir), analysis_log.parse((run_dir / "analysis.log").read_text())[0]["connectivity_R2"].value
    )
    assert "connectivity_R2" not in both(make_run(tmp_path, "b"), "--fault", "missing_metric")["metrics"]


@pytest.mark.parametrize("fault, code", [("exit1", 1), ("import_error", 1), ("nan", 10), ("oom", 11), ("refuse", 13)])
def test_exit_codes(tmp_path, fault, code):
    assert toy(make_run(tmp_path), "train", "--fault", fault) == code


@pytest.mark.parametrize("fault", ["no_result", "nothing", "torn_result"])
def test_without_a_result(tmp_path, fault):
    run_dir = make_run(tmp_path)
    assert toy(run_dir, "train") == 0
    assert toy(run_dir, "score", "--fault", fault) == 0
    if (run_dir / "result.json").exists():
        with pytest.raises(ValueError):
            read_json(run_dir / "result.json")


def test_where_a_fault_is_looked_for(tmp_path):
    def code(*options, **env):
        fresh = make_run(tmp_path, f"{len(list(tmp_path.iterdir())):04d}-1")
        (fresh / "toy_fault").write_text("oom\n" if not env else "ok")
        return toy(fresh, "train", *options, env=env)

    assert code("--faults", "3=nan") == 10
    assert code("--faults", "3-1=refuse, 3=nan") == 13
    assert code("--faults", "4=nan") == 11
    assert code() == 11
    assert code(TOY_FAULT="exit1") == 1
    assert code("--fault", "ok", TOY_FAULT="exit1") == 0
    assert code("--fault", "typo") == 1


def test_it_continues_from_its_checkpoint_and_counts_repeated_steps(tmp_path):
    run_dir = make_run(tmp_path)
    argv = [sys.executable, "-I", "-S", str(TOY), "train", str(run_dir), "--epoch-s", "0.5"]
    progress = run_dir / "out" / "progress.jsonl"
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as child:
        wait_for(lambda: progress.exists() and len(progress.read_text().splitlines()) >= 14)
        child.send_signal(signal.SIGKILL)
    result = both(run_dir)
    assert read_json(run_dir / "out" / "toy.json")["started_at_step"] == 10
    assert result["timings"]["steps_repeated"] >= 4


def test_a_foreign_checkpoint_is_put_aside(tmp_path):
    run_dir = make_run(tmp_path)
    (run_dir / "out" / "checkpoint.pt").write_text('{"identity": "other", "epoch": 2}')
    both(run_dir)
    assert (run_dir / "out" / "checkpoint.foreign").exists()
    assert read_json(run_dir / "out" / "toy.json")["started_at_step"] == 0


def test_sigterm_ends_with_a_checkpoint(tmp_path):
    run_dir = make_run(tmp_path)
    argv = [sys.executable, "-I", "-S", str(TOY), "train", str(run_dir), "--fault", "slow", "--epoch-s", "5"]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as child:
        wait_for((run_dir / "out" / "progress.jsonl").exists)
        os.kill(child.pid, signal.SIGTERM)
        assert child.wait(10) == 12
    assert read_json(run_dir / "out" / "checkpoint.pt")["identity"] == "abc"
