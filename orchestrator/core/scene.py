"""What a block's finished runs show: the common ground of the strategies' predicates and of the offline scientist.

Words used here. A *run* is a finished iteration on the block's draw; an *idea* is a run that made a node (so it is no
replicate); a *mutation* is an idea that has a parent. A node *improved* or *degraded* when its
mean differs from its parent's by more than the noise floor: one pooled standard deviation of replicates, at least
`LEAST`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from orchestrator.core import tree
from orchestrator.core.classify import verdict
from orchestrator.core.contract import MetricRule
from orchestrator.core.diagnosis import gap
from orchestrator.core.state import Iteration, Node, State
from orchestrator.core.stats import noise, summarise

LEAST = 1e-3
"""Smallest difference that counts while noise is not measured, or is smaller (in units of the metric)."""
PROBES = ("failure-probe", "boundary-probe")
"""Strategies whose runs are meant to fail: they neither prolong nor break a streak."""

Effect = Literal["improved", "degraded", "neutral"]


@dataclass(frozen=True)
class Scene:
    """One block as it stood when iteration `until` was proposed (means are of all runs known now)."""

    state: State
    block: int
    until: int | None = None

    @cached_property
    def iterations(self) -> list[Iteration]:
        """The block's iterations before `until`, finished or not."""
        first, end = self.state.first_of(self.block), self.state.first_of(self.block + 1)
        numbers = range(first, min(end, self.until or end))
        return [self.state.iterations[i] for i in numbers if i in self.state.iterations]

    @cached_property
    def runs(self) -> list[Iteration]:
        """Finished iterations on the block's draw, in order."""
        draw = self.state.draw(self.block)
        return [it for it in self.iterations if it.final is not None and it.proposal.simulation_seed == draw]

    @cached_property
    def ideas(self) -> list[Iteration]:
        """Runs that made a node."""
        return [it for it in self.runs if it.node == it.proposal.iteration]

    @cached_property
    def mutations(self) -> list[Iteration]:
        """Ideas with a parent."""
        return [it for it in self.ideas if it.proposal.parent is not None]

    @cached_property
    def nodes(self) -> list[Node]:
        """Nodes of the ideas, by id."""
        return [self.state.nodes[it.node] for it in self.ideas]

    @property
    def primary(self) -> str:
        return self.state.contract.primary.name

    @cached_property
    def leader(self) -> Node | None:
        """The best node of the block among those that `until` knew."""
        if self.until is None:
            return tree.best(self.state, self.block)
        known = [(-(self.worth(n) or 0.0), n.id) for n in self.nodes if self.worth(n) is not None]
        return self.state.nodes[min(known)[1]] if known else None

    def mean(self, node: Node, metric: str | None = None) -> float | None:
        """Return the mean of a metric (the primary) over a node's runs."""
        key = (node.id, metric or self.primary)
        if key not in self._means:
            self._means[key] = summarise(self.state, node, key[1]).mean
        return self._means[key]

    @cached_property
    def _means(self) -> dict[tuple[int, str], float | None]:
        return {}

    @cached_property
    def _floors(self) -> dict[str | None, float]:
        return {}

    def worth(self, node: Node, metric: str | None = None) -> float | None:
        """Return the mean as a reward: larger is better."""
        value = self.mean(node, metric)
        return None if value is None else self.reward(value, metric)

    def reward(self, value: float, metric: str | None = None) -> float:
        """Return a value of a metric as a reward."""
        name = metric or self.primary
        rule = next((m for m in self.state.contract.metrics if m.name == name), None)
        return tree.reward(rule or MetricRule(name=name, role="secondary"), value)

    def floor(self, metric: str | None = None) -> float:
        """Return the difference beyond which two values of a metric are not noise."""
        if metric not in self._floors:
            self._floors[metric] = floor(self.state, metric, self.block)
        return self._floors[metric]

    def origin(self, node: Node) -> Node | None:
        """Return the node that a node is compared with: its parent.

        Of a child of root that was tried beside the block's baseline, from the same config, the baseline.
        """
        if node.parent is not None:
            return self.state.nodes[node.parent]
        own, first = self.state.iterations[node.id].proposal, self.state.iterations[self.state.first_of(node.block)]
        beside = own.mutation.kind == "config" and own.base == first.proposal.base
        return self.state.nodes[first.node] if beside and first.proposal.mutation.kind == "baseline" else None

    def gain(self, node: Node, metric: str | None = None) -> float | None:
        """Return a node's reward less its origin's; None without an origin or without both means."""
        origin = self.origin(node)
        if origin is None:
            return None
        mine, theirs = (self.worth(n, metric) for n in (node, origin))
        return None if mine is None or theirs is None else mine - theirs

    def effect(self, node: Node, metric: str | None = None) -> Effect:
        """Return what a node's mutation did to it, by the noise floor.

        A node without a result degraded; where there is nothing to compare it with (no origin, or one without a
        result) it is neutral.
        """
        if self.origin(node) is None:
            return "neutral"
        if self.worth(node, metric) is None:
            return "degraded"
        gain = self.gain(node, metric)
        if gain is None or abs(gain) <= self.floor(metric):
            return "neutral"
        return "improved" if gain > 0 else "degraded"

    def gap(self, it: Iteration) -> float | None:
        """Return the degeneracy gap of a run; None without the metrics, or when the instruction names no gap."""
        return gap(self.state.contract, it)

    def verdict(self, it: Iteration) -> str:
        """Return the class of a run."""
        return verdict(self.state, it)

    @property
    def best_class(self) -> str:
        return self.state.contract.verdicts[0].name

    def ancestors(self, node: Node) -> list[int]:
        """Return the ids on the path from a node up to its block's root, the node first."""
        path = [node.id]
        while (parent := self.state.nodes[path[-1]].parent) is not None:
            path.append(parent)
        return path

    def distance(self, a: Node, b: Node) -> int:
        """Return the number of tree edges between two nodes of the block, over root if need be."""
        left, right = self.ancestors(a), self.ancestors(b)
        meet = next((n for n in left if n in right), None)
        return len(left) + len(right) if meet is None else left.index(meet) + right.index(meet)

    def related(self, a: Node, b: Node) -> bool:
        """Return whether one of two nodes descends from the other."""
        return a.id in self.ancestors(b) or b.id in self.ancestors(a)


def floor(state: State, metric: str | None = None, block: int | None = None) -> float:
    """Return the noise floor of a metric (the primary) in a block's regime: one pooled sd, at least `LEAST`."""
    return max(noise(state, metric or state.contract.primary.name, block).sd or 0.0, LEAST)


def rates_of(scene: Scene) -> tuple[float | None, float | None]:
    """Return (branching rate, improvement rate) of a block's mutations; None without one."""
    if not scene.mutations:
        return None, None
    before = {it.node: scene.ideas[i - 1].node for i, it in enumerate(scene.ideas) if i}
    branched = sum(it.proposal.parent != before.get(it.node) for it in scene.mutations)
    better = sum(scene.effect(scene.state.nodes[it.node]) == "improved" for it in scene.mutations)
    return branched / len(scene.mutations), better / len(scene.mutations)
