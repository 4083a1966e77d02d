"""What the finished runs show, in words made from records: observations, principles, answers to user instructions."""

from __future__ import annotations

import re
from collections.abc import Iterator

from orchestrator.core import block_keys, configs, edits, pace, tree
from orchestrator.core.contract import KeyRule, UserInstruction
from orchestrator.core.mutation import number
from orchestrator.core.records import Change, Principle, Record, Reflection, canonical
from orchestrator.core.scene import LEAST, Scene
from orchestrator.core.state import Iteration, State
from orchestrator.core.stats import noise, summarise
from orchestrator.formats.entry import idle_text
from orchestrator.scientist.desk import named_keys, stated_values

MAX_PRINCIPLES = 12


class Step(Record):
    """A one-key mutation whose node and parent both have a result."""

    node: int
    change: Change
    difference: float
    """Mean of the primary metric less the parent's, as measured."""
    gain: float
    """The same as a reward: larger is better."""
    beside: str = ""
    """What changed beside the key, for the training's time; "" for nothing: its effect is its own."""


def steps(state: State, block: int) -> list[Step]:
    """Return the one-key steps of a block, by iteration."""
    scene, found = Scene(state, block), []
    for node in scene.nodes:
        changes, gain = state.iterations[node.id].changes, scene.gain(node)
        origin = scene.origin(node)
        if len(changes) == 1 and gain is not None and origin is not None:
            mine, theirs = scene.mean(node) or 0.0, scene.mean(origin) or 0.0
            beside = companion(state, state.iterations[node.id])
            found.append(Step(node=node.id, change=changes[0], difference=mine - theirs, gain=gain, beside=beside))
    return found


def companion(state: State, it: Iteration) -> str:
    """Return the change of the budget that a proposal has beside its key, in words; "" for none."""
    beside = [c for c in it.proposal.mutation.changes if c not in it.changes] if it.changes else []
    return ", ".join(f"{short(state, c.key)} {number(c.old)} -> {number(c.new)}" for c in beside)


def short(state: State, key: str) -> str:
    """Return the short name of a key."""
    rule = state.contract.key(key)
    return rule.short if rule else key


# Observations


def reflect(state: State, it: Iteration, leader: int | None) -> Reflection:
    """Return what is said about a finished iteration."""
    return Reflection(iteration=it.proposal.iteration, observation=_observe(state, it), next_parent=leader)


def _observe(state: State, it: Iteration) -> str:
    rule, final = state.contract.primary, it.final
    metric = it.metric(rule.name)
    if metric.value is None:
        why = final.sentence if final and final.outcome != "ok" else f"{rule.name} is {metric.reason}"
        return f"no result to compare: {why}"
    text = f"{rule.name} {metric.value:.4f}"
    if it.proposal.mutation.kind == "replicate":
        return f"{text}{_another_run(state, it)}"
    if it.proposal.mutation.kind == "code":  # compared with its parent's run at the same seeds, not with its mean
        return f"{text}; by its pair with the parent {edits.judged(state, state.nodes[it.node]).sentence}"
    parent = Scene(state, it.block).origin(state.nodes[it.node])
    theirs = summarise(state, parent, rule.name).mean if parent else None
    if parent is None or theirs is None:
        return f"{text}; nothing to compare with yet"
    gain = metric.value - theirs
    kin = "parent" if it.proposal.parent is not None else "the baseline, node"
    beside = companion(state, it)
    causes = f"; {beside} had a part in it" if beside else ""
    return f"{text} against {theirs:.4f} of {kin} {parent.id}: {gain:+.4f}, {_judge(state, gain, it.block)}{causes}"


def _another_run(state: State, it: Iteration) -> str:
    node = state.nodes[it.node]
    summary = summarise(state, node, state.contract.primary.name)
    shown = "no result" if summary.mean is None else f"{summary.mean:.4f} over {summary.n} runs"
    if it.proposal.simulation_seed != state.draw(it.block):
        return f" on draw {it.proposal.simulation_seed}; node {it.node} on the block's own draw: {shown}"
    return f"; node {it.node} now {shown} ({_floor(state, it.block)})"


def _judge(state: State, gain: float, block: int) -> str:
    sd = noise(state, state.contract.primary.name, block).sd
    if sd is None:
        return "noise not measured yet"
    return f"{'beyond' if abs(gain) > 3 * sd else 'within'} three noise standard deviations ({_floor(state, block)})"


def _floor(state: State, block: int | None = None) -> str:
    floor = noise(state, state.contract.primary.name, block)
    return "noise not measured yet" if floor.sd is None else f"noise sd {floor.sd:.4f}, {floor.degrees} d.o.f."


def emerging(state: State) -> Iterator[str]:
    """Yield what the block in progress shows, a line each."""
    leader, rule = tree.best(state), state.contract.primary
    if leader is not None:
        summary = summarise(state, leader, rule.name)
        where = f" in {state.regime_name(leader.block)}" if state.contract.regimes else ""
        yield f"Best so far{where}: node {leader.id}, {rule.name} {summary.mean:.4f} (n={summary.n}); {_floor(state)}"
    shown: dict[str, list[str]] = {}
    for step in steps(state, state.block_of(max(state.last_iteration, 1))):
        beside = f" with {step.beside}" if step.beside else ""
        text = (
            f"{number(step.change.old)} -> {number(step.change.new)}{beside}: {step.difference:+.4f} (iter {step.node})"
        )
        shown.setdefault(short(state, step.change.key), []).append(text)
    for key, texts in sorted(shown.items()):
        yield f"{key}: " + "; ".join(texts) + "."
    last = next((it for it in reversed(state.done) if it.outcome == "ok" and it.final), None)
    if last is not None and last.final is not None and (idle := idle_text(state.contract, last.final)):
        yield f"Could not act in iter {last.proposal.iteration}: {idle}."


# Principles


class Known(Record):
    """A principle with the move that it is about."""

    principle: Principle
    key: str
    direction: str
    """As `direction` words it."""
    raises: bool
    """Whether the primary metric rises by it."""
    size: float
    """Mean difference of the supporting steps."""


def principles(state: State) -> tuple[Principle, ...]:
    """Return the principles of `known`."""
    return tuple(k.principle for k in known(state))


def known(state: State) -> tuple[Known, ...]:
    """Return what one-key steps showed beyond noise, regime by regime: the established ones first, at most 12.

    A step whose budget changed with it has two causes and supports nothing.

    A principle says that a key, moved one way, moves the primary metric one way. It is established when
    `principle_support` iterations support it and none contradicts it. Where noise was not measured nothing is beyond
    it, so such a regime gives none. Cost: all iterations.
    """
    groups: dict[tuple[str, str, str], list[tuple[Step, float]]] = {}
    floors: dict[str, float | None] = {}
    for block in range(1, state.block + 1):
        regime = state.regime_name(block)
        if regime not in floors:
            floors[regime] = noise(state, state.contract.primary.name, block).sd
        sd = floors[regime]
        if sd is not None:
            for step in (s for s in steps(state, block) if not s.beside):
                key = (regime, step.change.key, direction(step.change))
                groups.setdefault(key, []).append((step, max(sd, LEAST)))
    found = [k for group, members in groups.items() if (k := _known(state, group, members)) is not None]

    def rank(entry: Known) -> tuple[bool, int, float, str]:
        principle = entry.principle
        established = len(principle.support) >= state.contract.principle_support and not principle.against
        return not established, -len(principle.support), -entry.size, principle.text

    return tuple(sorted(found, key=rank)[:MAX_PRINCIPLES])


def direction(change: Change) -> str:
    """Return which way a change goes: `up`, `down`, or `= value` for what has no order."""
    if isinstance(change.new, bool | str) or not isinstance(change.new, int | float):
        return f"= {number(change.new)}"
    return "up" if change.new > change.old else "down"


def _known(state: State, group: tuple[str, str, str], members: list[tuple[Step, float]]) -> Known | None:
    regime, key, way = group
    raised = [s for s, floor in members if s.difference > floor]
    lowered = [s for s, floor in members if s.difference < -floor]
    support, against = (raised, lowered) if len(raised) >= len(lowered) else (lowered, raised)
    if not support:
        return None
    told = way
    if way in ("up", "down"):
        olds, news = [s.change.old for s in support], [s.change.new for s in support]
        ends = (min(olds), max(news)) if way == "up" else (max(olds), min(news))
        told = f"{way} from {number(ends[0])} to {number(ends[1])}"
    verb = "raises" if support is raised else "lowers"
    shown = ", ".join(f"{s.difference:+.4f}" for s in support[:5]) + (", ..." if len(support) > 5 else "")
    text = f"{short(state, key)} {told} {verb} {state.contract.primary.name} ({shown})"
    size = sum(abs(s.difference) for s in support) / len(support)
    ids = tuple(s.node for s in support), tuple(s.node for s in against)
    principle = Principle(text=text, regime=regime, support=ids[0], against=ids[1])
    return Known(principle=principle, key=key, direction=way, raises=support is raised, size=size)


# User instructions


def acknowledged(state: State) -> tuple[str, ...]:
    """Return, for each user instruction, one sentence that says how it is honoured."""
    return tuple(_acknowledge(state, item) for item in state.contract.user_instructions)


def _between(state: State, key: str, value: object) -> str:
    """Return how a value of a key that changes between blocks is honoured."""
    name = block_keys.told(state.contract, {key: value})
    had = [b for b in block_keys.begun(state) if canonical(state.value_in(b, key)) == canonical(value)]
    next_ = state.set_since(state.block - 1, state.block).get(key)
    if not had and next_ is not None and canonical(next_) == canonical(value):
        had = [state.block]
    return f"{name} is that of block {had[-1]}" if had else f"{name} is taken at a block's end"


_APART = re.compile(r"\b(apart|partition\w*|separate\w*)\b", re.I)


def _acknowledge(state: State, item: UserInstruction) -> str:
    said = []
    for name in item.regimes:
        blocks = [b for b in range(1, state.block + 1) if state.regime_name(b) == name]
        said.append(
            f"regime {name} is that of block {blocks[-1]}" if blocks else f"regime {name} is taken at a block end"
        )
    if item.undeclared:
        values = ", ".join(item.undeclared)
        said.append(f"{values}: no declared regime and no key holds it; declare a regime in exploration.yaml")
    if item.regimes and _APART.search(item.text):
        said = ["principles, best configurations, noise and tables of memory.md stand apart by regime"]
    said += [_between(state, key, value) for key, values in item.between.items() for value in values]
    for key in named_keys(state, item):
        said.append(f"{key.short} is free ({_bounds(key.low, key.high, key.allowed)}) and comes first")
        said += _limited(state, item, key)
    if not said:
        return "kept for readers; the offline scientist acts on keys, ranges and regimes only"
    return "; ".join(said)


def _limited(state: State, item: UserInstruction, rule: KeyRule) -> Iterator[str]:
    """Yield what becomes of each asked value that no node had and that would pass the time limit."""
    best, budget = tree.best(state, state.block), pace.budget_key(state.contract)
    had = {canonical(configs.get(n.config, rule.key)) for n in state.nodes.values()}
    for value in stated_values(item, rule) if best is not None else ():
        assert best is not None
        over = pace.over_limit(state, configs.with_values(best.config, {rule.key: value}), state.block, best.code)
        if over is None or canonical(value) in had:
            continue
        told = f"{rule.short}={number(value)} would take {pace.shown(over.minutes)} min, limit {pace.shown(over.limit)}"
        if over.fits is None or budget is None:
            yield f"{told}: no budget keeps it, so it is not run"
        elif budget.key == rule.key:
            yield f"{told}: at most {number(over.fits)} fits"
        else:
            yield f"{told}: it runs with {budget.short}={number(over.fits)}"


def _bounds(low: float | None, high: float | None, allowed: tuple[object, ...]) -> str:
    if allowed:
        return ", ".join(number(v) for v in allowed)
    if low is None and high is None:
        return "any value"
    return f"{'-inf' if low is None else number(low)} to {'inf' if high is None else number(high)}"
