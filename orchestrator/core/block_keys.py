"""Keys that change between blocks only: their values in each block, and what they may be next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.core import configs
from orchestrator.core.contract import Contract, KeyRule
from orchestrator.core.mutation import number
from orchestrator.core.records import canonical
from orchestrator.core.state import State


def rules(contract: Contract) -> tuple[KeyRule, ...]:
    """Return the keys that change between blocks only."""
    return tuple(k for k in contract.keys if k.level == "block")


def changeable(contract: Contract) -> tuple[KeyRule, ...]:
    """Return the keys that a block's end may change: block-level ones and, with a time target, the budget key."""
    budget = contract.budget if contract.time_target_min is not None else ""
    return tuple(k for k in contract.keys if k.level == "block" or k.key == budget)


def compared(contract: Contract) -> KeyRule | None:
    """Return the key over whose values blocks run: `compare` of exploration.yaml, if it changes between blocks only."""
    return next((k for k in rules(contract) if k.key == contract.compare), None)


def name_of(contract: Contract, key: str) -> str:
    """Return a key's name without its section, as instructions and logs write it; with it where two keys share one."""
    name = key.partition(".")[2]
    return name if sum(k.key.partition(".")[2] == name for k in contract.keys) == 1 else key


def allowed(rule: KeyRule) -> tuple[Any, ...]:
    """Return the values that a key may have, in their order; empty when a range decides."""
    if rule.type == "bool" and not rule.allowed:
        return (False, True)
    if rule.type in ("int", "float"):
        return tuple(sorted(rule.allowed))
    return rule.allowed


def begun(state: State) -> list[int]:
    """Return the blocks that have iterations."""
    return [b for b in range(1, state.block + 1) if state.first_of(b) in state.iterations]


def settings(state: State, block: int) -> dict[str, Any]:
    """Return what a block is known by: the compared key, and each block-level key that is not at its start's value."""
    contract = state.contract
    if state.opened is None:
        return {}
    found = {rule.key: state.value_in(block, rule.key) for rule in rules(contract)}
    start = state.opened.start
    own = [k for k, v in found.items() if k == contract.compare or canonical(v) != canonical(configs.get(start, k))]
    return {k: found[k] for k in sorted(own, key=lambda k: k != contract.compare)}


def told(contract: Contract, values: Mapping[str, Any]) -> str:
    """Return values of keys in one phrase: `time_step=4, ode_method=rk4`."""
    return ", ".join(f"{name_of(contract, key)}={number(value)}" for key, value in values.items())


def shown(state: State, block: int) -> str:
    """Return the settings of a block in one phrase, "" where none is to be told."""
    return told(state.contract, settings(state, block))


def beside(contract: Contract, key: str) -> tuple[str, ...]:
    """Return the other keys of the exclusive groups of a key."""
    return tuple(other for group in contract.exclusive if key in group for other in group if other != key)
