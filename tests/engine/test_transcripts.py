"""Transcripts: what was said and what came back, kept once, given back exactly, through every kind of damage."""

import json
import os

import pytest

from orchestrator.core.dialogue import Reply, Request, Usage
from orchestrator.engine.transcripts import Transcripts
from orchestrator.errors import UserError
from orchestrator.paths import Paths
from orchestrator.ports import Exchange
from orchestrator.store.blobs import Blobs

SYSTEM = ({"type": "text", "text": "You read runs. é\n" * 200, "cache_control": {"type": "ephemeral"}},)
TOOLS = ({"name": "submit", "input_schema": {"type": "object"}},)
PICTURE = {"type": "image", "source": {"type": "blob", "media_type": "image/png", "sha256": "ab" * 32}}


def paths_of(folder):
    return Paths(source=folder, out=folder / "out")


def said(role, *blocks):
    return {"role": role, "content": list(blocks)}


def text(words):
    return {"type": "text", "text": words}


def reply(words, **fields):
    content = ({"type": "thinking", "thinking": "hm", "signature": "c2ln"}, text(words))
    return Reply(content=content, stop_reason="end_turn", usage=Usage(input_tokens=3), **fields)


def request(*messages, **fields):
    return Request(model="claude-opus-5-5", max_tokens=100, tools=TOOLS, system=SYSTEM, messages=messages, **fields)


def conversation(steps, first="turn 1"):
    """Return the requests of a conversation; the cache mark moves with the last message, as a real one's does."""
    messages = [said("user", text(first))]
    made = []
    for step in range(steps):
        last = messages[-1]
        marked = [*last["content"][:-1], last["content"][-1] | {"cache_control": {"type": "ephemeral"}}]
        made.append(request(*messages[:-1], last | {"content": marked}))
        messages += [said("assistant", text(f"step {step}")), said("user", text(f"result {step}"), PICTURE)]
    return made


def keep(transcripts, call, asked, words="ok"):
    exchange = Exchange(call=call, request_sha=asked.sha, reply=reply(words, request_id="r", model="m"), seconds=1.5)
    transcripts.keep(exchange, asked)
    return exchange


def on_disk(folder, call):
    return json.loads((folder / "out" / "prompts" / f"{call:04d}.json").read_text())


@pytest.mark.parametrize("fresh", [False, True], ids=["one process", "a process for each step"])
def test_conversations_come_back_exactly(odd_path, fresh):
    asked = conversation(4) + conversation(2, "turn 2")
    transcripts = Transcripts(paths_of(odd_path))
    kept = []
    for call, one in enumerate(asked, start=1):
        transcripts = Transcripts(paths_of(odd_path)) if fresh else transcripts
        kept.append(keep(transcripts, call, one, f"reply {call}"))
    again = Transcripts(paths_of(odd_path))
    for call, (one, exchange) in enumerate(zip(asked, kept, strict=True), start=1):
        assert again.kept(call) == exchange
        assert again.request(call).sha == one.sha and again.request(call) == one
    assert again.calls() == [1, 2, 3, 4, 5, 6]


def test_what_is_the_same_is_written_once(tmp_path):
    asked = conversation(4) + conversation(1, "turn 2")
    transcripts = Transcripts(paths_of(tmp_path))
    for call, one in enumerate(asked, start=1):
        keep(transcripts, call, one)
    found = [on_disk(tmp_path, call)["request"] for call in range(1, 6)]
    assert [f["continues"] for f in found] == [None, None, 2, 3, None]  # the mark in the first message has moved
    assert [f["shared"] for f in found] == [0, 0, 2, 4, 0]
    assert [len(f["messages"]) for f in found] == [1, 3, 3, 3, 1]
    assert len(list((tmp_path / "out" / "blobs").iterdir())) == 1
    assert all("You read runs" not in p.read_text() for p in (tmp_path / "out" / "prompts").iterdir())
    assert found[3]["messages"][0]["content"][1] == PICTURE


def test_a_request_that_is_sent_again_names_the_one_before_the_gap(tmp_path):
    asked = conversation(1)[0]
    keep(Transcripts(paths_of(tmp_path)), 3, asked)
    keep(Transcripts(paths_of(tmp_path)), 7, asked)  # 4 to 6 had no reply
    assert on_disk(tmp_path, 7)["request"] | {"prefix": ""} == {
        "model": "claude-opus-5-5", "max_tokens": 100, "effort": None, "prefix": "", "continues": 3, "shared": 1,
        "messages": [],
    }  # fmt: skip
    assert Transcripts(paths_of(tmp_path)).request(7) == asked


def test_values_that_python_takes_for_equal_stay_apart(tmp_path):
    transcripts = Transcripts(paths_of(tmp_path))
    for call, value in enumerate((1, True, 1.0, 0.0, -0.0), start=1):
        asked = request(said("user", {"type": "tool_result", "content": value}))
        keep(transcripts, call, asked)
        assert transcripts.request(call).sha == asked.sha


def test_a_conversation_of_many_steps_is_no_deep_recursion(tmp_path):
    transcripts = Transcripts(paths_of(tmp_path))
    messages = []
    for call in range(1, 301):
        messages += [said("user", text("x"))]
        asked = request(*messages)
        keep(transcripts, call, asked)
    assert Transcripts(paths_of(tmp_path)).request(300) == asked
    assert len(on_disk(tmp_path, 300)["request"]["messages"]) == 1


@pytest.mark.parametrize("words", ["half a pair \ud83d", "\x00\x1b[31m", "naïve 数"])
def test_any_text_of_a_reply_is_kept(tmp_path, words):
    asked = request(said("user", text("q")))
    exchange = keep(Transcripts(paths_of(tmp_path)), 1, asked, words)
    assert Transcripts(paths_of(tmp_path)).kept(1) == exchange


def test_numbers_that_json_does_not_have_are_no_reason_to_lose_a_reply(tmp_path):
    answer = Reply(content=({"type": "tool_use", "input": {"x": float("inf")}},), stop_reason="tool_use", usage=Usage())
    asked = request(said("user", text("q")))
    exchange = Exchange(call=1, request_sha=asked.sha, reply=answer, seconds=0.0)
    Transcripts(paths_of(tmp_path)).keep(exchange, asked)
    assert Transcripts(paths_of(tmp_path)).kept(1) == exchange


def test_a_call_without_a_file_had_no_reply(tmp_path):
    transcripts = Transcripts(paths_of(tmp_path))
    assert transcripts.kept(1) is None and transcripts.calls() == []
    with pytest.raises(UserError, match=r"0001\.json: there is no such file"):
        transcripts.request(1)


TORN = {
    "cut": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "not utf-8": lambda data: b"\xff\xfe" + data,
    "a list": lambda data: b"[1]",
    "deep": lambda data: b"[" * 100_000,
    "of another program": lambda data: b'{"call": 2}',
    "of another call": lambda data: data.replace(b'"call": 2', b'"call": 3'),
}


@pytest.mark.parametrize("damage", TORN)
def test_a_torn_or_foreign_file_counts_as_none_and_is_named(tmp_path, damage):
    asked = conversation(3)
    transcripts = Transcripts(paths_of(tmp_path))
    for call, one in enumerate(asked, start=1):
        keep(transcripts, call, one)
    path = tmp_path / "out" / "prompts" / "0002.json"
    path.write_bytes(TORN[damage](path.read_bytes()))
    assert transcripts.kept(2) is None and transcripts.kept(3) is not None
    for call in (2, 3):  # 3 continues 2
        with pytest.raises(UserError, match=r"0002\.json"):
            transcripts.request(call)
    again = Transcripts(paths_of(tmp_path))
    path.unlink()
    os.mkdir(path)  # not even a file
    assert again.kept(2) is None
    path.rmdir()
    keep(again, 2, asked[1])
    assert again.request(3) == asked[2]


def edited(folder, call, change):
    path = folder / "out" / "prompts" / f"{call:04d}.json"
    content = json.loads(path.read_text())
    change(content["request"])
    path.write_text(json.dumps(content))


CHANGES = {
    "another message": lambda r: r["messages"].__setitem__(0, said("user", text("other"))),
    "fewer messages": lambda r: r.__setitem__("messages", []),
    "another model": lambda r: r.__setitem__("model", "other"),
    "itself": lambda r: r.update(continues=3, shared=1),
    "a later one": lambda r: r.update(continues=9, shared=1),
    "shared with nobody": lambda r: r.update(continues=None, shared=2),
    "a blob elsewhere": lambda r: r.__setitem__("prefix", "../prompts/0001.json"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_request_is_told_not_given_back(tmp_path, change):
    transcripts = Transcripts(paths_of(tmp_path))
    for call, one in enumerate(conversation(3), start=1):
        keep(transcripts, call, one)
    edited(tmp_path, 3, CHANGES[change])
    with pytest.raises(UserError, match=str(tmp_path / "out")):
        transcripts.request(3)
    keep(Transcripts(paths_of(tmp_path)), 4, conversation(4)[3])  # the next reply is not lost by it
    assert transcripts.request(4) == conversation(4)[3]


def test_a_changed_or_missing_blob_is_named(tmp_path):
    transcripts = Transcripts(paths_of(tmp_path))
    keep(transcripts, 1, conversation(1)[0])
    (blob,) = (tmp_path / "out" / "blobs").iterdir()
    blob.write_text("{}")
    with pytest.raises(UserError, match=rf"{blob.name}.*another content"):
        transcripts.request(1)
    blob.unlink()
    with pytest.raises(UserError, match=rf"{blob.name}.*none"):
        transcripts.request(1)
    keep(Transcripts(paths_of(tmp_path)), 2, conversation(2)[1])
    assert transcripts.request(1) == conversation(1)[0]  # the same prefix was written again


def test_a_file_is_whole_or_not_there(tmp_path, monkeypatch):
    transcripts = Transcripts(paths_of(tmp_path))
    keep(transcripts, 1, conversation(1)[0])
    replace = os.replace

    def full(source, target):
        if str(target).endswith("0002.json"):
            raise OSError("disk full")
        return replace(source, target)

    monkeypatch.setattr("orchestrator.store.atomic.os.replace", full)
    with pytest.raises(OSError, match="disk full"):
        keep(transcripts, 2, conversation(2)[1])
    assert transcripts.kept(2) is None and transcripts.calls() == [1]


def test_blobs_are_found_by_their_sha_and_nothing_else(odd_path):
    blobs = Blobs(odd_path / "blobs")
    sha = blobs.keep(b"data")
    assert blobs.read(sha) == b"data" and blobs.keep(b"data") == sha
    for name in ("", "..", "../blobs/" + sha, sha.upper(), sha + "\n", "a" * 5000, "\0"):
        assert blobs.find(name) is None
        with pytest.raises(UserError):
            blobs.read(name)
    (odd_path / "blobs" / sha).write_bytes(b"torn")
    assert blobs.keep(b"data") == sha and blobs.read(sha) == b"data"
