import multiprocessing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.core.events import Human, Session
from orchestrator.errors import JournalError
from orchestrator.store import journal
from orchestrator.store.journal import Journal
from tests.factory import Driver


def bodies(n):
    return [Human(number=i, what="note", text=f'línea {i}\nwith "quotes" and {{}}') for i in range(1, n + 1)]


def write(folder, n):
    with Journal(folder / "journal.jsonl", folder / "engine.lock") as j:
        for body in bodies(n):
            j.append(body)
    return folder / "journal.jsonl"


def test_events_come_back(odd_path):
    path = write(odd_path, 3)
    events = journal.read(path)
    assert [e.body for e in events] == bodies(3)
    assert [e.seq for e in events] == [1, 2, 3]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(data=st.data())
def test_a_last_line_torn_at_any_byte_is_dropped_and_the_rest_kept(tmp_path, data):
    path = write(tmp_path, 3)
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    kept = whole[:cut].count(b"\n")
    with Journal(path, tmp_path / "engine.lock") as j:
        assert [e.body for e in j.events] == bodies(3)[:kept]
        j.append(Human(number=99, what="note", text="after"))
    assert [e.body.number for e in journal.read(path)] == [*range(1, kept + 1), 99]
    path.unlink()


def test_a_bad_line_in_the_middle_is_an_error_with_its_number(tmp_path):
    path = write(tmp_path, 3)
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], lines[1][:-5], lines[2], b""]))
    before = path.read_bytes()
    with pytest.raises(JournalError, match="line 2: not a journal event"), Journal(path, tmp_path / "l"):
        pass
    assert path.read_bytes() == before


def test_a_gap_in_the_sequence_is_an_error(tmp_path):
    path = write(tmp_path, 3)
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], lines[2], b""]))
    with pytest.raises(JournalError, match="line 2: expected sequence number 2, found 3"):
        journal.read(path)


def test_a_second_engine_is_refused_by_name(tmp_path):
    write(tmp_path, 1)
    with (
        Journal(tmp_path / "journal.jsonl", tmp_path / "engine.lock"),
        pytest.raises(JournalError, match=r"another engine \(pid \d+\) is running"),
        Journal(tmp_path / "journal.jsonl", tmp_path / "engine.lock"),
    ):
        pass


def test_a_stranger_writing_to_the_file_is_noticed(tmp_path):
    with Journal(tmp_path / "journal.jsonl", tmp_path / "engine.lock") as j:
        j.append(bodies(1)[0])
        with open(j.path, "ab") as file:
            file.write(b"hello\n")
        with pytest.raises(JournalError, match="another program wrote to it"):
            j.append(bodies(2)[1])


def _kill_while_appending(path, lock, ready):
    import os
    import signal

    with Journal(path, lock) as j:
        for i in range(1, 10_000):
            j.append(
                Session(session=i, version="0", scientist="s", launcher="l", slots=1, sandbox="none", iterations=1)
            )
            if i == 20:
                ready.set()
    os.kill(os.getpid(), signal.SIGKILL)


def test_sigkill_while_appending_leaves_whole_events(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    paths = (tmp_path / "journal.jsonl", tmp_path / "engine.lock")
    child = context.Process(target=_kill_while_appending, args=(*paths, ready))
    child.start()
    assert ready.wait(30)
    child.kill()
    child.join()
    with Journal(*paths) as j:
        assert len(j.events) >= 20
        assert [e.seq for e in j.events] == list(range(1, len(j.events) + 1))


def test_the_journal_of_a_driven_exploration_round_trips(tmp_path):
    driver = Driver()
    driver.explore(7, lambda c: 0.25)
    with Journal(tmp_path / "j", tmp_path / "l") as j:
        for event in driver.events:
            j.append(event.body)
    assert [e.body for e in journal.read(tmp_path / "j")] == [e.body for e in driver.events]
