"""SIGKILL around a request to the language model: a reply that arrived is used, nothing is paid twice in silence."""

import os
import signal
import subprocess
import sys

import pytest

from orchestrator.core import ledger
from orchestrator.core.dialogue import PRICES, cost
from orchestrator.core.state import fold
from orchestrator.engine.opening import paths_of
from orchestrator.engine.sealing import sealed_contract
from orchestrator.llm.answers import Calls, Fails
from orchestrator.store import journal
from tests import claude, toy
from tests.e2e.test_kills import DRIVER, history

ITERATIONS = 3
OPTIONS = ("--epochs", "2", "--epoch-s", "0.02")


def state_of(home):
    paths = paths_of(home, "toy", None)
    return fold(sealed_contract(paths), journal.read(paths.journal))


def words(home, point, call):
    return [
        sys.executable, str(DRIVER), point, "engine", str(call), "--home", str(home), "explore", "toy",
        "--iterations", str(ITERATIONS),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    home = claude.home(tmp_path_factory.mktemp("whole"), *OPTIONS)
    with claude.server() as server:
        done = toy.run(home, "explore", "toy", "--iterations", str(ITERATIONS), **claude.environment(server))
    assert done.returncode == 0, done.stdout + done.stderr
    return history(home), len(server.requests), ledger.spent(state_of(home)).micro_usd


def paid(state):
    """The cost of the replies, from their tokens and the published prices."""
    settled = [c.settled for c in state.calls.values()]
    return sum(cost(s.usage, PRICES["claude-opus-5-5"]) for s in settled if s.usage is not None)


def refusals(home):
    return [(r.turn, r.attempt, r.reason) for r in state_of(home).refusals]


CALL = 5
"""In the second turn; the third turn has a refusal, so call 9 is a reply that is refused."""


@pytest.mark.parametrize(
    ("point", "call", "asked_again"),
    [
        ("after_llm_reserved", CALL, 0),
        ("before_reply_kept", CALL, 1),
        ("after_reply_kept", CALL, 0),
        ("after_llm_settled", CALL, 0),
        ("after_reply_kept", 9, 0),
        ("after_llm_settled", 10, 0),
        ("before_turn", 3, 0),
    ],
)
def test_resume_uses_what_had_arrived(uninterrupted, tmp_path, point, call, asked_again):
    whole, requests, micro_usd = uninterrupted
    home = claude.home(tmp_path, *OPTIONS)
    with claude.server() as server:
        environment = toy.environment(**claude.environment(server))
        first = subprocess.run(
            words(home, point, call), capture_output=True, text=True, timeout=40, env=environment, check=False
        )
        assert first.returncode == -9, first.stdout + first.stderr
        second = toy.run(home, "resume", "toy", **claude.environment(server))
    assert second.returncode == 0, second.stdout + second.stderr
    assert history(home) == whole
    assert len(server.requests) == requests + asked_again
    state = state_of(home)
    lost = [c for c in state.calls.values() if c.settled is not None and c.settled.outcome == "lost"]
    unsent = point == "after_llm_reserved"
    assert len(lost) == (1 if asked_again or unsent else 0)
    assert ("may be on the bill" in second.stdout) == bool(lost)
    counted = sum(c.reserved.micro_usd for c in lost)
    assert ledger.spent(state).micro_usd == paid(state) + counted
    if not asked_again:  # a request that is asked again finds its prompt in the service's cache: cheaper
        assert paid(state) == micro_usd
    assert all(c.settled is not None for c in state.calls.values())
    assert len(refusals(home)) == len(set(refusals(home)))


def test_killed_while_the_service_thinks(uninterrupted, tmp_path):
    """The request is out, no reply has come: it counts with all that was reserved, and that is said."""
    whole, requests, _ = uninterrupted
    home = claude.home(tmp_path, *OPTIONS)
    engine = []

    def script(body, number):
        answer = claude.SCRIPT(body, number)
        if number != CALL:
            return answer
        return Calls(function=lambda: os.kill(engine[0].pid, signal.SIGKILL), then=answer)

    with claude.server(script) as server:
        engine.append(toy.start(home, "explore", "toy", "--iterations", str(ITERATIONS), **claude.environment(server)))
        engine[0].communicate(timeout=40)
        assert engine[0].returncode == -9
        second = toy.run(home, "resume", "toy", **claude.environment(server))
    assert second.returncode == 0, second.stdout + second.stderr
    assert "request 5 was sent and no reply had arrived when the engine died" in second.stdout
    assert history(home) == whole
    assert len(server.requests) == requests + 1
    state = state_of(home)
    assert state.calls[CALL].settled.outcome == "lost"
    assert ledger.spent(state).micro_usd == paid(state) + state.calls[CALL].reserved.micro_usd


def test_killed_while_it_waits(uninterrupted, tmp_path):
    whole, _, micro_usd = uninterrupted
    home = claude.home(tmp_path, *OPTIONS)

    def script(body, number):
        overloaded = Fails(status=529, error_type="overloaded_error", message="Overloaded", retry_after=30)
        return overloaded if number == CALL else claude.SCRIPT(body, number)

    with claude.server(script) as server:
        environment = toy.environment(**claude.environment(server))
        killed = words(home, "after_waiting", CALL)
        first = subprocess.run(killed, capture_output=True, text=True, timeout=40, env=environment, check=False)
        assert first.returncode == -9, first.stdout + first.stderr
        second = toy.run(home, "resume", "toy", **claude.environment(server))
    assert second.returncode == 0, second.stdout + second.stderr
    assert history(home) == whole
    assert ledger.spent(state_of(home)).micro_usd == micro_usd  # what was turned away costs nothing


def test_a_person_who_changed_the_rules_meanwhile_is_heard_first(tmp_path):
    """The kept replies were about other rules: the turn is asked anew, and that is said."""
    home = claude.home(tmp_path, *OPTIONS)
    with claude.server() as server:
        environment = toy.environment(**claude.environment(server))
        killed = words(home, "after_llm_settled", CALL)
        subprocess.run(killed, capture_output=True, text=True, timeout=40, env=environment, check=False)
        instruction = home / "instructions" / "toy.md"
        instruction.write_text(instruction.read_text().replace("range: 1E-4 to 1E-2", "range: 1E-4 to 2E-2"))
        second = toy.run(home, "resume", "toy", **claude.environment(server))
    assert second.returncode == 0, second.stdout + second.stderr
    assert "turn 2 is asked anew, and paid again: what it was asked about has changed since" in second.stdout
    assert len(state_of(home).done) == ITERATIONS
