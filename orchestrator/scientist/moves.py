"""One-key moves inside the contract's ranges: what can be tried next from a node.

Numbers move on a log scale. A whole step is a quarter of the key's range, at least half a decade; when both neighbours
of a node are taken, half a step, so that the search first finds the region and then refines it. From 0 the first move
is to a tenth of the range.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from orchestrator.core import configs
from orchestrator.core.contract import KeyRule
from orchestrator.core.records import Change, Config, Record

Direction = Literal["up", "down", "other"]
STEPS = (1.0, 0.5)
"""Whole steps first, then half steps."""
FINE_STEPS = (0.25, 0.125)
"""When no node has a whole or half step left."""
LEAST_DECADES = 0.5


class Move(Record):
    """A change of one key, in a direction."""

    change: Change
    direction: Direction


def round_to(value: float, digits: int) -> float:
    """Return `value` rounded to significant digits."""
    return float(f"{value:.{digits - 1}e}")


def decades_of(rule: KeyRule) -> float:
    """Return a whole step of a number in decades: a quarter of its range, at least half a decade."""
    if rule.low is None or rule.high is None or rule.low <= 0:
        return LEAST_DECADES
    return max(LEAST_DECADES, math.log10(rule.high / rule.low) / 4)


def wider_side(rule: KeyRule, value: Any) -> Direction:
    """Return the side of `value` on which the range (or the list of values) is wider, in decades; `up` when equal."""
    if rule.allowed:
        at = rule.allowed.index(value)
        return "up" if len(rule.allowed) - 1 - at >= at else "down"
    if value <= 0 or rule.low is None or rule.high is None:
        return "up"
    below = math.inf if rule.low <= 0 else math.log10(value / rule.low)
    return "up" if math.log10(rule.high / value) >= below - 1e-9 else "down"


def number_moves(rule: KeyRule, old: float, step: float) -> list[Move]:
    """Return the moves of a number by `step` whole steps, clipped to the range; integers move by at least 1."""
    moves, decades = [], step * decades_of(rule)
    directions: tuple[tuple[Direction, int], ...] = (("up", 1), ("down", -1))
    for direction, sign in directions:
        if old == 0:
            if sign < 0 or rule.high is None:
                continue
            small = rule.low if rule.low else rule.high / 10
            new: float = small
        else:
            new = old * 10 ** (sign * decades)
        if rule.type == "int":
            new = max(old + 1, round(new)) if sign > 0 else min(old - 1, round(new))
        low = -math.inf if rule.low is None else rule.low
        high = math.inf if rule.high is None else rule.high
        new = _snapped(min(max(new, low), high), low, high)
        value: Any = int(new) if rule.type == "int" else round_to(new, 2)
        if value != old and low <= value <= high:
            moves.append(Move(change=Change(key=rule.key, old=_typed(rule, old), new=value), direction=direction))
    return moves


def range_ends(rule: KeyRule, old: Any) -> list[Any]:
    """Return the ends of a key's range (or list of values) but the value itself, the farther one first."""
    if rule.type == "bool":
        return []
    if rule.allowed:
        if old not in rule.allowed:
            return []
        at, ends = rule.allowed.index(old), [(len(rule.allowed) - 1, rule.allowed[-1]), (0, rule.allowed[0])]
        return [v for i, v in sorted(ends, key=lambda e: -abs(e[0] - at)) if i != at]
    if rule.type not in ("int", "float"):
        return []
    bounds = (rule.high, rule.low) if wider_side(rule, old) == "up" else (rule.low, rule.high)
    return [_typed(rule, bound) for bound in bounds if bound is not None and bound != old]


def _snapped(new: float, low: float, high: float) -> float:
    """Return the bound that `new` is close to (within 0.15 decades): no step is spent on the rest of the way."""
    for bound in (low, high):
        if new > 0 and bound > 0 and math.isfinite(bound) and abs(math.log10(new / bound)) < 0.15:
            return bound
    return new


def _typed(rule: KeyRule, value: Any) -> Any:
    return int(value) if rule.type == "int" else value


def key_moves(rule: KeyRule, config: Config, step: float) -> list[Move]:
    """Return the moves of one key from a config: up, down, or to another allowed value."""
    old = configs.get(config, rule.key)
    if rule.type == "bool":
        return [Move(change=Change(key=rule.key, old=old, new=not old), direction="other")]
    if rule.allowed:
        if old not in rule.allowed:
            return []
        at = rule.allowed.index(old)
        sides: list[tuple[Direction, int]] = [("up", at + 1), ("down", at - 1)]
        return [
            Move(change=Change(key=rule.key, old=old, new=rule.allowed[i]), direction=d)
            for d, i in sides
            if 0 <= i < len(rule.allowed)
        ]
    if rule.type in ("int", "float") and (rule.low is not None or rule.high is not None):
        return number_moves(rule, float(old), step)
    return []
