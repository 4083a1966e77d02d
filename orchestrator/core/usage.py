"""How well the slots are used: busy time, idle time and queue wait of each, from the journal's times.

For people only: no decision reads it, because no decision reads a time. All times are in seconds since the first event.

on        A session is on from its first event to its last one (a clean end and a SIGKILL look alike; what people write
          while no engine is at work does not count), or to `now` while an engine is at work. A slot exists in the
          sessions that have so many slots.
busy      A run is busy from its reservation for as many seconds as it says itself (its training and scoring), and never
          beyond the event that ended it. So a run that went on under its supervisor after its engine was killed is
          busy in that gap too, and a run that ended while the engine was otherwise engaged is not busy until it was
          judged. A run that says nothing (lost, or still in flight) is busy until it ended as far as sessions were on.
idle      Time in which a slot existed and was not busy: waiting for the scientist, for the rest of a batch, for a run
          to be judged, for its process to start, for data.
preparing The idle time that ended with `regime_ready`: data were generated and the preflight was measured.
wait      Queue wait, as far as sessions were on: from the turn that proposed an iteration to the reservation of its
          first attempt, and from the end of an attempt to the reservation of the next one. It counts for the slot in
          which the attempt then ran.

Busy + idle of a slot is the time in which it existed plus the busy time outside of that (runs between sessions, and
runs adopted by a session with fewer slots). A run whose named slot is taken counts for the lowest free one: journals
from before slots name none. Their times are whole seconds, so each run's figures are off by up to a second there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pydantic import Field

from orchestrator.core.events import Event, Human, RegimeReady, RunEnded, RunReserved, Session, Turned
from orchestrator.core.records import Outcome, Record, Role

Span = tuple[float, float]
"""Start and end in seconds; spans of a list are in order and do not overlap."""


class Use(Record):
    """Figures of one slot, or of all together."""

    runs: int = 0
    """Attempts that ended."""
    busy_s: float = Field(default=0.0, ge=0)
    idle_s: float = Field(default=0.0, ge=0)
    preparing_s: float = Field(default=0.0, ge=0)
    """Part of the idle time in which data were prepared."""
    wait_s: float = Field(default=0.0, ge=0)
    """Queue wait, summed over reservations."""
    reserved: int = 0
    """Attempts that were reserved; each waited once."""

    @property
    def on_s(self) -> float:
        """Return the time that utilisation is a share of."""
        return self.busy_s + self.idle_s

    @property
    def utilisation(self) -> float | None:
        """Return busy time over busy and idle time, or None before any."""
        return self.busy_s / self.on_s if self.on_s > 0 else None

    @property
    def mean_wait_s(self) -> float | None:
        """Return the queue wait of an attempt, or None before any."""
        return self.wait_s / self.reserved if self.reserved else None


class SlotUse(Use):
    """Figures of one slot."""

    slot: int
    role: Role | None = None
    """Of the last session that had the slot and gave it one."""


class RunTime(Record):
    """Where and when one attempt ran."""

    iteration: int
    attempt: int
    slot: int
    device: str
    start: float
    """Reservation."""
    busy: tuple[Span, ...]
    """One span, or one a session for a run that does not say how long it took."""
    wait_s: float
    outcome: Outcome | None = None
    """Null while it is in flight."""
    lost: bool = False


class Usage(Record):
    """What `usage` found."""

    slots: tuple[SlotUse, ...] = ()
    total: Use = Use()
    runs: tuple[RunTime, ...] = ()
    """In the order of their reservations."""
    sessions: tuple[Span, ...] = ()
    preparing: tuple[Span, ...] = ()
    """Times in which data were prepared."""

    @property
    def on(self) -> list[Span]:
        """Return when a session was on or a run busy."""
        return joined([*self.sessions, *(span for run in self.runs for span in run.busy)])


def usage(events: Sequence[Event], now: datetime | None = None) -> Usage:
    """Return how the slots were used.

    Args:
        events: of a journal, from its first.
        now: the time, when an engine is at work; None lets the last session end with its last event.
    """
    times, clock = _times(events, now)
    sessions = _sessions(events, times, clock)
    runs = _runs(events, times, [s.span for s in sessions])
    ready = [i for i, event in enumerate(events) if isinstance(event.body, RegimeReady) and i > 0]
    preparing = joined((times[i - 1], times[i]) for i in ready)
    count = max([s.body.slots for s in sessions] + [r.slot + 1 for r in runs], default=0)
    slots = tuple(_slot_use(number, sessions, runs, preparing) for number in range(count))
    figures = ("runs", "busy_s", "idle_s", "preparing_s", "wait_s", "reserved")
    total = Use.model_validate({name: sum(getattr(slot, name) for slot in slots) for name in figures})
    spans = tuple(s.span for s in sessions)
    return Usage(slots=slots, total=total, runs=tuple(runs), sessions=spans, preparing=tuple(preparing))


# Spans


def joined(spans: Iterable[Span]) -> list[Span]:
    """Return the times in any of the spans, which may overlap; empty ones are left out."""
    found: list[Span] = []
    for start, end in sorted(span for span in spans if span[1] > span[0]):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def within(spans: Iterable[Span], others: Iterable[Span]) -> list[Span]:
    """Return the times in both lists."""
    others = list(others)
    shared = [(max(a, c), min(b, d)) for a, b in spans for c, d in others]
    return joined(shared)


def outside(spans: Iterable[Span], others: Iterable[Span]) -> list[Span]:
    """Return the times in `spans` that are in none of the others."""
    left = joined(spans)
    for c, d in joined(others):
        left = [part for a, b in left for part in ((a, min(b, c)), (max(a, d), b)) if part[1] > part[0]]
    return left


def length(spans: Iterable[Span]) -> float:
    """Return the time in a list of spans."""
    return sum(end - start for start, end in spans)


# What the journal says


@dataclass
class _On:
    """A session and when it was on."""

    body: Session
    span: Span


def _times(events: Sequence[Event], now: datetime | None) -> tuple[list[float], float | None]:
    """Return each event's time, and `now`, in seconds since the first; a clock that was set back stands still."""
    origin = last = 0.0
    times: list[float] = []
    for event in events:
        at = _seconds(event.at)
        if not times:
            origin = at or 0.0
        last = max(last, (at if at is not None else origin) - origin)
        times.append(last)
    return times, max(last, now.timestamp() - origin) if now is not None else None


def _seconds(at: str) -> float | None:
    try:
        found = datetime.fromisoformat(at)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _sessions(events: Sequence[Event], times: Sequence[float], now: float | None) -> list[_On]:
    found: list[_On] = []
    for event, at in zip(events, times, strict=True):
        if isinstance(event.body, Session):
            found.append(_On(event.body, (at, at)))
        elif found and not isinstance(event.body, Human):  # `make status` takes these up when no engine is at work
            found[-1].span = (found[-1].span[0], at)
    if found and now is not None:
        found[-1].span = (found[-1].span[0], now)
    return found


@dataclass
class _Flight:
    """An attempt while the journal is read."""

    body: RunReserved
    slot: int
    start: float
    wait_s: float
    ended: tuple[float, RunEnded] | None = None

    def time(self, sessions: Sequence[Span]) -> RunTime:
        """Return when it was busy."""
        last = sessions[-1][1] if sessions else self.start
        end, ended = self.ended or (last, None)
        if ended is not None and ended.seconds > 0:
            busy = joined([(self.start, min(self.start + ended.seconds, end))])
        else:
            busy = within([(self.start, end)], sessions)
        return RunTime(
            iteration=self.body.iteration,
            attempt=self.body.attempt,
            slot=self.slot,
            device=self.body.device,
            start=self.start,
            busy=tuple(busy),
            wait_s=self.wait_s,
            outcome=ended.outcome if ended else None,
            lost=ended.lost if ended else False,
        )


@dataclass
class _Reader:
    """Follows the runs through the events."""

    sessions: Sequence[Span]
    flights: list[_Flight] = field(default_factory=list)
    open: dict[tuple[int, int], _Flight] = field(default_factory=dict)
    since: dict[int, float] = field(default_factory=dict)
    """Iteration -> since when it waits."""

    def read(self, event: Event, at: float) -> None:
        match event.body:
            case Turned() as turned:
                self.since |= {proposal.iteration: at for proposal in turned.turn.proposals}
            case RunReserved() as body:
                wait = length(within([(self.since.get(body.iteration, at), at)], self.sessions))
                flight = _Flight(body, self._free(body.slot), at, wait)
                self.flights.append(flight)
                self.open[body.iteration, body.attempt] = flight
            case RunEnded() as ended:
                self.open.pop((ended.iteration, ended.attempt)).ended = (at, ended)
                self.since[ended.iteration] = at

    def _free(self, named: int) -> int:
        taken = {flight.slot for flight in self.open.values()}
        return named if named not in taken else min(set(range(len(taken) + 1)) - taken)


def _runs(events: Sequence[Event], times: Sequence[float], sessions: Sequence[Span]) -> list[RunTime]:
    reader = _Reader(sessions)
    for event, at in zip(events, times, strict=True):
        reader.read(event, at)
    return [flight.time(sessions) for flight in reader.flights]


def _slot_use(slot: int, sessions: Sequence[_On], runs: Sequence[RunTime], preparing: Sequence[Span]) -> SlotUse:
    here = [s for s in sessions if s.body.slots > slot]
    ran = [run for run in runs if run.slot == slot]
    busy = [span for run in ran for span in run.busy]
    idle = outside((s.span for s in here), busy)
    roles = [s.body.roles[slot] for s in here if len(s.body.roles) > slot]
    return SlotUse(
        slot=slot,
        role=roles[-1] if roles else None,
        runs=sum(run.outcome is not None for run in ran),
        busy_s=length(busy),
        idle_s=length(idle),
        preparing_s=length(within(idle, preparing)),
        wait_s=sum(run.wait_s for run in ran),
        reserved=len(ran),
    )
