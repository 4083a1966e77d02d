"""AnthropicModel: the Messages API over the official SDK, one request at a time, always streamed.

The SDK's own retries are off: they would wait as long as a server says without a word to the person, and would send a
request again that may be on the bill already. The loop here repeats only what was certainly not answered, and only
when the wait is short; everything else is the caller's decision.

What it does not do: it cannot tell a service that stalls while it sends pings from one that thinks for long, up to
`reply_s`; a request whose answer was lost after it was sent counts as possibly paid, which may be too careful; and a
tool call that was cut by max_tokens comes as far as it came, so the caller must not act on it.
"""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from orchestrator.core.dialogue import Block, Reply, Request, StopReason, Usage
from orchestrator.core.records import Record
from orchestrator.errors import ModelRejectedError, ModelUnavailableError, UserError
from orchestrator.llm import failures
from orchestrator.llm.http import TooSlowError, client
from orchestrator.llm.keys import Credentials, Redactor, checked_host, credentials

if TYPE_CHECKING:
    import anthropic

__all__ = ["FEATURES", "AnthropicModel", "Credentials", "Feature", "ModelCard", "Times", "credentials"]

Feature: TypeAlias = Literal["thinking", "effort", "cache"]
FEATURES: frozenset[Feature] = frozenset(get_args(Feature))
"""What the service knows and a server of one's own may not."""
STOP_REASONS: tuple[str, ...] = get_args(StopReason)
CUT_SHORT = ("max_tokens", "refusal", "model_context_window_exceeded")
"""Stop reasons that may end a tool call before its end: the caller acts on no call of such a reply."""
BREAKPOINTS = 4
"""Most cache breakpoints in a request."""
QUOTED = 120
"""Characters of an error that is not the service's own."""
Failure: TypeAlias = ModelUnavailableError | ModelRejectedError


class Times(Record):
    """How long the adapter waits, in seconds."""

    connect_s: float = 20.0
    silence_s: float = 600.0
    """Longest time without a byte."""
    reply_s: float = 3600.0
    """Longest time for a whole reply, however busy the line."""
    backoff_s: float = 0.5
    """Before the second attempt; each further wait is twice as long."""
    longest_retry_s: float = 20.0
    """A longer wait is the caller's to decide."""


TIMES = Times()


class ModelCard(Record):
    """What the service says of a model; null where it does not say."""

    id: str
    display_name: str = ""
    max_input_tokens: int | None = None
    max_tokens: int | None = None
    lifecycle: str | None = None
    """`active`, `deprecated` or `retired`."""
    retires_at: str | None = None
    """UTC time."""
    efforts: tuple[str, ...] | None = None
    images: bool | None = None


class AnthropicModel:
    """A model behind the Messages API; any text that leaves it is free of the credentials."""

    name = "anthropic"

    def __init__(
        self,
        credentials: Credentials,
        *,
        features: frozenset[Feature] = FEATURES,
        max_retries: int = 2,
        times: Times = TIMES,
    ) -> None:
        if unknown := features - FEATURES:
            raise UserError(f"features of the model: expected some of {sorted(FEATURES)}; found {sorted(unknown)}")
        self.features = features
        self.max_retries = max_retries
        self.times = times
        self.host = checked_host(credentials.base_url, os.environ)
        self._redactor = Redactor(credentials)
        self._longest_s = times.reply_s
        self._client = client(
            credentials,
            self.host,
            connect_s=times.connect_s,
            silence_s=times.silence_s,
            reply_s=lambda: self._longest_s,
        )

    def __repr__(self) -> str:
        return f"AnthropicModel(host={self.host!r}, features={sorted(self.features)})"

    def redacted(self, text: str) -> str:
        """Return a text with key, token and the address's user and password replaced by `[secret]`."""
        return self._redactor.text(text)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def converse(self, request: Request, image: Callable[[str], bytes], *, longest_s: float | None = None) -> Reply:
        """Return the complete reply.

        Raises:
            ModelUnavailableError: nothing usable came; says whether it may be on the bill.
            ModelRejectedError: the service turned the request down.
        """
        body = self._body(request, image) | {"max_tokens": request.max_tokens}
        self._longest_s = min(self.times.reply_s, longest_s if longest_s is not None else self.times.reply_s)
        attempt = 0
        while True:
            answer = self._attempt(request.model, body)
            if isinstance(answer, Reply):
                return answer
            wait = self._wait(answer, attempt)
            if wait is None:
                # Outside any `except`, so that no exception of the SDK hangs on it: those hold the headers sent.
                raise answer
            time.sleep(wait)
            attempt += 1

    def count_tokens(self, request: Request, image: Callable[[str], bytes]) -> int | None:
        """Return the tokens of the prompt as the service counts them; None when it cannot say."""
        import anthropic

        try:
            counted = self._client.messages.count_tokens(**self._body(request, image), timeout=self.times.connect_s * 3)
        except anthropic.AnthropicError:
            return None
        found = getattr(counted, "input_tokens", None)
        return found if isinstance(found, int) else None

    def describe(self, model: str) -> ModelCard | None:
        """Return what the service says of a model; None when the server has no such route.

        Raises:
            ModelUnavailableError: the service cannot be asked now.
            ModelRejectedError: the key is not accepted, or there is no such model.
        """
        import anthropic

        failure: Failure
        try:
            info = self._client.models.retrieve(model, timeout=self.times.connect_s * 3)
            # A page of text instead of JSON comes as a plain string.
            return self._card(model, info) if hasattr(info, "to_dict") else None
        except anthropic.APIStatusError as error:
            found = failures.problem(error, self._redactor.deep)
            # A server without the route answers 404 too, but not about the model.
            if found.status in (404, 405, 501) and model not in found.message:
                return None
            failure = self._judged(found, model, begun=False)
        except (anthropic.APIError, ValueError) as error:
            failure = self._lost(error, begun=False)
        raise failure

    def _card(self, model: str, info: anthropic.types.ModelInfo) -> ModelCard:
        """Return the card of an answer that may lack any field (servers of one's own)."""
        found = info.to_dict(mode="json", warnings=False)
        abilities: Any = found.get("capabilities") or {}
        levels: Any = abilities.get("effort")
        images: Any = abilities.get("image_input")
        return ModelCard.model_validate(
            self._redactor.deep(
                {
                    "id": found.get("id") or model,
                    "display_name": found.get("display_name") or "",
                    "max_input_tokens": found.get("max_input_tokens"),
                    "max_tokens": found.get("max_tokens"),
                    "lifecycle": found.get("lifecycle"),
                    "retires_at": found.get("retires_at"),
                    "efforts": [n for n, v in levels.items() if isinstance(v, dict) and v.get("supported")]
                    if levels
                    else None,
                    "images": bool(images.get("supported")) if images else None,
                }
            )
        )

    def _body(self, request: Request, image: Callable[[str], bytes]) -> dict[str, Any]:
        """Return what is sent: the request with its images' bytes and the features that are on."""
        body: dict[str, Any] = {"model": request.model, "messages": [_loaded(m, image) for m in request.messages]}
        if request.system:
            body["system"] = list(request.system)
        if request.tools:
            body["tools"] = list(request.tools)
        if "cache" not in self.features:
            body = _without_breakpoints(body)
        elif _breakpoints(body) < BREAKPOINTS:
            body["cache_control"] = {"type": "ephemeral"}
        if "thinking" in self.features:
            body["thinking"] = {"type": "adaptive", "display": "summarized"}
        if "effort" in self.features and request.effort is not None:
            body["output_config"] = {"effort": request.effort}
        return body

    def _attempt(self, model: str, body: dict[str, Any]) -> Reply | Failure:
        """Return the reply to one request, or what went wrong."""
        import anthropic
        import httpx2

        begun = False
        silence = httpx2.Timeout(min(self.times.silence_s, self._longest_s), connect=self.times.connect_s)
        try:
            with self._client.messages.stream(**body, timeout=silence) as stream:
                begun = True
                pieces = _Pieces()
                pieces.read(stream)
                if not pieces.stopped:
                    return ModelUnavailableError(
                        "the model service's reply broke off before its end (no message_stop)", maybe_paid=True
                    )
                message = stream.get_final_message()
                if message.stop_reason not in CUT_SHORT and not pieces.whole:
                    return ModelUnavailableError(
                        "the model service sent a tool call whose input is not complete JSON", maybe_paid=True
                    )
                return self._reply(message, stream.request_id or "")
        except anthropic.APIStatusError as error:
            return self._judged(failures.problem(error, self._redactor.deep), model, begun=begun)
        # The SDK reads a stream without checks, so a defect in it may surface as any kind of error.
        except Exception as error:
            if not begun and not isinstance(error, anthropic.APIError):
                raise
            return self._lost(error, begun=begun)

    def _judged(self, found: failures.Problem, model: str, *, begun: bool) -> Failure:
        if found.waiting_helps:
            return failures.unavailable(found, begun=begun)
        return failures.rejected(found, model=model, sent=frozenset(self.features))

    def _lost(self, error: Exception, *, begun: bool) -> ModelUnavailableError:
        """Return the error for an exchange without a usable answer."""
        import anthropic
        import httpx2

        wrapped = isinstance(error, anthropic.APIConnectionError) and isinstance(error.__cause__, Exception)
        cause = error.__cause__ if wrapped else error
        sent = begun or isinstance(cause, httpx2.ReadTimeout | httpx2.ReadError | httpx2.RemoteProtocolError)
        if isinstance(cause, httpx2.ReadTimeout):
            what = f"the model service sent nothing for {min(self.times.silence_s, self._longest_s):.3g} s"
        elif isinstance(cause, TooSlowError):
            what = f"the model service's reply was not complete after {self._longest_s:.3g} s"
        elif begun:
            what = "the model service's reply could not be read to its end"
        elif sent:
            what = "the model service closed the connection without an answer"
        else:
            what = f"the model service at {self.host} could not be reached"
        # Short: an error of the SDK may quote all that the model wrote.
        words = self.redacted(str(cause))[:QUOTED]
        said = f" ({type(cause).__name__}: {words})" if words else f" ({type(cause).__name__})"
        return ModelUnavailableError(what + said, maybe_paid=sent)

    def _wait(self, failure: Failure, attempt: int) -> float | None:
        """Return the seconds to wait before the request is sent again, or None when the caller must decide."""
        if isinstance(failure, ModelRejectedError) or failure.maybe_paid or attempt >= self.max_retries:
            return None
        wait = self.times.backoff_s * 2**attempt
        if failure.retry_after_s is not None:
            wait = max(wait, failure.retry_after_s)
        return wait if wait <= self.times.longest_retry_s else None

    def _reply(self, message: anthropic.types.Message, request_id: str) -> Reply | Failure:
        """Return the record of a complete message."""
        if message.stop_reason not in STOP_REASONS:
            return ModelRejectedError(
                self.redacted(
                    f"the model service ended its reply with stop_reason {message.stop_reason!r}; expected one of "
                    f"{', '.join(STOP_REASONS)} (request {request_id or 'without id'}). A server of one's own must "
                    "speak the Messages API: update it, or take another one"
                )
            )
        blocks = (block.to_dict(mode="json", warnings=False) for block in message.content)
        return Reply(
            content=tuple(self._redactor.deep(block) for block in map(_acceptable, blocks) if not _empty(block)),
            stop_reason=message.stop_reason,
            usage=_usage(message.usage),
            request_id=self.redacted(request_id),
            model=self.redacted(str(message.model or "")),
        )


class _Pieces:
    """Reads a stream to its end and remembers what the SDK does not check."""

    def __init__(self) -> None:
        self.stopped = False
        self._inputs: dict[int, str] = {}

    def read(self, stream: Iterator[Any]) -> None:
        """Consume the stream."""
        for event in stream:
            self.stopped = self.stopped or event.type == "message_stop"
            if event.type == "content_block_delta" and event.delta.type == "input_json_delta":
                self._inputs[event.index] = self._inputs.get(event.index, "") + event.delta.partial_json

    @property
    def whole(self) -> bool:
        """Whether the input of every tool call is complete JSON; the SDK takes a part of it for the whole."""
        for text in self._inputs.values():
            try:
                json.loads(text or "{}")
            except ValueError:
                return False
        return True


def _loaded(value: Any, image: Callable[[str], bytes]) -> Any:
    """Return content with the bytes of its images in it."""
    if isinstance(value, list | tuple):
        return [_loaded(inner, image) for inner in value]
    if not isinstance(value, Mapping):
        return value
    source = value.get("source")
    if value.get("type") == "image" and isinstance(source, Mapping) and source.get("type") == "blob":
        data = base64.b64encode(image(source["sha256"])).decode()
        return {**value, "source": {"type": "base64", "media_type": source["media_type"], "data": data}}
    return {**value, "content": _loaded(value["content"], image)} if "content" in value else value


def _sections(body: Mapping[str, Any]) -> Iterator[Any]:
    """Yield every block of a request that may carry a cache breakpoint."""
    yield from body.get("tools", ())
    yield from body.get("system", ())
    for message in body["messages"]:
        if isinstance(message["content"], list):
            yield from message["content"]


def _breakpoints(body: Mapping[str, Any]) -> int:
    return sum(1 for block in _sections(body) if isinstance(block, Mapping) and block.get("cache_control"))


def _without_breakpoints(body: dict[str, Any]) -> dict[str, Any]:
    """Return a request without cache breakpoints, for a server that does not know them."""

    def plain(block: Any) -> Any:
        return {k: v for k, v in block.items() if k != "cache_control"} if isinstance(block, Mapping) else block

    found = {key: [plain(block) for block in body[key]] for key in ("tools", "system") if key in body}
    messages = [
        {**message, "content": [plain(block) for block in message["content"]]}
        if isinstance(message["content"], list)
        else message
        for message in body["messages"]
    ]
    return body | found | {"messages": messages}


def _acceptable(block: Mapping[str, Any]) -> Block:
    """Return a block without the fields that the service would not take back."""
    return {key: value for key, value in block.items() if value is not None and key != "parsed_output"}


def _empty(block: Mapping[str, Any]) -> bool:
    """Whether the service would refuse the block when it is sent back: a text without text."""
    return block.get("type") == "text" and not str(block.get("text", "")).strip()


def _usage(found: anthropic.types.Usage) -> Usage:
    """Return the tokens; what a server leaves out is zero."""

    def count(source: Any, name: str) -> int:
        value = getattr(source, name, None)
        return value if isinstance(value, int) and value > 0 else 0

    hour = count(found.cache_creation, "ephemeral_1h_input_tokens")
    five = count(found.cache_creation, "ephemeral_5m_input_tokens")
    # The end of the stream may correct the total, but not its parts: what is not known to last an hour lasts minutes.
    written = max(count(found, "cache_creation_input_tokens"), hour + five)
    return Usage(
        input_tokens=count(found, "input_tokens"),
        output_tokens=count(found, "output_tokens"),
        cache_write_tokens=written - hour,
        cache_write_1h_tokens=hour,
        cache_read_tokens=count(found, "cache_read_input_tokens"),
    )
