"""An exploration of a person's own recording, through the engine, with our instruction and real trainings."""

import json

import numpy as np
import pytest

from tests import real
from tests.trainers.test_own_activity import FRAMES, STEP, N, record
from trainers.settings import load_yaml

pytestmark = [pytest.mark.science, pytest.mark.trains]
JUDGED = "primary: one_step_R2\nclasses: {Converged: one_step_R2 > 0.9, Failed: one_step_R2 <= 0.9}\n"


def make_home(folder, extra):
    home = real.make_home(folder)
    source = home / "explorations" / "sparse_gnn"
    np.save(source / "mouse.npy", record())
    text = (source / "config.yaml").read_text()
    for old, new in {
        "n_neurons: 20": f"n_neurons: {N}", "n_frames: 1500": f"n_frames: {FRAMES}",
        "delta_t: 0.01": f"delta_t: {STEP}",
        "  phi: tanh": "  phi: tanh\n  activity_file: mouse.npy",
    }.items():  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    (source / "config.yaml").write_text(text)
    with open(source / "exploration.yaml", "a") as file:
        file.write(extra)
    return home


def test_a_recording_beside_the_config_is_explored_by_a_metric_that_needs_no_truth(tmp_path):
    home = make_home(tmp_path, JUDGED)
    done = real.run(home, "explore", "sparse_gnn", "--iterations", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    run = real.out(home) / "runs" / "0001-1"
    order = load_yaml((run / "run.yaml").read_text())
    assert "mouse" not in (run / "run.yaml").read_text() and order["config"]["simulation"]["n_frames"] == FRAMES
    metrics = json.loads((run / "result.json").read_text())["metrics"]
    assert metrics["connectivity_R2"] == {"value": None, "reason": "no truth: your own data", "version": 1}
    assert metrics["one_step_R2"]["value"] is not None
    entry = (real.out(home) / "analysis.md").read_text()
    assert "one_step_R2" in entry
    (spec,) = real.out(home).glob("data/*.prepare-1/SPEC.yaml")
    told = load_yaml(spec.read_text())["config"]["simulation"]["activity_file"]
    assert told == str(home / "explorations" / "sparse_gnn" / "mouse.npy")


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [("", "set `primary: one_step_R2` in exploration.yaml"),
     ("primary: one_step_R2\n", "the classes judge connectivity_R2")],
    ids=["primary", "classes"],
)  # fmt: skip
def test_metrics_that_need_a_truth_stop_the_start(extra, sentence, tmp_path):
    done = real.run(make_home(tmp_path, extra), "explore", "sparse_gnn", "--iterations", "1")
    assert done.returncode == 3 and sentence in done.stdout + done.stderr


def test_a_recording_of_another_shape_stops_the_start_with_what_to_set(tmp_path):
    home = make_home(tmp_path, JUDGED)
    np.save(home / "explorations" / "sparse_gnn" / "mouse.npy", record().T)
    done = real.run(home, "explore", "sparse_gnn", "--iterations", "1")
    assert done.returncode == 3 and "save its transpose" in done.stdout + done.stderr
