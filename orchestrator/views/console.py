"""The terminal while an exploration runs: a live tree, or plain lines when the output is no terminal."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live as RichLive
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator.core.events import Event
from orchestrator.core.state import State
from orchestrator.engine.context import Live
from orchestrator.formats import pacing
from orchestrator.views import costs, lines

HEARTBEAT_TICKS = 60
"""Plain output says where a run stands every so many ticks (about half a minute)."""


class PlainObserver:
    """One line an event; a line every half minute while a run goes on."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._ticks = 0

    def event(self, event: Event, state: State) -> None:
        """Print the event's line."""
        text = lines.event_line(event, state)
        if text:
            self.say(text)

    def tick(self, state: State, live: list[Live], iterations: int) -> None:
        """Print where the runs stand, now and then."""
        self._ticks += 1
        if self._ticks % HEARTBEAT_TICKS == 0:
            for run in live:
                self.say(f"{run_name(state, run)}: {live_text(run)}")

    def say(self, text: str) -> None:
        """Print one line at once; where nobody reads any more, go on in silence."""
        try:
            print(text, file=self._stream, flush=True)
        except (BrokenPipeError, ValueError):  # the pipe, or the stream, is closed
            silence(self._stream)

    def __enter__(self) -> PlainObserver:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def silence(stream: TextIO) -> None:
    """Let everything that is written to a stream from now on go nowhere: who read it has gone."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def run_name(state: State, run: Live) -> str:
    """Return the iteration of a run in flight and, in a session with several slots, where it runs."""
    name = f"iter {run.iteration.proposal.iteration}"
    if state.session is None or state.session.slots == 1:
        return name
    attempt = next(a for a in run.iteration.attempts if a.number == run.attempt)
    return name + lines.place(attempt.slot, attempt.device)


def step_text(run: Live) -> str:
    """Return phase and step of a run in flight."""
    return run.phase + (f" step {run.step}/{run.total}" if run.step is not None else "")


def live_text(run: Live) -> str:
    """Return phase, step, loss and time of a run in flight."""
    loss = f" loss {run.loss:.4g}" if run.loss is not None else ""
    return f"{step_text(run)}{loss}, {lines.duration(run.elapsed_s)}"


class RichObserver(PlainObserver):
    """A live panel: tree of the block, runs in flight with their loss, best so far, time left, money spent."""

    def __init__(self) -> None:
        super().__init__()
        self._console = Console()
        self._live = RichLive(console=self._console, refresh_per_second=4, transient=True)
        self._runs: list[Live] = []

    def __enter__(self) -> RichObserver:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def event(self, event: Event, state: State) -> None:
        """Print the event's line above the panel, and redraw the panel."""
        super().event(event, state)
        if state.opened is not None and state.session is not None:
            flying = [run for run in self._runs if run.iteration.in_flight]  # stay in sight while a model is asked
            self._live.update(panel(state, flying, state.session.iterations))

    def say(self, text: str) -> None:
        """Print one line above the panel."""
        self._console.print(Text(text))

    def tick(self, state: State, live: list[Live], iterations: int) -> None:
        """Redraw the panel."""
        self._runs = live
        self._live.update(panel(state, live, iterations))


def panel(state: State, live: list[Live], iterations: int) -> RenderableType:
    """Return the whole live view."""
    block = state.block_of(max(state.last_iteration, 1))
    rows = [Text(lines.node_line(state, depth, it), no_wrap=True) for depth, it in lines.tree_lines(state, block)]
    runs = Table.grid(padding=(0, 1))
    for run in live:
        bar = ProgressBar(total=run.total or 1, completed=run.step or 0, width=24)
        runs.add_row(Text(run_name(state, run)), bar, Text(live_text(run)))
    total = iterations or state.planned
    running = [r.elapsed_s for r in live if not r.iteration.proposal.filler]
    timed = pacing.state_text(state)
    told = (lines.best_line(state), timed, lines.left_line(state, total, running), costs.foot(state))
    foot = Text("\n".join(line for line in told if line))
    title = state.opened.exploration if state.opened else ""
    return Panel(
        Group(*rows[-30:], Text(""), runs, Text(""), foot), title=f"{title}, block {block}", title_align="left"
    )


def observer() -> PlainObserver:
    """Return the observer that fits where the output goes."""
    return RichObserver() if sys.stdout.isatty() else PlainObserver()
