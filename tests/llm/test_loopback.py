"""The loopback service refuses what the real one refuses, and streams in its order."""

import base64
import json
import urllib.error
import urllib.request

import pytest

from orchestrator.llm.answers import signature
from orchestrator.llm.loopback import Calls, Fails, LoopbackServer, Says
from orchestrator.llm.scripted import ScriptError
from tests import toy
from tests.llm.talk import PNG, SYSTEM, TOOLS, adapter, blob, request, serving, text, user

HEADERS = {"content-type": "application/json", "x-api-key": "any", "anthropic-version": "2026-10-21"}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "submit", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [text("done")]}
GOOD = {"model": "claude-opus-5-5", "max_tokens": 10, "messages": [user("hi")]}


def ask(server, body, path="/v1/messages", headers=HEADERS):
    """Return status, headers and text of an answer."""
    data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(server.url + path, data=data, headers=headers)
    try:
        with urllib.request.urlopen(asked) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read().decode()


def assistant(*content):
    return {"role": "assistant", "content": list(content)}


def image(media_type="image/png", data=None, kind="base64"):
    source = {"type": kind, "media_type": media_type, "data": data or base64.b64encode(PNG).decode()}
    return {"type": "image", "source": source}


def thought(thinking="hm", signed=None):
    return {"type": "thinking", "thinking": thinking, "signature": signed or signature("hm")}


GOOD_ONES = {
    "plain": GOOD,
    "text as content": GOOD | {"messages": [{"role": "user", "content": "hi"}]},
    "all fields": GOOD
    | {
        "system": list(SYSTEM),
        "tools": list(TOOLS),
        "thinking": {"type": "adaptive"},
        "output_config": {"effort": "low"},
        "cache_control": {"type": "ephemeral"},
        "tool_choice": {"type": "auto"},
    },
    "a call answered": GOOD | {"messages": [user("hi"), assistant(thought(), CALL), user(RESULT, "go on")]},
    "images": GOOD | {"messages": [user(image()), assistant(CALL), user(RESULT | {"content": [image()]})]},
}

BAD_ONES = {
    "no max_tokens": ({"model": "m", "messages": [user("hi")]}, "max_tokens"),
    "no model": ({"max_tokens": 1, "messages": [user("hi")]}, "model"),
    "no messages": (GOOD | {"messages": []}, "at least one message"),
    "temperature": (GOOD | {"temperature": 1.0}, "temperature: Extra inputs"),
    "top_p": (GOOD | {"top_p": 1.0}, "top_p: Extra inputs"),
    "forced tool": (GOOD | {"tool_choice": {"type": "any"}}, "tool_choice"),
    "named tool": (GOOD | {"tool_choice": {"type": "tool", "name": "submit"}}, "tool_choice"),
    "thinking with a budget": (GOOD | {"thinking": {"type": "enabled", "budget_tokens": 1}}, "thinking.type"),
    "assistant first": (GOOD | {"messages": [assistant(text("hi"))]}, "beginning with user"),
    "two users": (GOOD | {"messages": [user("a"), user("b")]}, "alternate"),
    "prefill": (GOOD | {"messages": [user("a"), assistant(text("b"))]}, "prefill"),
    "empty content": (GOOD | {"messages": [user()]}, "must not be empty"),
    "blank text": (GOOD | {"messages": [user(" ")]}, "non-whitespace"),
    "no result": (GOOD | {"messages": [user("a"), assistant(CALL), user("b")]}, "without `tool_result`"),
    "one result of two": (
        GOOD | {"messages": [user("a"), assistant(CALL, CALL | {"id": "toolu_2"}), user(RESULT)]},
        "toolu_2",
    ),
    "a result of nothing": (GOOD | {"messages": [user(RESULT)]}, "unexpected `tool_use_id`"),
    "a result twice": (GOOD | {"messages": [user("a"), assistant(CALL), user(RESULT, RESULT)]}, "single result"),
    "text before the result": (GOOD | {"messages": [user("a"), assistant(CALL), user("b", RESULT)]}, "come first"),
    "an id twice": (
        GOOD | {"messages": [user("a"), assistant(CALL), user(RESULT), assistant(CALL), user(RESULT)]},
        "ids must be unique",
    ),
    "input that is no object": (
        GOOD | {"messages": [user("a"), assistant(CALL | {"input": [1]}), user(RESULT)]},
        "valid dictionary",
    ),
    "a null field": (
        GOOD | {"messages": [user("a"), assistant(text("b") | {"citations": None}), user("c")]},
        "citations: Extra inputs",
    ),
    "parsed output": (
        GOOD | {"messages": [user("a"), assistant(text("b") | {"parsed_output": 1}), user("c")]},
        "parsed_output: Extra inputs",
    ),
    "changed thinking": (
        GOOD | {"messages": [user("a"), assistant(thought("ha"), text("b")), user("c")]},
        "cannot be modified",
    ),
    "thinking without signature": (
        GOOD | {"messages": [user("a"), assistant({"type": "thinking", "thinking": "hm"}, text("b")), user("c")]},
        "signature",
    ),
    "an image by name": (GOOD | {"messages": [user(image(kind="blob"))]}, "base64"),
    "an image in TIFF": (GOOD | {"messages": [user(image("image/tiff"))]}, "media_type"),
    "an image that is none": (GOOD | {"messages": [user(image(data="not base64!"))]}, "invalid base64"),
    "an image of another kind": (GOOD | {"messages": [user(image("image/jpeg"))]}, "does not match"),
    "a call by the user": (GOOD | {"messages": [user(CALL)]}, "expected tags"),
    "a tool without schema": (GOOD | {"tools": [{"name": "a"}]}, "input_schema"),
    "a tool without name": (GOOD | {"tools": [{"input_schema": {"type": "object"}}]}, "name"),
    "a tool twice": (GOOD | {"tools": [TOOLS[0], TOOLS[0]]}, "unique"),
    "blank system": (GOOD | {"system": [text("")]}, "non-whitespace"),
    "five breakpoints": (
        GOOD
        | {
            "cache_control": {"type": "ephemeral"},
            "system": [text(f"{n}") | {"cache_control": {"type": "ephemeral"}} for n in range(4)],
        },
        "maximum of 4",
    ),
    "no JSON": (b"{", "JSON"),
    "a list": (b"[1]", "JSON"),
}


@pytest.mark.parametrize("name", GOOD_ONES)
def test_a_good_request(name):
    with LoopbackServer([Says(content="ok")]) as server:
        status, _, answer = ask(server, GOOD_ONES[name])
        assert status == 200, answer
        assert json.loads(answer)["content"] == [text("ok")]


@pytest.mark.parametrize("name", BAD_ONES)
def test_a_bad_request(name):
    body, said = BAD_ONES[name]
    with LoopbackServer([]) as server:
        status, headers, answer = ask(server, body)
        error = json.loads(answer)
        assert (status, error["type"], error["error"]["type"]) == (400, "error", "invalid_request_error")
        assert said in error["error"]["message"]
        assert headers["request-id"]
        assert not server.requests


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_no_key(path):
    with LoopbackServer([]) as server:
        headers = {name: value for name, value in HEADERS.items() if name != "x-api-key"}
        status, _, answer = ask(server, GOOD, path, headers)
        assert (status, json.loads(answer)["error"]["type"]) == (401, "authentication_error")
        status, _, answer = ask(server, None, "/v1/models/claude-opus-5-5", {})
        assert status == 401


def test_no_version():
    with LoopbackServer([]) as server:
        headers = {name: value for name, value in HEADERS.items() if name != "anthropic-version"}
        assert "anthropic-version" in ask(server, GOOD, headers=headers)[2]


def test_the_stream_has_the_services_order():
    content = (
        {"type": "thinking", "thinking": "I think about it."},
        {"type": "text", "text": "I look at the file."},
        {"type": "tool_use", "name": "view_file", "input": {"name": "memory.md"}},
    )
    with LoopbackServer([Says(content=content, stop_reason="tool_use")]) as server:
        _, headers, answer = ask(server, GOOD | {"stream": True})
    assert headers["content-type"].startswith("text/event-stream")
    found = []
    for block in answer.strip().split("\n\n"):
        first, second = block.split("\n")
        data = json.loads(second.removeprefix("data: "))
        assert first == f"event: {data['type']}"
        found.append(data)
    names = [data["type"] + ":" + data.get("delta", {}).get("type", "") for data in found]
    assert names == [
        "message_start:", "content_block_start:", "ping:",
        *["content_block_delta:thinking_delta"] * 3, "content_block_delta:signature_delta", "content_block_stop:",
        "content_block_start:", *["content_block_delta:text_delta"] * 3, "content_block_stop:",
        "content_block_start:", *["content_block_delta:input_json_delta"] * 4, "content_block_stop:",
        "message_delta:", "message_stop:",
    ]  # fmt: skip
    assert found[0]["message"]["usage"]["input_tokens"] > 0
    assert found[0]["message"]["content"] == []
    assert found[-2]["delta"]["stop_reason"] == "tool_use"
    assert found[-2]["usage"]["output_tokens"] > 10


def test_a_function_is_called_before_or_after_the_answer():
    heard = []
    script = [
        Calls(function=lambda: heard.append(len(heard)), then=Fails(status=400), when="before"),
        Calls(function=lambda: heard.append("after"), then=Says(content="ok"), when="after"),
    ]
    with LoopbackServer(script) as server:
        ask(server, GOOD)
        assert heard == [0]
        ask(server, GOOD)
        toy.wait_for(lambda: len(heard) == 2)  # the answer may be here before what is called after it
    assert heard == [0, "after"]


def test_a_script_may_be_a_function_of_the_request():
    def script(body, number):
        return Says(content=f"{number}: {body['messages'][0]['content'][0]['text']}")

    with serving(script) as (model, _):
        assert model.converse(request(user("a")), blob).content[0]["text"] == "1: a"
        assert model.converse(request(user("b")), blob).content[0]["text"] == "2: b"


def test_a_script_that_runs_out_is_no_secret():
    with pytest.raises(ScriptError, match="0 answers, and request 1"), LoopbackServer([]) as server:
        ask(server, GOOD)


def test_usage_is_the_same_for_the_same_requests():
    def usages():
        with LoopbackServer([Says(content="ok")] * 3) as server, adapter(server) as model:
            return [model.converse(request(user(words)), blob).usage for words in ("a", "b", "a")]

    assert usages() == usages()
    assert usages()[0].cache_write_1h_tokens > 0
    assert usages()[2].cache_write_tokens == 0
