"""The verdict on a code edit: is the node that it made better than the node that it was made from?

A *code node* is one that a code edit made. It has its parent's config, so the two are compared pair by pair: a *pair*
are two runs, one of each, with the same training seed and the same draw, both ok, in one regime. All runs of an idea
count, wherever they were made (`State.ideas`).

How it is decided, on the mean difference of n pairs in the primary metric (turned so that larger is better):

- A difference of at most `WIDTH` * sd * sqrt(2 / n) is noise: sd is that of one run (`core.stats.noise`, at least
  `core.scene.LEAST`), sd * sqrt(2) that of the difference of two, and n pairs narrow it. With fewer than `CAP` pairs
  such an edit is *open* and the run that makes the next pair is named (`Judged.wanted`); with `CAP` it is *neutral*.
- A larger difference is *keep* or *worse*, provisionally while there is one pair.
- A run of the child that ends badly on the block's draw decides at once: *crashed*, or *worse* with the reason
  (diverged, timed_out, out_of_memory, rejected, no value of the metric), unless the parent ended so at the same seeds.
- A keep that costs too much is *neutral*: a secondary metric fell by more than `GATE` of its own noise sd, or the runs
  take more than `SLOWER` times as long. Time is the supervisor's clock, and only runs with about equal company are
  compared; what the node's code writes about its own time is not looked at.

Not covered: the noise floor is that of the block's regime and is taken for both codes; an edit whose effect is smaller
than noise of `CAP` pairs is called neutral, not tested further.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterator
from typing import Literal

from orchestrator.core.contract import Contract, MetricRule
from orchestrator.core.events import RunEnded
from orchestrator.core.memo import per_state
from orchestrator.core.records import Outcome, Record
from orchestrator.core.scene import LEAST
from orchestrator.core.state import Iteration, Node, State
from orchestrator.core.stats import noise
from orchestrator.core.tree import reward

Verdict = Literal["keep", "neutral", "worse", "crashed", "open"]

REPAIRS = 2
"""Times that a crashed edit may be mended, one after the other."""
CAP = 3
"""Pairs after which an edit within noise is neutral."""
WIDTH = 2.0
"""Standard deviations of the mean difference that are noise."""
GATE = 3.0
"""Noise standard deviations of a secondary metric beyond which its loss outweighs a gain."""
SLOWER = 1.5
"""Times the parent's wall time from which an edit is too slow."""
SLOWER_S = 5.0
"""Seconds that a run must be slower besides: short runs differ by chance."""
COMPANY = 0.5
"""Runs in flight by which two runs may differ to be compared in time."""
REASON_LENGTH = 200
"""Characters of a run's own sentence that a verdict quotes."""
_BAD: frozenset[Outcome] = frozenset({"diverged", "timed_out", "out_of_memory", "rejected"})
_TIMES = "training_time"
"""Start of the names of metrics that the node's own code measures."""

_Runs = dict[tuple[int, int], Iteration]
"""(training seed, simulation seed) -> the run."""


class Judged(Record):
    """What is known of a code edit."""

    node: int
    verdict: Verdict
    provisional: bool = False
    """Whether another pair may change it."""
    n: int = 0
    """Pairs."""
    difference: float | None = None
    """Mean over the pairs of child less parent, larger is better."""
    noise: float | None = None
    """Measured standard deviation of one run; null while it is not measured."""
    wanted: tuple[int, int] | None = None
    """Of an open one: (node to run again on the block's draw, training seed) that makes the next pair; null while
    such a run is under way, and once the node's block is over."""
    sentence: str


# Which nodes


def code_nodes(state: State, block: int | None = None) -> list[Node]:
    """Return the nodes that code edits made, by id; of one block if it is given."""
    return [
        node
        for i, node in sorted(state.nodes.items())
        if block in (None, node.block) and state.iterations[i].proposal.mutation.kind == "code"
    ]


def reference(state: State, node: Node) -> Node | None:
    """Return the node that a code node is compared with, its parent; None for a child of root."""
    return state.nodes[node.parent] if node.parent is not None else None


@per_state
def as_of(state: State, until: int) -> State:
    """Return the state as it was after event `until`, as far as verdicts read it: contract, proposals, ended runs."""
    then = copy.copy(state)
    then.memo, then.contract = {}, _contract_at(state, until)
    then.iterations = {n: _iteration_at(it, until) for n, it in state.iterations.items() if it.seq <= until}
    then.nodes = {n: node for n, node in state.nodes.items() if n in then.iterations}
    known = {idea: [n for n in found if n in then.iterations] for idea, found in state.ideas.items()}
    then.ideas = {idea: found for idea, found in known.items() if found}
    then.fillers = {}
    for it in then.iterations.values():
        if it.proposal.filler:
            then.fillers[it.block] = then.fillers.get(it.block, 0) + 1
    return then


def _iteration_at(it: Iteration, until: int) -> Iteration:
    ended = it.attempts[-1].ended_seq if it.attempts else None
    later = it.final is not None and ended is not None and ended > until
    return dataclasses.replace(it, final=None) if later else it


def _contract_at(state: State, until: int) -> Contract:
    changes = state.amendments
    if not changes or changes[-1][0] <= until:
        return state.contract
    before = [change.contract for seq, change in changes if seq <= until]
    text = before[-1] if before else state.opened.contract if state.opened else {}
    return Contract.model_validate(text) if text else state.contract


# The verdict


def judged(state: State, node: Node, until: int | None = None, metric: str | None = None) -> Judged:
    """Return the verdict on a code node.

    Args:
        state: the fold.
        node: made by a code edit.
        until: only runs that ended up to this sequence number count, as if the journal ended there.
        metric: another one than the primary.
    """
    then = state if until is None or until >= state.seq else as_of(state, until)
    return _judged(then, node.id, metric or then.contract.primary.name)


@per_state
def _judged(state: State, number: int, metric: str) -> Judged:
    node = state.nodes[number]
    origin = reference(state, node)
    mine, theirs = _runs(state, node), _runs(state, origin) if origin is not None else {}
    ended = _ended_badly(state, node, mine, theirs, metric)
    if ended is not None:
        return ended
    if not any(it.final for it in mine.values()):
        return Judged(node=number, verdict="open", provisional=True, sentence="open: its first run has not ended")
    if origin is None:
        told = "open: a child of root has no parent to compare it with"
        return Judged(node=number, verdict="open", provisional=True, sentence=told)
    pairs = [(it, theirs[s]) for s, it in mine.items() if s in theirs and _both(it, theirs[s], metric)]
    if not pairs:
        return _unpaired(state, node, origin, mine, theirs, metric)
    return _Comparison(state, node, origin, pairs, metric).judged(_wanted(state, node, origin, mine, theirs, metric))


def _runs(state: State, node: Node) -> _Runs:
    """Return the runs of a node's idea in its regime, the first of each pair of seeds, open ones included."""
    return _runs_of(state, node.idea, state.regime_name(node.block))


@per_state
def _runs_of(state: State, idea: tuple[str, str], regime: str) -> _Runs:
    found: _Runs = {}
    for i in state.ideas[idea]:
        it = state.iterations[i]
        if state.regime_name(it.block) == regime:
            found.setdefault((it.proposal.training_seed, it.proposal.simulation_seed), it)
    return found


def _both(a: Iteration, b: Iteration, metric: str) -> bool:
    return a.metric(metric).value is not None and b.metric(metric).value is not None


def _ended_badly(state: State, node: Node, mine: _Runs, theirs: _Runs, metric: str) -> Judged | None:
    """Return the verdict by the first run of a code node, on its block's draw, that gave no result; None for none."""
    draw = state.draw(node.block)
    for seeds, it in mine.items():
        final, other = it.final, theirs.get(seeds)
        if final is None or seeds[1] != draw:
            continue
        number = it.proposal.iteration
        if final.outcome == "crashed":
            told = f"crashed: iteration {number}: {_short(final.sentence or final.cause)}"
            return Judged(node=node.id, verdict="crashed", sentence=told)
        if _as_bad(it, other, metric):
            continue
        if final.outcome in _BAD:
            told = f"worse: iteration {number} ended {final.outcome}: {_short(final.sentence or final.cause)}"
            return Judged(node=node.id, verdict="worse", sentence=told)
        if final.outcome == "ok" and it.metric(metric).value is None:
            told = f"worse: iteration {number} gave no {metric} ({_short(it.metric(metric).reason or 'missing')})"
            return Judged(node=node.id, verdict="worse", sentence=told)
    return None


def _as_bad(it: Iteration, other: Iteration | None, metric: str) -> bool:
    """Return whether the parent ended the same way at the same seeds, with no value either."""
    return other is not None and other.outcome == it.outcome and other.metric(metric).value is None


def _short(sentence: str) -> str:
    text = " ".join(sentence.split())
    return text if len(text) <= REASON_LENGTH else text[: REASON_LENGTH - 4].rstrip() + " ..."


def _unpaired(state: State, node: Node, origin: Node, mine: _Runs, theirs: _Runs, metric: str) -> Judged:
    """Return the verdict on a node that has a result where there is no pair yet."""
    values = [v for it in mine.values() if (v := it.metric(metric).value) is not None]
    without = all(it.final is not None and it.metric(metric).value is None for it in theirs.values())
    if values and theirs and without:
        ends = ", ".join(dict.fromkeys(str(it.outcome) for it in theirs.values()))
        told = f"keep (provisional, n=0): {metric} {shown(values[0])} where node {origin.id} has no result ({ends})"
        return Judged(node=node.id, verdict="keep", provisional=True, sentence=told)
    wanted = _wanted(state, node, origin, mine, theirs, metric)
    told = f"open (n=0): no pair with a run of node {origin.id} at the same seeds yet{_next(wanted)}"
    return Judged(node=node.id, verdict="open", provisional=True, wanted=wanted, sentence=told)


def _wanted(state: State, node: Node, origin: Node, mine: _Runs, theirs: _Runs, metric: str) -> tuple[int, int] | None:
    """Return (node, training seed) of the run that makes the next pair; None while one is under way, or too late.

    The child at a seed that the parent has; else the parent at a seed that the child has; else the child at a new one.
    """
    if node.block != state.block:
        return None

    def may(it: Iteration) -> bool:
        return it.final is None or it.metric(metric).value is not None

    if any(s in theirs and may(it) and may(theirs[s]) and not _both(it, theirs[s], metric) for s, it in mine.items()):
        return None
    draw = state.draw(node.block)
    for target, has, lacks in ((node, theirs, mine), (origin, mine, theirs)):
        for seeds, it in has.items():
            if seeds[1] == draw and seeds not in lacks and may(it):
                return target.id, seeds[0]
    return node.id, max(training for training, _ in (*mine, *theirs)) + 1


def _next(wanted: tuple[int, int] | None) -> str:
    return "" if wanted is None else f"; missing for the next pair: node {wanted[0]} at training seed {wanted[1]}"


def shown(value: float, sign: str = "") -> str:
    """Return a metric's value or difference as verdicts print it."""
    return f"{value:{sign}.4f}" if value == 0 or abs(value) >= 1e-3 else f"{value:{sign}.2e}"


@dataclasses.dataclass(frozen=True)
class _Comparison:
    """Pairs of runs of a code node and of the node that it was made from."""

    state: State
    node: Node
    origin: Node
    pairs: list[tuple[Iteration, Iteration]]
    metric: str

    def judged(self, wanted: tuple[int, int] | None) -> Judged:
        """Return the verdict; `wanted` is the run that would make another pair."""
        n, sd = len(self.pairs), noise(self.state, self.metric, self.node.block).sd
        difference = self._gain(self.metric)
        near = abs(difference) <= WIDTH * max(sd or 0.0, LEAST) * math.sqrt(2 / n)
        verdict: Verdict = ("open" if n < CAP else "neutral") if near else "keep" if difference > 0 else "worse"
        told = self._told(difference, sd) + (", within noise" if near else "")
        if verdict == "keep" and (cost := next(self._costs(), None)) is not None:
            verdict, told = "neutral", f"{told}; not kept for that: {cost}"
        provisional = verdict == "open" or n == 1
        wanted = wanted if verdict == "open" else None
        head = f"{verdict} ({'provisional, ' if provisional and verdict != 'open' else ''}n={n})"
        return Judged(
            node=self.node.id,
            verdict=verdict,
            provisional=provisional,
            n=n,
            difference=difference,
            noise=sd,
            wanted=wanted,
            sentence=f"{head}: {told}{_next(wanted)}",
        )

    def _values(self, metric: str) -> tuple[list[float], list[float]]:
        """Return the values of child and parent in the pairs where both have one."""
        both = [(a.metric(metric).value, b.metric(metric).value) for a, b in self.pairs]
        known = [(x, y) for x, y in both if x is not None and y is not None]
        return [x for x, _ in known], [y for _, y in known]

    def _rule(self, metric: str) -> MetricRule:
        known = (m for m in self.state.contract.metrics if m.name == metric)
        return next(known, MetricRule(name=metric, role="secondary"))

    def _gain(self, metric: str) -> float:
        rule, (mine, theirs) = self._rule(metric), self._values(metric)
        return math.fsum(reward(rule, x) - reward(rule, y) for x, y in zip(mine, theirs, strict=True)) / len(mine)

    def _told(self, difference: float, sd: float | None) -> str:
        rule, n = self._rule(self.metric), len(self.pairs)
        a, b = (math.fsum(values) / n for values in self._values(self.metric))
        seeds = "at the same seed" if n == 1 else f"at the same {n} seeds"
        floor = f"noise sd {shown(sd)}" if sd is not None else "noise not measured"
        floor += f" ({LEAST:g} taken)" if sd is None or sd < LEAST else ""
        moved = shown(difference, "+")
        if rule.direction != "max":
            best = "less" if rule.direction == "min" else f"{rule.target or 0.0:g}"
            moved = f"{'worse' if difference < 0 else 'better'} by {shown(abs(difference))} ({best} is best)"
        return f"{self.metric} {shown(a)} against {shown(b)} of node {self.origin.id} {seeds}, {moved}, {floor}"

    def _costs(self) -> Iterator[str]:
        """Yield why a better node is not better in all."""
        for rule in self.state.contract.metrics:
            sd = noise(self.state, rule.name, self.node.block).sd
            if rule.name == self.metric or rule.name.startswith(_TIMES) or not sd or not self._values(rule.name)[0]:
                continue
            lost = -self._gain(rule.name)
            if lost > GATE * sd:
                yield f"{rule.name} got worse by {shown(lost)}, its noise sd is {shown(sd)}"
        slower = self._slower()
        if slower is not None and slower[0] > SLOWER * slower[1] and slower[0] - slower[1] > SLOWER_S:
            a, b = slower
            yield f"its runs take {a / b:.1f} times as long ({a:.0f} s against {b:.0f} s)"

    def _slower(self) -> tuple[float, float] | None:
        """Return mean wall seconds of child and parent over pairs of whole runs with like company; None without one."""
        times = []
        for pair in self.pairs:
            a, b = (it.final for it in pair)
            whole = all(it.attempts[-1].resumes is None for it in pair)
            if whole and a and b and b.seconds > 0 and _like_company(a, b):
                times.append((a.seconds, b.seconds))
        if not times:
            return None
        return math.fsum(a for a, _ in times) / len(times), math.fsum(b for _, b in times) / len(times)


def _like_company(a: RunEnded, b: RunEnded) -> bool:
    """Return whether about as many runs were in flight beside two runs; where it is not known, they were not."""
    return a.in_flight is not None and b.in_flight is not None and abs(a.in_flight - b.in_flight) <= COMPANY


# Repairs and repeats


def chain(state: State, iteration: int) -> tuple[int, ...]:
    """Return a chain of repairs up to an iteration, the first edit first."""
    found = [iteration]
    while (code := state.iterations[found[0]].proposal.mutation.code) is not None and code.repairs is not None:
        if not code.repairs < found[0] or code.repairs not in state.iterations:
            break
        found.insert(0, code.repairs)
    return tuple(found)


def root_of(state: State, iteration: int) -> int:
    """Return the first iteration of a chain of repairs."""
    return chain(state, iteration)[0]


def repairs_left(state: State, iteration: int) -> int:
    """Return how often the edit of an iteration may still be mended, this one's own crash included."""
    return max(0, REPAIRS - len(chain(state, iteration)) + 1)


def repaired_by(state: State, iteration: int) -> int | None:
    """Return the iteration that mends a crashed one, or None."""
    for node in code_nodes(state):
        code = state.iterations[node.id].proposal.mutation.code
        if code is not None and code.repairs == iteration:
            return node.id
    return None


def awaiting_repair(state: State) -> list[Iteration]:
    """Return the crashed edits of the block in progress that may still be mended, oldest first.

    Of a chain only its end. A new edit that is proposed after the crash gives it up.
    """
    found = []
    for it in (state.iterations[node.id] for node in code_nodes(state, state.block)):
        if it.outcome == "crashed" and repairs_left(state, it.proposal.iteration) and not _left_behind(state, it):
            found.append(it)
    return found


def _left_behind(state: State, crashed: Iteration) -> bool:
    """Return whether a crashed edit was mended, or given up for a new one."""
    ended = crashed.attempts[-1].ended_seq or 0
    for node in code_nodes(state, crashed.block):
        other = state.iterations[node.id]
        code = other.proposal.mutation.code
        mends = code.repairs if code is not None else None
        if mends == crashed.proposal.iteration or (mends is None and other.seq > ended):
            return True
    return False


def falsified(state: State) -> list[Node]:
    """Return the code nodes that are worse, or crashed for good, by id."""
    waiting = {it.node for it in awaiting_repair(state)}
    return [
        node
        for node in code_nodes(state)
        if node.id not in waiting and judged(state, node).verdict in ("worse", "crashed")
    ]


def repeat(state: State, change_sha: str, parent: int | None, block: int) -> str | None:
    """Return why an edit (`CodeChange.sha`) need not be tried again in a block's regime, or None.

    The newest decided trial of the same edit says so: it was worse, or it crashed for good.
    """
    regime = state.regime_name(block)
    fallen = {node.id for node in falsified(state)}
    for node in reversed(code_nodes(state)):
        code = state.iterations[node.id].proposal.mutation.code
        if code is None or code.sha != change_sha or state.regime_name(node.block) != regime:
            continue
        found = judged(state, node)
        if node.id in fallen:
            there = "root" if node.parent is None else f"node {node.parent}"
            where = "" if node.parent == parent else f" on {there}"
            return f"the same edit was tried{where}: node {node.id} is {found.sentence}"
        if found.verdict in ("keep", "neutral"):
            return None
    return None
