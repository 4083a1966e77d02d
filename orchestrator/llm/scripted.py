"""ScriptedModel: answers from a list or a function, for tests of what converses.

It asks for the bytes of every image in a request, as a real service would need them.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from orchestrator.core.dialogue import Block, Reply, Request, StopReason, Usage

TYPICAL = Usage(input_tokens=1000, output_tokens=100)
"""What a reply costs when nothing else is said."""
BYTES_PER_TOKEN = 4
_FRESH = re.compile(r"toolu_fresh_\d+")
_numbers = itertools.count(1)

Script = Callable[[Request], Reply]


class ScriptError(AssertionError):
    """A test's script does not fit what was asked."""


class ScriptedModel:
    """Plays replies in order (an exception in the list is raised), or what a function makes of each request."""

    name = "scripted"

    def __init__(self, script: Sequence[Reply | Exception] | Script) -> None:
        self.script = script
        self.requests: list[Request] = []

    def converse(self, request: Request, image: Callable[[str], bytes], *, longest_s: float | None = None) -> Reply:
        """Return the next reply; ids of tool calls made by `uses` are unique within the conversation.

        Raises:
            ScriptError: the script has no more replies.
        """
        self.requests.append(request)
        for sha in images(request.messages):
            image(sha)
        reply = self._next(request)
        return reply.model_copy(update={"content": numbered(reply.content, request.messages)})

    def count_tokens(self, request: Request, image: Callable[[str], bytes]) -> int | None:
        """Return about a quarter of the prompt's bytes."""
        return tokens([request.tools, request.system, request.messages])

    def _next(self, request: Request) -> Reply:
        if callable(self.script):
            return self.script(request)
        number = len(self.requests)
        if number > len(self.script):
            last = json.dumps(request.messages[-1])
            raise ScriptError(
                f"the script has {len(self.script)} replies, and request {number} came. Its last message: "
                f"{last if len(last) < 1000 else last[:1000] + ' ...'}"
            )
        answer = self.script[number - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer


def says(text: str, *, stop_reason: StopReason = "end_turn", usage: Usage = TYPICAL) -> Reply:
    """Return a reply with one text."""
    return Reply(content=({"type": "text", "text": text},), stop_reason=stop_reason, usage=usage, model="scripted")


def uses(
    *calls: tuple[str, Any],
    text: str = "",
    thinking: str = "",
    stop_reason: StopReason = "tool_use",
    usage: Usage = TYPICAL,
) -> Reply:
    """Return a reply that calls tools, each a pair of name and input; after thinking and text, where there is any."""
    content: list[Block] = []
    if thinking:
        content.append({"type": "thinking", "thinking": thinking, "signature": f"signed:{thinking}"})
    if text:
        content.append({"type": "text", "text": text})
    for name, given in calls:
        content.append({"type": "tool_use", "id": f"toolu_fresh_{next(_numbers)}", "name": name, "input": given})
    return Reply(content=tuple(content), stop_reason=stop_reason, usage=usage, model="scripted")


def numbered(content: Sequence[Block], messages: Sequence[Mapping[str, Any]]) -> tuple[Block, ...]:
    """Return blocks with the ids that `uses` made (or none) replaced by the place of each call in the conversation.

    So they are unique in it, and the same when the same conversation is played again in another process.
    """
    number = sum(1 for block in blocks(messages) if block.get("type") == "tool_use")
    found = []
    for block in content:
        if block.get("type") == "tool_use":
            number += 1
            if "id" not in block or _FRESH.fullmatch(block["id"]):
                block = {**block, "id": f"toolu_{number:04d}"}
        found.append(block)
    return tuple(found)


def blocks(messages: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield every content block of messages, those inside tool results too."""
    for message in messages:
        yield from _inner(message.get("content"))


def _inner(content: Any) -> Iterator[Mapping[str, Any]]:
    for block in content if isinstance(content, list | tuple) else ():
        if isinstance(block, Mapping):
            yield block
            yield from _inner(block.get("content"))


def images(messages: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the sha256 of every image that is named by one."""
    sources = (block.get("source") for block in blocks(messages) if block.get("type") == "image")
    return tuple(s["sha256"] for s in sources if isinstance(s, Mapping) and s.get("type") == "blob")


def tokens(value: Any) -> int:
    """Return a rough count of tokens: a quarter of the bytes of the JSON."""
    return -(-len(json.dumps(value, ensure_ascii=False).encode()) // BYTES_PER_TOKEN)
