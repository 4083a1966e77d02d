"""What one proposal of the offline scientist is made from, and how its record is put together."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from orchestrator.core import configs, edits, mutation, pace, slots, tree
from orchestrator.core.contract import KeyRule, UserInstruction
from orchestrator.core.records import Change, Config, Mutation, Proposal, Record, Role, canonical
from orchestrator.core.scene import Scene
from orchestrator.core.state import Node, State
from orchestrator.errors import RefusedError
from orchestrator.ports import CodeOffice
from orchestrator.scientist import code_step

SAME_BUDGET = 2
"""Times by which two budgets may differ to make the same idea."""


class CodeDraft(Record):
    """A code edit in the making."""

    texts: dict[str, str]
    """Path -> whole new text of each changed file."""
    change: str
    """What it changes, one line."""
    repairs: int | None = None
    combines: tuple[int, ...] = ()
    patch: str = ""


class Draft(Record):
    """A proposal in the making: a step from a node, or another run of it."""

    node: int | None
    """The parent; of a run without changes, the node that is run again; null is root with the block's own start."""
    changes: tuple[Change, ...] = ()
    training_seed: int | None = None
    """Of another run; null is the start's."""
    simulation_seed: int | None = None
    """Of another run; null is the block's draw."""
    second: int | None = None
    """Second parent of a recombination."""
    code: CodeDraft | None = None
    """An edit of the node's code, in place of changes."""
    rule: str
    """Why this parent."""
    hypothesis: str


def named_keys(state: State, item: UserInstruction) -> list[KeyRule]:
    """Return the free keys that a user instruction names; one that is exempt is not explored for itself."""
    words, keys = set(re.findall(r"\w+", item.text)), state.contract.keys
    return [k for k in keys if k.level == "free" and not k.exempt and {k.short, k.key.split(".")[-1]} & words]


def stated_values(item: UserInstruction, rule: KeyRule) -> list[bool | int | float | str]:
    """Return the values that a user instruction states of a key (`key = value`)."""
    names = "|".join(map(re.escape, (rule.short, rule.key.split(".")[-1])))
    found = re.finditer(rf"\b(?:{names})\b\s*[=:]\s*([^\s,;]+)", item.text)
    values = (_value(rule, match[1].strip("`.\"'")) for match in found)
    return [value for value in values if value is not None]


def _value(rule: KeyRule, text: str) -> bool | int | float | str | None:
    """Return a value as the key's type, or None when the text is none."""
    if rule.type == "bool":
        return {"true": True, "false": False}.get(text.lower())
    if rule.type == "str":
        return text
    try:
        number_ = float(text)
    except ValueError:
        return None
    if not math.isfinite(number_):
        return None
    return int(number_) if rule.type == "int" else number_


@dataclass(frozen=True)
class Desk:
    """The state as it is when iteration `iteration` is proposed, after `pending` proposals of the same turn."""

    state: State
    iteration: int
    pending: tuple[Proposal, ...] = ()
    scene: Scene = field(compare=False, kw_only=True)
    slot: int = 0
    filler: bool = False
    """Whether the proposal is beyond the block's length, for a slot that would stand idle."""
    office: CodeOffice | None = field(default=None, compare=False)
    """Null where no code can be edited."""
    paced: bool = True
    """Whether a change of the config gets the change of the budget that keeps the training at its time target, or
    within its limit."""

    @property
    def block(self) -> int:
        return self.scene.block

    @property
    def role(self) -> Role | None:
        """What the slot's proposals are for."""
        return slots.role(self.state, self.slot)

    @cached_property
    def carried(self) -> Node | None:
        """The node of an earlier block that this one starts from; None is the exploration's start."""
        first = self.state.iterations.get(self.state.first_of(self.block))
        if first is not None:
            return self.state.nodes[first.proposal.base] if first.proposal.base is not None else None
        return tree.carried(self.state)

    @cached_property
    def leader(self) -> Node | None:
        """The best node of the block."""
        return tree.best(self.state, self.block)

    @cached_property
    def scores(self) -> list[tree.Score]:
        """The block's nodes with a result, highest UCB first."""
        return [s for s in tree.scores(self.state, self.block) if s.ucb is not None]

    @cached_property
    def proposals(self) -> list[Proposal]:
        """The block's proposals so far, pending ones included."""
        return [*(it.proposal for it in self.scene.iterations), *self.pending]

    @cached_property
    def _taken(self) -> set[tuple[str, str]]:
        return {n.idea for n in self.state.nodes.values()} | {(p.config_sha, p.code) for p in self.pending}

    @cached_property
    def _budgets(self) -> dict[tuple[str, str], list[float]]:
        """Budgets at which each idea, the budget left out, was run or is proposed."""
        found: dict[tuple[str, str], list[float]] = {}
        known = [(n.config, n.code) for n in self.state.nodes.values()]
        for config, code in (*known, *((self.state.config_of(p), p.code) for p in self.pending)):
            budget = configs.get(config, self.state.contract.budget)
            found.setdefault((self._without_budget(config), code), []).append(budget)
        return found

    def _without_budget(self, config: Config) -> str:
        return configs.idea_sha(configs.with_values(config, {self.state.contract.budget: None}))

    # Keys

    def rules(self, node: Node) -> list[KeyRule]:
        """Return the keys that may change from a node: free, no seeds, not reported as unable to act in its runs."""
        idle = {key for i in node.iterations if (end := self.state.iterations[i].final) for key in end.keys_idle}
        return [r for r in self.state.contract.keys if r.level == "free" and not r.exempt and r.key not in idle]

    @cached_property
    def order(self) -> list[str]:
        """Keys in the order of interest: wishes, the last boundary's focus, the instruction's order, the rest."""
        before = self.state.boundaries.get(self.block - 1)
        focus = [self.state.contract.key(k) for k in (before.focus_keys if before else ())]
        wished = [k.key for item in self.state.contract.user_instructions for k in named_keys(self.state, item)]
        listed = (
            wished,
            [k.key for k in focus if k],
            self.state.contract.order,
            [k.key for k in self.state.contract.keys],
        )
        return list(dict.fromkeys(key for part in listed for key in part))

    @cached_property
    def trials(self) -> dict[str, int]:
        """Mutations of each key that this block has proposed."""
        counted = dict.fromkeys(self.order, 0)
        for proposal in self.proposals:
            for change in self.state.contract.explored(proposal.mutation):
                counted[change.key] = counted.get(change.key, 0) + 1
        return counted

    def by_trials(self, rules: Iterable[KeyRule]) -> list[KeyRule]:
        """Return keys with the fewest trials first, ties in the order of interest."""
        return sorted(rules, key=lambda r: (self.trials[r.key], self.order.index(r.key)))

    # Records

    def proposal(self, **fields: object) -> Proposal:
        """Return a proposal on the block's draw, at the start's training seed, with `fields`."""
        assert self.state.opened is not None
        start, draw = self.state.opened.start, self.state.draw(self.block)
        base = fields.get("base")
        defaults: dict[str, object] = {
            "iteration": self.iteration,
            "code": self.code_of(base if isinstance(base, int) else None),
            "training_seed": configs.get(start, "training.seed"),
            "simulation_seed": configs.get(start, "simulation.seed") if draw is None else draw,
            "slot": self.slot,
            "role": self.role,
            "filler": self.filler,
        }
        made = Proposal.model_validate(defaults | fields)
        if not pace.is_timed(self.state.contract):
            return made
        try:
            config = self.state.config_of(made)
        except (ValueError, KeyError):
            return made  # `mutation.check` says what is wrong with it
        minutes = pace.predicted_min(self.state, config, self.block, made.code)
        return made.model_copy(update={"predicted_min": None if minutes is None else float(f"{minutes:.4g}")})

    def code_of(self, node: int | None) -> str:
        """Return the tree sha of a node's code; None is the code at the opening."""
        assert self.state.opened is not None
        return self.state.nodes[node].code if node is not None else self.state.opened.code

    def build(self, draft: Draft, strategy: str, evidence: str) -> Proposal | None:
        """Return the proposal of a draft, or None when the contract refuses it (a known idea, say)."""
        try:
            return self.make(draft, strategy, evidence)
        except RefusedError:
            return None

    def make(self, draft: Draft, strategy: str, evidence: str) -> Proposal:
        """Return the proposal of a draft; raises RefusedError when the contract refuses it."""
        base = draft.node if draft.node is not None else self.carried.id if self.carried else None
        fields: dict[str, object] = {"strategy": strategy, "parent_rule": draft.rule, "hypothesis": draft.hypothesis}
        if draft.code is not None:
            return code_step.proposal(self, draft, draft.code, fields | {"evidence": evidence})
        if draft.changes:
            draft = self._within_limit(self._at_pace(draft, base), base) if self.paced else draft
            changes, fitted = self._fitted(draft.changes, base)
            sha = configs.idea_sha(configs.apply(self.state.base_config(base, self.block), changes))
            if (sha, self.code_of(base)) in self._taken:
                raise RefusedError(self._taken_by((sha, self.code_of(base))))
            step = Mutation(kind="config", changes=changes, second_parent=draft.second, fitted=fitted)
            fields |= {"parent": draft.node, "mutation": step, "config_sha": sha, "hypothesis": draft.hypothesis}
        else:
            assert base is not None  # only a node is run again
            node = self.state.nodes[base]
            again = Mutation(kind="replicate", replicate_of=node.id)
            fields |= {"parent": node.parent, "mutation": again, "config_sha": node.config_sha}
            seeds = {"training_seed": draft.training_seed, "simulation_seed": draft.simulation_seed}
            fields |= {k: v for k, v in seeds.items() if v is not None}
        proposal = self.proposal(base=base, evidence=evidence, **fields)
        mutation.check(self.state, proposal, self.pending)
        return proposal

    def _at_pace(self, draft: Draft, base: int | None) -> Draft:
        """Return a draft with the budget that keeps its training at the time target, where that is another one.

        Raises:
            RefusedError: the same but for the budget was run, or is proposed, at about this budget: as the estimate
                moves, one step would be made again and again.
        """
        rule = pace.budget_rule(self.state.contract)
        if rule is None or self.state.contract.time_target_min is None:
            return draft
        code = self.code_of(base)
        config = configs.apply(self.state.base_config(base, self.block), draft.changes)
        change = None
        if rule.key not in [c.key for c in draft.changes]:
            change = pace.wanted_budget(self.state, config, self.block, code)
        budget = configs.get(config, rule.key) if change is None else change.new
        self._refuse_same(config, code, budget, rule)
        if change is None:
            return draft
        minutes = pace.predicted_min(self.state, config, self.block, code) or 0.0
        told = (
            f"{rule.short} {mutation.number(change.old)} -> {mutation.number(change.new)} keeps the training near "
            f"{pace.shown(self.state.contract.time_target_min)} min (predicted {pace.shown(minutes)})"
        )
        return draft.model_copy(
            update={"changes": (*draft.changes, change), "hypothesis": f"{draft.hypothesis}; {told}"}
        )

    def _refuse_same(self, config: Config, code: str, budget: float, rule: KeyRule, times: float = SAME_BUDGET) -> None:
        """Raise RefusedError when a config, but for the budget, was run at about a budget."""
        idea = (self._without_budget(config), code)
        if any(max(b, budget) <= times * min(b, budget) for b in self._budgets.get(idea, ())):
            raise RefusedError(
                f"iteration {self.iteration} refused: the same was run at about this {rule.short}; change another key"
            )

    def _within_limit(self, draft: Draft, base: int | None) -> Draft:
        """Return a draft with the budget that keeps its training within the time limit, where it would pass it.

        Raises:
            RefusedError: no budget keeps it, the same was run at about that budget, or a move of the budget itself
                would gain next to nothing.
        """
        rule, code = pace.budget_key(self.state.contract), self.code_of(base)
        start = self.state.base_config(base, self.block)
        config = configs.apply(start, draft.changes)
        over = pace.over_limit(self.state, config, self.block, code)
        if over is None:
            return draft
        if pace.no_longer(self.state, start, over, self.block, code):
            return draft
        if rule is None or over.fits is None:
            raise RefusedError(f"iteration {self.iteration} refused: {mutation.over_text(self.state.contract, over)}")
        old, new = configs.get(start, rule.key), over.fits
        others = tuple(c for c in draft.changes if c.key != rule.key)
        moved = configs.get(config, rule.key)
        if not others and old < moved and new < old * (1 + pace.TOLERANCE):
            raise RefusedError(
                f"iteration {self.iteration} refused: within {pace.shown(over.limit)} min {rule.short} can only be "
                f"{mutation.number(new)}, and is {mutation.number(old)}; change another key"
            )
        self._refuse_same(config, code, new, rule, SAME_BUDGET if others else 1 + pace.TOLERANCE)
        change = Change(key=rule.key, old=old, new=new)
        told = (
            f"{rule.short} {mutation.number(moved)} -> {mutation.number(new)} keeps the training within "
            f"{pace.shown(over.limit)} min (predicted {pace.shown(over.minutes)} from iteration {over.reference}, "
            f"which {'was stopped at' if over.stopped else 'took'} {pace.shown(over.measured)})"
        )
        kept = canonical(new) != canonical(old) and (draft.second is None or new < old)  # else not the second's value
        changes = (*others, change) if kept else others
        return draft.model_copy(update={"changes": changes, "hypothesis": f"{draft.hypothesis}; {told}"})

    def _fitted(self, changes: tuple[Change, ...], base: int | None) -> tuple[tuple[Change, ...], bool]:
        """Return changes with a budget that only keeps the time limit last, and whether there is one."""
        start, code = self.state.base_config(base, self.block), self.code_of(base)
        if not pace.only_fits(self.state, start, changes, self.block, code):
            return changes, False
        return tuple(sorted(changes, key=lambda c: c.key == self.state.contract.budget)), True

    def _taken_by(self, idea: tuple[str, str]) -> str:
        nodes = [str(n.id) for n in self.state.nodes.values() if n.idea == idea]
        if not nodes:
            return f"iteration {self.iteration} refused: another proposal of this turn has this config; change a key"
        return (
            f"iteration {self.iteration} refused: node {nodes[0]} has this config already; ask for a replicate of it, "
            "or change another key"
        )

    # Seeds

    def next_training_seed(self, node: Node) -> int:
        """Return a training seed at which the node's idea was never run: one that decides a code edit, if there is."""
        used = [self.state.iterations[i].proposal.training_seed for i in self.state.ideas[node.idea]]
        used += [p.training_seed for p in self.pending if (p.config_sha, p.code) == node.idea]
        wanted = [found.wanted for found in self.undecided if found.wanted and found.wanted[0] == node.id]
        return next((seed for _, seed in wanted if seed not in used), max(used) + 1)

    @cached_property
    def undecided(self) -> list[edits.Judged]:
        """The block's code edits whose difference is within noise so far."""
        found = (edits.judged(self.state, node) for node in edits.code_nodes(self.state, self.block))
        return [judged for judged in found if judged.wanted is not None]

    def next_draw(self) -> int:
        """Return a simulation seed that was never used, nor tried as a draw."""
        used = [it.proposal.simulation_seed for it in self.state.iterations.values()]
        tried = [r.simulation_seed for r in self.state.regimes if r.simulation_seed is not None]
        return max([*used, *tried, *(p.simulation_seed for p in self.pending)]) + 1
