"""Runs in flight: judge those that have ended, start those that are proposed, wait for the next end.

The journal says which runs were reserved; their folders say where they stand. A run of an earlier session whose
supervisor lives is adopted (it is simply still running), one that nobody claimed is revoked, one whose supervisor
vanished counts as lost and is tried again. A run that has no line in the journal is stopped: nothing waits for it.
"""

from __future__ import annotations

import time

from orchestrator.core import configs
from orchestrator.core.events import Alarm, RunEnded, RunReserved
from orchestrator.core.records import Config
from orchestrator.core.state import Attempt, Iteration
from orchestrator.engine import evaluate, orders, placing, regimes
from orchestrator.engine.board import Board
from orchestrator.engine.trial import crash_text
from orchestrator.errors import EXIT_NEEDS_PERSON, NeedsPersonError, StoppedError
from orchestrator.launch import folder
from orchestrator.ports import LaunchSpec, Limits

POLL_S = 0.1
CLAIM_DEADLINE_S = 60.0


class Runs:
    """The runs of one engine."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._submitted: dict[tuple[int, int], float] = {}
        self._cancelled: set[tuple[int, int]] = set()

    # Runs that ended

    def collect(self) -> None:
        """Judge what has ended: an event each."""
        for it, attempt in list(self._board.flying()):
            self._collect_one(it, attempt)

    def _collect_one(self, it: Iteration, attempt: Attempt) -> None:
        board, launcher = self._board, self._board.adapters.launcher
        run, key = board.run(it, attempt.number), (it.proposal.iteration, attempt.number)
        where = launcher.state(run.root)
        if where == "running":
            return
        earlier = attempt.session != board.state.sessions
        if where == "unclaimed":
            if (not earlier and not self._overdue(key)) or not launcher.revoke(run.root):
                return
            self.end(it, attempt, evaluate.Verdict("killed", "no supervisor had claimed the run", "unclaimed"), earlier)
            return
        record = launcher.exit_record(run.root) if where == "ended" else None
        verdict = evaluate.judge(board.setup, run, record)
        if verdict.outcome == "crashed" and board.setup.contract.command is None:
            verdict.traceback = crash_text(board.setup, it.proposal.code, run)
        lost = verdict.outcome == "killed" and (
            key in self._cancelled or (earlier and verdict.cause in ("vanished", "cancelled"))
        )
        self.end(it, attempt, verdict, lost)

    def _overdue(self, key: tuple[int, int]) -> bool:
        """Return whether a supervisor has had its time to claim a run."""
        return time.monotonic() - self._submitted.get(key, 0.0) > CLAIM_DEADLINE_S

    def end(self, it: Iteration, attempt: Attempt, verdict: evaluate.Verdict, lost: bool) -> None:
        """Record how an attempt ended."""
        record = self._board.adapters.launcher.exit_record(self._board.run(it, attempt.number).root)
        self._board.append(
            RunEnded(
                iteration=it.proposal.iteration,
                attempt=attempt.number,
                session=self._board.state.sessions,
                outcome=verdict.outcome,
                sentence=verdict.sentence,
                cause=verdict.cause,
                traceback=verdict.traceback,
                lost=lost,
                metrics=verdict.metrics,
                keys_idle=verdict.keys_idle,
                marks=verdict.marks,
                result_sha=verdict.result_sha,
                seconds=round(sum(record.seconds.values()), 3) if record else 0.0,
                memory_bytes=verdict.memory_bytes,
                in_flight=self._in_flight(it, attempt) if verdict.outcome == "ok" else None,
            )
        )

    def _in_flight(self, it: Iteration, attempt: Attempt) -> float | None:
        """Return the mean number of this exploration's runs in flight while an attempt ran, itself included."""
        board = self._board
        own = folder.interval(board.run(it, attempt.number).root)
        if own is None:
            return None
        shared = 0.0
        for other in board.state.iterations.values():
            for a in other.attempts:
                beside = a is not attempt and (a.ended_seq is None or a.ended_seq > attempt.seq)
                if beside and (found := folder.interval(board.run(other, a.number).root)):
                    shared += max(0.0, min(found[1], own[1]) - max(found[0], own[0]))
        return round(1 + shared / max(own[1] - own[0], 1e-3), 2)

    # Runs to start

    def launch(self) -> int | None:
        """Start what is proposed and has a slot; return an exit code when a person is needed."""
        board = self._board
        for it in board.state.open_iterations:
            if board.stopping:
                return None  # a run that is started now would be cancelled at once
            if it.in_flight or sum(1 for _ in board.flying()) >= board.adapters.slots:
                continue
            assert board.state.opened is not None
            if why := orders.unconfined(board.setup, board.adapters, (it.proposal.code, board.state.opened.code)):
                return self.alarm("sandbox", why)
            try:
                self.regime(board.state.config_of(it.proposal), it.block)
            except NeedsPersonError as error:
                if it.proposal.simulation_seed == board.state.draw(it.block):
                    return self.alarm("preflight", str(error))
                self._other_draw_refused(it, str(error))
                continue
            except StoppedError:
                return None
            device = placing.device_for(board.state, board.adapters.gpus, it)
            if device is None:
                continue  # until a run in flight ends
            number = len(it.attempts) + 1
            resumes = self._resume_from(it, number)
            spec = orders.build(board.setup, board.adapters, board.state, it, number, device)
            self._reserve(it, number, resumes, device)
            self._submit(it, spec)
        return None

    def _reserve(self, it: Iteration, number: int, resumes: int | None = None, device: str = "") -> None:
        board, iteration = self._board, it.proposal.iteration
        taken = {a.slot for _, a in board.flying()}
        wanted = (it.proposal.slot, *range(board.adapters.slots))
        slot = next(s for s in wanted if s < board.adapters.slots and s not in taken)
        board.append(
            RunReserved(
                iteration=iteration,
                attempt=number,
                session=board.state.sessions,
                resumes=resumes,
                slot=slot,
                device=device,
                beside=placing.beside(board.state, device),
                sandbox=board.adapters.sandbox,
            )
        )
        self._submitted[iteration, number] = time.monotonic()

    def _other_draw_refused(self, it: Iteration, why: str) -> None:
        """End an iteration whose draw (another than the block's) is not fit: a result about that draw, not a stop."""
        self._reserve(it, len(it.attempts) + 1)
        told = evaluate.Verdict("rejected", why, f"draw {it.proposal.simulation_seed} refused")
        self.end(it, it.attempts[-1], told, lost=False)

    def _submit(self, it: Iteration, spec: LaunchSpec) -> None:
        attempt = it.attempts[-1]
        run, launcher = self._board.run(it, attempt.number), self._board.adapters.launcher
        try:
            launcher.submit(run.root, spec)
        except OSError as error:
            if launcher.revoke(run.root):  # else a supervisor has claimed it: the folder decides
                self.end(it, attempt, evaluate.Verdict("killed", f"not started: {error}", "not started"), lost=False)

    def _resume_from(self, it: Iteration, number: int) -> int | None:
        new = self._board.run(it, number)
        for attempt in reversed(it.attempts):
            old = self._board.run(it, attempt.number)
            if old.out.is_dir() and orders.carry_over(old, new):
                return attempt.number
        return None

    # Data

    def regime(self, config: Config, block: int) -> None:
        """Have the data that a config trains on; a regime that was not ready before becomes an event.

        Data are made by the code at opening, whatever node they are for: preparing sees the truth and is trusted.

        Raises:
            NeedsPersonError: the data are not fit to be explored.
            StoppedError: a person asked to stop.
        """
        board = self._board
        sha = orders.regime_sha(board.setup, config)
        known = any(r.regime == sha for r in board.state.regimes)
        if known and (board.setup.spec.command or board.setup.paths.regime(sha).preflight.exists()):
            return
        name = board.state.regime_name(block)
        if not board.setup.spec.command:
            seed = configs.get(config, "simulation.seed")
            told = f"{name}, simulation seed {seed}" if name else f"simulation seed {seed}"
            board.observer.say(f"{told}: generating data, then measuring oracle, null and ceiling")
        assert board.state.opened is not None
        found = regimes.ready(board.setup, board.adapters, config, board.state.opened.code, self._pause, name)
        if not known:
            board.append(found)

    def _pause(self) -> bool:
        """Show that the engine is alive while data are generated; return whether to go on."""
        self._board.tick()
        return not self._board.stopping

    # Waiting and stopping

    def wait(self) -> None:
        """Wait until some run in flight may have ended."""
        board = self._board
        while not board.stopping:
            flying = list(board.flying())
            for it, attempt in flying:
                where = board.adapters.launcher.state(board.run(it, attempt.number).root)
                key = (it.proposal.iteration, attempt.number)
                if where in ("ended", "vanished", "revoked") or (where == "unclaimed" and self._overdue(key)):
                    return
            if not flying:
                return
            board.tick()
            time.sleep(POLL_S)

    def stop(self) -> None:
        """Cancel the runs in flight and wait for their checkpoints; each is tried again by the next session."""
        deadline = time.monotonic() + Limits().grace_s + 10.0
        flying = list(self._board.flying())
        for it, attempt in flying:
            self._cancelled.add((it.proposal.iteration, attempt.number))
            self._board.adapters.launcher.cancel(self._board.run(it, attempt.number).root)
        while any(a.ended is None for _, a in flying) and time.monotonic() < deadline:
            time.sleep(POLL_S)
            self.collect()

    def reap(self) -> None:
        """Stop and set aside runs of this exploration that have no line in the journal (it was put back from a copy).

        Nothing would wait for them, and their results must not be taken for those of runs that get their names.
        """
        board, launcher = self._board, self._board.adapters.launcher
        known = {board.run(it, a.number).root for it in board.state.iterations.values() for a in it.attempts}
        for path in sorted(board.setup.paths.runs.glob("*-*")):
            if path in known or (where := launcher.state(path)) == "unclaimed":
                continue
            if where == "running":
                launcher.cancel(path, hard=True)
            target = board.setup.paths.unknown_run(path.name)
            target.parent.mkdir(exist_ok=True)
            path.rename(target)
            board.observer.say(f"{path.name} has no line in the journal: set aside as {target}")

    def alarm(self, kind: str, sentence: str) -> int:
        """Record why a person is needed; return the exit code."""
        last = max((it.proposal.iteration for it in self._board.state.done), default=0)
        self._board.append(Alarm(session=self._board.state.sessions, kind=kind, iteration=last, sentence=sentence))
        return EXIT_NEEDS_PERSON
