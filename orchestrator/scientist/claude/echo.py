"""What is made of a reply before anything acts on it, so that it can be kept, answered and sent back.

A model says what it likes, and a server of one's own may send what no JSON text holds or what the Messages API does not
take back: lists in lists without end, NaN, half of a surrogate pair, equal ids, blocks of unknown kinds, megabytes. An
honest reply passes unchanged.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.core.dialogue import Block, Reply

DEEPEST = 40
"""Levels of lists and objects in a reply."""
LARGEST_BITS = 4096
"""Of an integer: longer ones have no decimal form in Python."""
LARGEST_BLOCK = 200_000
"""Characters of a block that is sent back; a reply of 64,000 tokens has about as many."""
KINDS = ("text", "thinking", "redacted_thinking", "tool_use")
_ID = re.compile(r"[a-zA-Z0-9_-]{1,200}")
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")


def writable(reply: Reply) -> Reply:
    """Return a reply that can be written down.

    What is nested too deep, or too long a number, becomes a word; half of a surrogate pair a question mark.
    """
    return reply.model_copy(update={"content": tuple(_writable(dict(block), DEEPEST) for block in reply.content)})


def _writable(value: Any, levels: int) -> Any:
    if isinstance(value, dict | list | tuple):
        if not levels:
            return "(nested too deeply)"
        if isinstance(value, dict):
            return {_writable(str(key), 1): _writable(inner, levels - 1) for key, inner in value.items()}
        return [_writable(inner, levels - 1) for inner in value]
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, int) and value.bit_length() > LARGEST_BITS:
        return f"(a number of {value.bit_length()} bits)"
    return value


def heard(reply: Reply, messages: Iterable[Mapping[str, Any]]) -> Reply:
    """Return a reply with the blocks that count: known kinds, texts that say something, calls with ids of their own."""
    said = (block for message in messages for block in message["content"])
    used = {block["id"] for block in said if block.get("type") == "tool_use"}
    found: list[Block] = []
    for block in reply.content:
        kind = block.get("type")
        if kind not in KINDS or (kind == "text" and not _says(block.get("text"))):
            continue
        if kind == "tool_use":
            name = block.get("id")
            if not isinstance(name, str) or not _ID.fullmatch(name) or name in used:
                name = f"toolu_renamed_{len(used) + 1}"
            used.add(name)
            block = {**block, "id": name}
        found.append(block)
    return reply.model_copy(update={"content": tuple(found)})


def _says(text: Any) -> bool:
    return isinstance(text, str) and bool(text.strip())


def sendable(block: Block) -> Block:
    """Return a block of a reply as it may be sent back: plain JSON of bounded length, a tool's input an object."""
    found: Block = _plain(block)
    if found.get("type") == "tool_use":
        name, given = str(found.get("name")), found.get("input")
        found["name"] = name if _NAME.fullmatch(name) else "unknown"
        found["input"] = given if isinstance(given, dict) else {}
    size = len(json.dumps(found, ensure_ascii=False))
    told = f"({size} characters, left out)"
    if size > LARGEST_BLOCK and found.get("type") in (
        "text",
        "tool_use",
    ):  # thinking goes back as it came, or not at all
        found |= {"input": {"left_out": told}} if found["type"] == "tool_use" else {"text": told}
    return found


def _plain(value: Any) -> Any:
    """Return what JSON has a word for: NaN and infinity as texts."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
