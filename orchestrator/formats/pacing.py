"""Training time in words: estimated against real, and what would bring a config to the time target."""

from __future__ import annotations

from orchestrator.core import pace
from orchestrator.core.contract import Contract
from orchestrator.core.mutation import number
from orchestrator.core.records import Config
from orchestrator.core.state import Iteration, State


def entry_text(contract: Contract, it: Iteration) -> str:
    """Return the content of an entry's `Time:` line, "" without a time target."""
    target = contract.time_target_min
    if target is None:
        return ""
    expected, trained = it.proposal.predicted_min, pace.trained_min(it)
    told = "no estimate yet" if expected is None else f"estimated {pace.shown(expected)} min"
    told += ", no time measured" if trained is None else f", trained {pace.shown(trained)} min"
    over = ", over the target" if trained is not None and trained > pace.OVER * target else ""
    return f"{told} (target {pace.shown(target)}{over})"


def state_text(state: State) -> str:
    """Return the target and what the last run with a time took, "" without a time target."""
    target = state.contract.time_target_min
    if target is None:
        return ""
    last = next((it for it in reversed(state.done) if pace.trained_min(it) is not None), None)
    found = None if last is None else pace.trained_min(last)
    real = "none measured yet"
    if last is not None and found is not None:
        real = f"last {pace.shown(found)} min (iter {last.proposal.iteration})"
    rule = pace.budget_rule(state.contract)
    held = f", held by {rule.short}" if rule is not None else ", which no key holds"
    return f"Training time: target {pace.shown(target)} min{held}; {real}"


def estimate_text(state: State, config: Config, block: int, code: str | None = None) -> str:
    """Return what a config is expected to take and the budget that would bring it to the target, "" when unknown."""
    target, minutes = state.contract.time_target_min, pace.predicted_min(state, config, block, code)
    if target is None or minutes is None:
        return ""
    told = f"estimated training {pace.shown(minutes)} min (target {pace.shown(target)})"
    change, rule = pace.wanted_budget(state, config, block, code), pace.budget_rule(state.contract)
    if change is None or rule is None:
        return told
    after = pace.predicted_min(state, pace.with_budget(config, change), block, code) or 0.0
    values = f"{number(change.old)} -> {number(change.new)}"
    return f"{told}; {rule.short} {values} would bring it to about {pace.shown(after)} min"
