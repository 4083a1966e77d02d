"""The offline scientist under a time limit, and what Claude is told and may do."""

import pytest

from orchestrator.core import pace
from orchestrator.core.contract import SpreadRule, UserInstruction
from orchestrator.core.records import Change
from orchestrator.core.scene import Scene
from orchestrator.core.state import fold
from orchestrator.errors import RefusedError
from orchestrator.formats import entry, memory
from orchestrator.scientist import learned, policy
from orchestrator.scientist.claude import facts, tools
from orchestrator.scientist.claude.plans import Plans
from orchestrator.scientist.desk import Desk, Draft
from orchestrator.scientist.offline import OfflineScientist
from tests.limited import LR, STEPS, WIDTH, driver
from tests.paced import took


def minutes(config):
    """What a training takes here: its work, and a fifth more from a width of 512 on."""
    learned = config["inr"]
    work = learned["inr_total_steps"] / 500_000 * learned["hidden_dim_inr"] / 256
    return 41.0 * work * (1.2 if learned["hidden_dim_inr"] >= 512 else 1.0)


def explore(found, iterations):
    """Let the offline scientist explore; return (proposal, config, minutes) of each run, stopped at its limit."""
    seen = []
    while len(found.state.done) < iterations:
        for proposal in found.turn().proposals:
            config = found.state.config_of(proposal)
            real = min(minutes(config), 60.0)
            wide, steps = config["inr"]["hidden_dim_inr"], config["inr"]["inr_total_steps"]
            found.end(proposal.iteration, metrics=took(real, 0.5 + wide / 4000 + steps / 1e7))
            seen.append((proposal, config, real))
    return seen


def make(found, *changes, node=1, second=None):
    desk = Desk(found.state, found.state.last_iteration + 1, scene=Scene(found.state, 1))
    changes = tuple(Change(key=k, old=old, new=new) for k, old, new in changes)
    return desk.make(
        Draft(node=node, changes=changes, second=second, rule="by hand", hypothesis="rises"), "exploit", ""
    )


def values(proposal):
    return [(c.key, c.new) for c in proposal.mutation.changes]


def test_no_config_is_proposed_that_is_expected_over_the_limit():
    found = driver(n_iter_block=40)
    seen = explore(found, 24)
    assert seen[0][0].predicted_min is None
    steps = [p for p, _, _ in seen[1:] if p.mutation.kind == "config"]
    assert all(p.predicted_min <= 60 * (1 + pace.EXACT) for p in steps)
    fitted = [p for p in steps if p.mutation.fitted]
    assert fitted and all(values(p)[-1][0] == STEPS and len(values(p)) == 2 for p in fitted)
    assert all(len(found.state.iterations[p.iteration].changes) == 1 for p in steps), "a fitted budget does not count"
    assert any(values(p)[0][0] == STEPS for p in steps), "the budget is explored for itself"
    stopped = [p for p, _, real in seen if real >= 60 and p.mutation.kind == "config"]
    assert len(stopped) == 1, "only a width that no run had told about is stopped by the limit"


def test_a_step_over_the_limit_gets_the_largest_budget_that_fits_and_says_so():
    made = make(driver(41.0), (WIDTH, 256, 512))
    assert values(made) == [(WIDTH, 512), (STEPS, 360_000)] and made.mutation.fitted
    assert made.predicted_min == pytest.approx(59.04)
    assert made.hypothesis == (
        "rises; inr_total_steps 500000 -> 360000 keeps the training within 60 min (predicted 82 from iteration 1, "
        "which took 41)"
    )


def test_a_move_of_the_budget_itself_is_clipped_or_dropped():
    made = make(driver(30.0), (STEPS, 500_000, 2_000_000))
    assert values(made) == [(STEPS, 1_000_000)] and not made.mutation.fitted
    assert "inr_total_steps 2000000 -> 1000000 keeps the training within 60 min (predicted 120" in made.hypothesis
    with pytest.raises(RefusedError, match="within 60 min inr_total_steps can only be 540000, and is 500000"):
        make(driver(55.0), (STEPS, 500_000, 2_000_000))
    down = make(driver(100.0), (STEPS, 500_000, 400_000))
    assert values(down) == [(STEPS, 300_000)], "a move down goes as far as it has to"


def test_where_no_budget_fits_the_step_is_refused():
    with pytest.raises(RefusedError, match="no inr_total_steps that is allowed brings it below"):
        make(driver(41.0, low=400_000), (WIDTH, 256, 512))
    with pytest.raises(RefusedError, match="no key that may change brings it below"):
        make(driver(41.0, level="frozen"), (WIDTH, 256, 512))


def test_before_a_run_has_ended_nothing_is_fitted():
    found = driver()
    assert values(make(found, (WIDTH, 256, 1024), node=None)) == [(WIDTH, 1024)]


def test_one_step_is_not_made_again_at_about_the_same_budget():
    found = driver(41.0)
    found.put(0.6, parent=1, changes=[(WIDTH, 512), (STEPS, 360_000)], metrics={"training_time_min": 50.0})
    with pytest.raises(RefusedError, match="the same was run at about this inr_total_steps"):
        make(found, (WIDTH, 256, 512))


def test_the_initial_spread_and_a_recombination_fit_too():
    rule = SpreadRule(text="wide and long", values={WIDTH: 512, LR: 6e-3, STEPS: 1_000_000})
    (made,) = driver(41.0, spread=(rule,)).turn().proposals
    assert values(made) == [(WIDTH, 512), (LR, 6e-3), (STEPS, 360_000)] and made.mutation.fitted
    found = driver(25.0)
    found.put(0.6, parent=1, changes=[(WIDTH, 512)], metrics={"training_time_min": 50.0})
    found.put(0.6, parent=1, changes=[(LR, 6e-3), (STEPS, 1_000_000)], metrics={"training_time_min": 50.0})
    made = make(found, (STEPS, 500_000, 1_000_000), (LR, 3e-3, 6e-3), node=2, second=3)
    assert values(made) == [(LR, 6e-3)], "of the second parent's values, those that keep the limit"


def test_a_turn_can_be_recomputed_from_the_journal():
    found = driver(n_iter_block=30)
    explore(found, 10)
    for event in [e for e in found.events if e.body.type == "turn"]:
        before = fold(found.state.contract, found.events[: event.seq - 1])
        assert OfflineScientist().propose(before, 1).model_dump_json() == event.body.turn.model_dump_json()


def test_a_wish_that_passes_the_limit_is_fitted_and_told():
    asked = tuple(UserInstruction(text=text) for text in ("try hidden_dim_inr = 512", "try inr_total_steps = 2000000"))
    found = driver(41.0, user_instructions=asked)
    wide, long = learned.acknowledged(found.state)
    assert wide.endswith("hidden_dim_inr=512 would take 82 min, limit 60: it runs with inr_total_steps=360000")
    assert long.endswith("inr_total_steps=2000000 would take 164 min, limit 60: at most 730000 fits")
    desk = Desk(found.state, 2, scene=Scene(found.state, 1))
    made = [desk.build(draft, "user-instruction", "") for draft, _ in policy.wished(desk)]
    assert [values(p) for p in made] == [[(WIDTH, 512), (STEPS, 360_000)], [(STEPS, 730_000)]]
    none = driver(41.0, low=400_000, user_instructions=asked[:1])
    assert learned.acknowledged(none.state)[0].endswith("limit 60: no budget keeps it, so it is not run")


def test_a_fitted_step_counts_as_one_key_and_supports_no_principle():
    found = driver()
    for seeds, of in (((7, 42), None), ((8, 42), 1)):
        found.put(0.5, seeds=seeds, of=of, metrics={"training_time_min": 41.0})
    (made,) = found.turn().proposals
    assert made.mutation.fitted and values(made)[0][0] == WIDTH
    found.end(made.iteration, metrics=took(58.0, 0.9))
    (step,) = learned.steps(found.state, 1)
    assert (step.change.key, step.beside.startswith("inr_total_steps 500000 -> ")) == (WIDTH, True)
    assert learned.principles(found.state) == ()


# The records


def test_the_entry_and_the_memory_tell_estimate_real_time_and_limit():
    found = driver(41.0)
    first = entry.render(found.state, found.state.iterations[1])
    assert "\nTime: no estimate yet, trained 41 min (limit 60)\n" in first
    (made,) = found.turn().proposals
    found.end(made.iteration, metrics=took(60.0))
    assert " min, trained 60 min (limit 60, reached)\n" in entry.render(found.state, found.state.iterations[2])
    told = "\nTraining time: limit 60 min (training.max_minutes); last 60 min (iter 2).\n"
    assert told in memory.render(found.state)
    plain = driver(41.0, time_limit="")
    assert "Time: " not in entry.render(plain.state, plain.state.iterations[1])
    assert "Training time" not in memory.render(plain.state)


def test_both_a_target_and_a_limit_are_told():
    found = driver(41.0, time_target_min=30.0)
    assert "trained 41 min (target 30, limit 60)" in entry.render(found.state, found.state.iterations[1])


# Claude


def choose(plans, parent=1):
    return plans.choose_parent(tools.ChooseParent(slot=0, parent=parent, second_parent=None))


def change(plans, key, value):
    return plans.set_hyperparameter(tools.SetHyperparameter(slot=0, key=key, value=value))


SAID = [tools.Plan(slot=0, strategy="exploit", parent_rule="the best", hypothesis="it rises")]


def test_claude_is_told_the_limit():
    found = driver(41.0)
    text = facts.render(found.state, Plans(found.state, 1), {})
    section = text.partition("## Training time")[2].partition("\n## ")[0]
    assert "Training time: limit 60 min (training.max_minutes); last 41 min (iter 1)." in section
    assert "is refused; inr_total_steps (50000 to 2E6) may go down beside the other change" in section
    assert "- node 1 as it is: estimated training 41 min (limit 60)" in section
    frozen = driver(41.0, level="frozen")
    section = facts.render(frozen.state, Plans(frozen.state, 1), {}).partition("## Training time")[2]
    assert "than the limit is refused.\n" in section
    plain = driver(41.0, time_limit="")
    assert "## Training time" not in facts.render(plain.state, Plans(plain.state, 1), {})


def test_claude_is_refused_then_accepted_with_the_budget_that_fits():
    plans = Plans(driver(41.0).state, 1)
    choose(plans)
    told = change(plans, "hidden_dim_inr", 512)
    over = "this config is expected to take 82 min (from iteration 1, which took 41), over the limit of 60"
    assert over.capitalize() in told and "; the largest inr_total_steps that fits is 360000" in told
    with pytest.raises(RefusedError, match="over the limit of 60 .training.max_minutes.; the largest inr_total_steps"):
        plans.proposals(SAID)
    assert "Estimated training 59 min (limit 60)" in change(plans, "inr_total_steps", 360_000)
    (made,) = plans.proposals(SAID)
    assert values(made) == [(WIDTH, 512), (STEPS, 360_000)] and made.mutation.fitted
    assert made.predicted_min == pytest.approx(59.04)


def test_claude_may_set_the_budget_first():
    plans = Plans(driver(41.0).state, 1)
    choose(plans)
    change(plans, "inr_total_steps", 360_000)
    change(plans, "hidden_dim_inr", 512)
    (made,) = plans.proposals(SAID)
    assert values(made) == [(WIDTH, 512), (STEPS, 360_000)] and made.mutation.fitted


def test_a_budget_that_does_more_than_fit_is_a_second_change():
    plans = Plans(driver(41.0).state, 1)
    choose(plans)
    change(plans, "hidden_dim_inr", 512)
    beside = "at most 1 key.s. .* inr_total_steps does not count where it only keeps the limit of 60 min: 360000"
    with pytest.raises(RefusedError, match=beside):
        change(plans, "inr_total_steps", 100_000)
    with pytest.raises(RefusedError, match="at most 1 key"):
        change(plans, "lr_W", 6e-3)
    choose(plans)
    change(plans, "lr_W", 6e-3)
    with pytest.raises(RefusedError, match="or keep it$"):
        change(plans, "inr_total_steps", 360_000)


def test_the_budget_alone_is_a_change_like_another_up_to_the_limit():
    plans = Plans(driver(41.0).state, 1)
    choose(plans)
    change(plans, "inr_total_steps", 700_000)
    (made,) = plans.proposals(SAID)
    assert values(made) == [(STEPS, 700_000)] and not made.mutation.fitted
    change(plans, "inr_total_steps", 800_000)
    with pytest.raises(RefusedError, match="expected to take 65.6 min .* that fits is 730000"):
        plans.proposals(SAID)


def test_with_two_changes_allowed_the_fitted_budget_is_a_third():
    plans = Plans(driver(41.0, max_changes=2).state, 1)
    choose(plans)
    change(plans, "hidden_dim_inr", 512)
    change(plans, "lr_W", 6e-3)
    change(plans, "inr_total_steps", 360_000)
    (made,) = plans.proposals(SAID)
    assert values(made) == [(WIDTH, 512), (LR, 6e-3), (STEPS, 360_000)] and made.mutation.fitted
