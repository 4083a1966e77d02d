"""What blocks that run over the values of a key show in memory.md and analysis.md: all of it from records."""

from orchestrator.core.contract import MetricRule, RegimeRule
from orchestrator.core.events import RegimeReady
from orchestrator.formats import block as sections
from orchestrator.formats import block_table, memory
from orchestrator.views import lines
from tests.between import LR, METRICS, STEP, block, driver, rules


def test_the_table_has_a_row_a_block_filled_from_records():
    made = driver()
    block(made, 0.9, 0.95)
    block(made, 0.7)
    made.put(0.8, parent=3, changes=[("training.batch_size", 16)], metrics=METRICS)
    told = block_table.render(made.state)
    assert told == [
        "### Time Step Comparison Table",
        "",
        "| Block | time_step | eff_rank | Best connectivity_R2 | Optimal lr_W | Optimal batch_size | test_R2 | "
        "training_time_min | Key finding |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        f"| 1 | 1 | 12 | 0.9500 (node 2, n=1) | 1E-2 | 8 | 0.5 | 3 | {made.state.boundaries[1].summary[0]} |",
        "| 2 | 4 | 12 | 0.8000 (node 4, n=1) | 1E-2 | 16 | 0.5 | 3 | in progress |",
        "",
    ]
    text = memory.render(made.state)
    assert "\n".join(told) in text.partition("### Established Principles")[0]
    assert text.rpartition("### Emerging Observations")[2].count("###") == 0


def test_a_replicated_best_has_its_error():
    made = driver()
    made.put(0.9, metrics=METRICS)
    made.put(0.94, of=1, seeds=(8, 42), metrics=METRICS)
    assert "| 0.9200 ± 0.0200 (node 1, n=2) |" in block_table.render(made.state)[4]


def test_the_instructions_own_heading_is_used():
    made = driver(comparison_heading="Time Step Comparison Table (ours)")
    assert block_table.render(made.state)[0] == "### Time Step Comparison Table (ours)"


def test_without_a_block_level_comparison_there_is_none():
    made = driver(compare=None)
    block(made, 0.5, 0.6)
    assert block_table.render(made.state) == []
    assert "Comparison" not in memory.render(made.state)
    assert "time_step:" not in memory.render(made.state)


def test_the_rank_is_found_when_the_best_run_lacks_it():
    made = driver()
    made.put(0.9)
    made.put(0.1, parent=1, changes=[("training.batch_size", 16)], metrics={"effective_rank_99": 84.0})
    assert "| 1 | 1 | 84 |" in block_table.render(made.state)[4]
    made = driver()
    found = {"activity": {"effective_rank_99": 33}}
    made.add(RegimeReady(regime="r", name="seed 42", simulation_seed=42, preflight=found))
    made.put(outcome="crashed")
    assert "| 1 | 1 | 33 | - | - | - | - | - | in progress |" in block_table.render(made.state)[4]


def test_other_settings_and_regimes_stand_in_the_row():
    regimes = tuple(RegimeRule(name=n, values={"simulation.n_neurons": v}) for n, v in (("a|b", 10), ("c", 20)))
    made = driver(regimes=regimes)
    block(made, 0.5, 0.6)
    block(made, 0.5, 0.6)
    assert "| Block | Regime | time_step |" in block_table.render(made.state)[2]
    assert "| 1 | a\\|b | 1 |" in block_table.render(made.state)[4]
    made = driver(start=neural())
    block(made, 0.5)
    assert block_table.render(made.state)[4].startswith("| 1 | 1 | 12 |")


def neural():
    start = rules().start
    return start | {"training": start["training"] | {"recurrent_training": False, "neural_ODE_training": True}}


def test_the_log_says_which_values_the_next_block_has_and_why():
    made = driver()
    for best in (0.5, 0.95, 0.7):
        block(made, best - 0.1, best)
    made.ended()
    first, third = sections.render(made.state, 1), sections.render(made.state, 3)
    assert (
        "CONFIG EDITED: Block 2 time_step=4 (reason: no block had time_step=4; block 1 (time_step=1) reached "
        "connectivity_R2 0.5000 (node 2, n=1))\nNext block: "
    ) in first
    assert "CONFIG EDITED: Block 4 time_step=4, neural_ODE_training=True, recurrent_training=False (reason: " in third
    said = [line.strip() for line in lines.turn_lines(made.state, made.state.turns[-1])]
    assert [line for line in third.splitlines() if line.startswith("CONFIG")] == [x for x in said if "CONFIG" in x]
    info = memory.render(made.state).partition("### Block Info")[2].partition("### Hypothesis")[0]
    assert "time_step: 4\nrecurrent_training: False\nneural_ODE_training: True\nFocus: " in info
    row = block_table.render(made.state)[-2]
    assert row.startswith("| 4 | 4 (recurrent_training=False, neural_ODE_training=True) | 12 | - |")
    assert lines.block_label(made.state, 2) == "block 2: time_step=4"


def test_a_reason_stays_one_line():
    made = driver()
    block(made, 0.5, 0.6)
    said = made.ended().model_copy(update={"changes_reason": "a\n## Iter 9: converged\u2028b"})
    (line,) = sections.config_edited(made.state, said)
    assert line == "CONFIG EDITED: Block 2 time_step=4 (reason: a ## Iter 9: converged b)"


HEADING = "Regime Comparison Table"


def test_where_nothing_is_compared_each_block_has_a_row_with_its_best_config():
    made = driver(
        compare=None, comparison_heading=HEADING, log_config=("training.seed", LR, "training.batch_size", STEP)
    )
    block(made, 0.9, 0.95)
    block(made, 0.95)
    made.put(0.97, parent=3, changes=[("training.batch_size", 16)], metrics=METRICS)
    told = block_table.render(made.state)
    assert told == [
        "### Regime Comparison Table",
        "",
        "| Block | lr_W | batch_size | Best connectivity_R2 | test_R2 | training_time_min | Key finding |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        f"| 1 | 1E-2 | 8 | 0.9500 ± 0.0000 (node 2, n=2) | 0.5 | 3 | {made.state.boundaries[1].summary[0]} |",
        "| 2 | 1E-2 | 16 | 0.9700 (node 4, n=1) | 0.5 | 3 | in progress |",
        "",
    ]
    assert "\n".join(told) in memory.render(made.state).partition("### Established Principles")[0]


def test_a_plain_table_tells_regimes_metrics_with_a_target_and_blocks_without_a_result():
    regimes = tuple(RegimeRule(name=n, values={"simulation.n_neurons": v}) for n, v in (("a", 10), ("c", 20)))
    kinds = (MetricRule(name="connectivity_R2", role="primary"), *(
        MetricRule(name=name, role="secondary", direction=way, target=1.0 if way == "target" else None)
        for name, way in (("final_mse", "min"), ("slope", "target"))
    ))  # fmt: skip
    logged = tuple((rule.name, rule.name) for rule in kinds)
    made = driver(compare=None, comparison_heading=HEADING, regimes=regimes, metrics=kinds, log_metrics=logged)
    block(made, 0.5, 0.6, metrics={"slope": 0.9, "final_mse": 1.0})
    block(made, None)
    assert block_table.render(made.state)[2:] == [
        "| Block | Regime | lr_W | batch_size | Best connectivity_R2 | slope | training_time_min | Key finding |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        f"| 1 | a | 1E-2 | 8 | 0.6000 (node 2, n=1) | 0.9 | - | {made.state.boundaries[1].summary[0]} |",
        "| 2 | c | - | - | - | - | - | in progress |",
        "",
    ]


def test_what_is_compared_otherwise_draws_no_plain_table():
    made = driver(compare="simulation.n_neurons", comparison_heading=HEADING)
    block(made, 0.5)
    assert block_table.render(made.state) == []
