"""What repeated runs say: mean, standard error, noise floor."""

from __future__ import annotations

import math

from orchestrator.core.memo import per_state
from orchestrator.core.records import Metric, Record
from orchestrator.core.state import Node, State


class Summary(Record):
    """A node's metric over its runs."""

    mean: float | None
    """Mean of the finite values; null when there is none."""
    n: int
    """Runs that gave a value."""
    standard_error: float | None
    """Of the mean; null for n < 2."""
    reason: str | None = None
    """Why there is no mean."""


class Noise(Record):
    """Spread of runs that differ in `training.seed` only."""

    sd: float | None
    """Pooled standard deviation; null while no node has two runs."""
    degrees: int
    """Degrees of freedom: runs minus nodes, over nodes with two or more runs."""


def values(state: State, node: Node, metric: str) -> list[Metric]:
    """Return the metric of each finished run of a node's idea on its block's draw, over all blocks, oldest first."""
    its, draw = [state.iterations[i] for i in state.ideas[node.idea]], state.draw(node.block)
    return [it.metric(metric) for it in its if it.final is not None and it.proposal.simulation_seed == draw]


def summarise(state: State, node: Node, metric: str) -> Summary:
    """Return mean, n and standard error of a metric over a node's finished runs."""
    return _summarise(state, node.id, metric)


@per_state
def _summarise(state: State, node: int, metric: str) -> Summary:
    found = values(state, state.nodes[node], metric)
    numbers = [m.value for m in found if m.value is not None]
    if not numbers:
        return Summary(mean=None, n=0, standard_error=None, reason=found[-1].reason if found else "not run yet")
    mean = math.fsum(numbers) / len(numbers)
    if len(numbers) < 2:
        return Summary(mean=mean, n=1, standard_error=None)
    variance = math.fsum((x - mean) ** 2 for x in numbers) / (len(numbers) - 1)
    return Summary(mean=mean, n=len(numbers), standard_error=math.sqrt(variance / len(numbers)))


@per_state
def noise(state: State, metric: str, block: int | None = None) -> Noise:
    """Return the noise floor of a block's regime: the standard deviation pooled over its ideas with replicates.

    Runs of one idea on different draws (`simulation.seed`) are not replicates of each other; the pool is per draw.

    Args:
        state: the fold.
        metric: by the scorer's name.
        block: null is the block shown (`State.block_shown`).
    """
    squares, degrees = 0.0, 0
    regime = state.regime_name(state.block_shown if block is None else block)
    for iterations in state.ideas.values():
        if len(iterations) < 2 or state.regime_name(state.iterations[iterations[0]].block) != regime:
            continue
        draws: dict[int, list[float]] = {}
        for i in iterations:
            value = state.iterations[i].metric(metric).value
            if value is not None:
                draws.setdefault(state.iterations[i].proposal.simulation_seed, []).append(value)
        for numbers in draws.values():
            if len(numbers) > 1:
                mean = math.fsum(numbers) / len(numbers)
                squares += math.fsum((x - mean) ** 2 for x in numbers)
                degrees += len(numbers) - 1
    return Noise(sd=math.sqrt(squares / degrees) if degrees else None, degrees=degrees)
