"""Blocks and regimes with the real program: boundaries, snapshots, starting again, draws by rule, changed inputs."""

import json
import re
import signal

from orchestrator.core.state import fold
from orchestrator.engine.sealing import state_of
from orchestrator.paths import Paths
from orchestrator.store import journal
from tests import toy

CONFIG = toy.CONFIG.replace("n_iter_block: 12", "n_iter_block: 4")
REGIMES = """compare: simulation.n_neurons
regimes:
  - name: small
    simulation: {n_neurons: 10}
  - name: large
    simulation: {n_neurons: 20}
    profiles:
      cpu: {simulation.n_frames: 200}
"""


def make(tmp_path, exploration=toy.EXPLORATION + REGIMES, **more):
    return toy.make_home(tmp_path, config=CONFIG, exploration=exploration, **more)


def explore(home, iterations, *words):
    done = toy.run(home, "explore", "toy", "--iterations", str(iterations), *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def state(home):
    return state_of(Paths(source=home / "explorations" / "toy", out=toy.out(home)))


def test_a_block_ends_with_its_summary_snapshot_and_the_next_regime(tmp_path):
    home = make(tmp_path)
    explore(home, 6)
    now = state(home)
    assert list(now.boundaries) == [1] and now.boundaries[1].regime == "large"
    assert now.nodes[1].config["simulation"] | {"seed": 0} == {"n_neurons": 10, "n_frames": 100, "seed": 0}
    fifth = now.iterations[5]
    assert fifth.proposal.parent is None and fifth.proposal.base == now.iterations[5].proposal.base is not None
    config = now.nodes[5].config
    assert (config["simulation"]["n_neurons"], config["simulation"]["n_frames"]) == (20, 200)
    carried = now.nodes[fifth.proposal.base].config["training"]
    assert {k: v for k, v in config["training"].items() if k != "seed"} == {
        k: v for k, v in carried.items() if k != "seed"
    }
    analysis = (toy.out(home) / "analysis.md").read_text()
    assert analysis.index("## Iter 4:") < analysis.index("## Block 1: summary") < analysis.index("## Iter 5:")
    assert f"(inherits the config of node {fifth.proposal.base}, block 1)" in analysis
    memory = (toy.out(home) / "memory.md").read_text()
    assert memory.index("### Emerging Observations") > memory.index("### Iterations This Block")
    assert "## Previous Block Summary (Block 1)" in memory and "10 against 20" in memory
    assert "### Iter 5" in memory and "### Iter 4" not in memory
    snapshot = toy.out(home) / "blocks" / "001"
    record = json.loads((snapshot / "block.json").read_text())
    assert record["next_regime"] == "large" and record["best_node"] == fifth.proposal.base
    assert "## Current Block (Block 2)" in (snapshot / "memory.md").read_text()
    assert (snapshot / "estimate.npz").exists() or (snapshot / "checkpoint.pt").exists() or record["best_node"]


def test_trees_and_noise_of_two_regimes_do_not_mix(tmp_path):
    home = make(tmp_path)
    explore(home, 5)
    scores = (toy.out(home) / "ucb_scores.txt").read_text()
    assert "Node 5" in scores and not re.search(r"Node [1-4]\b", scores)
    assert "node 5" in (toy.out(home) / "best.yaml").read_text()


def test_a_deleted_snapshot_comes_back_as_it_was(tmp_path):
    home = make(tmp_path)
    explore(home, 5)
    snapshot = toy.out(home) / "blocks" / "001"
    before = {p.name: p.read_bytes() for p in snapshot.iterdir()}
    for path in snapshot.iterdir():
        path.unlink()
    explore(home, 6)
    assert {p.name: p.read_bytes() for p in snapshot.iterdir()} == before


def test_starting_again_from_a_block_keeps_what_came_later(tmp_path):
    home = make(tmp_path)
    explore(home, 8)
    old = journal.read(toy.out(home) / "journal.jsonl")
    done = toy.run(home, "resume", "toy", "--block", "7")
    assert done.returncode == 2 and "that block has not ended" in done.stderr and "1, 2" in done.stderr
    done = toy.run(home, "resume", "toy", "--block", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    aside = next((home / "explorations" / "toy").glob("out-*"))
    assert journal.read(aside / "journal.jsonl") == old and (aside / "runs" / "0008-1").is_dir()
    new = journal.read(toy.out(home) / "journal.jsonl")
    at = state(home).boundary_seq[1]
    assert new[:at] == old[:at] and len(state(home).done) == 8
    assert [e.body.type for e in new].count("opened") == 1
    assert fold(state(home).contract, new).nodes[5].config == fold(state(home).contract, old).nodes[5].config


POOR = {"by_seed": {"42": {"activity": {"condition_number": 5e3}}, "43": {"activity": {"condition_number": 100.0}}}}


def test_an_unfit_draw_is_replaced_by_rule(tmp_path):
    home = make(tmp_path, toy.EXPLORATION + "draws: {tries: 3, condition: 1000}\n", preflight=POOR)
    said = explore(home, 5)
    assert "draw 42" in said and "condition number is 5e+03" in said
    now = state(home)
    assert {it.proposal.simulation_seed for it in now.done} == {43}
    assert [r.simulation_seed for r in now.regimes] == [42, 43]
    assert "Draw set aside" in (toy.out(home) / "memory.md").read_text()


def test_of_draws_that_are_all_unfit_the_best_conditioned_is_taken(tmp_path):
    home = make(tmp_path, toy.EXPLORATION + "draws: {tries: 2, condition: 50}\n", preflight=POOR)
    explore(home, 2)
    assert {it.proposal.simulation_seed for it in state(home).done} == {43}


def test_a_changed_input_is_taken_up_at_the_next_iteration_with_its_diff(tmp_path):
    home = make(tmp_path)
    explore(home, 2)
    path = home / "instructions" / "toy.md"
    path.write_text(path.read_text().replace("range: 1E-4 to 1E-2", "range: 1E-4 to 4E-3"))
    config = home / "explorations" / "toy" / "config.yaml"
    assert "contract in force says the same" not in toy.run(home, "lint", "toy").stdout
    config.write_text(config.read_text().replace("ucb_c: 1.414", "ucb_c: 2.0"))
    lint = toy.run(home, "lint", "toy").stdout.split("Difference to the contract in force")[1]
    assert "-ucb_c: 1.414" in lint and "+ucb_c: 2" in lint and "+  high: 0.004" in lint
    said = explore(home, 4)
    assert "contract in force says the same" in toy.run(home, "lint", "toy").stdout
    assert "changed by a person and taken up: instruction.md, config.yaml" in said
    now = state(home)
    assert "-  learning_rate_W_start: 3.0E-3 # range: 1E-4 to 1E-2" in now.amendments[0][1].diff
    assert now.contract.key("lr_W").high == 4e-3 and "c=2" in (toy.out(home) / "ucb_scores.txt").read_text()
    events = journal.read(toy.out(home) / "journal.jsonl")
    turns = [e.seq for e in events if e.body.type == "turn" and any(p.iteration == 3 for p in e.body.turn.proposals)]
    assert now.amendments[0][0] == turns[0] - 1
    assert "range: 1E-4 to 4E-3" in (toy.out(home) / "instruction.md").read_text()
    log = (toy.out(home) / "analysis.md").read_text()
    assert log.index("## Iter 2:") < log.index("## Changed by a person before iter 3") < log.index("## Iter 3:")
    assert "+  ucb_c: 2.0" in log
    explore(home, 5)
    assert len(state(home).amendments) == 1


def test_a_broken_input_pauses_with_its_line_until_it_is_mended(tmp_path):
    home = make(tmp_path)
    explore(home, 2)
    config = home / "explorations" / "toy" / "config.yaml"
    config.write_text("training: [\n")
    process = toy.start(home, "explore", "toy", "--iterations", "4")
    assert b"config.yaml" in paused(process)
    assert "paused until it is mended: " in toy.run(home, "status", "toy").stdout
    config.write_text(CONFIG)
    rest = process.communicate(timeout=30)[0].decode()
    assert process.returncode == 0 and "going on" in rest
    assert len(state(home).done) == 4 and not state(home).amendments
    assert "paused" not in toy.run(home, "status", "toy").stdout


def paused(process):
    """Read the program's output up to the line that says why it pauses; return it."""
    return next(line for line in iter(process.stdout.readline, b"") if b"paused until it is mended" in line)


def test_a_pause_can_be_stopped(tmp_path):
    home = make(tmp_path)
    explore(home, 2)
    (home / "instructions" / "toy.md").write_text("nothing\n")
    process = toy.start(home, "explore", "toy", "--iterations", "4")
    assert b"toy.md" in paused(process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 4 and len(state(home).done) == 2


def test_what_an_exploration_is_cannot_change_under_it(tmp_path):
    home = make(tmp_path)
    explore(home, 2)
    path = home / "explorations" / "toy" / "exploration.yaml"
    path.write_text(path.read_text().replace("{n_neurons: 10}", "{n_neurons: 12}"))
    process = toy.start(home, "explore", "toy", "--iterations", "3")
    line = paused(process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert b"regimes.small" in line and b"simulation.n_neurons: 10 -> 12" in line and b"FRESH=1" in line


STRATEGIES = """
## Strategies

| Condition | Strategy | Action |
| --------- | -------- | ------ |
| Default | **exploit** | Highest UCB node |
| best connectivity_R2 unchanged for 1+ blocks | **cross-seed-optimize** | Run the best node on another draw |
"""


def test_a_strategy_that_asks_for_a_draw_the_preflight_refuses_learns_so_and_goes_on(tmp_path):
    refused = {"by_seed": {"43": {"ok": False, "reason": "W of this draw is nothing"}}}
    config = toy.CONFIG.replace("n_iter_block: 12", "n_iter_block: 3")
    home = toy.make_home(tmp_path, config=config, instruction=toy.INSTRUCTION + STRATEGIES, preflight=refused)
    explore(home, 15)
    now = state(home)
    asked = [it for it in now.done if it.proposal.simulation_seed == 43]
    assert asked and {it.outcome for it in asked} == {"rejected"}
    assert all(it.proposal.strategy == "cross-seed-optimize" and it.proposal.evidence for it in asked)
    entry = (toy.out(home) / "analysis.md").read_text().split(f"## Iter {asked[0].proposal.iteration}:")[1]
    assert "on draw 43" in entry.split("## Iter")[0] and "W of this draw is nothing" in entry.split("## Iter")[0]
    assert len(now.done) == 15 and not now.alarms


def test_a_wish_written_while_it_runs_is_acknowledged_and_wins_over_what_is_frozen(tmp_path):
    home = make(tmp_path)
    explore(home, 2)
    path = home / "instructions" / "toy.md"
    path.write_text(path.read_text() + "\n## User instructions\n\n- Try hidden_dim = 16\n- Move to n_neurons = 20\n")
    explore(home, 8)
    now = state(home)
    rule = now.contract.key("graph_model.hidden_dim")
    assert rule.level == "free" and set(rule.allowed) == {8, 16}
    assert any(n.config["graph_model"]["hidden_dim"] == 16 for n in now.nodes.values())
    third = now.iterations[3].proposal
    assert (third.strategy, third.mutation.changes[0].new) == ("user-instruction", 16)
    assert third.evidence == "asked for: Try hidden_dim = 16"
    assert [p.mutation for p in (it.proposal for it in now.done) if p.strategy == "user-instruction"] == [
        third.mutation
    ]
    assert now.boundaries[1].regime == "large"
    memory = (toy.out(home) / "memory.md").read_text()
    assert "- Try hidden_dim = 16: hidden_dim is free" in memory
    assert "- Move to n_neurons = 20: regime large is that of block 2" in memory


def amend(home, *changes):
    for path, old, new in changes:
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))


def test_regimes_may_be_declared_in_another_order(tmp_path):
    home = make(tmp_path)
    explore(home, 5)
    path = home / "explorations" / "toy" / "exploration.yaml"
    head, small, large = re.split(r"(?=  - name: )", path.read_text())
    path.write_text(head + "  - name: third\n    simulation: {n_neurons: 30}\n" + large + small)
    explore(home, 13)
    now = state(home)
    assert [now.regime_name(b) for b in (1, 2, 3, 4)] == ["small", "large", "small", "third"]
    assert [now.nodes[n].config["simulation"]["n_neurons"] for n in (1, 5, 9, 13)] == [10, 20, 10, 30]


def test_what_was_written_into_the_log_stays_whatever_is_amended_or_run_later(tmp_path):
    home = make(tmp_path)
    explore(home, 6)
    log = toy.out(home) / "analysis.md"
    before = log.read_text()
    path = home / "instructions" / "toy.md"
    amend(
        home,
        (path, "connectivity_R2 > 0.9", "connectivity_R2 > 0.95"),
        (path, "Config: seed=S, lr_W=X, lr=Y, batch_size=B", "Config: seed=S, lr=Y"),
        (path, "# Toy exploration", "# Another title"),
    )
    explore(home, 9)  # block 3 runs the best idea of block 1 again
    assert len(state(home).ideas[state(home).nodes[9].idea]) > 1 and state(home).regime_name(3) == "small"
    assert log.read_text().startswith(before)
    entry = log.read_text().split("## Iter 7:")[1]
    assert entry.startswith(" failed") and "batch_size=" not in entry.split("Metrics")[0]


def test_an_instruction_file_may_be_renamed_under_a_running_engine(tmp_path):
    home = make(tmp_path)
    process = toy.start(home, "explore", "toy", "--iterations", "4")
    for line in iter(process.stdout.readline, b""):
        if line.startswith(b"iter 2:") and b"connectivity_R2" in line:
            (home / "instructions" / "toy.md").rename(home / "instructions" / "other.md")
            amend(home, (home / "explorations" / "toy" / "exploration.yaml", "instruction: toy", "instruction: other"))
            break
    try:
        said = process.communicate(timeout=30)[0].decode()
    finally:
        process.kill()
    assert process.returncode == 0 and "taken up: exploration.yaml" in said
    assert len(state(home).amendments) == 1
