"""What the offline scientist takes for the next block: unseen values first, wishes before them, then the other mode."""

import pytest

from orchestrator.core import boundary
from orchestrator.core.contract import RegimeRule, UserInstruction
from orchestrator.core.events import Amended, Turned
from orchestrator.core.records import Change
from orchestrator.scientist.learned import acknowledged
from orchestrator.scientist.offline import OfflineScientist
from tests.between import BUDGET, LR, METHOD, ODE, RECURRENT, STEP, block, driver, rules, values


def ended(made):
    """End the complete block as the engine would: checked, then folded."""
    boundary.check(made.state, OfflineScientist().propose(made.state, 1))
    return made.ended()


def changed(said):
    return {change.key: change.new for change in said.changes}


def test_values_are_taken_upwards_then_downwards_with_what_was_measured():
    made = driver(start=at(4))
    block(made, 0.9912, 0.6)
    said = ended(made)
    assert changed(said) == {STEP: 16}
    assert (
        said.changes_reason
        == "no block had time_step=16; block 1 (time_step=4) reached connectivity_R2 0.9912 (node 1, n=1)"
    )
    assert said.hypothesis == "with time_step=16 the config of node 1 gives connectivity_R2 > 0.9"
    block(made, 0.5, 0.6)
    said = ended(made)
    assert changed(said) == {STEP: 1}
    assert "block 2 (time_step=16) reached connectivity_R2 0.6000 (node 4, n=1)" in said.changes_reason
    block(made, 0.5)
    assert values(made) == [4, 16, 1]


def at(step):
    start = rules().start
    return start | {"training": start["training"] | {"time_step": step}}


@pytest.fixture
def all_had():
    made = driver()
    for best in (0.5, 0.95, 0.7):
        block(made, best - 0.1, best)
    assert values(made) == [1, 4, 16]
    return made


def test_when_all_were_had_the_mode_is_switched_at_the_best_value(all_had):
    said = ended(all_had)
    assert changed(said) == {STEP: 4, RECURRENT: False, ODE: True}
    assert said.changes_reason == (
        "every value of time_step was had; block 2 (time_step=4) reached connectivity_R2 0.9500 (node 4, n=1), the "
        "best; neural_ODE_training was never true"
    )
    assert said.hypothesis.startswith("with time_step=4, ")
    block(all_had, 0.6, 0.7)
    said = ended(all_had)
    assert changed(said) == {RECURRENT: True, ODE: False}
    assert said.changes_reason.endswith("(node 4, n=1), the best")
    block(all_had, 0.6, 0.97)
    assert values(all_had) == [1, 4, 16, 4, 4]
    said = ended(all_had)
    assert (said.changes, said.changes_reason) == ((), "")


@pytest.mark.parametrize(
    "narrowed",
    [
        {ODE: {"level": "frozen"}},
        {RECURRENT: {"level": "frozen"}},
        {RECURRENT: {"allowed": (True,)}},
        {ODE: {"allowed": (False,)}},
    ],
    ids=range(4),
)
def test_a_mode_that_may_not_be_switched_is_left_and_the_best_value_taken_again(narrowed):
    keys = [k.model_copy(update=narrowed.get(k.key, {})) for k in rules().keys]
    made = driver(keys=keys)
    for best in (0.5, 0.95, 0.7):
        block(made, best - 0.1, best)
    assert changed(ended(made)) == {STEP: 4}


def test_a_wish_comes_first_and_is_acknowledged():
    wish = UserInstruction(text="Try time_step = 16 first", between={STEP: (16,)})
    made = driver(user_instructions=(wish,))
    block(made, 0.5)
    assert acknowledged(made.state) == ("time_step=16 is taken at a block's end",)
    block(made, 0.6)
    said = ended(made)
    assert changed(said) == {STEP: 16}
    assert said.changes_reason.startswith(
        "a user instruction asks for time_step=16, and no block had it; block 1 (time"
    )
    assert acknowledged(made.state) == ("time_step=16 is that of block 2",)
    block(made, 0.5, 0.6)
    assert changed(ended(made)) == {STEP: 4}
    assert all(it.proposal.mutation.changes[:1] == () or it.proposal.mutation.changes[0].key != STEP
               for it in made.state.done)  # fmt: skip


def test_a_wish_for_a_mode_turns_the_other_off_and_needs_no_comparison():
    wish = UserInstruction(
        text="neural_ODE_training = true, ode_method = rk4", between={ODE: (True,), METHOD: ("rk4",)}
    )
    made = driver(user_instructions=(wish,), compare=None)
    block(made, 0.5, 0.6)
    assert changed(ended(made)) == {ODE: True, RECURRENT: False}
    block(made, 0.5, 0.6)
    assert changed(ended(made)) == {METHOD: "rk4"}
    block(made, 0.5, 0.6)
    assert changed(ended(made)) == {}


def test_a_wish_that_the_law_refuses_does_not_stop_the_exploration():
    wish = UserInstruction(text="time_step = 64", between={STEP: (64,)})
    made = driver(user_instructions=(wish,))
    block(made, 0.5, 0.6)
    assert changed(ended(made)) == {STEP: 4}


def test_without_a_comparison_nothing_changes():
    made = driver(compare=None)
    block(made, 0.5, 0.6)
    assert ended(made).changes == ()


def test_a_block_without_a_result_counts_as_had():
    made = driver()
    block(made, None, None)
    said = ended(made)
    assert changed(said) == {STEP: 4}
    assert said.changes_reason == "no block had time_step=4; block 1 (time_step=1) gave no connectivity_R2"
    assert said.hypothesis == "with time_step=4 some config of block 2 gives a connectivity_R2 at all"


def test_values_of_words_are_taken_in_their_order():
    made = driver(compare=METHOD)
    block(made, 0.5, 0.6)
    assert changed(ended(made)) == {METHOD: "rk4"}


def test_each_regime_has_its_own_round_of_values():
    regimes = tuple(RegimeRule(name=n, values={"simulation.n_neurons": v}) for n, v in (("a", 10), ("b", 20)))
    made = driver(regimes=regimes)
    for _ in range(5):
        block(made, 0.5, 0.6)
    found = [(made.state.regime_name(b), step) for b, step in enumerate(values(made), 1)]
    assert found == [("a", 1), ("b", 1), ("a", 4), ("b", 4), ("a", 16)]


def test_a_list_that_a_person_moves_is_followed():
    made = driver()
    block(made, 0.5, 0.6)
    keys = [k.model_copy(update={"allowed": (8, 32)}) if k.key == STEP else k for k in rules().keys]
    new = rules(keys=keys)
    made.add(Amended(number=1, contract_sha=new.sha, contract=new.model_dump(), instruction="i", diff="d"))
    for _ in range(3):
        ended(made)
        block(made, 0.5, 0.6)
    assert values(made) == [1, 8, 32, 8]


def test_a_config_carried_back_to_an_earlier_value_runs_at_a_seed_of_its_own():
    """It is an idea of the earlier block, whose runs have the seeds that the carried node has not used."""
    made = driver(n_iter_block=3, compare=None)
    made.put(0.9)
    made.put(0.5, parent=1, changes=[(LR, 6e-3)])
    made.put(0.51, of=2, seeds=(8, 42))
    for number, (old, new) in enumerate(((1, 4), (4, 1)), 1):
        change = Change(key=STEP, old=old, new=new)
        end = OfflineScientist().propose(made.state, 0)
        said = end.boundary.model_copy(update={"changes": (change,), "changes_reason": "by hand"})
        made.add(Turned(turn=end.model_copy(update={"boundary": said})))
        first = made.turn().proposals[0]
        if number == 1:
            made.end(first.iteration, 0.6)
            made.put(0.99, parent=first.iteration, changes=[(LR, 6e-3)])
            made.put(0.2, parent=first.iteration, changes=[(LR, 1e-3)])
    assert first.base == 5 and made.state.nodes[7].idea == made.state.nodes[2].idea
    assert first.training_seed == 9


def paced(**changes):
    budget = {"level": "free", "exempt": True}
    keys = [k.model_copy(update=budget if k.key == BUDGET else {}) for k in rules().keys]
    return driver(keys=keys, time_target_min=3.0, **changes)


def test_the_first_run_of_a_deeper_block_has_the_budget_of_the_time_target():
    made = paced()
    start = made.state.contract.start["training"]["data_augmentation_loop"]
    block(made, 0.5, 0.6)  # 3 minutes each, at time_step 1
    said = ended(made)
    assert changed(said) == {STEP: 4, BUDGET: 1} and start == 5
    assert said.changes_reason.endswith("; aug 1 keeps the training near 3 min (predicted 12 with 5)")
    block(made, 0.5)
    first = made.state.nodes[3]
    assert (first.config["training"]["time_step"], first.config["training"]["data_augmentation_loop"]) == (4, 1)
    assert made.state.iterations[3].proposal.mutation.kind == "baseline"


def test_a_budget_that_fits_is_left_alone_at_a_blocks_end():
    made = paced(compare=None)
    block(made, 0.5, 0.6)
    assert ended(made).changes == ()
