"""The loop. Each step is one function and at most one kind of event; a kill between any two loses nothing.

start:    take the journal, open the exploration if it is new, begin a session, adopt or write off earlier runs
collect:  judge what has ended                     -> run_ended
guard:    stop when the same failure repeats       -> alarm
turn:     ask the scientist, check, take or refuse -> turn | refused
launch:   reserve, then start                      -> run_reserved
publish:  render the views

With several slots a turn speaks about the runs that have ended and fills the slots that are free (`refill`), or waits
until all have ended (`batch`). Nothing beyond a block is proposed before its runs are final.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from orchestrator import __version__
from orchestrator.core import code_rules, configs, edits, slots, stopping, turns
from orchestrator.core.contract import Contract
from orchestrator.core.events import Human, Opened, Refused, Session, Turned
from orchestrator.core.records import Turn
from orchestrator.core.state import Iteration, State, fold
from orchestrator.engine import prepared, snapshots
from orchestrator.engine.board import Board
from orchestrator.engine.code_refs import CodeRefs
from orchestrator.engine.context import Adapters, Live, Observer, Setup
from orchestrator.engine.inputs import Inputs
from orchestrator.engine.office import EngineOffice
from orchestrator.engine.publish import Views
from orchestrator.engine.runs import POLL_S, Runs
from orchestrator.engine.sealing import code_in_use
from orchestrator.errors import (
    EXIT_DONE,
    EXIT_STOPPED,
    JournalError,
    NeedsPersonError,
    RefusedError,
    StoppedError,
    UserError,
)
from orchestrator.scientist.claude import ClaudeScientist
from orchestrator.scientist.offline import OfflineScientist
from orchestrator.store import atomic
from orchestrator.store.journal import Journal
from orchestrator.vcs import git

CRASH_LOOP = 3
"""Consecutive failures with one cause over different configs that stop the exploration."""
WORTH_FILLING = 0.5
"""Share of its steps up to which a run that a block waits for leaves time for another run beside it."""


class Explorer:
    """Runs one exploration up to a number of iterations."""

    def __init__(self, setup: Setup, adapters: Adapters, observer: Observer) -> None:
        self.board = Board(setup, adapters, observer)
        self._runs = Runs(self.board)
        self._views = Views(setup.paths)
        self._refs = CodeRefs(setup.paths)
        self._inputs = Inputs(setup)
        self._paused = ""
        """Why nothing new is proposed: an input file that cannot be compiled."""
        self._halted = ""
        """Why a person is needed once the runs in flight have ended: the scientist cannot be asked."""

    @property
    def state(self) -> State:
        """The fold."""
        return self.board.state

    def stop(self) -> None:
        """Ask for the end (from a signal handler): cancel what runs, with a checkpoint."""
        self.board.stopping = True

    def run(self, iterations: int) -> int:
        """Explore until `iterations` are judged; return the exit code.

        Raises:
            UserError: with everything finished so far kept.
        """
        paths = self.board.setup.paths
        with Journal(paths.journal, paths.engine_lock) as journal:
            paths.paused.unlink(missing_ok=True)
            self._start(journal, iterations)
            while True:
                self._runs.collect()
                code = EXIT_STOPPED if self.board.stopping else self._step()
                if code is not None:
                    self._runs.stop()
                    paths.paused.unlink(missing_ok=True)
                self._publish()
                if code is not None:
                    return code
                if self._paused:  # also beside runs in flight: the other slots are waiting for the mended file
                    self.board.tick()
                    time.sleep(POLL_S)
                elif any(self.board.flying()):
                    self._runs.wait()

    def _step(self) -> int | None:
        if self._halted:
            return None if any(self.board.flying()) else self._runs.alarm("scientist", self._halted)
        for step in (self._guard, self._turn, self._runs.launch):
            code = step()
            if code is not None:
                return code
        return None

    # Start

    def _start(self, journal: Journal, iterations: int) -> None:
        board = self.board
        board.iterations = iterations
        board.take(journal)
        if board.state.opened is None:
            self._open()
        elif board.state.contract.sha != board.setup.contract.sha:
            raise JournalError(f"{board.setup.paths.out} was opened by another engine just now: run the command again")
        adapters = board.adapters
        board.append(
            Session(
                session=board.state.sessions + 1,
                version=__version__,
                scientist=adapters.scientist.name,
                launcher=type(adapters.launcher).__name__,
                slots=adapters.slots,
                mode=adapters.mode,
                roles=slots.roles(adapters.slots, board.setup.spec.roles),
                sandbox=adapters.sandbox,
                iterations=iterations,
            )
        )
        if board.setup.contract.command is None:
            git.tidy(board.setup.paths.out)
        self._runs.reap()
        adapters.scientist.attach(EngineOffice(board))
        if adapters.scientist.name == "offline" and board.state.opened is not None:
            for note in prepared.notes(board.setup.paths.out, board.state.contract, board.state.opened.code):
                board.observer.say(note)
        self._publish()

    def _publish(self) -> None:
        self._views.publish(self.state, self.board.append)
        self._refs.publish(self.state)
        snapshots.write_missing(self.board.setup.paths, self.state, self.board.journal.events)

    def _open(self) -> None:
        setup = self.board.setup
        contract = setup.contract
        self._inputs.remember(setup)
        self.board.append(
            Opened(
                exploration=setup.name,
                contract_sha=contract.sha,
                contract=contract.model_dump(mode="json"),
                instruction=setup.instruction,
                origin=setup.origin,
                profile=setup.profile,
                device=setup.device,
                code=code_in_use(setup),
                seed=setup.seed,
                start=contract.start,
                code_wished=setup.code_wished,
            )
        )

    # Rules that stop

    def _guard(self) -> int | None:
        state = self.state
        since = max((a.session for a in state.alarms), default=0)
        new = [it for it in state.done if it.attempts[-1].session > since]  # what ran beside an alarm is told by it
        recent = sorted(new, key=lambda it: it.attempts[-1].ended_seq or 0)[-CRASH_LOOP:]
        ends = [it.final for it in recent if it.final]
        if len(ends) < CRASH_LOOP or any(e.outcome == "ok" for e in ends) or len({e.cause for e in ends}) > 1:
            return None
        if len({_idea(state, it) for it in recent}) < 2:
            return None
        if all(it.proposal.mutation.kind == "code" and it.outcome == "crashed" for it in recent):
            return None  # each ran on this machine in its trial: the edits are to blame, and their verdicts say so
        numbers = ", ".join(str(e.iteration) for e in ends)
        sentence = (
            f"iterations {numbers} over different configs ended alike ({ends[-1].outcome}): {ends[-1].sentence}. "
            "Fix the cause, then run the same command again: it goes on from here"
        )
        return self._runs.alarm("crash-loop", sentence)

    # The scientist's turn

    def _turn(self) -> int | None:
        """Take one turn if something is to be judged or proposed; return an exit code when all is done."""
        state = self.state
        if self.board.adapters.mode == "batch" and state.open_iterations:
            return None  # all are judged together
        n = 0 if state.closing is not None else self._wanted()
        if not n and not state.unreflected and state.closing is None:
            return None if state.open_iterations else EXIT_DONE
        if not n and state.closing is None and state.open_iterations and self.board.adapters.scientist.patient:
            return None
        if self._amend():
            return None
        if n and not state.open_iterations:
            code = self._draws()
            if code is not None or self.board.stopping:
                return code
        try:
            turn = self._accepted(n)
        except StoppedError:
            return None
        except NeedsPersonError as error:
            self._halted = str(error)
            if state.open_iterations:
                self.board.observer.say(f"no further turn, ending with the runs in flight: {error}")
            return None
        if turn.proposals or turn.reflections or turn.boundary or not state.open_iterations:
            self.board.append(Turned(turn=turn))
        if n and not turn.proposals and not state.open_iterations:
            return self._runs.alarm(
                "exhausted",
                "nothing untried is left inside the instruction's ranges; widen a range or start a new exploration",
            )
        return None

    def _amend(self) -> bool:
        """Take up what a person changed in the input files; return whether that is impossible for now."""
        board, paused = self.board, self.board.setup.paths.paused
        try:
            found = self._inputs.changed(board.setup, board.state)
        except UserError as error:
            if str(error) != self._paused:
                self._paused = str(error)
                atomic.write_text(paused, f"{error}\n")
                board.observer.say(f"paused until it is mended (what runs goes on, the rules stay): {error}")
            return True
        if self._paused:
            board.observer.say("the input files can be read again: going on")
            self._paused = ""
            paused.unlink(missing_ok=True)
        if found is not None:
            board.append(found[1])
            self._take_up(found[0])
        return False

    def _take_up(self, setup: Setup) -> None:
        """Put changed input files in force."""
        board, before = self.board, self.board.setup.spec
        board.setup = setup
        if isinstance(board.adapters.scientist, ClaudeScientist):
            board.adapters.scientist.budget = setup.spec.budget
            if setup.spec.model != before.model:
                board.observer.say("exploration.yaml: the new `model` holds from the next start (stop, then resume)")

    def _wanted(self) -> int:
        """Return how many proposals to ask for."""
        state = self.state
        free = self.board.adapters.slots - len(state.open_iterations)
        n = self._fillers(free) if slots.full(state) else self._regular(free)
        reason = self._enough() if n > 0 else None
        if reason and not state.unreflected and not state.open_iterations:
            self.board.observer.say(f"stopped by exploration.yaml: {reason}")
        return 0 if reason else max(0, n)

    def _regular(self, free: int) -> int:
        """Return the free slots that iterations are left for; a turn that completes the block fills the others, too."""
        state = self.state
        left = self.board.iterations - state.planned
        to_block_end = state.first_of(state.block) + state.n_iter_block - state.last_iteration - 1
        return free if left >= to_block_end and free > to_block_end else min(free, left)

    def _fillers(self, free: int) -> int:
        """Return the free slots at a block's end when a run that is waited for has most of its way to go, else 0.

        A look at the clock's side of things, like the stop rule `until`: the turn records how many it was asked for.
        """
        awaited = [run for run in self.board.live() if not run.iteration.proposal.filler]
        return free if any(_share(run) <= WORTH_FILLING for run in awaited) else 0

    def _draws(self) -> int | None:
        """Prepare the data of a block that begins: draw after draw, until one is fit by the rule of exploration.yaml.

        Returns an exit code when a person is needed.
        """
        state, setup = self.state, self.board.setup
        block = state.block
        while state.last_iteration + 1 == state.first_of(block):
            config = state.base_config(None, block)
            name = state.regime_name(block)
            tried = [r for r in state.regimes if r.regime_name == name and r.simulation_seed is not None]
            if any(not r.unfit for r in tried) or len(tried) >= setup.spec.draws.tries or setup.spec.command:
                return None
            seed = configs.get(config, "simulation.seed") + len(tried)
            try:
                self._runs.regime(configs.with_values(config, {"simulation.seed": seed}), block)
            except NeedsPersonError as error:
                return self._runs.alarm("preflight", str(error))
            except StoppedError:
                return None
            found = state.regimes[-1]
            if found.simulation_seed != seed:
                return None  # its data were known already
            if found.unfit:
                told = f"draw {found.simulation_seed} of {name or 'this system'} is unfit: {found.unfit}"
                self.board.observer.say(told)
        return None

    def _enough(self) -> str | None:
        """Return why a stop rule of exploration.yaml ends the exploration here, or None."""
        rules = self.board.setup.spec.stop
        if rules.until is not None and datetime.now(UTC) >= rules.until:
            return f"it is past {rules.until:%Y-%m-%d %H:%M} UTC"
        return stopping.target_reached(self.state, rules.target) or stopping.without_gain(
            self.state, rules.blocks_without_gain
        )

    def _accepted(self, n: int) -> Turn:
        """Return the scientist's turn; the offline scientist's when it breaks a rule."""
        state, scientist = self.state, self.board.adapters.scientist
        seen, asked = self._seen(n)
        turn = scientist.propose(seen, asked)
        try:
            turns.check(seen, turn, max(n, asked))  # runs that have ended since free more slots, never fewer
            return turn
        except RefusedError as error:
            number = len(state.turns) + 1
            attempt = 1 + sum(r.turn == number for r in state.refusals)
            refused = Refused(turn=number, attempt=attempt, scientist=scientist.name, reason=str(error))
            self.board.append(refused)
        turn = OfflineScientist().propose(state, n).model_copy(update={"instead": f"refused: {refused.reason}"})
        turns.check(state, turn, n)
        return turn

    def _seen(self, n: int) -> tuple[State, int]:
        """Return what the scientist sees and how many proposals it is asked for.

        A conversation that an earlier engine left open goes on from the prefix that it saw, so that the replies that
        were paid for are used; unless a person has changed something since.
        """
        state, journal = self.state, self.board.journal
        number = len(state.turns) + 1
        open_calls = [c.reserved for c in state.calls.values() if c.reserved.turn == number]
        if not open_calls or self.board.adapters.scientist.name == OfflineScientist.name:
            return state, n
        last = open_calls[-1]
        assert state.opened is not None
        seen = fold(Contract.model_validate(state.opened.contract), journal.events[: last.based_on])
        noted = any(isinstance(e.body, Human) for e in journal.events[last.based_on :])
        if noted or _rules(seen) != _rules(state):
            self.board.observer.say(
                f"turn {number} is asked anew, and paid again: what it was asked about has changed since"
            )
            return state, n
        return seen, last.asked


def _rules(state: State) -> tuple[Contract, str, str]:
    """Return what a person may change for the scientist: the input files, but no budget; a machine with a sandbox."""
    assert state.opened is not None
    text = state.amendments[-1][1].instruction if state.amendments else state.opened.instruction
    return state.contract, text, code_rules.off(state)


def _idea(state: State, it: Iteration) -> tuple[str, int]:
    """Return what makes failures those of different ideas: the config, and the edit that began a chain of repairs."""
    node = state.nodes[it.node]
    edited = state.iterations[node.id].proposal.mutation.kind == "code"
    return node.config_sha, edits.root_of(state, node.id) if edited else 0


def _share(run: Live) -> float:
    """Return the share of its steps that a run has done; 0 while it is not known."""
    return run.step / run.total if run.step is not None and run.total else 0.0
