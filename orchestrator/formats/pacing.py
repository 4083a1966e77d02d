"""Training time in words: estimated against real, and what would bring it to the target, or below the limit."""

from __future__ import annotations

from orchestrator.core import pace
from orchestrator.core.contract import Contract
from orchestrator.core.mutation import number, over_text
from orchestrator.core.records import Config
from orchestrator.core.state import Iteration, State


def entry_text(state: State, it: Iteration, contract: Contract | None = None) -> str:
    """Return the content of an entry's `Time:` line, "" without a time target or limit.

    Args:
        state: the fold.
        it: a finished iteration.
        contract: in force when it was judged; null is the state's.
    """
    rules = contract or state.contract
    target, limit = rules.time_target_min, pace.limit_min(rules, state.nodes[it.node].config)
    if target is None and limit is None:
        return ""
    expected, trained = it.proposal.predicted_min, pace.trained_min(it)
    told = "no estimate yet" if expected is None else f"estimated {pace.shown(expected)} min"
    told += ", no time measured" if trained is None else f", trained {pace.shown(trained)} min"
    over = ", over the target" if target is not None and trained is not None and trained > pace.OVER * target else ""
    reached = ", reached" if pace.is_stopped(trained, limit) else ""
    aims = [] if target is None else [f"target {pace.shown(target)}{over}"]
    aims += [] if limit is None else [f"limit {pace.shown(limit)}{reached}"]
    return f"{told} ({', '.join(aims)})"


def state_text(state: State) -> str:
    """Return target and limit, and what the last run with a time took, "" without a target or limit."""
    contract = state.contract
    target = contract.time_target_min
    limit = pace.limit_min(contract, state.base_config(None, state.block_shown) if state.opened else contract.start)
    if target is None and limit is None:
        return ""
    last = next((it for it in reversed(state.done) if pace.trained_min(it) is not None), None)
    found = None if last is None else pace.trained_min(last)
    real = "none measured yet"
    if last is not None and found is not None:
        real = f"last {pace.shown(found)} min (iter {last.proposal.iteration})"
    aims = []
    if target is not None:
        rule = pace.budget_rule(contract)
        held = f", held by {rule.short}" if rule is not None else ", which no key holds"
        aims.append(f"target {pace.shown(target)} min{held}")
    if limit is not None:
        aims.append(f"limit {pace.shown(limit)} min ({contract.time_limit})")
    return f"Training time: {'; '.join(aims)}; {real}"


def estimate_text(state: State, config: Config, block: int, code: str | None = None) -> str:
    """Return what a config is expected to take, and the budget that would bring it to the target or below the limit.

    "" when nothing is known, or neither is set.
    """
    target, minutes = state.contract.time_target_min, pace.predicted_min(state, config, block, code)
    limit, over = pace.limit_min(state.contract, config), pace.over_limit(state, config, block, code)
    if minutes is None or (target is None and limit is None):
        return ""
    if over is not None:
        return over_text(state.contract, over)
    aims = [] if target is None else [f"target {pace.shown(target)}"]
    aims += [] if limit is None else [f"limit {pace.shown(limit)}"]
    told = f"estimated training {pace.shown(minutes)} min ({', '.join(aims)})"
    change, rule = pace.wanted_budget(state, config, block, code), pace.budget_rule(state.contract)
    if change is None or rule is None:
        return told
    after = pace.predicted_min(state, pace.with_budget(config, change), block, code) or 0.0
    values = f"{number(change.old)} -> {number(change.new)}"
    return f"{told}; {rule.short} {values} would bring it to about {pace.shown(after)} min"
