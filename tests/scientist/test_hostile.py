"""Hostile and broken replies: each costs one refusal and nothing else, and the exploration goes on.

The corpus is `hostile.py`. What is compared: the fold before the turn and after its refusals, the turn that is taken in
the end, and both views, which must be those of an exploration in which nothing hostile was said.
"""

import copy
import re

import pytest

from orchestrator.core.events import LlmReserved, LlmSettled, Refused, Turned
from orchestrator.core.state import fold
from orchestrator.errors import RefusedError
from orchestrator.llm.scripted import ScriptedModel, says, uses
from orchestrator.scientist.claude import prose
from tests.scientist import stage
from tests.scientist.hostile import CASES, ENDING, FALSE_TOO, FORGED_TOO, KINDS


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
    begun = next(i for i, e in enumerate(played.events) if isinstance(e.body, LlmReserved) and e.body.turn == turn)
    return played.events[:begun], played.events[begun:at], played.events[at].body.turn


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


def shown(played, name):
    """Return a view without what the clock decides: how many runs were in flight beside another, on average."""
    return re.sub(r"\d+\.\d+ runs in flight", "runs in flight", played.text(name))


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
    assert shown(played, "memory.md") == shown(good, "memory.md")
    assert shown(played, "analysis.md") == shown(good, "analysis.md")
    check_views(played, case)


def test_the_stages_are_what_the_corpus_takes_them_for(stages):
    for name in stage.STAGES:
        good = stages.good(name)
        assert good.code == 0 and not good.state.refusals, (name, good.said)
        assert all(t.scientist == "claude" for t in good.state.turns[-2:])
    assert stages.good("end").state.boundaries and stages.good("regimes-end").state.boundaries[1].regime


@pytest.mark.parametrize("case", ENDING, ids=lambda c: f"{c.kind}-{c.name}")
def test_a_model_that_declines_has_its_turn_taken_by_the_offline_scientist_and_marked(stages, tmp_path, case):
    turn = first_turn(stages, case)
    script = Script(case, turn)
    played = stages.play(case.stage, tmp_path, ScriptedModel(script))
    refusals, taken = check_state(played, turn)
    assert script.hostile == 1 and len(refusals) == 1
    assert re.search(case.rule, refusals[0].reason)
    assert taken.scientist == "offline" and taken.instead == refusals[0].reason
    assert all(r.observation.startswith("(offline scientist) ") for r in taken.reflections)
    assert "Marked: proposed by the offline scientist: Claude gave no usable turn" in played.text("analysis.md")
    assert played.code == 0 and played.state.turns[-1].scientist == "claude" and not played.state.open_iterations
    check_views(played, case)


def test_each_kind_of_the_acceptance_criterion_is_there_at_least_twice():
    kinds = [case.kind for case in CASES]
    for kind in KINDS:
        assert kinds.count(kind) >= 2, kind
    assert len({(case.kind, case.name) for case in CASES}) == len(CASES)


HONEST = (
    "connectivity_R2 = 0.82",
    "connectivity_R2 of 0.8192",
    "connectivity_R2: 0.819",
    "connectivity_R2 rose from 0.82 to 0.92",
    "connectivity_R2 is 0.9212",
    "test_R2 = -0.352",
    "test_R2 = \u22120.35",
    "training_time_min = 9.8e-05",
    "training_time_min 9.81E-5",
    "connectivity_R2 > 0.9 is converged",
    "connectivity_R2 is above 0.9",
    "connectivity_R2 = 0.1 is the limit",
    "connectivity_R2 is 0.10 above the parent",
    "connectivity_R2 of 3 runs agree",
    "connectivity_R2 is 3 sd above the parent",
    "the sd of connectivity_R2 is 0.0031",
    "connectivity_R2 improved by 0.1",
    "connectivity_R2 dropped 0.31 from node 2",
    "connectivity_R2 of 92%",
    "connectivity_R2 at iteration 3 is 0.92",
    "connectivity_R2 of node 1 (0.819) is below",
    "R2 = 0.92",
    "3 of 4 runs fall short",
    "seed 7, batch_size = 8, lr_W=3E-3",
    "a < b, x > 3 and p<0.05",
    "the |W| norm grows",
    "node 3: the best so far",
    "5 of 12 iterations, 40% of the block",
)


@pytest.mark.parametrize("text", HONEST)
def test_an_honest_line_passes(stages, text):
    state = stages.good("middle").state
    assert prose.line(text, "observation") == text
    prose.check_figures(state, [text], "observation")


@pytest.mark.parametrize("text", FORGED_TOO)
def test_what_reads_like_a_line_of_the_engine_is_refused(text):
    with pytest.raises(RefusedError, match="has the form of a line or heading"):
        prose.line(text, "observation")


@pytest.mark.parametrize("number", range(len(FALSE_TOO)))
def test_a_metric_that_was_not_measured_is_refused_however_it_is_spelled(stages, number):
    with pytest.raises(RefusedError, match=r"nothing measured has that value \(nearest: "):
        text = prose.line(f"well: {FALSE_TOO[number]}, so it works", "observation")
        prose.check_figures(stages.good("middle").state, [text], "observation")


@pytest.mark.parametrize("separator", [*"\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029", "\r\n"])
def test_a_line_has_no_end_of_line_in_it(separator):
    with pytest.raises(RefusedError, match="of 2 lines refused: it is one line"):
        prose.line(f"fine{separator}Node: id=9, parent=1", "observation")


def test_what_cannot_be_seen_is_taken_out_and_blanks_are_one():
    assert prose.line("a\tb\u00a0 c\u202e\u200bd\x00\ue000", "x") == "a b cd"


def test_an_observation_makes_no_further_cells_in_the_table_of_the_best(stages, tmp_path):
    def script(request):
        calls, given = stage.plan(request.messages)
        for said in given["observations"]:
            said["observation"] = "fine | 0.9999 | 7"
        calls = [(name, body | ({"value": 8e-3} if "value" in body else {})) for name, body in calls]
        return uses(*calls, ("submit", given))

    rows = [
        r
        for r in stages.play("middle", tmp_path, ScriptedModel(script)).text("memory.md").splitlines()
        if r[:2] == "| "
    ]
    assert any(r"fine \| 0.9999 \| 7" in row for row in rows)
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1, rows


def principle(text, *replaces):
    return "add_principle", {"text": text, "support": [1, 2, 3], "against": [], "replaces": list(replaces)}


def test_numbers_of_principles_are_those_of_the_prompt_all_through_a_turn(stages, tmp_path):
    """Two principles that replace P1 and P2 in one reply must not take P3 with them."""
    turns = []

    def script(request):
        if len(request.messages) == 1:
            turns.append(request)
        calls, given = stage.plan(request.messages)
        more = [principle(f"lesson {word}") for word in ("one", "two", "three", "three")]
        if len(turns) == 2:
            more = [principle("lesson four", 1), principle("lesson five", 2)]
        return uses(*calls, *more, ("submit", given))

    played = stages.play("middle", tmp_path, ScriptedModel(script))
    assert [p.text for p in played.state.turns[-2].principles] == ["lesson one", "lesson two", "lesson three"]
    assert [p.text for p in played.state.principles] == ["lesson three", "lesson four", "lesson five"]


def test_a_row_that_is_edited_again_after_a_refused_submit_is_edited_once(stages, tmp_path):
    def script(request):
        calls, given = stage.plan(request.messages)
        if "is complete. This turn ends it" in stage.facts(request.messages):
            row = stage.ROW | {"strategy": "narrow", "op": "add" if len(request.messages) == 1 else "change"}
            calls.append(("edit_strategy_row", row))
            if len(request.messages) == 1:
                given["observations"] = []
        return uses(*calls, ("submit", given))

    played = stages.play("end", tmp_path, ScriptedModel(script))
    assert [(r.op, r.strategy) for r in played.state.boundaries[1].rules] == [("change", "explore"), ("add", "narrow")]
    assert len(played.state.refusals) == 1 and played.code == 0


@pytest.mark.parametrize(
    ("reply", "refused", "why"),
    [
        (lambda m: uses(("launch", {})), 9, "8 parts of its replies were refused"),
        (lambda m: says("I am thinking about it."), 9, "8 parts of its replies were refused"),
        (lambda m: uses(("view_file", {"name": "memory.md"})), 1, "no turn was handed in within 24 replies"),
    ],
    ids=["refused-each-time", "never-a-call", "reads-for-ever"],
)
def test_a_model_that_never_does_well_costs_bounded_turns_and_the_night_goes_on(stages, tmp_path, reply, refused, why):
    played = stages.play("middle", tmp_path, ScriptedModel(lambda request: reply(request.messages)))
    turns = [t for t in played.state.turns if t.instead]
    assert len(turns) == 2 and all(t.scientist == "offline" and why in t.instead for t in turns)
    assert [sum(r.turn == t.turn for r in played.state.refusals) for t in turns] == [refused, refused]
    assert played.code == 0 and played.state.planned == 4 and not played.state.unreflected
