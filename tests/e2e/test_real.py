"""The whole service on real training: a 20-neuron network, the real trainers, the sandbox that this machine has."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.core.events import RunEnded, RunReserved
from orchestrator.core.state import fold
from orchestrator.engine.opening import paths_of, sealed_contract
from orchestrator.store import journal
from tests import real, toy

DRIVER = Path(__file__).with_name("kill_driver.py")
TIMES = ("training_time_min",)


def history(home):
    """Turns, nodes, outcomes and metrics without the times."""
    paths = paths_of(home, "sparse_gnn", None)
    state = fold(sealed_contract(paths), journal.read(paths.journal))
    turns = [t.model_copy(update={"based_on": 0}) for t in state.turns]
    results = {
        i: {k: m for k, m in it.final.metrics.items() if k not in TIMES}
        for i, it in state.iterations.items()
        if it.final
    }
    return turns, state.nodes, results


@pytest.mark.trains
@pytest.mark.timeout(180)
def test_kill_everything_in_mid_training_then_resume_is_bit_equal(tmp_path):
    whole = real.make_home(tmp_path / "whole")
    done = real.run(whole, "explore", "sparse_gnn", "--iterations", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    killed = real.make_home(tmp_path / "killed")
    words = [sys.executable, str(DRIVER), "mid_training", "engine,supervisor,child", "2", "--home", str(killed)]
    before = real.children(killed)
    first = subprocess.run(
        [*words, "explore", "sparse_gnn", "--iterations", "2"],
        capture_output=True, text=True, timeout=120, env=toy.environment(OMP_NUM_THREADS="1"),
    )  # fmt: skip
    real.count(real.children(killed) - before)
    assert first.returncode == -9, first.stdout + first.stderr
    done = real.run(killed, "resume", "sparse_gnn")
    assert done.returncode == 0, done.stdout + done.stderr
    assert history(killed) == history(whole)
    events = [e.body for e in journal.read(real.out(killed) / "journal.jsonl")]
    assert [(e.attempt, e.resumes) for e in events if isinstance(e, RunReserved) and e.iteration == 2] == [
        (1, None),
        (2, 1),
    ]
    assert [e.outcome for e in events if isinstance(e, RunEnded)] == ["ok", "killed", "ok"]
    toy.wait_for(lambda: not toy.processes_of(killed))
    check_the_files_of_a_run(whole)


def check_the_files_of_a_run(home):
    """What people find after an exploration, in the seed's words."""
    out = real.out(home)
    run = out / "runs" / "0001-1"
    log = (run / "analysis.log").read_text()
    for key in ("spectral radius: ", "  effective rank (99% var): ", "connectivity_R2: ", "test_R2: ", "final_loss: "):
        assert key in log, log
    assert (run / "plots" / "loss.png").read_bytes().startswith(b"\x89PNG")
    memory = (out / "memory.md").read_text()
    assert "oracle (true parameters): " in memory and "ceiling (data-limited): " in memory
    preflight = json.loads(next((out / "data").glob("*/preflight.json")).read_text())
    assert preflight["oracle"]["connectivity_R2"] == pytest.approx(1.0, abs=1e-3)
    assert abs(preflight["null"]["connectivity_R2"]) < 0.1
    order = (run / "run.yaml").read_text()
    assert "truth" not in order and "generator" not in order
    assert "seed" not in order.split("graph_model")[0].split("simulation")[1]
    assert "truth" not in json.dumps(json.loads((run / "launch.json").read_text())["steps"][0])


PROBE = """
import importlib, os, sys
for name in ("trainers.prepare", "trainers.scoring", "trainers.prepare.simulator", "orchestrator"):
    try:
        importlib.import_module(name)
        print("IMPORTED", name)
    except ImportError:
        pass
import trainers.signal
found = []
for top in ("/", os.getcwd(), os.path.expanduser("~"), *sys.path):
    for folder, folders, files in os.walk(top):
        folders[:] = [f for f in folders if f not in ("proc", "sys", "usr", "site-packages")]
        for name in files:
            path = os.path.join(folder, name)
            if "truth" in path:
                try:
                    open(path, "rb").read(1)
                    found.append(path)
                except OSError:
                    pass
for path in TRUTH:
    try:
        open(path, "rb").read(1)
        found.append(path)
    except OSError:
        pass
print("FOUND", found)
print("KEYS", [k for k in os.environ if "KEY" in k or "ANTHROPIC" in k])
"""


@pytest.mark.trains
@pytest.mark.timeout(120)
@pytest.mark.parametrize("level", ["bwrap", "landlock"])
def test_training_can_import_neither_the_ceiling_nor_find_the_truth(tmp_path, level):
    from orchestrator.launch import sandbox
    from orchestrator.launch.local import LocalLauncher
    from orchestrator.ports import LaunchSpec

    if sandbox.why_not(level):
        pytest.skip(f"{level} does not work on this machine")
    home = real.make_home(tmp_path, augmentation=1, epochs=1, sandbox=level)
    done = real.run(home, "explore", "sparse_gnn", "--iterations", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    truth = [str(p) for p in (real.out(home) / "data").glob("*/truth/*") if p.is_file()]
    assert truth
    run = real.out(home) / "runs" / "0001-1"
    spec = LaunchSpec.model_validate_json((run / "launch.json").read_text())
    step = spec.steps[0]
    probe = step.model_copy(update={"argv": (step.argv[0], "-P", "-c", f"TRUTH = {truth!r}\n{PROBE}")})
    again = run.with_name("probe")
    (again / "out").mkdir(parents=True)
    LocalLauncher().submit(again, LaunchSpec(steps=(probe,), limits=spec.limits))
    toy.wait_for(lambda: LocalLauncher().state(again) == "ended", 60)
    real.count(1)
    said = (again / "stdout.log").read_text()
    assert "FOUND []" in said and "KEYS []" in said, said
    assert "IMPORTED" not in said, said
