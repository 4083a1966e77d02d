"""What a time limit, and a profile of another scale, make of seed document cell_inr."""

import copy
from pathlib import Path

import pytest

from orchestrator.core.exploration import is_budget_key, read_exploration
from orchestrator.core.schema import read_schema
from orchestrator.formats import block_table, yaml_edit
from orchestrator.formats.compile import compile_all
from orchestrator.formats.instruction import read_instruction
from orchestrator.formats.lint import lint
from tests import factory
from tests.formats.samples import key, metric

SEED = Path(__file__).parents[2] / "tests" / "golden" / "instructions" / "cell_inr.md"
STEPS, WIDTH, LIMIT = "inr.inr_total_steps", "inr.hidden_dim_inr", "training.max_minutes"
SCHEMA = {
    "contract": 1,
    "systems": {
        "inr": {
            "generator_version": 1, "cost": [STEPS, WIDTH], "budget": STEPS, "time_limit": LIMIT,
            "sections": {
                "simulation": {
                    "n_cells": key("int", 1000, 2, 100000), "substeps": key("int", 10, 1, 1000),
                    "n_frames": key("int", 9997, 10, 100000), "seed": key("int", 42, 0, 2**31 - 1),
                },
                "inr": {
                    "omega_inr": key("float", 10.0, 0.0, 1000.0, exclusive=True),
                    "inr_learning_rate": key("float", 1e-4, 0.0, 1.0, exclusive=True),
                    "hidden_dim_inr": key("int", 384, 4, 8192), "n_layers_inr": key("int", 3, 1, 10),
                    "inr_total_steps": key("int", 500000, 1, 10**8), "inr_batch_size": key("int", 8, 1, 1024),
                    "inr_xy_period": key("float", 1.0, 0.0, 100.0, exclusive=True),
                    "inr_t_period": key("float", 1.0, 0.0, 100.0, exclusive=True),
                },
                "training": {
                    "seed": key("int", 42, 0, 2**31 - 1),
                    "max_minutes": key("float", 60.0, 0.0, 100000.0, exclusive=True),
                },
            },
            "metrics": {
                "final_r2": metric(), "final_mse": metric("min"), "slope": metric("target") | {"target": 1.0},
                "training_time_min": metric("min"),
            },
        }
    },
}  # fmt: skip
CONFIG = """\
inr: {omega_inr: 10.0, inr_learning_rate: 1E-4, hidden_dim_inr: 384, n_layers_inr: 3, inr_total_steps: 500000,
  inr_batch_size: 8, inr_xy_period: 1.0, inr_t_period: 1.0}
claude: {n_epochs: 1, data_augmentation_loop: 1, n_iter_block: 8, ucb_c: 1.414}
"""
EXPLORATION = """\
instruction: cell_inr
system: inr
limits: {wall_s: 4000}
profiles:
  full: {}
  cpu:
    simulation.n_cells: 50
    simulation.substeps: 2
    inr.inr_total_steps: 6000
    inr.hidden_dim_inr: 64
    training.max_minutes: 3
"""


def build(profile="cpu", exploration=EXPLORATION, known=None):
    spec = read_exploration(yaml_edit.load(exploration, "exploration.yaml"))
    draft = read_instruction(SEED.read_text(encoding="utf-8"), "cell_inr.md")
    schema = read_schema(known or SCHEMA, "inr")
    return compile_all("cells", draft, schema, spec, yaml_edit.read(CONFIG, "config.yaml"), profile), draft


def contract(*args, **given):
    compiled, _ = build(*args, **given)
    assert compiled.contract is not None, compiled.stops
    return compiled.contract


def test_the_limit_is_carried_and_frozen_and_the_budget_is_explored_like_any_key():
    found = contract("full")
    assert (found.time_limit, found.budget) == (LIMIT, STEPS)
    assert (found.key(LIMIT).level, found.key(LIMIT).start) == ("frozen", 60.0)
    budget = found.key(STEPS)
    assert (budget.level, budget.exempt, budget.low, budget.high) == ("free", False, 50_000, 2_000_000)
    assert STEPS in found.order and found.max_changes == 2
    plain = copy.deepcopy(SCHEMA)
    del plain["systems"]["inr"]["time_limit"]
    assert contract(known=plain).time_limit == ""


def test_a_profile_of_another_scale_widens_the_ranges_that_it_leaves():
    found = contract("cpu")
    budget, width = found.key(STEPS), found.key(WIDTH)
    assert (budget.start, budget.low, budget.high) == (6000, 1500, 2_000_000)
    assert budget.source.endswith("; 50000 to 2e+06 there, widened for profile cpu, which starts at 6000")
    assert (width.start, width.low, width.high) == (64, 16, 1024)
    assert (found.key(LIMIT).start, found.start["simulation"]["n_cells"]) == (3.0, 50)
    full = contract("full")
    assert (full.key(WIDTH).low, full.key(STEPS).source.count("widened")) == (128, 0)


def test_only_the_budget_is_widened_where_the_profiles_start_is_in_range():
    text = EXPLORATION.replace("inr_total_steps: 6000", "inr_total_steps: 60000").replace("inr: 64", "inr: 256")
    found = contract("cpu", text)
    assert (found.key(STEPS).low, found.key(WIDTH).low) == (15_000, 128)


def test_what_exploration_yaml_settles_is_not_widened():
    found = contract("cpu", EXPLORATION + f"settle: {{{STEPS}: {{range: [3000, 9000]}}}}\n")
    assert (found.key(STEPS).low, found.key(STEPS).high) == (3000, 9000)


@pytest.mark.parametrize("name", ["simulation.n_cells", "simulation.substeps", STEPS, LIMIT, WIDTH])
def test_a_profile_may_set_the_budgets_of_cell_fields(name):
    assert is_budget_key(name)


def test_the_message_lists_them():
    from orchestrator.errors import InstructionError

    with pytest.raises(InstructionError, match=r"inr.inr_total_steps, training.max_minutes, .*inr.hidden_dim\*"):
        build(exploration=EXPLORATION.replace("inr.inr_total_steps", "inr.omega_inr"))


def test_lint_says_the_limit():
    for profile, minutes in (("cpu", "3"), ("full", "60")):
        compiled, draft = build(profile)
        text = lint(draft, compiled.contract, compiled.problems)
        assert f"Time limit: {minutes} min a training ({LIMIT}); work = {STEPS} x {WIDTH}\n" in text
    plain = copy.deepcopy(SCHEMA)
    plain["systems"]["inr"]["time_limit"] = ""
    compiled, draft = build(known=plain)
    assert "Time limit" not in lint(draft, compiled.contract, ())


@pytest.mark.parametrize(
    ("line", "told", "stops"),
    [
        ("limits: {wall_s: 180}\n", "limits.wall_s, 180 s, is not above training.max_minutes, 3 min: a train", False),
        ("time_target_min: 4\n", "4 min is over the limit, training.max_minutes 3; lower it, or raise that", True),
    ],
)
def test_a_limit_that_does_not_agree_with_other_times_is_told(line, told, stops):
    text = EXPLORATION.replace(
        "limits: {wall_s: 4000}\n", line if "wall" in line else f"{line}limits: {{wall_s: 4000}}\n"
    )
    compiled, _ = build("cpu", text)
    assert [p.stops for p in compiled.problems if told in p.text] == [stops], compiled.problems


def test_the_seeds_table_of_blocks_has_the_seeds_columns():
    compiled, draft = build("full")
    found = factory.Driver(compiled.contract)
    assert "memory.md: Regime Comparison Table, one row a block\n" in lint(draft, compiled.contract, ())
    assert block_table.render(found.state)[:3] == [
        "### Regime Comparison Table",
        "",
        "| Block | omega_inr | inr_learning_rate | hidden_dim_inr | n_layers_inr | inr_total_steps | inr_batch_size | "
        "Best final_r2 | slope | training_time_min | Key finding |",
    ]
