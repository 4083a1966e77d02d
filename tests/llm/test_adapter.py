"""AnthropicModel over real HTTP: what is sent, what a reply becomes, and what is asked of the environment."""

import base64

import pytest
from pydantic import SecretStr

from orchestrator.core.dialogue import Usage
from orchestrator.errors import UserError
from orchestrator.llm.anthropic import AnthropicModel, Credentials, credentials
from orchestrator.llm.loopback import LoopbackServer, Raw, Says
from tests.llm.talk import KEY, PNG, SYSTEM, TOOLS, adapter, blob, picture, request, serving, user


def test_what_is_sent():
    with serving(Says(content="ok")) as (model, server):
        reply = model.converse(request(effort="high"), blob)
    (asked,) = server.requests
    assert asked.body == {
        "model": "claude-opus-5-5",
        "max_tokens": 500,
        "system": list(SYSTEM),
        "tools": list(TOOLS),
        "messages": [user("What next?")],
        "thinking": {"type": "adaptive", "display": "summarized"},
        "output_config": {"effort": "high"},
        "cache_control": {"type": "ephemeral"},
        "stream": True,
    }
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert (reply.request_id, reply.model) == ("req_0001", "claude-opus-5-5")


def test_a_token_opens_too():
    with LoopbackServer([Says(content="ok")], keys=frozenset({"a-token-of-mine"})) as server:
        model = AnthropicModel(Credentials(auth_token=SecretStr("a-token-of-mine"), base_url=server.url))
        assert model.converse(request(), blob).content[0]["text"] == "ok"
        model.close()


def test_effort_is_sent_only_when_it_is_set():
    with serving(Says(content="ok")) as (model, server):
        model.converse(request(), blob)
    assert "output_config" not in server.bodies[0]


def test_images_are_sent_as_their_bytes():
    with serving(Says(content="ok")) as (model, server):
        model.converse(request(user("Look:", picture())), blob)
    source = server.bodies[0]["messages"][0]["content"][1]["source"]
    assert source["type"] == "base64"
    assert source["media_type"] == "image/png"
    assert base64.b64decode(source["data"]) == PNG


def test_features_that_are_off_are_not_sent():
    with serving(Says(content="ok"), features=frozenset()) as (model, server):
        model.converse(request(effort="low"), blob)
    (body,) = server.bodies
    assert not {"thinking", "output_config", "cache_control"} & set(body)
    assert "cache_control" not in body["system"][0]
    assert body["tools"] == list(TOOLS)


def test_an_unknown_feature_is_told():
    with LoopbackServer([]) as server, pytest.raises(UserError, match="warp"), adapter(server, features={"warp"}):
        pass


def test_four_breakpoints_are_not_exceeded():
    marked = [{"type": "text", "text": f"part {n}", "cache_control": {"type": "ephemeral"}} for n in range(4)]
    with serving(Says(content="ok"), Says(content="ok")) as (model, server):
        model.converse(request(system=tuple(marked[:3])), blob)
        model.converse(request(system=tuple(marked)), blob)
    assert ["cache_control" in body for body in server.bodies] == [True, False]


def test_a_prefix_is_written_once_and_read_after():
    with serving(Says(content="ok"), Says(content="ok")) as (model, _):
        first = model.converse(request(), blob).usage
        second = model.converse(request(user("Something else.")), blob).usage
    assert first.cache_write_1h_tokens > 0
    assert first.cache_read_tokens == 0
    assert second.cache_read_tokens == first.cache_write_1h_tokens
    assert second.cache_write_1h_tokens == 0
    assert second.cache_write_tokens > 0


def test_usage_of_a_server_that_says_little():
    body = (
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","type":"message",'
        b'"role":"assistant","model":"llama","content":[],"usage":{"input_tokens":5,"output_tokens":1}}}\n\n'
        b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":'
        b'{"type":"text","text":"hi","citations":null}}\n\n'
        b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
        b'"usage":{"output_tokens":7}}\n\nevent: message_stop\ndata: {"type":"message_stop"}\n\n'
    )
    with serving(Raw(body=body)) as (model, _):
        reply = model.converse(request(), blob)
    assert reply.usage == Usage(input_tokens=5, output_tokens=7)
    assert reply.content == ({"type": "text", "text": "hi"},)


def test_a_text_without_text_is_dropped_because_it_could_not_be_sent_back():
    call = {"type": "tool_use", "name": "submit", "input": {}}
    with serving(Says(content=({"type": "text", "text": " \n"}, call), stop_reason="tool_use")) as (model, _):
        assert [block["type"] for block in model.converse(request(), blob).content] == ["tool_use"]


def test_an_input_that_is_no_object_is_kept_for_the_caller_to_answer():
    call = {"type": "tool_use", "name": "submit", "input": [1, 2]}
    with serving(Says(content=(call,), stop_reason="tool_use")) as (model, _):
        assert model.converse(request(), blob).content[0]["input"] == [1, 2]


def test_an_input_that_was_cut_comes_as_far_as_it_came():
    call = {"type": "tool_use", "name": "submit", "input": '{"a": 1, "text": "half a sen'}
    with serving(Says(content=(call,), stop_reason="max_tokens")) as (model, _):
        reply = model.converse(request(), blob)
    assert reply.stop_reason == "max_tokens"
    assert reply.content[0]["input"]["a"] == 1


def test_tokens_are_counted_by_the_service():
    with serving() as (model, server):
        assert model.count_tokens(request(), blob) == server.meter.prompt(server.others[0].body)
        more = model.count_tokens(request(user("What next?", picture())), blob)
    assert more > 1000


def test_no_route_to_count_tokens():
    with LoopbackServer([], without=frozenset({"count_tokens"})) as server, adapter(server) as model:
        assert model.count_tokens(request(), blob) is None


def test_a_models_card():
    with serving() as (model, _):
        card = model.describe("claude-opus-5-5")
    assert (card.id, card.lifecycle, card.images) == ("claude-opus-5-5", "active", True)
    assert card.max_input_tokens == 200_000
    assert set(card.efforts) == {"low", "medium", "high"}


def test_no_route_to_models():
    with LoopbackServer([], without=frozenset({"models"})) as server, adapter(server) as model:
        assert model.describe("claude-opus-5-5") is None


def test_credentials_are_taken_out_of_the_environment():
    environ = {
        "PATH": "/bin",
        "ANTHROPIC_API_KEY": f" {KEY}\n",
        "ANTHROPIC_AUTH_TOKEN": "other",
        "ANTHROPIC_BASE_URL": "http://user:password1@127.0.0.1:1",
        "ANTHROPIC_MODEL": "claude-x",
        "ANTHROPIC_CUSTOM_HEADERS": "a: b",
    }
    found = credentials(environ)
    assert environ == {"PATH": "/bin"}
    assert found.api_key.get_secret_value() == KEY
    assert found.auth_token is None
    assert found.model == "claude-x"
    for shown in (repr(found), str(found), found.model_dump_json(exclude={"base_url"})):
        assert KEY not in shown
        assert "password1" not in shown


def test_no_key_is_no_credentials_and_the_variables_go_all_the_same():
    environ = {"ANTHROPIC_API_KEY": "", "ANTHROPIC_BASE_URL": "http://127.0.0.1:1"}
    assert credentials(environ) is None
    assert environ == {}


def test_a_broken_key_is_told_without_showing_it():
    environ = {"ANTHROPIC_API_KEY": "sk-test one\nsk-test-two"}
    with pytest.raises(UserError, match="ANTHROPIC_API_KEY") as caught:
        credentials(environ)
    assert "sk-test" not in str(caught.value)
    assert environ == {}


def test_a_key_that_no_header_could_carry_is_refused_without_showing_it():
    with pytest.raises(ValueError, match="one word") as caught:
        Credentials(api_key=SecretStr(KEY + "\n"))
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "address", [None, "https://api.anthropic.com", "http://10.0.0.1:80", "http://127.0.0.1@example.com/", "http://0/"]
)
def test_tests_cannot_reach_another_machine(address):
    with pytest.raises(UserError, match="loopback"):
        AnthropicModel(Credentials(api_key=SecretStr(KEY), base_url=address))


def test_without_the_switch_the_service_itself_may_be_asked(monkeypatch):
    monkeypatch.delenv("ORCHESTRATOR_MODEL_HOSTS")
    model = AnthropicModel(Credentials(api_key=SecretStr(KEY)))
    assert model.host == "api.anthropic.com"
    assert KEY not in repr(model)
    model.close()


@pytest.mark.parametrize("address", ["ftp://127.0.0.1", "127.0.0.1:80", "http://", "user:hunter2hunter2@here"])
def test_an_address_that_is_none(address):
    with pytest.raises(UserError, match="ANTHROPIC_BASE_URL") as caught:
        AnthropicModel(Credentials(api_key=SecretStr(KEY), base_url=address))
    assert "hunter2" not in str(caught.value)


def test_a_proxy_of_the_environment_does_not_see_requests_to_this_machine(monkeypatch):
    with LoopbackServer([]) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        with serving(Says(content="ok")) as (model, _):
            assert model.converse(request(), blob).content[0]["text"] == "ok"
        assert not proxy.requests
