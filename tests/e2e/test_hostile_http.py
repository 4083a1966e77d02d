"""Hostile and broken replies that exist on the wire only: the real adapter, the real SDK, HTTP on this machine.

A reply that did not arrive whole is no reply: nothing is refused, the engine waits and asks again (a `waiting` event,
and the request's cost, which may be on the bill). What arrived whole and cannot be used is refused, like any other.
"""

import json
import re

import pytest

from orchestrator.core.events import LlmReserved, LlmSettled, Refused, Waiting
from orchestrator.core.state import fold
from orchestrator.llm.loopback import Cuts, Fails, FailsLate, LoopbackServer, Raw, Says
from tests.llm.talk import adapter
from tests.scientist import stage
from tests.scientist.hostile import CHOSEN, NOTHING
from tests.scientist.test_hostile import prefix, settled

CALL = {"type": "tool_use", "id": "toolu_1", "name": "set_hyperparameter"}


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    return stage.Stages(tmp_path_factory.mktemp("stages"))


class Script:
    """Answers the first requests of the hostile turn with what a case says, all others well."""

    def __init__(self, answers, turn):
        self.left, self.turn, self.after = list(answers), turn, []

    def __call__(self, body, number):
        if stage.turn_of(body["messages"]) == self.turn:
            if self.left:
                made = self.left.pop(0)
                return made(body["messages"]) if callable(made) else made
            self.after.append(body)
        return Says.of(stage.good(body["messages"]))


def play(stages, tmp_path, *answers):
    """Return what happened, the turn's refusals, other events, and the first request after the hostile answers."""
    good = stages.good("middle")
    turn = next(t.turn for t in good.state.turns if t.scientist == "claude")
    script = Script(answers, turn)
    with LoopbackServer(script) as server, adapter(server) as model:
        played = stages.play("middle", tmp_path, model)
        assert not server.refused, server.refused[0][1]
    before, during, taken = prefix(played, turn)
    kinds = {type(e.body) for e in during}
    assert kinds <= {LlmReserved, LlmSettled, Refused, Waiting}
    without = fold(played.contract, [*before, *during])
    without.seen = {key for key in without.seen if not key.startswith("waiting:")}
    assert settled(without) == settled(fold(played.contract, before))
    assert not script.left and played.code == 0 and played.state.planned == 4 and not played.state.unreflected
    refusals = [e.body.reason for e in during if isinstance(e.body, Refused)]
    return played, refusals, [e.body for e in during], (script.after or [None])[0], taken, prefix(good, turn)[2]


def same_views(stages, played):
    good = stages.good("middle")
    return all(played.text(name) == good.text(name) for name in ("memory.md", "analysis.md"))


def whole(messages):
    """Return a good reply as the wire has it."""
    return Says.of(stage.good(messages))


def said(*blocks, stop="tool_use"):
    return Says(content=tuple(blocks), stop_reason=stop)


def chosen(text):
    """Return a reply that chooses a parent and then sets a key with these characters as its input."""
    return said(CALL | {"id": "toolu_0", "name": "choose_parent", "input": CHOSEN[1]}, CALL | {"input": text})


def with_input(text, stop="tool_use"):
    """Return a reply whose call's input is these characters, JSON or not."""
    return said(CALL | {"input": text}, stop=stop)


BROKEN = {
    "cut-after-the-head": lambda m: Cuts(reply=whole(m), after_events=1),
    "cut-in-a-call": lambda m: Cuts(reply=whole(m), after_events=6),
    "cut-before-the-end": lambda m: Cuts(reply=whole(m), after_events=14),
    "cut-cleanly-in-a-call": lambda m: Cuts(reply=whole(m), after_events=5, clean=True),
    "cut-cleanly-before-any": lambda m: Cuts(reply=whole(m), after_events=0, clean=True),
    "error-in-the-stream": lambda m: FailsLate(reply=whole(m), after_events=5),
    "overloaded": Fails(status=529, error_type="overloaded_error", retry_after=0.6),
    "truncated-json": with_input('{"slot": 0, "key": "learning_rate_W_sta'),
    "truncated-json-number": with_input('{"slot": 0, "key": "batch_size", "value": 1'),
    "truncated-json-at-end-turn": with_input('{"slot": 0, "key": "batch_size", "value": 16', stop="end_turn"),
    "two-objects": with_input('{"slot": 0} {"slot": 1}'),
    "no-json": with_input("slot: 0"),
    "half-of-a-surrogate-pair": with_input('{"slot": 0, "key": "lr\\ud800", "value": 1}'),
    "null-as-input": with_input("null"),
    "number-of-9000-digits": with_input('{"slot": 1' + "0" * 9000 + "}"),
    "not-a-stream": Raw(body=b'{"type": "message"}', content_type="application/json"),
    "a-page": Raw(body=b"<html>502</html>", content_type="text/html"),
    "no-events": Raw(body=b""),
    "broken-event": Raw(body=b'event: message_start\ndata: {"type": "message_sta\n\n'),
    "not-utf8": Raw(body=b"event: message_start\ndata: \xff\xfe\x00\n\n"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_reply_that_is_not_whole_is_no_reply_the_engine_waits_and_asks_again(stages, tmp_path, name):
    """No refusal: nothing was said that could be refused; the lost request is on record with what it may have cost."""
    played, refusals, events, after, taken, expected = play(stages, tmp_path, BROKEN[name])
    assert refusals == [] and taken == expected and same_views(stages, played)
    assert [e.outcome for e in events if isinstance(e, LlmSettled)] == ["unavailable", "replied"]
    assert sum(isinstance(e, Waiting) for e in events) == 1
    assert len(after["messages"]) == 1  # the same question again, with nothing of the broken reply in it
    first, second = (e for e in events if isinstance(e, LlmReserved))
    assert (first.step, first.request_sha) == (second.step, second.request_sha)


USELESS = {
    "nan": (
        with_input('{"slot": 0, "key": "learning_rate_W_start", "value": NaN}'),
        "value: Input should be",
        "a valid number",
        "number",
    ),
    "infinity": (
        chosen('{"slot": 0, "key": "learning_rate_W_start", "value": -Infinity}'),
        "value: Input",
        "valid number",
        "",
    ),
    "nan-after-a-parent": (
        chosen('{"slot": 0, "key": "learning_rate_W_start", "value": NaN}'),
        "value: Input",
        "valid number",
        "",
    ),
    "nul": (
        said(CALL | {"name": "view_file", "input": '{"name": "memory.md\\u0000.png"}'}),
        "refused",
        "printable",
        "memory.md",
    ),
    "list-as-input": (with_input("[1, 2]"), "set_hyperparameter refused", "must be an object", "slot, key, value"),
    "number-as-input": (with_input("7"), "set_hyperparameter refused", "must be an object", "slot, key, value"),
    "no-input": (with_input(""), "set_hyperparameter refused", "missing", "slot, key, value"),
    "doubled-key": (
        with_input('{"slot": 0, "slot": 9, "key": "batch_size", "value": 16}'),
        "slot 9 refused",
        "slots to fill",
        "0",
    ),
    "nested-150": (
        with_input('{"slot": ' + "[" * 150 + "1" + "]" * 150 + "}"),
        "slot: Input should be",
        "valid integer",
        "integer",
    ),
    "equal-ids": (said(*[CALL | {"name": "launch", "input": {}}] * 3), "tool 'launch' refused", "none of", "Not taken"),
    "odd-tool-name": (said(CALL | {"name": "rm -rf /", "input": {}}), "tool 'rm -rf /' refused", "none of", "submit"),
    "half-a-megabyte": (
        said(CALL | {"input": {"slot": 0, "key": "k" * 500_000, "value": 1}}),
        "slot 0 has no parent",
        "choose_parent first",
        "1, 2, 3",
    ),
    "empty": (Says(content=()), *NOTHING),
    "blanks": (Says(content="  \n"), *NOTHING),
    "text": (Says(content="All done."), *NOTHING),
    "cut-in-a-call": (
        with_input('{"slot": 0, "key": "learning_ra', stop="max_tokens"),
        "cut at its longest",
        "none of its",
        "shorter",
    ),
    "cut-in-a-text": (
        Says(content="I would", stop_reason="max_tokens"),
        "cut at its longest",
        "none of its",
        "shorter",
    ),
    "cut-after-a-whole-submit": (
        lambda m: whole(m).model_copy(update={"stop_reason": "max_tokens"}),
        "cut at its longest",
        "none of its",
        "shorter",
    ),
}


@pytest.mark.parametrize("name", USELESS)
def test_a_whole_reply_that_cannot_be_used_is_refused_once(stages, tmp_path, name):
    answer, *named = USELESS[name]
    played, refusals, events, after, taken, expected = play(stages, tmp_path, answer)
    assert len(refusals) == 1 and taken == expected and same_views(stages, played)
    assert not any(isinstance(e, Waiting) for e in events)
    told = json.dumps(after["messages"][-1], ensure_ascii=False)
    for part in named:
        assert re.search(part, told), (part, told)


@pytest.mark.parametrize("content", ["I cannot help with that.", ()])
def test_a_model_that_declines_leaves_the_turn_to_the_offline_scientist(stages, tmp_path, content):
    played, refusals, _, after, taken, _ = play(stages, tmp_path, Says(content=content, stop_reason="refusal"))
    assert len(refusals) == 1 and "declined" in refusals[0] and after is None
    assert taken.scientist == "offline" and taken.instead == refusals[0]
    assert "I cannot" not in played.text("memory.md") + played.text("analysis.md")
