"""What a training is expected to take, and the budget that brings it to the target."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core import configs, pace
from orchestrator.core.events import RunEnded, RunReserved, Session
from orchestrator.core.records import Change
from orchestrator.errors import RefusedError
from tests.factory import contract as plain
from tests.paced import LOOP, LR, NEITHER, RECURRENT, START, STEP, contract, driver, took

IDLE = {STEP: NEITHER}


def ran(minutes=4.3, found=None, **fields):
    """Return a journal with a baseline that trained for some minutes."""
    found = found or driver()
    found.put(0.5, metrics={"training_time_min": minutes}, idle=IDLE, **fields)
    return found


def predicted(found, **values):
    config = configs.with_values(START, {f"training.{k}": v for k, v in values.items()})
    return pace.predicted_min(found.state, config, 1)


def test_nothing_is_expected_before_a_run_has_ended():
    found = driver()
    assert pace.predicted_min(found.state, START, 1) is None
    assert pace.wanted_budget(found.state, START, 1) is None
    found.put(None, outcome="crashed", metrics={"training_time_min": 2.0})
    assert pace.predicted_min(found.state, START, 1) is None


def test_the_time_goes_with_the_product_of_the_cost_keys():
    found = ran(4.0)
    assert predicted(found) == pytest.approx(4.0)
    assert predicted(found, data_augmentation_loop=20, n_epochs=6) == pytest.approx(6.0)
    assert predicted(found, learning_rate_W_start=1e-2) == pytest.approx(4.0)
    assert predicted(found, n_epochs=0) == pytest.approx(2.0), "no factor: a key is left out where it is no number > 0"


def test_the_time_is_divided_by_the_keys_that_make_fewer_steps():
    found = ran(4.0, driver(cost_per=("training.n_epochs",), cost=("simulation.n_frames",)))
    assert predicted(found, n_epochs=4) == pytest.approx(4.0 * START["training"]["n_epochs"] / 4)
    assert predicted(found, data_augmentation_loop=20, n_epochs=START["training"]["n_epochs"]) == pytest.approx(2.0)
    text = "simulation.n_frames x training.data_augmentation_loop / training.n_epochs"
    assert pace.work_text(found.state.contract) == text


def test_a_key_that_cannot_act_counts_1():
    found = ran(2.0)
    assert predicted(found, time_step=16) == pytest.approx(2.0)
    assert predicted(found, time_step=16, recurrent_training=True) == pytest.approx(32.0)
    assert predicted(found, time_step=4, recurrent_training=True, data_augmentation_loop=10) == pytest.approx(2.0)


def test_a_config_learns_from_another_runs_idle_keys():
    found = ran(2.0)
    found.put(0.5, parent=1, changes=[(RECURRENT, True), (STEP, 4)], metrics={"training_time_min": 10.0})
    assert predicted(found, recurrent_training=True, time_step=16) == pytest.approx(40.0), "the nearest run rolled out"
    near = {"recurrent_training": False, "time_step": 4, "learning_rate_W_start": 6e-3}
    assert predicted(found, **near) == pytest.approx(2.0)


def test_a_reason_that_names_no_key_speaks_of_that_config_only():
    found = driver()
    found.put(0.5, metrics={"training_time_min": 2.0}, idle={STEP: "it cannot act here"})
    assert predicted(found, time_step=4) == pytest.approx(2.0)
    assert predicted(found, time_step=4, coeff_W_L1=1e-6) == pytest.approx(8.0)


@pytest.mark.parametrize(
    ("stated", "seconds", "minutes"),
    [(1.0, 90.0, 1.0), (2.0, 90.0, 1.5), (0.0, 90.0, 1.5), (-3.0, 90.0, 1.5), (None, 90.0, 1.5), (2.0, 0.0, 2.0),
     (None, 0.0, None)],
)  # fmt: skip
def test_what_the_training_says_of_its_time_is_bounded_by_the_supervisors_clock(stated, seconds, minutes):
    found = driver()
    found.put(0.5, metrics={"training_time_min": stated}, seconds=seconds)
    assert pace.trained_min(found.state.iterations[1]) == minutes
    assert pace.predicted_min(found.state, START, 1) == (None if minutes is None else pytest.approx(minutes))


def test_the_reference_is_the_run_most_alike_then_the_latest():
    found = ran(1.0)
    found.put(0.5, parent=1, changes=[(LR, 6e-3)], metrics={"training_time_min": 2.0}, idle=IDLE)
    found.put(0.5, parent=2, changes=[("training.batch_size", 32)], metrics={"training_time_min": 8.0}, idle=IDLE)
    assert predicted(found, learning_rate_W_start=6e-3) == pytest.approx(2.0)
    assert predicted(found, learning_rate_W_start=6e-3, batch_size=32, coeff_W_L1=1e-7) == pytest.approx(8.0)
    found.put(0.5, of=2, seeds=(8, 42), metrics={"training_time_min": 3.0}, idle=IDLE)
    assert predicted(found, learning_rate_W_start=6e-3) == pytest.approx(3.0)


def test_a_run_of_the_same_code_is_taken_first():
    found = ran(1.0)
    found.put(0.5, parent=1, changes=[(LR, 6e-3)], code="edited", metrics={"training_time_min": 5.0}, idle=IDLE)
    assert pace.predicted_min(found.state, START, 1, "edited") == pytest.approx(5.0)
    assert pace.predicted_min(found.state, START, 1, "tree") == pytest.approx(1.0)


def test_a_run_in_the_same_company_is_taken_first():
    found = ran(1.0, in_flight=1.0)
    found.put(0.5, of=1, seeds=(8, 42), metrics={"training_time_min": 1.8}, in_flight=2.0, idle=IDLE)
    assert predicted(found) == pytest.approx(1.0)
    found.add(Session(session=2, version="0", scientist="offline", launcher="l", slots=2, sandbox="none",
                      iterations=99))  # fmt: skip
    assert predicted(found) == pytest.approx(1.8)


def test_a_run_that_went_on_from_a_checkpoint_is_no_reference():
    found = driver()
    turn = found.turn()
    (first,) = turn.proposals
    found.add(RunReserved(iteration=first.iteration, attempt=1, session=1, resumes=None))
    found.add(RunEnded(iteration=1, attempt=1, session=1, outcome="killed", cause="killed", seconds=30.0))
    found.add(RunReserved(iteration=first.iteration, attempt=2, session=1, resumes=1))
    found.add(RunEnded(iteration=1, attempt=2, session=1, outcome="ok", cause="ok", seconds=30.0, metrics=took(0.9)))
    assert pace.trained_min(found.state.iterations[1]) == 0.9, "both attempts together bound it"
    assert predicted(found) is None


def test_the_wanted_budget_hits_the_target_and_stays_in_its_range():
    assert pace.wanted_budget(ran(4.3).state, START, 1) == Change(key=LOOP, old=40, new=14)
    assert pace.wanted_budget(ran(1.7).state, START, 1) is None, "within 20 %"
    assert pace.wanted_budget(ran(600.0).state, START, 1).new == 1, "never 0"
    assert pace.wanted_budget(ran(0.01).state, START, 1).new == 160
    at_the_end = configs.with_values(START, {LOOP: 160})
    assert pace.wanted_budget(ran(0.01).state, at_the_end, 1) is None
    assert pace.wanted_budget(ran(4.3, driver(target=None)).state, START, 1) is None


def test_a_budget_key_that_may_not_change_is_left_alone():
    keys = [k.model_copy(update={"level": "frozen"}) if k.key == LOOP else k for k in contract().keys]
    assert pace.wanted_budget(ran(4.3, driver(keys=tuple(keys))).state, START, 1) is None
    assert pace.budget_rule(plain()) is None


@given(st.floats(1e-6, 1e6), st.integers(1, 10**5), st.floats(1e-3, 1e4), st.integers(1, 50), st.integers(50, 10**5))
def test_the_wanted_budget_never_leaves_its_range_and_never_makes_it_worse(minutes, old, target, low, high):
    found = ran(minutes, driver(target=target, low=low, high=high))
    config = configs.with_values(START, {LOOP: min(max(old, low), high)})
    change = pace.wanted_budget(found.state, config, 1)
    before = pace.predicted_min(found.state, config, 1)
    if change is None:
        return
    after = pace.predicted_min(found.state, pace.with_budget(config, change), 1)
    assert isinstance(change.new, int) and low <= change.new <= high and change.new >= 1
    assert pace.is_off(found.state.contract, before)
    assert abs(after - target) < abs(before - target)
    if change.new not in (low, high):
        assert math.isclose(change.new, config["training"]["data_augmentation_loop"] * target / before, abs_tol=0.501)


@pytest.mark.parametrize(
    ("minutes", "new", "told"),
    [
        (4.3, 14, None),
        (4.3, 30, None),
        (1.6, 37, "expected to take 1.6 min and the target is 1.5, so it would buy training time, not insight"),
        (4.3, 80, "does not bring the training .4.3 min expected. nearer to the target 1.5"),
    ],
)
def test_the_budget_alone_changes_only_to_bring_the_time_to_the_target(minutes, new, told):
    from orchestrator.core import mutation
    from orchestrator.core.records import Mutation

    found = ran(minutes)
    made = found.turn().proposals[0]
    changes = (Change(key=LOOP, old=40, new=new),)
    sha = configs.idea_sha(configs.apply(found.state.nodes[1].config, changes))
    found = ran(minutes)
    step = {"parent": 1, "base": 1, "mutation": Mutation(kind="config", changes=changes), "config_sha": sha}
    alone = made.model_copy(update=step)
    if told is None:
        mutation.check(found.state, alone)
    else:
        with pytest.raises(RefusedError, match=told):
            mutation.check(found.state, alone)
