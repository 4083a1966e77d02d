"""What the language model has used, from the journal, and whether the next request is within the budget.

A request counts with the most that it can cost from its reservation on, and with what it did cost once it is settled.
Sums are integers, so they add up exactly, and they hold across kills because they are folded from events.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.core.dialogue import Usage
from orchestrator.core.exploration import Allowance, Budget
from orchestrator.core.records import Record
from orchestrator.core.state import Call, State


class Spent(Record):
    """What a number of requests used."""

    calls: int = 0
    replies: int = 0
    micro_usd: int = 0
    usage: Usage = Usage()
    seconds: float = 0.0

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


def spent(state: State, turn: int | None = None) -> Spent:
    """Return what was used in total, or for one turn."""
    return total(c for c in state.calls.values() if turn is None or c.reserved.turn == turn)


def total(calls: Iterable[Call]) -> Spent:
    """Return what some requests used together."""
    count = replies = micro = 0
    usage, seconds = Usage(), 0.0
    for call in calls:
        count += 1
        micro += call.reserved.micro_usd if call.settled is None else call.settled.micro_usd
        if call.settled is not None:
            replies += call.settled.outcome == "replied"
            seconds += call.settled.seconds
            usage = usage.plus(call.settled.usage or Usage())
    return Spent(calls=count, replies=replies, micro_usd=micro, usage=usage, seconds=round(seconds, 3))


def exceeded(limit: Allowance, used: Spent, micro_usd: int = 0, tokens: int = 0) -> str | None:
    """Return which limit a further request of at most `micro_usd` and `tokens` would cross, in words, or None."""
    if limit.max_usd is not None and used.micro_usd + micro_usd > round(limit.max_usd * 1e6):
        return f"max_usd {limit.max_usd:g}: {used.usd} are spent, and the next request may cost {usd(micro_usd)}"
    if limit.max_tokens is not None and used.usage.total + tokens > limit.max_tokens:
        return f"max_tokens {limit.max_tokens}: {used.usage.total} are used, and the next request may take {tokens}"
    if limit.max_min is not None and used.seconds >= limit.max_min * 60:
        return f"max_min {limit.max_min:g}: replies took {used.seconds / 60:.1f} minutes"
    return None


def refused_by(budget: Budget, state: State, turn: int, micro_usd: int, tokens: int) -> tuple[str | None, str | None]:
    """Return (why the total budget, why the turn's budget) forbids a request; None where it is allowed."""
    return (
        exceeded(budget, spent(state), micro_usd, tokens),
        exceeded(budget.turn, spent(state, turn), micro_usd, tokens),
    )
