"""Where an exploration stands: a fold over its journal.

`State.apply` is the single definition of what an event means. Applying events one by one equals folding the whole
journal; an event whose natural key was seen before changes nothing.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from orchestrator.core import configs, strategy_rows
from orchestrator.core.contract import Contract, RegimeRule, StrategyRule
from orchestrator.core.events import (
    Alarm,
    Amended,
    CodeChecked,
    Event,
    Human,
    LlmBefore,
    LlmReserved,
    LlmSettled,
    Opened,
    Refused,
    RegimeReady,
    RunEnded,
    RunReserved,
    Session,
    Turned,
    Waiting,
)
from orchestrator.core.records import (
    RETRIED,
    Boundary,
    Change,
    Config,
    Metric,
    Outcome,
    Principle,
    Proposal,
    Reflection,
    RuleEdit,
    Turn,
)


@dataclass
class Attempt:
    """One execution of the child for an iteration."""

    number: int
    session: int
    resumes: int | None
    ended: RunEnded | None = None
    slot: int = 0
    device: str = ""
    beside: int = 0
    seq: int = 0
    """Sequence number of its reservation."""
    ended_seq: int | None = None
    """Sequence number of its end."""


@dataclass
class Iteration:
    """One proposal with all attempts to run it."""

    proposal: Proposal
    turn: int
    node: int
    block: int
    attempts: list[Attempt] = field(default_factory=list)
    reflection: Reflection | None = None
    seq: int = 0
    """Sequence number of the turn that proposed it."""
    changes: tuple[Change, ...] = ()
    """Those of its mutation that count by the contract of that turn: a budget that follows the time does not."""
    rules: Contract | None = None
    """Contract in force when it was judged: its entry in the log stays as it was written."""
    judged_seq: int | None = None
    """Sequence number of the turn that judged it."""

    final: RunEnded | None = None
    """How the attempt that decides ended, or None while the iteration is open."""

    def end(self, attempt: Attempt, ended: RunEnded, seq: int) -> None:
        """Take in how an attempt ended."""
        attempt.ended, attempt.ended_seq = ended, seq
        self.final = None if attempt is not self.attempts[-1] or self._retries(ended) else ended

    @property
    def in_flight(self) -> bool:
        """Whether an attempt was started and has not ended."""
        return bool(self.attempts) and self.attempts[-1].ended is None

    def _retries(self, ended: RunEnded) -> bool:
        if ended.lost:
            return True
        counted = [a for a in self.attempts if a.ended and not a.ended.lost]
        return ended.outcome in RETRIED and len(counted) < 2

    @property
    def outcome(self) -> Outcome | None:
        return self.final.outcome if self.final else None

    def metric(self, name: str) -> Metric:
        """Return the metric of the final attempt; `missing` when there is none."""
        if self.final is None or self.final.outcome != "ok":
            return Metric(value=None, reason="missing")
        return self.final.metrics.get(name, Metric(value=None, reason="missing"))


@dataclass
class Node:
    """An idea (config without seeds, code) with all its runs."""

    id: int
    parent: int | None
    block: int
    config: Config
    config_sha: str
    code: str
    iterations: list[int] = field(default_factory=list)

    @property
    def idea(self) -> tuple[str, str]:
        """What makes two nodes of different blocks the same idea: config without seeds, and code."""
        return self.config_sha, self.code


@dataclass
class Call:
    """One request to a language model."""

    reserved: LlmReserved
    settled: LlmSettled | None = None
    wait: Waiting | None = None


@dataclass
class State:
    """The fold. Read it freely; change it only through `apply`."""

    contract: Contract
    seq: int = 0
    opened: Opened | None = None
    session: Session | None = None
    regimes: list[RegimeReady] = field(default_factory=list)
    amendments: list[tuple[int, Amended]] = field(default_factory=list)
    """With their sequence numbers."""
    turns: list[Turn] = field(default_factory=list)
    iterations: dict[int, Iteration] = field(default_factory=dict)
    judged: list[int] = field(default_factory=list)
    """Iterations in the order in which the scientist spoke about them."""
    nodes: dict[int, Node] = field(default_factory=dict)
    ideas: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    """Idea -> its iterations over all blocks: they are pooled."""
    boundaries: dict[int, Boundary] = field(default_factory=dict)
    """Ended blocks."""
    boundary_seq: dict[int, int] = field(default_factory=dict)
    """Ended block -> sequence number of the turn that ended it."""
    boundary_rules: dict[int, Contract] = field(default_factory=dict)
    """Ended block -> contract in force at its end."""
    ran_in: dict[int, str] = field(default_factory=dict)
    """Block with proposals -> name of its regime: an amended contract may declare regimes in another order."""
    fillers: dict[int, int] = field(default_factory=dict)
    """Block -> its iterations beyond `n_iter_block`: replicates in slots that would have stood idle at its end."""
    principles: tuple[Principle, ...] = ()
    questions: tuple[str, ...] = ()
    """The scientist's own."""
    hypotheses: dict[int, str] = field(default_factory=dict)
    """Block -> what the scientist expects of it, said within the block."""
    refusals: list[Refused] = field(default_factory=list)
    calls: dict[int, Call] = field(default_factory=dict)
    """Requests to the language model, by number."""
    before: list[LlmBefore] = field(default_factory=list)
    """What the model had used in parts that a person cut off."""
    checks: dict[tuple[str, str], CodeChecked] = field(default_factory=dict)
    """(tree, config sha) -> what a trial of that code in the sandbox gave."""
    alarms: list[Alarm] = field(default_factory=list)
    notes: list[Human] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    memo: dict[tuple[object, ...], object] = field(default_factory=dict, compare=False, repr=False)
    """What was computed from this very state (`core.memo`); emptied by every event."""

    @cached_property
    def n_iter_block(self) -> int:
        """Length of a block; an amended contract cannot change it."""
        return self.contract.n_iter_block

    def block_of(self, iteration: int) -> int:
        """Return the 1-based block of an iteration; one that is not proposed yet is taken to be no filler."""
        known = self.iterations.get(iteration)
        return known.block if known else (iteration - 1 - sum(self.fillers.values())) // self.n_iter_block + 1

    def block_for(self, proposal: Proposal) -> int:
        """Return the block of a proposal: a filler belongs to the block of the node that it runs again."""
        copied = self.nodes.get(proposal.mutation.replicate_of or 0)
        return copied.block if proposal.filler and copied else self.block_of(proposal.iteration)

    def first_of(self, block: int) -> int:
        """Return the first iteration of a block."""
        return (block - 1) * self.n_iter_block + 1 + sum(n for b, n in self.fillers.items() if b < block)

    def apply(self, event: Event) -> None:
        """Fold one event. Raises ValueError when it contradicts what came before (discard the state then)."""
        body = event.body
        self.memo.clear()
        if body.key not in self.seen:
            match body:
                case Opened():
                    self._open(body)
                case Session():
                    self.session = body
                case Amended():
                    self._amend(event.seq, body)
                case Turned():
                    self._turn(body.turn, event.seq)
                case RunReserved():
                    self._reserve(body, event.seq)
                case RunEnded():
                    attempt = self._attempt(body.iteration, body.attempt)
                    self.iterations[body.iteration].end(attempt, body, event.seq)
                case CodeChecked():
                    self.checks[body.tree, body.config_sha] = body
                case LlmBefore():
                    self.before.append(body)
                case LlmReserved() | LlmSettled() | Waiting():
                    self._call(body)
                case RegimeReady() | Refused() | Alarm() | Human():
                    self._list(body)
            self.seen.add(body.key)
        self.seq = event.seq

    def _open(self, body: Opened) -> None:
        self.opened = body
        if body.contract:
            self.contract = Contract.model_validate(body.contract)

    def _list(self, body: RegimeReady | Refused | Alarm | Human) -> None:
        match body:
            case RegimeReady():
                self.regimes.append(body)
            case Refused():
                self.refusals.append(body)
            case Alarm():
                self.alarms.append(body)
            case Human():
                self.notes.append(body)

    def _call(self, body: LlmReserved | LlmSettled | Waiting) -> None:
        if isinstance(body, LlmReserved):
            self.calls[body.call] = Call(body)
        elif body.call not in self.calls:
            raise ValueError(f"request {body.call} was never reserved")
        elif isinstance(body, LlmSettled):
            self.calls[body.call].settled = body
        else:
            self.calls[body.call].wait = body

    def _iteration(self, number: int) -> Iteration:
        if number not in self.iterations:
            raise ValueError(f"iteration {number} was never proposed")
        return self.iterations[number]

    def _reserve(self, body: RunReserved, seq: int) -> None:
        attempt = Attempt(body.attempt, body.session, body.resumes, None, body.slot, body.device, body.beside, seq)
        self._iteration(body.iteration).attempts.append(attempt)

    def _attempt(self, iteration: int, number: int) -> Attempt:
        for attempt in self._iteration(iteration).attempts:
            if attempt.number == number:
                return attempt
        raise ValueError(f"attempt {number} of iteration {iteration} was never reserved")

    def _amend(self, seq: int, body: Amended) -> None:
        contract = Contract.model_validate(body.contract)
        if contract.n_iter_block != self.n_iter_block:
            raise ValueError("an amended contract has another n_iter_block")
        new = {r.name: r for r in contract.regimes}
        stale = [r.name for r in self.contract.regimes if new.get(r.name) != r]
        self.seen -= {r.key for r in self.regimes if r.regime_name in stale}  # measured anew, as what it is now
        self.regimes = [r for r in self.regimes if r.regime_name not in stale]
        self.contract = contract
        self.amendments.append((seq, body))

    def _turn(self, turn: Turn, seq: int) -> None:
        if turn.hypothesis:
            self.hypotheses[self.block] = turn.hypothesis
        for proposal in turn.proposals:
            self._propose(proposal, turn.turn, seq)
        for reflection in turn.reflections:
            it = self._iteration(reflection.iteration)
            it.reflection, it.rules, it.judged_seq = reflection, self.contract, seq
            self.judged.append(reflection.iteration)
        if turn.boundary is not None:
            self.boundaries[turn.boundary.block] = turn.boundary
            self.boundary_seq[turn.boundary.block] = seq
            self.boundary_rules[turn.boundary.block] = self.contract
        self.principles = turn.principles or self.principles
        self.questions = self.questions if turn.questions is None else turn.questions
        self.turns.append(turn)

    def _propose(self, proposal: Proposal, turn: int, seq: int) -> None:
        block = self.block_for(proposal)
        if proposal.filler:
            self.fillers[block] = self.fillers.get(block, 0) + 1
        self.ran_in.setdefault(block, self.regime_name(block))
        node_id = proposal.mutation.replicate_of or proposal.iteration
        if node_id == proposal.iteration:
            config = self.config_of(proposal)
            self.nodes[node_id] = Node(node_id, proposal.parent, block, config, configs.idea_sha(config), proposal.code)
        self.nodes[node_id].iterations.append(proposal.iteration)
        self.ideas.setdefault(self.nodes[node_id].idea, []).append(proposal.iteration)
        counted = self.contract.counted_of(proposal.mutation)
        self.iterations[proposal.iteration] = Iteration(proposal, turn, node_id, block, seq=seq, changes=counted)

    def config_of(self, proposal: Proposal) -> Config:
        """Return the effective config of a proposal, seeds included, derived from its parent and mutation."""
        if self.opened is None:
            raise ValueError("a proposal before `opened`")
        mutation = proposal.mutation
        if mutation.replicate_of is not None:
            base = self.nodes[mutation.replicate_of].config
        else:
            base = self.base_config(proposal.base, self.block_for(proposal))
        config = configs.apply(base, mutation.changes)
        if configs.idea_sha(config) != proposal.config_sha:
            raise ValueError(f"iteration {proposal.iteration}: parent and mutation do not give the recorded config")
        seeds = {"training.seed": proposal.training_seed, "simulation.seed": proposal.simulation_seed}
        return configs.with_values(config, seeds)

    def base_config(self, base: int | None, block: int) -> Config:
        """Return the config that a proposal of `block` starts from: a node's, or the start's, as the block has it.

        It has the values of the block's regime, and those that block ends have set since the base's own block.
        """
        if self.opened is None:
            raise ValueError("a proposal before `opened`")
        config = self.nodes[base].config if base is not None else self.opened.start
        regime = self.regime_of(block)
        values = (regime.values if regime else {}) | self.set_since(
            1 if base is None else self.nodes[base].block, block
        )
        return configs.with_values(config, values) if values else config

    def set_since(self, since: int, block: int) -> dict[str, Any]:
        """Return the last value of each key that the ends of the blocks `since` to `block` - 1 have set."""
        ends = (self.boundaries[b] for b in range(since, block) if b in self.boundaries)
        return {change.key: change.new for end in ends for change in end.changes}

    def value_in(self, block: int, key: str) -> Any:
        """Return the value that a key begins a block with; one that changes between blocks only keeps it throughout."""
        first = self.iterations.get(self.first_of(block))
        config = self.nodes[first.node].config if first is not None else self.base_config(None, block)
        return configs.get(config, key)

    # Blocks, rules and regimes

    @property
    def block(self) -> int:
        """Return the block that the next iteration belongs to."""
        return self.block_of(self.last_iteration + 1)

    @property
    def block_shown(self) -> int:
        """Return the block that people look at: the one in progress until it is ended, then the next."""
        begun = self.block == 1 or self.block - 1 in self.boundaries or self.first_of(self.block) in self.iterations
        return self.block if begun else self.block - 1

    @property
    def closing(self) -> int | None:
        """Return the block that is to be ended: all its iterations are proposed and final; None when there is none."""
        block = self.block - 1
        complete = block >= 1 and self.last_iteration + 1 == self.first_of(self.block) and not self.open_iterations
        return block if complete and block not in self.boundaries else None

    @property
    def strategies(self) -> tuple[StrategyRule, ...]:
        """Rows of the strategy table in force: the instruction's, as the ended blocks' rule edits left them."""
        rows = self.contract.strategies
        for block in sorted(self.boundaries):
            rows = strategy_rows.edited(rows, self.rule_edits(block), block)
        return rows

    def rule_edits(self, block: int) -> tuple[RuleEdit, ...]:
        """Return the rule edits of an ended block that hold: what a person wrote into a row since wins over them."""
        then, now = (
            {row.name: (row.condition, row.action) for row in contract.strategies}
            for contract in (self.boundary_rules[block], self.contract)
        )
        return tuple(e for e in self.boundaries[block].rules if then.get(e.strategy) == now.get(e.strategy))

    def regime_of(self, block: int) -> RegimeRule | None:
        """Return the regime of a block, or None when the exploration declares none.

        The boundary before a block names it; without one the regimes are taken in their order, then from the start.
        """
        regimes = self.contract.regimes
        if not regimes:
            return None
        before = self.boundaries.get(block - 1)
        name = self.ran_in.get(block, before.regime if before is not None else None)
        named = next((r for r in regimes if r.name == name), None)
        return named or regimes[(block - 1) % len(regimes)]

    def regime_name(self, block: int) -> str:
        """Return the name of a block's regime, "" when none is declared: trees and noise of two names never mix."""
        regime = self.regime_of(block)
        return regime.name if regime else ""

    def draw(self, block: int) -> int | None:
        """Return the simulation seed that a block's nodes are compared on, or None before its data are prepared.

        Before the block's first proposal it is the regime's first draw that is fit, or the best of those tried.
        """
        first = self.iterations.get(self.first_of(block))
        if first is not None:
            return first.proposal.simulation_seed
        name = self.regime_name(block)
        tried = [r for r in self.regimes if r.regime_name == name and r.simulation_seed is not None]
        fit = [r for r in tried if not r.unfit] or sorted(tried, key=_poverty)
        return fit[0].simulation_seed if fit else None

    def at_end(self, block: int) -> State:
        """Return the state as an ended block left it: its contract, and no iteration of a later block."""
        last = self.first_of(block + 1) - 1
        then = copy.copy(self)
        then.memo = {}
        then.contract = self.boundary_rules[block]
        then.iterations = {n: it for n, it in self.iterations.items() if n <= last}
        then.nodes = {n: node for n, node in self.nodes.items() if n <= last}
        then.ideas = {idea: [n for n in found if n <= last] for idea, found in self.ideas.items() if found[0] <= last}
        return then

    # What is to be done, in one place: every reader asks these.

    @property
    def last_iteration(self) -> int:
        return max(self.iterations, default=0)

    def finished(self, node: int) -> bool:
        """Return whether a run of a node has ended for good, well or not."""
        return any(self.iterations[i].final is not None for i in self.nodes[node].iterations)

    @property
    def planned(self) -> int:
        """Return the number of proposed iterations, fillers left out: what a total of iterations counts."""
        return self.last_iteration - sum(self.fillers.values())

    @property
    def open_iterations(self) -> list[Iteration]:
        """Proposed iterations without a deciding attempt, oldest first."""
        return [it for _, it in sorted(self.iterations.items()) if it.final is None]

    @property
    def unreflected(self) -> list[Iteration]:
        """Finished iterations about which the scientist has not spoken."""
        return [it for _, it in sorted(self.iterations.items()) if it.final is not None and it.reflection is None]

    @property
    def done(self) -> list[Iteration]:
        """Finished iterations, oldest first."""
        return [it for _, it in sorted(self.iterations.items()) if it.final is not None]

    @property
    def sessions(self) -> int:
        return self.session.session if self.session else 0


def _poverty(regime: RegimeReady) -> float:
    """Return how poor a draw's data are: its condition number."""
    value = (regime.preflight.get("activity") or {}).get("condition_number")
    return float(value) if isinstance(value, int | float) else math.inf


def fold(contract: Contract, events: list[Event]) -> State:
    """Return the state after `events`."""
    state = State(contract)
    for event in events:
        state.apply(event)
    return state
