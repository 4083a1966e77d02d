"""What people see of the slots: in the live view, in `make status`, in the report."""

import io
import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from rich.console import Console

from orchestrator.core.events import RunEnded, RunReserved, Session, Turned
from orchestrator.core.records import Metric, sha_of
from orchestrator.core.state import fold
from orchestrator.core.usage import Usage, usage
from orchestrator.engine.context import Live
from orchestrator.paths import Paths
from orchestrator.scientist.offline import OfflineScientist
from orchestrator.store import journal
from orchestrator.views import console, lines, report, report_slots, status
from tests.core.test_usage import ROLES, Log
from tests.factory import Driver, contract
from tests.store.test_old_journals import JOURNALS
from tests.views.test_report import self_contained

AT = datetime.now(UTC) - timedelta(seconds=1000)


@pytest.fixture
def paths(tmp_path):
    return Paths(source=tmp_path, out=tmp_path)


@pytest.fixture
def driver():
    """Three slots on two GPUs: iteration 1 has ended, 2 is in flight, 3 waits."""
    made = Driver()
    made.add(Session(session=2, version="0", scientist="offline", launcher="l", slots=3, sandbox="none", iterations=9,
                     mode="batch", roles=ROLES))  # fmt: skip
    turn = OfflineScientist().propose(made.state, 1)
    made.add(Turned(turn=turn.model_copy(update={"proposals": with_slots(turn.proposals, 0)})))
    reserve(made, 1, slot=0, device="0")
    made.add(RunEnded(iteration=1, attempt=1, session=2, outcome="ok", metrics={"connectivity_R2": Metric(value=0.5)},
                      seconds=90.0, in_flight=1.0))  # fmt: skip
    turn = OfflineScientist().propose(made.state, 2)
    made.add(Turned(turn=turn.model_copy(update={"proposals": with_slots(turn.proposals, 1)})))
    reserve(made, 2, slot=1, device="1")
    return made


def with_slots(proposals, first):
    return tuple(
        p.model_copy(update={"slot": k, "role": ROLES[k], "filler": k == 2}) for k, p in enumerate(proposals, first)
    )


def reserve(made, iteration, **where):
    made.add(RunReserved(iteration=iteration, attempt=1, session=2, **where))


def written(driver, paths):
    """Write the driver's events as a journal, 100 s apart, its contract sealed."""
    whole = contract().model_dump(mode="json")
    sealed = driver.events[0].body.model_copy(update={"contract": whole, "contract_sha": sha_of(whole)})
    events = [driver.events[0].model_copy(update={"body": sealed}), *driver.events[1:]]
    events = [e.model_copy(update={"at": (AT + timedelta(seconds=100 * k)).isoformat()}) for k, e in enumerate(events)]
    paths.journal.write_bytes(b"".join(map(journal.encode, events)))


def live(state, iteration):
    return Live(state.iterations[iteration], 1, "training", 20, 80, 0.5, 30.0)


def shown(renderable):
    text = Console(file=io.StringIO(), width=150, force_terminal=False)
    text.print(renderable)
    return text.file.getvalue()


# --- the live view ----------------------------------------------------------------------------------------------------


def test_lines_say_mode_roles_and_slots(driver):
    told = [line for e in driver.events if (line := lines.event_line(e, driver.state))]
    assert "1 slot(s), sandbox" in told[1]
    assert "3 slot(s) (batch: exploit-best, exploit-second, explore), sandbox" in told[2]
    assert told[3].startswith("iter 1 [slot 0, exploit-best]: exploit, parent=root")
    assert told[5].startswith("iter 2 [slot 1, exploit-second]: ")
    assert "\niter 3 [slot 2, explore, fills an idle slot]: " in told[5]


def test_the_live_view_says_where_a_run_is(driver):
    stream = io.StringIO()
    plain = console.PlainObserver(stream)
    for _ in range(console.HEARTBEAT_TICKS):
        plain.tick(driver.state, [live(driver.state, 2)], 9)
    assert stream.getvalue() == "iter 2 [slot 1, GPU 1]: training step 20/80 loss 0.5, 30 s\n"
    assert "iter 2 [slot 1, GPU 1] " in shown(console.panel(driver.state, [live(driver.state, 2)], 9))


def test_with_one_slot_nothing_is_said_of_slots():
    made = Driver()
    made.turn()
    made.add(RunReserved(iteration=1, attempt=1, session=1))
    assert console.run_name(made.state, live(made.state, 1)) == "iter 1"
    assert all("[slot" not in (lines.event_line(e, made.state) or "") for e in made.events)


def test_the_time_left_is_shared_by_the_slots(driver):
    assert lines.left_line(driver.state, 4) == "1 of 4 done, about 1 min 30 s left"
    assert lines.left_line(driver.state, 4, [30.0, 500.0]) == "1 of 4 done, about 50 s left"
    assert lines.left_line(driver.state, 2) == "1 of 2 done, about 1 min 30 s left"
    assert lines.left_line(driver.state, 1) == "1 of 1 iterations done"
    reserve(driver, 3, slot=2)
    driver.add(RunEnded(iteration=3, attempt=1, session=2, outcome="ok", seconds=90.0))
    assert driver.state.iterations[3].proposal.filler  # it is in nobody's total
    assert lines.left_line(driver.state, 2) == "1 of 2 done, about 1 min 30 s left"


def test_a_filler_in_flight_shortens_nothing(driver):
    reserve(driver, 3, slot=2)
    running = [live(driver.state, 2), live(driver.state, 3)]
    assert driver.state.iterations[3].proposal.filler
    assert "1 of 2 done, about 1 min 00 s left" in shown(console.panel(driver.state, running, 2))


def test_durations():
    told = [lines.duration(s) for s in (0, 0.04, 0.25, 9.94, 9.96, 59.6, 3599.6, 7260)]
    assert told == ["0 s", "0 s", "0.2 s", "9.9 s", "10 s", "1 min 00 s", "1 h 00 min", "2 h 01 min"]


# --- make status ------------------------------------------------------------------------------------------------------


def test_status_has_a_table_of_the_slots_while_an_engine_is_at_work(driver, paths):
    written(driver, paths)
    begin = seconds_in_flight()
    with journal.Journal(paths.journal, paths.engine_lock):
        told = status.show(paths)
    rows = [re.split(r"\s{2,}", line.strip()) for line in told.splitlines() if line.startswith("  ")]
    table = rows[rows.index(["slot", "role", "runs", "busy", "idle", "utilisation", "mean wait", "now"]) :]
    assert table[1][:3] == ["0", "exploit-best", "1"] and table[1][3] == "1 min 30 s" and table[1][-1] == "-"
    assert table[2][:3] == ["1", "exploit-second", "0"] and table[2][-1] == "iter 2: interrupted"
    assert table[3][:4] == ["2", "explore", "0", "0 s"] and table[3][-3:] == ["0 %", "-", "iter 3 waits"]
    minutes, seconds = re.fullmatch(r"(\d+) min (\d+) s", table[2][3]).groups()
    assert begin - 1 <= 60 * int(minutes) + int(seconds) <= seconds_in_flight() + 1 and table[2][-2] == "1 min 40 s"
    assert table[4][0] == "all" and "interrupted (make resume goes on): iter 2 [slot 1, GPU 1]: starting" in told
    assert "views not written now (an engine is at work)" in told


def seconds_in_flight():
    """Return for how long iteration 2 runs by the clock: its reservation is the eighth event."""
    return (datetime.now(UTC) - AT).total_seconds() - 700


def test_without_an_engine_the_last_session_ends_with_its_last_event(driver, paths):
    written(driver, paths)
    told = status.show(paths)
    assert "views written: " in told and re.search(r"^  1 +exploit-second +0 +0 s ", told, re.M)
    assert re.search(r"^  all +1 +1 min 30 s ", told, re.M)


def test_one_slot_is_one_line_and_old_journals_have_it(paths):
    paths.journal.write_bytes(JOURNALS[0].read_bytes())
    told = status.show(paths)
    assert re.search(r"^slot: utilisation \d+ %, idle \d", told, re.M) and "mean wait" not in told
    assert ">Slots</h2><div class=wide><table>" in report.write(paths).read_text()


# --- make report ------------------------------------------------------------------------------------------------------


def test_the_report_has_the_table_and_a_bar_a_run(driver, paths):
    written(driver, paths)
    page = report.write(paths).read_text()
    found = self_contained(page)
    part = page[page.index('<h2 id="slots">') : page.index('<h2 id="failed">')]
    assert part.count('class="bar good"') == part.count('class="bar open"') == 1
    assert ">slot 1: exploit-second<" in part and "Busy: from a run's start" in found.text
    assert "iteration 1: ok, 1 min 30 s, waited 1 min 40 s, GPU 0" in found.text
    row = re.search("<td class=n>0</td><td>exploit-best</td><td>GPU 0</td>(.*?)</tr>", part).group(1)
    assert re.findall(r">([^<]+)</td>", row)[:2] == ["1", "1 min 30 s"]


def test_colours_say_how_runs_ended():
    log = Log().session(0, 2).turn(0, 1, 2, 3).reserve(0, 1, 0).reserve(0, 2, 1).end(9, 1, 9, "out_of_memory")
    log.reserve(9, 1, 0).end(20, 2, 20, "crashed").reserve(20, 3, 1).end(30, 1, 9)
    drawn = report_slots.timeline(log.usage())
    assert [drawn.count(f'"bar {name}"') for name in ("mid", "bad", "good", "open")] == [1, 1, 1, 1]
    log.end(40, 3, 0, "killed", lost=True)
    assert report_slots.timeline(log.usage()).count('"bar mid"') == 2


def test_time_between_sessions_is_left_out_and_bars_are_to_scale():
    log = Log().session(0).ready(5).turn(5, 1).reserve(5, 1).end(15, 1, 10)
    log.session(5000).turn(5000, 2).reserve(5000, 2).end(5005, 2, 5)
    drawn = report_slots.timeline(log.usage())
    bars = [(float(a), float(b)) for a, b in re.findall(r'"bar good" x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', drawn)]
    assert bars == [(292.0, 464.0), (756.0, 232.0)]  # 928 wide from 60 on, 20 s
    assert drawn.count("<title>session 2 begins</title>") == 1 and drawn.count('class="band"') == 1


def test_numbers_stand_where_they_have_room():
    log = Log().session(0)
    for k in range(1, 301):
        log.turn(k, k).reserve(k, k).end(k + 1, k, 0.9)
    drawn = report_slots.timeline(log.usage())
    assert drawn.count('class="bar') == 300
    places = [float(x) for x in re.findall(r'<text x="([\d.]+)" y="[\d.]+" text-anchor="middle">\d+<title', drawn)]
    assert 10 <= len(places) <= 40 and min(b - a for a, b in pairwise(places)) > 22


def test_nothing_has_run():
    assert report_slots.section(Usage()) == "<p class=dim>nothing has run yet</p>"
    made = Driver()
    assert report_slots.section(usage(made.events)) == "<p class=dim>nothing has run yet</p>"
    assert fold(contract(), made.events).session.slots == 1
