"""What a training-time target, or an exemption by the instruction, makes of the budget key."""

import copy
import json
from pathlib import Path

import pytest

from orchestrator.core.exploration import read_exploration
from orchestrator.core.schema import read_schema
from orchestrator.formats import yaml_edit
from orchestrator.formats.compile import compile_all
from orchestrator.formats.instruction import read_instruction
from orchestrator.formats.lint import lint
from tests.formats import samples

ROOT = Path(__file__).parents[2]
LOOP = "training.data_augmentation_loop"
LISTED = samples.INSTRUCTION.replace(
    "Mutate ONE parameter at a time.",
    "Mutate ONE parameter at a time.\nDoes not apply to data_augmentation_loop, as needed to constrain training_time.",
).replace(
    "  batch_size: 8 #", "  data_augmentation_loop: 5 # SCALE to keep training_time (range: 1-25)\n  batch_size: 8 #"
)
CONFIG = samples.CONFIG.replace("data_augmentation_loop: 200", "data_augmentation_loop: 5")
WIDE = samples.EXPLORATION + "limits: {wall_s: 100000}\n"
TARGET = WIDE + "time_target_min: 120\n"


def schema(**more):
    found = copy.deepcopy(samples.SCHEMA)
    body = found["systems"]["signal"]
    body |= {"cost": ["simulation.n_frames", "training.n_epochs", LOOP], "budget": LOOP} | more
    return read_schema(found, "signal")


def build(instruction=samples.INSTRUCTION, config=CONFIG, exploration=WIDE, profile="full", known=None):
    spec = read_exploration(yaml_edit.load(exploration, "exploration.yaml"))
    doc = yaml_edit.read(config, "config.yaml")
    draft = read_instruction(instruction, "small.md")
    return compile_all("small", draft, known or schema(), spec, doc, profile), draft


def rule(**given):
    compiled, _ = build(**given)
    assert compiled.contract is not None, compiled.stops
    return compiled.contract.key(LOOP), [p.text for p in compiled.problems if "loop" in p.text]


def test_without_a_target_and_without_an_exemption_it_is_frozen_as_ever():
    found, told = rule()
    assert (found.level, found.exempt, found.source, told) == (
        "frozen", False, "set by claude.data_augmentation_loop", []
    )  # fmt: skip
    listed = LISTED.replace("Does not apply to data_augmentation_loop, as needed to constrain training_time.", "")
    found, told = rule(instruction=listed)
    assert (found.level, told) == ("frozen", [f"{LOOP}: set by claude.data_augmentation_loop, so it is frozen here"])


def test_what_the_instruction_lists_and_excuses_is_free_in_its_range():
    found, told = rule(instruction=LISTED)
    assert (found.level, found.exempt, found.low, found.high, found.start, told) == ("free", True, 1, 25, 5, [])
    assert found.source.startswith("small.md:")


def test_a_target_frees_the_budget_key_in_the_hard_range():
    compiled, _ = build(exploration=TARGET)
    found = compiled.contract.key(LOOP)
    assert (found.level, found.exempt, found.low, found.high) == ("free", True, 1, 100000)
    assert found.source == "time_target_min 120 in exploration.yaml"
    contract = compiled.contract
    assert (contract.time_target_min, contract.budget) == (120.0, LOOP)
    assert LOOP not in contract.order, "it is not explored for itself"


def test_a_profile_sets_a_target_of_its_own_and_widens_the_range_around_its_start():
    text = TARGET.replace("cpu: {claude", "cpu: {time_target_min: 1.5, claude").replace("loop: 25", "loop: 40")
    compiled, _ = build(instruction=LISTED, exploration=text, profile="cpu")
    found = compiled.contract.key(LOOP)
    assert (found.start, found.low, found.high, compiled.contract.time_target_min) == (40, 1, 160, 1.5)
    assert found.source.endswith("; 1 to 25 there, widened for profile cpu, which starts at 40")
    assert compiled.problems == ()
    full, _ = build(instruction=LISTED, exploration=text)
    assert (full.contract.key(LOOP).high, full.contract.time_target_min) == (25, 120.0)


def test_a_start_outside_the_range_that_no_profile_sets_stops():
    compiled, _ = build(instruction=LISTED, config=CONFIG.replace("loop: 5", "loop: 40"))
    assert [p.text for p in compiled.stops] == [f"{LOOP}: 40 is outside 1.0 to 25.0 (small.md:28)"]


@pytest.mark.parametrize(
    ("exploration", "known", "told", "stops"),
    [
        (TARGET.replace("100000", "7200"), None, "120 min is not below limits.wall_s, 7200 s", True),
        (TARGET, {"budget": "", "cost": []}, "120 cannot be held: the trainer of system signal names no budget", True),
        (
            TARGET + f"settle: {{{LOOP}: {{level: frozen}}}}\n",
            None,
            "is frozen .* so nothing holds it",
            False,
        ),
    ],
)
def test_a_target_that_cannot_be_held_is_told(exploration, known, told, stops):
    import re

    compiled, _ = build(exploration=exploration, known=schema(**known) if known else None)
    found = [p for p in compiled.problems if re.search(told, p.text)]
    assert [p.stops for p in found] == [stops], compiled.problems


def test_a_settled_range_wins():
    compiled, _ = build(instruction=LISTED, exploration=TARGET + f"settle: {{{LOOP}: {{range: [2, 50]}}}}\n")
    found = compiled.contract.key(LOOP)
    assert (found.level, found.exempt, found.low, found.high) == ("free", True, 2, 50)


def test_a_regimes_budget_does_not_undo_what_the_target_asks_for():
    regimes = """regimes:
  - name: small
  - name: large
    simulation: {n_neurons: 200}
    profiles: {full: {claude.data_augmentation_loop: 60, simulation.n_frames: 2000}}
"""
    compiled, _ = build(exploration=TARGET + regimes)
    assert compiled.contract is not None, compiled.stops
    assert all(LOOP not in r.values for r in compiled.contract.regimes)
    assert compiled.contract.regimes[1].values["simulation.n_frames"] == 2000
    assert any("claude.data_augmentation_loop is not used: the time target" in p.text for p in compiled.problems)
    plain, _ = build(exploration=WIDE + regimes)
    assert plain.contract.regimes[1].values[LOOP] == 60


def test_lint_says_target_and_what_holds_it():
    compiled, draft = build(instruction=LISTED, exploration=TARGET)
    text = lint(draft, compiled.contract, compiled.problems)
    work = f"simulation.n_frames x training.n_epochs x {LOOP}"
    assert f"Time target: 120 min a training, held by {LOOP}; work = {work}" in text
    assert f"  {LOOP} (data_augmentation_loop) = 5, 1 to 25, may change beside another  [small.md:28]" in text
    assert "Time target" not in lint(draft, build(instruction=LISTED)[0].contract, ())


RECURRENT = """\
simulation: {n_neurons: 1000, n_neuron_types: 4, n_frames: 100000, connectivity_type: Lorentz}
training: {learning_rate_W_start: 1E-3, learning_rate_start: 5.0E-4, learning_rate_embedding_start: 7.5E-4,
  coeff_W_L1: 1.0E-5, batch_size: 8, time_step: 4, recurrent_training: True}
claude: {n_epochs: 2, data_augmentation_loop: 5, n_iter_block: 6, ucb_c: 1.414}
"""


@pytest.mark.parametrize("target", ["", "time_target_min: 120\n"])
def test_the_seed_of_recurrent_gnn_frees_its_budget(target):
    known = read_schema(json.loads((ROOT / "trainers" / "schema.json").read_text()), "signal")
    text = "instruction: x\nsystem: signal\nlimits: {wall_s: 20000}\nsettle: {batch_size: {level: frozen}}\n"
    seed = (ROOT / "tests" / "golden" / "instructions" / "recurrent_gnn.md").read_text(encoding="utf-8")
    compiled, _ = build(instruction=seed, config=RECURRENT, exploration=text + target, known=known)
    told = [p.text for p in (*compiled.stops, *compiled.problems) if "data_augmentation_loop" in p.text]
    assert told == []
    assert compiled.contract is not None, compiled.stops
    found = compiled.contract.key(LOOP)
    assert (found.level, found.exempt, found.low, found.high, found.start) == ("free", True, 1, 25, 5)
    assert compiled.contract.time_target_min == (120.0 if target else None)
