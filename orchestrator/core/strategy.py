"""Which rows of the strategy table hold now, with their evidence; how often they are followed.

Precedence: the groups safety, protocol, plateau, progress, default, in this order; within a group the order of the
table's rows. A row that was followed since its evidence began (`Trigger.since`) is satisfied: it fires again only
when the evidence is new, or, where the registry says so (`Kind.again`, 6 iterations unless stated), when it
still holds that many iterations after it was followed last.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import get_args

from orchestrator.core.contract import StrategyRule
from orchestrator.core.records import Proposal, Record
from orchestrator.core.scene import Scene, rates_of
from orchestrator.core.state import State
from orchestrator.core.strategy_code import CODE_PREDICATES
from orchestrator.core.strategy_kinds import Group, Kind, kind_of
from orchestrator.core.strategy_predicates import PREDICATES, Found, Predicate

STALE_BLOCKS = 3
"""Complete blocks after which a row that never triggered is proposed for removal."""
ALL_PREDICATES: dict[str, Predicate] = {**PREDICATES, **CODE_PREDICATES}
_GROUPS: tuple[Group, ...] = get_args(Group)


class Trigger(Record):
    """A row that holds."""

    strategy: str
    """Name of the row, as its table spells it."""
    kind: str
    """`Kind.key` of the registry."""
    group: Group
    evidence: str
    """One sentence with iterations and numbers."""
    action: str
    """As the table words it."""
    since: int
    """First iteration of the evidence; 0 for the default."""
    nodes: tuple[int, ...] = ()
    keys: tuple[str, ...] = ()


def active(state: State, block: int | None = None, pending: tuple[Proposal, ...] = ()) -> tuple[Trigger, ...]:
    """Return the rows that hold in a block (the one in progress), in the order of precedence.

    Args:
        state: the fold.
        block: another block than the one in progress.
        pending: proposals of the turn in the making: a row that they follow is satisfied.
    """
    scene = Scene(state, block or state.block)
    followed = [*(it.proposal for it in scene.iterations), *pending]
    found = []
    for row in state.strategies:
        kind = kind_of(row.name, row.condition)
        if kind is not None:
            trigger = _trigger(scene, row, kind, followed)
            if trigger is not None:
                found.append(trigger)
    return tuple(sorted(found, key=lambda t: _GROUPS.index(t.group)))


def _trigger(scene: Scene, row: StrategyRule, kind: Kind, followed: list[Proposal]) -> Trigger | None:
    always = Found(evidence="always", since=0)
    seen = always if kind.group == "default" else ALL_PREDICATES[kind.key](scene, row)
    if seen is None or (seen is not always and _satisfied(row, kind, seen, followed)):
        return None
    return Trigger(
        strategy=row.name,
        kind=kind.key,
        group=kind.group,
        action=row.action,
        **seen.model_dump(),
    )


def _satisfied(row: StrategyRule, kind: Kind, seen: Found, followed: list[Proposal]) -> bool:
    at = [p.iteration for p in followed if p.strategy == row.name and p.iteration > seen.since]
    if not at:
        return False
    now = max(p.iteration for p in followed) + 1
    return kind.again == 0 or now - max(at) <= kind.again


def rates(state: State, block: int) -> tuple[float | None, float | None]:
    """Return (branching rate, improvement rate) of a block; None without a mutation that has finished.

    Both are shares of the block's finished mutations, replicates and the baseline left out: those whose parent is not
    the node made before it, and those whose mean beats their parent's by more than the noise floor.
    """
    return rates_of(Scene(state, block))


def uses(state: State) -> dict[str, int]:
    """Return how many proposals followed each row in force."""
    counted = Counter(it.proposal.strategy for it in state.iterations.values())
    return {row.name: counted[row.name] for row in state.strategies}


def stale(state: State) -> tuple[str, ...]:
    """Return the rows that never triggered in the last `STALE_BLOCKS` complete blocks, the default left out.

    Recomputed: each row is asked at each iteration of those blocks what it would have seen, followed or not (with
    today's means and noise floor). Rows that were added or changed since are not judged; an unknown row never triggers.
    Empty while fewer blocks are complete. Cost: rows x iterations of three blocks.
    """
    ended = [b for b in range(1, state.block) if complete(state, b)][-STALE_BLOCKS:]
    if len(ended) < STALE_BLOCKS:
        return ()
    named = [(row, kind_of(row.name, row.condition)) for row in state.strategies if row.block < ended[0]]
    left = {row.name: (row, kind) for row, kind in named if kind is None or kind.group != "default"}
    for block in ended:
        for until in range(state.first_of(block) + 1, state.first_of(block + 1) + 1):
            scene = Scene(state, block, until)
            for name, (row, kind) in list(left.items()):
                if kind is not None and ALL_PREDICATES[kind.key](scene, row) is not None:
                    del left[name]
    return tuple(left)


def complete(state: State, block: int) -> bool:
    """Return whether every iteration of a block is final."""
    numbers = range(state.first_of(block), state.first_of(block + 1))
    return all(i in state.iterations and state.iterations[i].final is not None for i in numbers)


def three_sd(sd: float) -> float:
    """Return 3 noise standard deviations rounded up to two significant digits: a tolerance that noise keeps within."""
    if sd <= 0 or not math.isfinite(sd):
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(3 * sd)) - 1)
    return float(f"{math.ceil(3 * sd / unit - 1e-9) * unit:.2g}")
