from pathlib import Path

import pytest

from orchestrator.core.exploration import read_exploration
from orchestrator.formats import yaml_edit
from orchestrator.formats.instruction import read_instruction
from orchestrator.formats.lint import contradictions, lint_report
from tests.formats.samples import CONFIG, EXPLORATION, INSTRUCTION, read, schema

GOLDEN = Path(__file__).parents[1] / "golden" / "instructions"


def report(text=INSTRUCTION, config=CONFIG):
    spec = read_exploration(yaml_edit.load(EXPLORATION, "e"))
    return lint_report(read(text), "small", schema(), spec, yaml_edit.read(config, "config.yaml"), "cpu")


def test_report_of_a_contract():
    found = report()
    assert found.ok
    assert "training.learning_rate_W_start (lr_W) = 3E-3, 1E-4 to 1E-2  [small.md:26]" in found.text
    assert "connectivity_R2 (primary, max)" in found.text
    assert found.text.endswith("ok\n")


def test_report_says_what_stops():
    found = report(INSTRUCTION.replace("range: 1E-4 to 1E-2", "range: small to large"))
    assert not found.ok
    assert "Stops the start (1)" in found.text
    assert "small.md:26: learning_rate_W_start: range 'small to large' cannot be read" in found.text


def test_report_of_a_file_alone():
    found = lint_report(read(INSTRUCTION + "\n## Musings\n\nWords.\n"))
    assert found.ok
    assert "Free keys (3)" in found.text
    assert "Musings" in found.text


def test_contradictions_of_sparse_gnn():
    draft = read_instruction((GOLDEN / "sparse_gnn.md").read_text(encoding="utf-8"), "sparse_gnn.md")
    found = {p.where.rpartition(":")[2]: p.text for p in contradictions(draft)}
    assert set(found) == {"13", "203", "239", "311"}
    assert found["13"] == "user instructions ask for n_neurons = 200, which line 9 freezes"
    assert "line 233" in found["239"]
    assert "N(0, 1/√n) here and N(0, 1/n) in line 18" in found["311"]
    assert "line 248" in found["203"]


@pytest.mark.parametrize("name", sorted(p.stem for p in GOLDEN.glob("*.md")))
def test_every_seed_gives_a_report(name):
    draft = read_instruction((GOLDEN / f"{name}.md").read_text(encoding="utf-8"), name)
    found = lint_report(draft)
    assert found.ok == (name in ("sparse_gnn", "cell_inr"))
    assert all(p.text in found.text for p in draft.problems)
