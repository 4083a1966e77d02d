"""Rule edits in the instruction's copy."""

from orchestrator.core.records import RuleEdit
from orchestrator.formats.strategy_table import instruction_text

TEXT = """# T

| Condition | Strategy    | Action |
| --------- | ----------- | ------ |
| Default   | **exploit** | step   |
| 3 wins    | **explore** | leave  |

| File | Permission |
| ---- | ---------- |
| a.py | exploit    |
"""


def test_rows_are_added_changed_and_removed_and_nothing_else_moves():
    add = RuleEdit(op="add", strategy="forced-branch", condition="R2 within 0.02", action="2nd best", reason="r")
    change = RuleEdit(op="change", strategy="exploit", condition="Default", action="small step", reason="r")
    remove = RuleEdit(op="remove", strategy="explore", reason="r")
    lines = instruction_text(TEXT, [add, change, remove]).splitlines()
    assert lines[4] == "| Default | **exploit** | small step |"
    assert lines[5] == "| R2 within 0.02 | **forced-branch** | 2nd best |"
    assert [*lines[:4], *lines[6:]] == [*TEXT.splitlines()[:4], *TEXT.splitlines()[6:]]


def test_edits_that_do_not_apply_change_nothing():
    edits = [
        RuleEdit(op="add", strategy="explore", condition="c", action="a", reason="r"),
        RuleEdit(op="change", strategy="nobody", condition="c", action="a", reason="r"),
        RuleEdit(op="remove", strategy="nobody", reason="r"),
    ]
    assert instruction_text(TEXT, edits) == TEXT
    assert instruction_text("no table\n", edits[:1]) == "no table\n"
