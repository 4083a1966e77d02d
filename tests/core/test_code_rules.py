"""The rules of the seeds about code edits, each with an edit that breaks it alone."""

import pytest

from orchestrator.core import code_rules, configs, mutation
from orchestrator.core.contract import Scope
from orchestrator.core.events import Session
from orchestrator.core.records import Change, CodeEdit, Mutation, Proposal
from orchestrator.errors import RefusedError
from tests import edited
from tests.factory import Driver, contract

SCOPES = (
    Scope(path="trainers/signal.py", function="data_train_signal", permission="ONLY"),
    Scope(path="models/signal.py", permission="can"),
)


def driver(n=4, **changes):
    """Return an exploration with `n` iterations of its baseline and steps; code may be edited."""
    given = {"code": "on", "scopes": SCOPES, "unsandboxed": True, "n_iter_block": 24} | changes
    made = Driver(contract(**given))
    made.put(0.5)
    for i in range(1, n):
        made.put(0.5 + 0.01 * i, parent=1, changes=(("training.learning_rate_W_start", 3e-3 + i * 1e-4),))
    return made


def proposal(made, edit=None, *, parent=1, **changes):
    state = made.state
    base = changes.pop("base", parent)
    fields = {
        "iteration": state.last_iteration + 1,
        "parent": parent,
        "base": base,
        "mutation": Mutation(kind="code", code=edit or edited.change("new")),
        "config_sha": configs.idea_sha(state.base_config(base, 1)),
        "code": "a new tree",
        "training_seed": 7,
        "simulation_seed": 42,
        "strategy": "code-modification",
        "parent_rule": "by hand",
        "hypothesis": "by hand",
    }
    return Proposal.model_validate(fields | changes)


def refused(made, given):
    with pytest.raises(RefusedError) as caught:
        mutation.check(made.state, given)
    return str(caught.value)


def test_an_edit_that_keeps_every_rule_passes():
    made = driver()
    mutation.check(made.state, proposal(made))


def test_never_while_code_is_off():
    made = driver(code="off")
    assert "`code: off`" in refused(made, proposal(made))
    assert "permits no code" in refused(driver(scopes=()), proposal(made))


def test_never_without_a_sandbox_unless_it_is_accepted():
    made = driver(unsandboxed=False)
    assert "no sandbox" in refused(made, proposal(made))
    made.add(Session(session=2, version="0", scientist="o", launcher="l", slots=1, sandbox="bwrap", iterations=9))
    mutation.check(made.state, proposal(made))


@pytest.mark.parametrize("n", [1, 3])
def test_never_in_the_first_four_iterations_of_a_block(n):
    made = driver(n)
    assert f"iteration {n + 1} is number {n + 1} of its block" in refused(made, proposal(made))


def test_never_in_the_first_four_of_a_later_block():
    made = driver(5, n_iter_block=5)
    made.ended()
    carried = made.put(0.6, code="tree")
    assert carried == 6
    assert "iteration 7 is number 2 of its block" in refused(made, proposal(made, parent=6))


def test_never_together_with_a_config_change():
    made = driver()
    change = Change(key="training.batch_size", old=8, new=16)
    both = Mutation(kind="code", code=edited.change("new"), changes=(change,))
    assert "nobody could say which of them" in refused(made, proposal(made, mutation=both))
    assert "go together" in refused(made, proposal(made, mutation=Mutation(kind="config", code=edited.change("x"))))
    assert "go together" in refused(made, proposal(made, mutation=Mutation(kind="code")))


def test_a_config_change_keeps_its_parents_code():
    made = driver()
    step = Mutation(kind="config", changes=(Change(key="training.batch_size", old=8, new=16),))
    sha = configs.idea_sha(configs.apply(made.state.base_config(1, 1), step.changes))
    assert "without a code edit" in refused(made, proposal(made, mutation=step, config_sha=sha))
    mutation.check(made.state, proposal(made, mutation=step, config_sha=sha, code="tree"))


def test_it_is_paired_with_a_parent_that_has_a_result():
    made = driver()
    assert "from root" in refused(made, proposal(made, parent=None))
    assert "it is paired with node 1 at training seed 7" in refused(made, proposal(made, training_seed=8))
    assert "simulation seed 42" in refused(made, proposal(made, simulation_seed=43))
    failed = made.put(parent=1, changes=(("training.batch_size", 16),), outcome="diverged")
    assert "no run of it ended well" in refused(made, proposal(made, parent=failed))
    assert code_rules.seeds(made.state, failed) is None


def test_only_what_is_permitted_and_one_change_at_a_time():
    made = driver()
    one, two = (
        CodeEdit(path=path, unit=unit, added=1, removed=1, sha=unit)
        for path, unit in (("trainers/signal.py", "data_train_signal"), ("models/signal.py", "Model.forward"))
    )
    assert "one change at a time" in refused(made, proposal(made, edited.change("x", edits=(one, two))))
    other = one.model_copy(update={"unit": "estimates"})
    assert "outside the code that may be edited" in refused(made, proposal(made, edited.change("x", edits=(other,))))
    mutation.check(made.state, proposal(made, edited.change("x", edits=(two,))))  # a whole file


def test_a_repeat_of_what_was_worse_is_refused_with_the_old_result():
    made = driver()
    edited.edit(made, 0.2, parent=1, name="worse")
    told = refused(made, proposal(made, edited.change("worse"), parent=2))
    assert "the same edit was tried on node 1: node 5 is worse" in told


def test_repairs_are_bounded_and_of_what_crashed():
    made = driver()
    first = edited.edit(made, parent=1, name="a", outcome="crashed")
    with pytest.raises(RefusedError, match="has its parent, 1"):
        code_rules.check_repair(made.state, first, 2)
    mutation.check(made.state, proposal(made, edited.change("b", repairs=first), base=first))
    second = edited.edit(made, parent=1, name="b", outcome="crashed", repairs=first)
    assert f"a repair of iteration {first} refused" in refused(
        made, proposal(made, edited.change("c", repairs=first), base=first)
    )
    third = edited.edit(made, parent=1, name="c", outcome="crashed", repairs=second)
    told = refused(made, proposal(made, edited.change("d", repairs=third), base=third))
    assert f"a repair of iteration {third} refused" in told and "none" in told
    assert "base=" in refused(made, proposal(made, edited.change("d", repairs=first), base=2))


def neutral(made, name):
    """Make an edit of node 1 that three pairs leave neutral."""
    node = edited.edit(made, 0.5, parent=1, name=name)
    for seed in (8, 9):
        if not any(made.state.iterations[i].proposal.training_seed == seed for i in made.state.nodes[1].iterations):
            made.put(0.5, of=1, seeds=(seed, 42))
        edited.again(made, node, 0.5, seed)
    return node


def test_two_edits_only_when_each_alone_was_neutral_against_the_same_parent():
    made = driver()
    a, b = neutral(made, "a"), neutral(made, "b")
    worse = edited.edit(made, 0.2, parent=1, name="w")
    both = edited.change("both", combines=(a, b))
    assert "only under the strategy multi-code-modification" in refused(made, proposal(made, both))
    mutation.check(made.state, proposal(made, both, strategy="multi-code-modification"))
    for pair, told in (((a, worse), f"node {worse} refused"), ((a, a), "takes two nodes"), ((a, 2), "node 2 refused")):
        given = proposal(made, edited.change("x", combines=pair), strategy="multi-code-modification")
        assert told in refused(made, given)
    other = proposal(made, both, parent=2, strategy="multi-code-modification")
    assert "against the same parent 2" in refused(made, other)
