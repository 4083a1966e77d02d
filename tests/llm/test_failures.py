"""Every way in which the service can fail, over real HTTP: wait, or tell a person; paid perhaps, or not."""

import socket
import threading
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from pydantic import SecretStr

from orchestrator.errors import ModelRejectedError, ModelUnavailableError
from orchestrator.llm.answers import encoded, events, wire
from orchestrator.llm.anthropic import AnthropicModel, Credentials
from orchestrator.llm.loopback import Cuts, Fails, FailsLate, Hangs, LoopbackServer, Raw, Says, Stalls
from orchestrator.llm.scripted import TYPICAL
from tests.llm.talk import KEY, QUICK, adapter, blob, request, serving

SAYS = Says(content="a reply of some length")
CALL = Says(content=({"type": "tool_use", "name": "submit", "input": {"a": "b"}},), stop_reason="tool_use")


def unavailable(*script, **more):
    """Return the error that a script ends in, with the number of requests it took."""
    with serving(*script, **more) as (model, server):
        with pytest.raises(ModelUnavailableError) as caught:
            model.converse(request(), blob)
        return caught.value, len(server.requests)


def rejected(*script, asked=None, **more):
    with serving(*script, **more) as (model, server):
        with pytest.raises(ModelRejectedError) as caught:
            model.converse(asked or request(effort="low"), blob)
        assert len(server.requests) + len(server.refused) == 1
        return str(caught.value)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
def test_what_passes_is_tried_again_and_then_left_to_the_caller(status):
    error, requests = unavailable(*[Fails(status=status, message="not now")] * 3)
    assert requests == 3
    assert not error.maybe_paid
    assert error.retry_after_s is None
    assert f"{status} api_error: not now (request req_0003)" in str(error)


def test_a_hiccup_is_not_seen_by_the_caller():
    with serving(Fails(status=529), Fails(status=500), SAYS) as (model, server):
        assert model.converse(request(), blob).content[0]["text"] == SAYS.content
    assert len(server.requests) == 3


def test_no_more_retries_than_asked_for():
    assert unavailable(Fails(status=529), max_retries=0)[1] == 1


def test_a_short_wait_that_the_service_asks_for_is_kept():
    with serving(Fails(status=429, retry_after=0.3), SAYS) as (model, _):
        assert model.converse(request(), blob).stop_reason == "end_turn"


@pytest.mark.parametrize(
    ("header", "low", "high"),
    [
        (3600, 3600, 3600),
        ("1.5", 1.5, 1.5),
        (format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True), 3000, 3600),
    ],
    ids=["seconds", "a part of a second", "a date"],
)
def test_a_long_wait_is_the_callers(header, low, high):
    error, requests = unavailable(Fails(status=429, error_type="rate_limit_error", retry_after=header))
    assert requests == 1
    assert low <= error.retry_after_s <= high
    assert "rate limit" in str(error)


@pytest.mark.parametrize("header", ["nan", "soon", "-5", "inf"])
def test_a_wait_that_cannot_be_read_is_none(header):
    assert unavailable(*[Fails(status=529, retry_after=header)] * 3)[0].retry_after_s is None


@pytest.mark.parametrize(
    ("status", "kind", "message", "advice"),
    [
        (401, "authentication_error", "invalid x-api-key", "check ANTHROPIC_API_KEY"),
        (402, "billing_error", "no funds", "credit and spending limits"),
        (403, "permission_error", "not for you", "no permission"),
        (404, "not_found_error", "model: claude-opus-5-5", "ANTHROPIC_MODEL"),
        (413, "request_too_large", "too large", "lower `budget"),
        (400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum", "lower `budget"),
        (400, "invalid_request_error", "Your credit balance is too low", "credit and spending limits"),
        (400, "invalid_request_error", "messages.1: bad thing", "prompts/"),
        (422, "invalid_request_error", "bad thing", "prompts/"),
        (405, "odd_error", "no", "ANTHROPIC_BASE_URL"),
    ],
)
def test_what_the_same_request_would_meet_again_is_told_with_advice(status, kind, message, advice):
    sentence = rejected(Fails(status=status, error_type=kind, message=message))
    assert f"{status} {kind}: {message} (request req_0001)" in sentence
    assert advice in sentence


def test_a_spending_limit_is_no_rate_limit():
    sentence = rejected(Fails(status=429, error_type="rate_limit_error", code="enforced_spend_limit_reached"))
    assert "spending limits" in sentence


@pytest.mark.parametrize(("field", "feature"), [("thinking", "thinking"), ("output_config", "effort")])
def test_a_server_that_lacks_a_feature(field, feature):
    with LoopbackServer([SAYS], without=frozenset({field})) as server:
        with adapter(server) as model, pytest.raises(ModelRejectedError, match=f"feature `{feature}`: switch it off"):
            model.converse(request(effort="low"), blob)
        with adapter(server, features={"thinking", "effort", "cache"} - {feature}) as model:
            assert model.converse(request(effort="low"), blob).stop_reason == "end_turn"


def test_a_server_that_lacks_the_cache():
    sentence = rejected(Fails(status=400, message="system.0.cache_control: Extra inputs are not permitted"))
    assert "feature `cache`" in sentence


def test_a_broken_conversation_is_not_blamed_on_a_feature():
    sentence = rejected(Fails(status=400, message="messages.1.content.0: Invalid `signature` in `thinking` block"))
    assert "feature" not in sentence


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error": "model not loaded"}', "model not loaded"),
        (b'{"detail": "Not Found"}', "Not Found"),
        (b"<html><b>Bad\n gateway</b></html>", "<html><b>Bad gateway</b></html>"),
        (b"", "404 "),
        (b"[1]", "404: [1]"),
    ],
)
def test_errors_of_other_servers_are_readable(body, said):
    assert said in rejected(Raw(body=body, status=404, content_type="application/json"))


def test_a_redirect_is_not_followed():
    with LoopbackServer([]) as other:
        assert "redirect" in rejected(Raw(body=b"", status=307))
        assert not other.requests


def test_no_server():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    model = AnthropicModel(Credentials(api_key=SecretStr(KEY), base_url=url), times=QUICK)
    with pytest.raises(ModelUnavailableError, match="could not be reached") as caught:
        model.converse(request(), blob)
    assert not caught.value.maybe_paid
    assert model.count_tokens(request(), blob) is None
    with pytest.raises(ModelUnavailableError):
        model.describe("claude-opus-5-5")
    model.close()


def test_a_server_that_never_answers_may_have_been_paid_and_is_not_asked_twice():
    error, requests = unavailable(Hangs(), times=QUICK.model_copy(update={"silence_s": 0.3}))
    assert requests == 1
    assert error.maybe_paid
    assert "nothing for 0.3 s" in str(error)


def answered_with(data):
    """Return the error that comes of a server which answers with these bytes and closes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        model = AnthropicModel(Credentials(api_key=SecretStr(KEY), base_url=url), times=QUICK)

        def answer():
            connection, _ = server.accept()
            connection.recv(100_000)
            connection.sendall(data)
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ModelUnavailableError) as caught:
            model.converse(request(), blob)
        thread.join()
    model.close()
    return caught.value


def test_a_connection_that_closes_without_an_answer_may_have_been_paid():
    error = answered_with(b"")
    assert error.maybe_paid
    assert "without an answer" in str(error)


def test_an_answer_that_is_not_http():
    error = answered_with(f"HTTP/9 {'x' * 60} {KEY}\r\n\r\n".encode())
    assert error.maybe_paid
    assert "[secret]" in str(error)
    assert KEY[:8] not in str(error)


@pytest.mark.parametrize("clean", [False, True])
@pytest.mark.parametrize("count", range(8))
def test_a_stream_cut_after_any_event(count, clean):
    told = events(CALL, model="m", identifier="i", usage=wire(TYPICAL))
    assert len(told) > 8
    error, requests = unavailable(Cuts(reply=CALL, after_events=count, clean=clean))
    assert requests == 1
    assert error.maybe_paid


@pytest.mark.parametrize("kind", ["overloaded_error", "api_error", "rate_limit_error", "timeout_error", "new_error"])
def test_an_error_inside_a_stream(kind):
    error, requests = unavailable(FailsLate(error_type=kind, message="too busy"))
    assert requests == 1
    assert error.maybe_paid
    assert "too busy" in str(error)


def test_a_refusal_inside_a_stream_is_a_refusal():
    assert "bad block" in rejected(FailsLate(error_type="invalid_request_error", message="bad block"))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"event: message_start\ndata: {broken\n\n",
        b"event: message_start\ndata: \xff\xfe\n\n",
        b'event: message_start\ndata: {"type": "message_start"}\n\n',
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":7,"delta":{"type":"text_delta"}}\n\n',
        b'event: message_stop\ndata: {"type": "message_stop"}\n\n',
        b"event: error\ndata: not json\n\n",
        b"<html>log in first</html>",
        b"event: message_start\ndata: []\n\n",
    ],
)
def test_a_stream_that_is_none(body):
    error, requests = unavailable(Raw(body=body))
    assert requests == 1
    assert error.maybe_paid


@pytest.mark.parametrize("given", ['{"a": 1, "text": "half', "not json at all", "{]"])
def test_a_call_whose_input_is_not_whole(given):
    call = {"type": "tool_use", "name": "submit", "input": given}
    assert unavailable(Says(content=(call,), stop_reason="tool_use"))[0].maybe_paid


def test_a_slow_reply_is_waited_for():
    with serving(Stalls(reply=SAYS, seconds=0.3, after_events=3)) as (model, _):
        assert model.converse(request(), blob).content[0]["text"] == SAYS.content


def test_a_reply_that_stops_coming():
    error, _ = unavailable(
        Stalls(reply=SAYS, seconds=10, after_events=3), times=QUICK.model_copy(update={"silence_s": 0.3})
    )
    assert error.maybe_paid
    assert "nothing for 0.3 s" in str(error)


def test_pings_alone_do_not_hold_the_engine():
    times = QUICK.model_copy(update={"reply_s": 0.3})
    error, _ = unavailable(Stalls(reply=SAYS, seconds=10, after_events=3, pings=True), times=times)
    assert error.maybe_paid
    assert "not complete after 0.3 s" in str(error)


@pytest.mark.parametrize("reason", ["eos", None])
def test_an_unknown_stop_reason(reason):
    sentence = rejected(Says(content="hm", stop_reason=reason))
    assert f"stop_reason {reason!r}" in sentence
    assert "end_turn" in sentence


def test_a_model_that_does_not_exist():
    with LoopbackServer([], unknown=frozenset({"claude-none"})) as server, adapter(server) as model:
        with pytest.raises(ModelRejectedError, match="there is no model 'claude-none'"):
            model.converse(request(model="claude-none"), blob)
        with pytest.raises(ModelRejectedError, match="there is no model 'claude-none'"):
            model.describe("claude-none")


def test_a_wrong_key_is_told_by_describe():
    with LoopbackServer([], keys=frozenset({"another"})) as server, adapter(server) as model:
        with pytest.raises(ModelRejectedError, match="check ANTHROPIC_API_KEY"):
            model.describe("claude-opus-5-5")
        assert model.count_tokens(request(), blob) is None


@pytest.mark.parametrize(
    "script",
    [
        [Fails(status=401, error_type="authentication_error", message=f"the key {KEY} is not known")],
        [Fails(status=500, message=f"cannot serve {KEY}")] * 3,
        [FailsLate(message=f"overloaded by {KEY}")],
        [Fails(status=400, message="long " * 118 + KEY)],
        [Raw(body=f"event: message_start\ndata: {KEY}\n\n".encode())],
        [Raw(body=f"<html>{KEY}</html>".encode(), status=404)],
        [Says(content="hm", stop_reason=KEY)],
        [Says(content=({"type": "tool_use", "name": "f", "input": "{]" + KEY},), stop_reason="tool_use")],
    ],
)
def test_a_key_that_the_server_echoes_is_not_shown(script):
    with serving(*script) as (model, _):
        with pytest.raises((ModelRejectedError, ModelUnavailableError)) as caught:
            model.converse(request(), blob)
        shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + str(caught.value.__context__)
        assert KEY[:8] not in shown
        assert KEY not in repr(model)


def test_a_key_in_a_reply_is_not_kept():
    with serving(Says(content=({"type": "tool_use", "name": "f", "input": {KEY: [KEY]}},))) as (model, _):
        reply = model.converse(request(), blob)
    assert reply.content[0]["input"] == {"[secret]": ["[secret]"]}


def test_user_and_password_of_the_address_are_not_shown():
    with LoopbackServer(
        [Fails(status=400, message="bad hunter2hunter2 and me:hunter2hunter2@ and me:hunter2%68unter2")]
    ) as s:
        address = s.url.replace("http://", "http://me:hunter2%68unter2@")
        model = AnthropicModel(Credentials(api_key=SecretStr(KEY), base_url=address), times=QUICK)
        with pytest.raises(ModelRejectedError) as caught:
            model.converse(request(), blob)
        assert "unter2" not in str(caught.value) + repr(model)
        model.close()


def test_a_short_password_is_hidden_with_its_user():
    with LoopbackServer([Fails(status=400, message="no me:pw here")]) as server:
        address = server.url.replace("http://", "http://me:pw@")
        model = AnthropicModel(Credentials(api_key=SecretStr(KEY), base_url=address), times=QUICK)
        with pytest.raises(ModelRejectedError, match=r"no \[secret\] here"):
            model.converse(request(), blob)
        assert server.requests[0].headers["authorization"].startswith("Basic ")
        model.close()


def test_a_short_placeholder_is_no_secret():
    with LoopbackServer([Says(content="next to nothing")]) as server:
        model = AnthropicModel(Credentials(api_key=SecretStr("x"), base_url=server.url), times=QUICK)
        assert model.converse(request(), blob).content[0]["text"] == "next to nothing"
        model.close()


def test_events_are_encoded_as_the_service_does():
    assert encoded(("ping", {})) == b'event: ping\ndata: {"type": "ping"}\n\n'
