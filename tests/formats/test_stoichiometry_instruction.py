"""Seed document 000 and our instruction, for system `stoichiometry`."""

import json
from pathlib import Path

import pytest

from orchestrator.core.exploration import read_exploration
from orchestrator.core.schema import read_schema
from orchestrator.formats import yaml_edit
from orchestrator.formats.compile import compile_all
from orchestrator.formats.instruction import read_instruction

ROOT = Path(__file__).parents[2]
NAME = "metabolism_stoichiometry"
SEED = {"primary": "stoichiometry_R2", "classes": {"Converged": "stoichiometry_R2 > 0.9",
                                                   "Failed": "stoichiometry_R2 <= 0.9"},
        "settle": {"training.time_step": {"allowed": [1, 4, 8, 16]}}}  # fmt: skip
"""What seed 000 does not say, or says twice."""


def compiled(document, extra, profile="cpu"):
    folder = ROOT / "explorations" / NAME
    spec = read_exploration(yaml_edit.load((folder / "exploration.yaml").read_text(), "exploration.yaml") | extra)
    config = yaml_edit.read((folder / "config.yaml").read_text(), "config.yaml")
    known = read_schema(json.loads((ROOT / "trainers" / "schema.json").read_text()), "stoichiometry")
    draft = read_instruction(document.read_text(encoding="utf-8"), document.name)
    return compile_all(NAME, draft, known, spec, config, profile)


def test_the_seed_document_compiles_once_its_two_ranges_are_settled():
    found = compiled(ROOT / "tests" / "golden" / "instructions" / f"{NAME}.md", SEED).contract
    assert found is not None and found.primary.name == "stoichiometry_R2"
    free = {k.key for k in found.keys if k.level == "free"}
    wanted = ("learning_rate_start", "learning_rate_S_start", "coeff_S_L1", "coeff_S_integer",
              "coeff_mass_conservation", "batch_size", "n_runs", "time_step")  # fmt: skip
    assert {f"training.{name}" for name in wanted} <= free
    assert not any(k.startswith("simulation.") for k in free)


@pytest.mark.parametrize(("profile", "target"), [("cpu", 5), ("full", None)])
def test_our_instruction_compiles_without_a_word(profile, target):
    found = compiled(ROOT / "instructions" / f"{NAME}.md", {}, profile)
    assert found.problems == ()
    contract = found.contract
    assert contract.primary.name == "stoichiometry_R2" and contract.time_target_min == target
    assert [v.name for v in contract.verdicts] == ["Converged", "Partial", "Failed"]
    assert len(contract.strategies) == 10 and len(contract.diagnosis) == 3
    assert contract.gap.minuend == "test_pearson"
    free = {k.key for k in contract.keys if k.level == "free"}
    assert {"training.gauge_parameter", "training.constrain_sign", "graph_model.flux_limit"} <= free
