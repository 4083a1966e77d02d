"""One suite for every language model: what a caller may rely on, whoever answers."""

import pytest

from orchestrator.core.dialogue import Reply, StopReason, Usage
from orchestrator.llm.scripted import says, uses
from tests.llm.talk import SHA, blob, goes_on, picture, play, request, user

pytestmark = pytest.mark.parametrize("kind", ["scripted", "recorded", "anthropic"])


def test_text(kind):
    reply = play(kind, [says("Try a smaller rate.")], lambda model: model.converse(request(), blob))
    assert reply.content == ({"type": "text", "text": "Try a smaller rate."},)
    assert reply.stop_reason == "end_turn"


def test_two_calls_at_once_and_their_results(kind):
    given = {"name": "memory.md", "lines": [1, 2.5], "none": None, "words": 'ünïcode "quoted"\n'}

    def conversation(model):
        first = model.converse(request(), blob)
        return first, model.converse(goes_on(request(), first), blob)

    first, second = play(kind, [uses(("view_file", given), ("submit", {}), text="I look."), says("done")], conversation)
    assert first.stop_reason == "tool_use"
    calls = [block for block in first.content if block["type"] == "tool_use"]
    assert [(c["name"], c["input"]) for c in calls] == [("view_file", given), ("submit", {})]
    assert len({c["id"] for c in calls}) == 2
    assert first.content[0] == {"type": "text", "text": "I look."}
    assert second.content[0]["text"] == "done"


def test_ids_of_calls_are_unique_in_a_conversation_and_the_same_when_it_is_played_again(kind):
    def conversation(model):
        asked, found = request(), []
        for _ in range(3):
            reply = model.converse(asked, blob)
            found += [block["id"] for block in reply.content]
            asked = goes_on(asked, reply)
        return found

    def script():
        return [uses(("submit", {}), ("submit", {})) for _ in range(3)]

    first, second = play(kind, script(), conversation), play(kind, script(), conversation)
    assert len(set(first)) == 6
    assert first == second


def test_thinking_goes_back_untouched(kind):
    thinking = {"type": "thinking", "thinking": "Rates matter.\n", "signature": "c2lnbmVk" * 40}
    hidden = {"type": "redacted_thinking", "data": "b3BhcXVl" * 20}
    call = {"type": "tool_use", "id": "toolu_x", "name": "submit", "input": {}}
    scripted = Reply(content=(thinking, hidden, call), stop_reason="tool_use", usage=Usage(output_tokens=9))

    def conversation(model):
        first = model.converse(request(), blob)
        assert first.content == (thinking, hidden, call)
        return model.converse(goes_on(request(), first), blob)

    assert play(kind, [scripted, says("ok")], conversation).content[0]["text"] == "ok"


def test_the_bytes_of_every_image_are_asked_for(kind):
    seen = []

    def image(sha):
        seen.append(sha)
        return blob(sha)

    result = {"type": "tool_result", "tool_use_id": "toolu_0001", "content": [picture()]}

    def conversation(model):
        seen.clear()
        asked = request(user("Look:", picture()))
        first = model.converse(asked, image)
        again = asked.model_copy(
            update={"messages": (*asked.messages, {"role": "assistant", "content": list(first.content)}, user(result))}
        )
        return model.converse(again, image)

    reply = play(kind, [uses(("submit", {})), says("I see.")], conversation)
    assert reply.content[0]["text"] == "I see."
    assert seen == [SHA, SHA, SHA]


@pytest.mark.parametrize("reason", StopReason.__args__)
def test_every_stop_reason(kind, reason):
    reply = play(kind, [says("So.", stop_reason=reason)], lambda model: model.converse(request(), blob))
    assert reply.stop_reason == reason


def test_usage(kind):
    usage = Usage(
        input_tokens=11, output_tokens=22, cache_write_tokens=33, cache_write_1h_tokens=44, cache_read_tokens=55
    )
    reply = play(kind, [says("So.", usage=usage)], lambda model: model.converse(request(), blob))
    assert reply.usage == usage


def test_tokens_of_a_prompt(kind):
    def conversation(model):
        model.converse(request(), blob)
        return model.count_tokens(request(), blob)

    assert play(kind, [says("So.")], conversation) > 10
