"""ScriptedModel and RecordedModel where they differ from a service."""

import json

import pytest

from orchestrator.errors import ModelUnavailableError, UserError
from orchestrator.llm.recorded import DIFF_LINES, RecordedModel, ReplayError
from orchestrator.llm.scripted import ScriptedModel, ScriptError, says, uses
from tests.llm.talk import SYSTEM, blob, goes_on, picture, request, text, user


def test_an_exception_in_the_script_is_raised():
    model = ScriptedModel([ModelUnavailableError("busy", maybe_paid=True), says("ok")])
    with pytest.raises(ModelUnavailableError, match="busy"):
        model.converse(request(), blob)
    assert model.converse(request(), blob).content[0]["text"] == "ok"
    assert len(model.requests) == 2


def test_a_function_sees_the_request():
    model = ScriptedModel(lambda asked: says(asked.messages[-1]["content"][0]["text"].upper()))
    assert model.converse(request(user("loud")), blob).content[0]["text"] == "LOUD"


def test_a_script_that_runs_out_says_what_was_asked():
    with pytest.raises(ScriptError, match=r"0 replies, and request 1 came.*What next\?"):
        ScriptedModel([]).converse(request(), blob)


def test_a_missing_image_is_noticed():
    with pytest.raises(KeyError):
        ScriptedModel([says("ok")]).converse(request(user(picture())), {}.__getitem__)


def test_calls_have_their_own_ids_before_they_are_played():
    names = [block["id"] for reply in (uses(("a", {}), ("b", {})), uses(("a", {}))) for block in reply.content]
    assert len(set(names)) == 3


def recorded():
    first, second = uses(("submit", {})), says("done")
    asked = request()
    return [(asked, first), (goes_on(asked, first), second)]


def test_an_unknown_request_is_answered_with_its_difference():
    exchanges = recorded()
    asked = exchanges[1][0]
    changed = asked.model_copy(update={"system": (text("You are a scientist.\nBe brief."), text("x" * 500))})
    with pytest.raises(ReplayError) as caught:
        RecordedModel(exchanges).converse(changed, blob)
    said = str(caught.value)
    assert isinstance(caught.value, UserError)
    assert "nearest is number 2" in said
    assert "+    Be brief." in said
    assert "+    " + "x" * 500 in said
    assert "-    You are a scientist." not in said


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"model": "claude-sonnet-5-5"}, "+model: claude-sonnet-5-5"),
        ({"max_tokens": 7}, "+max_tokens: 7"),
        ({"effort": "low"}, "+effort: low"),
        ({"tools": ()}, "-tool view_file:"),
        ({"messages": (user("And now?"),)}, "+    And now?"),
        ({"messages": ({"role": "user", "content": "And now?"},)}, "+    And now?"),
        ({"messages": (user("What next?", picture()),)}, '"media_type": "image/png"'),
    ],
)
def test_every_part_of_a_request_shows_in_the_difference(change, shown):
    with pytest.raises(ReplayError) as caught:
        RecordedModel(recorded()).converse(request().model_copy(update=change), blob)
    assert shown in str(caught.value)
    assert "nearest is number 1" in str(caught.value)


def test_a_long_difference_is_cut():
    changed = request(system=(text("\n".join(f"rule {n}" for n in range(500))),))
    with pytest.raises(ReplayError) as caught:
        RecordedModel([(request(system=SYSTEM), says("ok"))]).converse(changed, blob)
    lines = str(caught.value).split("\n")
    assert len(lines) == 1 + DIFF_LINES + 1
    assert "more lines" in lines[-1]


def test_nothing_recorded():
    with pytest.raises(ReplayError, match="there are none"):
        RecordedModel([]).converse(request(), blob)


def test_the_same_request_gets_its_replies_in_order():
    model = RecordedModel([(request(), says("one")), (request(), says("two"))])
    assert [model.converse(request(), blob).content[0]["text"] for _ in range(3)] == ["one", "two", "two"]


def test_a_recording_survives_json():
    exchanges = [
        (
            type(asked).model_validate_json(asked.model_dump_json()),
            type(reply).model_validate_json(reply.model_dump_json()),
        )
        for asked, reply in recorded()
    ]
    model = RecordedModel(exchanges)
    for asked, reply in recorded()[:1]:
        assert json.dumps(model.converse(asked, blob).content[0]["input"]) == json.dumps(reply.content[0]["input"])
