import pytest

from orchestrator.core import configs, mutation
from orchestrator.core.records import Change, Mutation
from orchestrator.errors import RefusedError
from tests.factory import Driver


@pytest.fixture
def driver():
    driver = Driver()
    driver.turn()
    driver.end(1, 0.5)
    return driver


def proposal(driver, *changes, **fields):
    turn = driver.turn.__self__.state.turns[-1]
    base = turn.proposals[0]
    config = configs.apply(driver.state.nodes[1].config, changes)
    kind = Mutation(kind="config", changes=changes)
    values = {"iteration": 2, "parent": 1, "base": 1, "mutation": kind, "config_sha": configs.idea_sha(config)} | fields
    return base.model_copy(update=values)


def change(key, old, new):
    return Change(key=key, old=old, new=new)


LR, BATCH, N = "training.learning_rate_W_start", "training.batch_size", "simulation.n_neurons"


def test_a_change_within_the_rules_passes(driver):
    mutation.check(driver.state, proposal(driver, change(LR, 3e-3, 6e-3)))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ([change(LR, 3e-3, 0.5)], "range 1E-4 to 1E-2 .* nearest: 1E-2"),
        ([change(LR, 3e-3, 3e-3)], "that is its value already"),
        ([change(BATCH, 8, 9)], "allowed values are 8, 16, 32"),
        ([change(BATCH, 8, "16")], "of type int"),
        ([change(BATCH, 8, True)], "of type int"),
        ([change(N, 10, 20)], "frozen .test:9.; free keys: .*learning_rate_W_start"),
        ([change(LR, 3e-3, 6e-3), change(BATCH, 8, 16)], "at most 1 in one iteration"),
        ([change(LR, 3e-3, float("nan"))], "range"),
    ],
)
def test_refusals_name_what_the_rule_and_the_nearest(driver, changes, told):
    good = proposal(driver, change(LR, 3e-3, 6e-3))
    with pytest.raises(RefusedError, match=told):
        mutation.check(
            driver.state, good.model_copy(update={"mutation": Mutation(kind="config", changes=tuple(changes))})
        )


def test_an_unknown_key_names_the_nearest(driver):
    good = proposal(driver, change(LR, 3e-3, 6e-3))
    bad = Mutation(kind="config", changes=(change("training.learning_rate_W", 1, 2),))
    with pytest.raises(RefusedError, match="no such key; nearest: training.learning_rate_W_start"):
        mutation.check(driver.state, good.model_copy(update={"mutation": bad}))


def test_a_config_that_was_tried_is_refused(driver):
    driver.add_second = proposal(driver, change(LR, 3e-3, 6e-3))
    from orchestrator.core.events import Turned

    turn = driver.state.turns[-1].model_copy(update={"turn": 2, "proposals": (driver.add_second,)})
    driver.add(Turned(turn=turn))
    with pytest.raises(RefusedError, match="is the same run"):
        mutation.check(driver.state, proposal(driver, change(LR, 3e-3, 6e-3), iteration=3))


def test_parents_must_exist_in_the_block(driver):
    with pytest.raises(RefusedError, match="parent=5 refused: no such node; nodes of this block: .1."):
        mutation.check(driver.state, proposal(driver, change(LR, 3e-3, 6e-3), parent=5))


def test_a_wrong_derivation_is_refused(driver):
    with pytest.raises(RefusedError, match="do not give the recorded config"):
        mutation.check(driver.state, proposal(driver, change(LR, 3e-3, 6e-3), config_sha="0"))
    with pytest.raises(RefusedError, match=r"expected 0.001 before the change, found 0.003"):
        bad = proposal(driver, change(LR, 3e-3, 6e-3)).model_copy(
            update={"mutation": Mutation(kind="config", changes=(change(LR, 1e-3, 6e-3),))}
        )
        mutation.check(driver.state, bad)


@pytest.mark.parametrize(
    ("value", "text"),
    [(3e-3, "3E-3"), (1e-5, "1E-5"), (10000, "10000"), (0.05, "5E-2"), (0.25, "0.25"), (True, "True"), (0.0, "0"),
     (8, "8"), (0, "0"), (2.5e-4, "2.5E-4"), (1e7, "1E7"), (-0.5, "-0.5")],
)  # fmt: skip
def test_numbers_are_spelled_as_the_instructions_spell_them(value, text):
    assert mutation.number(value) == text


def recombined(driver, *changes, second=3):
    kind = Mutation(kind="config", changes=changes, second_parent=second)
    config = configs.apply(driver.state.nodes[2].config, changes)
    made = proposal(driver)
    return made.model_copy(
        update={"iteration": 4, "parent": 2, "base": 2, "mutation": kind, "config_sha": configs.idea_sha(config)}
    )


@pytest.fixture
def parents(driver):
    driver.put(0.6, parent=1, changes=[(LR, 1e-2)])
    driver.put(0.7, parent=1, changes=[(BATCH, 16), ("training.coeff_W_L1", 1e-4)])
    return driver


def test_a_recombination_may_change_more_keys_than_a_step_and_names_its_second_parent(parents):
    made = recombined(parents, change(BATCH, 8, 16), change("training.coeff_W_L1", 1e-5, 1e-4))
    mutation.check(parents.state, made)
    text = "batch_size: 8 -> 16, coeff_W_L1: 1E-5 -> 1E-4 (recombined with node 3)"
    assert mutation.describe(parents.state.contract, made.mutation) == text


def test_a_recombination_takes_values_of_its_second_parent_only(parents):
    with pytest.raises(RefusedError, match="node 3, the second parent, has 16"):
        mutation.check(parents.state, recombined(parents, change(BATCH, 8, 32)))
    with pytest.raises(RefusedError, match="second_parent=9 refused: no such node"):
        mutation.check(parents.state, recombined(parents, change(BATCH, 8, 16), second=9))
