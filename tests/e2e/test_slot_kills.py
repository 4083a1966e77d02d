"""SIGKILL at every point of the loop with three slots: nothing lost, nothing twice, every turn recomputable."""

import json
import subprocess
import sys

import pytest

from orchestrator.core.events import RunEnded, RunReserved, Turned
from orchestrator.core.state import fold
from orchestrator.engine.opening import paths_of
from orchestrator.engine.sealing import sealed_contract
from orchestrator.scientist.offline import OfflineScientist
from orchestrator.store import journal
from tests import toy
from tests.e2e.test_kills import CASES, DRIVER, OPTIONS

SLOTS = 3
ITERATIONS = 8
CONFIG = toy.CONFIG.replace("n_iter_block: 12", "n_iter_block: 5")
"""Two blocks, the second not complete; a block's end leaves slots idle."""
WORDS = ("explore", "toy", "--iterations", str(ITERATIONS), "--slots", str(SLOTS))


def drive(home, point, victims, iteration=3, mode="refill"):
    command = [sys.executable, str(DRIVER), point, victims, str(iteration), "--home", str(home), *WORDS, "--mode", mode]
    return subprocess.run(command, capture_output=True, text=True, timeout=40, env=toy.environment(), check=False)


def make(tmp_path):
    return toy.make_home(tmp_path, *OPTIONS, config=CONFIG)


def check(home):
    """Return the fold of a journal that keeps every promise about slots."""
    paths = paths_of(home, "toy", None)
    contract, events = sealed_contract(paths), journal.read(paths.journal)
    state = fold(contract, events)
    assert state.planned == ITERATIONS and not state.open_iterations and not state.unreflected
    good = [e.body.iteration for e in events if isinstance(e.body, RunEnded) and e.body.outcome == "ok"]
    assert sorted(good) == list(range(1, state.last_iteration + 1))  # each counted once
    flying, ended = {}, {}
    for event in events:
        body = event.body
        if isinstance(body, RunReserved):
            flying[body.iteration, body.attempt] = body.slot
            assert len(flying) <= SLOTS and len(set(flying.values())) == len(flying), flying
        if isinstance(body, RunEnded):
            del flying[body.iteration, body.attempt]  # reserved before, ended once
            ended.setdefault(body.iteration, event.seq)
        if isinstance(body, Turned):
            check_turn(contract, events, body.turn, ended)
    return state


def check_turn(contract, events, turn, ended):
    """A turn follows from the prefix that it names, and no parent was still running then."""
    prefix = fold(contract, events[: turn.based_on])
    assert OfflineScientist().propose(prefix, turn.asked) == turn
    for proposal in turn.proposals:
        for node in (proposal.parent, proposal.mutation.second_parent, proposal.mutation.replicate_of):
            if node is not None:
                runs = prefix.nodes[node].iterations
                assert min(ended.get(i, 10**9) for i in runs) <= turn.based_on, (proposal.iteration, node)


@pytest.mark.parametrize(("point", "victims"), CASES)
def test_a_kill_with_three_slots_loses_nothing(tmp_path, point, victims):
    home = make(tmp_path)
    first = drive(home, point, victims)
    assert first.returncode == (-9 if "engine" in victims else 0), first.stdout + first.stderr
    if "engine" in victims:
        second = toy.run(home, "resume", "toy", "--slots", str(SLOTS))
        assert second.returncode == 0, second.stdout + second.stderr
    state = check(home)
    if point == "mid_training":
        attempts = len(state.iterations[3].attempts)
        assert attempts == (1 if victims == "engine" else 2)
    views = {name: (toy.out(home) / name).read_bytes() for name in ("memory.md", "analysis.md", "ucb_scores.txt")}
    assert views["analysis.md"].count(b"## Iter ") == state.last_iteration
    for name in views:
        (toy.out(home) / name).unlink()
    assert toy.run(home, "status", "toy").returncode == 0
    assert {name: (toy.out(home) / name).read_bytes() for name in views} == views
    toy.wait_for(lambda: not toy.processes_of(home))


def facts(state):
    """What a batch must give again after a kill: all but the time that runs shared."""
    turns = [t.model_copy(update={"based_on": 0}) for t in state.turns]
    results = {i: (it.outcome, it.final.metrics) for i, it in state.iterations.items()}
    return turns, state.nodes, results


@pytest.fixture(scope="module")
def batches(tmp_path_factory):
    home = make(tmp_path_factory.mktemp("whole"))
    done = drive(home, "nowhere", "engine", mode="batch")
    assert done.returncode == 0, done.stdout + done.stderr
    return facts(check(home))


@pytest.mark.parametrize(
    ("point", "victims"),
    [("before_turn", "engine"), ("before_run_reserved", "engine"), ("mid_training", "engine,supervisor,child"),
     ("after_run_ended", "engine")],
)  # fmt: skip
def test_batches_after_a_kill_are_the_uninterrupted_ones(batches, tmp_path, point, victims):
    home = make(tmp_path)
    assert drive(home, point, victims, mode="batch").returncode == -9
    done = toy.run(home, "resume", "toy", "--slots", str(SLOTS), "--mode", "batch")
    assert done.returncode == 0, done.stdout + done.stderr
    assert facts(check(home)) == batches
    toy.wait_for(lambda: not toy.processes_of(home))


def test_a_batch_is_judged_together_and_leaves_no_slot_empty(batches):
    turns = batches[0]
    assert [len(t.proposals) for t in turns if t.proposals] == [3, 3, 3]
    fillers = [p.iteration for t in turns for p in t.proposals if p.filler]
    assert fillers == [6]  # the fifth iteration ends the block: the third slot runs a leader again
    assert [len(t.reflections) for t in turns if t.reflections] == [3, 3, 3]


def test_fewer_slots_after_a_kill_are_kept_to(tmp_path):
    home = make(tmp_path)
    assert drive(home, "mid_training", "engine,supervisor,child").returncode == -9
    done = toy.run(home, "resume", "toy", "--slots", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    paths = paths_of(home, "toy", None)
    events = journal.read(paths.journal)
    state = fold(sealed_contract(paths), events)
    assert len(state.done) == state.last_iteration and state.planned == ITERATIONS
    reserved = [e.body for e in events if isinstance(e.body, RunReserved) and e.body.session == 2]
    assert reserved and {r.slot for r in reserved} == {0}
    toy.wait_for(lambda: not toy.processes_of(home))


def test_a_run_without_a_line_in_the_journal_is_stopped(tmp_path):
    """A journal that was put back from a copy: the run that it does not know is this exploration's, and is ended."""
    home = toy.make_home(tmp_path, "--epochs", "4", "--epoch-s", "0.8", config=CONFIG)
    assert drive(home, "mid_training", "engine").returncode == -9
    path = toy.out(home) / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    cut = next(i for i, line in enumerate(lines) if b'"run_reserved","iteration":2' in line)
    path.write_bytes(b"".join(lines[:cut]))
    assert toy.processes_of(home)
    done = toy.run(home, "explore", "toy", "--iterations", "3", "--slots", str(SLOTS))
    assert done.returncode == 0, done.stdout + done.stderr
    aside = sorted(p.name for p in (toy.out(home) / "runs.unknown").iterdir())
    assert aside == ["0002-1.1", "0003-1.1"] and "0003-1 has no line in the journal" in done.stdout
    assert json.loads((toy.out(home) / "runs.unknown" / "0003-1.1" / "exit.json").read_text())["reason"] == "cancelled"
    state = fold(sealed_contract(paths_of(home, "toy", None)), journal.read(path))
    assert [len(it.attempts) for it in state.iterations.values()] == [1, 1, 1]
    toy.wait_for(lambda: not toy.processes_of(home))


def test_another_exploration_is_never_touched(tmp_path):
    """Two explorations at work: one's engine is killed and its runs adopted, the other's runs go on as they were."""
    homes = [toy.make_home(tmp_path / name, "--epochs", "4", "--epoch-s", "0.4", config=CONFIG) for name in "ab"]
    other = toy.start(homes[1], "explore", "toy", "--iterations", "3", "--slots", "3")
    toy.wait_for(lambda: len(list(toy.out(homes[1]).glob("runs/*/claim"))) == 3)
    claims = {p: p.read_text() for p in toy.out(homes[1]).glob("runs/*/claim")}
    assert drive(homes[0], "mid_training", "engine").returncode == -9
    done = toy.run(homes[0], "resume", "toy")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 slot(s)" in done.stdout  # as many as before
    assert other.wait(30) == 0, other.stdout.read()
    assert {p: p.read_text() for p in claims} == claims
    events = journal.read(toy.out(homes[1]) / "journal.jsonl")
    assert [e.body.outcome for e in events if isinstance(e.body, RunEnded)] == ["ok"] * 3
    check(homes[0])
    other.stdout.close()
