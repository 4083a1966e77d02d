"""What a time limit makes of the budget: the largest value that fits, and configs that are refused."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core import configs, mutation, pace
from orchestrator.core.contract import SpreadRule
from orchestrator.core.records import Change
from orchestrator.errors import RefusedError
from tests import factory
from tests.limited import LIMIT, LR, START, STEPS, WIDTH, contract, driver, step


def over(found, **values):
    config = configs.with_values(START, {f"inr.{k}": v for k, v in values.items()})
    return pace.over_limit(found.state, config, 1)


def proposal(found, made, parent=1):
    """Return a proposal from a node, as a scientist would put it together."""
    base = found.state.nodes[parent].config
    return factory.Driver(found.state.contract).turn().proposals[0].model_copy(update={
        "iteration": found.state.last_iteration + 1, "parent": parent, "base": parent, "mutation": made,
        "config_sha": configs.idea_sha(configs.apply(base, made.changes)),
    })  # fmt: skip


def test_the_limit_is_read_from_the_config():
    assert pace.limit_min(contract(), START) == 60.0
    assert pace.limit_min(contract(), configs.with_values(START, {LIMIT: 3})) == 3.0
    assert pace.limit_min(contract(time_limit=""), START) is None
    assert pace.limit_min(contract(time_limit="training.nothing"), START) is None
    assert pace.limit_min(contract(), configs.with_values(START, {LIMIT: True})) is None
    assert pace.is_timed(contract()) and not pace.is_timed(factory.contract())


def test_nothing_is_over_the_limit_before_a_run_has_ended():
    assert over(driver(), hidden_dim_inr=1024, inr_total_steps=2_000_000) is None


def test_over_the_limit_with_the_largest_budget_that_fits():
    found = over(driver(41.0), hidden_dim_inr=512)
    assert found == pace.Over(minutes=82.0, limit=60.0, reference=1, measured=41.0, stopped=False, fits=360_000)
    told = mutation.over_text(contract(), found)
    assert told == (
        "this config is expected to take 82 min (from iteration 1, which took 41), over the limit of 60 "
        "(training.max_minutes); the largest inr_total_steps that fits is 360000"
    )
    assert over(driver(30.0), hidden_dim_inr=512) is None, "exactly at the limit"
    assert over(driver(30.0, time_limit=""), hidden_dim_inr=1024) is None


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"low": 400_000}, "no inr_total_steps that is allowed brings it below"),
        ({"level": "frozen"}, "no key that may change brings it below"),
        ({"level": "block"}, "no key that may change brings it below"),
        ({"budget": "", "cost": (STEPS, WIDTH)}, "no key that may change brings it below"),
    ],
)
def test_where_no_budget_keeps_the_limit_none_is_told(fields, told):
    found = driver(41.0, **fields)
    assert over(found, hidden_dim_inr=512).fits is None
    assert mutation.over_text(found.state.contract, over(found, hidden_dim_inr=512)).endswith(told)


def test_the_end_of_the_range_fits_where_two_digits_are_below_it():
    assert over(driver(41.0, low=365_000), hidden_dim_inr=512).fits == 365_000


def test_a_budget_that_cannot_act_fits_nothing():
    found = driver()
    found.put(0.5, metrics={"training_time_min": 80.0}, idle={STEPS: "it cannot act here"})
    assert over(found).fits is None


def test_a_run_that_its_limit_stopped_counts_as_longer():
    alone = driver(60.02)
    assert over(alone).fits == 410_000
    assert "(from iteration 1, which was stopped at 60), over" in mutation.over_text(contract(), over(alone))
    found = driver(20.0)
    wide = [(WIDTH, 512), (STEPS, 1_000_000)]
    found.put(0.5, parent=1, changes=[(LR, 6e-3), *wide], metrics={"training_time_min": 60.02})
    near = configs.with_values(START, {LR: 6e-3, WIDTH: 512, STEPS: 1_000_000})
    said = pace.over_limit(found.state, near, 1)
    assert (said.reference, said.minutes, said.fits) == (1, 80.0, 750_000), "the other run says more"
    found.put(0.5, parent=1, changes=[(LR, 7e-3), (WIDTH, 512)], metrics={"training_time_min": 60.02})
    said = pace.over_limit(found.state, configs.with_values(near, {LR: 7e-3}), 1)
    assert (said.reference, round(said.minutes), said.fits) == (3, 144, 410_000)


@given(st.floats(1e-3, 1e6), st.integers(1, 10**6), st.integers(1, 100), st.integers(100, 10**7), st.floats(0.1, 1e3))
def test_what_fits_is_in_range_keeps_the_limit_and_is_nearly_the_largest(minutes, old, low, high, limit):
    start = configs.with_values(START, {STEPS: old, LIMIT: limit})
    found = driver(minutes, low=low, high=high, start=start)
    minutes *= 1 + pace.TOLERANCE if pace.is_stopped(minutes, limit) else 1
    said = pace.over_limit(found.state, start, 1)
    assert (said is None) == (minutes <= limit * (1 + pace.EXACT))
    if said is None:
        return
    most = old * limit / minutes
    if said.fits is None:
        assert most < low * (1 + pace.EXACT)
        return
    assert isinstance(said.fits, int) and low <= said.fits <= high and said.fits < old
    after = pace.predicted_min(found.state, configs.with_values(start, {STEPS: said.fits}), 1)
    assert after <= limit * (1 + pace.EXACT)
    assert said.fits in (low, high) or said.fits >= math.floor(most * 10 / 11)


@pytest.mark.parametrize(
    ("changes", "fits"),
    [
        ({"allowed": (0.1, 0.25, 0.5, 1.0)}, 0.5),
        ({"low": 0.0, "high": None}, 0.73),
        ({"low": 0.735, "high": 9.0}, None),
    ],
)
def test_a_budget_of_another_form_has_a_value_of_its_form(changes, fits):
    keys = [
        k.model_copy(update={"type": "float", "allowed": (), "low": None, "high": None, "start": 1.0} | changes)
        if k.key == STEPS else k for k in contract().keys
    ]  # fmt: skip
    start = configs.with_values(START, {STEPS: 1.0})
    found = driver(41.0, keys=tuple(keys), start=start)
    assert pace.over_limit(found.state, configs.with_values(start, {WIDTH: 512}), 1).fits == fits


def test_a_change_that_passes_the_limit_is_refused_and_fits_with_its_budget():
    found = driver(41.0)
    wide = (WIDTH, 256, 512)
    with pytest.raises(RefusedError, match="iteration 2 refused: this config is expected to take 82 min .from itera"):
        mutation.check(found.state, proposal(found, step(wide)))
    mutation.check(found.state, proposal(found, step(wide, (STEPS, 500_000, 360_000), fitted=True)))
    with pytest.raises(RefusedError, match="2 keys refused"):
        mutation.check(found.state, proposal(found, step(wide, (STEPS, 500_000, 360_000))))
    with pytest.raises(RefusedError, match="refused: it does not only keep the training within its limit"):
        mutation.check(found.state, proposal(found, step(wide, (STEPS, 500_000, 100_000), fitted=True)))
    with pytest.raises(RefusedError, match="does not only keep"):
        mutation.check(found.state, proposal(found, step((LR, 3e-3, 6e-3), (STEPS, 500_000, 360_000), fitted=True)))


def test_a_budget_that_is_not_explored_may_go_down_alone_from_over_the_limit():
    keys = tuple(k.model_copy(update={"exempt": True}) if k.key == STEPS else k for k in contract().keys)
    found = driver(80.0, keys=keys)
    mutation.check(found.state, proposal(found, step((STEPS, 500_000, 370_000))))
    for minutes, steps, told in ((80.0, 400_000, "over the limit"), (40.0, 370_000, "it would buy training time")):
        found = driver(minutes, keys=keys)
        with pytest.raises(RefusedError, match=told):
            mutation.check(found.state, proposal(found, step((STEPS, 500_000, steps))))


def test_a_fitted_step_says_so():
    made = step((WIDTH, 256, 512), (STEPS, 500_000, 360_000), fitted=True)
    told = mutation.describe(contract(), made)
    assert told == "hidden_dim_inr: 256 -> 512, inr_total_steps: 500000 -> 360000 (to keep the time limit)"
    plain = mutation.describe(contract(), made.model_copy(update={"fitted": False}))
    assert plain == told.removesuffix(" (to keep the time limit)")


def test_what_ran_before_may_run_again():
    found = driver(80.0)
    again = factory.Mutation(kind="replicate", replicate_of=1)
    mutation.check(found.state, proposal(found, again).model_copy(
        update={"parent": None, "training_seed": 8, "config_sha": found.state.nodes[1].config_sha}))  # fmt: skip


@pytest.mark.parametrize(("steps", "only"), [(360_000, True), (300_000, True), (280_000, False), (370_000, False)])
def test_a_budget_only_fits_when_it_goes_down_to_about_the_limit(steps, only):
    changes = (Change(key=WIDTH, old=256, new=512), Change(key=STEPS, old=500_000, new=steps))
    assert pace.only_fits(driver(41.0).state, START, changes, 1) is only
    assert not pace.only_fits(driver().state, START, changes, 1)
    assert not pace.only_fits(driver(41.0).state, START, changes[1:], 1), "alone it is what is tried"


def test_the_first_of_a_fitted_step_is_what_counts():
    found = driver(41.0)
    found.put(0.6, parent=1, changes=[(WIDTH, 512), (STEPS, 360_000)])
    assert [c.key for c in found.state.iterations[2].changes] == [WIDTH, STEPS], "two causes, said nothing"
    made = step((WIDTH, 256, 512), (STEPS, 500_000, 360_000), fitted=True)
    assert [c.key for c in contract().counted_of(made)] == [WIDTH]
    assert [c.key for c in contract().counted_of(made.model_copy(update={"fitted": False}))] == [WIDTH, STEPS]


def test_a_run_of_the_initial_spread_may_have_another_budget():
    rule = SpreadRule(text="wide and long", values={WIDTH: 512, LR: 6e-3, STEPS: 1_000_000})
    found = driver(41.0, spread=(rule,))
    made = step((WIDTH, 256, 512), (LR, 3e-3, 6e-3), (STEPS, 500_000, 360_000), fitted=True)
    mutation.check(found.state, proposal(found, made))


@pytest.mark.parametrize("fields", [{"level": "frozen"}, {"low": 450_000}])
def test_where_no_budget_keeps_the_limit_what_takes_no_longer_runs_and_what_does_is_refused(fields):
    found = driver(60.05, **fields)
    alike, wider = step((LR, 3e-3, 6e-3)), step((WIDTH, 256, 512))
    assert over(found).fits is None
    mutation.check(found.state, proposal(found, alike))
    with pytest.raises(RefusedError, match="over the limit of 60"):
        mutation.check(found.state, proposal(found, wider))


def test_a_run_of_the_initial_spread_may_not_change_the_budget_on_the_way():
    found = driver(30.0, spread=(SpreadRule(text="faster", values={LR: 6e-3}),))
    mutation.check(found.state, proposal(found, step((LR, 3e-3, 6e-3))))
    with pytest.raises(RefusedError, match="2 keys"):
        mutation.check(found.state, proposal(found, step((LR, 3e-3, 6e-3), (STEPS, 500_000, 900_000))))


@pytest.mark.parametrize(("minutes", "stopped"), [(59.8, False), (60.0, True), (60.05, True), (63.5, False)])
def test_a_training_was_stopped_only_if_it_went_over(minutes, stopped):
    assert pace.is_stopped(minutes, 60.0) == stopped
