"""What is made of a reply before anything acts on it: nothing of an honest one, and always what JSON can hold."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.dialogue import Reply, Usage
from orchestrator.llm.scripted import uses
from orchestrator.scientist.claude import echo

WORDS = st.text(st.characters(), max_size=20) | st.just("\ud800") | st.just("x" * 300_000)
LEAVES = st.none() | st.booleans() | st.integers() | st.just(10**1500) | st.floats() | WORDS
VALUES = st.recursive(LEAVES, lambda v: st.lists(v) | st.dictionaries(WORDS, v), max_leaves=8)
BLOCKS = st.dictionaries(st.sampled_from(["type", "id", "name", "input", "text", "thinking", "signature"]), VALUES) | (
    st.fixed_dictionaries(
        {"type": st.sampled_from(["text", "tool_use"]), "id": VALUES, "name": VALUES, "input": VALUES}
    )
)


def reply(*content):
    return Reply(content=content, stop_reason="tool_use", usage=Usage())


def test_an_honest_reply_passes_unchanged():
    honest = uses(
        ("view_file", {"name": "é", "n": [1, 2.5, None, True, {"a": "b\n"}]}), text="well", thinking="hm " * 99_999
    )
    assert echo.writable(honest) == honest and echo.heard(honest, []) == honest
    assert [echo.sendable(block) for block in honest.content] == list(honest.content)


@settings(max_examples=60, deadline=None)
@given(st.lists(BLOCKS, max_size=5))
def test_whatever_was_said_can_be_written_down_and_sent_back(blocks):
    kept = echo.writable(reply(*blocks))
    assert Reply.model_validate(json.loads(json.dumps(kept.model_dump()))).stop_reason == "tool_use"
    heard = echo.heard(kept, [])
    sent = [echo.sendable(block) for block in heard.content]
    text = json.dumps(sent, allow_nan=False, ensure_ascii=False)
    text.encode()
    calls = [b for b in sent if b["type"] == "tool_use"]
    assert len({b["id"] for b in calls}) == len(calls) and all(isinstance(b["input"], dict) for b in calls)
    assert all(str(b.get("text", "")).strip() for b in sent if b["type"] == "text")


def test_what_is_nested_without_end_is_cut_and_ids_of_earlier_replies_are_not_taken_again():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    kept = echo.writable(reply({"type": "tool_use", "id": "a", "name": "submit", "input": {"a": deep, "b": 10**9000}}))
    assert all(part in json.dumps(kept.model_dump()) for part in ("(nested too deeply)", "(a number of 29898 bits)"))
    before = [{"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "x", "input": {}}]}]
    assert echo.heard(kept, before).content[0]["id"] != "a"
