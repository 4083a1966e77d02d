"""Launchers under one suite, the toy child's launch order, and a check that nothing is left behind."""

import json
import math
import os
import signal
import sys
from pathlib import Path

import pytest

from orchestrator.launch import folder
from orchestrator.launch.local import LocalLauncher
from orchestrator.launch.scripted import ScriptedLauncher, ScriptedRun
from orchestrator.ports import LaunchSpec, Limits, Sandbox, Step
from tests.toy import wait_for

TOY = Path(__file__).parents[1] / "toy_child.py"
RUN_YAML = """contract: 1
exploration: toy
iteration: 3
attempt: 1
system: signal
profile: cpu
device: cpu
threads: 1
identity: abc
config:
  simulation: {n_neurons: 10}
  graph_model:
    hidden_dim: 8
  training:
    learning_rate_W_start: 8.0E-3
    learning_rate_start: 0.0008
    n_epochs: 3
    seed: 7
data: {train: /nowhere, inputs: /nowhere}
"""


def make_run(root, name="0003-1"):
    """Make a run folder with its order."""
    run_dir = root / name
    (run_dir / "out").mkdir(parents=True)
    (run_dir / "run.yaml").write_text(RUN_YAML)
    return run_dir


def toy_spec(run_dir, fault="ok", *, sandbox=None, options=(), device="", **limits):
    """Return the launch order of the toy child, with short limits."""
    defaults = {"wall_s": 20, "silence_s": 10, "output_bytes": 100_000, "folder_bytes": 5_000_000, "grace_s": 0.3}

    def step(name):
        argv = (sys.executable, "-I", "-S", str(TOY), name, str(run_dir), "--fault", fault, *options)
        env = {"PATH": os.defpath, "HOME": str(run_dir / "out"), "LANG": "C.UTF-8", "CUDA_VISIBLE_DEVICES": device}
        box = None
        if sandbox and name == "train":
            read_only = (str(TOY), str(run_dir / "run.yaml"))
            box = Sandbox(level=sandbox, read_only=read_only, writable=(str(run_dir / "out"),))
        return Step(name=name, argv=argv, cwd=str(run_dir / "out"), env=env, sandbox=box)

    return LaunchSpec(steps=(step("train"), step("score")), limits=Limits(**(defaults | limits)))


def processes(text):
    """Return the pids of live processes whose command line contains a text."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = Path("/proc", name, "cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(str(text)) in line and int(name) != os.getpid():
            found.append(int(name))
    return found


def zombies_of(parent):
    """Return the ended children that a process has not waited for."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            state, ppid = Path("/proc", name, "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state == "Z" and int(ppid) == parent:
            found.append(int(name))
    return found


SCRIPTS = {
    "ok": ScriptedRun(metrics={"connectivity_R2": 0.97}),
    "exit1": ScriptedRun(step="train", returncode=1, stdout="something went wrong\n"),
    "import_error": ScriptedRun(step="train", returncode=1, stdout="ModuleNotFoundError: no_such_module\n"),
    "nan": ScriptedRun(step="train", returncode=10, failure={"kind": "diverged", "sentence": "NaN"}),
    "score_exit1": ScriptedRun(returncode=1),
    "slow": ScriptedRun(step="train", returncode=-15, reason="wall", polls=2),
    "hang": ScriptedRun(step="train", returncode=-15, reason="silence", polls=2),
    "flood": ScriptedRun(step="train", returncode=-15, reason="output", stdout="xxx", polls=2),
    "until_cancelled": ScriptedRun(polls=None),
    "inf": ScriptedRun(metrics={"connectivity_R2": math.inf}),
    "until_killed": ScriptedRun(polls=None),
    "no_result": ScriptedRun(metrics={"connectivity_R2": 0.5}, omit=("result.json",)),
}


class Bench:
    """One kind of launcher: makes instances, submits a behaviour, waits for its end."""

    def __init__(self, kind):
        self.kind = kind
        self.fault = "ok"
        self.launcher = self.another()

    def another(self):
        """Return one more launcher that knows nothing of the first."""
        return LocalLauncher() if self.kind == "local" else ScriptedLauncher(lambda _order: SCRIPTS[self.fault])

    def submit(self, run_dir, fault="ok", **limits):
        """Start a run that behaves as told."""
        self.fault = fault
        self.launcher.submit(run_dir, toy_spec(run_dir, "slow" if fault.startswith("until") else fault, **limits))

    def kill(self, run_dir, victim):
        """Kill the `child` or the `supervisor` of a run that goes on until then."""
        if self.kind == "scripted":
            (self.launcher.kill if victim == "child" else self.launcher.vanish)(run_dir)
            return
        wait_for(lambda: (run_dir / "out" / "toy.json").exists())
        child = read_json(run_dir / "out" / "toy.json")["pid"]
        os.kill(child if victim == "child" else folder.claim_pid(run_dir), signal.SIGKILL)

    def end(self, run_dir, timeout=20.0):
        """Return the exit record of a run when it has ended."""
        wait_for(lambda: self.launcher.state(run_dir) != "running", timeout)
        assert self.launcher.state(run_dir) == "ended"
        return self.launcher.exit_record(run_dir)

    def run(self, run_dir, fault="ok", **limits):
        """Submit and wait for the end."""
        self.submit(run_dir, fault, **limits)
        return self.end(run_dir)


@pytest.fixture(params=["local", "scripted"])
def bench(request):
    """Each launcher in turn."""
    return Bench(request.param)


@pytest.fixture
def local():
    """The launcher with real processes."""
    return Bench("local")


@pytest.fixture(autouse=True)
def nothing_left(tmp_path):
    """Fail the test that leaves a process which names its folder, or a zombie of ours."""
    yield
    for run_dir in tmp_path.rglob("claim"):
        LocalLauncher().cancel(run_dir.parent, hard=True)
    wait_for(lambda: not processes(tmp_path), 5.0)
    assert zombies_of(os.getpid()) == []


def read_json(path):
    """Return a JSON file's content."""
    return json.loads(path.read_text())
