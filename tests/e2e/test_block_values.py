"""Blocks that run over the values of a key, with the real program and real processes."""

import json
import re

import pytest

from orchestrator.core.state import fold
from orchestrator.engine.opening import paths_of
from orchestrator.engine.sealing import sealed_contract, state_of
from orchestrator.formats import yaml_edit
from orchestrator.scientist.offline import OfflineScientist
from orchestrator.store import journal
from tests import rollouts, toy

STEP = "training.time_step"


def explore(home, iterations, *words):
    done = toy.run(home, "explore", "toy", "--iterations", str(iterations), *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def state(home):
    return state_of(paths_of(home, "toy", None))


def trained(home):
    """Return the time_step that each run was given, by the sealed order of its folder."""
    found = {}
    for path in sorted((toy.out(home) / "runs").glob("*/run.yaml")):
        order = yaml_edit.load(path.read_text(), str(path))
        found[order["iteration"]] = order["config"]["training"]["time_step"]
    return [found[i] for i in sorted(found)]


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Three blocks of three iterations."""
    home = rollouts.make(tmp_path_factory.mktemp("three"))
    return home, explore(home, 9)


def test_three_blocks_run_over_the_values(three):
    home, told = three
    assert trained(home) == [1, 1, 1, 4, 4, 4, 16, 16, 16]
    now = state(home)
    assert [c.new for b in (1, 2) for c in now.boundaries[b].changes] == [4, 16]
    assert "  CONFIG EDITED: Block 2 time_step=4 (reason: no block had time_step=4; block 1 (time_step=1) rea" in told
    for number in (4, 7):
        proposal = now.iterations[number].proposal
        assert proposal.parent is None and now.nodes[proposal.base].block == now.iterations[number].block - 1
    assert not any(c.key == STEP for it in now.done for c in it.proposal.mutation.changes)


def test_the_log_says_it_in_the_seeds_words(three):
    log = (toy.out(three[0]) / "analysis.md").read_text()
    lines = re.findall(r"^CONFIG EDITED: .*$", log, re.M)
    assert len(lines) == 3  # the third block has ended, too
    measured = r"\(reason: no block had time_step=\d+; block \d \(time_step=\d+\) reached connectivity_R2 0\.\d{4} \("
    assert re.match(rf"CONFIG EDITED: Block 2 time_step=4 {measured}", lines[0])
    assert re.match(rf"CONFIG EDITED: Block 3 time_step=16 {measured}", lines[1])
    assert log.index("## Block 1: summary") < log.index(lines[0]) < log.index("## Iter 4:")
    assert "Config: time_step=4, seed=" in log and "Activity: eff_rank=12" in log


def test_memory_has_the_table_and_the_blocks_value(three):
    out = toy.out(three[0])
    memory = (out / "memory.md").read_text()
    table = memory.partition("### Time Step Comparison Table\n\n")[2].partition("\n\n")[0].splitlines()
    head = [cell.strip() for cell in table[0].strip("|").split("|")]
    assert head[:4] == ["Block", "time_step", "eff_rank", "Best connectivity_R2"]
    assert head[4:] == [
        "Optimal lr_W",
        "Optimal lr",
        "Optimal batch_size",
        "test_R2",
        "training_time_min",
        "Key finding",
    ]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table[2:]]
    assert [row[:3] for row in rows[:3]] == [["1", "1", "12"], ["2", "4", "12"], ["3", "16", "12"]]
    assert all(re.match(r"0\.\d{4}", row[3]) for row in rows[:3])
    assert rows[3][2:4] + rows[3][-1:] == ["12", "-", "in progress"]  # ended, so the next one is begun
    best = [json.loads((out / "blocks" / f"00{b}" / "block.json").read_text())["best_node"] for b in (1, 2)]
    assert [re.search(r"node (\d+)", row[3])[1] for row in rows[:2]] == [str(n) for n in best]
    assert [row[-1] for row in rows[:3]] == [state(three[0]).boundaries[b].summary[0] for b in (1, 2, 3)]
    snapshot = (out / "blocks" / "001" / "memory.md").read_text()
    assert "### Block Info\n\ntime_step: 4\n" in snapshot and "| 2 | 4 | 12 | - |" in snapshot
    assert json.loads((out / "blocks" / "001" / "block.json").read_text())["next_values"] == {STEP: 4}


def test_report_and_status_show_the_value_of_each_block(three):
    home, _ = three
    status = toy.run(home, "status", "toy").stdout
    assert re.findall(r"^block .*:$", status, re.M) == [
        f"block {b} (time_step={s}):" for b, s in ((1, 1), (2, 4), (3, 16))
    ]
    assert toy.run(home, "report", "toy").returncode == 0
    page = (toy.out(home) / "report.html").read_text()
    assert ">Block 2: time_step=4</h2>" in page and "block 3: time_step=16" in page
    assert "CONFIG EDITED: Block 3 time_step=16 (reason: " in page


def test_every_turn_can_be_recomputed(three):
    paths = paths_of(three[0], "toy", None)
    contract, events = sealed_contract(paths), journal.read(paths.journal)
    for turn in state(three[0]).turns:
        assert OfflineScientist().propose(fold(contract, events[: turn.based_on]), turn.asked) == turn


def test_when_all_were_had_the_mode_is_switched(tmp_path):
    home = rollouts.make(tmp_path, length=1)
    explore(home, 5)
    now = state(home)
    said = {c.key: c.new for c in now.boundaries[3].changes}
    assert (said["training.neural_ODE_training"], said["training.recurrent_training"]) == (True, False)
    best = max((1, 2, 3), key=lambda b: now.iterations[b].metric("connectivity_R2").value)
    assert now.value_in(4, STEP) == now.value_in(best, STEP) == trained(home)[3]
    training = now.nodes[4].config["training"]
    assert training["neural_ODE_training"] and not training["recurrent_training"]
    memory = (toy.out(home) / "memory.md").read_text()
    assert f"| 4 | {now.value_in(4, STEP)} (recurrent_training=False, neural_ODE_training=True) |" in memory


def test_starting_again_from_a_block_gives_the_same_values(tmp_path):
    home = rollouts.make(tmp_path, length=2)
    explore(home, 6)
    before = state(home)
    done = toy.run(home, "resume", "toy", "--block", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    now = state(home)
    assert now.nodes == before.nodes and now.boundaries == before.boundaries
    assert trained(home) == [1, 1, 4, 4, 16, 16]
    aside = next(toy.out(home).parent.glob("out-*"))
    assert (aside / "blocks" / "002" / "block.json").read_text() == (
        toy.out(home) / "blocks" / "002" / "block.json"
    ).read_text()


def amend(home, old, new):
    path = home / "instructions" / "toy.md"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_a_list_that_a_person_moves_is_followed_from_the_next_block_on(tmp_path):
    home = rollouts.make(tmp_path, length=2)
    explore(home, 3)
    amend(home, "Choose from: 1, 4, 16", "Choose from: 1, 2, 32")
    explore(home, 7)
    assert trained(home) == [1, 1, 4, 4, 32, 32, 2]
    assert len(state(home).amendments) == 1
    log = (toy.out(home) / "analysis.md").read_text()
    assert "CONFIG EDITED: Block 4 time_step=2 (reason: no block had time_step=2; " in log


def test_a_wish_written_while_it_runs_is_taken_at_the_blocks_end(tmp_path):
    home = rollouts.make(tmp_path, length=2)
    explore(home, 1)
    path = home / "instructions" / "toy.md"
    path.write_text(path.read_text() + "\n## User instructions\n\n- Try time_step = 16 soon\n")
    explore(home, 5)
    assert trained(home) == [1, 1, 16, 16, 4]
    memory = (toy.out(home) / "memory.md").read_text()
    assert "- Try time_step = 16 soon: time_step=16 is that of block 2" in memory


def test_a_key_that_becomes_free_keeps_its_value_and_moves_within_blocks(tmp_path):
    home = rollouts.make(tmp_path, length=2)
    explore(home, 3)
    spec = home / "explorations" / "toy" / "exploration.yaml"
    spec.write_text(spec.read_text().replace("compare: time_step\n", "settle: {training.time_step: {level: free}}\n"))
    explore(home, 6)
    now = state(home)
    assert trained(home)[:3] == [1, 1, 4] and now.value_in(3, STEP) == 4
    assert len(now.done) == 6 and now.boundaries[2].changes == ()


def test_two_modes_at_the_start_are_refused_with_the_line(tmp_path):
    home = rollouts.make(
        tmp_path, config=rollouts.config().replace("  time_step: 1\n", "  neural_ODE_training: true\n")
    )
    amend(home, "neural_ODE_training: False", "neural_ODE_training: True")
    done = toy.run(home, "explore", "toy", "--iterations", "1")
    assert done.returncode == 2 and not toy.out(home).joinpath("journal.jsonl").exists()
    assert "training.recurrent_training and training.neural_ODE_training are true" in done.stderr
