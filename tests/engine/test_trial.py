"""A trial tells of the code: what may be the machine's doing counts when it comes twice, and none is endless."""

import itertools
from types import SimpleNamespace

import pytest

from orchestrator.engine import sealing
from orchestrator.engine import trial as trials
from orchestrator.engine.context import Adapters
from orchestrator.engine.opening import Wishes, load
from orchestrator.errors import NeedsPersonError
from orchestrator.launch.scripted import ScriptedLauncher, ScriptedRun
from orchestrator.scientist.offline import OfflineScientist
from orchestrator.vcs import code, git
from tests import code_toy

GOOD = ScriptedRun(step="check")


@pytest.fixture
def stage(tmp_path):
    home = code_toy.make_home(tmp_path)
    setup = load(home, "toy", Wishes())
    setup.paths.out.mkdir()
    _, base = git.commit_code(setup.paths.out, home, "exploration/toy", "code in use")
    text = code_toy.SIGNAL.replace(code_toy.STEP, "gain = gain + 0.1 * rate")
    edited = code.tree_with(setup.paths.out, base, {"trainers/signal.py": text})

    def run(*ends, launcher=None, sandbox="landlock", go_on=lambda: True):
        played = itertools.chain(ends, itertools.repeat(ends[-1] if ends else None))
        launcher = launcher or ScriptedLauncher(lambda order: next(played))
        adapters = Adapters(OfflineScientist(), launcher, sandbox)
        found = trials.trial(setup, adapters, (edited, base), setup.contract.start, go_on)
        return found, len(getattr(launcher, "submitted", ()))

    return SimpleNamespace(run=run, setup=setup)


def end(**fields):
    return ScriptedRun(step="try", **fields)


DOUBTFUL = {
    "wall": (end(returncode=-15, reason="wall", sentence="it took longer"), "it took longer"),
    "silence": (end(returncode=-15, reason="silence", sentence="it was silent"), "it was silent"),
    "killed": (end(returncode=-9), "killed twice"),
    "memory": (end(returncode=11, stdout="CUDA out of memory\n"), "out of memory twice"),
    "stopped": (end(returncode=12), "as if it had been asked to stop"),
    "cancelled": (end(returncode=12, reason="cancelled"), "nobody had asked"),
    "vanished": (end(omit=("exit.json",)), "together with the program that watched it"),
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_what_the_machine_may_have_done_is_tried_once_more(stage, name):
    found, count = stage.run(DOUBTFUL[name][0], GOOD)
    assert found.ok and count == 2


@pytest.mark.parametrize("name", DOUBTFUL)
def test_what_comes_twice_is_the_codes(stage, name):
    played, told = DOUBTFUL[name]
    found, count = stage.run(played)
    assert not found.ok and told in found.sentence and count == 2


def test_a_crash_is_the_codes_at_once(stage):
    found, count = stage.run(end(returncode=1, stdout="NameError: no\n"), GOOD)
    assert not found.ok and "NameError: no" in found.sentence and count == 1


class Overloaded(ScriptedLauncher):
    """No supervisor comes to its start in time, so many times."""

    def __init__(self, times):
        super().__init__(lambda order: GOOD)
        self.left = times

    def submit(self, run_dir, spec):
        self.left -= 1
        if self.left >= 0:
            raise OSError("the supervisor did not claim within 30 s")
        super().submit(run_dir, spec)


def test_a_trial_that_cannot_be_started_says_nothing_of_the_code(stage):
    found, _ = stage.run(GOOD, launcher=Overloaded(2))
    assert found.ok


def test_a_machine_that_starts_no_trial_needs_a_person(stage):
    with pytest.raises(NeedsPersonError, match="could not be run 3 times"):
        stage.run(GOOD, launcher=Overloaded(99))


def test_edited_code_is_not_tried_without_a_sandbox_that_nobody_accepted(stage):
    with pytest.raises(NeedsPersonError, match="no sandbox to run it in"):
        stage.run(GOOD, sandbox="none")


def test_a_trial_that_outlived_its_engine_is_stopped_before_its_folder_is_set_aside(stage):
    class KilledError(Exception):
        pass

    def killed():
        raise KilledError

    launcher = ScriptedLauncher(lambda order: ScriptedRun(step="try", polls=None))
    with pytest.raises(KilledError):
        stage.run(launcher=launcher, go_on=killed)
    ((run, _),) = launcher.submitted
    assert launcher.state(run) == "running"
    moved = sealing.set_aside(stage.setup.paths, launcher)
    assert launcher.exit_record(moved / "trials" / run.name).reason == "cancelled"
