"""Busy, idle and waiting times of the slots: known answers, and random journals against a count second by second."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.events import Event, Human, RegimeReady, RunEnded, RunReserved, Session, Turned
from orchestrator.core.records import Mutation, Proposal, Turn
from orchestrator.core.usage import Usage, joined, outside, usage, within

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
ROLES = ("exploit-best", "exploit-second", "explore")


class Log:
    """A journal whose events stand at given seconds."""

    def __init__(self):
        self.events, self.turns, self.sessions, self.tries, self.regimes = [], 0, 0, {}, 0

    def add(self, at, body):
        stamp = (BEGIN + timedelta(seconds=at)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self.events.append(Event(seq=len(self.events) + 1, at=stamp, body=body))
        return self

    def session(self, at, slots=1, roles=()):
        self.sessions += 1
        return self.add(at, Session(session=self.sessions, version="0", scientist="s", launcher="l", slots=slots,
                                    sandbox="none", iterations=9, roles=roles))  # fmt: skip

    def turn(self, at, *iterations):
        self.turns += 1
        made = [
            Proposal(iteration=i, parent=None, base=None, mutation=Mutation(kind="baseline"), config_sha="c", code="t",
                     training_seed=1, simulation_seed=1, strategy="s", parent_rule="p", hypothesis="h")
            for i in iterations
        ]  # fmt: skip
        turn = Turn(turn=self.turns, based_on=len(self.events), scientist="s", proposals=tuple(made))
        return self.add(at, Turned(turn=turn))

    def reserve(self, at, iteration, slot=0):
        attempt = self.tries[iteration] = self.tries.get(iteration, 0) + 1
        return self.add(at, RunReserved(iteration=iteration, attempt=attempt, session=self.sessions, slot=slot))

    def end(self, at, iteration, seconds=0.0, outcome="ok", lost=False):
        return self.add(at, RunEnded(iteration=iteration, attempt=self.tries[iteration], session=self.sessions,
                                     outcome=outcome, seconds=seconds, lost=lost))  # fmt: skip

    def ready(self, at):
        self.regimes += 1
        return self.add(at, RegimeReady(regime=str(self.regimes), name="r", preflight={}))

    def human(self, at):
        return self.add(at, Human(number=1, what="note", text="x"))

    def usage(self, now=None):
        return usage(self.events, BEGIN + timedelta(seconds=now) if now is not None else None)


def figures(use):
    return use.runs, use.busy_s, use.idle_s, use.wait_s


def test_nothing_has_run():
    assert usage([]) == Usage() and Usage().total.utilisation is None and Usage().total.mean_wait_s is None
    found = Log().session(0, slots=2).usage()
    assert [s.on_s for s in found.slots] == [0, 0] and found.slots[0].utilisation is None


def test_one_slot():
    log = Log().session(0).turn(1, 1).reserve(3, 1).end(14, 1, seconds=10).turn(15, 2).reserve(15, 2).end(20, 2, 4.5)
    found = log.usage()
    assert [figures(s) for s in found.slots] == [(2, 14.5, 5.5, 2.0)]
    assert found.slots[0].utilisation == 14.5 / 20 and found.slots[0].mean_wait_s == 1.0
    assert [r.busy for r in found.runs] == [((3, 13),), ((15, 19.5),)]


def test_slots_have_their_own_figures_and_the_total_is_their_sum():
    log = Log().session(0, 3, ROLES).turn(0, 1, 2, 3).reserve(0, 1, 0).reserve(0, 2, 1).reserve(1, 3, 2)
    log.end(10, 1, 10).end(15, 2, 12, "crashed").end(20, 3, 19)
    found = log.usage()
    assert [figures(s) for s in found.slots] == [(1, 10, 10, 0), (1, 12, 8, 0), (1, 19, 1, 1)]
    assert [s.role for s in found.slots] == list(ROLES)
    assert figures(found.total) == (3, 41, 19, 1) and found.total.utilisation == 41 / 60
    assert [r.outcome for r in found.runs] == ["ok", "crashed", "ok"]


def test_a_run_that_went_on_between_two_sessions_is_busy_for_its_own_seconds():
    log = Log().session(0, 2).turn(0, 1, 2).reserve(0, 1, 0).reserve(0, 2, 1).end(10, 1, 10)  # SIGKILL of the engine
    log.session(1000, 2).end(1000, 2, seconds=50).turn(1004, 3).reserve(1004, 3, 1).end(1010, 3, 6)
    found = log.usage()
    assert [figures(s) for s in found.slots] == [(1, 10, 10, 0), (2, 56, 4, 0)]
    assert found.sessions == ((0, 10), (1000, 1010)) and found.on == [(0, 50), (1000, 1010)]


def test_a_lost_run_is_busy_as_far_as_sessions_were_on_and_the_night_is_no_wait():
    log = Log().session(0).turn(0, 1).reserve(2, 1).ready(5)  # the machine loses power
    log.session(1000).end(1001, 1, outcome="killed", lost=True).reserve(1003, 1).end(1010, 1, 7)
    found = log.usage()
    assert [figures(s) for s in found.slots] == [(2, 4 + 7, 2 + 2, 2 + 2)]
    assert found.runs[0].busy == ((2, 5), (1000, 1001)) and found.runs[0].lost
    waiting = Log().session(0).turn(1, 1).ready(4).session(1000).reserve(1003, 1)
    assert waiting.usage().slots[0].wait_s == 3 + 3


def test_a_retry_waits_from_the_end_of_the_attempt_before():
    log = Log().session(0, 2).turn(0, 1).reserve(1, 1, 0).end(5, 1, 4, "out_of_memory").reserve(8, 1, 1).end(9, 1, 1)
    found = log.usage()
    assert [(s.reserved, s.wait_s) for s in found.slots] == [(1, 1), (1, 3)] and found.total.mean_wait_s == 2


def test_a_run_in_flight_is_busy_until_now_while_an_engine_is_at_work():
    log = Log().session(0, 2).turn(0, 1).reserve(4, 1, 1)
    assert [figures(s) for s in log.usage(now=10).slots] == [(0, 0, 10, 0), (0, 6, 4, 4)]
    assert log.usage(now=10).runs[0].outcome is None
    assert [figures(s) for s in log.usage().slots] == [(0, 0, 4, 0), (0, 0, 4, 4)]


def test_a_slot_exists_in_the_sessions_that_have_it_and_while_an_adopted_run_is_in_it():
    log = Log().session(0, 2, ROLES[:2]).turn(0, 1, 2).reserve(0, 1, 0).reserve(0, 2, 1).human(3)
    log.turn(4).session(10, 1).end(12, 2, 12).end(20, 1, 20)
    found = log.usage()
    assert [figures(s) for s in found.slots] == [(1, 20, 0, 0), (1, 12, 0, 0)]
    assert [s.role for s in found.slots] == ["exploit-best", "exploit-second"]


def test_what_people_write_while_no_engine_is_at_work_is_no_session():
    assert Log().session(0).turn(0, 1).reserve(0, 1).end(5, 1, 5).human(900).usage().slots[0].on_s == 5


def test_data_preparation_is_a_part_of_the_idle_time():
    log = Log().session(0, 2).ready(30).turn(31, 1).reserve(31, 1, 0).end(40, 1, 9)
    log.turn(41, 2).reserve(41, 2, 0).ready(50).end(60, 2, 19)  # another draw is prepared beside a run
    assert [s.preparing_s for s in log.usage().slots] == [30, 39]
    assert log.usage().preparing == ((0, 30), (41, 50))


def test_journals_from_before_slots_name_none():
    log = Log().session(0, 3).turn(0, 1, 2, 3, 4).reserve(0, 1).reserve(0, 2).reserve(0, 3).end(5, 2, 5).reserve(5, 4)
    log.end(9, 1, 9).end(9, 3, 9).end(9, 4, 4)
    assert [(r.iteration, r.slot) for r in log.usage().runs] == [(1, 0), (2, 1), (3, 2), (4, 1)]
    assert [s.busy_s for s in log.usage().slots] == [9, 9, 9]


@pytest.mark.parametrize(
    ("reserved", "ended", "on"),
    [("2026-01-01T00:00:09Z", "2026-01-01T00:00:04.5Z", 9), ("what", "2026-01-01", 0), ("", "2026-01-01T00:00:02", 2)],
)
def test_a_clock_that_was_set_back_or_cannot_be_read_stands_still(reserved, ended, on):
    log = Log().session(0).turn(0, 1).reserve(0, 1).end(0, 1, 3)
    log.events[2:] = [e.model_copy(update={"at": at}) for e, at in zip(log.events[2:], (reserved, ended), strict=True)]
    assert log.usage().slots[0].on_s == on
    log.events = [e.model_copy(update={"at": "?"}) for e in log.events]
    assert log.usage().total.on_s == 0


# --- random journals --------------------------------------------------------------------------------------------------

STEPS = st.tuples(
    st.sampled_from(("session", "turn", "reserve", "reserve", "end", "end", "ready", "human")),
    st.integers(0, 6),
    st.integers(0, 5),
)


def journal(steps):
    """Return the log that an engine could write, its runs, and its sessions as [start, end, slots]."""
    log, at, slots, waiting, flying, flights, sessions = Log().session(0, 2), 0, 2, [], [], [], [[0, 0, 2]]
    for what, pause, choice in steps:
        at += pause
        if what == "session":
            slots = 1 + choice % 4
            log.session(at, slots)
            sessions.append([at, at, slots])
        elif what == "turn":
            waiting += (new := [100 * log.turns + 100 + k for k in range(choice % 3)])
            log.turn(at, *new)
        elif what == "reserve" and waiting and len(flying) < slots:
            iteration, taken = waiting.pop(0), {f["slot"] for f in flying}
            slot = min(set(range(9)) - taken)
            log.reserve(at, iteration, slot if choice % 2 else 0)
            flying.append({"iteration": iteration, "slot": slot, "start": at, "end": None, "seconds": 0})
            flights.append(flying[-1])
        elif what == "end" and flying:
            run = flying.pop(choice % len(flying))
            run["end"], run["seconds"] = at, max(0, at - run["start"] + choice - 3) * (choice % 2)
            log.end(at, run["iteration"], run["seconds"], "killed" if choice == 2 else "ok", lost=choice == 2)
            waiting += [run["iteration"]] if choice == 2 else []
        elif what in ("ready", "human"):
            getattr(log, what)(at)
        if not isinstance(log.events[-1].body, Human) and _stamp(log.events[-1]) == at:
            sessions[-1][1] = at
    return log, flights, sessions


@given(st.lists(STEPS, max_size=40), st.one_of(st.none(), st.integers(0, 9)))
def test_random_journals_give_what_a_count_of_the_seconds_gives(steps, beyond):
    log, flights, sessions = journal(steps)
    last = sum(pause for _, pause, _ in steps)
    now = last + beyond if beyond is not None else None
    found = log.usage(now)
    assert [(r.iteration, r.slot, r.start) for r in found.runs] == [
        (f["iteration"], f["slot"], f["start"]) for f in flights
    ]
    sessions[-1][1] = max(sessions[-1][1], now or 0)
    assert found.sessions == tuple((a, b) for a, b, _ in sessions)
    for slot in found.slots:
        busy = idle = preparing = 0
        for k in range(last + 10):
            on = any(a <= k < b for a, b, _ in sessions)
            there = any(a <= k < b and slot.slot < n for a, b, n in sessions)
            runs = sum(f["slot"] == slot.slot and _busy(f, k, on) for f in flights)
            assert runs <= 1  # one run at a time in a slot
            busy, idle = busy + runs, idle + (there and not runs)
            preparing += there and not runs and any(a <= k < b for a, b in found.preparing)
        assert (slot.busy_s, slot.idle_s, slot.preparing_s) == (busy, idle, preparing)
        assert slot.utilisation is None or 0 <= slot.utilisation <= 1
    total = found.total
    assert total.runs == sum(f["end"] is not None for f in flights) and total.reserved == len(flights)
    assert total.on_s == sum(s.on_s for s in found.slots) and total.wait_s == sum(r.wait_s for r in found.runs)
    assert all(0 <= r.wait_s <= r.start for r in found.runs) and outside(found.sessions, found.on) == []


def _stamp(event):
    return (datetime.fromisoformat(event.at) - BEGIN).total_seconds()


def _busy(flight, second, on):
    end = flight["end"] if flight["end"] is not None else float("inf")
    if flight["seconds"]:
        return flight["start"] <= second < min(end, flight["start"] + flight["seconds"])
    return on and flight["start"] <= second < end


SPANS = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)).map(lambda p: (min(p), max(p))), max_size=6)


@given(SPANS, SPANS)
def test_spans_are_sets_of_seconds(some, others):
    def seconds(spans):
        return {k for a, b in spans for k in range(a, b)}

    for found, expected in (
        (joined(some), seconds(some)),
        (within(some, others), seconds(some) & seconds(others)),
        (outside(some, others), seconds(some) - seconds(others)),
    ):
        assert seconds(found) == expected
        assert all(a < b for a, b in found) and all(b < c for (_, b), (c, _) in pairwise(found))
