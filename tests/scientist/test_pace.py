"""The offline scientist under a time target, and what Claude is told and may do."""

import pytest

from orchestrator.core import pace
from orchestrator.core.contract import SpreadRule
from orchestrator.core.records import Change
from orchestrator.core.scene import Scene
from orchestrator.errors import RefusedError
from orchestrator.formats import entry, memory
from orchestrator.scientist import learned
from orchestrator.scientist.claude import facts, tools
from orchestrator.scientist.claude.plans import Plans
from orchestrator.scientist.desk import Desk, Draft
from orchestrator.scientist.offline import OfflineScientist
from tests.paced import IDLE_STEP as IDLE
from tests.paced import LOOP, LR, driver, took

BATCH = "training.batch_size"


def minutes(config):
    """What a training of this toy takes: its work, and half as much again with a large batch."""
    training = config["training"]
    rollout = training["time_step"] if training["recurrent_training"] else 1
    return 0.1 * training["data_augmentation_loop"] * rollout * (1.5 if training["batch_size"] > 8 else 1.0)


def idle(config):
    return {} if config["training"]["recurrent_training"] else IDLE


def explore(found, iterations):
    """Let the offline scientist explore; return (iteration, config, predicted, real) of each run."""
    seen = []
    while len(found.state.done) < iterations:
        for proposal in found.turn().proposals:
            config = found.state.config_of(proposal)
            real = minutes(config)
            value = 0.9 - abs(config["training"]["learning_rate_W_start"] - 8e-3) * 50
            found.end(proposal.iteration, metrics=took(real, value), keys_idle=idle(config))
            seen.append((proposal, config, real))
    return seen


def test_each_change_keeps_the_training_near_its_target():
    found = driver(n_iter_block=30)
    seen = explore(found, 20)
    assert seen[0][2] == pytest.approx(4.0) and seen[0][0].predicted_min is None
    steps = [s for s in seen[1:] if s[0].mutation.kind == "config"]
    least = [config["training"]["data_augmentation_loop"] == 1 for _, config, _ in steps]
    for (proposal, _, _), at_least in zip(steps, least, strict=True):
        assert at_least or proposal.predicted_min == pytest.approx(1.5, rel=pace.TOLERANCE + 1e-6)
    off = [real for (_, _, real), at_least in zip(steps, least, strict=True) if not at_least and real > 1.9]
    assert len(off) <= 2, "only a key that no run had told about (a larger batch) takes longer, once"
    told = [p for p, _, _ in seen if len(p.mutation.changes) == 2]
    assert told and all(p.mutation.changes[1].key == LOOP for p in told)
    assert "data_augmentation_loop 40 -> 15 keeps the training near 1.5 min (predicted 4)" in told[0].hypothesis


def test_the_budget_is_never_explored_for_itself():
    seen = explore(driver(n_iter_block=30), 20)
    for proposal, _, _ in seen:
        assert [c.key for c in proposal.mutation.changes][:1] != [LOOP]


def again(took_min):
    """Make the step of node 2 from node 1 once more, after node 2 took some minutes at a budget of 15."""
    found = driver()
    found.put(0.5, metrics={"training_time_min": 4.0}, idle=IDLE)
    found.put(0.7, parent=1, changes=[(LR, 1e-2), (LOOP, 15)], metrics={"training_time_min": took_min}, idle=IDLE)
    desk = Desk(found.state, 3, scene=Scene(found.state, 1))
    step = Draft(node=1, changes=(Change(key=LR, old=3e-3, new=1e-2),), rule="by hand", hypothesis="it rises")
    return desk.make(step, "exploit", "")


def test_one_step_is_not_made_again_at_about_the_same_budget():
    with pytest.raises(RefusedError, match="the same was run at about this data_augmentation_loop"):
        again(2.5)  # 9 would hit the target now
    assert again(6.0).mutation.changes[1].new == 4, "the run told nothing about the target"


def test_a_step_with_a_budget_counts_as_one_key():
    """It supports principles, is followed up, and rows about one key see it."""
    found = driver()
    found.put(0.5, metrics={"training_time_min": 4.0}, idle=IDLE)
    found.put(0.7, parent=1, changes=[(LR, 6e-3), (LOOP, 15)], metrics={"training_time_min": 1.5}, idle=IDLE)
    assert [c.key for c in found.state.iterations[2].changes] == [LR]
    turn = found.turn()
    assert turn.proposals[0].mutation.changes[0].key == LR and turn.proposals[0].parent == 2


def test_replicates_keep_the_config_and_tell_what_they_take():
    seen = explore(driver(n_iter_block=30, replicate_every=3), 9)
    again = [(p, config) for p, config, _ in seen if p.mutation.kind == "replicate"]
    assert again and all(p.predicted_min is not None and not p.mutation.changes for p, _ in again)


def test_the_initial_spread_is_paced_too():
    spread = (SpreadRule(text="faster", values={LR: 6e-3, BATCH: 16}),)
    found = driver(spread=spread)
    found.put(0.5, metrics={"training_time_min": 4.0}, idle=IDLE)
    (made,) = found.turn().proposals
    assert [c.key for c in made.mutation.changes] == [LR, BATCH, LOOP]


def test_without_a_target_nothing_changes():
    seen = explore(driver(target=None), 6)
    assert all(LOOP not in [c.key for c in p.mutation.changes] and p.predicted_min is None for p, _, _ in seen)


def test_a_turn_can_be_recomputed_from_the_journal():
    from orchestrator.core.state import fold

    found = driver(n_iter_block=30)
    explore(found, 8)
    turns = [e for e in found.events if e.body.type == "turn"]
    for event in turns:
        before = fold(found.state.contract, found.events[: event.seq - 1])
        assert OfflineScientist().propose(before, 1).model_dump_json() == event.body.turn.model_dump_json()


# The records


def test_the_entry_tells_estimate_and_real_time():
    found = driver()
    found.put(0.5, metrics={"training_time_min": 4.0}, idle=IDLE)
    first = entry.render(found.state, found.state.iterations[1])
    assert "\nTime: no estimate yet, trained 4 min (target 1.5, over the target)\n" in first
    assert first.split("\nTime: ")[0].splitlines()[-1].startswith("Metrics: ")
    (made,) = found.turn().proposals
    found.end(made.iteration, metrics=took(1.6))
    text = entry.render(found.state, found.state.iterations[2])
    assert "\nTime: estimated 1.5 min, trained 1.6 min (target 1.5)\n" in text
    assert "target 1.5 min, held by data_augmentation_loop; last 1.6 min (iter 2)." in memory.render(found.state)
    plain = driver(target=None)
    plain.put(0.5, metrics={"training_time_min": 4.0})
    assert "Time: " not in entry.render(plain.state, plain.state.iterations[1])


# Claude


def choose(plans, parent):
    return plans.choose_parent(tools.ChooseParent(slot=0, parent=parent, second_parent=None))


def change(plans, key, value):
    return plans.set_hyperparameter(tools.SetHyperparameter(slot=0, key=key, value=value))


SAID = [tools.Plan(slot=0, strategy="exploit", parent_rule="the best", hypothesis="it rises")]


@pytest.fixture
def slow():
    found = driver()
    found.put(0.5, metrics={"training_time_min": 4.0}, idle=IDLE)
    return found


def test_claude_is_told_the_target_and_the_budget_that_hits_it(slow):
    text = facts.render(slow.state, Plans(slow.state, 1), {})
    section = text.partition("## Training time")[2].partition("\n## ")[0]
    assert "target 1.5 min, held by data_augmentation_loop; last 4 min (iter 1)" in section
    assert "- node 1 as it is: estimated training 4 min (target 1.5); data_augmentation_loop 40 -> 15" in section
    assert "## Training time" not in facts.render(driver(target=None).state, Plans(driver(target=None).state, 1), {})


def test_claude_sets_the_budget_beside_one_key_and_nothing_forces_it(slow):
    plans = Plans(slow.state, 1)
    choose(plans, 1)
    told = change(plans, "data_augmentation_loop", 20)
    assert "40 -> 20. Estimated training 2 min (target 1.5); data_augmentation_loop 20 -> 15 would bring" in told
    change(plans, "lr_W", 6e-3)
    (made,) = plans.proposals(SAID)
    assert [(c.key, c.new) for c in made.mutation.changes] == [(LR, 6e-3), (LOOP, 20)]
    assert made.predicted_min == pytest.approx(2.0)
    choose(plans, 1)
    assert "Estimated training 4 min" in change(plans, "lr_W", 6e-3)
    (made,) = plans.proposals(SAID)
    assert [c.key for c in made.mutation.changes] == [LR]


def test_claude_is_told_what_a_rollout_costs(slow):
    plans = Plans(slow.state, 1)
    choose(plans, 1)
    assert "Estimated training 16 min" not in change(plans, "time_step", 4), "it cannot act without a rollout"
    with pytest.raises(RefusedError, match="at most 1"):
        change(plans, "recurrent_training", True)


def test_the_budget_alone_is_refused_on_target_and_allowed_off_it(slow):
    plans = Plans(slow.state, 1)
    choose(plans, 1)
    change(plans, "data_augmentation_loop", 15)
    (made,) = plans.proposals(SAID)
    assert [c.key for c in made.mutation.changes] == [LOOP]
    slow.put(0.6, parent=1, changes=[(LR, 6e-3), (LOOP, 15)], metrics={"training_time_min": 1.5}, idle=IDLE)
    plans = Plans(slow.state, 1)
    choose(plans, 2)
    change(plans, "data_augmentation_loop", 30)
    with pytest.raises(RefusedError, match="it would buy training time, not insight; change one other key"):
        plans.proposals(SAID)


def test_a_recombination_may_scale_its_budget(slow):
    slow.put(0.6, parent=1, changes=[(LR, 6e-3)], metrics={"training_time_min": 4.0}, idle=IDLE)
    slow.put(0.6, parent=1, changes=[(BATCH, 16)], metrics={"training_time_min": 4.0}, idle=IDLE)
    plans = Plans(slow.state, 1)
    plans.choose_parent(tools.ChooseParent(slot=0, parent=2, second_parent=3))
    change(plans, "batch_size", 16)
    change(plans, "data_augmentation_loop", 15)
    (made,) = plans.proposals(SAID)
    assert made.mutation.second_parent == 3 and [c.key for c in made.mutation.changes] == [BATCH, LOOP]
    assert made.predicted_min == pytest.approx(1.5)
    assert pace.predicted_min(slow.state, slow.state.nodes[2].config, 1) == pytest.approx(4.0)


def scaled_beside(budget):
    """Return a driver with measured noise in which one step of lr_W gained much; `budget`: what it has beside it."""
    found = driver()
    found.put(0.50, seeds=(7, 42))
    found.put(0.501, of=1, seeds=(8, 42))
    found.put(0.70, parent=1, changes=[(LR, 1e-2), *budget])
    return found


def test_a_step_whose_budget_changed_with_it_supports_no_principle_and_says_so():
    alone, beside = scaled_beside([]), scaled_beside([(LOOP, 120)])
    assert [p.support for p in learned.principles(alone.state)] == [(3,)]
    assert learned.principles(beside.state) == ()
    told = learned.reflect(beside.state, beside.state.iterations[3], 3).observation
    assert told.endswith("; data_augmentation_loop 40 -> 120 had a part in it")
    assert "had a part" not in learned.reflect(alone.state, alone.state.iterations[3], 3).observation
    assert any("with data_augmentation_loop 40 -> 120: +0.1995" in line for line in learned.emerging(beside.state))


def test_a_blocks_summary_says_what_changed_beside_a_step():
    found = driver(n_iter_block=3)
    found.put(0.50)
    found.put(0.501, of=1, seeds=(8, 42))
    found.put(0.70, parent=1, changes=[(LR, 1e-2), (LOOP, 120)])
    found.ended()
    assert "(iter 3, with data_augmentation_loop 40 -> 120)" in " ".join(found.state.boundaries[1].summary)
