import pytest

from orchestrator.core.events import Turned
from orchestrator.core.lineage import code_commit, code_path, edited
from orchestrator.core.records import CodeChange, CodeEdit, Mutation, Turn
from tests.factory import Driver

LR = "training.learning_rate_W_start"
EDIT = CodeEdit(path="models/mlp.py", unit="f", added=1, removed=0, sha="s")


def put_code(driver, commit, *, base, repairs=None):
    """Propose and end an iteration that edits the code of node `base` (null: of the opening)."""
    state = driver.state
    proposal = driver.state.iterations[1].proposal.model_copy(
        update={
            "iteration": state.last_iteration + 1,
            "parent": base,
            "base": base,
            "code": f"tree of {commit}",
            "config_sha": state.nodes[base].config_sha if base else state.nodes[1].config_sha,
            "mutation": Mutation(
                kind="code", code=CodeChange(change="x", edits=(EDIT,), commit=commit, repairs=repairs)
            ),
        }
    )
    turn = Turn(turn=len(state.turns) + 1, based_on=state.seq, scientist="hand", proposals=(proposal,))
    driver.add(Turned(turn=turn))
    driver.end(proposal.iteration, 0.5)
    return proposal.iteration


@pytest.fixture
def driver():
    found = Driver()
    found.put(0.1)
    return found


def test_without_edits_the_code_is_that_of_the_opening(driver):
    driver.put(0.2, parent=1, changes=[(LR, 6e-3)])
    driver.put(0.2, of=2)
    assert [code_commit(driver.state, n) for n in (None, 1, 2, 3)] == [None] * 4
    assert edited(driver.state) == ()


def test_the_code_is_that_of_the_nearest_edit_above(driver):
    first = put_code(driver, "aaa", base=1)
    config = driver.put(0.3, parent=first, changes=[(LR, 6e-3)])
    again = driver.put(0.3, of=config)
    second = put_code(driver, "bbb", base=config)
    beside = put_code(driver, "ccc", base=None)
    replicate = driver.put(0.3, of=second)
    state = driver.state
    found = {n: code_commit(state, n) for n in state.iterations}
    assert found == {1: None, first: "aaa", config: "aaa", again: "aaa", second: "bbb", beside: "ccc", replicate: "bbb"}
    assert [p.iteration for p in code_path(state, replicate)] == [first, second]
    assert edited(state) == (first, config, second, beside)


def test_an_unknown_node_is_an_error(driver):
    with pytest.raises(KeyError):
        code_commit(driver.state, 9)
