"""The end of a block: a summary from records, the seed's compulsory rule edit, and what the next block is for.

Which values the keys take that change between blocks is `scientist.block_values`' rule.

The self-check of the seed documents, each with the row that answers it:

- branching rate below 20 %: `explore` is added, or needs one success less;
- improvement rate below 30 %: `exploit-tighten` is added, or holds from a higher rate on;
- a plateau of three iterations or more: `forced-branch` is added, or its tolerance is set to three noise standard
  deviations (at least 0.003, rounded up to two digits), or, where it is that already or noise is not measured, it needs
  an idea less;
- more than four consecutive mutations of one key: `switch-dimension` is added, or needs one mutation less.

When none of the four changes anything, the one edit is forced-branch's tolerance; when noise is not measured, or the
tolerance is right already, the wording of `exploit`: the key that gained most comes first. An instruction without a
strategy table has nothing to edit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from orchestrator.core import block_keys, strategy, tree
from orchestrator.core.contract import StrategyRule
from orchestrator.core.mutation import number
from orchestrator.core.records import Boundary, Change, RuleEdit
from orchestrator.core.scene import LEAST, Scene
from orchestrator.core.state import State
from orchestrator.core.stats import noise, summarise
from orchestrator.core.strategy_kinds import kind_of
from orchestrator.core.strategy_predicates import key_of, listed, measured
from orchestrator.core.strategy_rows import MAX_ROWS, read_row
from orchestrator.scientist import block_values
from orchestrator.scientist.learned import short, steps

LOW_BRANCHING = 0.2
LOW_IMPROVEMENT = 0.3
LONG_STREAK = 4
PLATEAU = 3
LEAST_COUNT = 2
"""No row is changed to hold after fewer runs."""
WIDEST = 0.05
"""Largest tolerance of a plateau where the instruction states none."""
FOCUS_KEYS = 3
"""Keys of the next block's focus when the block plan names none."""


def boundary(state: State) -> Boundary | None:
    """Return the end of the block that is complete and not ended yet, or None."""
    block = state.closing
    if block is None:
        return None
    regime = next_regime(state)
    focus, keys = _focus(state, block + 1)
    values, why = block_values.next_values(state, regime)
    changes, why = block_values.at_pace(state, regime, values, why)
    return Boundary(
        block=block,
        summary=tuple(_summary(state, block)),
        rules=tuple(rule_edits(state, block)),
        regime=regime,
        focus=focus,
        focus_keys=keys,
        changes=changes,
        changes_reason=why,
        hypothesis=_hypothesis(state, block, regime, keys, values),
    )


# Summary


def _summary(state: State, block: int) -> Iterator[str]:
    leader, name = tree.best(state, block), state.contract.primary.name
    branching, improvement = strategy.rates(state, block)
    rates = f"branching rate {_share(branching)}, improvement rate {_share(improvement)}"
    if leader is None:
        yield f"No run of block {block} gave a {name}."
    else:
        found = summarise(state, leader, name)
        error = "" if found.standard_error is None else f", se {found.standard_error:.4f}"
        yield f"Best: node {leader.id}, {name} {found.mean:.4f} (n={found.n}{error}); {rates}."
    floor = 3 * Scene(state, block).floor()
    moved = sorted((s for s in steps(state, block) if s.gain > floor), key=lambda s: (-s.gain, s.node))[:4]
    texts = []
    for step in moved:
        values = f"{number(step.change.old)} -> {number(step.change.new)} {step.difference:+.4f}"
        beside = f", with {step.beside}" if step.beside else ""
        texts.append(f"{short(state, step.change.key)} {values} (iter {step.node}{beside})")
    yield (
        f"Moved it by more than three noise standard deviations ({floor:.4f}): " + ("; ".join(texts) or "nothing") + "."
    )
    failed = [it for it in Scene(state, block).iterations if it.outcome not in ("ok", None)]
    stale = strategy.stale(state)
    parts = [f"failed: {', '.join(f'iter {it.proposal.iteration} ({it.outcome})' for it in failed)}"] if failed else []
    if stale:
        parts.append(f"never triggered in {strategy.STALE_BLOCKS} blocks, proposed for removal: {', '.join(stale)}")
    if parts:
        text = "; ".join(parts)
        yield f"{text[0].upper()}{text[1:]}."


def _share(rate: float | None) -> str:
    return "n/a" if rate is None else f"{rate:.0%}"


# Rule edits


def rule_edits(state: State, block: int) -> list[RuleEdit]:
    """Return the compulsory edits of the strategy table; empty when the instruction has none."""
    if not state.contract.strategies:
        return []
    removed = _removals(state)
    room = MAX_ROWS - len(state.strategies) + len(removed)
    for edits in (list(_self_check(state, block)), _one_edit(state, block)):
        made = [e for e in edits if e is not None]
        added = [e for e in made if e.op == "add"][:room]
        made = [e for e in made if e.op != "add" or e in added]
        if made:
            return [*removed, *made]
    return removed


def _removals(state: State) -> list[RuleEdit]:
    """Return the removal of rows that never trigger, only where the table is full."""
    if len(state.strategies) < MAX_ROWS:
        return []
    reason = f"never triggered in the last {strategy.STALE_BLOCKS} blocks, and the table is full ({MAX_ROWS} rows)"
    return [RuleEdit(op="remove", strategy=name, reason=reason) for name in strategy.stale(state)]


def _self_check(state: State, block: int) -> Iterator[RuleEdit | None]:
    scene = Scene(state, block)
    branching, improvement = strategy.rates(state, block)
    if branching is not None and branching < LOW_BRANCHING:
        reason = f"branching rate {branching:.0%} in block {block} (below {LOW_BRANCHING:.0%})"
        yield _explore(state, reason)
    if improvement is not None and improvement < LOW_IMPROVEMENT:
        reason = f"improvement rate {improvement:.0%} in block {block} (below {LOW_IMPROVEMENT:.0%})"
        yield _tighten(state, reason)
    flat = _longest_plateau(state, scene)
    if len(flat) >= PLATEAU:
        reason = f"plateau of {len(flat)} ideas in block {block}: iterations {listed(flat)}"
        yield _branch(state, block, reason)
    same = _longest_streak(scene)
    if len(same) > LONG_STREAK:
        reason = f"iterations {listed(same)} of block {block} all changed one key"
        yield _switch(state, reason)


def _row(state: State, name: str) -> StrategyRule | None:
    """Return the row of a kind, under whichever name the table has it."""
    for row in state.strategies:
        kind = kind_of(row.name, row.condition)
        if kind is not None and kind.names[0] == name:
            return row
    return None


def _add(name: str, condition: str, action: str, reason: str) -> RuleEdit:
    return RuleEdit(op="add", strategy=name, condition=condition, action=action, reason=reason)


def _change(row: StrategyRule, condition: str, reason: str) -> RuleEdit | None:
    """Return a change of a row's condition, or None when it reads the same numbers as before."""
    if read_row(row.name, condition, row.action).numbers == row.numbers:
        return None
    return RuleEdit(op="change", strategy=row.name, condition=condition, action=row.action, reason=reason)


def _explore(state: State, reason: str) -> RuleEdit | None:
    row = _row(state, "explore")
    if row is None:
        return _add("explore", "n_iter_block/4 consecutive successes", "Select a node outside the recent chain", reason)
    share = math.ceil(row.numbers.get("block_fraction", 0.25) * state.n_iter_block)
    now = int(row.numbers.get("count", max(1, share)))
    if now <= LEAST_COUNT:
        return None
    level = "successes" if "at_least" not in row.numbers else f"{row.metric or 'R2'} >= {row.numbers['at_least']:g}"
    return _change(row, f"{now - 1}+ consecutive {level}", f"{reason}: one success less is waited for")


def _tighten(state: State, reason: str) -> RuleEdit | None:
    row = _row(state, "exploit-tighten")
    action = "Keep the best config, mutate secondary keys in small steps"
    if row is None:
        return _add("exploit-tighten", "improvement rate < 30% in block", action, reason)
    below = min(0.8, row.numbers["below"] + 0.1)
    return _change(row, f"improvement rate < {below:.0%} in block", f"{reason}: exploitation starts at a higher rate")


def _branch(state: State, block: int, reason: str) -> RuleEdit | None:
    row = _row(state, "forced-branch")
    if row is None:
        sd = noise(state, state.contract.primary.name, block).sd
        within = WIDEST if sd is None else min(strategy.three_sd(max(sd, LEAST)), WIDEST)
        return _add(
            "forced-branch", f"R2 within {within:g} for 3+ iterations", "Second-highest UCB, another key", reason
        )
    kind = kind_of(row.name, row.condition)
    if kind is not None and kind.variant == "converged":
        below = min(0.5, row.numbers["below"] + 0.1)
        text = f"{row.numbers['converged']:.0%} convergence, branching<{below:.0%}"
        return _change(row, text, f"{reason}: branching is forced at a higher rate")
    changed = _tolerance(state, block, row, reason)
    count = int(row.numbers["count"])
    if changed is not None or count <= LEAST_COUNT:
        return changed
    text = f"{row.metric or 'R2'} within {row.numbers['within']:g} for {count - 1}+ iterations"
    return _change(row, text, f"{reason}: one idea less is waited for")


def _tolerance(state: State, block: int, row: StrategyRule, reason: str) -> RuleEdit | None:
    """Return forced-branch with a tolerance of three noise sd, or None when noise is unknown or it is that already."""
    name = row.metric or state.contract.primary.name
    found = noise(state, name, block)
    if found.sd is None or "within" not in row.numbers:
        return None
    within = strategy.three_sd(max(found.sd, LEAST))
    if within > _widest(state, row):
        return None
    text = f"{row.metric or 'R2'} within {within:g} for {int(row.numbers['count'])}+ iterations"
    told = (
        f"three noise standard deviations of {name}, at least {3 * LEAST:g}, are {within:g} (sd {found.sd:.2g}, "
        f"{found.degrees} d.o.f.)"
    )
    return _change(row, text, f"{reason}; {told}" if reason else told)


def _widest(state: State, row: StrategyRule) -> float:
    """Return the tolerance that the instruction itself gives a row: noise may tighten it, never loosen it beyond.

    Three sd of a config that one training seed in three does not find are wider than any plateau.
    """
    own = next((r for r in state.contract.strategies if r.name == row.name), None)
    return own.numbers.get("within", WIDEST) if own is not None else WIDEST


def _switch(state: State, reason: str) -> RuleEdit | None:
    row = _row(state, "switch-dimension")
    if row is None:
        return _add("switch-dimension", "4+ consecutive mutations of one key", "Change another key", reason)
    now = int(row.numbers["count"])
    if now <= LEAST_COUNT:
        return None
    return _change(row, f"{now - 1}+ consecutive mutations of one key", f"{reason}: one mutation less is waited for")


def _one_edit(state: State, block: int) -> list[RuleEdit]:
    """Return the one edit of a block whose self-check changes nothing."""
    row = _row(state, "forced-branch")
    made = _tolerance(state, block, row, "") if row is not None else None
    return [made or _exploit(state, block)]


def _exploit(state: State, block: int) -> RuleEdit:
    row = _row(state, "exploit")
    gained = max(steps(state, block), key=lambda s: (s.gain, -s.node), default=None)
    if gained is None or gained.gain <= 0:
        first, reason = "", f"no change of block {block} gained anything"
    else:
        key = short(state, gained.change.key)
        first = f"; {key} first (block {block})"
        reason = f"{key} gained most in block {block}: {gained.difference:+.4f} (iter {gained.node})"
    if row is None:
        return _add("exploit", "Default", f"Highest UCB node{first}", reason)
    plain = re.sub(r"; \w+ first \(block \d+\)| \(kept after block \d+\)", "", row.action)
    action = f"{plain}{first}" if first else f"{plain} (kept after block {block})"
    return RuleEdit(op="change", strategy=row.name, condition=row.condition, action=action, reason=reason)


def _longest_plateau(state: State, scene: Scene) -> list[int]:
    row = _row(state, "forced-branch")
    if row is None or "within" not in row.numbers:
        row = read_row("forced-branch", "R2 within 0.05 for 3+ iterations", "")
    found, best = measured(scene, row), list[int]()
    start = 0
    for end in range(len(found)):
        while (
            max(v for _, v in found[start : end + 1]) - min(v for _, v in found[start : end + 1])
            > row.numbers["within"]
        ):
            start += 1
        if end - start + 1 > len(best):
            best = [it.proposal.iteration for it, _ in found[start : end + 1]]
    return best


def _longest_streak(scene: Scene) -> list[int]:
    best, run, key = list[int](), list[int](), None
    for it in scene.mutations:
        run = [*run, it.proposal.iteration] if key_of(it) is not None and key_of(it) == key else [it.proposal.iteration]
        key = key_of(it)
        best = run if key is not None and len(run) > len(best) else best
    return best


# The next block


def next_regime(state: State) -> str:
    """Return the next block's regime: one that the user asks for and no block had, else the next one declared."""
    regimes = [r.name for r in state.contract.regimes]
    if not regimes or state.closing is None:
        return ""
    had = {state.regime_name(b) for b in range(1, state.closing + 1)}
    asked = [n for item in state.contract.user_instructions for n in item.regimes if n in regimes and n not in had]
    if asked:
        return asked[0]
    return regimes[(regimes.index(state.regime_name(state.closing)) + 1) % len(regimes)]


def _focus(state: State, block: int) -> tuple[str, tuple[str, ...]]:
    """Return the focus of a block in words, and the keys that it names."""
    plan = state.contract.block_focus
    text = plan[min(block, len(plan)) - 1] if plan else ""
    free = [k for k in state.contract.keys if k.level == "free" and not k.exempt]
    words = re.findall(r"\w+", text)
    at = {k.key: next((i for i, w in enumerate(words) if w in (k.short, k.key.split(".")[-1])), None) for k in free}
    named = sorted((i, key) for key, i in at.items() if i is not None)
    if named:
        return text, tuple(key for _, key in named)
    trials = {k.key: 0 for k in free}
    for it in state.iterations.values():
        for change in state.contract.explored(it.proposal.mutation):
            trials[change.key] = trials.get(change.key, 0) + 1
    order = [*state.contract.order, *trials]
    fewest = tuple(sorted((k.key for k in free), key=lambda k: (trials[k], order.index(k)))[:FOCUS_KEYS])
    said = "keys with the fewest trials: " + ", ".join(short(state, k) for k in fewest)
    return (f"{text} ({said})" if text else said), fewest


def _oracle(state: State, block: int) -> float | None:
    """Return what the true parameters score on the primary metric in a block's data, if the preflight measured it."""
    name, draw = state.regime_name(block), state.draw(block)
    found = next((r for r in state.regimes if r.regime_name == name and r.simulation_seed in (draw, None)), None)
    value = (found.preflight.get("oracle") or {}).get(state.contract.primary.name) if found is not None else None
    return float(value) if isinstance(value, int | float) else None


def _hypothesis(state: State, block: int, regime: str, keys: tuple[str, ...], changes: tuple[Change, ...]) -> str:
    """Return one sentence that the next block can refute."""
    rule = state.contract.primary
    leader = tree.best_in_regime(state, regime) or tree.best(state, block)  # as `tree.carried` will choose
    mean = summarise(state, leader, rule.name).mean if leader else None
    values = block_keys.told(state.contract, {change.key: change.new for change in changes})
    at = f"with {values} " if values else ""
    if leader is None or mean is None:
        return f"{at}some config of block {block + 1} gives a {rule.name} at all"
    level = next((c for c in state.contract.verdicts[0].conditions if c.metric == rule.name), None)
    carried = f"carried into regime {regime}, " if regime and regime != state.regime_name(leader.block) else ""
    if carried or at:
        bound = f"{level.op} {level.value:g}" if level else f"within 0.05 of {mean:.4f}"
        return f"{carried}{at}the config of node {leader.id} gives {rule.name} {bound}"
    step = max(3 * Scene(state, block).floor(), 0.0)
    best = _oracle(state, leader.block)
    if best is not None and rule.direction == "max" and mean + step >= best:
        return f"{rule.name} of node {leader.id} ({mean:.4f}) stays within {step:.4f} of the {best:g} of the truth"
    names = " or ".join(short(state, k) for k in keys[:FOCUS_KEYS]) or "another key"
    sign = -1.0 if rule.direction == "min" else 1.0
    side = "below" if rule.direction == "min" else "above"
    if rule.direction == "target":
        return (
            f"changing {names} brings {rule.name} of node {leader.id} ({mean:.4f}) {step:.4f} nearer to {rule.target}"
        )
    return f"changing {names} brings {rule.name} of node {leader.id} ({mean:.4f}) {side} {mean + sign * step:.4f}"
