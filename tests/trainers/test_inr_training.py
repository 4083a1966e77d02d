"""Training of system `inr`: every key acts, equal seeds are equal, a time limit is kept."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.trainers.moving import INR, config, same, sections, trained, write_order, write_spec
from trainers.__main__ import main
from trainers.errors import RefusedError
from trainers.idle_inr import idle_keys
from trainers.prepare.build import prepare
from trainers.settings import read_config
from trainers.settings_inr import Inr
from trainers.time_limit import TimeLimit, rounded_down

CHANGES = {
    "omega_inr": 20.0, "inr_learning_rate": 1e-3, "hidden_dim_inr": 8, "n_layers_inr": 2, "inr_total_steps": 7,
    "inr_batch_size": 2, "inr_xy_period": 2.0, "inr_t_period": 2.0, "inr_omega_t": 30.0, "inr_periodic": True,
    "inr_whiten": True, "inr_random_points": True, "inr_lr_scheduler": "none", "inr_grad_clip": 1e-3,
    "inr_precision": "bfloat16", "inr_gradient_mode": True, "seed": 4,
}  # fmt: skip
"""Another value of every key that a training can act on; inr_compile changes no value by intent."""
CONFIGS = {"plain": {}, "random": {"inr_random_points": True}, "no hidden layer": {"n_layers_inr": 0},
           "periodic": {"inr_periodic": True, "inr_omega_t": 5.0}}  # fmt: skip


@pytest.fixture(scope="module")
def regime(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inr")
    prepare(write_spec(folder / "SPEC.yaml"), folder / "data")
    return folder / "data"


def test_every_key_has_another_value_here():
    assert set(CHANGES) - {"seed"} == set(Inr.model_fields) - {"inr_field_name", "inr_type", "inr_compile"}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_key_acts_or_is_said_to_be_idle(name, regime):
    base = CONFIGS[name]
    idle = {key.partition(".")[2] for key in idle_keys(config(**base))}
    _, start = trained(regime, **base)
    for key, value in CHANGES.items():
        if base.get(key, config().inr.model_dump().get(key)) == value:
            continue
        _, other = trained(regime, **base | {key: value})
        assert same(start, other) == (key in idle), key


def test_the_loss_falls_and_equal_seeds_give_equal_losses(regime):
    long = {"inr_total_steps": 300, "inr_learning_rate": 1e-3}
    first, second = (trained(regime, **long) for _ in range(2))
    losses = [terms["prediction"] for terms in first[0].terms]
    assert losses == [terms["prediction"] for terms in second[0].terms] and same(first[1], second[1])
    assert np.mean(losses[-20:]) < 0.3 * np.mean(losses[:20])
    assert [t["prediction"] for t in trained(regime, **long, seed=4)[0].terms] != losses


@pytest.mark.parametrize("random_points", [False, True])
def test_no_withheld_value_is_trained_on(random_points, regime, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(regime, folder)
    field, kept = np.load(folder / "train" / "field.npy"), np.load(folder / "train" / "kept.npy")
    assert not kept.all() and not field[~kept].any()
    field[~kept] = 1e6
    np.save(folder / "train" / "field.npy", field)
    keys = {"inr_random_points": random_points}
    assert same(trained(regime, **keys)[1], trained(folder, **keys)[1])


def test_a_field_of_another_name_is_refused(regime):
    with pytest.raises(RefusedError, match="the data have the field velocity, found 'pressure'"):
        read_config("inr", sections(inr_field_name="pressure", simulation__points_file="x"))
    from trainers.data_points import load_points
    from trainers.inr import data_train_inr

    with pytest.raises(RefusedError, match="the data have the field velocity, found 'pressure'"):
        told = read_config("inr", {"inr": {**INR, "inr_field_name": "pressure"}})
        data_train_inr(told, *load_points(regime / "train", regime / "inputs"), None)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"inr_periodic": True, "simulation__box": []}, "no periodic box|one side"),
        ({"simulation__box": [1.0, 2.0, 3.0]}, "one an axis"),
        ({"simulation__substeps": 1, "simulation__pair_stiffness": 250.0}, "raise substeps or lower delta_t"),
        ({"simulation__signal_time": 0.1}, "signal_time: a step of 0.01 is too long"),
        ({"simulation__alignment": 60.0}, "alignment: a step"),
        ({"simulation__speed": 20.0}, "speed: a step"),
        ({"simulation__signal_length": 0.05}, "too many modes"),
        ({"inr_gradient_mode": True, "inr_whiten": True}, "does not go with inr_whiten"),
        ({"simulation__field_name": "C"}, "points_file, which is not set"),
        ({"omega": 3.0}, "nearest valid keys"),
        ({"inr_type": "ngp"}, "siren"),
    ],
)
def test_a_config_that_cannot_work_is_refused_by_name(keys, told):
    with pytest.raises(RefusedError, match=told):
        read_config("inr", sections(**keys))


class _Clock:
    """A run whose steps take 0.1 s each."""

    def __init__(self):
        self.elapsed_s = 0.0


def steps_until(limit, clock, total, a_step=0.1):
    step = 0
    while step < total and not limit.over(step):
        clock.elapsed_s += a_step
        step += 1
    return step


def test_a_training_over_its_limit_is_refused_with_the_steps_that_fit():
    clock = _Clock()
    with pytest.raises(RefusedError) as told:
        steps_until(TimeLimit(1.0, clock, 0, 1000), clock, 1000)
    assert "expected to take 1.67 min (100 ms a step, measured), over the limit of 1" in str(told.value)
    assert "the largest inr.inr_total_steps that fits is 600" in str(told.value)
    clock = _Clock()
    assert steps_until(TimeLimit(1.0, clock, 0, 600), clock, 600) == 600


def test_a_training_that_is_slower_than_it_looked_stops_where_its_time_is_over():
    clock = _Clock()
    assert steps_until(TimeLimit(1.0, clock, 0, 700), clock, 700) in (600, 601)
    clock = _Clock()
    assert steps_until(TimeLimit(1.0, clock, 5, 5000), clock, 5000) in (600, 601)  # one that continues is not refused


@pytest.mark.parametrize(("steps", "cut"), [(0.5, 0), (7.9, 7), (99.9, 99), (1234, 1200), (350999, 350000)])
def test_numbers_of_steps_are_cut_to_two_digits(steps, cut):
    assert rounded_down(steps) == cut


def test_a_stopped_training_is_scored_and_says_so(regime, tmp_path, monkeypatch):
    monkeypatch.setattr(TimeLimit, "_predict", lambda *_: None)
    run = write_order(tmp_path / "run", regime, inr_total_steps=10**7, max_minutes=0.05)
    assert main(["train", str(run)]) == 0
    assert main(["score", str(run), "--data", str(regime)]) == 0
    found = {k: v["value"] for k, v in json.loads((run / "result.json").read_text())["metrics"].items()}
    assert 10 < found["steps_done"] < 10**6
    assert 1 < found["time_used"] < 20 and found["training_time_min"] > 0.05
    assert found["heldout_cells_r2"] is not None


def test_a_killed_training_goes_on_as_if_it_was_not(tmp_path, regime):
    keys = {"inr_total_steps": 40}
    whole = write_order(tmp_path / "whole", regime, **keys)
    assert main(["train", str(whole)]) == 0
    run = write_order(tmp_path / "killed", regime, **keys)
    code = ("import os, sys; from trainers.__main__ import main; from trainers.run import Run; old = Run.record\n"
            "def record(self, stateful, terms, phase, epoch, step):\n"
            "    old(self, stateful, terms, phase, epoch, step)\n    if step == 23: os._exit(9)\n"
            "Run.record = record; main(sys.argv[1:])")  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code, "train", str(run)], check=False).returncode == 9
    assert main(["train", str(run)]) == 0
    with np.load(run / "out" / "estimate.npz") as found, np.load(whole / "out" / "estimate.npz") as right:
        for name in right.files:
            assert np.array_equal(found[name], right[name]), name


def test_a_trial_passes_and_its_check_too(tmp_path, regime):
    run = write_order(tmp_path / "trial", regime)
    assert main(["try", str(run)]) == 0
    assert main(["check", str(run), "--data", str(regime)]) == 0


@pytest.mark.science
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_training_ends_where_the_plain_one_does(regime, tmp_path):
    ends = []
    for name in ("none", "default"):
        run = write_order(tmp_path / name, regime, inr_compile=name, inr_random_points=True)
        done = subprocess.run([sys.executable, "-m", "trainers", "train", str(run)], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        assert not (run / "out" / "compiled").exists()
        with np.load(run / "out" / "estimate.npz") as found:
            ends.append(found["cells"])
    assert np.allclose(*ends, rtol=1e-4, atol=1e-5) and np.abs(ends[0]).max() > 0.01
