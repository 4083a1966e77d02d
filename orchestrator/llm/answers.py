"""What the loopback service answers: content, an error, or one of the ways in which a line can fail."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

from orchestrator.core.dialogue import Block, Reply, Usage
from orchestrator.core.records import Record

PIECES = 3
"""In how many deltas a block of a stream comes."""
Event: TypeAlias = tuple[str, dict[str, Any]]


class Says(Record):
    """A reply: a text, or content blocks. `Says.of(reply)` takes a scripted one."""

    content: tuple[Block, ...] | str
    stop_reason: str | None = "end_turn"
    """Any word, so that a server's invention can be played."""
    usage: Usage | None = None
    """Null is computed from the request."""

    @classmethod
    def of(cls, reply: Reply, *, usage: Usage | None = None) -> Says:
        """Return the answer that says what a reply says."""
        return cls(content=reply.content, stop_reason=reply.stop_reason, usage=usage)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The content as blocks, thinking signed."""
        if isinstance(self.content, str):
            return ({"type": "text", "text": self.content},)
        return tuple(
            block | {"signature": signature(block["thinking"])}
            if block.get("type") == "thinking" and "signature" not in block
            else block
            for block in self.content
        )


class Fails(Record):
    """An error response."""

    status: int
    error_type: str = "api_error"
    message: str = "scripted"
    retry_after: float | str | None = None
    """Seconds, or an HTTP date."""
    code: str | None = None
    """`error.details.error_code`."""


class FailsLate(Record):
    """A reply that ends in an error event, after the headers have said 200."""

    reply: Says = Says(content="partly said")
    error_type: str = "overloaded_error"
    message: str = "Overloaded"
    after_events: int = 2


class Cuts(Record):
    """A reply whose connection closes before its end."""

    reply: Says
    after_events: int
    clean: bool = False
    """Whether the response ends as HTTP asks, so that only the missing event shows that it is not complete."""


class Stalls(Record):
    """A reply with a pause in it."""

    reply: Says
    seconds: float
    after_events: int = 1
    pings: bool = False
    """Whether the pause is filled with pings."""


class Raw(Record):
    """Any bytes as the body of a response."""

    body: bytes
    content_type: str = "text/event-stream"
    status: int = 200


class Hangs(Record):
    """No answer until the server closes."""


class Calls(Record):
    """Another answer, with a function called before it (a test kills the engine there) or after it was sent."""

    function: Callable[[], object]
    then: Answer
    when: Literal["before", "after"] = "before"


Answer: TypeAlias = Says | Fails | FailsLate | Cuts | Stalls | Raw | Hangs | Calls
Calls.model_rebuild()


def wire(usage: Usage) -> dict[str, Any]:
    """Return a usage as the API words it."""
    return {
        "input_tokens": usage.input_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens + usage.cache_write_1h_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_tokens,
            "ephemeral_1h_input_tokens": usage.cache_write_1h_tokens,
        },
        "output_tokens": usage.output_tokens,
        "service_tier": "standard",
    }


def signature(thinking: str) -> str:
    """Return the signature that the loopback service gives to a thinking block and checks when it comes back."""
    return "loopback-" + hashlib.sha256(thinking.encode()).hexdigest()[:24]


def message(says: Says, *, model: str, identifier: str, usage: Mapping[str, Any]) -> dict[str, Any]:
    """Return the complete message, as a request without streaming gets it."""
    return {
        "id": identifier,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": list(says.blocks),
        "stop_reason": says.stop_reason,
        "stop_sequence": None,
        "usage": dict(usage),
    }


def events(says: Says, *, model: str, identifier: str, usage: Mapping[str, Any]) -> list[Event]:
    """Return the stream of a reply, event by event, in the service's order."""
    whole = message(says, model=model, identifier=identifier, usage=usage)
    start = whole | {"content": [], "stop_reason": None, "usage": dict(usage) | {"output_tokens": 1}}
    found: list[Event] = [("message_start", {"message": start})]
    for index, block in enumerate(says.blocks):
        opened, deltas = _parts(block)
        found.append(("content_block_start", {"index": index, "content_block": opened}))
        if index == 0:
            found.append(("ping", {}))
        found += [("content_block_delta", {"index": index, "delta": delta}) for delta in deltas]
        found.append(("content_block_stop", {"index": index}))
    found.append(
        (
            "message_delta",
            {
                "delta": {"stop_reason": says.stop_reason, "stop_sequence": None},
                "usage": {"output_tokens": usage["output_tokens"]},
            },
        )
    )
    found.append(("message_stop", {}))
    return found


def encoded(event: Event) -> bytes:
    """Return an event as server-sent bytes."""
    name, data = event
    return f"event: {name}\ndata: {json.dumps({'type': name} | data, ensure_ascii=False)}\n\n".encode()


def _parts(block: Block) -> tuple[Block, list[Block]]:
    """Return a block as it opens in a stream, and the deltas that fill it."""
    kind = block.get("type")
    if kind == "text":
        return block | {"text": ""}, [{"type": "text_delta", "text": piece} for piece in _pieces(block["text"])]
    if kind == "thinking":
        deltas: list[Block] = [{"type": "thinking_delta", "thinking": piece} for piece in _pieces(block["thinking"])]
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
        return block | {"thinking": "", "signature": ""}, deltas
    if kind == "tool_use":
        # A text as input stands for what the model wrote in place of an object, to be sent as it is.
        given = block["input"]
        text = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
        return block | {"input": {}}, [{"type": "input_json_delta", "partial_json": p} for p in ["", *_pieces(text)]]
    return block, []


def _pieces(text: str) -> list[str]:
    """Return a text in a few pieces of about the same length."""
    step = max(1, -(-len(text) // PIECES))
    return [text[start : start + step] for start in range(0, len(text), step)]
