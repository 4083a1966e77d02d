"""RecordedModel: the replies of an earlier conversation, for requests that are the same to the letter.

This is the regression test of prompts: whoever changes what a model is told sees the difference and records again.
"""

from __future__ import annotations

import difflib
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any

from orchestrator.core.dialogue import Block, Reply, Request
from orchestrator.errors import UserError
from orchestrator.llm.scripted import images

DIFF_LINES = 80


class ReplayError(UserError):
    """A request that was not recorded; the message shows how it differs from the nearest one that was."""


class RecordedModel:
    """Plays recorded replies by the sha of the request; the same request asked again gets its next recorded reply."""

    name = "recorded"

    def __init__(self, exchanges: Sequence[tuple[Request, Reply]]) -> None:
        self.exchanges = tuple(exchanges)
        self._replies: dict[str, list[Reply]] = defaultdict(list)
        for request, reply in self.exchanges:
            self._replies[request.sha].append(reply)
        self._asked: dict[str, int] = defaultdict(int)

    def converse(self, request: Request, image: Callable[[str], bytes], *, longest_s: float | None = None) -> Reply:
        """Return the recorded reply; the last one again when a request comes more often than it was recorded.

        Raises:
            ReplayError: the request was not recorded.
        """
        replies = self._replies.get(request.sha)
        if replies is None:
            raise ReplayError(self._difference(request))
        for sha in images(request.messages):
            image(sha)
        number = self._asked[request.sha]
        self._asked[request.sha] += 1
        return replies[min(number, len(replies) - 1)]

    def count_tokens(self, request: Request, image: Callable[[str], bytes]) -> int | None:
        """Return the tokens of a recorded request's prompt, or None."""
        replies = self._replies.get(request.sha)
        return replies[0].usage.prompt if replies else None

    def _difference(self, request: Request) -> str:
        head = f"request {request.sha[:12]} was not recorded"
        if not self.exchanges:
            return f"{head}: expected one of the recorded requests, and there are none. Record the conversation first"
        number, nearest = self._nearest(request)
        diff = list(
            difflib.unified_diff(
                rendered(nearest), rendered(request), f"recorded request {number}", "this request", lineterm="", n=2
            )
        )
        more = len(diff) - DIFF_LINES
        shown = diff[:DIFF_LINES] + ([f"... and {more} more lines"] if more > 0 else [])
        return "\n".join(
            [
                f"{head}: expected one of {len(self.exchanges)}; the nearest is number {number}. If the change of the "
                "prompt is meant, record the conversation again",
                *shown,
            ]
        )

    def _nearest(self, request: Request) -> tuple[int, Request]:
        """Return number (from 1) and request of the same place in a conversation that agrees longest with this one."""
        lines = rendered(request)

        def agreement(pair: tuple[int, Request]) -> tuple[bool, int, int]:
            _, other = pair
            theirs = rendered(other)
            front = sum(1 for _ in takewhile(lambda two: two[0] == two[1], zip(lines, theirs, strict=False)))
            common = len(set(lines) & set(theirs))
            return len(other.messages) == len(request.messages), common, front

        return max(enumerate((r for r, _ in self.exchanges), 1), key=agreement)


def rendered(request: Request) -> list[str]:
    """Return a request as lines of text that a person can compare; a long line stays one line."""
    lines = [f"model: {request.model}", f"max_tokens: {request.max_tokens}", f"effort: {request.effort}"]
    for tool in request.tools:
        lines += [f"tool {tool.get('name')}:", *_indented(tool)]
    for block in request.system:
        lines += ["system:", *_block(block)]
    for number, message in enumerate(request.messages, 1):
        lines.append(f"message {number}, {message['role']}:")
        content = message["content"]
        for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            lines += _block(block)
    return lines


def _block(block: Block) -> list[str]:
    """Return a block's lines: texts by their own lines, everything else as JSON."""
    inner = block.get("content")
    rest = {key: value for key, value in block.items() if key not in ("text", "content")}
    lines = ["  " + json.dumps(rest, ensure_ascii=False, sort_keys=True)]
    for text in (block.get("text"), inner):
        if isinstance(text, str):
            lines += [f"    {line}" for line in text.split("\n")]
    if isinstance(inner, list):
        lines += [f"  {line}" for part in inner for line in _block(part)]
    return lines


def _indented(value: Any) -> list[str]:
    return [f"  {line}" for line in json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True).split("\n")]
