"""The initial spread: how its rows may be written, and what the contract makes of them."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.exploration import read_exploration
from orchestrator.core.schema import read_schema
from orchestrator.formats import yaml_edit
from orchestrator.formats.compile import compile_all
from orchestrator.formats.lint import lint_report
from tests.formats.samples import CONFIG, EXPLORATION, INSTRUCTION, SCHEMA, key, line_of, read

KNOWN = copy.deepcopy(SCHEMA)
KNOWN["systems"]["signal"]["sections"]["training"] |= {
    "time_step": key("int", 1, 1, 64),
    "recurrent_training": key("bool", False),
    "widths": key("list", [64, 64]),
}
LISTED = INSTRUCTION.replace(
    "  batch_size: 8",
    "  coeff_W_L1: 1.0E-5 # range: 0 to 1\n  time_step: 1 # values: 1, 4, 16\n"
    "  recurrent_training: False # can try True\n"
    "  loss: norm # values: norm, mse\n  widths: [64, 64]\n  batch_size: 8",
)
OWN = CONFIG.replace("  batch_size", "  coeff_W_L1: 1.0E-5\n  batch_size")


def document(rows, heading="## Suggested initial spread"):
    return f"{LISTED}\n{heading}\n\n{rows}\n"


def build(rows, heading="## Suggested initial spread", front="", exploration=EXPLORATION):
    spec = read_exploration(yaml_edit.load(exploration, "exploration.yaml"))
    draft = read(front + document(rows, heading))
    known = read_schema(KNOWN, "signal")
    return compile_all("small", draft, known, spec, yaml_edit.read(OWN, "config.yaml"), "cpu")


def values(rows, **parts):
    """Return the values of each row, short, of a spread without any problem."""
    compiled = build(rows, **parts)
    assert compiled.problems == ()
    return short(compiled)


def short(compiled):
    assert compiled.contract is not None, compiled.stops
    return [{k.removeprefix("training."): v for k, v in r.values.items()} for r in compiled.contract.spread]


def only(rows, *, stops, **parts):
    """Return the contract's rows and the text of the one problem, after checking its line and weight."""
    compiled = build(rows, **parts)
    (said,) = compiled.problems
    assert said.stops == stops and "initial spread" in said.text
    return compiled, said


def test_the_users_example():
    rows = """\
- Slot 0: baseline (iter_116 settings: lr_W=3E-3, batch_size=8, L1=1.0E-5)
- Slot 1: higher lr_W (lr_W=5E-4) to kick homeostasis
- Slot 2: lower coeff_W_L1 (0.1 instead of 1E-5) to let MLP_node grow
- Slot 3: multi-step rollout (recurrent_training=true, time_step=4, lr_W=2E-3)"""
    compiled = build(rows)
    assert compiled.problems == ()
    assert short(compiled) == [
        {}, {"learning_rate_W_start": 5e-4}, {"coeff_W_L1": 0.1},
        {"recurrent_training": True, "time_step": 4, "learning_rate_W_start": 2e-3},
    ]  # fmt: skip
    found = compiled.contract.spread
    assert found[1].text == "higher lr_W (lr_W=5E-4) to kick homeostasis"
    assert [r.source for r in found] == [f"small.md:{line_of(document(rows), f'Slot {i}')}" for i in range(4)]
    assert compiled.contract.max_changes == 1
    assert "Suggested initial spread" not in compiled.contract.unmapped_sections


@pytest.mark.parametrize(
    "row",
    [
        "- Slot 1: lr_W=5E-4",
        "- Slot 1: lr_W = 5e-4.",
        "- **Slot 1**: `lr_W` = 0.0005",
        "- **Slot 1:** lr_W: 5E-4",
        "* *Slot 1*: `lr_W=5E-4`, as a guess",
        "- slot 1 - lr_W=5E-4",
        "- SLOT #1 — lr_W=5E-4",
        "- Slot 1 lr_W=5E-4",
        "1. Slot 1: training.learning_rate_W_start=5E-4",
        "- [Slot 1] lr_W from 3E-3 to 5E-4",
        "- Slot 1 (low): lower lr_W to 5E-4",
        "- Slot 1: lower lr_W (5E-4 instead of 3E-3)",
        "- Slot 1: lr_W=5E-4 (instead of 3E-3)",
        "- Slot 1: lr_W = 5E-4 rather than 3E-3; short",
        "- Slot 1: lr_W 3E-3 -> 5E-4",
        "- Slot 1: lr_W: 3E-3 → 5E-4",
        "- Slot 1: lr_W=3E-3->5E-4",
        "- Slot 1: slower\n  (lr_W=5E-4)",
        "- Slot 1: slower\n  - lr_W=5E-4\n  - connectivity_R2=0.9 is hoped for, in 3 of up to 4 runs (note: 2)",
        "- Slot 1: batch_size=8, lr_W=5E-4",
        "* Slot 1: *lr_W=5E-4*",
        "* Slot 1: *lower lr_W to 5E-4*",
        "Slot 1: lr_W=5E-4",
    ],
)
def test_spellings_of_a_row(row):
    assert values(row) == [{"learning_rate_W_start": 5e-4}]


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("coeff_W_L1=1", {"coeff_W_L1": 1.0}),
        ("coeff_W_L1=.5", {"coeff_W_L1": 0.5}),
        ("time_step=16", {"time_step": 16}),
        ("recurrent_training=TRUE", {"recurrent_training": True}),
        ("recurrent_training: true", {"recurrent_training": True}),
        ("training_single_type=false", {"training_single_type": False}),
        ("widths=[16, 32]", {"widths": [16, 32]}),
        ("widths: [16]", {"widths": [16]}),
        ("loss=mse", {"loss": "mse"}),
        ("loss: mse", {"loss": "mse"}),
        ("loss='mse'", {"loss": "mse"}),
    ],
)
def test_types_of_values(said, value):
    (found,) = values(f"- Slot 0: {said}")
    assert found == value and [type(v) for v in found.values()] == [type(v) for v in value.values()]


@pytest.mark.parametrize(
    "text",
    [
        "baseline", "**Baseline**", "(the baseline)", "baseline: lr_W=3E-3",
        "baseline (n_neurons=100, seed=42, n_epochs=2)", "start values", "Starting point.",
        "unchanged", "defaults", "start", "config.yaml as it is", "lr_W=3E-3",
    ],
)  # fmt: skip
def test_the_start_itself(text):
    assert values(f"- Slot 0: {text}\n- Slot 1: lr_W=5E-4") == [{}, {"learning_rate_W_start": 5e-4}]


@pytest.mark.parametrize(
    "text", ["baseline with lr_W=5E-4", "baseline, but lr_W=5E-4", "start lr_W at half: lr_W=5E-4"]
)
def test_a_start_with_a_change_is_none(text):
    assert values(f"- Slot 0: {text}") == [{"learning_rate_W_start": 5e-4}]


@pytest.mark.parametrize("heading", ["### INITIAL SPREAD (4 slots)", "**Suggested initial spread:**"])
def test_heading_or_label(heading):
    assert values("- Slot 1: lr_W=5E-4", heading=heading) == [{"learning_rate_W_start": 5e-4}]
    assert values("#### Block 1\n\n- Slot 1: lr_W=5E-4", heading="## Initial spread") == [
        {"learning_rate_W_start": 5e-4}
    ]


def test_no_other_list_is_a_spread():
    assert values("- lr_W=5E-4\n\n### Later\n\n- time_step=4") == [{"learning_rate_W_start": 5e-4}]
    assert values("- Slot 0: lr_W=5E-4", heading="## Ideas") == []


def test_slots_are_ordered_and_count_from_0_or_1():
    rows = ["- Slot {}: baseline", "- Slot {}: lr_W=5E-4", "- Slot {}: time_step=4"]
    found = [{}, {"learning_rate_W_start": 5e-4}, {"time_step": 4}]
    for first in (0, 1):
        written = [row.format(i + first) for i, row in enumerate(rows)]
        assert values("\n".join(written)) == found
        assert values("\n".join(reversed(written))) == found


def test_items_without_numbers_stand_in_their_order():
    assert (
        values("1. baseline\n2. lr_W=5E-4")
        == values("- baseline\n- lr_W=5E-4")
        == [{}, {"learning_rate_W_start": 5e-4}]
    )


@pytest.mark.parametrize(("slots", "missing"), [("013", "slot 2;"), ("25", "slot 1, 3, 4;"), ("03", "slot 1, 2;")])
def test_a_missing_slot_is_told(slots, missing):
    rows = "\n".join(f"- Slot {n}: lr_W={n}.5E-3" for n in slots)
    compiled, said = only(rows, stops=False)
    assert missing in said.text and len(compiled.contract.spread) == len(slots)
    after = next(n for n in slots if int(n) > int(missing[5]))
    assert said.where == f"small.md:{line_of(document(rows), f'Slot {after}')}"


def test_a_slot_twice_stops():
    rows = "- Slot 1: lr_W=5E-4\n- Slot 2: time_step=4\n- Slot 1: lr_W=6E-4"
    _, said = only(rows, stops=True)
    assert said.where == f"small.md:{line_of(document(rows), '6E-4')}"
    assert f"slot 1 has a row in line {line_of(document(rows), '5E-4')}" in said.text


@pytest.mark.parametrize("second", ["lr_W=5E-4, batch_size=8", "learning_rate_W_start: 0.0005"])
def test_of_equal_rows_the_first_is_kept(second):
    rows = f"- Slot 0: lr_W=5E-4\n- Slot 1: {second}\n- Slot 2: time_step=4"
    compiled, said = only(rows, stops=False)
    assert short(compiled) == [{"learning_rate_W_start": 5e-4}, {"time_step": 4}]
    assert "slot 1: its values are those of slot 0" in said.text
    assert said.where == f"small.md:{line_of(document(rows), 'Slot 1')}"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("lr_W=5E-1", "range 1E-4 to 1E-2 (small.md:26)"),
        ("lr_W to 5E-1", "range 1E-4 to 1E-2"),
        ("lr_W=-1", "expected > 0 and <= 1"),
        ("batch_size=9", "allowed values are 8, 16, 32"),
        ("batch_size=16.0", "expected int, found 16.0"),
        ("batch_size=true", "expected int, found True"),
        ("batch_size=null", "expected int, found None"),
        ("recurrent_training=1", "expected bool, found 1"),
        ("recurrent_training=yes", "expected bool, found 'yes'"),
        ("widths=3", "expected list, found 3"),
        ("widths=wide", "expected list, found 'wide'"),
        ("loss=mae", "expected one of norm, mse"),
        ("lr_W=2x", "expected float, found '2x'"),
        ("lr_W=batch_size", "expected float"),
        ("lr_W=*a", "'*a' is not one value"),
        ("lr_W=2 x the start", "'2 x' is not one value"),
        ("lr_W=1E-3 or 2E-3", "'1E-3 or 2E-3' is not one value"),
        ("lr_W=1E-3 - 2E-3", "is not one value"),
        ("lr_W=1E-3 to 2E-3", "is not one value"),
        ("lr_W from 1E-3 to 2E-3 or so", "is not one value"),
        ("loss=mse or norm", "is not one value"),
        ("lr_W: 1E-3, or batch_size=16", "is not one value"),
        ("n_neurons=200", "simulation.n_neurons = 200: it is frozen"),
        ("graph_model.hidden_dim=32", "graph_model.hidden_dim = 32: it is frozen (not named free by the instruction)"),
        ("lr_W=1E-3, learning_rate_W_start=2E-3", "is 1E-3 and 2E-3; keep one"),
    ],
)
def test_a_value_that_breaks_the_rules_stops_with_its_line(said, told):
    rows = f"- Slot 0: baseline\n- Slot 1: {said}"
    compiled = build(rows)
    (found, *_) = compiled.stops
    assert told in found.text and "slot 1: " in found.text
    assert found.where == f"small.md:{line_of(document(rows), 'Slot 1')}"


def test_the_line_is_that_of_the_value():
    rows = "- Slot 1: faster\n  - time_step=4\n  - lr_W=5"
    (found,) = build(rows).stops
    assert found.where == f"small.md:{line_of(document(rows), 'lr_W=5')}"


def test_exploration_yaml_settles_it():
    assert build("- Slot 1: lr_W=2E-2").stops and build("- Slot 1: hidden_dim=32").stops
    assert values("- Slot 1: lr_W=2E-2", exploration=EXPLORATION + "settle: {lr_W: {range: [1e-4, 1e-1]}}\n")
    settled = EXPLORATION + "settle: {graph_model.hidden_dim: {level: free}}\n"
    assert values("- Slot 1: hidden_dim=32", exploration=settled) == [{"graph_model.hidden_dim": 32}]


def test_user_instructions_free_it():
    rows = "- Slot 1: hidden_dim=32\n\n## User instructions\n\n- set hidden_dim = 32"
    assert short(build(rows)) == [{"graph_model.hidden_dim": 32}]


def test_a_block_level_key_is_not_free():
    compiled = build("- Slot 1: batch_size=16", exploration=EXPLORATION + "settle: {batch_size: {level: block}}\n")
    assert "it is block (" in compiled.stops[0].text


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("seed=43", "training.seed = 43 is left out: a seed belongs to a run"),
        ("data_augmentation_loop=100", "set data_augmentation_loop under `claude:`"),
        ("claude.ucb_c=2", "set ucb_c under `claude:`"),
        ("speed=3", "speed=3: not supported by the trainer: left out"),
        ("coeff_Q_L1 (0.1 instead of 1.0)", "coeff_Q_L1=0.1: not supported by the trainer: left out (nearest:"),
    ],
)
def test_what_is_left_out_is_told(said, told):
    compiled, found = only(f"- Slot 1: {said}, lr_W=5E-4", stops=False)
    assert told in found.text and short(compiled) == [{"learning_rate_W_start": 5e-4}]
    alone = build(f"- Slot 0: baseline\n- Slot 1: {said}")
    assert short(alone) == [{}]
    assert [told in p.text for p in alone.problems] == [True, False]
    assert "nothing of it can be run" in alone.problems[1].text


@pytest.mark.parametrize("text", ["something bold", "", "double lr_W", "note: 3", "lr_W: higher to kick it", "lr_W up"])
def test_a_row_without_a_value_is_prose(text):
    rows = f"- Slot 0: baseline\n- Slot 1: {text}"
    compiled, said = only(rows, stops=False)
    assert short(compiled) == [{}]
    assert "slot 1: no value of a key was read" in said.text
    assert said.where == f"small.md:{line_of(document(rows), 'Slot 1')}"


@pytest.mark.parametrize(
    "text",
    ["Slot 1-3: lr_W=5E-4", "Slot 12-13: lr_W=5E-4", "Slots 1: lr_W=5E-4", "Slot 1, 2: lr_W=5E-4", "each in turn"],
)
def test_a_row_of_no_slot_is_told(text):
    compiled, said = only(f"- Slot 0: baseline\n- {text}", stops=False)
    assert short(compiled) == [{}] and "names no slot" in said.text


def test_a_section_of_prose_is_listed_as_such():
    compiled = build("- spread them\n- be bold")
    assert compiled.contract.spread == ()
    assert compiled.contract.unmapped_sections == ("Suggested initial spread",)
    assert build("Spread them.").problems == ()


@pytest.mark.parametrize(
    "text", ["time_step=4, double lr_W", "baseline, learning_rate_W_start doubled", "lr_W: more, L1=1"]
)
def test_a_key_without_a_value_is_told(text):
    _, said = only(f"- Slot 1: {text}", stops=False)
    assert "is named without a value; it stays at its start" in said.text


@pytest.mark.parametrize(
    ("said", "told", "found"),
    [
        ("baseline (lr_W=5E-3)", "starts at 5E-3 here and at 3E-3 in config.yaml:4", {"learning_rate_W_start": 5e-3}),
        ("lr_W (5E-4 instead of 1E-3)", "starts at 1E-3 here and at 3E-3", {"learning_rate_W_start": 5e-4}),
        ("lr_W (3E-3 instead of 1E-3)", "starts at 1E-3 here and at 3E-3", {}),
        ("lr_W=5E-4 rather than 1E-3", "starts at 1E-3 here and at 3E-3", {"learning_rate_W_start": 5e-4}),
        ("lr_W from 1E-3 to 5E-4", "starts at 1E-3 here and at 3E-3", {"learning_rate_W_start": 5e-4}),
        ("lr_W 1E-3 -> 5E-4", "starts at 1E-3 here and at 3E-3", {"learning_rate_W_start": 5e-4}),
        ("widths=[8] (was [16])", "starts at [16] here and at [64, 64]", {"widths": [8]}),
    ],
)
def test_a_spread_for_another_start_is_told(said, told, found):
    compiled, problem = only(f"- Slot 0: {said}", stops=False)
    assert told in problem.text and "written for another start" in problem.text
    assert short(compiled) == [found]


def test_words_that_are_no_change():
    text = "time_step=4, for a lower loss and seed; lr later, test_R2=0.9 or R2=1 expected, connectivity_R2 to 1"
    compiled, said = only(f"- Slot 1: {text}", stops=False)
    assert said.text.endswith("R2=1: not supported by the trainer: left out")
    assert short(compiled) == [{"time_step": 4}]


def test_front_matter_names():
    front = "---\nnames: {speed: lr_W}\n---\n"
    assert values("- Slot 1: speed (5E-4 instead of 3E-3)", front=front) == [{"learning_rate_W_start": 5e-4}]


ALLOWED = {
    "lr_W": st.sampled_from(["1E-4", "5e-4", "0.002", "1E-2"]),
    "batch_size": st.sampled_from(["16", "32"]),
    "time_step": st.sampled_from(["4", "16"]),
    "recurrent_training": st.just("true"),
    "coeff_W_L1": st.sampled_from(["0", "0.1", "1.0"]),
}
FORMS = ["{n}={v}", "{n} = {v}", "`{n}={v}`", "**{n}**: {v}", "{n}: `{v}`", "change {n} to {v}"]


@given(st.data())
def test_any_form_gives_the_same_values(data):
    chosen = data.draw(st.dictionaries(st.sampled_from(sorted(ALLOWED)), st.none(), min_size=1))
    said = {name: data.draw(ALLOWED[name]) for name in chosen}
    parts = [data.draw(st.sampled_from(FORMS)).format(n=n, v=v) for n, v in said.items()]
    joint = data.draw(st.sampled_from([", ", "; ", " and ", " (a guess), "]))
    label = data.draw(st.sampled_from(["Slot 1: ", "**Slot 1**: try ", "slot 1 - ", ""]))
    plain_form = values("- Slot 1: " + ", ".join(f"{n}={v}" for n, v in said.items()))
    assert values(f"- {label}{joint.join(parts)}.") == plain_form
    assert len(plain_form[0]) == len(said)


@given(st.text(st.sampled_from("lr_W=:5E-4 ()[]>,.or01slot \n-*`'\"%&@!{}x"), max_size=60))
def test_any_text_is_read_or_told(text):
    compiled = build(f"- Slot 1: {text}")
    assert compiled.problems or compiled.contract.spread or not text.strip()


def test_lint_prints_the_spread():
    rows = "- Slot 0: baseline\n- Slot 1: lr_W=5E-4, widths=[8]\n- Slot 2: bold"
    text = document(rows)
    spec = read_exploration(yaml_edit.load(EXPLORATION, "e"))
    report = lint_report(
        read(text), "small", read_schema(KNOWN, "signal"), spec, yaml_edit.read(OWN, "config.yaml"), "cpu"
    )
    at = line_of(text, "Slot 0")
    assert report.ok
    assert (
        f"Initial spread (2), in the order of the slots\n  the start  [small.md:{at}]\n"
        f"  training.learning_rate_W_start = 5E-4, training.widths = [8]  [small.md:{at + 1}]\n"
    ) in report.text
    assert f"small.md:{at + 2}: initial spread, slot 2: no value of a key was read" in report.text
    alone = lint_report(read(text)).text
    assert f"Initial spread (2)\n  slot 0: the start  [line {at}]\n  slot 1: lr_W = 5E-4, widths = [8]  [" in alone
