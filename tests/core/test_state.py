import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.events import RunEnded, RunReserved
from orchestrator.core.records import Metric
from orchestrator.core.state import fold
from orchestrator.scientist.offline import OfflineScientist
from tests.factory import Driver, contract


def score(config):
    return 1 - abs(config["training"]["learning_rate_W_start"] - 8e-3) * 50


def explored(n=8):
    driver = Driver()
    driver.explore(n, score)
    return driver


def test_fold_of_every_prefix_equals_incremental_state():
    driver = explored()
    for k in range(len(driver.events) + 1):
        state = fold(contract(), driver.events[:k])
        assert state.seq == k
    assert fold(contract(), driver.events) == driver.state


def test_folding_an_event_twice_changes_nothing():
    driver = explored()
    twice = [e for e in driver.events for _ in (0, 1)]
    again = fold(contract(), twice)
    assert again.nodes == driver.state.nodes
    assert again.iterations == driver.state.iterations
    assert again.turns == driver.state.turns


@given(st.integers(1, 16))
def test_each_turn_can_be_recomputed_from_the_prefix_it_names(n):
    driver = explored(n)
    for turn in driver.state.turns:
        prefix = fold(contract(), driver.events[: turn.based_on])
        assert OfflineScientist().propose(prefix, turn.asked) == turn


def test_killed_runs_are_tried_once_more_and_then_decide():
    driver = Driver()
    driver.turn()
    driver.end(1, outcome="killed")
    assert [it.proposal.iteration for it in driver.state.open_iterations] == [1]
    driver.end(1, outcome="killed")
    assert driver.state.iterations[1].outcome == "killed"


def test_lost_runs_do_not_count_as_tries():
    driver = Driver()
    driver.turn()
    for _ in range(5):
        driver.end(1, outcome="killed", lost=True)
    driver.end(1, outcome="killed")
    assert driver.state.open_iterations
    driver.end(1, 0.5)
    assert driver.state.iterations[1].metric("connectivity_R2") == Metric(value=0.5)


@pytest.mark.parametrize("outcome", ["crashed", "diverged", "timed_out", "rejected"])
def test_verdicts_on_the_idea_are_final_at_once(outcome):
    driver = Driver()
    driver.turn()
    driver.end(1, outcome=outcome)
    assert driver.state.iterations[1].outcome == outcome
    assert driver.state.iterations[1].metric("connectivity_R2").reason == "missing"


def test_events_that_contradict_the_past_are_errors():
    driver = Driver()
    with pytest.raises(ValueError, match="iteration 4 was never proposed"):
        driver.add(RunReserved(iteration=4, attempt=1, session=1))
    driver = Driver()
    driver.turn()
    with pytest.raises(ValueError, match="attempt 1 of iteration 1 was never reserved"):
        driver.add(RunEnded(iteration=1, attempt=1, session=1, outcome="ok"))


def test_a_replicate_belongs_to_its_node_and_carries_another_seed():
    driver = explored(6)
    it = driver.state.iterations[6]
    assert it.proposal.mutation.kind == "replicate"
    node = driver.state.nodes[it.node]
    assert node.id != 6 and 6 in node.iterations and 6 not in driver.state.nodes
    assert driver.state.config_of(it.proposal)["training"]["seed"] == 8
