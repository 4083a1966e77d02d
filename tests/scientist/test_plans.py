"""The slots' plans in the making: what each call changes, and what it refuses with which way out."""

import pytest

from orchestrator.core.contract import SpreadRule
from orchestrator.core.events import Session
from orchestrator.core.slots import roles
from orchestrator.errors import RefusedError
from orchestrator.scientist.claude import tools
from orchestrator.scientist.claude.plans import Plans
from tests.factory import Driver, contract

LR, L1, BATCH = "training.learning_rate_W_start", "training.coeff_W_L1", "training.batch_size"


def choose(plans, slot, parent, second=None):
    return plans.choose_parent(tools.ChooseParent(slot=slot, parent=parent, second_parent=second))


def change(plans, slot, key, value):
    return plans.set_hyperparameter(tools.SetHyperparameter(slot=slot, key=key, value=value))


def said(*slots):
    return [tools.Plan(slot=s, strategy="exploit", parent_rule="the best", hypothesis="it rises") for s in slots]


@pytest.fixture
def driver():
    """Three finished nodes: the baseline, a larger step size, a smaller penalty."""
    found = Driver()
    found.put(0.5)
    found.put(0.7, parent=1, changes=[(LR, 6e-3)], idle={L1: "acts in phase 2 only"})
    found.put(0.6, parent=1, changes=[(L1, 1e-6)])
    return found


def test_a_change_of_one_key(driver):
    plans = Plans(driver.state, 1)
    assert "lr_W=6E-3, batch_size=8, coeff_W_L1=1E-5" in choose(plans, 0, 2)
    assert change(plans, 0, "lr_W", 1e-2) == "slot 0: lr_W: 6E-3 -> 1E-2"
    (made,) = plans.proposals(said(0))
    assert (made.parent, made.base, made.iteration) == (2, 2, 4)
    assert [(c.key, c.old, c.new) for c in made.mutation.changes] == [(LR, 6e-3, 1e-2)]


def test_a_change_is_taken_back_before_another_is_made(driver):
    plans = Plans(driver.state, 1)
    choose(plans, 0, 2)
    change(plans, 0, BATCH, 16)
    with pytest.raises(RefusedError, match=r"at most 1 key\(s\).*batch_size: 8 -> 16; set that back"):
        change(plans, 0, "lr_W", 1e-2)
    assert change(plans, 0, "batch_size", 8) == "slot 0: batch_size is the parent's 8 again"
    change(plans, 0, "lr_W", 1e-2)
    assert [c.key for c in plans.proposals(said(0))[0].mutation.changes] == [LR]


def test_a_key_that_could_not_act_is_told(driver):
    plans = Plans(driver.state, 1)
    choose(plans, 0, 2)
    assert "it could not act in node 2 (acts in phase 2 only)" in change(plans, 0, "coeff_W_L1", 1e-4)


@pytest.mark.parametrize(("key", "value", "stored"), [("batch_size", 16.0, 16), (LR, 0.01, 0.01), ("lr_W", 1e-4, 1e-4)])
def test_values_take_the_type_of_their_key(driver, key, value, stored):
    plans = Plans(driver.state, 1)
    choose(plans, 0, 2)
    change(plans, 0, key, value)
    new = plans.proposals(said(0))[0].mutation.changes[0].new
    assert (new, type(new)) == (stored, type(stored))


def test_recombination_takes_values_of_the_second_parent_only(driver):
    plans = Plans(driver.state, 1)
    choose(plans, 0, 2, second=3)
    change(plans, 0, "coeff_W_L1", 1e-6)
    (made,) = plans.proposals(said(0))
    assert (made.parent, made.mutation.second_parent) == (2, 3)
    choose(plans, 0, 2, second=3)
    change(plans, 0, "coeff_W_L1", 1e-4)
    with pytest.raises(RefusedError, match="node 3, the second parent, has 1E-6"):
        plans.proposals(said(0))


@pytest.mark.parametrize(("seed", "field"), [("training", "training_seed"), ("simulation", "simulation_seed")])
def test_a_replicate_gets_a_seed_that_was_never_used(driver, seed, field):
    plans = Plans(driver.state, 1)
    plans.replicate(tools.Replicate(slot=0, node=2, seed=seed))
    (made,) = plans.proposals(said(0))
    assert made.mutation.replicate_of == 2
    assert getattr(made, field) == {"training_seed": 8, "simulation_seed": 43}[field]


def test_nothing_changed_is_refused_with_the_two_ways_out(driver):
    plans = Plans(driver.state, 1)
    choose(plans, 0, 2)
    with pytest.raises(RefusedError, match="nothing changes; set one key, or call replicate"):
        plans.proposals(said(0))


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda p: choose(p, 0, 9), r"there is no such node; finished nodes of this block: 1, 2, 3"),
        (lambda p: choose(p, 3, 1), r"slot 3 refused: slots to fill are 0"),
        (lambda p: change(p, 0, "lr_W", 1e-3), "has no parent yet: call choose_parent first"),
        (lambda p: (choose(p, 0, 2), change(p, 0, "lr_X", 1e-3)), "'lr_X' refused.*nearest free keys: lr_W"),
        (lambda p: (choose(p, 0, 2), change(p, 0, "n_neurons", 20)), r"frozen \(test:9\); free keys"),
        (lambda p: (choose(p, 0, 2), change(p, 0, "seed", 3)), "a seed is no hyperparameter; call replicate"),
        (lambda p: (choose(p, 0, 2), change(p, 0, "lr_W", float("nan"))), "it is no number; it may be 1E-4 to 1E-2"),
        (lambda p: (choose(p, 0, 2), change(p, 0, "lr_W", "1e-3")), "it is of type float"),
        (lambda p: (choose(p, 0, 2), change(p, 0, "batch_size", True)), "it is of type int"),
        (lambda p: (choose(p, 0, 2), change(p, 0, "lr_W", 6e-3)), "that is its value already"),
        (lambda p: choose(p, 0, "root", second=2), "a recombination needs a parent node"),
    ],
)
def test_refusals_name_the_way_out(driver, call, told):
    with pytest.raises(RefusedError, match=told):
        call(Plans(driver.state, 1))


def test_two_slots_of_one_turn_may_not_run_the_same(driver):
    driver.add(Session(session=2, version="0", scientist="claude", launcher="l", slots=2, sandbox="none",
                       iterations=99, roles=roles(2)))  # fmt: skip
    plans = Plans(driver.state, 2)
    for slot in plans.slots:
        choose(plans, slot, 2)
        change(plans, slot, "lr_W", 1e-2)
    with pytest.raises(RefusedError, match="another proposal of this turn has this config"):
        plans.proposals(said(0, 1))
    change(plans, 1, "lr_W", 9e-3)
    made = plans.proposals(said(1, 0))
    assert [(p.slot, p.iteration, p.role) for p in made] == [(0, 4, "exploit-best"), (1, 5, "exploit-second")]


def test_the_initial_spread_may_change_several_keys():
    spread = (SpreadRule(text="both at once", values={LR: 6e-3, BATCH: 16}),)
    driver = Driver(contract(spread=spread))
    driver.add(Session(session=2, version="0", scientist="claude", launcher="l", slots=2, sandbox="none",
                       iterations=99, roles=roles(2)))  # fmt: skip
    plans = Plans(driver.state, 2)
    choose(plans, 0, "root")
    choose(plans, 1, "root")
    change(plans, 1, "lr_W", 6e-3)
    change(plans, 1, "batch_size", 16)
    with pytest.raises(RefusedError, match="at most 1"):
        change(plans, 1, "coeff_W_L1", 1e-4)
    baseline, both = plans.proposals(said(0, 1))
    assert baseline.mutation.kind == "baseline"
    assert {c.key for c in both.mutation.changes} == {LR, BATCH}


def test_slots_beyond_the_block_are_not_offered():
    driver = Driver(contract(n_iter_block=4))
    for value in (0.1, 0.2, 0.3):
        driver.put(value, parent=driver.state.last_iteration or None, changes=[(LR, 3e-3 + value / 1e3)])
    assert Plans(driver.state, 3).slots == [0]


def test_a_key_that_is_excused_from_the_one_change_rule_is_no_seed():
    rules = [k.model_copy(update={"exempt": True}) if k.key == BATCH else k for k in contract().keys]
    driver = Driver(contract(keys=tuple(rules)))
    driver.put(0.5)
    plans = Plans(driver.state, 1)
    choose(plans, 0, 1)
    change(plans, 0, "batch_size", 16)
    change(plans, 0, "lr_W", 1e-2)
    assert {c.key for c in plans.proposals(said(0))[0].mutation.changes} == {BATCH, LR}


def test_rows_about_code_are_not_followed_while_it_is_off(driver):
    plans = Plans(driver.state, 1)
    choose(plans, 0, 2)
    change(plans, 0, "lr_W", 1e-2)
    plan = said(0)[0].model_copy(update={"strategy": "code-modification"})
    with pytest.raises(RefusedError, match="code edits are off in this exploration.*; take one of exploit"):
        plans.proposals([plan])
