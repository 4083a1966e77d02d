"""What a turn will probably cost, said before the first request of a session."""

from __future__ import annotations

from orchestrator.core import ledger
from orchestrator.core.dialogue import Usage, cost
from orchestrator.core.exploration import Budget, ModelSettings
from orchestrator.core.records import Record
from orchestrator.core.state import State

REPLIES = 6
"""Of one turn, while none was measured."""
OUTPUT_TOKENS = 1_200
"""Of one reply, thinking included."""
TAIL_TOKENS = 8_000
"""Of the turn's own facts, plots and tool results at its end."""


class Forecast(Record):
    """An expected cost."""

    micro_usd: int
    """Of one turn."""
    turns: int
    """Turns that what is left of the budget pays."""
    measured: int
    """Turns that it is the mean of; 0 is an estimate from the prompt's size."""
    least: int
    """What any request reserves at least."""


def forecast(state: State, settings: ModelSettings, budget: Budget, prefix_tokens: int) -> Forecast:
    """Return what a turn is expected to cost: the mean of those so far, else an estimate (the constants above)."""
    turns = {c.reserved.turn for c in state.calls.values() if c.settled is not None and c.settled.micro_usd > 0}
    used = ledger.spent(state)
    each = round(used.micro_usd / len(turns)) if turns else _estimate(settings, prefix_tokens)
    worst = Usage(cache_write_1h_tokens=2 * (prefix_tokens + TAIL_TOKENS), output_tokens=settings.max_tokens)
    reserved = cost(worst, settings.rates)
    least = cost(Usage(cache_write_1h_tokens=prefix_tokens, output_tokens=settings.max_tokens), settings.rates)
    left = max(0, round(budget.max_usd * 1e6) - ledger.whole(state).micro_usd - reserved)
    turns_left = left // each + (left > 0) if each else 10**6
    return Forecast(micro_usd=each, turns=turns_left, measured=len(turns), least=least)


def too_small(found: Forecast, budget: Budget) -> str:
    """Return why a budget lets no request through, "" when it does."""
    for name, limit in (("budget.turn.max_usd", budget.turn.max_usd), ("budget.max_usd", budget.max_usd)):
        if limit is not None and round(limit * 1e6) < found.least:
            return (
                f"{name} {limit:g} lets no request through: one reserves at least {ledger.usd(found.least)}. Raise it, "
                "or lower model.max_tokens (exploration.yaml)"
            )
    return ""


def _estimate(settings: ModelSettings, prefix_tokens: int) -> int:
    write = "cache_write_1h_tokens" if settings.cache == "1h" else "cache_write_tokens"
    tail = TAIL_TOKENS + OUTPUT_TOKENS * REPLIES
    usage = Usage.model_validate(
        {
            write: prefix_tokens,
            "cache_read_tokens": (REPLIES - 1) * (prefix_tokens + tail // 2),
            "input_tokens": tail,
            "output_tokens": REPLIES * OUTPUT_TOKENS,
        }
    )
    return cost(usage, settings.rates)


def sentence(found: Forecast, state: State, settings: ModelSettings, budget: Budget) -> str:
    """Return the forecast as people read it."""
    if not found.micro_usd:
        return f"a turn costs nothing by the prices given for {settings.name} ({settings.rates.date})"
    basis = f"mean of {found.measured} turn(s)" if found.measured else f"an estimate, {REPLIES} replies a turn"
    return (
        f"about {ledger.usd(found.micro_usd)} a turn ({basis}; {settings.name}, prices of {settings.rates.date}): "
        f"the budget of ${budget.max_usd:g} (budget.max_usd), of which {ledger.whole(state).usd} is spent, pays "
        f"for about {found.turns} more turns"
    )
