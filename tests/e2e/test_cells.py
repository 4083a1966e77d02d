"""The whole service on a person's own recording of moving points: what they type, what they find."""

import json
import shutil

import numpy as np
import pytest
import yaml

from orchestrator.launch import sandbox
from tests import real, toy
from trainers.settings import load_yaml

pytestmark = pytest.mark.science


def recording(path):
    """Write 60 points that follow a rotating flow in a square box of side 3, 90 frames."""
    rng = np.random.default_rng(0)
    x, t = rng.uniform(0, 3, (60, 2)), np.linspace(0, 1, 90)
    frames = []
    for k in range(90):
        frames.append(x)
        turn = 2 * np.pi / 3 * x
        x = np.mod(x + 0.05 * np.stack([np.sin(turn[:, 1] + 6 * t[k]), np.cos(turn[:, 0])], axis=1), 3.0)
    np.savez(path, X=np.array(frames))


@pytest.fixture(scope="module")
def explored(tmp_path_factory):
    """A home after three iterations on a recording that lies beside config.yaml."""
    home = tmp_path_factory.mktemp("cells") / "home"
    for part in ("models", "trainers", "instructions"):
        shutil.copytree(toy.REPOSITORY / part, home / part, ignore=shutil.ignore_patterns("__pycache__"))
    source, target = (root / "explorations" / "cell_inr" for root in (toy.REPOSITORY, home))
    target.mkdir(parents=True)
    recording(target / "mine.npz")
    config, own = (load_yaml((source / f"{part}.yaml").read_text()) for part in ("config", "exploration"))
    config["simulation"] = {"points_file": "mine.npz", "positions_name": "X", "n_frames": 90, "n_cells": 60,
                            "dimension": 2, "delta_t": 0.05, "box": [3.0]}  # fmt: skip
    cpu = {k: v for k, v in own["profiles"]["cpu"].items() if not k.startswith("simulation.")}
    own["profiles"]["cpu"] = cpu | {"inr.inr_total_steps": 800, "claude.n_iter_block": 2}
    (target / "config.yaml").write_text(yaml.safe_dump(config))
    (target / "exploration.yaml").write_text(yaml.safe_dump(own))
    done = real.run(home, "explore", "cell_inr", "--iterations", "3", timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    return home, done.stdout


def test_every_run_is_scored_beside_its_baselines_and_in_its_time(explored):
    home, said = explored
    for number in (1, 2, 3):
        run = real.out(home) / "runs" / f"000{number}-1"
        found = {k: v["value"] for k, v in json.loads((run / "result.json").read_text())["metrics"].items()}
        assert found["heldout_cells_r2"] > 0.5 and found["time_used"] < 1
        log = (run / "analysis.log").read_text()
        assert "baseline interpolation heldout_cells_r2" in log and "n_cells: 60" in log
        assert (run / "results.log").read_text().startswith("field_name: velocity")
        assert "mine" not in (run / "run.yaml").read_text()
    assert "(limit 3)" in said


def test_memory_has_the_table_and_the_estimated_minutes_stand_in_the_log(explored):
    home, _ = explored
    memory = (real.out(home) / "memory.md").read_text()
    table = memory[memory.index("### Regime Comparison Table") :].splitlines()
    assert table[2].startswith("| Block | omega_inr | lr | hidden_dim | n_layers | total_steps | batch_size")
    assert [row.split("|")[1].strip() for row in table[4:6]] == ["1", "2"]
    entries = (real.out(home) / "analysis.md").read_text()
    assert entries.count("Time: ") == 3 and "estimated" in entries


def test_the_recording_is_named_and_its_warnings_told(explored):
    home, _ = explored
    (file,) = (real.out(home) / "data").glob("*/preflight.json")
    found = json.loads(file.read_text())
    assert found["source"]["file"] == "mine.npz" and found["ok"]
    assert found["activity"]["n_frames"] == 89


@pytest.mark.parametrize("level", ["bwrap", "landlock"])
def test_training_cannot_open_the_truth_or_the_recording(explored, tmp_path, level):
    if why := sandbox.why_not(level):
        pytest.skip(f"{level} does not work on this machine: {why}")
    said = real.probe(explored[0], tmp_path / "probe", level)
    assert "FOUND []" in said and "KEYS []" in said and "IMPORTED" not in said, said


def test_the_probe_would_tell(explored, tmp_path):
    found = real.probe(explored[0], tmp_path / "probe", "none").split("FOUND")[1]
    assert "field_cells.npy" in found and "mine.npz" in found
