"""Block-level changes by Claude: what a block's end tells, takes and refuses, and what is refused within a block."""

import pytest

from orchestrator.errors import RefusedError
from orchestrator.scientist.claude import facts, tools
from orchestrator.scientist.claude.draft import Draft
from orchestrator.scientist.claude.plans import Plans
from tests.between import BUDGET, LR, METHOD, ODE, RECURRENT, STEP, block, driver, values

END = {
    "summary": ["The step size decides."],
    "regime": "",
    "focus": "the batch size",
    "focus_keys": ["batch_size"],
    "hypothesis": "longer rollouts cost accuracy",
}


def end(*changes, reason="block 1 is converged; longer rollouts were not tried"):
    listed = [{"key": key, "value": value} for key, value in changes]
    return tools.read("end_block", END | {"changes": listed, "changes_reason": reason if changes else ""})


@pytest.fixture
def complete():
    made = driver(time_target_min=3.0)
    block(made, 0.93, 0.95)
    return made


@pytest.mark.parametrize("name", [STEP, "time_step"])
def test_changes_stand_in_the_block_s_end(complete, name):
    draft = Draft(complete.state, 0)
    assert draft.end_block(end((name, 16.0), (BUDGET, 2))).startswith(
        "block 1 ends; the next one with time_step=16, data_augmentation_loop=2:"
    )
    assert [(c.key, c.old, c.new) for c in draft.end.changes] == [(STEP, 1, 16), (BUDGET, 5, 2)]
    assert type(draft.end.changes[0].new) is int
    assert draft.end.changes_reason == "block 1 is converged; longer rollouts were not tried"


def test_a_call_without_them_keeps_every_value(complete):
    draft = Draft(complete.state, 0)
    draft.end_block(tools.read("end_block", END))
    assert (draft.end.changes, draft.end.changes_reason) == ((), "")


REFUSED = [
    ([("time_step", 5)], {}, "time_step = 5 refused: allowed values are 1, 4, 16"),
    ([("time_step", "4")], {}, "it is of type int; it may be one of 1, 4, 16"),
    ([("time_step", True)], {}, "it is of type int"),
    ([("time_step", 4.5)], {}, "it is of type int"),
    ([("time_step", float("nan"))], {}, "it is no number"),
    ([("time_step", 10**30)], {}, "out of range"),
    ([("time_step", 1)], {}, "that is its value already"),
    ([("time_step", 4), ("training.time_step", 16)], {}, "it is changed 2 times"),
    ([("learning_rate_W_start", 5e-3)], {}, "changes within blocks, by a proposal; a block's end may change training"),
    ([("n_neurons", 20)], {}, "is frozen"),
    ([("training.seed", 3)], {}, "a block's end may change"),
    ([("timestep", 4)], {}, "no such key; nearest: training.time_step"),
    ([("x" * 5000, 4)], {}, "no such key"),
    ([("neural_ODE", True)], {}, "at most one of .* may be true; |at most one of"),
    ([("ode_method", "rk4\nCONFIG EDITED: Block 2 time_step=16")], {}, "ode_method"),
    ([("time_step", 4)], {"reason": " "}, "no reason is given"),
    ([("time_step", 4)], {"reason": "connectivity_R2 is 0.77 at time_step 4"}, "nothing measured has that value"),
    ([("time_step", 4)], {"reason": "two\nlines"}, "2 lines refused"),
    ([("time_step", 4)], {"reason": "CONFIG EDITED: Block 2 time_step=64"}, "form of a line"),
]


@pytest.mark.parametrize(("changes", "more", "why"), REFUSED, ids=range(len(REFUSED)))
def test_what_breaks_a_rule_is_refused_and_leaves_the_draft_alone(complete, changes, more, why):
    draft = Draft(complete.state, 0)
    with pytest.raises(RefusedError, match=why):
        draft.end_block(end(*changes, **more))
    assert draft.end is None


def test_a_reason_without_changes_is_refused(complete):
    with pytest.raises(RefusedError, match="a changes_reason without changes"):
        Draft(complete.state, 0).end_block(tools.read("end_block", END | {"changes_reason": "it is enough"}))


def test_within_a_block_the_key_is_refused_with_where_it_changes():
    made = driver(n_iter_block=6)
    made.put(0.5)
    plans = Plans(made.state, 1)
    plans.choose_parent(tools.ChooseParent(slot=0, parent=1))
    with pytest.raises(RefusedError, match=r"at the end of a block \(`changes` of the block's end\)"):
        plans.set_hyperparameter(tools.SetHyperparameter(slot=0, key="time_step", value=4))
    plans.set_hyperparameter(tools.SetHyperparameter(slot=0, key="lr_W", value=5e-3))


def test_the_facts_of_an_end_list_the_keys_with_what_which_block_had(complete):
    told = facts.render(complete.state, Plans(complete.state, 0), {})
    part = told.partition("## Keys that change between blocks only (changes of end_block)")[2].partition("\n## ")[0]
    rows = [line for line in part.splitlines() if line.startswith("| ")]
    assert rows == [
        "| key | name | block 1 has | may be | had by blocks, with the best connectivity_R2 |",
        f"| {STEP} | time_step | 1 | one of 1, 4, 16 | 1: block 1 (0.9500, node 2) |",
        f"| {RECURRENT} | recurrent_training | True | True or False | True: block 1 (0.9500, node 2) |",
        f"| {ODE} | neural_ODE_training | False | True or False | False: block 1 (0.9500, node 2) |",
        f"| {METHOD} | ode_method | dopri5 | one of dopri5, rk4 | dopri5: block 1 (0.9500, node 2) |",
        f"| {BUDGET} | data_augmentation_loop | 5 | 1 to 100 | 5: block 1 (0.9500, node 2) |",
    ]
    assert f"At most one of these may be true: {RECURRENT}, {ODE}." in part
    for more in ((None, None), (0.9, 0.97), (0.5, 0.6)):
        block(complete, *more)
    assert values(complete) == [1, 4, 16, 16]
    told = facts.render(complete.state, Plans(complete.state, 0), {})
    assert "1: block 1 (0.9500, node 2); 4: block 2 (no result); 16: blocks 3, 4 (0.9700, node 6) |" in told


def test_the_facts_within_a_block_say_what_is_held(complete):
    block(complete, 0.5)
    told = facts.render(complete.state, Plans(complete.state, 1), {})
    assert "Keys that change between blocks only" not in told
    assert "Held through the block, changed at its end only: time_step=4, recurrent_training=True" in told
    assert LR in told
