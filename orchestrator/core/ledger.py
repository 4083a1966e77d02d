"""What the language model has used, from the journal, and whether the next request is within the budget.

A request counts with the most that it can cost from its reservation on, and with what it did cost once it is settled.
Sums are integers, so they add up exactly, and they hold across kills because they are folded from events.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from orchestrator.core.dialogue import Usage
from orchestrator.core.events import LlmBefore
from orchestrator.core.exploration import Allowance, Budget
from orchestrator.core.memo import per_state
from orchestrator.core.records import Record, Turn
from orchestrator.core.state import Call, State


class Spent(Record):
    """What a number of requests used."""

    calls: int = 0
    replies: int = 0
    micro_usd: int = 0
    usage: Usage = Usage()
    held_tokens: int = 0
    """All that was reserved for requests that may be on the bill and had no reply."""
    seconds: float = 0.0
    lost: int = 0
    """Requests without a reply that count with all that was reserved for them."""
    in_flight: int = 0
    """Requests that are not settled yet; they too count with all that was reserved."""
    waits: int = 0
    waited_s: float = 0.0
    """Pauses because the model could not be asked, as they were announced."""

    @property
    def usd(self) -> str:
        """Return the cost as people read it."""
        return usd(self.micro_usd)

    @property
    def cache_rate(self) -> float | None:
        """Return the share of prompt tokens that came from the cache; None without a reply."""
        return self.usage.cache_read_tokens / self.usage.prompt if self.usage.prompt else None


def usd(micro: int) -> str:
    """Return micro-dollars as dollars: four decimals, so that a small request is not shown as nothing."""
    return f"${micro / 1e6:.4f}"


def usd_exact(micro: int) -> str:
    """Return micro-dollars as dollars to the last digit: a column of these adds up to its total."""
    return f"${micro // 10**6}.{micro % 10**6:06d}"


@per_state
def spent(state: State, turn: int | None = None) -> Spent:
    """Return what was used in total, or for one turn."""
    return total(c for c in state.calls.values() if turn is None or c.reserved.turn == turn)


def whole(state: State) -> Spent:
    """Return what counts towards the total budget: what was used, also in parts that a person cut off since."""
    used = spent(state)
    return used.model_copy(
        update={
            "micro_usd": used.micro_usd + sum(b.micro_usd for b in state.before),
            "usage": functools.reduce(Usage.plus, (b.usage for b in state.before), used.usage),
            "held_tokens": used.held_tokens + sum(b.held_tokens for b in state.before),
            "seconds": round(used.seconds + sum(b.seconds for b in state.before), 3),
        }
    )


def cut_off(state: State, kept: State) -> LlmBefore | None:
    """Return what `state` has used and `kept`, a prefix of it, does not know of; None when that is nothing."""
    later = total(c for n, c in state.calls.items() if n not in kept.calls)  # one open at the cut is settled again
    earlier = state.before[len(kept.before) :]
    micro = later.micro_usd + sum(b.micro_usd for b in earlier)
    usage = functools.reduce(Usage.plus, (b.usage for b in earlier), later.usage)
    if not micro and not usage.total:
        return None
    seconds = round(later.seconds + sum(b.seconds for b in earlier), 3)
    held = later.held_tokens + sum(b.held_tokens for b in earlier)
    number = len(kept.before) + 1
    return LlmBefore(number=number, micro_usd=micro, usage=usage, held_tokens=held, seconds=seconds)


def spent_until(state: State, turn: int) -> Spent:
    """Return what was used for a turn and those before it."""
    return total(c for c in state.calls.values() if c.reserved.turn <= turn)


def total(calls: Iterable[Call]) -> Spent:
    """Return what some requests used together."""
    calls = list(calls)
    settled = [c.settled for c in calls if c.settled is not None]
    waits = [c.wait.seconds for c in calls if c.wait is not None]
    usages = [s.usage for s in settled if s.usage is not None]
    return Spent(
        calls=len(calls),
        replies=sum(s.outcome == "replied" for s in settled),
        micro_usd=sum(c.reserved.micro_usd if c.settled is None else c.settled.micro_usd for c in calls),
        usage=Usage(**{name: sum(getattr(u, name) for u in usages) for name in Usage.model_fields}),
        held_tokens=sum(c.reserved.tokens for c in calls if _held(c)),
        seconds=round(sum(s.seconds for s in settled), 3),
        lost=sum(s.outcome == "lost" for s in settled),
        in_flight=len(calls) - len(settled),
        waits=len(waits),
        waited_s=round(sum(waits), 3),
    )


def _held(call: Call) -> bool:
    settled = call.settled
    return settled is None or (settled.usage is None and (settled.outcome == "lost" or settled.micro_usd > 0))


def exceeded(limit: Allowance, used: Spent, micro_usd: int = 0, tokens: int = 0) -> str | None:
    """Return which limit a further request of at most `micro_usd` and `tokens` would cross, in words, or None."""
    if limit.max_usd is not None and used.micro_usd + micro_usd > round(limit.max_usd * 1e6):
        return f"max_usd {limit.max_usd:g}: {used.usd} are spent, and the next request may cost {usd(micro_usd)}"
    taken = used.usage.total + used.held_tokens
    if limit.max_tokens is not None and taken + tokens > limit.max_tokens:
        return f"max_tokens {limit.max_tokens}: {taken} are used, and the next request may take {tokens}"
    if limit.max_min is not None and used.seconds >= limit.max_min * 60:
        return f"max_min {limit.max_min:g}: replies took {used.seconds / 60:.3g} minutes"
    return None


def refused_by(budget: Budget, state: State, turn: int, micro_usd: int, tokens: int) -> tuple[str | None, str | None]:
    """Return (why the total budget, why the turn's budget) forbids a request; None where it is allowed."""
    return (
        exceeded(budget, whole(state), micro_usd, tokens),
        exceeded(budget.turn, spent(state, turn), micro_usd, tokens),
    )


def minutes_left(budget: Budget, state: State, turn: int) -> float | None:
    """Return how long the next reply may take by the limits of wall time; None without one."""
    limits = ((budget.max_min, whole(state)), (budget.turn.max_min, spent(state, turn)))
    left = [limit - used.seconds / 60 for limit, used in limits if limit is not None]
    return max(0.0, min(left)) if left else None


class TurnCost(Record):
    """What became of one turn's conversation, and what it used."""

    turn: int
    taken: Turn | None = None
    """Null while the conversation is not over."""
    spent: Spent = Spent()
    refusals: tuple[str, ...] = ()
    """Reasons, in their order."""

    @property
    def iterations(self) -> tuple[int, ...]:
        """Return the iterations that the turn proposes: its cost is theirs."""
        return tuple(p.iteration for p in self.taken.proposals) if self.taken else ()


@per_state
def turns(state: State) -> tuple[TurnCost, ...]:
    """Return every turn about which a model was asked, or that another scientist took in its place, in order."""
    calls: dict[int, list[Call]] = {}
    for call in state.calls.values():
        calls.setdefault(call.reserved.turn, []).append(call)
    refusals: dict[int, list[str]] = {}
    for refused in state.refusals:
        refusals.setdefault(refused.turn, []).append(refused.reason)
    taken = {turn.turn: turn for turn in state.turns}
    wanted = {*calls, *(number for number, turn in taken.items() if turn.instead)}
    return tuple(
        TurnCost(turn=n, taken=taken.get(n), spent=total(calls.get(n, [])), refusals=tuple(refusals.get(n, [])))
        for n in sorted(wanted)
    )


def split(micro: int, parts: int) -> list[int]:
    """Return a sum in `parts` equal parts that add up to it exactly: the first ones get what does not divide."""
    each, rest = divmod(micro, parts)
    return [each + (k < rest) for k in range(parts)]


def shares(state: State) -> tuple[dict[int, int], int]:
    """Return (iteration -> its share of its turn's micro-dollars, what belongs to no iteration).

    To no iteration belongs a turn that proposes none (a block's end) and a conversation that is not over. All of it
    together is what was spent, exactly.
    """
    found: dict[int, int] = {}
    rest = 0
    for turn in turns(state):
        if turn.iterations:
            found |= dict(zip(turn.iterations, split(turn.spent.micro_usd, len(turn.iterations)), strict=True))
        else:
            rest += turn.spent.micro_usd
    return found, rest


def prefix_tokens(state: State) -> int | None:
    """Return the size of the prompts' stable prefix as the service measured it: the largest; None when it never was.

    It is what the first request of a turn reads from the cache and writes to it for an hour: what follows the prefix
    is new in each turn. With a cache of five minutes the first request ever cannot tell the two apart, later ones can.
    A turn whose first request got no reply is left out: a second one would find its tail in the cache, too.
    """
    first: dict[int, Call] = {}
    for call in state.calls.values():
        first.setdefault(call.reserved.turn, call)
    found = [
        settled.usage.cache_read_tokens + settled.usage.cache_write_1h_tokens
        for call in first.values()
        if (settled := call.settled) is not None and settled.usage is not None
    ]
    return max(found, default=0) or None
