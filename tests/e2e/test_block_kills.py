"""SIGKILL around a block's end, the next regime's data and a changed input: the history is the uninterrupted one."""

import json
import subprocess
import sys

import pytest

from orchestrator.core.events import Turned
from orchestrator.core.state import fold
from orchestrator.engine.opening import paths_of
from orchestrator.engine.sealing import sealed_contract, state_of
from orchestrator.scientist.offline import OfflineScientist
from orchestrator.store import journal
from tests import rollouts, toy
from tests.e2e.test_blocks import REGIMES
from tests.e2e.test_kills import DRIVER

CONFIG = toy.CONFIG.replace("n_iter_block: 12", "n_iter_block: 3")
ITERATIONS = 6
EDIT_AFTER = "4"
VIEWS = ("memory.md", "analysis.md", "ucb_scores.txt", "best.yaml", "contract.yaml", "instruction.md")


def drive(home, point="nowhere", victims="engine", words=("explore", "toy", "--iterations", str(ITERATIONS))):
    command = [sys.executable, str(DRIVER), point, victims, "3", "--home", str(home), *words]
    env = toy.environment(EDIT=EDIT_AFTER)
    return subprocess.run(command, capture_output=True, text=True, timeout=40, env=env, check=False)


def make(tmp_path):
    return toy.make_home(tmp_path, config=CONFIG, exploration=toy.EXPLORATION + REGIMES)


def history(home):
    """What must not depend on kills, and every view byte for byte (block.json but for its count of events)."""
    paths = paths_of(home, "toy", None)
    contract, events = sealed_contract(paths), journal.read(paths.journal)
    state = fold(contract, events)
    results = {i: (it.outcome, it.final.metrics if it.final else None) for i, it in state.iterations.items()}
    facts = {
        "turns": [t.model_copy(update={"based_on": 0}) for t in state.turns],
        "nodes": state.nodes,
        "results": results,
        "amendments": [body for _, body in state.amendments],
        "regimes": state.regimes,
    }
    texts = {name: (paths.out / name).read_bytes() for name in VIEWS}
    for path in paths.out.glob("blocks/*/*"):
        texts[str(path.relative_to(paths.out))] = path.read_bytes()
    records = [json.loads(texts.pop(name)) for name in sorted(texts) if name.endswith("block.json")]
    assert [r.pop("journal_events") for r in records] == list(state.boundary_seq.values())
    estimates = [texts.pop(f"blocks/{r['block']:03d}/estimate.npz") for r in records]
    for record, found in zip(records, estimates, strict=True):  # of the best run; the archive has a time in it
        runs = [paths.run(i, 1).out / "estimate.npz" for i in state.nodes[record["best_node"]].iterations]
        assert found in [run.read_bytes() for run in runs if run.exists()]
    for event in events:
        if isinstance(event.body, Turned):  # every turn can be recomputed
            turn = event.body.turn
            assert OfflineScientist().propose(fold(contract, events[: turn.based_on]), turn.asked) == turn
    return facts, texts, records


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    home = make(tmp_path_factory.mktemp("whole"))
    done = drive(home)
    assert done.returncode == 0, done.stdout + done.stderr
    found = history(home)
    assert len(found[0]["amendments"]) == 1 and [r.regime_name for r in found[0]["regimes"]] == ["small", "large"]
    return found


CASES = [
    ("before_boundary", "engine"), ("after_boundary", "engine"), ("mid_snapshot", "engine"),
    ("mid_generation", "engine"), ("mid_generation", "engine,supervisor"), ("mid_generation", "engine,child"),
    ("mid_generation", "engine,supervisor,child"), ("before_regime_ready", "engine"),
    ("after_regime_ready", "engine"),
    ("mid_inputs", "engine"), ("before_amended", "engine"), ("after_amended", "engine"),
    ("before_contract_view", "engine"), ("paused", "engine"),
]  # fmt: skip


@pytest.mark.parametrize(("point", "victims"), CASES)
def test_a_kill_at_a_block_end_or_a_changed_input_gives_the_uninterrupted_history(
    uninterrupted, tmp_path, point, victims
):
    home = make(tmp_path)
    first = drive(home, point, victims)
    assert first.returncode == -9, first.stdout + first.stderr
    second = drive(home)
    assert second.returncode == 0, second.stdout + second.stderr
    facts, texts, records = history(home)
    for name, expected in uninterrupted[0].items():
        assert facts[name] == expected, name
    assert {n for n in texts if texts[n] != uninterrupted[1].get(n)} == set() == uninterrupted[1].keys() - texts.keys()
    assert records == uninterrupted[2]
    toy.wait_for(lambda: not toy.processes_of(home))


@pytest.fixture(scope="module")
def uninterrupted_values(tmp_path_factory):
    """Two blocks over the values of a key that changes between blocks, and the end of the second."""
    home = rollouts.make(tmp_path_factory.mktemp("values"))
    done = drive(home)
    assert done.returncode == 0, done.stdout + done.stderr
    found = history(home)
    said = [[c.new for c in t.boundary.changes] for t in found[0]["turns"] if t.boundary is not None]
    assert said == [[4], [16]] and b"CONFIG EDITED: Block 2 time_step=4 (reason: " in found[1]["analysis.md"]
    return found


@pytest.mark.parametrize(
    ("point", "victims"),
    [("before_boundary", "engine"), ("after_boundary", "engine"), ("mid_snapshot", "engine"),
     ("before_amended", "engine"), ("mid_memory_write", "engine"), ("after_run_ended", "engine,supervisor,child")],
)  # fmt: skip
def test_a_kill_where_values_change_gives_the_uninterrupted_history(uninterrupted_values, tmp_path, point, victims):
    home = rollouts.make(tmp_path)
    first = drive(home, point, victims)
    assert first.returncode == -9, first.stdout + first.stderr
    second = drive(home)
    assert second.returncode == 0, second.stdout + second.stderr
    found = history(home)
    assert found[0] == uninterrupted_values[0]
    assert {n for n in found[1] if found[1][n] != uninterrupted_values[1].get(n)} == set()
    assert found[1:] == uninterrupted_values[1:]
    toy.wait_for(lambda: not toy.processes_of(home))


@pytest.mark.parametrize("point", ["mid_copy", "between_renames"])
def test_starting_again_from_a_block_survives_a_kill(tmp_path, point):
    home = make(tmp_path)
    assert drive(home).returncode == 0
    events = journal.read(toy.out(home) / "journal.jsonl")
    killed = drive(home, point, words=("resume", "toy", "--block", "1"))
    assert killed.returncode == -9, killed.stdout + killed.stderr
    done = toy.run(home, "resume", "toy")
    assert done.returncode == 0, done.stdout + done.stderr
    if point == "mid_copy":  # nothing had been set aside
        assert journal.read(toy.out(home) / "journal.jsonl")[: len(events)] == events
        done = toy.run(home, "resume", "toy", "--block", "1")
        assert done.returncode == 0, done.stdout + done.stderr
    aside = list(toy.out(home).parent.glob("out-*"))
    assert len(aside) == 1 and journal.read(aside[0] / "journal.jsonl")[: len(events)] == events
    state = state_of(paths_of(home, "toy", None))
    assert len(state.done) == ITERATIONS and not (toy.out(home).parent / "out.next").exists()
    assert [body.number for _, body in state.amendments] == [1]  # block 1 ended before the change: it is taken up again
    assert "+  learning_rate_W_start: 3.0E-3 # range: 1E-4 to 4E-2" in state.amendments[0][1].diff


@pytest.mark.parametrize(("old", "new"), [("{n_neurons: 20}", "{n_neurons: 30}"), ("name: large", "name: big")])
def test_a_measured_regime_that_is_declared_anew_before_its_first_run_is_measured_anew(tmp_path, old, new):
    home = make(tmp_path)
    assert drive(home, "after_regime_ready").returncode == -9
    path = home / "explorations" / "toy" / "exploration.yaml"
    before = path.read_text()
    path.write_text(before.replace(old, new))
    assert drive(home, "after_regime_ready").returncode == -9
    state = state_of(paths_of(home, "toy", None))
    assert len(state.amendments) == 1 and len(state.iterations) == 3 and len(state.regimes) == 2
    path.write_text(before)
    done = drive(home)
    assert done.returncode == 0, done.stdout + done.stderr
    state = state_of(paths_of(home, "toy", None))
    assert [(r.regime_name, r.simulation_seed) for r in state.regimes] == [("small", 42), ("large", 42)]
    assert state.nodes[4].config["simulation"]["n_neurons"] == 20
