"""LoopbackServer: the Messages API on this machine, for tests and for a demonstration without a key.

Real HTTP, real server-sent events in the service's order; `loopback_rules` refuses what the service refuses.

    with LoopbackServer([Says(content="hello"), Fails(status=529)]) as server:
        model = AnthropicModel(Credentials(api_key="any", base_url=server.url))
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple

from orchestrator.llm import answers, loopback_rules
from orchestrator.llm.answers import Answer, Calls, Cuts, Event, Fails, FailsLate, Hangs, Raw, Says, Stalls
from orchestrator.llm.scripted import ScriptError, numbered

__all__ = ["Asked", "Calls", "Cuts", "Fails", "FailsLate", "Hangs", "LoopbackServer", "Raw", "Says", "Script", "Stalls"]

Script = Callable[[dict[str, Any], int], Answer]
"""Body of a request to /v1/messages, and its number from 1 -> what is answered."""
LARGEST = 32 * 2**20
"""Bytes of a request."""
PING_S = 0.02


class Asked(NamedTuple):
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    """Names in small letters."""
    body: dict[str, Any]


class LoopbackServer:
    """A service on 127.0.0.1; leaving the `with` block raises when a script failed, so nothing is silent.

    `unknown` are models it does not have; `without` are fields and routes (`count_tokens`, `models`) that it lacks, as
    a server of one's own may.
    """

    def __init__(
        self,
        script: Script | Sequence[Answer],
        *,
        unknown: frozenset[str] = frozenset(),
        without: frozenset[str] = frozenset(),
        keys: frozenset[str] | None = None,
    ) -> None:
        self.script = script
        self.unknown = unknown
        self.without = without
        self.keys = keys
        """Keys that are accepted; null is any."""
        self.requests: list[Asked] = []
        """Requests to /v1/messages that were well formed, each of which took an answer of the script."""
        self.refused: list[tuple[Asked, str]] = []
        """Requests that were turned down by the rules, with the reason."""
        self.others: list[Asked] = []
        """Requests to the other routes."""
        self.problems: list[Exception] = []
        self.closing = threading.Event()
        self.meter = loopback_rules.Meter()
        self.lock = threading.Lock()
        self._http = _Http(self)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        """Address for ANTHROPIC_BASE_URL."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """Bodies of the well-formed requests to /v1/messages, in order."""
        return [asked.body for asked in self.requests]

    def __enter__(self) -> LoopbackServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if self.problems and error is None:
            raise ScriptError(f"the loopback service's script failed: {self.problems[0]!r}") from self.problems[0]

    def close(self) -> None:
        """End every open answer and the server."""
        self.closing.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def take(self, asked: Asked) -> tuple[Answer, int]:
        """Return the script's answer to a request, and the request's number."""
        with self.lock:
            self.requests.append(asked)
            number = len(self.requests)
        try:
            if callable(self.script):
                return self.script(asked.body, number), number
            if number > len(self.script):
                raise ScriptError(f"the script has {len(self.script)} answers, and request {number} came")
            return self.script[number - 1], number
        # Whatever a test's script raises is a problem of the test: told to the client, and raised at the end.
        except Exception as error:
            self.problems.append(error)
            return Fails(status=400, error_type="invalid_request_error", message=f"script failed: {error!r}"), number


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = True

    def __init__(self, service: LoopbackServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.service = service

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep what a handler raised, unless the client went away."""
        import sys

        error = sys.exc_info()[1]
        if isinstance(error, Exception) and not isinstance(error, ConnectionError):
            self.service.problems.append(error)


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    server: _Http
    # A client that keeps its connection must not hold the server open.
    timeout = 10

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer GET /v1/models/{id}."""
        service = self.server.service
        asked = self._asked({})
        service.others.append(asked)
        if self._stranger(asked):
            return
        if not self.path.startswith("/v1/models/") or "models" in service.without:
            self._json(404, {"error": "page not found"})
            return
        model = self.path.removeprefix("/v1/models/")
        if model in service.unknown:
            self._error(Fails(status=404, error_type="not_found_error", message=f"model: {model}"))
        else:
            self._json(200, card(model))

    def do_POST(self) -> None:
        """Answer POST /v1/messages and /v1/messages/count_tokens."""
        service = self.server.service
        data = self.rfile.read(int(self.headers.get("content-length", "0")))
        counting = self.path.split("?")[0] == "/v1/messages/count_tokens"
        if len(data) > LARGEST:
            self._error(Fails(status=413, error_type="request_too_large", message="Request exceeds the maximum size"))
            return
        try:
            asked = self._asked(dict(json.loads(data)))
        except (ValueError, TypeError):
            self._error(Fails(status=400, error_type="invalid_request_error", message="The body is not a JSON object"))
            return
        if self._stranger(asked):
            return
        if (not counting and self.path.split("?")[0] != "/v1/messages") or (
            counting and "count_tokens" in service.without
        ):
            self._json(404, {"error": "page not found"})
        elif self._refused(asked, counting=counting):
            return
        elif counting:
            service.others.append(asked)
            self._json(200, {"input_tokens": service.meter.prompt(asked.body)})
        else:
            answer, number = service.take(asked)
            self._answer(answer, asked.body, number)

    def _asked(self, body: dict[str, Any]) -> Asked:
        return Asked(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)

    def _stranger(self, asked: Asked) -> bool:
        """Turn a request without an accepted key down."""
        key = asked.headers.get("x-api-key") or asked.headers.get("authorization", "").removeprefix("Bearer ").strip()
        accepted = self.server.service.keys
        if key and (accepted is None or key in accepted):
            return False
        word = "invalid" if key else "missing"
        self._error(Fails(status=401, error_type="authentication_error", message=f"{word} x-api-key"))
        return True

    def _refused(self, asked: Asked, *, counting: bool) -> bool:
        """Turn a request down that breaks a rule of the API."""
        service = self.server.service
        try:
            if "anthropic-version" not in asked.headers:
                raise loopback_rules.Bad("anthropic-version: header is required")
            loopback_rules.check(asked.body, counting=counting, without=service.without)
        except loopback_rules.Bad as error:
            service.refused.append((asked, str(error)))
            self._error(Fails(status=400, error_type="invalid_request_error", message=str(error)))
            return True
        if asked.body["model"] in service.unknown:
            self._error(Fails(status=404, error_type="not_found_error", message=f"model: {asked.body['model']}"))
            return True
        return False

    def _answer(self, answer: Answer, body: dict[str, Any], number: int) -> None:
        if isinstance(answer, Calls):
            if answer.when == "before":
                answer.function()
            self._answer(answer.then, body, number)
            if answer.when == "after":
                answer.function()
        elif isinstance(answer, Fails):
            self._error(answer, number)
        elif isinstance(answer, Raw):
            self._head(answer.status, answer.content_type, number, length=len(answer.body))
            self.wfile.write(answer.body)
        elif isinstance(answer, Hangs):
            self.server.service.closing.wait()
            self.close_connection = True
        elif body.get("stream"):
            self._stream(answer, body, number)
        else:
            says = self._final(answer if isinstance(answer, Says) else answer.reply, body)
            self._json(200, answers.message(says, **self._facts(says, body, number)), number)

    def _final(self, says: Says, body: dict[str, Any]) -> Says:
        return says.model_copy(update={"content": numbered(says.blocks, body["messages"])})

    def _facts(self, says: Says, body: dict[str, Any], number: int) -> dict[str, Any]:
        with self.server.service.lock:
            usage = says.usage or self.server.service.meter.usage(body, says.blocks)
        return {"model": body["model"], "identifier": f"msg_{number:04d}", "usage": answers.wire(usage)}

    def _stream(self, answer: Says | FailsLate | Cuts | Stalls, body: dict[str, Any], number: int) -> None:
        says = self._final(answer if isinstance(answer, Says) else answer.reply, body)
        told = answers.events(says, **self._facts(says, body, number))
        self._head(200, "text/event-stream; charset=utf-8", number)
        if isinstance(answer, FailsLate):
            error = {"error": {"type": answer.error_type, "message": answer.message}}
            told = [*told[: answer.after_events], ("error", error)]
        elif isinstance(answer, Cuts):
            told = told[: answer.after_events]
        for count, event in enumerate(told):
            if isinstance(answer, Stalls) and count == answer.after_events:
                self._pause(answer)
            self._chunk(event)
        if isinstance(answer, Cuts) and not answer.clean:
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")

    def _pause(self, answer: Stalls) -> None:
        closing = self.server.service.closing
        if not answer.pings:
            closing.wait(answer.seconds)
            return
        for _ in range(int(answer.seconds / PING_S)):
            if closing.wait(PING_S):
                return
            self._chunk(("ping", {}))

    def _chunk(self, event: Event) -> None:
        data = answers.encoded(event)
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _head(self, status: int, content_type: str, number: int = 0, *, length: int | None = None, **more: str) -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("request-id", f"req_{number:04d}")
        if length is None:
            self.send_header("transfer-encoding", "chunked")
        else:
            self.send_header("content-length", str(length))
        for name, value in more.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def _json(self, status: int, value: Mapping[str, Any], number: int = 0, **more: str) -> None:
        data = json.dumps(value).encode()
        self._head(status, "application/json", number, length=len(data), **more)
        self.wfile.write(data)

    def _error(self, fails: Fails, number: int = 0) -> None:
        inner: dict[str, Any] = {"type": fails.error_type, "message": fails.message}
        if fails.code is not None:
            inner["details"] = {"error_code": fails.code}
        more = {} if fails.retry_after is None else {"retry_after": str(fails.retry_after)}
        self._json(fails.status, {"type": "error", "error": inner, "request_id": f"req_{number:04d}"}, number, **more)


def card(model: str) -> dict[str, Any]:
    """Return what GET /v1/models/{id} answers."""
    yes, no = {"supported": True}, {"supported": False}
    return {
        "type": "model",
        "id": model,
        "display_name": model.replace("-", " ").title(),
        "created_at": "2026-10-01T00:00:00Z",
        "lifecycle": "active",
        "deprecated_at": None,
        "retires_at": None,
        "line": None,
        "max_input_tokens": 200_000,
        "max_tokens": 64_000,
        "capabilities": {
            "effort": {"supported": True, "low": yes, "medium": yes, "high": yes, "xhigh": no, "max": no},
            "image_input": yes,
        },
    }
