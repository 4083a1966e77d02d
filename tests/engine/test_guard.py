"""Failures alike in a row stop the exploration: in the order of their ends, and once for each cause."""

import itertools

import pytest

from orchestrator.core.events import Alarm
from orchestrator.engine import runs
from orchestrator.launch.scripted import ScriptedLauncher, ScriptedRun
from orchestrator.store import journal
from tests import edited, toy
from tests.engine.test_orders_of_completion import EXPLORATION, engine
from tests.factory import Driver, contract


class Deaf(ScriptedLauncher):
    """Runs end by themselves before a cancellation reaches them."""

    def cancel(self, run_dir, *, hard=False):
        pass


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "POLL_S", 0.0)
    return toy.make_home(tmp_path, exploration=EXPLORATION)


def crash(polls):
    return ScriptedRun(polls=polls, returncode=1, step="train")


def good(polls):
    return ScriptedRun(polls=polls, metrics={"connectivity_R2": 0.5, "test_R2": 0.5})


def alarms(home):
    return [e.body for e in journal.read(toy.out(home) / "journal.jsonl") if isinstance(e.body, Alarm)]


def test_runs_that_failed_beside_an_alarm_do_not_stop_the_next_session(home):
    broken, numbers = [True], itertools.count()
    launcher = Deaf(lambda order: crash(2 * next(numbers)) if broken else good(0))
    first = engine(home, launcher, 8, "refill")
    assert first.run(12) == 3
    failed = [it.proposal.iteration for it in first.state.done]
    assert len(failed) >= 6 and alarms(home)[0].iteration == 3  # three and more ended after the alarm
    broken.clear()  # as the alarm asks
    assert engine(home, launcher, 8, "refill").run(12) == 0
    assert len(alarms(home)) == 1


def test_a_good_run_that_ended_in_between_is_no_crash_loop(home):
    polls = {1: 6, 4: 12}
    script = ScriptedLauncher(
        lambda order: (crash if order["iteration"] in (2, 3, 4) else good)(
            polls.get(order["iteration"], 0 if order["iteration"] < 5 else 30)
        )
    )
    explorer = engine(home, script, 4, "refill")
    assert explorer.run(6) == 0
    ends = sorted(explorer.state.done, key=lambda it: it.attempts[-1].ended_seq)
    assert [it.proposal.iteration for it in ends][:4] == [2, 3, 1, 4]


def test_three_failures_in_the_order_of_their_ends_are_one(home):
    polls = {1: 4, 2: 5, 3: 6, 4: 0}
    script = ScriptedLauncher(
        lambda order: (crash if order["iteration"] < 4 else good)(polls.get(order["iteration"], 30))
    )
    assert engine(home, script, 4, "refill").run(8) == 3
    assert "iterations 1, 2, 3" in alarms(home)[0].sentence


def test_edits_that_crash_alike_are_no_crash_loop(home):
    driver = Driver(contract(code="on", n_iter_block=24))
    for value in (0.5, 0.5, 0.5, 0.5):
        driver.put(value)
    for _ in range(3):
        edited.edit(driver, outcome="crashed", ended={"cause": "exit code 1: IndexError", "sentence": "IndexError"})
    explorer = engine(home, ScriptedLauncher(lambda order: good(0)), 1, "refill")
    explorer.board.state = driver.state
    assert explorer._guard() is None
    driver.put(parent=1, changes=(("training.learning_rate_W_start", 4e-3),), outcome="crashed")
    driver.state.iterations[8].attempts[-1].ended = driver.state.iterations[7].final
    driver.state.iterations[8].final = driver.state.iterations[7].final
    with pytest.raises(AssertionError):  # an alarm, and this engine has no journal
        explorer._guard()
