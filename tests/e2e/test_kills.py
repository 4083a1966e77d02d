"""SIGKILL at every point of the loop: nothing is lost, nothing is counted twice, no process is left."""

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.core.events import RunEnded, RunReserved, Turned
from orchestrator.core.state import fold
from orchestrator.engine.opening import paths_of
from orchestrator.engine.sealing import sealed_contract
from orchestrator.scientist.offline import OfflineScientist
from orchestrator.store import journal
from tests import toy

ITERATIONS = 5
DRIVER = Path(__file__).with_name("kill_driver.py")
OPTIONS = ("--epochs", "4", "--epoch-s", "0.08")


def history(home):
    """What must not depend on kills: turns, nodes, and each iteration's metrics and outcome."""
    paths = paths_of(home, "toy", None)
    state = fold(sealed_contract(paths), journal.read(paths.journal))
    turns = [t.model_copy(update={"based_on": 0}) for t in state.turns]
    results = {i: (it.outcome, it.final.metrics if it.final else None) for i, it in state.iterations.items()}
    return turns, state.nodes, results


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    home = toy.make_home(tmp_path_factory.mktemp("whole"), *OPTIONS)
    done = toy.run(home, "explore", "toy", "--iterations", str(ITERATIONS))
    assert done.returncode == 0, done.stdout + done.stderr
    return history(home), {n: (toy.out(home) / n).read_bytes() for n in ("memory.md", "analysis.md", "ucb_scores.txt")}


ENGINE_POINTS = [
    "before_turn", "before_run_reserved", "after_run_reserved", "mid_training", "result_not_judged", "torn_run_ended",
    "after_run_ended", "mid_memory_write", "between_shadow_and_view", "mid_analysis_append",
]  # fmt: skip
CASES = [(point, "engine") for point in ENGINE_POINTS]
CASES += [("mid_training", v) for v in ("supervisor", "child", "engine,supervisor", "engine,supervisor,child")]
CASES += [("mid_training", "engine,child")]


@pytest.mark.parametrize(("point", "victims"), CASES)
def test_resume_after_a_kill_gives_the_uninterrupted_history(uninterrupted, tmp_path, point, victims):
    home = toy.make_home(tmp_path, *OPTIONS)
    words = [sys.executable, str(DRIVER), point, victims, "3", "--home", str(home), "explore", "toy"]
    first = subprocess.run(
        [*words, "--iterations", str(ITERATIONS)], capture_output=True, text=True, timeout=40, env=toy.environment()
    )
    if "engine" in victims:
        assert first.returncode == -9, first.stdout + first.stderr
        if point == "mid_training" and "supervisor" in victims:
            assert "interrupted (make resume goes on): iter 3" in toy.run(home, "status", "toy").stdout
        second = toy.run(home, "resume", "toy")
        assert second.returncode == 0, second.stdout + second.stderr
    else:
        assert first.returncode == 0, first.stdout + first.stderr
    (turns, nodes, results), views = uninterrupted
    assert history(home) == (turns, nodes, results)
    for name, expected in views.items():
        assert (toy.out(home) / name).read_bytes() == expected, name
    assert_journal_is_sound(home)
    if point == "mid_training" and victims != "engine":
        reserved = [e.body for e in journal.read(toy.out(home) / "journal.jsonl") if isinstance(e.body, RunReserved)]
        assert [r.attempt for r in reserved if r.iteration == 3] == [1, 2]
    toy.wait_for(lambda: not toy.processes_of(home))


def assert_journal_is_sound(home):
    """One finished result an iteration, every run reserved before it ended, every turn recomputable."""
    paths = paths_of(home, "toy", None)
    contract, events = sealed_contract(paths), journal.read(paths.journal)
    ends = [e.body for e in events if isinstance(e.body, RunEnded)]
    assert sorted(e.iteration for e in ends if e.outcome == "ok") == list(range(1, ITERATIONS + 1))
    reserved = {(e.body.iteration, e.body.attempt): e.seq for e in events if isinstance(e.body, RunReserved)}
    for event in events:
        if isinstance(event.body, RunEnded):
            assert reserved[event.body.iteration, event.body.attempt] < event.seq
        if isinstance(event.body, Turned):
            turn = event.body.turn
            seen = fold(contract, events[: turn.based_on])
            assert OfflineScientist().propose(seen, turn.asked) == turn


def test_a_killed_run_goes_on_from_its_last_epoch(tmp_path):
    home = toy.make_home(tmp_path, "--epochs", "6", "--epoch-s", "0.15")
    words = [sys.executable, str(DRIVER), "mid_training", "engine,supervisor,child", "1", "--home", str(home)]
    subprocess.run([*words, "explore", "toy", "--iterations", "1"], env=toy.environment(), timeout=40, check=False)
    assert toy.run(home, "resume", "toy").returncode == 0
    events = [e.body for e in journal.read(toy.out(home) / "journal.jsonl")]
    second = next(e for e in events if isinstance(e, RunReserved) and e.attempt == 2)
    assert second.resumes == 1
    steps = (toy.out(home) / "runs" / "0001-2" / "out" / "progress.jsonl").read_text().count("\n")
    assert steps <= 6 * 10 + 10


def test_kills_again_and_again_still_end_well(uninterrupted, tmp_path):
    home = toy.make_home(tmp_path, *OPTIONS)
    for iteration, point in enumerate(
        ("after_run_reserved", "mid_training", "mid_training", "torn_run_ended"), start=1
    ):
        words = [sys.executable, str(DRIVER), point, "engine,supervisor,child", str(iteration), "--home", str(home)]
        command = [*words, "explore", "toy", "--iterations", str(ITERATIONS)]
        killed = subprocess.run(command, env=toy.environment(), timeout=40, capture_output=True, check=False)
        assert killed.returncode == -9
    assert toy.run(home, "resume", "toy").returncode == 0
    assert history(home) == uninterrupted[0]
    toy.wait_for(lambda: not toy.processes_of(home))


@pytest.mark.parametrize("left", ["exit.json", "result.json"])
def test_a_supervisor_that_died_after_the_result_was_written_is_adopted(uninterrupted, tmp_path, left):
    """No exit.json: a complete result counts, an incomplete one is run again."""
    home = toy.make_home(tmp_path, *OPTIONS)
    words = [sys.executable, str(DRIVER), "result_not_judged", "engine", "3", "--home", str(home), "explore", "toy"]
    command = [*words, "--iterations", str(ITERATIONS)]
    assert subprocess.run(command, env=toy.environment(), timeout=40, capture_output=True, check=False).returncode == -9
    run = toy.out(home) / "runs" / "0003-1"
    (run / "exit.json").unlink()
    (run / left).unlink(missing_ok=True)
    assert toy.run(home, "resume", "toy").returncode == 0
    assert history(home) == uninterrupted[0]
    assert (toy.out(home) / "runs" / "0003-2").exists() == (left == "result.json")


def test_ucb1_is_a_scorer_of_exploration_yaml(tmp_path):
    home = toy.make_home(tmp_path, exploration=toy.EXPLORATION + "scorer: ucb1\n")
    assert toy.run(home, "explore", "toy", "--iterations", "2").returncode == 0
    assert "ucb1 v1: R + c*sqrt(ln(N+1)/V)" in (toy.out(home) / "ucb_scores.txt").read_text()
