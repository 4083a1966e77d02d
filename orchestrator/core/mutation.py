"""Check a proposal against the contract; print and spell mutations.

Every refusal says what was refused, the rule, and the nearest valid thing (it is shown to the scientist).
"""

from __future__ import annotations

import difflib
import math
from typing import Any

from orchestrator.core import code_rules, configs, pace
from orchestrator.core.contract import Contract, KeyRule, Step
from orchestrator.core.records import Change, Config, Mutation, Proposal, canonical
from orchestrator.core.state import State
from orchestrator.errors import RefusedError


def number(value: Any) -> str:
    """Return a value as log lines spell it: `3E-3`, `8`, `True`, `10000`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if not math.isfinite(value):
        return str(value)
    if isinstance(value, int) or value == 0 or (value == int(value) and 1 <= abs(value) < 1e6):
        return str(int(value))
    if 0.1 <= abs(value) < 1e6:
        return f"{value:.4g}"
    mantissa, exponent = f"{value:.2E}".split("E")
    return f"{float(mantissa):g}E{int(exponent)}"


def steps_text(steps: tuple[Step, ...]) -> str:
    """Return the sizes of a key's mutations as instructions list them: `x2 or /2`, `+128 or -128`."""
    said = []
    for step in steps:
        if step.op == "+":
            said.append(f"{'-' if step.value < 0 else '+'}{number(abs(step.value))}")
        elif step.value < 1:
            said.append(min(f"/{number(1 / step.value)}", f"x{number(step.value)}", key=len))
        else:
            said.append(f"x{number(step.value)}")
    return " or ".join(said)


def describe(contract: Contract, mutation: Mutation) -> str:
    """Return the text of a `Mutation:` line."""
    if mutation.kind == "replicate":
        return f"none (replicate of {mutation.replicate_of})"
    if mutation.kind == "baseline":
        return "none (baseline)"
    if mutation.code is not None:
        units = dict.fromkeys(e.unit if e.unit != "(module)" else f"{e.path} (module)" for e in mutation.code.edits)
        told = f"[code] {', '.join(units)}: {mutation.code.change}"
        return " ".join("".join(c if c.isprintable() else " " for c in told).split())  # a model wrote it
    parts = []
    for change in mutation.changes:
        rule = contract.key(change.key)
        parts.append(f"{rule.short if rule else change.key}: {number(change.old)} -> {number(change.new)}")
    parts[-1:] = [f"{part} (to keep the time limit)" if mutation.fitted else part for part in parts[-1:]]
    second = mutation.second_parent
    return ", ".join(parts) + (f" (recombined with node {second})" if second is not None else "")


def check_value(rule: KeyRule, value: Any) -> None:
    """Raise RefusedError unless `value` has the key's type and lies within its bounds."""
    kinds: dict[str, tuple[type, ...]] = {
        "int": (int,), "float": (int, float), "bool": (bool,), "str": (str,), "list": (list,)
    }  # fmt: skip
    bad_type = not isinstance(value, kinds[rule.type]) or (isinstance(value, bool) and rule.type != "bool")
    if bad_type:
        raise RefusedError(f"{rule.key} = {value!r} refused: it is of type {rule.type}; now {rule.start!r}")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise RefusedError(f"{rule.key} refused: a whole number of {value.bit_length()} bits; at most 63 are read back")
    if rule.allowed and value not in rule.allowed:
        raise RefusedError(f"{rule.key} = {number(value)} refused: allowed values are {_listed(rule.allowed)}")
    if rule.type in ("int", "float"):
        if rule.low is not None and not value >= rule.low:
            raise RefusedError(_out_of_range(rule, value, rule.low))
        if rule.high is not None and not value <= rule.high:
            raise RefusedError(_out_of_range(rule, value, rule.high))
        if not math.isfinite(value):
            raise RefusedError(f"{rule.key} = {value} refused: it is no finite number")


def _out_of_range(rule: KeyRule, value: Any, nearest: float) -> str:
    low = "-inf" if rule.low is None else number(rule.low)
    high = "inf" if rule.high is None else number(rule.high)
    return f"{rule.key} = {number(value)} refused: range {low} to {high} ({rule.source}); nearest: {number(nearest)}"


def _listed(items: tuple[Any, ...] | list[str]) -> str:
    return ", ".join(number(i) for i in items)


def check_change(contract: Contract, change: Change) -> None:
    """Raise RefusedError unless one change is of a free key, within bounds, and does something."""
    rule = contract.key(change.key)
    free = [k.key for k in contract.keys if k.level == "free"]
    if rule is None:
        near = difflib.get_close_matches(change.key, free, n=3, cutoff=0.3) or free
        raise RefusedError(f"{change.key} refused: no such key; nearest: {_listed(near)}")
    if rule.level != "free":
        between = "changes only between blocks: at the end of a block (`changes` of the block's end)"
        why = "is frozen" if rule.level == "frozen" else between
        raise RefusedError(f"{rule.key} refused: it {why} ({rule.source}); free keys: {_listed(free)}")
    check_value(rule, change.new)
    if canonical(change.old) == canonical(change.new):
        raise RefusedError(f"{rule.key} = {number(change.new)} refused: that is its value already")


def check(state: State, proposal: Proposal, earlier: tuple[Proposal, ...] = ()) -> None:
    """Raise RefusedError unless the proposal, after `earlier` ones of its turn, keeps every rule of the contract."""
    mutation, contract = proposal.mutation, state.contract
    expected = state.last_iteration + len(earlier) + 1
    if proposal.iteration != expected:
        raise RefusedError(f"iteration {proposal.iteration} refused: the next one is {expected}")
    _check_lineage(state, proposal)
    _check_base(state, proposal)
    code_rules.check(state, proposal, earlier)
    for change in mutation.changes:
        check_change(contract, change)
    _check_fitted(state, proposal)
    counted = contract.counted_of(mutation)
    if mutation.second_parent is not None:
        _check_recombined(state, mutation)
    elif len(counted) > contract.max_changes and not _in_spread(contract, mutation):
        raise RefusedError(
            f"{len(counted)} keys refused ({_listed([c.key for c in counted])}): this exploration changes at most "
            f"{contract.max_changes} in one iteration; keep one of them"
        )
    if mutation.kind == "config" and not mutation.changes:
        raise RefusedError("a mutation without a change refused: change one free key, or ask for a replicate")
    _check_budget_alone(state, proposal)
    try:
        config = state.config_of(proposal)
    except (ValueError, KeyError) as error:
        raise RefusedError(f"iteration {proposal.iteration} refused: {error}") from error
    _check_exclusive(contract, mutation, config)
    _check_limit(state, proposal, config)
    _check_new(state, proposal, configs.idea_sha(config), earlier)


def _check_budget_alone(state: State, proposal: Proposal) -> None:
    """Raise RefusedError when the budget key is all that changes, and not to bring the training to its target."""
    changes, rule = proposal.mutation.changes, pace.budget_rule(state.contract)
    if rule is None or len(changes) != 1 or changes[0].key != rule.key:
        return
    block = state.block_for(proposal)
    why = pace.worth_it(state, state.base_config(proposal.base, block), changes[0], block, proposal.code)
    if why:
        raise RefusedError(
            f"{changes[0].key} alone refused: {why}, so it would buy training time, not insight; change one other key "
            "(this one may change beside it), or ask for a replicate"
        )


def _check_fitted(state: State, proposal: Proposal) -> None:
    """Raise RefusedError when a change of the budget is said to keep the time limit only, and does more, or less."""
    if not proposal.mutation.fitted:
        return
    block, changes = state.block_for(proposal), proposal.mutation.changes
    if not pace.only_fits(state, state.base_config(proposal.base, block), changes, block, proposal.code):
        raise RefusedError(
            f"{state.contract.budget} refused: it does not only keep the training within its limit, so it is a change "
            "like another; leave it, or change it alone"
        )


def _check_limit(state: State, proposal: Proposal, config: Config) -> None:
    """Raise RefusedError when a changed config is expected to take longer than its time limit."""
    if proposal.mutation.kind != "config":
        return  # what ran before may run again
    block = state.block_for(proposal)
    over = pace.over_limit(state, config, block, proposal.code)
    base = state.base_config(proposal.base, block)
    if over is not None and not pace.no_longer(state, base, over, block, proposal.code):
        raise RefusedError(f"iteration {proposal.iteration} refused: {over_text(state.contract, over)}")


def over_text(contract: Contract, over: pace.Over) -> str:
    """Return by how much a config is over its time limit, from what that is known, and what would fit."""
    rule = pace.budget_key(contract)
    if over.fits is not None and rule is not None:
        hint = f"the largest {rule.short} that fits is {number(over.fits)}"
    elif rule is not None:
        hint = f"no {rule.short} that is allowed brings it below"
    else:
        hint = "no key that may change brings it below"
    went = f"which {'was stopped at' if over.stopped else 'took'} {pace.shown(over.measured)}"
    return (
        f"this config is expected to take {pace.shown(over.minutes)} min (from iteration {over.reference}, {went}), "
        f"over the limit of {pace.shown(over.limit)} ({contract.time_limit}); {hint}"
    )


def _check_exclusive(contract: Contract, mutation: Mutation, config: Config) -> None:
    """Raise RefusedError when a change makes a second key of an exclusive group true."""
    true = contract.clash(config)
    changed = [c.key for c in mutation.changes if c.key in true]
    if changed:
        others = _listed([key for key in true if key != changed[0]])
        raise RefusedError(
            f"{changed[0]} = True refused: at most one of {_listed(list(true))} may be true, and {others} is; "
            f"set {others} to False first"
        )


def _check_recombined(state: State, mutation: Mutation) -> None:
    """Raise RefusedError unless each change that counts takes the second parent's value: any number of keys may."""
    second = state.nodes[mutation.second_parent or 0]
    for change in state.contract.counted_of(mutation):
        theirs = configs.get(second.config, change.key)
        if canonical(theirs) != canonical(change.new):
            raise RefusedError(
                f"{change.key} = {number(change.new)} refused: node {second.id}, the second parent, has "
                f"{number(theirs)}; a recombination takes values of its second parent only"
            )


def _in_spread(contract: Contract, mutation: Mutation) -> bool:
    """Return whether a mutation is a run of the instruction's initial spread, which may change several keys."""
    left_out = {k.key for k in contract.keys if k.exempt} | ({contract.budget} if mutation.fitted else set())
    values = {c.key: canonical(c.new) for c in mutation.changes if c.key not in left_out}
    return any(
        values == {k: canonical(v) for k, v in rule.values.items() if k not in left_out} for rule in contract.spread
    )


def _check_lineage(state: State, proposal: Proposal) -> None:
    block = state.block_for(proposal)
    known = [n.id for n in state.nodes.values() if n.block == block]
    copied, second = proposal.mutation.replicate_of, proposal.mutation.second_parent
    for name, node in (("parent", proposal.parent), ("replicate_of", copied), ("second_parent", second)):
        if node is not None and node not in state.nodes:
            raise RefusedError(f"{name}={node} refused: no such node; nodes of this block: {known or 'none, use root'}")
        if node is not None and state.nodes[node].block != block:
            raise RefusedError(f"{name}={node} refused: it is of another block; nodes of this block: {known}")
        if node is not None and not state.finished(node):
            ready = [n for n in known if state.finished(n)]
            raise RefusedError(
                f"{name}={node} refused: no run of it has ended yet; finished nodes of this block: "
                f"{ready or 'none, use root'}"
            )


def _check_base(state: State, proposal: Proposal) -> None:
    """Raise RefusedError unless a child starts from its parent, or at root from the start or an earlier block."""
    base, parent, change = proposal.base, proposal.parent, proposal.mutation.code
    if proposal.mutation.kind == "replicate":
        parent = proposal.mutation.replicate_of
    if change is not None and change.repairs is not None:
        parent = change.repairs  # whose code is mended; `code_rules` checks that it may be
    if base == parent:
        return
    if parent is not None or base is None:
        raise RefusedError(f"base={base} refused: a child of node {parent} starts from that node's config and code")
    if base not in state.nodes or state.nodes[base].block >= state.block_for(proposal):
        raise RefusedError(
            f"base={base} refused: a child of root starts from the start, or from an earlier block's node"
        )


def _check_new(state: State, proposal: Proposal, sha: str, earlier: tuple[Proposal, ...]) -> None:
    runs = [state.iterations[i].proposal for i in state.ideas.get((sha, proposal.code), [])]
    for run in (*runs, *(p for p in earlier if (p.config_sha, p.code) == (sha, proposal.code))):
        if (run.training_seed, run.simulation_seed) == (proposal.training_seed, proposal.simulation_seed):
            raise RefusedError(
                f"iteration {proposal.iteration} refused: iteration {run.iteration} is the same run (config, code and "
                f"both seeds); change a key, or take another training seed than {sorted(r.training_seed for r in runs)}"
            )
    if proposal.mutation.kind == "replicate":
        return
    made = [p for p in earlier if p.mutation.kind != "replicate"]
    same = [p.iteration for p in made if (p.config_sha, p.code) == (sha, proposal.code)]
    if same:
        raise RefusedError(f"iteration {proposal.iteration} refused: iteration {same[0]} of this turn has this config")
    block = state.block_for(proposal)
    for node in state.nodes.values():
        anew = proposal.mutation.kind == "baseline" and node.block != block
        if not anew and node.idea == (sha, proposal.code):
            raise RefusedError(
                f"iteration {proposal.iteration} refused: node {node.id} has this config already; "
                f"ask for a replicate of {node.id}, or change another key"
            )
