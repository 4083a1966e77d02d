"""What the language model has used, as text: in the foot of the live view and in `make status`."""

from __future__ import annotations

from orchestrator.core import ledger
from orchestrator.core.ledger import Spent, TurnCost, usd
from orchestrator.core.state import State
from orchestrator.views import lines

LAST = 10
"""Turns in the table of `make status`."""


def foot(state: State) -> str | None:
    """Return the money spent so far, and of which turn the model is being asked just now; None without requests."""
    if not state.calls:
        return None
    last = state.calls[max(state.calls)]
    asked = state.session is not None and state.session.scientist != "offline" and last.settled is None
    asking = f"; asking {last.reserved.model} (turn {last.reserved.turn})" if asked else ""
    return f"language model: {ledger.spent(state).usd} spent{asking}"


def section(state: State) -> list[str]:
    """Return the part of `make status` about the language model; nothing when none was asked."""
    turns = ledger.turns(state)
    if not turns:
        return []
    shown = [LABELS, *(_row(turn) for turn in turns[-LAST:])]
    return [f"Language model: {models(state)}", *(f"  {line}" for line in summary(state)), *lines.aligned(shown)]


def models(state: State) -> str:
    """Return the names of the models that were asked, in the order in which they first were."""
    return ", ".join(dict.fromkeys(call.reserved.model for call in state.calls.values())) or "not asked"


def summary(state: State) -> list[str]:
    """Return the sums over all turns, a line each."""
    used, turns = ledger.spent(state), ledger.turns(state)
    asked = [turn for turn in turns if turn.spent.calls]
    refused, instead = sum(len(turn.refusals) for turn in turns), sum(bool(t.taken and t.taken.instead) for t in turns)
    mean = f", {usd(round(used.micro_usd / len(asked)))} a turn (mean of {len(asked)})" if asked else ""
    rows = [
        f"cost {used.usd}{mean}",
        f"{lines.counted(used.replies, 'reply', 'replies')} to {lines.counted(used.calls, 'request')} in "
        f"{lines.duration(used.seconds)}, {lines.counted(refused, 'refusal')}",
        f"tokens: {used.usage.prompt} in, {used.usage.output_tokens} out; "
        f"cache hit rate {lines.share(used.cache_rate)}",
    ]
    earlier = sum(b.micro_usd for b in state.before)
    rows += [f"before a part was cut off: {usd(earlier)} more, which counts towards the budget"] if earlier else []
    prefix = ledger.prefix_tokens(state)
    rows += [f"stable prefix of the prompts: {prefix} tokens (measured)"] if prefix is not None else []
    return rows + _troubles(state, used, instead)


def _troubles(state: State, used: Spent, instead: int) -> list[str]:
    rows = []
    if used.waits:
        rows.append(
            f"waited {lines.counted(used.waits, 'time')} for the service, {lines.duration(used.waited_s)} together"
        )
    if used.lost:
        lost = ledger.total(c for c in state.calls.values() if c.settled is not None and c.settled.outcome == "lost")
        what = lines.counted(used.lost, "request")
        rows.append(f"{what} lost with the engine: counted with all that was reserved, {lost.usd} (may be on the bill)")
    if used.in_flight:
        unsettled = ledger.total(c for c in state.calls.values() if c.settled is None)
        what = lines.counted(used.in_flight, "request")
        rows.append(f"{what} not settled yet: counted with the most that it can cost, {unsettled.usd}")
    if instead:
        rows.append(f"{lines.counted(instead, 'turn')} taken by another scientist in its place")
    return rows


LABELS = ("turn", "taken by", "proposes", "replies", "refusals", "tokens in", "out", "cost", "cache")


def _row(turn: TurnCost) -> tuple[str, ...]:
    used = turn.spent
    sums = (used.replies, len(turn.refusals), used.usage.prompt, used.usage.output_tokens)
    return (str(turn.turn), taker(turn), proposed(turn), *map(str, sums), used.usd, lines.share(used.cache_rate))


def taker(turn: TurnCost) -> str:
    """Return who took a turn; `-` while its conversation is not over."""
    if turn.taken is None:
        return "-"
    return turn.taken.scientist + (" (in its place)" if turn.taken.instead else "")


def proposed(turn: TurnCost) -> str:
    """Return the iterations that a turn proposes, or why there are none."""
    if turn.iterations:
        return ", ".join(map(str, turn.iterations))
    if turn.taken is None:
        return "not over"
    return f"block {turn.taken.boundary.block} ends" if turn.taken.boundary else "none"
