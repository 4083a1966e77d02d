"""One-key moves inside the contract's ranges: what can be tried next from a node.

Numbers move on a log scale. A whole step is a quarter of the key's range, at least half a decade; when both neighbours
of a node are taken, half a step, so that the search first finds the region and then refines it. From 0 the first move
is to a tenth of the range.

Where the instruction lists the sizes of a key's mutations (`KeyRule.steps`), those are its whole steps, the smallest of
each side first. Parts of a step are of the smallest: a factor's power, a share of a difference. A list with one side
("x1.5 or x2") gets the inverse of its smallest step as the other, so that a search can come back.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from orchestrator.core import configs
from orchestrator.core.contract import KeyRule, Step
from orchestrator.core.records import Change, Config, Record

Direction = Literal["up", "down", "other"]
STEPS = (1.0, 0.5)
"""Whole steps first, then half steps."""
FINE_STEPS = (0.25, 0.125)
"""When no node has a whole or half step left."""
LEAST_DECADES = 0.5
SUM_DIGITS = 12
"""Significant digits of a bound and after a difference: exact but for the noise of floats. A factor leaves two."""
Target = tuple[Direction, float, bool]
"""(side, where a step leads before it is clipped and rounded, whether it is a difference)."""


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
    low = -math.inf if rule.low is None else rule.low
    high = math.inf if rule.high is None else rule.high
    moves: list[Move] = []
    for direction, new, sums in _listed_targets(rule, old, step) or _range_targets(rule, old, step):
        new = min(max(new, low), high)
        if rule.type == "int" and math.isfinite(new):
            new = max(old + 1, round(new)) if direction == "up" else min(old - 1, round(new))
        new = min(max(new, low), high)
        new = new if sums else _snapped(new, high if direction == "up" else low)
        if not math.isfinite(new):
            continue
        digits = SUM_DIGITS if sums or new in (low, high) else 2
        value: Any = int(new) if rule.type == "int" else round_to(new, digits)
        known = (old, *(m.change.new for m in moves))
        if value not in known and low <= value <= high:
            moves.append(Move(change=Change(key=rule.key, old=_typed(rule, old), new=value), direction=direction))
    return moves


def _range_targets(rule: KeyRule, old: float, step: float) -> list[Target]:
    """Return where the range of a key leads, up and down."""
    if old == 0:
        return [] if rule.high is None else [("up", rule.low if rule.low and rule.low > 0 else rule.high / 10, False)]
    decades = step * decades_of(rule)
    return [(_side(old, new), new, False) for new in (old * 10**decades, old * 10**-decades)]


def _listed_targets(rule: KeyRule, old: float, step: float) -> list[Target]:
    """Return where the listed steps of a key lead; none where it has none, or factors of 0 only."""
    by_size = sorted(rule.steps, key=lambda s: abs(_after(s, old) - old))
    up = [s for s in by_size if _after(s, old) > old]
    down = [s for s in by_size if _after(s, old) < old]
    up, down = up or [_inverse(s) for s in down[:1]], down or [_inverse(s) for s in up[:1]]
    taken = [*up[:1], *down[:1], *(up[1:] if step >= 1 else ()), *(down[1:] if step >= 1 else ())]
    made = [(_after(s, old, step), s) for s in taken]
    crosses = rule.low is None and old > 0  # no bound says that the key may be 0 or less
    return [(_side(old, new), new, s.op == "+") for new, s in made if not (crosses and new <= 0)]


def _side(old: float, new: float) -> Direction:
    return "up" if new > old else "down"


def _after(step: Step, old: float, share: float = 1.0) -> float:
    return old * step.value**share if step.op == "*" else old + step.value * share


def _inverse(step: Step) -> Step:
    return step.model_copy(update={"value": 1 / step.value if step.op == "*" else -step.value})


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


def _snapped(new: float, bound: float) -> float:
    """Return the bound ahead where `new` is within 0.15 decades of it: no step is spent on the rest of the way."""
    close = new > 0 and bound > 0 and math.isfinite(bound) and abs(math.log10(new / bound)) < 0.15
    return bound if close else new


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
    if rule.type in ("int", "float") and (rule.low is not None or rule.high is not None or rule.steps):
        return number_moves(rule, float(old), step)
    return []
