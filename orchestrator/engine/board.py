"""What the steps of one engine share: the fold and the journal behind it, the setup in force, the adapters."""

from __future__ import annotations

import time
from collections.abc import Iterator

from orchestrator.core.events import Body
from orchestrator.core.state import Attempt, Iteration, State
from orchestrator.engine.context import Adapters, Live, Observer, Setup
from orchestrator.engine.live import read_live
from orchestrator.errors import JournalError
from orchestrator.paths import RunPaths
from orchestrator.store.journal import Journal

TICK_S = 0.5
"""Least time between two looks at the runs in flight."""


class Board:
    """One engine's state; changed by `append`, and `setup` by a person's change of the input files."""

    def __init__(self, setup: Setup, adapters: Adapters, observer: Observer) -> None:
        self.setup, self.adapters, self.observer = setup, adapters, observer
        self.state = State(setup.contract)
        self.stopping = False
        """Set by a signal handler: cancel what runs (with a checkpoint) and end."""
        self.iterations = 0
        """Total asked for."""
        self._journal: Journal | None = None
        self._last_tick = 0.0

    @property
    def journal(self) -> Journal:
        """The journal whose lock this engine holds."""
        assert self._journal is not None
        return self._journal

    def take(self, journal: Journal) -> None:
        """Fold an opened journal. Raises JournalError with the line that contradicts the lines before it."""
        self._journal = journal
        for event in journal.events:
            try:
                self.state.apply(event)
            except (ValueError, KeyError) as error:
                raise JournalError(f"{self.setup.paths.journal}, line {event.seq}: {error}") from error

    def append(self, body: Body) -> None:
        """Make an event durable, fold it and show it."""
        event = self.journal.append(body)
        self.state.apply(event)
        self.observer.event(event, self.state)

    def flying(self) -> Iterator[tuple[Iteration, Attempt]]:
        """Yield the attempts that were reserved and have not ended."""
        for it in self.state.open_iterations:
            for attempt in it.attempts:
                if attempt.ended is None:
                    yield it, attempt

    def run(self, it: Iteration, number: int) -> RunPaths:
        """Return the folder of an attempt."""
        return self.setup.paths.run(it.proposal.iteration, number)

    def live(self) -> list[Live]:
        """Return where the runs in flight stand."""
        return [read_live(self.setup.paths, it, attempt.number) for it, attempt in self.flying()]

    def tick(self) -> None:
        """Show the runs in flight, twice a second at most."""
        if time.monotonic() - self._last_tick >= TICK_S:
            self._last_tick = time.monotonic()
            self.observer.tick(self.state, self.live(), self.iterations)
