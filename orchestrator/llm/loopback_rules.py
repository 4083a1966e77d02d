"""What the loopback service refuses and how it counts: like the real one where a mistake would else show only there.

What it does not check: the JSON schemas of tools beyond being objects, sizes of images, limits of a model, whether a
signature was given by this very server, and that a cache entry is long enough or has expired.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.core.dialogue import Usage
from orchestrator.core.records import sha_of
from orchestrator.llm.answers import signature
from orchestrator.llm.scripted import blocks, tokens

KNOWN = frozenset(
    ("model", "messages", "max_tokens", "system", "tools", "tool_choice", "thinking", "output_config", "cache_control",
     "metadata", "stop_sequences", "stream", "service_tier")
)  # fmt: skip
IMAGES = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff",
    "image/gif": b"GIF8",
    "image/webp": b"RIFF",
}
"""Media type -> first bytes."""
BREAKPOINTS = 4
IMAGE_TOKENS = 1000
OVERHEAD_TOKENS = 3
"""Never cached."""


class Bad(Exception):
    """A request that the service refuses, in its words."""


def check(body: Mapping[str, Any], *, counting: bool, without: frozenset[str]) -> None:
    """Raise `Bad` for a request that the real service would refuse; `without` are fields that this server lacks."""
    for name in body:
        if name not in KNOWN or name in without:
            raise Bad(f"{name}: Extra inputs are not permitted")
    if not isinstance(body.get("model"), str):
        raise Bad("model: Field required")
    if not counting and not (isinstance(body.get("max_tokens"), int) and body["max_tokens"] >= 1):
        raise Bad("max_tokens: Field required")
    if (body.get("tool_choice") or {"type": "auto"})["type"] not in ("auto", "none"):
        raise Bad("tool_choice: forced tool use is not supported on this model")
    thinking = body.get("thinking")
    if thinking is not None and thinking.get("type") != "adaptive":
        raise Bad("thinking.type: Input should be 'adaptive'")
    _check_tools(body.get("tools") or ())
    _check_system(body.get("system") or ())
    _check_messages(body.get("messages"))
    if len(list(_breakpoints(body))) > BREAKPOINTS:
        raise Bad(f"A maximum of {BREAKPOINTS} blocks with cache_control may be provided")


def _check_tools(tools: Sequence[Mapping[str, Any]]) -> None:
    names = set()
    for index, tool in enumerate(tools):
        if not isinstance(tool.get("name"), str):
            raise Bad(f"tools.{index}.name: Field required")
        if tool.get("type", "custom") == "custom":
            schema = tool.get("input_schema")
            if not isinstance(schema, Mapping) or schema.get("type") != "object":
                raise Bad(f"tools.{index}.custom.input_schema: Field required")
        if tool["name"] in names:
            raise Bad("tools: Tool names must be unique.")
        names.add(tool["name"])


def _check_system(system: Sequence[Mapping[str, Any]] | str) -> None:
    for index, block in enumerate([] if isinstance(system, str) else system):
        if block.get("type") != "text" or not str(block.get("text", "")).strip():
            raise Bad(f"system.{index}: text content blocks must contain non-whitespace text")


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list) or not messages:
        raise Bad("messages: at least one message is required")
    calls: list[str] = []
    known: set[str] = set()
    for index, message in enumerate(messages):
        role = message.get("role")
        expected = "user" if index % 2 == 0 else "assistant"
        if role != expected:
            raise Bad(f"messages.{index}: roles must alternate, beginning with user; expected {expected}, got {role}")
        content = message.get("content")
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not isinstance(parts, list) or not parts:
            raise Bad(f"messages.{index}: content must not be empty")
        if role == "user":
            _check_results(index, parts, calls)
            calls = []
        else:
            calls = _checked_calls(index, parts, known)
        for place, block in enumerate(blocks([{"content": parts}])):
            _check_block(f"messages.{index}.content.{place}", block, role)
    if len(messages) % 2 == 0:
        raise Bad(
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )


def _check_results(index: int, parts: Sequence[Mapping[str, Any]], calls: Sequence[str]) -> None:
    """Check that a user message answers exactly the calls before it, results first."""
    results = [part.get("tool_use_id") for part in parts if part.get("type") == "tool_result"]
    missing = [call for call in calls if call not in results]
    if missing:
        raise Bad(
            f"messages.{index - 1}: `tool_use` ids were found without `tool_result` blocks immediately after: "
            f"{', '.join(missing)}. Each `tool_use` block must have a corresponding `tool_result` block in the next "
            "message."
        )
    if strangers := [str(result) for result in results if result not in calls]:
        raise Bad(
            f"messages.{index}: unexpected `tool_use_id` found in `tool_result` blocks: {', '.join(strangers)}. Each "
            "`tool_result` block must have a corresponding `tool_use` block in the previous message."
        )
    if len(set(results)) != len(results):
        raise Bad(f"messages.{index}: each tool_use must have a single result")
    if any(part.get("type") != "tool_result" for part in parts[: len(results)]):
        raise Bad(f"messages.{index}: `tool_result` blocks must come first in the content")


def _checked_calls(index: int, parts: Sequence[Mapping[str, Any]], known: set[str]) -> list[str]:
    calls = []
    for part in parts:
        if part.get("type") == "tool_use":
            name = str(part.get("id"))
            if not re.fullmatch(r"[a-zA-Z0-9_-]+", name) or name in known:
                raise Bad(f"messages.{index}: `tool_use` ids must be unique and match '^[a-zA-Z0-9_-]+$'")
            if not isinstance(part.get("input"), Mapping):
                raise Bad(f"messages.{index}: tool_use.input: Input should be a valid dictionary")
            known.add(name)
            calls.append(name)
    return calls


def _check_block(place: str, block: Mapping[str, Any], role: str) -> None:
    kind = block.get("type")
    allowed = ("text", "image", "tool_result") if role == "user" else (
        "text", "thinking", "redacted_thinking", "tool_use"
    )  # fmt: skip
    if kind not in allowed:
        raise Bad(f"{place}: Input tag {kind!r} found using 'type' does not match any of the expected tags: {allowed}")
    extra = {name for name, value in block.items() if value is None} | ({"parsed_output"} & set(block))
    if extra:
        raise Bad(f"{place}.{kind}.{min(extra)}: Extra inputs are not permitted")
    if kind == "text" and not str(block.get("text", "")).strip():
        raise Bad(f"{place}: text content blocks must contain non-whitespace text")
    if kind == "thinking":
        _check_thinking(place, block)
    if kind == "image":
        _check_image(place, block.get("source"))


def _check_thinking(place: str, block: Mapping[str, Any]) -> None:
    signed = block.get("signature")
    if not isinstance(signed, str) or set(block) != {"type", "thinking", "signature"}:
        raise Bad(f"{place}.thinking.signature: Field required")
    if signed.startswith("loopback-") and signed != signature(block["thinking"]):
        raise Bad(f"{place}: `thinking` blocks in an assistant message cannot be modified")


def _check_image(place: str, source: Any) -> None:
    if not isinstance(source, Mapping) or source.get("type") != "base64":
        raise Bad(f"{place}.image.source: Input tag does not match any of the expected tags: 'base64'")
    if source.get("media_type") not in IMAGES:
        raise Bad(f"{place}.image.source.base64.media_type: Input should be one of {', '.join(IMAGES)}")
    try:
        data = base64.b64decode(source.get("data", ""), validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise Bad(f"{place}.image.source.base64: invalid base64 data") from None
    if not data.startswith(IMAGES[source["media_type"]]):
        raise Bad(f"{place}.image.source.base64.data: the image does not match its media type {source['media_type']}")


def _breakpoints(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if body.get("cache_control"):
        yield body["cache_control"]
    for section in ("tools", "system"):
        for block in body.get(section) or ():
            if isinstance(block, Mapping) and block.get("cache_control"):
                yield block["cache_control"]
    for block in blocks(body["messages"]):
        if block.get("cache_control"):
            yield block["cache_control"]


def _size(value: Any) -> int:
    """Return the tokens of plain JSON, images at a fixed price and cache marks at none."""
    shown: list[int] = []

    def plain(inner: Any) -> Any:
        if isinstance(inner, Mapping):
            if inner.get("type") == "image":
                shown.append(IMAGE_TOKENS)
                return None
            return {key: plain(part) for key, part in inner.items() if key != "cache_control"}
        return [plain(part) for part in inner] if isinstance(inner, list | tuple) else inner

    return tokens(plain(value)) + sum(shown)


class Meter:
    """Counts tokens, and which of them a cache would have had: a prefix is read once it was written."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def prompt(self, body: Mapping[str, Any]) -> int:
        """Return the tokens of a request's prompt."""
        return sum(count for _, count in self._segments(body)) + OVERHEAD_TOKENS

    def usage(self, body: Mapping[str, Any], output: Any) -> Usage:
        """Return what a reply costs.

        Tools and system are one cache entry; with the mark at the top of the request each message ends another.
        """
        segments = self._segments(body)
        marks = [mark for name in ("tools", "system") for mark in _marks(body.get(name))]
        cached = len(segments) if body.get("cache_control") else 1 if marks else 0
        ttl = "1h" if any(mark.get("ttl") == "1h" for mark in marks) else "5m"
        read = written = hour = 0
        for index, (sha, count) in enumerate(segments[:cached]):
            if sha in self._seen:
                read += count
            elif index == 0 and (ttl if marks else (body.get("cache_control") or {}).get("ttl")) == "1h":
                hour += count
            else:
                written += count
            self._seen.add(sha)
        return Usage(
            input_tokens=sum(count for _, count in segments[cached:]) + OVERHEAD_TOKENS,
            output_tokens=_size(output),
            cache_write_tokens=written,
            cache_write_1h_tokens=hour,
            cache_read_tokens=read,
        )

    def _segments(self, body: Mapping[str, Any]) -> list[tuple[str, int]]:
        """Return name (of all up to its end) and tokens of the prefix and of each message."""
        parts = [[body["model"], body.get("tools"), body.get("system")], *body["messages"]]
        found, sha = [], ""
        for part in parts:
            sha = sha_of([sha, part])
            found.append((sha, _size(part)))
        return found


def _marks(section: Any) -> list[Mapping[str, Any]]:
    if not isinstance(section, list):
        return []
    return [block["cache_control"] for block in section if block.get("cache_control")]
