"""One turn's conversation with the language model, from its transcripts, as text for people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from orchestrator.core import ledger
from orchestrator.core.dialogue import Block
from orchestrator.core.state import Call, State
from orchestrator.engine.sealing import state_of
from orchestrator.engine.transcripts import Transcripts
from orchestrator.errors import UserError
from orchestrator.paths import Paths

LINES = 12
"""Of a text that are shown before it is cut."""
WIDTH = 160


def show(paths: Paths, turn: int | None = None, *, whole: bool = False) -> str:
    """Return the conversation of a turn (null: the last one) as markdown; `whole` cuts nothing.

    Raises:
        UserError: no model was asked in that turn, or its transcripts are damaged; names the turns that there are.
    """
    state = state_of(paths)
    turns = sorted({c.reserved.turn for c in state.calls.values()})
    number = turns[-1] if turn is None and turns else turn
    if not turns:
        raise UserError("no model was asked in this exploration: the offline scientist decided every turn")
    if number not in turns:
        there = ", ".join(map(str, turns))
        raise UserError(f"no model was asked in turn {turn}; turns with a conversation: {there}")
    calls = [c for c in state.calls.values() if c.reserved.turn == number]
    return "\n".join(_lines(state, Transcripts(paths), number or 0, calls, whole=whole)) + "\n"


def _lines(state: State, kept: Transcripts, turn: int, calls: list[Call], *, whole: bool) -> Iterator[str]:
    used = ledger.total(calls)
    rate = "" if used.cache_rate is None else f", {100 * used.cache_rate:.0f} % of the prompts from the cache"
    yield f"# Turn {turn}: {used.replies} replies of {calls[0].reserved.model}, {used.usd}{rate}"
    shown = 0
    for call in calls:
        exchange = kept.kept(call.reserved.call)
        if exchange is None or call.settled is None or call.settled.outcome != "replied":
            why = call.settled.sentence if call.settled else "not settled"
            yield from ("", f"(request {call.reserved.call}: {why})")
            continue
        messages = kept.request(call.reserved.call).messages
        for message in messages[shown:]:
            if message["role"] == "user":
                yield from ("", "## The engine", "")
                yield from _blocks(message["content"], whole=whole)
        shown = len(messages)
        yield from ("", f"## The model (reply {call.reserved.step}, {ledger.usd(call.settled.micro_usd)})", "")
        yield from _blocks(list(exchange.reply.content), whole=whole)
    last = next((t for t in state.turns if t.turn == turn), None)
    if last is not None:
        by = f"taken by the {last.scientist} scientist: {last.instead}" if last.instead else "accepted"
        yield from ("", f"The turn is {by}.")


def _blocks(blocks: list[Block], *, whole: bool) -> Iterator[str]:
    for block in blocks:
        match block.get("type"):
            case "thinking":
                yield from _cut(f"(thinking) {block.get('thinking', '')}", whole)
            case "text":
                yield from _cut(str(block.get("text", "")), whole)
            case "tool_use":
                given = json.dumps(block.get("input"), ensure_ascii=False)
                cut = not whole and len(given) > 2 * WIDTH
                yield f"- **{block.get('name')}** {given[: 2 * WIDTH] + ' ...' if cut else given}"
            case "tool_result":
                yield from _result(block, whole=whole)
            case "image":
                yield f"(image {block['source'].get('sha256', '')[:12]})"


def _result(block: Block, *, whole: bool) -> Iterator[str]:
    content: Any = block.get("content")
    if isinstance(content, str):
        first, *rest = _cut(content, whole)
        yield f"- {first}"
        yield from (f"  {line}" for line in rest)
    else:
        texts = [_one(part) for part in content or []]
        yield f"- {', '.join(texts)}"


def _one(part: Block) -> str:
    return str(part.get("text")) if part.get("type") == "text" else f"(image {part['source'].get('sha256', '')[:12]})"


def _cut(text: str, whole: bool) -> list[str]:
    lines = text.rstrip("\n").split("\n")
    if whole:
        return lines
    short = [line if len(line) <= WIDTH else f"{line[:WIDTH]} ..." for line in lines[:LINES]]
    return short + ([f"... ({len(lines) - LINES} more lines)"] if len(lines) > LINES else [])
