"""Keys that change between blocks only: which may change, to what, and which config a block starts from."""

import pytest

from orchestrator.core import block_keys, boundary, configs, mutation, stopping
from orchestrator.core.contract import RegimeRule
from orchestrator.core.events import Amended, Turned
from orchestrator.core.records import Boundary, Change, Mutation, Turn
from orchestrator.errors import RefusedError
from orchestrator.scientist.offline import OfflineScientist
from tests.between import BUDGET, LR, METHOD, ODE, RECURRENT, STEP, block, driver, rules, values
from tests.factory import contract


def change(key, old, new):
    return Change(key=key, old=old, new=new)


def said(*changes, reason="block 1 reached its best early", number=1, **fields):
    given = {"block": number, "summary": ("done",), "regime": "", "focus": "lr", "hypothesis": "lr matters"}
    return Boundary.model_validate(given | {"changes": changes, "changes_reason": reason if changes else ""} | fields)


def end(made, *changes, number=1):
    turn = Turn(turn=len(made.state.turns) + 1, based_on=1, scientist="t", boundary=said(*changes, number=number))
    boundary.check(made.state, turn)
    made.add(Turned(turn=turn))


@pytest.fixture
def complete():
    """Return a driver whose first block is complete and not ended."""
    made = driver()
    block(made, 0.5, 0.6)
    assert made.state.closing == 1
    return made


def test_the_next_block_starts_with_the_values_set_and_keeps_the_rest(complete):
    before = complete.state.nodes[2].config
    end(complete, change(STEP, 1, 4), change(METHOD, "dopri5", "rk4"))
    proposal = complete.turn().proposals[0]
    config = complete.state.nodes[3].config
    assert (proposal.base, proposal.mutation.kind) == (2, "baseline")
    assert config["training"] | {"time_step": 1, "ode_method": "dopri5", "seed": 0} == before["training"] | {"seed": 0}
    assert (config["training"]["time_step"], config["training"]["ode_method"]) == (4, "rk4")
    assert configs.idea_sha(config) == proposal.config_sha
    complete.end(3, 0.7)
    child = complete.turn().proposals[0]
    assert complete.state.config_of(child)["training"]["time_step"] == 4
    assert complete.state.base_config(3, 2) == complete.state.nodes[3].config


def test_each_base_has_what_the_ends_since_its_own_block_have_set():
    made = driver(compare=None)
    for number, step in ((1, 4), (2, 16)):
        block(made, 0.5, 0.6)
        end(made, change(STEP, values(made)[-1], step), number=number)
    block(made, 0.5, 0.6)
    end(made, number=3)
    block(made, 0.5)
    state = made.state
    assert values(made) == [1, 4, 16, 16]
    for base in (None, 1, 2, 3, 4, 5, 6):
        assert state.base_config(base, 4)["training"]["time_step"] == 16
    assert state.base_config(None, 1) == state.opened.start
    assert [state.base_config(None, b)["training"]["time_step"] for b in (1, 2, 3, 4, 5)] == [1, 4, 16, 16, 16]
    assert state.at_end(2).base_config(1, 3)["training"]["time_step"] == 16


def test_a_value_changed_within_a_block_is_carried_on():
    """The budget key may change in both places: the later one holds."""
    made = driver(compare=None, time_target_min=3.0, keys=(*contract().keys, *free_budget()))
    block(made, 0.5, 0.6)
    end(made, change(BUDGET, 5, 10))
    first = made.turn().proposals[0].iteration
    made.end(first, 0.7)
    assert made.state.nodes[first].config["training"]["data_augmentation_loop"] == 10
    child = made.put(0.9, parent=first, changes=[(BUDGET, 20)])
    end(made, change(STEP, 1, 4), number=2)
    assert made.turn().proposals[0].base == child
    training = made.state.nodes[made.state.last_iteration].config["training"]
    assert (training["data_augmentation_loop"], training["time_step"]) == (20, 4)
    assert made.state.base_config(1, 3)["training"]["data_augmentation_loop"] == 10


def free_budget():
    return [k.model_copy(update={"level": "free"}) if k.key == BUDGET else k for k in rules().keys[-5:]]


REFUSED = [
    ((change(STEP, 1, 5),), "time_step = 5 refused: allowed values are 1, 4, 16"),
    ((change(STEP, 1, 4.0),), "of type int"),
    ((change(STEP, 1, True),), "of type int"),
    ((change(STEP, 4, 16),), "old value 4 refused: block 1 has 1"),
    ((change(STEP, 1, 1),), "that is its value already; leave it out"),
    ((change(STEP, 1, 4), change(STEP, 1, 16)), "time_step refused: it is changed 2 times"),
    ((change("training.time_stop", 1, 4),), "no such key; nearest: training.time_step"),
    ((change("time_step", 1, 4),), "names its key in full: training.time_step"),
    ((change("zzz", 1, 4),), "a block's end may change training.time_step, training.recurrent_training"),
    ((change(LR, 3e-3, 5e-3),), "changes within blocks, by a proposal; a block's end may change"),
    ((change("simulation.n_neurons", 10, 20),), r"is frozen \(test:9\); a block's end may change"),
    ((change(BUDGET, 5, 10),), r"is frozen \(test:21\)"),
    ((change(METHOD, "dopri5", "rk5"),), "allowed values are dopri5, rk4"),
    ((change(ODE, False, True),), "at most one of .*; set training.recurrent_training to False too"),
    ((change(ODE, False, 1),), "of type bool"),
]


@pytest.mark.parametrize(("changes", "why"), REFUSED, ids=[str(i) for i in range(len(REFUSED))])
def test_what_may_not_change_at_an_end_is_refused_with_advice(complete, changes, why):
    with pytest.raises(RefusedError, match=why):
        boundary.check_end(complete.state, said(*changes))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, None, [1], {"a": 1}, "4"], ids=range(7))
def test_what_is_no_value_is_refused(complete, value):
    with pytest.raises(RefusedError):
        boundary.check_end(complete.state, said(change(STEP, 1, value)))


def test_changes_need_a_reason_and_a_reason_changes(complete):
    with pytest.raises(RefusedError, match="no reason is given; name the evidence"):
        boundary.check_end(complete.state, said(change(STEP, 1, 4), reason=" "))
    with pytest.raises(RefusedError, match="a changes_reason without changes refused"):
        boundary.check_end(complete.state, said(changes_reason="because"))


def test_the_mode_is_switched_by_both_keys_of_its_group(complete):
    end(complete, change(RECURRENT, True, False), change(ODE, False, True))
    training = complete.state.base_config(2, 2)["training"]
    assert (training["recurrent_training"], training["neural_ODE_training"]) == (False, True)
    complete.turn()


def test_the_budget_key_may_change_at_an_end_with_a_time_target():
    made = driver(time_target_min=3.0)
    block(made, 0.5, 0.6)
    end(made, change(STEP, 1, 4), change(BUDGET, 5, 2))
    training = made.state.base_config(2, 2)["training"]
    assert (training["time_step"], training["data_augmentation_loop"]) == (4, 2)


def test_within_a_block_such_a_key_is_refused_and_says_where_it_changes(complete):
    with pytest.raises(RefusedError, match="changes only between blocks: at the end of a block .* free keys: training"):
        mutation.check_change(complete.state.contract, change(STEP, 1, 4))


def test_free_keys_of_a_group_are_not_true_together():
    keys = [k.model_copy(update={"level": "free"}) if k.key in (RECURRENT, ODE) else k for k in rules().keys]
    made = driver(keys=keys)
    made.put(0.5)
    made.put(0.6, parent=1, changes=[(RECURRENT, False)])
    for parent, refused in ((1, True), (2, False)):
        config = configs.with_values(made.state.nodes[parent].config, {ODE: True})
        proposal = made.state.iterations[2].proposal.model_copy(
            update={
                "iteration": 3,
                "parent": parent,
                "base": parent,
                "mutation": Mutation(kind="config", changes=(change(ODE, False, True),)),
                "config_sha": configs.idea_sha(config),
            }
        )
        made.state.n_iter_block = 6  # the block goes on
        if refused:
            with pytest.raises(RefusedError, match="recurrent_training is; set training.recurrent_training to False"):
                mutation.check(made.state, proposal)
        else:
            mutation.check(made.state, proposal)


def test_a_block_of_other_values_is_a_gain():
    made = driver(compare=None)
    for number, step in ((1, None), (2, 4), (3, None)):
        block(made, 0.9 - 0.1 * number, 0.5)
        end(made, *([change(STEP, 1, step)] if step else []), number=number)
    assert values(made) == [1, 1, 4]
    assert stopping.without_gain(made.state, 1) is None
    block(made, 0.5, 0.4)
    assert "no gain beyond the noise floor" in stopping.without_gain(made.state, 1)


def test_settings_name_the_compared_key_always_and_others_where_they_changed(complete):
    assert block_keys.shown(complete.state, 1) == "time_step=1"
    end(complete, change(METHOD, "dopri5", "rk4"))
    assert block_keys.shown(complete.state, 2) == "time_step=1, ode_method=rk4"
    assert block_keys.shown(complete.state, 1) == "time_step=1"


def test_a_regimes_values_and_those_of_an_end_hold_together():
    regimes = tuple(RegimeRule(name=n, values={"simulation.n_neurons": v}) for n, v in (("a", 10), ("b", 20)))
    made = driver(regimes=regimes, compare=None)
    block(made, 0.5, 0.6)
    turn = Turn(turn=9, based_on=1, scientist="t", boundary=said(change(STEP, 1, 4), regime="b"))
    made.add(Turned(turn=turn))
    config = made.state.base_config(2, 2)
    assert (config["simulation"]["n_neurons"], config["training"]["time_step"]) == (20, 4)


def test_a_key_that_was_free_keeps_the_carried_nodes_value_when_a_person_makes_it_block_level():
    free = [k.model_copy(update={"level": "free"}) if k.key == STEP else k for k in rules().keys]
    made = driver(keys=free, compare=None)
    made.put(0.5)
    made.put(0.9, parent=1, changes=[(STEP, 16)])
    new = rules(compare=None)
    made.add(Amended(number=1, contract_sha=new.sha, contract=new.model_dump(), instruction="i", diff="d"))
    made.turn()
    assert values(made) == [1, 16]
    made.end(3, 0.9)
    made.end(made.turn().proposals[0].iteration, 0.8)
    end(made, change(STEP, 16, 4), number=2)
    turn = OfflineScientist().propose(made.state, 1)
    assert made.state.config_of(turn.proposals[0])["training"]["time_step"] == 4
