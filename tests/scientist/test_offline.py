import math

import pytest

from orchestrator.core import configs, mutation, tree
from orchestrator.core.contract import KeyRule
from orchestrator.scientist.moves import key_moves, wider_side
from orchestrator.scientist.offline import OfflineScientist
from tests.factory import Driver, contract

LR = "training.learning_rate_W_start"


def peak(config):
    """Best at lr_W 1e-2, L1 1e-4: a smooth landscape in decades."""
    t = config["training"]
    distance = abs(math.log10(t["learning_rate_W_start"] / 1e-2)) + 0.3 * abs(math.log10(t["coeff_W_L1"] / 1e-4))
    return 1.0 - 0.3 * distance


def test_the_baseline_comes_first_and_unchanged():
    driver = Driver()
    (proposal,) = driver.turn().proposals
    assert proposal.mutation.kind == "baseline" and proposal.parent is None
    assert driver.state.config_of(proposal) == driver.state.contract.start


def test_every_proposal_keeps_the_contract_and_no_idea_is_tried_twice():
    driver = Driver(contract(n_iter_block=40))
    seen = set()
    for i in range(1, 31):
        turn = OfflineScientist().propose(driver.state, 1)
        for proposal in turn.proposals:
            mutation.check(driver.state, proposal)
            if proposal.mutation.kind != "replicate":
                assert proposal.config_sha not in seen
                seen.add(proposal.config_sha)
        driver.turn()
        driver.end(i, peak(driver.state.config_of(proposal)))
    assert len(seen) == 25


def test_it_climbs_a_smooth_landscape():
    driver = Driver(contract(n_iter_block=12))
    driver.explore(12, peak)
    best = tree.best(driver.state)
    first = peak(driver.state.contract.start)
    assert peak(best.config) > first + 0.2
    assert best.config["training"]["learning_rate_W_start"] == 1e-2


def test_a_step_that_degrades_is_turned_back():
    driver = Driver(contract(replicate_every=0))
    driver.explore(2, lambda c: 0.5 if configs.get(c, LR) == 3e-3 else 0.2)
    change = driver.state.iterations[2].proposal.mutation.changes[0]
    assert change.key == LR and change.new > change.old
    (proposal,) = driver.turn().proposals
    assert proposal.mutation.changes[0].key == LR and proposal.mutation.changes[0].new < 3e-3


def test_keys_that_cannot_act_are_passed_over():
    driver = Driver(contract(replicate_every=0))
    driver.turn()
    driver.end(1, 0.5, keys_idle={LR: "no phase 2", "training.batch_size": "idle"})
    for i in range(2, 6):
        (proposal,) = driver.turn().proposals
        driver.end(i, 0.5, keys_idle={LR: "no phase 2", "training.batch_size": "idle"})
        assert proposal.mutation.changes[0].key == "training.coeff_W_L1"


def test_a_failed_run_is_observed_with_its_reason_and_left():
    driver = Driver(contract(replicate_every=0))
    driver.turn()
    driver.end(1, 0.5)
    driver.turn()
    driver.end(2, outcome="diverged", sentence="loss became NaN at step 10")
    turn = driver.turn()
    assert "loss became NaN at step 10" in turn.reflections[0].observation
    assert turn.proposals


def test_the_leader_is_replicated_at_a_new_seed():
    driver = Driver(contract(replicate_every=3))
    driver.explore(6, peak)
    replicates = [it.proposal for it in driver.state.iterations.values() if it.proposal.mutation.kind == "replicate"]
    assert [p.iteration for p in replicates] == [3, 6]
    assert all(p.training_seed != 7 for p in replicates)


def test_several_slots_get_different_ideas_and_none_crosses_a_block():
    driver = Driver(contract(replicate_every=0))
    driver.turn()
    driver.end(1, 0.5)
    turn = driver.turn(4)
    assert len({p.config_sha for p in turn.proposals}) == 4
    turn = OfflineScientist().propose(driver.state, 4)
    assert [p.iteration for p in turn.proposals] == [6]


@pytest.mark.parametrize(
    ("rule", "value", "side"),
    [
        (dict(type="float", low=100, high=50000), 10000.0, "down"),
        (dict(type="float", low=1e-7, high=1e-3), 1e-5, "up"),
        (dict(type="float", low=0.0, high=1e-3), 1e-4, "down"),
        (dict(type="float", low=0.0, high=1e-3), 0.0, "up"),
        (dict(type="int", allowed=(8, 16, 32)), 16, "up"),
        (dict(type="int", allowed=(8, 16, 32)), 32, "down"),
        (dict(type="str", allowed=("a", "b", "c")), "c", "down"),
    ],
)
def test_the_first_direction_is_the_wider_side_of_the_range(rule, value, side):
    assert wider_side(KeyRule(key="training.x", short="x", level="free", **rule), value) == side


@pytest.mark.parametrize(
    ("rule", "value", "expected"),
    [
        (dict(type="float", low=1e-4, high=1e-2), 3e-3, [1e-2, 9.5e-4]),
        (dict(type="float", low=1e-4, high=1e-2), 1e-2, [3.2e-3]),
        (dict(type="float", low=1e-7, high=1e-3), 1e-5, [1e-4, 1e-6]),
        (dict(type="int", low=0, high=10), 2, [6, 1]),
        (dict(type="int", low=0, high=10), 0, [1]),
        (dict(type="int", allowed=(8, 16, 32)), 16, [32, 8]),
        (dict(type="bool"), True, [False]),
        (dict(type="float", low=0.0, high=0.1), 0.0, [1e-2]),
        (dict(type="float"), 0.5, []),
        (dict(type="str"), "mlp", []),
    ],
)
def test_moves_stay_inside_the_range(rule, value, expected):
    key = KeyRule(key="training.x", short="x", level="free", **rule)
    assert [m.change.new for m in key_moves(key, {"training": {"x": value}}, 1.0)] == expected
