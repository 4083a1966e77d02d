"""The block-level list of the recurrent seed document, compiled: nine keys, a comparison, wishes, exclusive modes."""

import json
from pathlib import Path

import pytest

from orchestrator.core.exploration import read_exploration
from orchestrator.core.schema import read_schema
from orchestrator.formats import yaml_edit
from orchestrator.formats.compile import compile_all
from orchestrator.formats.instruction import read_instruction
from orchestrator.formats.lint import lint
from tests.formats.samples import EXPLORATION, INSTRUCTION, build

ROOT = Path(__file__).parents[2]
SEED = (ROOT / "tests" / "golden" / "instructions" / "recurrent_gnn.md").read_text(encoding="utf-8")
CONFIG = """\
simulation: {n_neurons: 1000, n_neuron_types: 4, n_frames: 100000, connectivity_type: Lorentz}
training:
  learning_rate_W_start: 1.0E-3
  learning_rate_start: 5.0E-4
  learning_rate_embedding_start: 7.5E-4
  coeff_W_L1: 1.0E-5
  batch_size: 8
  time_step: 4
  recurrent_training: true
  neural_ODE_training: false
  data_augmentation_loop: 5
claude: {n_epochs: 2, data_augmentation_loop: 5, n_iter_block: 12, ucb_c: 1.414}
"""
NINE = (
    "time_step", "recurrent_training", "neural_ODE_training", "recurrent_training_start_epoch", "ode_method",
    "ode_rtol", "ode_atol", "ode_adjoint", "ode_state_clamp",
)  # fmt: skip


def seed(*wishes, extra="compare: time_step\n", config=CONFIG, text=SEED):
    if wishes:
        text += "\n## User instructions\n\n" + "".join(f"- {wish}\n" for wish in wishes)
    schema = read_schema(json.loads((ROOT / "trainers" / "schema.json").read_text()), "signal")
    draft = read_instruction(text, "recurrent_gnn.md")
    head = "instruction: recurrent_gnn\nsystem: signal\nsettle: {batch_size: {level: frozen}}\n"
    spec = read_exploration(yaml_edit.load(head + extra, "exploration.yaml"))
    compiled = compile_all("recurrent_gnn", draft, schema, spec, yaml_edit.read(config, "config.yaml"), "full")
    return compiled, draft


def contract(*wishes, **parts):
    compiled, _ = seed(*wishes, **parts)
    assert compiled.contract is not None, compiled.stops
    return compiled.contract


def test_the_nine_keys_of_the_seed_are_block_level_with_their_values():
    found = {k.key.partition(".")[2]: k for k in contract().keys if k.level == "block"}
    assert tuple(found) == NINE
    assert found["time_step"].allowed == (1, 4, 16, 32, 64)
    assert found["ode_method"].allowed == ("dopri5", "rk4", "euler", "midpoint", "heun3")
    assert {n: found[n].start for n in NINE[:3]} == {
        "time_step": 4, "recurrent_training": True, "neural_ODE_training": False
    }  # fmt: skip
    for name in ("recurrent_training", "neural_ODE_training", "ode_adjoint"):
        assert set(found[name].allowed) in ({True, False}, set()) and found[name].low is None


def test_blocks_run_over_its_values_under_the_seeds_heading():
    compiled, draft = seed()
    found = compiled.contract
    assert (found.compare, found.comparison_heading) == ("training.time_step", "Time Step Comparison Table")
    assert not [p for p in compiled.problems if p.text.startswith("compare")]
    text = lint(draft, found, compiled.problems)
    for part in (
        "Block-level keys (9), changed at a block's end only",
        "  training.time_step (time_step) = 4, one of 1, 4, 16, 32, 64  [recurrent_gnn.md:190]",
        "  training.neural_ODE_training (neural_ODE) = False, True or False",
        "At most one is true: training.recurrent_training, training.neural_ODE_training",
        "Blocks run over training.time_step: 1, 4, 16, 32, 64; memory.md: Time Step Comparison Table",
    ):
        assert part in text, part


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("ode_rtol", "training.ode_rtol has no list of values (recurrent_gnn.md:199)"),
        ("noise_recurrent_level", "nothing is compared; give it another in a regime, or say in the instruction that"),
    ],
)
def test_a_comparison_without_values_is_told(name, told):
    compiled, _ = seed(extra=f"compare: {name}\n")
    (said,) = [p for p in compiled.problems if p.text.startswith("compare")]
    assert told in said.text and not said.stops
    assert compiled.contract is not None


def test_a_mode_may_be_compared():
    assert not [p for p in seed(extra="compare: neural_ODE_training\n")[0].problems if p.text.startswith("compare")]


def test_a_wish_for_a_block_level_key_is_one_for_a_block():
    found = contract("Try time_step = 16 before the rest", "use time_step = 8 or 2, and lr_W = 2E-2")
    assert [u.between for u in found.user_instructions] == [
        {"training.time_step": (16,)}, {"training.time_step": (8, 2)}
    ]  # fmt: skip
    rule = found.key("training.time_step")
    assert rule.level == "block" and set(rule.allowed) == {1, 2, 4, 8, 16, 32, 64}
    assert [u.between for u in contract("keep time_step = 16", "time_step from 2 to 8").user_instructions] == [{}, {}]
    compiled, draft = seed("Try time_step = 16 before the rest")
    assert "    -> a block with training.time_step=16" in lint(draft, compiled.contract, compiled.problems)


def test_a_wish_beyond_what_the_trainer_takes_stops_with_its_line():
    compiled, _ = seed("Try time_step = 128")
    assert any("training.time_step: expected" in p.text and "recurrent_gnn.md:" in p.where for p in compiled.stops)


def test_two_modes_at_the_start_stop_with_the_line():
    compiled, _ = seed(config=CONFIG.replace("neural_ODE_training: false", "neural_ODE_training: true"),
                       text=SEED.replace("neural_ODE_training: False #", "neural_ODE_training: True #"))  # fmt: skip
    (said,) = compiled.stops
    assert said.where == "config.yaml:9"
    assert "training.recurrent_training and training.neural_ODE_training are true; at most one of" in said.text


def test_modes_of_two_levels_stop():
    head = SEED.replace("  neural_ODE_training: False", "  # neural_ODE_training: False")
    compiled, _ = seed(text=head)
    assert compiled.contract is not None  # frozen beside block-level is no contradiction
    compiled, _ = seed("set neural_ODE_training = true", text=head)
    (said,) = compiled.stops
    assert "training.neural_ODE_training is free and training.recurrent_training changes between blocks" in said.text


def test_a_block_level_key_is_not_of_a_regime_too():
    text = INSTRUCTION.replace(
        "## Log form", "**Block-level (change at block boundaries only):**\n\n```yaml\ngraph_model:\n"
        "  hidden_dim: 64 # values: 32, 64\n```\n\n## Log form",
    )  # fmt: skip
    extra = "profiles: {cpu: {}}\nregimes:\n  - {name: a}\n  - name: b\n    simulation: {n_neurons: 200}\n"
    extra += "    profiles: {cpu: {graph_model.hidden_dim: 32}}\n"
    head = EXPLORATION.partition("profiles:")[0]
    compiled = build(instruction=text, exploration=head + extra)
    assert any("is set by a regime and changed between blocks in small.md" in p.text for p in compiled.stops)
