"""`make confirm`: is the best real? Its config is trained again on seeds that nothing was chosen by.

The best of many runs is partly the luckiest: its figure is biased upwards (the winner's curse). A confirmation runs it
on N training seeds that its idea never had, on the same draw of the system, and on N draws that no iteration ever saw.
Each is a run like an iteration's: same code, launcher, sandbox, limits, scoring and judgement; none is tried twice.

The journal is not written. The engine's lock is held all the same, and a confirmation is refused while an engine has
it: a training beside the exploration's own would take its cores or its GPU, and so change what its runs reach within
their time limits.

What it does not tell: how the start would do on the new draws (their difficulty differs), and a bias that all draws of
the simulator share.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from orchestrator.core import lineage, tree
from orchestrator.core.classify import holds, verdict
from orchestrator.core.records import Metric, Mutation, Proposal
from orchestrator.core.state import Iteration, Node, State
from orchestrator.core.stats import noise, summarise
from orchestrator.engine import evaluate, orders, regimes
from orchestrator.engine.context import Adapters, Setup
from orchestrator.engine.sealing import state_of
from orchestrator.engine.texts import one_line
from orchestrator.errors import EXIT_DONE, EXIT_NEEDS_PERSON, EXIT_STOPPED, NeedsPersonError, StoppedError, UserError
from orchestrator.launch.folder import read_file
from orchestrator.paths import ConfirmPaths, Paths, RunPaths
from orchestrator.ports import Limits
from orchestrator.store import atomic, journal
from orchestrator.vcs import git

FIRST_SEED = 1001
"""Fresh seeds are counted up from here, used ones left out: the same command asks for the same seeds everywhere."""
POLL_S = 0.1
CLAIM_DEADLINE_S = 60.0
PLAN_LIMIT = 2**20
CONVINCING = 2.0
"""Standard errors of the difference from which the exploration's figure counts as too high."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One run of a confirmation."""

    proposal: Proposal
    same_draw: bool
    outcome: str
    sentence: str
    metrics: dict[str, Metric]
    seconds: float


class Confirmation:
    """Runs one confirmation; `stopping` (set by a signal handler) cancels the run in flight and ends it."""

    def __init__(self, setup: Setup, adapters: Adapters, say: Callable[[str], None]) -> None:
        self.adapters, self.say = adapters, say
        self.stopping = False
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
        self.paths = ConfirmPaths(setup.paths.source, setup.paths.out, setup.paths.confirmations / stamp)
        self.setup = dataclasses.replace(setup, paths=self.paths)
        self.rows: list[Row] = []

    def stop(self) -> None:
        """Ask for the end (from a signal handler)."""
        self.stopping = True

    def run(self, n: int) -> int:
        """Confirm the best on `n` training seeds and `n` draws; return the exit code.

        Raises:
            UserError: there is no best yet. Nothing was written.
            JournalError: an engine is at work there. Nothing was written.
        """
        lock = journal.take_lock(self.paths.engine_lock)
        try:
            state = state_of(self.paths)
            node = tree.best(state)
            if node is None:
                raise UserError(
                    f"nothing to confirm in {self.paths.out}: {len(state.done)} iteration(s) are judged and none has "
                    f"{state.contract.primary.name}; go on with `make explore EXP={self.setup.name}` first"
                )
            return self._run(state, node, planned(state, node, n, earlier(self.paths)))
        finally:
            os.close(lock)

    def _run(self, state: State, node: Node, proposals: list[Proposal]) -> int:
        assert state.opened is not None
        if why := orders.unconfined(self.setup, self.adapters, (node.code, state.opened.code)):
            raise NeedsPersonError(why)
        self.paths.runs.mkdir(parents=True)
        plan = {"node": node.id, "runs": [p.model_dump(mode="json") for p in proposals]}
        atomic.write_text(self.paths.plan, json.dumps(plan, indent=1) + "\n")
        base = state.opened.code
        if not self.setup.spec.command:
            git.export_code(self.paths.out, base, self.paths.code / base)
        draw = state.draw(node.block)
        for proposal in proposals:
            seeds = f"training seed {proposal.training_seed}, draw {proposal.simulation_seed}"
            self.say(f"run {proposal.iteration} of {len(proposals)}: node {node.id}, {seeds}")
            row = self._one(state, node, proposal, proposal.simulation_seed == draw)
            if self.stopping:
                break
            assert row is not None
            self.rows.append(row)
            atomic.write_text(self.paths.table, render(state, node, self.rows, len(proposals)))
            name = state.contract.primary.name
            self.say(f"  {row.outcome}, {name} {shown(row.metrics.get(name))}" + (row.sentence and f": {row.sentence}"))
        if not self.stopping and all(row.outcome != "ok" for row in self.rows):
            return EXIT_NEEDS_PERSON
        return EXIT_STOPPED if self.stopping else EXIT_DONE

    def _one(self, state: State, node: Node, proposal: Proposal, same_draw: bool) -> Row | None:
        """Return one run's row, or None when it was stopped."""
        it = Iteration(proposal, turn=0, node=node.id, block=node.block)
        config = state.config_of(proposal)
        try:
            named = state.regime_name(node.block)
            assert state.opened is not None  # data are never prepared by edited code
            base = state.opened.code
            ready = regimes.ready(self.setup, self.adapters, config, base, lambda: not self.stopping, named)
        except NeedsPersonError as error:
            return Row(proposal, same_draw, "no data", str(error), {}, 0.0)
        except StoppedError:
            return None
        run = self.paths.run(proposal.iteration, 1)
        device = self.adapters.gpus[0].name if self.adapters.gpus else ""
        spec = orders.build(self.setup, self.adapters, state, it, 1, device)
        try:
            self.adapters.launcher.submit(run.root, spec)
        except OSError as error:
            if self.adapters.launcher.revoke(run.root):  # else a supervisor has claimed it: the folder decides
                return Row(proposal, same_draw, "killed", f"not started: {error}", {}, 0.0)
        self._wait(run)
        if self.stopping:
            return None
        record = self.adapters.launcher.exit_record(run.root)
        judged = evaluate.judge(self.setup, run, record)
        poor = [f"a draw that an exploration would not take: {ready.unfit}"] if ready.unfit else []
        told = [judged.sentence, *judged.marks, *poor, *map(str, ready.preflight.get("warnings", []))]
        seconds = sum(record.seconds.values()) if record else 0.0
        return Row(proposal, same_draw, judged.outcome, "; ".join(filter(None, told)), judged.metrics, seconds)

    def _wait(self, run: RunPaths) -> None:
        """Wait until the run has ended; cancel it (with a checkpoint) when asked to stop."""
        begun, cancelled = time.monotonic(), 0.0
        while True:
            where = self.adapters.launcher.state(run.root)
            waited = time.monotonic() - begun
            if where in ("ended", "vanished", "revoked"):
                return
            if where == "unclaimed" and waited > CLAIM_DEADLINE_S and self.adapters.launcher.revoke(run.root):
                return
            if self.stopping and not cancelled:
                cancelled = time.monotonic()
                self.adapters.launcher.cancel(run.root)
            if cancelled and time.monotonic() - cancelled > Limits().grace_s + 10.0:
                self.adapters.launcher.cancel(run.root, hard=True)
                return
            time.sleep(POLL_S)


# Seeds


def planned(state: State, node: Node, n: int, before: Iterable[Proposal] = ()) -> list[Proposal]:
    """Return `n` runs on the node's own draw and `n` on others, with seeds that nothing was chosen by.

    Args:
        state: of the exploration.
        node: whose config is run.
        n: runs of each kind.
        before: runs of earlier confirmations: their seeds are used ones too.
    """
    own = [state.iterations[i].proposal for i in state.ideas[node.idea]]
    old = list(before)
    training = fresh({p.training_seed for p in (*own, *old)}, n)
    everything = (*(it.proposal for it in state.iterations.values()), *old)
    draws = fresh({p.simulation_seed for p in everything}, n)
    draw = state.draw(node.block)
    assert draw is not None  # the node has run
    pairs = [*((seed, draw) for seed in training), *zip(training, draws, strict=True)]
    return [
        Proposal(
            iteration=number,
            parent=node.id,
            base=node.id,
            mutation=Mutation(kind="replicate", replicate_of=node.id),
            config_sha=node.config_sha,
            code=node.code,
            training_seed=training_seed,
            simulation_seed=simulation_seed,
            strategy="confirm",
            parent_rule="the best node",
            hypothesis="the best node does as well on seeds that it was not chosen by",
        )
        for number, (training_seed, simulation_seed) in enumerate(pairs, start=1)
    ]


def fresh(used: set[int], n: int) -> list[int]:
    """Return the first `n` seeds from `FIRST_SEED` on that are not used."""
    found: list[int] = []
    seed = FIRST_SEED
    while len(found) < n:
        if seed not in used:
            found.append(seed)
        seed += 1
    return found


def earlier(paths: Paths) -> list[Proposal]:
    """Return the runs that earlier confirmations planned; a plan that cannot be read is left out."""
    found: list[Proposal] = []
    for folder in sorted(paths.confirmations.glob("*")):
        path = ConfirmPaths(paths.source, paths.out, folder).plan
        try:
            found += [Proposal.model_validate(run) for run in json.loads(read_file(path, PLAN_LIMIT))["runs"]]
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


# The table


def render(state: State, node: Node, rows: list[Row], total: int) -> str:
    """Return confirm.md: one table of all runs with means and errors, and what they say of the exploration's figure."""
    rule = state.contract.primary
    names = [rule.name, *(m.name for m in state.contract.metrics if m.name != rule.name)]
    notes = [f"- run {row.proposal.iteration}: {row.sentence}" for row in rows if row.sentence]
    regime = state.regime_name(node.block)
    first = min(n.id for n in state.nodes.values() if state.regime_name(n.block) == regime)
    table = [
        ["", *(f"run {row.proposal.iteration}" for row in rows), "same draw", "new draws",
         f"explored: node {node.id}", f"iteration {first}"],
        ["training seed", *(str(row.proposal.training_seed) for row in rows), *[""] * 4],
        ["draw", *(str(row.proposal.simulation_seed) for row in rows), *[""] * 4],
        ["outcome", *(row.outcome for row in rows), *[""] * 4],
    ]  # fmt: skip
    for name in names:
        means = [_kind(rows, name, True), _kind(rows, name, False)]
        means += [_explored(state, node, name), _explored(state, state.nodes[first], name)]
        cells = [shown(row.metrics.get(name)) for row in rows]
        if name == rule.name or any(row.metrics.get(name) is not None for row in rows):
            table.append([name, *cells, *means])
    changes = [p.mutation.code.change for p in lineage.code_path(state, node.id) if p.mutation.code is not None]
    edited = [f"Its code was edited: {one_line('; '.join(changes))}.", ""] if changes else []
    lines = [
        f"# Is the best real? Node {node.id} of {state.contract.exploration}{f', regime {regime}' if regime else ''}",
        "",
        f"{len(rows)} of {total} runs. None of these seeds was used by the exploration to choose this node. Means are "
        "over the runs that gave a value, with their standard errors and numbers.",
        "",
        *edited,
        *_table(table),
        "",
        *(judgement(state, node, rows, same) for same in (True, False)),
        *(["", *notes] if notes else []),
    ]
    return "\n".join(lines) + "\n"


def _table(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in rows]
    return [lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]]


def _kind(rows: list[Row], name: str, same_draw: bool) -> str:
    """Return mean and standard error of a metric over the runs of one kind."""
    values = _values(rows, name, same_draw)
    return _mean_text(_mean(values), _error(values), len(values))


def _explored(state: State, node: Node, name: str) -> str:
    found = summarise(state, node, name)
    return _mean_text(found.mean, found.standard_error, found.n)


def _mean_text(mean: float | None, error: float | None, n: int) -> str:
    if mean is None:
        return "n/a"
    return f"{_short(mean)}{f' ± {_short(error)}' if error is not None else ''} ({n})"


def judgement(state: State, node: Node, rows: list[Row], same_draw: bool) -> str:
    """Return one sentence: whether the exploration's figure holds on other training seeds, or on other draws.

    The error is that of the difference: of the confirmation's mean, and of the exploration's own figure (its mean over
    its runs, or one draw among others).
    """
    rule = state.contract.primary
    what = "other training seeds" if same_draw else "other draws"
    values, tried = _values(rows, rule.name, same_draw), sum(row.same_draw == same_draw for row in rows)
    own, found = summarise(state, node, rule.name), _mean(values)
    if found is None or own.mean is None:
        return f"- On {what}: no result ({tried} run(s) tried)."
    lost = f"; {tried - len(values)} of {tried} runs gave no result" if len(values) < tried else ""
    floor = noise(state, rule.name, node.block).sd if same_draw else None  # between draws it is not the noise
    error = _error(values)
    sd = error * math.sqrt(len(values)) if error is not None else floor
    gap = tree.reward(rule, own.mean) - tree.reward(rule, found)
    if sd is None:
        return f"- On {what}: {found:.4f}, the exploration {own.mean:.4f}; too few runs for a standard error{lost}."
    own_error = (sd if floor is None else floor) / math.sqrt(own.n) if same_draw else sd  # it is one draw
    error = math.hypot(sd / math.sqrt(len(values)), own_error)
    names = [rule.name for rule in state.contract.verdicts]
    wanted = names.index(verdict(state, state.iterations[node.id]))
    fine = sum(names.index(_class(state, row)) <= wanted for row in rows if row.same_draw == same_draw)
    word = "the figure holds" if fine == tried else f"it depends on the {'seed' if same_draw else 'draw'}"
    if gap > max(0.0, CONVINCING * error):
        word = "the figure was too good"
    side = f"{abs(gap):.4f} {'below' if gap > 0 else 'above'}"
    reached = f"{fine} of {tried} are {names[wanted].lower()}{' or better' if wanted else ''}"
    spread = f"{min(values):.4f} to {max(values):.4f}"
    return (
        f"- On {what}: {word}; {reached}, {spread}; the mean is {side} the exploration's (standard error "
        f"{error:.4f}){lost}."
    )


def _class(state: State, row: Row) -> str:
    """Return a run's class by the instruction's rules: the first whose conditions all hold, else the last."""
    measured = {name: metric.value for name, metric in row.metrics.items()}
    for rule in state.contract.verdicts:
        if all(holds(c, measured.get(c.metric)) for c in rule.conditions):
            return rule.name
    return state.contract.verdicts[-1].name


def _values(rows: list[Row], name: str, same_draw: bool) -> list[float]:
    found = [row.metrics.get(name) for row in rows if row.same_draw == same_draw and row.outcome == "ok"]
    return [m.value for m in found if m is not None and m.value is not None]


def _mean(values: list[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _error(values: list[float]) -> float | None:
    mean = _mean(values)
    if mean is None or len(values) < 2:
        return None
    error = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values))
    return error if error > 1e-12 * abs(mean) else 0.0  # equal values, but for rounding


def shown(metric: Metric | None) -> str:
    """Return a metric for the table."""
    if metric is None or metric.value is None:
        return "n/a" if metric is None or metric.reason not in ("nan", "inf", "-inf") else metric.reason
    return _short(metric.value)


def _short(value: float) -> str:
    return f"{value:.4f}" if value == 0.0 or 1e-4 <= abs(value) < 1e4 else f"{value:.2e}"


def read_tables(paths: Paths) -> list[tuple[str, str]]:
    """Return (stamp, text) of the confirmations with a table, oldest first."""
    found: list[tuple[str, str]] = []
    for folder in sorted(paths.confirmations.glob("*")):
        path = ConfirmPaths(paths.source, paths.out, folder).table
        try:
            found.append((folder.name, read_file(path, PLAN_LIMIT).decode(errors="replace")))
        except OSError:
            continue
    return found
