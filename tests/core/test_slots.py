import pytest

from orchestrator.core import mutation, slots, tree
from orchestrator.core.contract import SpreadRule
from orchestrator.core.events import Session
from orchestrator.core.scene import Scene
from orchestrator.errors import RefusedError
from orchestrator.scientist.offline import OfflineScientist
from tests.factory import Driver, contract

LR, L1 = "training.learning_rate_W_start", "training.coeff_W_L1"
SEEDS = ("exploit-best", "exploit-second", "explore", "principle-test")


def several(count=3, roles=(), n_iter_block=6, **changes):
    """A driver whose session has several slots."""
    driver = Driver(contract(n_iter_block=n_iter_block, **changes))
    driver.add(Session(session=2, version="0", scientist="offline", launcher="l", slots=count, sandbox="none",
                       iterations=99, roles=slots.roles(count, roles)))  # fmt: skip
    return driver


def test_roles_of_slots():
    assert slots.roles(1) == ()
    assert slots.roles(2) == SEEDS[:2] and slots.roles(3) == SEEDS[:3]
    assert slots.roles(4) == SEEDS and slots.roles(6) == (*SEEDS, *SEEDS[:2])
    assert slots.roles(3, ("control", "explore")) == ("control", "explore", "control")


def test_a_slot_is_free_again_when_its_run_has_ended():
    driver = several()
    assert [p.slot for p in driver.turn(3).proposals] == [0, 1, 2]
    assert slots.free(driver.state, 0) == [] and slots.free(driver.state, 1) == [3]
    driver.end(2, 0.5)
    assert slots.free(driver.state, 1) == [1]
    (proposal,) = driver.turn(1).proposals
    assert (proposal.slot, proposal.role) == (1, "exploit-second")


def test_a_run_that_is_tried_again_keeps_its_slot():
    driver = several()
    driver.turn(3)
    driver.end(2, outcome="out_of_memory")
    assert slots.free(driver.state, 1) == [3]


def test_a_parent_without_a_finished_run_is_refused():
    driver = several(replicate_every=0)
    driver.turn(3)
    driver.end(2, 0.5)
    (proposal,) = OfflineScientist().propose(driver.state, 1).proposals
    assert proposal.parent == 2
    mutation.check(driver.state, proposal)
    running = proposal.model_copy(update={"parent": 3, "base": 3})
    with pytest.raises(RefusedError, match=r"parent=3 refused: no run of it has ended yet; finished .*: \[2\]"):
        mutation.check(driver.state, running)


def test_a_child_starts_from_its_parent_or_from_an_earlier_block():
    driver = several(replicate_every=0)
    driver.turn(2)
    driver.end(1, 0.5)
    driver.end(2, 0.6)
    (proposal,) = OfflineScientist().propose(driver.state, 1).proposals
    other = {1: 2, 2: 1}[proposal.parent]
    with pytest.raises(RefusedError, match=f"base={other} refused: a child of node {proposal.parent} starts from"):
        mutation.check(driver.state, proposal.model_copy(update={"base": other}))
    with pytest.raises(RefusedError, match="base=1 refused: a child of root starts from the start"):
        mutation.check(driver.state, proposal.model_copy(update={"parent": None, "base": 1}))


def test_a_slot_that_is_not_free_or_taken_twice_is_refused():
    driver = several()
    turn = OfflineScientist().propose(driver.state, 3)
    slots.check(driver.state, turn)
    twice = tuple(p.model_copy(update={"slot": 0}) for p in turn.proposals)
    with pytest.raises(RefusedError, match="slot 0 of iteration 2 refused: free now are 1, 2"):
        slots.check(driver.state, turn.model_copy(update={"proposals": twice}))


# The first round


def test_the_first_round_is_the_baseline_and_steps_from_its_config():
    driver = several(4)
    first, *others = driver.turn(4).proposals
    assert first.mutation.kind == "baseline"
    assert all(p.parent is None and p.base is None and len(p.mutation.changes) == 1 for p in others)
    assert len({p.mutation.changes[0].key for p in others}) == 3
    for i, value in enumerate((0.5, 0.7, 0.3, 0.5), start=1):
        driver.end(i, value)
    scene = Scene(driver.state, 1)
    assert [scene.effect(driver.state.nodes[i]) for i in (2, 3, 4)] == ["improved", "degraded", "neutral"]
    assert "against 0.5000 of the baseline, node 1: +0.2000" in driver.turn().reflections[1].observation


SPREAD = (
    SpreadRule(text="baseline"),
    SpreadRule(text="higher lr_W", values={LR: 1e-2}),
    SpreadRule(text="both", values={LR: 5e-3, L1: 1e-4}),
)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_initial_spread_of_the_instruction_comes_first(count):
    driver = several(count, spread=SPREAD, replicate_every=0)
    made = []
    while len(made) < 3:
        turn = driver.turn(count)
        for proposal in turn.proposals:
            mutation.check(  # against the state before it: the driver has folded it
                Driver(driver.state.contract).state if proposal.iteration == 1 else _before(driver, turn),
                proposal,
                turn.proposals[: turn.proposals.index(proposal)],
            )
            made.append(proposal)
            driver.end(proposal.iteration, 0.5)
    assert [p.strategy for p in made[:3]] == ["exploit", "initial-spread", "initial-spread"]
    assert [{c.key: c.new for c in p.mutation.changes} for p in made[1:3]] == [r.values for r in SPREAD[1:]]
    assert {p.parent for p in made[1:3]} <= {None, 1}


def _before(driver, turn):
    again = Driver(driver.state.contract)
    for event in driver.events[2 : turn.based_on]:
        again.add(event.body)
    return again.state


def test_several_keys_at_once_are_the_spread_s_only():
    driver = several(2, spread=SPREAD, replicate_every=0)
    driver.turn(2)
    driver.end(1, 0.5)
    (proposal,) = OfflineScientist().propose(driver.state, 1).proposals
    assert len(proposal.mutation.changes) == 2
    bad = tuple(c.model_copy(update={"new": 2e-4}) if c.key == L1 else c for c in proposal.mutation.changes)
    with pytest.raises(RefusedError, match="2 keys refused"):
        mutation.check(
            driver.state,
            proposal.model_copy(update={"mutation": proposal.mutation.model_copy(update={"changes": bad})}),
        )


# The end of a block


def at_block_end(count=3):
    """Iterations 1 to 6 are proposed, the sixth runs, two slots are idle."""
    driver = several(count, replicate_every=9)
    driver.turn(3)
    for i in (1, 2, 3):
        driver.end(i, 0.5 + i / 10)
    driver.turn(3)
    driver.end(4, 0.9)
    driver.end(5, 0.1)
    assert driver.state.planned == 6 and slots.full(driver.state) == 1 and driver.state.block == 2
    return driver


def test_idle_slots_run_leaders_again_while_the_block_s_last_run_goes_on():
    driver = at_block_end()
    turn = driver.turn(2)
    assert [(p.iteration, p.filler, p.mutation.replicate_of) for p in turn.proposals] == [(7, True, 4), (8, True, 3)]
    slots.check(_before(driver, turn), turn)
    state = driver.state
    assert (state.planned, state.block_of(8), state.first_of(2), state.fillers) == (6, 1, 9, {1: 2})
    driver.end(6, 0.2)
    assert state.closing is None  # the fillers are runs of the block, too
    driver.end(7, 0.92)
    driver.end(8, 0.8)
    assert state.closing == 1
    (proposal,) = driver.turn(1).proposals
    assert (proposal.iteration, state.block_of(9), proposal.base) == (9, 2, 4)
    assert len(Scene(state, 1).iterations) == 8 and tree.block_nodes(state, 1)[-1].id == 6


def test_fillers_stop_when_only_fillers_run_and_when_the_leaders_are_known():
    driver = at_block_end()
    driver.turn(2)
    driver.end(7, 0.9)
    driver.turn(1)
    assert driver.state.iterations[9].node not in (4, 3)  # each leader once before any twice
    driver.end(6, 0.2)
    assert OfflineScientist().propose(driver.state, 2).proposals == ()
    driver = at_block_end()
    while proposals := driver.turn(1).proposals:
        driver.end(proposals[0].iteration, 0.5)
    runs = [len(n.iterations) for n in driver.state.nodes.values()]
    assert max(runs) == 4 and min(runs) == 1


def test_no_fillers_where_replicates_are_never_wanted():
    driver = several(3, replicate_every=0)
    driver.turn(3)
    for i in (1, 2, 3):
        driver.end(i, 0.5)
    driver.turn(3)
    driver.end(4, 0.9)
    assert OfflineScientist().propose(driver.state, 1).proposals == ()


def test_a_turn_that_completes_its_block_fills_the_other_slots():
    driver = several(4, n_iter_block=6, replicate_every=9)
    driver.turn(4)
    for i in range(1, 5):
        driver.end(i, i / 10)
    turn = driver.turn(4)
    assert [p.filler for p in turn.proposals] == [False, False, True, True]
    slots.check(_before(driver, turn), turn)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"filler": True}, "a filler runs a finished node again"),
        ({"iteration": 9}, "the next one is 7"),
    ],
)
def test_what_is_no_filler_is_refused(change, message):
    driver = at_block_end()
    turn = OfflineScientist().propose(driver.state, 1)
    step = driver.state.iterations[5].proposal.model_copy(update={"iteration": 7, "slot": 0} | change)
    with pytest.raises(RefusedError, match=message):
        slots.check(driver.state, turn.model_copy(update={"proposals": (step,)}))
        mutation.check(driver.state, step)


def test_a_filler_before_its_time_is_refused():
    driver = several(3, replicate_every=0)
    driver.turn(3)
    driver.end(1, 0.5)
    late = at_block_end()
    (filler,) = OfflineScientist().propose(late.state, 1).proposals
    early = filler.model_copy(
        update={"iteration": 4, "slot": 0, "mutation": filler.mutation.model_copy(update={"replicate_of": 1})}
    )
    turn = OfflineScientist().propose(driver.state, 1).model_copy(update={"proposals": (early,)})
    with pytest.raises(RefusedError, match="block 1 has iterations left"):
        slots.check(driver.state, turn)


# Roles


def grown(roles, count=4):
    """A block with noise measured, a principle found and four free slots."""
    driver = several(count, roles, n_iter_block=30, replicate_every=0)
    driver.put(0.50)
    driver.put(0.501, of=1, seeds=(8, 42))
    driver.put(0.60, parent=1, changes=[(LR, 1e-2)])
    driver.put(0.55, parent=1, changes=[(L1, 1e-4)])
    driver.put(0.58, parent=4, changes=[("training.batch_size", 16)])
    return driver


def test_each_role_proposes_what_it_is_for():
    turn = grown(()).turn(4)
    best, second, explore, test = turn.proposals
    assert [p.role for p in turn.proposals] == list(SEEDS)
    assert best.parent != second.parent and (best.strategy, second.strategy) == ("exploit", "exploit")
    assert "second-highest UCB" in second.parent_rule
    assert explore.strategy == "explore" and "outside the line of the best node" in explore.parent_rule
    assert explore.parent in (4, 5)
    assert test.strategy == "principle-test" and 'tests "' in test.evidence and "support: " in test.evidence


def test_principles_are_tested_in_turn_and_the_run_counts_for_or_against():
    driver = grown(("principle-test",), 1)
    driver.add(Session(session=3, version="0", scientist="offline", launcher="l", slots=1, sandbox="none",
                       iterations=99, roles=("principle-test",)))  # fmt: skip
    tested = []
    for _ in range(3):
        (proposal,) = driver.turn(1).proposals
        assert proposal.strategy == "principle-test", proposal
        tested.append(proposal.mutation.changes[0].key)
        driver.end(proposal.iteration, 0.1)
    assert len(set(tested[:2])) == 2  # another principle each time
    driver.turn(1)
    assert any(p.against for p in driver.state.principles)


def test_the_control_runs_the_best_node_unchanged():
    driver = grown(("control", "exploit-best"), 2)
    control, step = driver.turn(2).proposals
    assert (control.mutation.replicate_of, control.strategy) == (3, "control")
    assert step.mutation.kind == "config"


def test_with_a_control_slot_no_other_replicate_is_due():
    driver = several(2, ("control", "exploit-best"), n_iter_block=30, replicate_every=2)
    driver.turn(2)
    for _ in range(4):
        for it in driver.state.open_iterations:
            driver.end(it.proposal.iteration, 0.5)
        driver.turn(2)
    assert "replicate" not in {it.proposal.strategy for it in driver.state.iterations.values()}
