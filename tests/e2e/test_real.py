"""The whole service on real training: a 20-neuron network, the real trainers, the sandbox that this machine has."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.core.events import RunEnded, RunReserved
from orchestrator.core.state import fold
from orchestrator.engine.opening import paths_of
from orchestrator.engine.sealing import sealed_contract
from orchestrator.launch import sandbox
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


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted exploration of one iteration."""
    home = real.make_home(tmp_path_factory.mktemp("whole"))
    done = real.run(home, "explore", "sparse_gnn", "--iterations", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    return home


@pytest.mark.trains
def test_kill_everything_in_mid_training_then_resume_is_bit_equal(whole, tmp_path):
    killed = real.make_home(tmp_path)
    shutil.copytree(real.out(whole) / "data", real.out(killed) / "data")
    words = [sys.executable, str(DRIVER), "mid_training", "engine,supervisor,child", "1", "--home", str(killed)]
    first = subprocess.run(
        [*words, "explore", "sparse_gnn", "--iterations", "1"],
        capture_output=True, text=True, timeout=120, env=toy.environment(OMP_NUM_THREADS="1"),
    )  # fmt: skip
    real.count(1)
    assert first.returncode == -9, first.stdout + first.stderr
    done = real.run(killed, "resume", "sparse_gnn")
    assert done.returncode == 0, done.stdout + done.stderr
    assert history(killed) == history(whole)
    events = [e.body for e in journal.read(real.out(killed) / "journal.jsonl")]
    assert [(e.attempt, e.resumes) for e in events if isinstance(e, RunReserved)] == [(1, None), (2, 1)]
    assert [e.outcome for e in events if isinstance(e, RunEnded)] == ["killed", "ok"]
    assert repeated_steps(killed) < STEPS_OF_AN_EPOCH
    toy.wait_for(lambda: not toy.processes_of(killed))


STEPS_OF_AN_EPOCH = int(1500 * 2 // 8 * 0.2)


def repeated_steps(home):
    """Gradient steps that the second attempt did again."""
    run = real.out(home) / "runs"
    before = [json.loads(x)["step"] for x in (run / "0001-1/out/progress.jsonl").read_text().splitlines()]
    after = [json.loads(x)["step"] for x in (run / "0001-2/out/progress.jsonl").read_text().splitlines()]
    return max(before) - min(x for x in after[len(before) :])


@pytest.mark.trains
def test_what_people_find_after_an_exploration(whole):
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


@pytest.mark.trains
@pytest.mark.parametrize("level", ["bwrap", "landlock"])
def test_training_can_import_neither_the_ceiling_nor_find_the_truth(whole, tmp_path, level):
    if why := sandbox.why_not(level):
        pytest.skip(f"{level} does not work on this machine: {why}")
    said = real.probe(whole, tmp_path / "probe", level)
    assert "FOUND []" in said and "KEYS []" in said, said
    assert "IMPORTED" not in said, said
