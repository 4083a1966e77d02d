"""SIGKILL at every step from "edit accepted" to "verdict": the same tree, no half commit, no worktree, no lock left."""

import subprocess
import sys

import pytest

from orchestrator.core.events import CodeChecked
from orchestrator.store import journal
from tests import claude, code_toy, toy
from tests.code_script import CodeScript, on
from tests.e2e.test_kills import DRIVER, history

ITERATIONS = 6
CODE = 5
"""The first iteration that may edit code."""
OPTIONS = ("--epochs", "3", "--epoch-s", "0.08")
PATCHES = {"01-fails.patch": code_toy.FAILS_ITS_TRIAL, "02-better.patch": code_toy.BETTER}
VIEWS = ("memory.md", "analysis.md", "ucb_scores.txt", "best.yaml")


def refs(home):
    return code_toy.git(home, "for-each-ref", "--format=%(refname) %(objectname)")


def trials(home):
    """Return what became of the trials; a trial that was counted twice stands there twice."""
    bodies = (e.body for e in journal.read(toy.out(home) / "journal.jsonl"))
    return [(b.tree, b.ok, b.sentence) for b in bodies if isinstance(b, CodeChecked)]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    home = code_toy.make_home(tmp_path_factory.mktemp("whole"), *OPTIONS, patches=PATCHES)
    done = toy.run(home, "explore", "toy", "--iterations", str(ITERATIONS))
    assert done.returncode == 0, done.stdout + done.stderr
    found = history(home)
    assert found[1][CODE].code != found[1][1].code  # the edit was made
    assert [ok for _, ok, _ in trials(home)] == [False, True]
    return found, refs(home), trials(home), {n: (toy.out(home) / n).read_bytes() for n in VIEWS}


CASES = [(point, "engine") for point in (
    "mid_export", "mid_trial", "before_code_checked", "after_failed_check", "after_code_checked", "before_commit",
    "after_commit", "before_turn", "after_turn", "before_refs", "after_refs", "before_run_reserved",
    "after_run_reserved", "mid_training", "result_not_judged", "after_run_ended",
)]  # fmt: skip
CASES += [("mid_trial", "engine,supervisor"), ("mid_trial", "engine,supervisor,child"), ("mid_trial", "child")]
CASES += [("mid_trial", "supervisor"), ("mid_training", "engine,supervisor,child")]


@pytest.mark.parametrize(("point", "victims"), CASES)
def test_resume_gives_the_same_tree(uninterrupted, tmp_path, point, victims):
    home = code_toy.make_home(tmp_path, *OPTIONS, patches=PATCHES)
    words = [sys.executable, str(DRIVER), point, victims, str(CODE), "--home", str(home), "explore", "toy"]
    first = subprocess.run(
        [*words, "--iterations", str(ITERATIONS)], capture_output=True, text=True, timeout=40, env=toy.environment()
    )
    if "engine" in victims:
        assert first.returncode == -9, first.stdout + first.stderr
        second = toy.run(home, "resume", "toy")
        assert second.returncode == 0, second.stdout + second.stderr
    else:
        assert first.returncode == 0, first.stdout + first.stderr
    whole, whole_refs, whole_trials, views = uninterrupted
    assert history(home) == whole
    assert refs(home) == whole_refs
    assert trials(home) == whole_trials
    for name, expected in views.items():
        assert (toy.out(home) / name).read_bytes() == expected, name
    folder = toy.out(home)
    code_toy.git(home, "fsck", "--strict")
    assert not [p for p in (folder / ".git").rglob("*") if p.suffix == ".lock" or "worktrees" in p.parts]
    assert not [p for p in (folder / "code").iterdir() if p.name.startswith(".")]
    replayed = toy.run(home, "replay", "toy")
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    toy.wait_for(lambda: not toy.processes_of(home))


SCRIPT = CodeScript(
    {
        CODE: (
            on(1, "gain = gain + 0.1 * unknown", "an unknown name"),
            on(1, "gain = gain + 0.02 * rate", "a rate that gains"),
        )
    }
)


def asked(folder, first=()):
    """Return the home of an exploration that Claude drives, run by the words in `first` and then to its end."""
    home = code_toy.make_home(folder, *OPTIONS)
    total = ("--iterations", str(ITERATIONS))
    with claude.server(SCRIPT) as server:
        env = claude.environment(server)
        if first:
            words = [sys.executable, str(DRIVER), *first, str(CODE), "--home", str(home), "explore", "toy", *total]
            killed = subprocess.run(words, capture_output=True, timeout=40, env=toy.environment(**env))
            assert killed.returncode == -9
        done = toy.run(home, "explore", "toy", *total, **env)
    assert done.returncode == 0, done.stdout + done.stderr
    return home, len(server.requests)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_conversation_goes_on_after_its_trial(tmp_path):
    """Killed in or after the trial that `submit` asked for: the same commit, no reply paid twice, no second trial."""
    whole, requests = asked(tmp_path / "whole")
    assert history(whole)[1][CODE].code != history(whole)[1][1].code
    for point in ("mid_trial", "after_failed_check", "after_code_checked", "after_commit", "before_turn"):
        home, again = asked(tmp_path / point, (point, "engine"))
        assert history(home) == history(whole), point
        assert refs(home) == refs(whole) and trials(home) == trials(whole)
        assert again == requests, point
        assert toy.run(home, "replay", "toy").returncode == 0
