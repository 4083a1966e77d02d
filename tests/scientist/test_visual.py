"""Visual notes: only of plots that were looked at, and only where there are plots."""

import pytest

from orchestrator.errors import RefusedError
from orchestrator.scientist.claude import tools
from orchestrator.scientist.claude.draft import Draft
from tests.factory import Driver, contract

LABELS = ("MLP_sub", "Embedding")


@pytest.fixture
def draft():
    driver = Driver(contract(log_visual=LABELS, n_iter_block=3))
    driver.put(0.5)
    found = Draft(driver.state, 0)
    found.plots = {1: ("plots/sub.png", "plots/emb.png")}
    return found


def submit(draft, *notes):
    visual = [tools.VisualNote(label=label, plot=plot, text="a line") for label, plot in notes]
    said = tools.Observation(iteration=1, observation="it learns", visual=visual)
    return draft.submit(tools.Submit(observations=[said], proposals=[], acknowledged=[]))


def test_each_label_of_the_log_form_needs_a_note(draft):
    draft.viewed = {(1, "plots/sub.png")}
    with pytest.raises(RefusedError, match=r"missing: Embedding. Its plots: plots/sub.png, plots/emb.png"):
        submit(draft, ("MLP_sub", "plots/sub.png"))
    turn = submit(draft, ("MLP_sub", "plots/sub.png"), ("Embedding", "plots/sub.png"))
    assert [v.label for v in turn.reflections[0].visual] == list(LABELS)


def test_a_plot_that_was_not_looked_at_is_refused(draft):
    draft.viewed = {(2, "plots/sub.png")}
    with pytest.raises(RefusedError, match="was not looked at in this conversation; looked at: plots/sub.png of iter"):
        submit(draft, ("MLP_sub", "plots/sub.png"), ("Embedding", "plots/sub.png"))


def test_a_run_without_plots_needs_none(draft):
    draft.plots = {1: ()}
    assert submit(draft).reflections[0].visual == ()
