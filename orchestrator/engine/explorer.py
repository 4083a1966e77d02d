"""The loop. Each step is one function and at most one kind of event; a kill between any two loses nothing.

start:    take the journal, open the exploration if it is new, begin a session, adopt or write off earlier runs
collect:  judge what has ended                     -> run_ended
guard:    stop when the same failure repeats       -> alarm
turn:     ask the scientist, check, take or refuse -> turn | refused
launch:   reserve, then start                      -> run_reserved
publish:  render the views
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from orchestrator import __version__
from orchestrator.core import boundary, configs, mutation, stopping
from orchestrator.core.events import Alarm, Body, Opened, Refused, RunEnded, RunReserved, Session, Turned
from orchestrator.core.records import Config, Turn
from orchestrator.core.state import Attempt, Iteration, State
from orchestrator.engine import evaluate, orders, placing, regimes, snapshots
from orchestrator.engine.context import Adapters, Live, Observer, Setup
from orchestrator.engine.inputs import Inputs
from orchestrator.engine.live import read_live
from orchestrator.engine.publish import Views
from orchestrator.engine.sealing import code_in_use
from orchestrator.errors import (
    EXIT_DONE,
    EXIT_NEEDS_PERSON,
    EXIT_STOPPED,
    JournalError,
    NeedsPersonError,
    RefusedError,
    UserError,
)
from orchestrator.ports import LaunchSpec, Limits
from orchestrator.scientist.offline import OfflineScientist
from orchestrator.store import atomic
from orchestrator.store.journal import Journal

POLL_S = 0.1
CLAIM_DEADLINE_S = 60.0
REPAIRS = 3
"""Turns that may be refused before the offline scientist steps in."""
CRASH_LOOP = 3
"""Consecutive failures with one cause over different configs that stop the exploration."""


class Explorer:
    """Runs one exploration up to a number of iterations."""

    def __init__(self, setup: Setup, adapters: Adapters, observer: Observer) -> None:
        self.setup, self.adapters, self.observer = setup, adapters, observer
        self.state = State(setup.contract)
        self.stopping = False
        """Set by a signal handler: cancel what runs (with a checkpoint) and end."""
        self._views = Views(setup.paths)
        self._inputs = Inputs(setup)
        self._paused = ""
        """Why nothing new is proposed: an input file that cannot be compiled."""
        self._submitted: dict[tuple[int, int], float] = {}
        self._cancelled: set[tuple[int, int]] = set()
        self._last_tick = 0.0

    def run(self, iterations: int) -> int:
        """Explore until `iterations` are judged; return the exit code.

        Raises:
            UserError: with everything finished so far kept.
        """
        with Journal(self.setup.paths.journal, self.setup.paths.engine_lock) as journal:
            self._journal = journal
            self.setup.paths.paused.unlink(missing_ok=True)
            self._start(iterations)
            while True:
                self._collect()
                if self.stopping:
                    return self._stop()
                code = self._step(iterations)
                self._publish()
                if code is not None:
                    return code
                if any(it.in_flight for it in self.state.open_iterations):
                    self._wait(iterations)
                elif self._paused:
                    self._tick(iterations)
                    time.sleep(POLL_S)

    def _step(self, iterations: int) -> int | None:
        for step in (self._guard, lambda: self._turn(iterations), self._launch):
            code = step()
            if code is not None:
                return code
        return None

    # Events

    def _append(self, body: Body) -> None:
        event = self._journal.append(body)
        self.state.apply(event)
        self.observer.event(event, self.state)

    def _start(self, iterations: int) -> None:
        for event in self._journal.events:
            try:
                self.state.apply(event)
            except (ValueError, KeyError) as error:
                raise JournalError(f"{self.setup.paths.journal}, line {event.seq}: {error}") from error
        if self.state.opened is None:
            self._open()
        elif self.state.contract.sha != self.setup.contract.sha:
            raise JournalError(f"{self.setup.paths.out} was opened by another engine just now: run the command again")
        self._append(
            Session(
                session=self.state.sessions + 1,
                version=__version__,
                scientist=self.adapters.scientist.name,
                launcher=type(self.adapters.launcher).__name__,
                slots=self.adapters.slots,
                sandbox=self.adapters.sandbox,
                iterations=iterations,
            )
        )
        self._publish()

    def _publish(self) -> None:
        self._views.publish(self.state, self._append)
        snapshots.write_missing(self.setup.paths, self.state, self._journal.events)

    def _open(self) -> None:
        contract = self.setup.contract
        self._inputs.remember(self.setup)
        self._append(
            Opened(
                exploration=self.setup.name,
                contract_sha=contract.sha,
                contract=contract.model_dump(mode="json"),
                instruction=self.setup.instruction,
                origin=self.setup.origin,
                profile=self.setup.profile,
                device=self.setup.device,
                code=code_in_use(self.setup),
                seed=self.setup.seed,
                start=contract.start,
            )
        )

    # Runs that ended

    def _collect(self) -> None:
        for it in self.state.open_iterations:
            for attempt in it.attempts:
                if attempt.ended is None:
                    self._collect_one(it, attempt)

    def _collect_one(self, it: Iteration, attempt: Attempt) -> None:
        run = self.setup.paths.run(it.proposal.iteration, attempt.number)
        key = (it.proposal.iteration, attempt.number)
        where = self.adapters.launcher.state(run.root)
        if where == "running":
            return
        earlier = attempt.session != self.state.sessions
        if where == "unclaimed":
            waited = time.monotonic() - self._submitted.get(key, 0.0)
            if (not earlier and waited < CLAIM_DEADLINE_S) or not self.adapters.launcher.revoke(run.root):
                return
            self._end(
                it, attempt, evaluate.Verdict("killed", "no supervisor had claimed the run", "unclaimed"), earlier
            )
            return
        record = self.adapters.launcher.exit_record(run.root) if where == "ended" else None
        verdict = evaluate.judge(self.setup, run, record)
        lost = verdict.outcome == "killed" and (
            key in self._cancelled or (earlier and verdict.cause in ("vanished", "cancelled"))
        )
        self._end(it, attempt, verdict, lost)

    def _end(self, it: Iteration, attempt: Attempt, verdict: evaluate.Verdict, lost: bool) -> None:
        run = self.setup.paths.run(it.proposal.iteration, attempt.number)
        record = self.adapters.launcher.exit_record(run.root)
        self._append(
            RunEnded(
                iteration=it.proposal.iteration,
                attempt=attempt.number,
                session=self.state.sessions,
                outcome=verdict.outcome,
                sentence=verdict.sentence,
                cause=verdict.cause,
                lost=lost,
                metrics=verdict.metrics,
                keys_idle=verdict.keys_idle,
                marks=verdict.marks,
                result_sha=verdict.result_sha,
                seconds=round(sum(record.seconds.values()), 3) if record else 0.0,
                memory_bytes=verdict.memory_bytes,
            )
        )

    # Rules that stop

    def _guard(self) -> int | None:
        since = max((a.iteration for a in self.state.alarms), default=0)
        recent = [it for it in self.state.done if it.proposal.iteration > since][-CRASH_LOOP:]
        ends = [it.final for it in recent if it.final]
        if len(ends) < CRASH_LOOP or any(e.outcome == "ok" for e in ends) or len({e.cause for e in ends}) > 1:
            return None
        if len({self.state.nodes[it.node].config_sha for it in recent}) < 2:
            return None
        numbers = ", ".join(str(e.iteration) for e in ends)
        sentence = (
            f"iterations {numbers} over different configs ended alike ({ends[-1].outcome}): {ends[-1].sentence}. "
            "Fix the cause, then run the same command again: it goes on from here"
        )
        return self._alarm("crash-loop", sentence)

    def _alarm(self, kind: str, sentence: str) -> int:
        last = max((it.proposal.iteration for it in self.state.done), default=0)
        self._append(Alarm(session=self.state.sessions, kind=kind, iteration=last, sentence=sentence))
        return EXIT_NEEDS_PERSON

    def _stop(self) -> int:
        """Cancel the runs in flight, wait for their checkpoints, and end the session."""
        deadline = time.monotonic() + Limits().grace_s + 10.0
        flying = [(it, a) for it in self.state.open_iterations for a in it.attempts if a.ended is None]
        for it, attempt in flying:
            self._cancelled.add((it.proposal.iteration, attempt.number))
            self.adapters.launcher.cancel(self.setup.paths.run(it.proposal.iteration, attempt.number).root)
        while any(a.ended is None for _, a in flying) and time.monotonic() < deadline:
            time.sleep(POLL_S)
            self._collect()
        self.setup.paths.paused.unlink(missing_ok=True)
        self._publish()
        return EXIT_STOPPED

    # The scientist's turn

    def _turn(self, iterations: int) -> int | None:
        """Take one turn if something is to be judged or proposed; return an exit code when all is done."""
        n = 0 if self.state.closing is not None else self._wanted(iterations)
        if not n and not self.state.unreflected and self.state.closing is None:
            return None if self.state.open_iterations else EXIT_DONE
        if self._amend():
            return None
        if n and not self.state.open_iterations:
            code = self._draws()
            if code is not None or self.stopping:
                return code
        turn = self._accepted(n)
        self._append(Turned(turn=turn))
        if n and not turn.proposals and not self.state.open_iterations:
            return self._alarm(
                "exhausted",
                "nothing untried is left inside the instruction's ranges; widen a range or start a new exploration",
            )
        return None

    def _amend(self) -> bool:
        """Take up what a person changed in the input files; return whether that is impossible for now."""
        try:
            found = self._inputs.changed(self.setup, self.state)
        except UserError as error:
            if str(error) != self._paused:
                self._paused = str(error)
                atomic.write_text(self.setup.paths.paused, f"{error}\n")
                self.observer.say(f"paused until it is mended (what runs goes on, the rules stay): {error}")
            return True
        if self._paused:
            self.observer.say("the input files can be read again: going on")
            self._paused = ""
            self.setup.paths.paused.unlink(missing_ok=True)
        if found is not None:
            self._append(found[1])
            self.setup = found[0]
        return False

    def _wanted(self, iterations: int) -> int:
        """Return how many proposals to ask for."""
        free = self.adapters.slots - len(self.state.open_iterations)
        n = max(0, min(free, iterations - self.state.last_iteration))
        reason = self._enough() if n else None
        if reason and not self.state.unreflected and not self.state.open_iterations:
            self.observer.say(f"stopped by exploration.yaml: {reason}")
        return 0 if reason else n

    def _draws(self) -> int | None:
        """Prepare the data of a block that begins: draw after draw, until one is fit by the rule of exploration.yaml.

        Returns an exit code when a person is needed.
        """
        block = self.state.block
        while self.state.last_iteration + 1 == self.state.first_of(block):
            config = self.state.base_config(None, block)
            name = self.state.regime_name(block)
            tried = [r for r in self.state.regimes if r.regime_name == name and r.simulation_seed is not None]
            if any(not r.unfit for r in tried) or len(tried) >= self.setup.spec.draws.tries or self.setup.spec.command:
                return None
            seed = configs.get(config, "simulation.seed") + len(tried)
            try:
                self._regime(configs.with_values(config, {"simulation.seed": seed}), block)
            except NeedsPersonError as error:
                return self._alarm("preflight", str(error))
            except regimes.Stopped:
                return None
            found = self.state.regimes[-1]
            if found.simulation_seed != seed:
                return None  # its data were known already
            if found.unfit:
                self.observer.say(f"draw {found.simulation_seed} of {name or 'this system'} is unfit: {found.unfit}")
        return None

    def _enough(self) -> str | None:
        """Return why a stop rule of exploration.yaml ends the exploration here, or None."""
        rules = self.setup.spec.stop
        if rules.until is not None and datetime.now(UTC) >= rules.until:
            return f"it is past {rules.until:%Y-%m-%d %H:%M} UTC"
        return stopping.target_reached(self.state, rules.target) or stopping.without_gain(
            self.state, rules.blocks_without_gain
        )

    def _accepted(self, n: int) -> Turn:
        number = len(self.state.turns) + 1
        refused = sum(r.turn == number for r in self.state.refusals)
        while refused < REPAIRS:
            turn = self.adapters.scientist.propose(self.state, n)
            try:
                return self._check(turn, n)
            except RefusedError as error:
                refused += 1
                name = self.adapters.scientist.name
                self._append(Refused(turn=number, attempt=refused, scientist=name, reason=str(error)))
        return self._check(OfflineScientist().propose(self.state, n), n)

    def _check(self, turn: Turn, n: int) -> Turn:
        if len(turn.proposals) > n:
            raise RefusedError(f"{len(turn.proposals)} proposals refused: {n} slot(s) are free")
        boundary.check(self.state, turn)
        for i, proposal in enumerate(turn.proposals):
            mutation.check(self.state, proposal, turn.proposals[:i])
        return turn

    # Launching

    def _launch(self) -> int | None:
        for it in self.state.open_iterations:
            if it.attempts and it.attempts[-1].ended is None:
                continue
            try:
                self._regime(self.state.config_of(it.proposal), it.block, it.proposal.code)
            except NeedsPersonError as error:
                if it.proposal.simulation_seed == self.state.draw(it.block):
                    return self._alarm("preflight", str(error))
                self._other_draw_refused(it, str(error))
                continue
            except regimes.Stopped:
                return None
            device = placing.device_for(self.state, self.adapters.gpus, it)
            if device is None:
                continue  # until a run in flight ends
            number = len(it.attempts) + 1
            resumes = self._resume_from(it, number)
            spec = orders.build(self.setup, self.adapters, self.state, it, number, device)
            self._append(
                RunReserved(
                    iteration=it.proposal.iteration,
                    attempt=number,
                    session=self.state.sessions,
                    resumes=resumes,
                    device=device,
                    beside=placing.beside(self.state, device),
                )
            )
            self._submitted[it.proposal.iteration, number] = time.monotonic()
            self._submit(it, spec)
        return None

    def _other_draw_refused(self, it: Iteration, why: str) -> None:
        """End an iteration whose draw (another than the block's) is not fit: a result about that draw, not a stop."""
        number = len(it.attempts) + 1
        session = self.state.sessions
        self._append(RunReserved(iteration=it.proposal.iteration, attempt=number, session=session))
        told = evaluate.Verdict("rejected", why, f"draw {it.proposal.simulation_seed} refused")
        self._end(it, it.attempts[-1], told, lost=False)

    def _submit(self, it: Iteration, spec: LaunchSpec) -> None:
        attempt = it.attempts[-1]
        run = self.setup.paths.run(it.proposal.iteration, attempt.number)
        try:
            self.adapters.launcher.submit(run.root, spec)
        except OSError as error:
            if self.adapters.launcher.revoke(run.root):  # else a supervisor has claimed it: the folder decides
                self._end(it, attempt, evaluate.Verdict("killed", f"not started: {error}", "not started"), lost=False)

    def _resume_from(self, it: Iteration, number: int) -> int | None:
        new = self.setup.paths.run(it.proposal.iteration, number)
        for attempt in reversed(it.attempts):
            old = self.setup.paths.run(it.proposal.iteration, attempt.number)
            if old.out.is_dir() and orders.carry_over(old, new):
                return attempt.number
        return None

    def _regime(self, config: Config, block: int, code: str | None = None) -> None:
        """Have the data that a config trains on; a regime that was not ready before becomes an event."""
        sha = orders.regime_sha(self.setup, config)
        known = any(r.regime == sha for r in self.state.regimes)
        if known and (self.setup.spec.command or self.setup.paths.regime(sha).preflight.exists()):
            return
        if not self.setup.spec.command:
            seed = configs.get(config, "simulation.seed")
            name = self.state.regime_name(block)
            told = f"{name}, simulation seed {seed}" if name else f"simulation seed {seed}"
            self.observer.say(f"{told}: generating data, then measuring oracle, null and ceiling")
        assert self.state.opened is not None
        tree = code or self.state.opened.code
        named = self.state.regime_name(block)
        found = regimes.ready(self.setup, self.adapters, config, tree, self._pause, named)
        if not known:
            self._append(found)

    def _pause(self) -> bool:
        """Show that the engine is alive while data are generated; return whether to go on."""
        self._tick(0)
        return not self.stopping

    # Waiting

    def _wait(self, iterations: int) -> None:
        """Wait until some run in flight may have ended."""
        while not self.stopping:
            flying = [(it, a) for it in self.state.open_iterations for a in it.attempts if a.ended is None]
            if not flying:
                return
            for it, attempt in flying:
                run = self.setup.paths.run(it.proposal.iteration, attempt.number)
                where = self.adapters.launcher.state(run.root)
                waited = time.monotonic() - self._submitted.get((it.proposal.iteration, attempt.number), 0.0)
                if where in ("ended", "vanished", "revoked") or (where == "unclaimed" and waited > CLAIM_DEADLINE_S):
                    return
            self._tick(iterations)
            time.sleep(POLL_S)

    def _tick(self, iterations: int) -> None:
        if time.monotonic() - self._last_tick < 0.5:
            return
        self._last_tick = time.monotonic()
        live: list[Live] = []
        for it in self.state.open_iterations:
            for attempt in it.attempts:
                if attempt.ended is None:
                    live.append(read_live(self.setup.paths, it, attempt.number))
        self.observer.tick(self.state, live, iterations)
