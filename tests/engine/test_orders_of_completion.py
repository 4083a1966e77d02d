"""Runs end in any order, engines die at any event: each turn follows from the prefix that it names.

The engine, journal and folders are real; runs are played by the ScriptedLauncher, which outlives the engine as
supervisors do.
"""

import io
import math

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from orchestrator.core.events import RunEnded, RunReserved, Turned
from orchestrator.core.state import fold
from orchestrator.engine import explorer, runs
from orchestrator.engine.context import Adapters
from orchestrator.engine.opening import Wishes, load, make_folder
from orchestrator.engine.sealing import sealed_contract
from orchestrator.launch.scripted import ScriptedLauncher, ScriptedRun
from orchestrator.scientist.offline import OfflineScientist
from orchestrator.store import journal
from orchestrator.views.console import PlainObserver
from tests import toy

ITERATIONS = 9
CONFIG = toy.CONFIG.replace("n_iter_block: 12", "n_iter_block: 5")
EXPLORATION = toy.EXPLORATION + "command: [python, '{run}']\n"
FAILURES = (
    {"returncode": 1, "step": "train"},
    {"returncode": 11, "step": "train"},
    {"returncode": 10, "step": "train"},
)


class Killed(BaseException):
    """The engine is dead from here on."""


class Script:
    """What each run does, decided by lists of small numbers that are used in turn."""

    def __init__(self, polls, fates):
        self.polls, self.fates, self.played = polls, fates, 0

    def __call__(self, order):
        number, self.played = self.played, self.played + 1
        fate = self.fates[number % len(self.fates)]
        polls = self.polls[number % len(self.polls)]
        if fate < len(FAILURES):
            return ScriptedRun(polls=polls, **FAILURES[fate])
        training = order["config"]["training"]
        far = abs(math.log10(float(training["learning_rate_W_start"]) / 8e-3))
        value = 0.97 - 0.3 * far + 0.001 * (int(training["seed"]) % 7)
        return ScriptedRun(polls=polls, metrics={"connectivity_R2": value, "test_R2": value})


def engine(home, launcher, slots, mode):
    setup = load(home, "toy", Wishes())
    make_folder(setup)
    adapters = Adapters(OfflineScientist(), launcher, "none", slots=slots, mode=mode)
    return explorer.Explorer(setup, adapters, PlainObserver(io.StringIO()))


def dying(after, kept):
    """An `append` that kills the engine at its `after`-th event, before or after it is durable."""
    real, count = journal.Journal.append, 0

    def append(self, body):
        nonlocal count
        count += 1
        if count == after and not kept:
            raise Killed
        event = real(self, body)
        if count == after:
            raise Killed
        return event

    return append


def explore(home, launcher, slots, mode, deaths, monkeypatch):
    """Run engines until one is not killed; return the last one's exit code."""
    real = journal.Journal.append
    for after, kept in deaths:
        monkeypatch.setattr(journal.Journal, "append", dying(after, kept))
        try:
            return engine(home, launcher, slots, mode).run(ITERATIONS)
        except Killed:
            continue
        finally:
            monkeypatch.setattr(journal.Journal, "append", real)
    return engine(home, launcher, slots, mode).run(ITERATIONS)


@pytest.mark.parametrize("mode", ["batch", "refill"])
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    slots=st.integers(1, 4),
    polls=st.lists(st.integers(0, 7), min_size=1, max_size=12),
    fates=st.lists(st.integers(0, 12), min_size=1, max_size=9),
    deaths=st.lists(st.tuples(st.integers(2, 12), st.booleans()), max_size=3),
)
@example(slots=1, polls=[1, 0], fates=[0], deaths=[(9, False), (6, True)])  # a block in which every run failed
def test_each_turn_follows_from_its_prefix(tmp_path_factory, mode, slots, polls, fates, deaths):
    home = toy.make_home(tmp_path_factory.mktemp("order"), config=CONFIG, exploration=EXPLORATION)
    launcher = ScriptedLauncher(Script(polls, fates))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "POLL_S", 0.0)
        code = explore(home, launcher, slots, mode, deaths, patch)
    events = journal.read(toy.out(home) / "journal.jsonl")
    contract = sealed_contract(load(home, "toy", Wishes()).paths)
    state = fold(contract, events)
    assert code in (0, 3)  # 3: three failures alike in a row
    assert code == 3 or (state.planned == ITERATIONS and not state.open_iterations)
    ended, flying = set(), set()
    for event in events:
        body = event.body
        if isinstance(body, RunReserved):
            flying.add((body.iteration, body.attempt))
            assert len(flying) <= slots
        if isinstance(body, RunEnded):
            assert (body.iteration, body.attempt) in flying
            flying.discard((body.iteration, body.attempt))
            ended.add(body.iteration)
        if isinstance(body, Turned):
            prefix = fold(contract, events[: body.turn.based_on])
            assert OfflineScientist().propose(prefix, body.turn.asked) == body.turn
            for proposal in body.turn.proposals:
                if proposal.parent is not None:
                    assert ended & set(prefix.nodes[proposal.parent].iterations), proposal
