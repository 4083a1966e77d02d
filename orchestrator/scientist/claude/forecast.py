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


def forecast(state: State, settings: ModelSettings, budget: Budget, prefix_tokens: int) -> Forecast:
    """Return what a turn is expected to cost: the mean of those so far, else an estimate (the constants above)."""
    turns = {c.reserved.turn for c in state.calls.values() if c.settled is not None and c.settled.micro_usd > 0}
    used = ledger.spent(state)
    each = round(used.micro_usd / len(turns)) if turns else _estimate(settings, prefix_tokens)
    left = max(0, round(budget.max_usd * 1e6) - used.micro_usd)
    return Forecast(micro_usd=each, turns=left // each if each else 10**6, measured=len(turns))


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
    basis = f"mean of {found.measured} turn(s)" if found.measured else f"an estimate, {REPLIES} replies a turn"
    return (
        f"about {ledger.usd(found.micro_usd)} a turn ({basis}; {settings.name}, prices of {settings.rates.date}): "
        f"the budget of ${budget.max_usd:g} (budget.max_usd), of which {ledger.spent(state).usd} is spent, pays "
        f"for about {found.turns} more turns"
    )
