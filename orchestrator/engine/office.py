"""What the engine lends to a scientist that converses (`ports.Office`): journal, files in its scope, the clock."""

from __future__ import annotations

import time
from collections.abc import Callable

from orchestrator.core.dialogue import Request
from orchestrator.core.events import Body, CodeChecked
from orchestrator.core.state import State
from orchestrator.engine import texts
from orchestrator.engine.board import Board
from orchestrator.engine.reading import Library
from orchestrator.engine.runs import Runs
from orchestrator.engine.transcripts import Transcripts
from orchestrator.engine.trial import trial
from orchestrator.engine.workbench import Workbench
from orchestrator.ports import Candidate, CodeOffice, Exchange, Picture

POLL_S = 0.1


class Shelf:
    """The part of an office that lends files and plots."""

    code: CodeOffice | None = None

    def __init__(self, library: Callable[[], Library]) -> None:
        self._library = library

    def view_file(self, state: State, name: str) -> str:
        """Return a text that the scientist may read; raises RefusedError."""
        return self._library().view_file(state, name)

    def view_plot(self, state: State, iteration: int, name: str) -> Picture:
        """Return a plot of a finished run; raises RefusedError."""
        return self._library().view_plot(state, iteration, name)

    def plots(self, state: State, iteration: int) -> tuple[str, ...]:
        """Return the names of a finished run's plots."""
        return self._library().plots(state, iteration)

    def image(self, sha256: str) -> bytes:
        """Return the bytes of a blob."""
        return self._library().image(sha256)


class EngineOffice(Shelf):
    """The office of one engine."""

    def __init__(self, board: Board) -> None:
        super().__init__(lambda: Library(board.setup))  # anew: a person may have changed the instruction
        self._board = board
        self._transcripts = Transcripts(board.setup.paths)
        if board.setup.contract.command is None:
            self.code = Workbench(board.setup.paths, self.ledger, self._try)

    def _try(self, tree: str, candidate: Candidate) -> CodeChecked:
        """Try an edited code in the sandbox and make what became of it an event."""
        board, began = self._board, self._board.state
        assert began.opened is not None
        name = f"iter {candidate.iteration}, code {tree[:10]}"
        edit = f"{candidate.change}: a few gradient steps in the sandbox ({board.adapters.sandbox}) before its commit"
        self.say(f"{name}: {texts.one_line(edit)}")
        Runs(board).regime(candidate.config, began.block)  # a person may have removed the data
        found = trial(board.setup, board.adapters, (tree, began.opened.code), candidate.config, self._go_on)
        if found.ok:
            self.say(f"{name}: tried, ok ({found.seconds:.1f} s)")
        else:
            why = texts.one_line(found.sentence.strip().splitlines()[-1])
            self.say(f"{name}: refused by its trial ({found.seconds:.1f} s): {why}; see trials/{tree[:12]}-*")
        self.record(found)
        return found

    def _go_on(self) -> bool:
        self._board.tick()
        return not self._board.stopping

    def record(self, body: Body) -> None:
        """Append an event, unless one with its key is in the journal already."""
        if body.key not in self._board.state.seen:
            self._board.append(body)

    def ledger(self) -> State:
        """Return the fold as it is now."""
        return self._board.state

    def keep(self, exchange: Exchange, request: Request) -> None:
        """Keep a reply that has arrived."""
        self._transcripts.keep(exchange, request)

    def kept(self, call: int) -> Exchange | None:
        """Return a kept exchange, or None."""
        return self._transcripts.kept(call)

    def pause(self, seconds: float, why: str) -> bool:
        """Wait, with `why` shown; return False when a person asked to stop meanwhile."""
        if why:
            self._board.observer.say(why)
        end = time.monotonic() + seconds
        while not self._board.stopping and (left := end - time.monotonic()) > 0:
            self._board.tick()
            time.sleep(min(POLL_S, left))
        return not self._board.stopping

    def say(self, text: str) -> None:
        """One line for the person at the terminal."""
        self._board.observer.say(text)
