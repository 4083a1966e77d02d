"""The end of a block: asked for once, refused with advice when it breaks a rule."""

import pytest

from orchestrator.core import boundary
from orchestrator.core.contract import RegimeRule, StrategyRule
from orchestrator.core.events import Amended, Turned
from orchestrator.core.records import Boundary, RuleEdit, Turn
from orchestrator.errors import RefusedError
from tests.factory import Driver, contract

REGIMES = (
    RegimeRule(name="small", values={"simulation.n_neurons": 10}),
    RegimeRule(name="large", values={"simulation.n_neurons": 20}),
)
ROWS = (
    StrategyRule(name="exploit", condition="Default", action="step"),
    StrategyRule(name="explore", condition="3 consecutive successes", action="leave"),
)


def said(**changes):
    fields = {"block": 1, "summary": ("it went well",), "regime": "large", "focus": "lr", "hypothesis": "lr matters"}
    return Boundary.model_validate(fields | changes)


def turn(boundary_=None, **changes):
    return Turn.model_validate({"turn": 9, "based_on": 1, "scientist": "t", "boundary": boundary_} | changes)


@pytest.fixture
def complete():
    """Return a state whose first block is complete and not ended."""
    driver = Driver(contract(regimes=REGIMES, strategies=ROWS, n_iter_block=2))
    for i in (1, 2):
        driver.end(driver.turn().proposals[0].iteration, 0.5 + i / 10)
    assert driver.state.closing == 1
    return driver


def test_a_complete_block_is_ended_once(complete):
    state = complete.state
    boundary.check(state, turn(said()))
    with pytest.raises(RefusedError, match="without `boundary` refused: block 1 is complete"):
        boundary.check(state, turn())
    complete.turn()
    assert state.closing is None and state.boundaries[1].regime == "large"
    with pytest.raises(RefusedError, match="no block is complete now"):
        boundary.check(state, turn(said()))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"block": 2}, "the complete block is 1"),
        ({"summary": ()}, "0 lines refused: 1 to 3"),
        ({"summary": ("a",) * 4}, "4 lines refused"),
        ({"focus": " "}, "empty focus"),
        ({"regime": "huge"}, "declared are small, large"),
        ({"focus_keys": ("training.learning_rate_W",)}, "nearest: training.learning_rate_W_start"),
        ({"rules": (RuleEdit(op="add", strategy="explore", reason="r"),)}, "change it instead"),
        ({"rules": (RuleEdit(op="change", strategy="explor", reason="r"),)}, "nearest: explore"),
        ({"rules": (RuleEdit(op="change", strategy="explore", reason=" "),)}, "gives no reason"),
        ({"rules": (RuleEdit(op="change", strategy="explore", condition="a | b", reason="r"),)}, "one line without"),
    ],
)
def test_what_breaks_a_rule_is_refused_with_advice(complete, changes, why):
    with pytest.raises(RefusedError, match=why):
        boundary.check(complete.state, turn(said(**changes)))


def test_the_table_has_a_cap(complete):
    edits = tuple(RuleEdit(op="add", strategy=f"row-{i}", condition="c", action="a", reason="r") for i in range(29))
    with pytest.raises(RefusedError, match="the table is full"):
        boundary.check(complete.state, turn(said(rules=edits)))
    boundary.check(complete.state, turn(said(rules=edits[:28])))


def test_a_config_carried_into_a_new_regime_keeps_its_training_and_takes_the_regime(complete):
    carried = complete.state.nodes[2].config
    proposal = complete.turn().proposals[0]
    config = complete.state.config_of(proposal)
    assert (proposal.parent, proposal.base) == (None, 2)
    assert config["simulation"]["n_neurons"] == 20 and carried["simulation"]["n_neurons"] == 10
    assert config["training"] | {"seed": 0} == carried["training"] | {"seed": 0}


def test_no_proposal_begins_a_block_before_the_one_before_it_is_ended():
    driver = Driver(contract(regimes=REGIMES, n_iter_block=2))
    driver.end(driver.turn().proposals[0].iteration, 0.5)
    ahead = driver.turn().proposals[0].model_copy(update={"iteration": 3, "parent": None})
    with pytest.raises(RefusedError, match="begins block 2, and block 1 is not ended"):
        boundary.check(driver.state, turn(proposals=(ahead,)))
    driver.end(2, 0.6)
    driver.turn()
    boundary.check(driver.state, turn(proposals=(ahead,)))


def test_what_a_person_writes_into_a_row_later_wins_over_a_boundary_edit(complete):
    edit = RuleEdit(op="change", strategy="explore", condition="2 consecutive successes", action="leave", reason="r")
    complete.add(Turned(turn=turn(said(rules=(edit,)))))
    assert complete.state.strategies[1].condition == "2 consecutive successes"
    for condition, expected in (("3 consecutive successes", "2 consecutive"), ("9 consecutive successes", "9 consec")):
        rows = (ROWS[0], ROWS[1].model_copy(update={"condition": condition}))
        new = complete.state.contract.model_copy(update={"strategies": rows})
        number = len(complete.state.amendments) + 1
        complete.add(Amended(number=number, contract_sha=new.sha, contract=new.model_dump(), instruction="i", diff="d"))
        assert complete.state.strategies[1].condition.startswith(expected)
