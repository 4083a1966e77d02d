import copy

import pytest

from orchestrator.core.exploration import read_exploration
from orchestrator.core.schema import read_schema
from orchestrator.formats import rules, yaml_edit
from orchestrator.formats.compile import compile_all
from orchestrator.formats.instruction import read_instruction
from tests.formats.samples import CONFIG, EXPLORATION, INSTRUCTION, SCHEMA, build, line_of, metric

GAP = """
## Degeneracy

The degeneracy gap is
`test_R2 - conn_R2`.
With a gap over 0.25 the dynamics say nothing.

| test_R2 | conn_R2 | Gap | Diagnosis |
|---|---|---|---|
| > 0.95 | > 0.9 | < 0.1 | **Healthy** |
| > 0.95 | 0.3–0.9 | 0.1–0.7 | Degenerate |
| < 0.5 | - | near 0 | Failed |
"""
TEXT = INSTRUCTION + GAP


def said(compiled):
    return [
        (r.diagnosis, [(c.metric, c.op, c.value) for c in r.conditions], int(r.source.rpartition(":")[2]))
        for r in compiled.contract.diagnosis
    ]


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("> 0.95", (((">", 0.95),),)),
        ("≥ 0.5", (((">=", 0.5),),)),
        ("0.3-0.9", (((">=", 0.3), ("<=", 0.9)),)),
        ("0.1–0.7", (((">=", 0.1), ("<=", 0.7)),)),
        ("[0.5, 2]", (((">=", 0.5), ("<=", 2.0)),)),
        ("**~0**", (((">", -0.1), ("<", 0.1)),)),
        ("near 0", (((">", -0.1), ("<", 0.1)),)),
        ("≈ 2", (((">", 1.8), ("<", 2.2)),)),
        ("~-1", (((">", -1.1), ("<", -0.9)),)),
        ("−0.5-0.5", (((">=", -0.5), ("<=", 0.5)),)),
        ("> 3.0 or < 0.3", (((">", 3.0),), (("<", 0.3),))),
        ("> 0.1 and < 0.3", (((">", 0.1), ("<", 0.3)),)),
        ("", ()),
        ("—", ()),
        ("any", ()),
    ],
)
def test_cells(cell, found):
    assert rules.cell_conditions(cell) == found


@pytest.mark.parametrize("cell", ["low", "> high", "test_R2 > 0.9", "0.9-0.3", "~", "0.5"])
def test_cells_that_cannot_be_read(cell):
    with pytest.raises(ValueError, match="cannot be read|larger than the second"):
        rules.cell_conditions(cell)
    text = TEXT.replace("| > 0.95 | > 0.9 |", f"| > 0.95 | {cell} |")
    compiled = build(instruction=text)
    (told,) = compiled.problems
    assert told.where == f"small.md:{line_of(text, 'Healthy')}" and not told.stops
    assert [r.diagnosis for r in compiled.contract.diagnosis] == ["Degenerate", "Failed"]


def test_gap_and_table():
    compiled = build(instruction=TEXT)
    gap = compiled.contract.gap
    assert (gap.minuend, gap.subtrahend, gap.untrusted_above) == ("test_R2", "connectivity_R2", 0.25)
    assert gap.source == f"small.md:{line_of(TEXT, 'degeneracy gap is')}"
    assert said(compiled)[0] == (
        "Healthy",
        [("test_R2", ">", 0.95), ("connectivity_R2", ">", 0.9), ("degeneracy_gap", "<", 0.1)],
        line_of(TEXT, "Healthy"),
    )
    assert said(compiled)[2][1] == [("test_R2", "<", 0.5), ("degeneracy_gap", ">", -0.1), ("degeneracy_gap", "<", 0.1)]
    assert compiled.problems == ()


def test_no_limit_is_the_default():
    assert build(instruction=TEXT.replace("over 0.25", "that is large")).contract.gap.untrusted_above == 0.3


def test_no_gap_and_unknown_metrics_are_told():
    text = TEXT.replace("The degeneracy gap", "It")
    compiled = build(instruction=text)
    (told,) = compiled.problems
    assert "is not defined" in told.text and told.where == f"small.md:{line_of(text, '| Gap |')}"
    assert compiled.contract.diagnosis == () and compiled.contract.gap is None
    for old, new in (("`test_R2 -", "`speed -"), ("| test_R2 |", "| speed |")):
        problems = build(instruction=TEXT.replace(old, new)).problems
        assert any("'speed' is not measured" in p.text and not p.stops for p in problems)


def test_a_row_that_another_hides_is_asked_first():
    text = TEXT.replace("| > 0.95 | > 0.9 | < 0.1 |", "| > 0.9 | - | - | Fine |\n| > 0.95 | > 0.9 | < 0.1 |")
    compiled = build(instruction=text)
    assert [r.diagnosis for r in compiled.contract.diagnosis] == ["Healthy", "Degenerate", "Fine", "Failed"]
    assert [p.where for p in compiled.problems] == [f"small.md:{line_of(text, d)}" for d in ("Healthy", "Degenerate")]
    twice = build(instruction=TEXT + "| < 0.5 | - | near 0 | Again |\n")
    assert len(twice.contract.diagnosis) == 3
    assert ["same conditions" in p.text for p in twice.problems] == [True]


def test_the_scorers_correction_is_used_and_told():
    data = copy.deepcopy(SCHEMA)
    data["systems"]["signal"]["metrics"] |= {
        "test_R2": metric() | {"corrected_by": "test_R2_100"}, "test_R2_100": metric() | {"corrected_by": None}
    }  # fmt: skip
    text = TEXT + "\n| Condition | Strategy | Action |\n|---|---|---|\n| test_R2 plateau for 3+ iters | **x** | y |\n"
    compiled = compile_all(
        "small", read_instruction(text, "small.md"), read_schema(data, "signal"),
        read_exploration(yaml_edit.load(EXPLORATION, "e")), yaml_edit.read(CONFIG, "config.yaml"), "cpu",
    )  # fmt: skip
    assert compiled.contract.gap.minuend == "test_R2_100"
    assert {c.metric for r in compiled.contract.diagnosis for c in r.conditions} == {
        "test_R2_100", "connectivity_R2", "degeneracy_gap"
    }  # fmt: skip
    told = [p.where for p in compiled.problems if "the short horizon is used" in p.text and not p.stops]
    assert told[:2] == [f"small.md:{line_of(text, part)}" for part in ("degeneracy gap is", "| Gap |")]
    assert compiled.contract.metrics[1].name == "test_R2"
