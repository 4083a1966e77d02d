"""Verdicts: which of the instruction's classes a finished iteration falls into."""

from __future__ import annotations

import operator

from orchestrator.core.contract import Condition, Contract, VerdictRule
from orchestrator.core.state import Iteration, Node, State
from orchestrator.core.stats import summarise

_OPS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def holds(condition: Condition, value: float | None) -> bool:
    """Return whether a measured value meets a condition; a missing value meets none."""
    return value is not None and _OPS[condition.op](value, condition.value)


def node_verdict(state: State, node: Node) -> str:
    """Return the class of a node: of the means over its finished runs."""
    for rule in state.contract.verdicts:
        if all(holds(c, summarise(state, node, c.metric).mean) for c in rule.conditions):
            return rule.name
    return state.contract.verdicts[-1].name


def verdict(state: State, iteration: Iteration, contract: Contract | None = None) -> str:
    """Return the first class (of `contract`; null: the one in force) whose conditions all hold, else the last one."""
    rules: tuple[VerdictRule, ...] = (contract or state.contract).verdicts
    for rule in rules:
        if all(holds(c, iteration.metric(c.metric).value) for c in rule.conditions):
            return rule.name
    return rules[-1].name
