"""Confirmations on the toy home: real processes, fresh seeds, an untouched journal."""

import dataclasses
import json
import signal

import pytest

from orchestrator.core import tree
from orchestrator.core.records import Metric
from orchestrator.engine.confirm import Row, judgement, planned, render
from tests import toy
from tests.edited import edit
from tests.factory import Driver, contract

KEPT = ("journal.jsonl", "memory.md", "analysis.md", "ucb_scores.txt", "best.yaml")


def explored(tmp_path, iterations, *options):
    home = toy.make_home(tmp_path, *options)
    done = toy.run(home, "explore", "toy", "--iterations", str(iterations))
    assert done.returncode == 0, done.stdout + done.stderr
    return home


def plans(home):
    return [json.loads(p.read_text())["runs"] for p in sorted((toy.out(home) / "confirm").glob("*/plan.json"))]


def test_the_best_is_run_on_fresh_seeds_and_draws_and_the_exploration_is_not_touched(tmp_path):
    home = explored(tmp_path, 3, "--faults", "4=exit1")
    before = {name: (toy.out(home) / name).read_bytes() for name in KEPT}
    done = toy.run(home, "confirm", "toy", "--runs", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {name: (toy.out(home) / name).read_bytes() for name in KEPT} == before
    (runs,) = plans(home)
    assert [r["simulation_seed"] for r in runs] == [42, 42, 1001, 1002]
    assert [r["training_seed"] for r in runs] == [1001, 1002, 1001, 1002]
    (folder,) = (toy.out(home) / "confirm").iterdir()
    metrics = {}
    for number, run in enumerate(runs[:3], start=1):
        here = folder / "runs" / f"000{number}-1"
        metrics[number] = json.loads((here / "result.json").read_text())["metrics"]["connectivity_R2"]["value"]
        assert f"    seed: {run['training_seed']}\n" in (here / "run.yaml").read_text()
    assert len({str(m) for m in metrics.values()}) == 2  # the toy's metric knows the training seed, not the draw
    table = (folder / "confirm.md").read_text()
    assert table in done.stdout
    cells = {
        row[0]: row[1:] for row in ([c.strip() for c in r.split("|")[1:-1]] for r in table.splitlines() if "|" in r)
    }
    assert cells[""][:4] == ["run 1", "run 2", "run 3", "run 4"]
    assert cells["training seed"][:4] == ["1001", "1002", "1001", "1002"]
    assert cells["draw"][:4] == ["42", "42", "1001", "1002"]
    assert cells["outcome"][:4] == ["ok", "ok", "ok", "crashed"]
    values = [metrics[1], metrics[2], metrics[3]]
    mean, error = (values[0] + values[1]) / 2, abs(values[0] - values[1]) / 2
    same = f"{mean:.4f} ± {error:.4f} (2)"
    new = f"{values[2]:.4f} (1)"
    assert cells["connectivity_R2"][:6] == [*(f"{v:.4f}" for v in values), "n/a", same, new]
    assert "run 4: train ended with exit code 1" in table and "1 of 2 runs gave no result" in table
    assert len([p for p in (toy.out(home) / "data").iterdir() if len(p.name) == 16]) == 3


def test_a_second_confirmation_repeats_no_seed_and_the_exploration_goes_on(tmp_path):
    home = explored(tmp_path, 2)
    for _ in range(2):
        assert toy.run(home, "confirm", "toy", "--runs", "1").returncode == 0
    runs = [run for plan in plans(home) for run in plan]
    assert len({(r["training_seed"], r["simulation_seed"]) for r in runs}) == 4
    assert [r["training_seed"] for r in runs] == [1001, 1001, 1002, 1002]
    assert toy.run(home, "explore", "toy", "--iterations", "3").returncode == 0


def test_without_a_best_it_says_so_and_writes_nothing(tmp_path):
    home = toy.make_home(tmp_path, "--fault", "nan")
    done = toy.run(home, "confirm", "toy")
    assert done.returncode == 2 and "nothing has run in" in done.stderr
    toy.run(home, "explore", "toy", "--iterations", "1")
    done = toy.run(home, "confirm", "toy")
    assert done.returncode == 2 and "nothing to confirm" in done.stderr and "1 iteration(s) are judged" in done.stderr
    assert not (toy.out(home) / "confirm").exists()


def test_it_is_refused_while_an_engine_is_at_work(tmp_path):
    home = explored(tmp_path, 2, "--faults", "3=slow", "--epochs", "40")
    engine = toy.start(home, "explore", "toy", "--iterations", "3")
    try:
        toy.wait_for(lambda: list((toy.out(home) / "runs").glob("0003-1/out/checkpoint.*")))
        done = toy.run(home, "confirm", "toy")
        assert done.returncode == 3 and "another engine" in done.stderr
        assert not (toy.out(home) / "confirm").exists()
    finally:
        engine.send_signal(signal.SIGINT)
        engine.communicate(timeout=40)


def test_an_interrupt_cancels_the_run_and_leaves_what_is_finished(tmp_path):
    home = explored(tmp_path, 1, "--faults", "2=slow", "--epochs", "40")
    process = toy.start(home, "confirm", "toy", "--runs", "1")
    toy.wait_for(lambda: list((toy.out(home) / "confirm").glob("*/runs/0002-1/out/checkpoint.*")))
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=40)[0].decode()
    assert process.returncode == 130, said
    (folder,) = (toy.out(home) / "confirm").iterdir()
    assert json.loads((folder / "runs" / "0002-1" / "exit.json").read_text())["reason"] == "cancelled"
    assert "1 of 2 runs." in (folder / "confirm.md").read_text()
    assert not toy.processes_of(toy.out(home))


def test_a_run_that_outlives_a_killed_confirmation_is_stopped_before_the_folder_moves(tmp_path):
    home = explored(tmp_path, 1, "--faults", "2=slow", "--epochs", "40")
    process = toy.start(home, "confirm", "toy", "--runs", "1")
    toy.wait_for(lambda: list((toy.out(home) / "confirm").glob("*/runs/0002-1/out/checkpoint.*")))
    process.kill()
    process.communicate()
    assert toy.processes_of(toy.out(home))
    assert toy.run(home, "explore", "toy", "--iterations", "1", "--fresh").returncode == 0
    (ended,) = toy.out(home).parent.glob("out-*/confirm/*/runs/0002-1/exit.json")
    assert json.loads(ended.read_text())["reason"] == "cancelled"


# --- without processes ------------------------------------------------------------------------------------------------


@pytest.fixture
def state():
    driver = Driver(contract())
    driver.explore(6, lambda config: 0.9)
    return driver.state


def rows(state, node, *values):
    """Return rows on the node's own draw; None is a run that crashed."""
    found = []
    for proposal, value in zip(planned(state, node, len(values)), values, strict=False):
        metrics = {} if value is None else {"connectivity_R2": Metric(value=value)}
        found.append(Row(proposal, True, "crashed" if value is None else "ok", "", metrics, 1.0))
    return found


def test_seeds_that_the_exploration_used_are_left_out(state):
    node = tree.best(state)
    for number, seeds in ((node.id, {"training_seed": 1002}), (max(state.iterations), {"simulation_seed": 1001})):
        it = state.iterations[number]
        it.proposal = it.proposal.model_copy(update=seeds)
    runs = planned(state, node, 2)
    assert [r.training_seed for r in runs] == [1001, 1003, 1001, 1003]
    assert [r.simulation_seed for r in runs] == [42, 42, 1002, 1003]
    assert all(state.config_of(r)["training"]["seed"] == r.training_seed for r in runs)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((0.90, 0.91, 0.89), "the figure holds; 3 of 3 are partial or better, 0.8900 to 0.9100"),
        (
            (0.95, 0.96, 0.95),
            "the figure holds; 3 of 3 are partial or better, 0.9500 to 0.9600; the mean is 0.0533 above",
        ),
        (
            (0.70, 0.71, 0.69),
            "the figure was too good; 3 of 3 are partial or better, 0.6900 to 0.7100; the mean is 0.2000",
        ),
        ((0.95, 0.05, 0.95), "it depends on the seed; 2 of 3 are partial"),
        ((0.70, None, 0.71), "1 of 3 runs gave no result"),
        ((None, None), "no result (2 run(s) tried)"),
    ],
)
def test_the_judgement(state, values, words):
    node = tree.best(state)
    assert words in judgement(state, node, rows(state, node, *values), True)


def test_on_new_draws_the_spread_between_draws_counts_and_one_is_too_few(state):
    node = tree.best(state)
    found = [dataclasses.replace(row, same_draw=False) for row in rows(state, node, 0.5, 0.9, 0.7)]
    told = judgement(state, node, found, False)
    assert "the figure holds" in told and "the mean is 0.2000 below" in told
    assert "too few runs" in judgement(state, node, found[:1], False)
    assert "no result (0 run(s) tried)" in judgement(state, node, found, True)


def test_a_metric_without_a_value_is_shown_with_its_reason(state):
    node = tree.best(state)
    row = rows(state, node, 0.9)[0]
    odd = Row(row.proposal, True, "ok", "", {"connectivity_R2": Metric(value=None, reason="nan")}, 1.0)
    assert "| connectivity_R2 | nan " in render(state, node, [odd], 2)


def test_the_table_says_that_the_nodes_code_was_edited():
    made = Driver()
    made.put(0.5)
    assert "code was edited" not in render(made.state, made.state.nodes[1], [], 2)
    node = made.state.nodes[edit(made, 0.9, text="clip\n# the gradient")]
    assert "Its code was edited: clip # the gradient." in render(made.state, node, [], 2)
