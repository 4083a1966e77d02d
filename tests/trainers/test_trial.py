"""The programs try and check: what a trial reaches, what it leaves, and what is refused."""

import inspect
import json
import shutil
import subprocess

import numpy as np
import pytest
import torch

import trainers.signal
from tests import real
from tests.trainers.conftest import SIMULATION, write_order
from tests.trainers.test_programs import PROGRAM, ROOT, environment, training_code  # noqa: F401 (a fixture)
from tests.trainers.test_training import restore_global_state  # noqa: F401 (a fixture)
from trainers import checkpoints, trial
from trainers.__main__ import main
from trainers.errors import RefusedError
from trainers.order import read_order
from trainers.run import Run
from trainers.scoring.check import check
from trainers.scoring.metrics import load_truth
from trainers.scoring.signal import input_shapes as _shapes
from trainers.scoring.signal import shapes as shapes_of_scoring
from trainers.settings import n_iterations, read_config

PHASES = {"n_epochs": 20, "n_epochs_init": 5}
LATE = {"recurrent_training": True, "time_step": 4, "recurrent_training_start_epoch": 9}


def small(**training):
    config = trial.shrunk(read_config("signal", {"simulation": SIMULATION, "training": training}))
    t = config.training
    steps = n_iterations(config.simulation.n_frames, t.data_augmentation_loop, t.batch_size)
    return t.n_epochs, t.n_epochs_init, t.recurrent_training_start_epoch, steps


@pytest.mark.parametrize(("keys", "epochs"), [
    (PHASES, (2, 1, 0)),
    ({"n_epochs": 1, "n_epochs_init": 1}, (2, 1, 0)),
    ({"n_epochs": 1, "n_epochs_init": 0}, (2, 1, 0)),
    ({"n_epochs": 2, "n_epochs_init": 7}, (2, 1, 0)),
    (PHASES | {"recurrent_training_start_epoch": 9}, (2, 1, 0)),
    (PHASES | LATE, (3, 1, 2)),
    (PHASES | LATE | {"recurrent_training_start_epoch": 3}, (3, 2, 1)),
    (PHASES | LATE | {"recurrent_training_start_epoch": 5}, (2, 1, 1)),
    (PHASES | LATE | {"recurrent_training_start_epoch": 0}, (2, 1, 0)),
    ({"n_epochs": 2, "n_epochs_init": 0} | LATE, (3, 1, 2)),
])  # fmt: skip
def test_a_trial_has_every_regime_of_the_loop_in_its_order(keys, epochs):
    assert small(**keys) == (*epochs, trial.STEPS)


@pytest.mark.parametrize(("batch_size", "steps"), [(1, 10), (2, 5), (7, 4), (8, 3), (32, 3), (100, 3), (1024, 3)])
def test_an_epoch_of_a_trial_has_a_few_steps(batch_size, steps):
    assert small(batch_size=batch_size, data_augmentation_loop=9999)[3] == steps


def test_only_the_length_differs():
    keys = PHASES | {"seed": 3, "learning_rate_W_start": 0.01, "coeff_W_L1": 0.5, "lr_scheduler": "cosine"}
    whole = read_config("signal", {"simulation": SIMULATION, "training": keys})
    left, right = whole.model_dump(), trial.shrunk(whole).model_dump()
    differing = {f"{s}.{k}" for s in left for k in left[s] if left[s][k] != right[s][k]}
    assert differing == {"simulation.n_frames", "training.n_epochs", "training.n_epochs_init",
                         "training.data_augmentation_loop"}  # fmt: skip


def test_a_trial_reaches_both_phases_and_the_configured_time_step(order, monkeypatch):
    seen, read = [], []
    original = Run.record

    def record(self, stateful, terms, phase, epoch, step):
        seen.append((phase, frozenset(terms)))
        original(self, stateful, terms, phase, epoch, step)

    euler = trainers.signal.SignalPropagation.rate
    monkeypatch.setattr(trainers.signal.SignalPropagation, "rate", lambda m, *of: read.append(m) or euler(m, *of))
    monkeypatch.setattr(Run, "record", record)
    monkeypatch.setattr(trainers.signal, "predictions", lambda *_: {})  # the only other caller
    run_dir = order(**PHASES, **LATE)
    trial.try_out(read_order(run_dir), run_dir)
    first = [(1, frozenset({"prediction", "edge_diff"}))] * 3
    second = [(2, frozenset({"prediction", "W_L1"}))] * 6
    assert seen == [*first, *second, *second[-2:]]  # the last two once more, after the kill
    assert len(read) == 2 * 3 + LATE["time_step"] * (3 + 2)  # single steps, then rollouts


@pytest.mark.parametrize("keys", [{}, {"neural_ODE_training": True, "ode_method": "rk4", "time_step": 2},
                                  LATE | {"noise_recurrent_level": 0.01}, {"batch_size": 1}])  # fmt: skip
def test_a_trial_leaves_what_check_wants(order, regime, keys):
    run_dir = order(**keys)
    assert main(["try", str(run_dir)]) == 0
    assert main(["check", str(run_dir), "--data", str(regime)]) == 0
    assert {p.name for p in (run_dir / "out").iterdir()} == {"checkpoint.pt", "estimate.npz", "estimates",
                                                            "progress.jsonl", "train.json"}  # fmt: skip


def test_a_trial_takes_nothing_from_an_earlier_one_and_leaves_nothing_to_train(order):
    run_dir = order()
    assert main(["try", str(run_dir)]) == 0
    first = (run_dir / "out" / "checkpoint.pt").read_bytes()
    assert main(["try", str(run_dir)]) == 0
    assert (run_dir / "out" / "checkpoint.foreign").read_bytes() == first
    content = torch.load(run_dir / "out" / "checkpoint.pt", weights_only=True)
    assert content["identity"] != read_order(run_dir).identity


def edited(**changes):
    """Return data_train_signal with these lines replaced, as a scientist would."""
    text = inspect.getsource(trainers.signal.data_train_signal)
    for old, new in changes.values():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    names = dict(vars(trainers.signal))
    exec(text, names)
    return names["data_train_signal"]


UNSAVED = {
    "drawn from": ("batch_size, sampler)", "batch_size, unsaved)"),
    "made": ("    delta = data", "    unsaved = torch.Generator().manual_seed(3)\n    delta = data"),
}


def test_a_training_that_a_kill_changes_is_refused(order, monkeypatch, capsys):
    monkeypatch.setattr(trainers.signal, "data_train_signal", edited(**UNSAVED))
    run_dir = order()
    assert main(["try", str(run_dir)]) == 13
    told = json.loads((run_dir / "out" / "failure.json").read_text())
    assert told["kind"] == "refused" and "W, lin_edge, lin_phi, heldout_du, rollout_u differ" in told["sentence"]
    assert "`stateful`" in capsys.readouterr().err


def test_the_same_state_in_stateful_is_accepted(order, monkeypatch):
    saved = UNSAVED | {"saved": ('"sampler": sampler}', '"sampler": sampler, "unsaved": unsaved}')}
    monkeypatch.setattr(trainers.signal, "data_train_signal", edited(**saved))
    assert main(["try", str(order())]) == 0


def test_a_tensor_that_must_survive_stands_in_stateful(tmp_path):
    kept = torch.tensor([1.0, 2.0], dtype=torch.float64)
    checkpoints.save(tmp_path / "c.pt", {"kept": kept}, {"step": 3}, "same")
    kept.zero_()
    assert checkpoints.load(tmp_path / "c.pt", {"kept": kept}, "same") == {"step": 3}
    assert kept.tolist() == [1.0, 2.0]


def test_a_training_that_stops_early_says_where(order, monkeypatch):
    stop = edited(
        stop=("        run.checkpoint(", "        if epoch == 0:\n            break\n        run.checkpoint(")
    )
    monkeypatch.setattr(trainers.signal, "data_train_signal", stop)
    run_dir = order()
    assert main(["train", str(run_dir)]) == 0
    with np.load(run_dir / "out" / "estimate.npz") as arrays:
        assert (int(arrays["epoch"]), int(arrays["step"])) == (0, 60)


@pytest.fixture(scope="module")
def tried(tmp_path_factory, regime):
    run_dir = write_order(tmp_path_factory.mktemp("tried") / "run", regime)
    assert main(["try", str(run_dir)]) == 0
    return run_dir


@pytest.fixture
def left(tried, tmp_path):
    """A copy of what a trial left, to spoil."""
    return shutil.copytree(tried, tmp_path / "left") / "out"


def spoil(path, **arrays):
    with np.load(path) as found:
        content = dict(found) | arrays
    np.savez(path, **{k: v for k, v in content.items() if v is not None})


SPOILT = {
    r"W has shape \(10, 9\), expected \(10, 10\)": {"W": np.zeros((10, 9), np.float32)},
    r"array 'heldout_du' is missing; found 'W', 'a'": {"heldout_du": None},
    r"rollout_u has shape \(2,\)": {"rollout_u": np.zeros(2)},
    r"lin_phi holds NaN or infinite": {"lin_phi": np.full((10, 201), np.nan)},
    r"not a readable npz": {"step": np.array(np.inf)},
    r"a has dtype <U1, expected numbers": {"a": np.full((10, 2), "x")},
}


@pytest.mark.parametrize("sentence", SPOILT)
def test_an_estimate_that_cannot_be_scored_is_refused(left, regime, sentence):
    spoil(left / "estimate.npz", **SPOILT[sentence])
    with pytest.raises(RefusedError, match=sentence):
        check(left.parent, regime)


def test_an_intermediate_estimate_is_checked_too(left, regime):
    spoil(next((left / "estimates").iterdir()), W=np.zeros((3, 3)))
    with pytest.raises(RefusedError, match=r"W has shape \(3, 3\)"):
        check(left.parent, regime)
    shutil.rmtree(left / "estimates")
    with pytest.raises(RefusedError, match="expected an intermediate estimate, found none"):
        check(left.parent, regime)


@pytest.mark.parametrize(("name", "value"), [("final_loss", None), ("final_loss", True), ("keys_read", "all"),
                                             ("training_time_s", float("nan")), ("device", 3)])  # fmt: skip
def test_a_train_json_of_another_form_is_refused(left, regime, name, value, capsys):
    told = json.loads((left / "train.json").read_text()) | {name: value}
    (left / "train.json").write_text(json.dumps(told))
    assert main(["check", str(left.parent), "--data", str(regime)]) == 13
    said = capsys.readouterr().err
    assert said.startswith(f"check: train.json: {name} must be") and said.rstrip().endswith(f"found {value!r}")
    assert said.count("\n") == 1


def test_progress_without_a_prediction_is_refused(left, regime):
    (left / "progress.jsonl").write_text(
        '{"step": 1, "terms": {"other": 1}}\n{"step": 2, "terms": 3}\n{"step": Infinity}\n'
    )
    with pytest.raises(RefusedError, match="loss term `prediction`"):
        check(left.parent, regime)


def test_the_shapes_are_those_of_scoring(regime):
    assert _shapes(regime / "inputs") == shapes_of_scoring(load_truth(regime))


@pytest.mark.trains
def test_try_and_check_as_programs(tmp_path, regime, training_code):  # noqa: F811 (the fixture)
    """The trial runs without preparation and scoring, the check without torch."""
    run_dir = write_order(tmp_path / "run", regime)

    def step(*words, code):
        return subprocess.run([*words], env=environment(code, tmp_path), cwd=tmp_path, capture_output=True, text=True,
                              timeout=60)  # fmt: skip

    real.count(1)
    done = step(*PROGRAM, "try", str(run_dir), code=training_code)
    assert done.returncode == 0, done.stderr
    no_torch = "import sys; sys.modules['torch'] = None; from trainers.__main__ import main; sys.exit(main())"
    done = step(PROGRAM[0], "-P", "-c", no_torch, "check", str(run_dir), "--data", str(regime), code=ROOT)
    assert done.returncode == 0, done.stderr
