"""Hostile and broken replies: each costs one refusal and nothing else, and the exploration goes on.

The corpus is `hostile.py`. What is compared: the fold before the turn and after its refusals, the turn that is taken in
the end, and both views, which must be those of an exploration in which nothing hostile was said.
"""

import copy
import re

import pytest

from orchestrator.core.events import LlmReserved, LlmSettled, Refused, Turned
from orchestrator.core.state import fold
from orchestrator.llm.scripted import ScriptedModel
from tests.scientist import stage
from tests.scientist.hostile import CASES, ENDING


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    return stage.Stages(tmp_path_factory.mktemp("stages"))


def answers(request):
    """Return what the last message of a request says to the model: texts and results of calls."""
    parts = []
    for block in request.messages[-1]["content"]:
        content = block.get("content", block.get("text"))
        parts.append(content if isinstance(content, str) else str(content))
    return parts


class Script:
    """Says the hostile replies in their turn, each once, and goes on well."""

    def __init__(self, case, turn):
        self.left, self.turn, self.after = list(case.replies), turn, []
        self.hostile = 0

    def __call__(self, request):
        if self.hostile and not self.after and not self.left:
            self.after.append(request)
        if stage.turn_of(request.messages) != self.turn or not self.left:
            return stage.good(request.messages)
        self.hostile += 1
        made = self.left.pop(0)
        return made(request.messages) if callable(made) else made


def prefix(played, turn):
    """Return the events before a turn's conversation, those of it, and the turn."""
    at = next(i for i, e in enumerate(played.events) if isinstance(e.body, Turned) and e.body.turn.turn == turn)
    taken = played.events[at].body.turn
    return played.events[: taken.based_on], played.events[taken.based_on : at], taken


def settled(state):
    """Return a fold without what the conversation cost and what was refused."""
    found = copy.copy(state)
    found.calls, found.refusals, found.memo, found.seq = {}, [], {}, 0
    found.seen = {key for key in state.seen if not key.startswith(("llm_", "refused:"))}
    return found


def check_state(played, turn):
    """Assert that the conversation changed nothing but costs and refusals; return the refusals and the turn."""
    before, during, taken = prefix(played, turn)
    assert {type(e.body) for e in during} <= {LlmReserved, LlmSettled, Refused}
    assert settled(fold(played.contract, before)) == settled(fold(played.contract, [*before, *during]))
    return [e.body for e in during if isinstance(e.body, Refused)], taken


def check_views(played, case):
    """Assert that no view has a word of the hostile part."""
    for name in ("memory.md", "analysis.md", "instruction.md", "ucb_scores.txt", "best.yaml"):
        text = played.text(name)
        for mark in case.marks:
            assert mark not in text, (name, mark)


def first_turn(stages, case):
    """Return the number of the turn in which the case's replies come."""
    good = stages.good(case.stage)
    turns = [t.turn for t in good.state.turns if t.scientist == "claude"]
    return turns[stage.FIRST.get(case.stage, 1) - 1]


@pytest.mark.parametrize("case", [c for c in CASES if c not in ENDING], ids=lambda c: f"{c.kind}-{c.name}")
def test_a_hostile_reply_costs_one_refusal_and_the_exploration_goes_on(stages, tmp_path, case):
    good, turn = stages.good(case.stage), first_turn(stages, case)
    script = Script(case, turn)
    played = stages.play(case.stage, tmp_path, ScriptedModel(script))
    assert script.hostile == len(case.replies)
    refusals, taken = check_state(played, turn)
    assert len(refusals) == case.refusals, refusals
    told = answers(script.after[0])
    if case.refusals:
        reason = refusals[-1].reason
        assert len(reason) < 3000 and reason.isprintable(), reason[:300]
        said = "\n".join(told)
        for part in (case.what, case.rule, case.instead):
            assert re.search(part, said), f"{part!r} is not in what was answered: {said[:3000]}"
        assert reason in said, (reason, said)
    assert taken == prefix(good, turn)[2]
    assert (played.code, played.state.planned) == (0, stage.ASKED[case.stage])
    assert not played.state.open_iterations and not played.state.unreflected
    assert played.text("memory.md") == good.text("memory.md")
    assert played.text("analysis.md") == good.text("analysis.md")
    check_views(played, case)


def test_the_stages_are_what_the_corpus_takes_them_for(stages):
    for name in stage.STAGES:
        good = stages.good(name)
        assert good.code == 0 and not good.state.refusals, (name, good.said)
        assert all(t.scientist == "claude" for t in good.state.turns[-2:])
    assert stages.good("end").state.boundaries and stages.good("regimes-end").state.boundaries[1].regime
