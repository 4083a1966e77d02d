"""What each slot is to run, in the making: parents, changes, replicates."""

from __future__ import annotations

import difflib
import math
from typing import Any

from orchestrator.core import code_rules, configs, mutation, pace, slots, strategy, strategy_kinds, tree
from orchestrator.core.contract import KeyRule
from orchestrator.core.mutation import number
from orchestrator.core.records import Change, Config, Mutation, Proposal, canonical
from orchestrator.core.scene import Scene
from orchestrator.core.state import State
from orchestrator.errors import RefusedError
from orchestrator.formats import pacing
from orchestrator.ports import CodeOffice
from orchestrator.scientist import desk as desks
from orchestrator.scientist import policy
from orchestrator.scientist.claude import prose, tools
from orchestrator.scientist.claude.code_plans import CodePlans, Plan, code_draft
from orchestrator.scientist.desk import Desk
from orchestrator.scientist.patches import MODIFICATION

ALWAYS = (
    "exploit",
    "explore",
    "boundary",
    "replicate",
    "initial-spread",
    "user-instruction",
    "principle-test",
    "control",
)
"""Strategies that need no row of the table."""


class Plans:
    """The plans of one turn. Each operation changes one plan and says what it did, or raises and changes nothing."""

    def __init__(self, state: State, n: int, office: CodeOffice | None = None) -> None:
        self.state, self._office = state, office
        ending = slots.full(state)
        self.block = ending or state.closing or state.block
        left = 0 if ending else state.first_of(state.block) + state.n_iter_block - state.last_iteration - 1
        self.slots = [] if state.closing is not None else slots.free(state, n)[:left]
        """To fill; slots beyond the block's length are filled by protocol."""
        self._plans: dict[int, Plan] = {}

    def iteration_of(self, slot: int) -> int:
        """Return the iteration that a slot's proposal gets."""
        return self.state.last_iteration + 1 + self.slots.index(slot)

    def choose_parent(self, call: tools.ChooseParent) -> str:
        """Set the parent of a slot's proposal; its changes start from there."""
        self._open(call.slot)
        if call.parent == "root" and call.second_parent is not None:
            raise RefusedError("second_parent refused: a recombination needs a parent node beside it, not root")
        for node in (call.parent, call.second_parent):
            if isinstance(node, int):
                self._finished(node, "parent")
        if call.second_parent == call.parent:
            raise RefusedError(f"second_parent={call.parent} refused: it is the parent; nodes: {self._nodes()}")
        plan = Plan(parent=call.parent, second=call.second_parent)
        self._plans[call.slot] = plan
        base = self._base(plan)
        keys = [k for k in self.state.contract.keys if k.level == "free" and k.key not in configs.SEED_KEYS]
        told = ", ".join(f"{k.short}={number(configs.get(base, k.key))}" for k in keys)
        return f"slot {call.slot}: parent={call.parent}. Its config: {told}{self._timed(plan, '')}"

    def set_hyperparameter(self, call: tools.SetHyperparameter) -> str:
        """Change one key of a slot's parent."""
        self._open(call.slot)
        plan = self._plans.get(call.slot)
        if plan is None or plan.again:
            raise RefusedError(f"slot {call.slot} has no parent yet: call choose_parent first; nodes: {self._nodes()}")
        if plan.texts:
            raise RefusedError(
                f"{call.key[:80]} refused: slot {call.slot} edits code, and code and config never change together; "
                "call choose_parent to start again, or leave the key"
            )
        rule = self.rule(call.key)
        old = configs.get(self._base(plan), rule.key)
        value = typed(rule, call.value) if rule.level == "free" and rule.key not in configs.SEED_KEYS else call.value
        if rule.key in plan.changes and canonical(value) == canonical(old):
            del plan.changes[rule.key]
            return f"slot {call.slot}: {rule.short} is the parent's {number(old)} again{self._timed(plan, rule.key)}"
        if rule.level == "free" and rule.key not in configs.SEED_KEYS and canonical(value) == canonical(old):
            raise RefusedError(
                f"{rule.key} = {number(value)} refused: that is its value already; it may be {bounds(rule)}"
            )
        change = Change(key=rule.key, old=old, new=value)
        mutation.check_change(self.state.contract, change)
        if rule.key in configs.SEED_KEYS:
            raise RefusedError(f"{rule.key} refused: a seed is no hyperparameter; call replicate for another seed")
        self._check_count(plan, change)
        plan.changes[rule.key] = change
        told = f"slot {call.slot}: {rule.short}: {number(old)} -> {number(value)}"
        idle = self._idle(plan, rule.key)
        if idle:
            told += f". Note: it could not act in node {plan.node} ({idle}); alone it may change nothing"
        return told + self._timed(plan, rule.key)

    def _timed(self, plan: Plan, key: str) -> str:
        """Return what a plan is expected to take, "" where its last change does not touch it and it is on target."""
        config, code = configs.apply(self._base(plan), tuple(plan.changes.values())), self._code_of(plan)
        minutes = pace.predicted_min(self.state, config, self.block, code)
        over = pace.over_limit(self.state, config, self.block, code)
        off = over is not None or pace.is_off(self.state.contract, minutes)
        if key not in pace.cost_keys(self.state.contract) and not off:
            return ""
        told = pacing.estimate_text(self.state, config, self.block, code)
        return f". {told[0].upper()}{told[1:]}" if told else ""

    def _code_of(self, plan: Plan) -> str:
        desk = self._desk(self.state.last_iteration + 1)
        carried = desk.carried.id if plan.node is None and desk.carried is not None else None
        return desk.code_of(plan.node if plan.node is not None else carried)

    def _idle(self, plan: Plan, key: str) -> str:
        """Return why a key could not act in the parent's runs, "" when it could."""
        its = self.state.nodes[plan.node].iterations if plan.node is not None else []
        ends = [self.state.iterations[i].final for i in its]
        return next((end.keys_idle[key] for end in reversed(ends) if end is not None and key in end.keys_idle), "")

    def _check_count(self, plan: Plan, change: Change) -> None:
        """Raise RefusedError when a plan would change more keys than one iteration may."""
        contract = self.state.contract
        changes = plan.changes | {change.key: change}
        base, code, made = self._base(plan), self._code_of(plan), tuple(changes.values())
        fitted = pace.only_fits(self.state, base, made, self.block, code)
        counted = contract.counted_of(Mutation(kind="config", changes=made, fitted=fitted))
        if plan.second is not None or len(counted) <= contract.max_changes:
            return
        values = {c.key: canonical(c.new) for c in counted}
        spread = [{k: canonical(v) for k, v in rule.values.items()} for rule in contract.spread]
        if plan.parent == "root" and any(values.items() <= rule.items() for rule in spread):
            return
        had = ", ".join(f"{c.key}: {number(c.old)} -> {number(c.new)}" for c in plan.changes.values())
        raise RefusedError(
            f"{change.key} refused: this exploration changes at most {contract.max_changes} key(s) in one iteration, "
            f"and the slot changes {had}; set that back to the parent's value first, or keep it{self._beside(plan)}"
        )

    def _beside(self, plan: Plan) -> str:
        """Return which budget a plan may have beside its changes, since it would pass the time limit; "" for none."""
        rule = pace.budget_key(self.state.contract)
        if rule is None:
            return ""
        others = tuple(c for c in plan.changes.values() if c.key != rule.key)
        config = configs.apply(self._base(plan), others)
        over = pace.over_limit(self.state, config, self.block, self._code_of(plan)) if others else None
        if over is None or over.fits is None:
            return ""
        return (
            f". Beside {', '.join(c.key for c in others)}, {rule.short} does not count where it only keeps the limit "
            f"of {pace.shown(over.limit)} min: {number(over.fits)}"
        )

    def replicate(self, call: tools.Replicate) -> str:
        """Let a slot run a finished node again."""
        self._open(call.slot)
        self._finished(call.node, "node")
        self._plans[call.slot] = Plan(parent=call.node, again=call.seed)
        return f"slot {call.slot}: node {call.node} again at another {call.seed} seed"

    # Code

    def edit_code(self, call: tools.EditCode) -> str:
        """View or edit a file of the code of a slot's parent."""
        self._open(call.slot)
        return self._code(call.slot).edit(self._plans.get(call.slot), call)

    def repair_code(self, call: tools.RepairCode) -> str:
        """Let a slot mend the code of a crashed iteration."""
        self._open(call.slot)
        plan, told = self._code(call.slot).repair(call.iteration)
        self._plans[call.slot] = plan
        return f"slot {call.slot}: {told}"

    def combine_code(self, call: tools.CombineCode) -> str:
        """Let a slot run two code edits together."""
        self._open(call.slot)
        for node in (call.first, call.second):
            self._finished(node, "node")
        plan, told = self._code(call.slot).combine(call.first, call.second)
        self._plans[call.slot] = plan
        return f"slot {call.slot}: {told}"

    @property
    def edits_code(self) -> bool:
        """Whether a slot is to run edited code."""
        return any(plan.texts for plan in self._plans.values())

    def _code(self, slot: int) -> CodePlans:
        return CodePlans(self.state, self._office, self.iteration_of(slot), self.block)

    def _open(self, slot: int) -> None:
        if slot not in self.slots:
            told = ", ".join(map(str, self.slots)) or "none: nothing is to be proposed in this turn"
            raise RefusedError(f"slot {slot} refused: slots to fill are {told}")

    def _finished(self, node: int, what: str) -> None:
        found = self.state.nodes.get(node)
        if found is not None and found.block == self.block and self.state.finished(node):
            return
        why = "no run of it has ended yet"
        if found is None:
            why = "there is no such node"
        elif found.block != self.block:
            why = f"it is of block {found.block}"
        raise RefusedError(f"{what}={node} refused: {why}; finished nodes of this block: {self._nodes()}")

    def _nodes(self) -> str:
        ready = [n.id for n in tree.block_nodes(self.state, self.block) if self.state.finished(n.id)]
        return ", ".join(map(str, ready)) or "none yet, use root"

    def rule(self, key: str) -> KeyRule:
        """Return the rule of a key by any of its names; raises RefusedError with the nearest free ones."""
        named = {name: k for k in self.state.contract.keys for name in (k.key.split(".")[-1], k.short, k.key)}
        if key in named:
            return named[key]
        near = [named[n] for n in difflib.get_close_matches(key[:80], list(named), n=6, cutoff=0.4)]
        free = [k.short for k in near if k.level == "free" and k.key not in configs.SEED_KEYS]
        free = free or [
            k.short for k in self.state.contract.keys if k.level == "free" and k.key not in configs.SEED_KEYS
        ]
        told = ", ".join(dict.fromkeys(free))
        raise RefusedError(f"key {key[:80]!r} refused: there is none of that name; nearest free keys: {told}")

    def _base(self, plan: Plan) -> Config:
        """Return the config that a plan starts from: at root the block's own start."""
        carried = self._desk(self.state.last_iteration + 1).carried if plan.node is None else None
        return self.state.base_config(carried.id if carried is not None else plan.node, self.block)

    def _desk(self, iteration: int, pending: tuple[Proposal, ...] = (), slot: int = 0) -> Desk:
        scene = Scene(self.state, self.block)
        return Desk(self.state, iteration, pending, scene=scene, slot=slot, office=self._office, paced=False)

    # Proposals

    def proposals(self, said: list[tools.Plan]) -> tuple[Proposal, ...]:
        """Return the proposals, one for each slot to fill; raises RefusedError when one is missing or refused."""
        named = [p.slot for p in said]
        for slot in named:
            self._open(slot)
        if len(set(named)) < len(named):
            raise RefusedError(f"proposals for slots {named} refused: one for each slot")
        missing = [s for s in self.slots if s not in named]
        if missing:
            raise RefusedError(f"submit refused: slot {missing[0]} has no proposal; slots to fill: {self.slots}")
        made: tuple[Proposal, ...] = ()
        for plan in sorted(said, key=lambda p: self.slots.index(p.slot)):
            made = (*made, self._proposal(plan, made))
        return made

    def _proposal(self, said: tools.Plan, pending: tuple[Proposal, ...]) -> Proposal:
        plan = self._plans.get(said.slot)
        if plan is None:
            raise RefusedError(f"slot {said.slot} refused: nothing was chosen for it; call choose_parent or replicate")
        name = self._strategy(said.strategy)
        why, expected = prose.line(said.parent_rule, "parent_rule"), prose.line(said.hypothesis, "hypothesis")
        prose.check_figures(self.state, [why], "parent_rule")
        at = self._desk(self.iteration_of(said.slot), pending, said.slot)
        if said.change.strip() and not plan.texts:
            raise RefusedError(
                f'slot {said.slot} refused: `change` is told and no code is edited; call edit_code, or ""'
            )
        if plan.again is None and not plan.changes and not plan.texts:
            if plan.node is not None:
                raise RefusedError(
                    f"slot {said.slot} refused: nothing changes; set one key, or call replicate for another run"
                )
            words = {"strategy": name, "parent_rule": why, "hypothesis": expected}
            baseline = policy.baseline(at).model_copy(update=words)
            mutation.check(self.state, baseline, pending)
            return baseline
        node = self.state.nodes[plan.node] if plan.node is not None else None
        draft = desks.Draft(
            node=plan.node,
            changes=self._in_order(plan),
            second=plan.second,
            code=code_draft(plan, said.change),
            training_seed=at.next_training_seed(node) if node and plan.again == "training" else None,
            simulation_seed=at.next_draw() if plan.again == "simulation" else None,
            rule=why,
            hypothesis=expected,
        )
        return at.make(draft, name, self._evidence(name, pending))

    def _in_order(self, plan: Plan) -> tuple[Change, ...]:
        """Return a plan's changes, those that count first: whoever reads a step reads its first change."""
        changes = tuple(plan.changes.values())
        counted = self.state.contract.counted(changes)
        return (*counted, *(c for c in changes if c not in counted))

    def _strategy(self, name: str) -> str:
        rows = [row.name for row in self.state.strategies]
        found = prose.line(name, "strategy", 60)
        if "|" in found:  # names stand in tables
            raise RefusedError(f"strategy {found!r} refused: a name has no `|` in it; take one of {', '.join(ALWAYS)}")
        kind = strategy_kinds.kind_of(found, "")
        why = code_rules.off(self.state)
        if kind is not None and kind.key in strategy_kinds.EDITS and why:
            raise RefusedError(f"strategy {found!r} refused: {why}; take one of {', '.join(ALWAYS)}, or a row")
        if rows and found not in (*rows, *ALWAYS, *(() if why else (MODIFICATION,))):
            near = difflib.get_close_matches(found, (*rows, *ALWAYS), n=3, cutoff=0.4) or rows
            raise RefusedError(f"strategy {found!r} refused: the table has no such row; nearest: {', '.join(near)}")
        return found

    def _evidence(self, name: str, pending: tuple[Proposal, ...]) -> str:
        """Return what the strategy's trigger saw, as the engine words it."""
        active = strategy.active(self.state, self.block, pending)
        seen = next((t.evidence for t in active if t.strategy == name and t.group != "default"), "")
        plain = name in ALWAYS or any(t.strategy == name for t in active)
        return seen or ("" if plain else "by the records the row's condition does not hold: the scientist's judgement")


def typed(rule: KeyRule, value: Any) -> Any:
    """Return a value as the key's type where nothing is lost.

    Raises:
        RefusedError: it is of another type, or no number that a config can hold; says what the key may be.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise RefusedError(f"{rule.key} = {value} refused: it is no number; it may be {bounds(rule)}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        for listed in rule.allowed or ():
            if listed == value and not isinstance(listed, bool):
                return listed
        if rule.type in ("int", "float") and abs(value) >= 2**63 and isinstance(value, int):
            raise RefusedError(f"{rule.key} = {_shown(value)} refused: out of range; it may be {bounds(rule)}")
        if rule.type == "float":
            return float(value) + 0.0  # minus zero is zero
        if rule.type == "int" and value == int(value):
            return int(value)
    elif isinstance(value, bool) and rule.type == "bool":
        return value
    elif isinstance(value, str) and rule.type == "str":
        return value if value in (rule.allowed or ()) else prose.line(value, rule.key, 80)
    raise RefusedError(
        f"{rule.key} = {_shown(value)} refused: it is of type {rule.type}; it may be {bounds(rule)}, now {rule.start!r}"
    )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def bounds(rule: KeyRule) -> str:
    """Return what a key may be, in words."""
    if rule.type == "bool":
        return "True or False"
    if rule.allowed:
        return f"one of {', '.join(number(v) for v in rule.allowed)}"
    low = "-inf" if rule.low is None else number(rule.low)
    return f"{low} to {'inf' if rule.high is None else number(rule.high)}"
