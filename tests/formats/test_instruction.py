from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import InstructionError
from orchestrator.formats.instruction import read_instruction
from tests.formats.samples import INSTRUCTION, build, line_of, read
from tests.golden.update import DOCUMENTS, path_of, snapshot

GOLDEN = Path(__file__).parents[1] / "golden" / "instructions"
OURS = Path(__file__).parents[2] / "instructions"


def golden(name):
    return read_instruction((GOLDEN / f"{name}.md").read_text(encoding="utf-8"), f"{name}.md")


def levels(draft):
    return {level: [k for k in draft.keys if k.level == level] for level in ("free", "block", "frozen", None)}


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_a_document_is_read_as_its_snapshot(name):
    """Reviewed by eye against the text; review it again after a wanted change."""
    stored = path_of(name).read_text(encoding="utf-8")
    assert snapshot(name) == stored, "wanted? then run `.venv/bin/python -m tests.golden.update` and review the diff"


def test_sparse_gnn_counts():
    draft = golden("sparse_gnn")
    assert [len(levels(draft)[x]) for x in ("free", "block", "frozen", None)] == [14, 0, 0, 0]
    assert {k.section for k in draft.keys} == {"training"}
    assert (len(draft.claude), len(draft.files), len(draft.metrics), len(draft.strategies)) == (4, 4, 9, 22)
    assert [m.name for m in draft.metrics if m.role == "primary"] == ["connectivity_R2"]
    assert (draft.memory_cap, draft.principle_support, draft.max_changes) == ((500, 82), (3, 420), (1, 248))
    assert not any(p.stops for p in draft.problems)


def test_recurrent_gnn_counts():
    draft = golden("recurrent_gnn")
    assert [len(levels(draft)[x]) for x in ("free", "block", "frozen", None)] == [8, 9, 4, 0]
    assert (len(draft.strategies), len(draft.files), len(draft.metrics)) == (8, 4, 8)
    assert [e.text for e in draft.exempt] == ["data_augmentation_loop"]
    assert [(p.where, p.key) for p in draft.problems] == [("recurrent_gnn.md:171", "batch_size")]


def test_metabolism_homeostasis_counts():
    draft = golden("metabolism_homeostasis")
    found = levels(draft)
    assert [len(found[x]) for x in ("free", "block", "frozen", None)] == [20, 0, 5, 0]
    assert [k.default for k in found["frozen"]] == [True, 0.0, 0.0, 0.0, 0.0]
    assert (len(draft.metrics), len(draft.strategies), len(draft.figures), draft.memory_cap) == (13, 6, 5, (300, 305))
    assert draft.starts == ()
    assert [(r.slot, r.line, r.start, {c.name: c.value for c in r.changes}) for r in draft.spread] == [
        (0, 320, True, {"lr_k": 5e-3, "lr_embedding": 1e-4, "lr_node": 1e-4, "lr_sub": 5e-3}),
        (1, 321, False, {"lr_node": 5e-4}),
        (2, 322, False, {"coeff_MLP_node_L1": 0.1}),
        (3, 323, False, {"recurrent_training": True, "time_step": 4, "lr_k": 2e-3}),
    ]  # fmt: skip
    assert [p.where for p in draft.problems if p.stops] == [
        "metabolism_homeostasis.md:167", "metabolism_homeostasis.md:168"
    ]  # fmt: skip


def test_metabolism_stoichiometry_counts():
    draft = golden("metabolism_stoichiometry")
    assert [len(levels(draft)[x]) for x in ("free", "block", "frozen", None)] == [19, 0, 0, 0]
    assert {k.name for k in draft.keys if k.section == "graph_model"} == {"hidden_dim", "output_size", "n_layers"}
    assert len(draft.metrics) == 6
    assert len(draft.order) == 4
    stops = {p.key: p for p in draft.problems if p.stops}
    assert set(stops) == {"time_step", "primary"}
    assert stops["time_step"].where.endswith(":145") and "line 126" in stops["time_step"].text


def test_cell_inr_counts():
    draft = golden("cell_inr")
    assert [len(levels(draft)[x]) for x in ("free", "block", "frozen", None)] == [8, 0, 3, 0]
    assert (len(draft.classes), len(draft.strategies), draft.max_changes) == (4, 3, (2, 102))
    assert [len(c.alternatives) for c in draft.classes] == [1, 1, 1, 2]
    assert [(m.name, m.role, m.direction) for m in draft.metrics] == [
        ("final_r2", "primary", "max"), ("final_mse", "secondary", "min"),
        ("slope", "secondary", "target"), ("training_time_min", "secondary", "min"),
    ]  # fmt: skip
    assert not draft.problems


@pytest.mark.parametrize("name", sorted(p.stem for p in GOLDEN.glob("*.md")))
def test_line_ends_do_not_matter(name):
    text = (GOLDEN / f"{name}.md").read_text(encoding="utf-8")
    assert read_instruction(text.replace("\n", "\r\n"), name) == read_instruction(text, name)
    assert read_instruction("\ufeff" + text, name) == read_instruction(text, name)


@pytest.mark.parametrize("name", ["sparse_gnn", "TEMPLATE"])
def test_our_instructions_have_no_problem(name):
    draft = read_instruction((OURS / f"{name}.md").read_text(encoding="utf-8"), name)
    assert draft.problems == ()
    assert draft.unmapped == ()


@pytest.mark.parametrize(("text", "message"), [("", "empty"), (" \n\n", "empty"), ("just text\n", "no heading")])
def test_nothing_to_read(text, message):
    with pytest.raises(InstructionError, match=message):
        read(text)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("range: 1E-4 to 1E-2", "range: small to large", "learning_rate_W_start"),
        ("range: 1E-4 to 1E-2", "range: 1E-4 to", "learning_rate_W_start"),
        ("range: 1E-4 to 1E-2", "range: 1E-2 to 1E-4", "learning_rate_W_start"),
        ("range: 1E-4 to 1E-2", "range: 1E-4 to 1E999", "learning_rate_W_start"),
        ("range: 1E-4 to 1E-2", "range: 1E-4 to 1E-2 or so", "learning_rate_W_start"),
        ("range: 1E-4 to 1E-2", "range 1E-4 to 1E-2x", "learning_rate_W_start"),
        ("values: 8, 16, 32", "values: a few", "batch_size"),
        ("values: 8, 16, 32", "FROZEN?", "batch_size"),
        ("values: 8, 16, 32", "do not change", "batch_size"),
        ("- **Partial**: connectivity_R2 0.1-0.9", "- **Partial**: good but not great", "classes"),
        ("- **Partial**: connectivity_R2 0.1-0.9", "- something in between", "classes"),
        ("- **Failed**: connectivity_R2 < 0.1", "- **Failed**: connectivity_R2 0.1-0.0", "classes"),
    ],
)
def test_what_cannot_be_read_stops_with_its_line(old, new, key):
    text = INSTRUCTION.replace(old, new)
    stops = [p for p in read(text).problems if p.stops]
    assert [(p.where, p.key) for p in stops] == [(f"small.md:{line_of(text, new)}", key)]


def test_frozen_and_free_stops():
    text = INSTRUCTION.replace("**DO NOT change `simulation:` parameters.**", "**DO NOT change `batch_size`.**")
    (problem,) = read(text).problems
    assert problem.key == "batch_size"
    assert f"frozen in line {line_of(text, 'DO NOT')}" in problem.text


def test_free_section_frozen_elsewhere_stops_for_each_key():
    text = INSTRUCTION.replace("`simulation:` parameters", "`training:` parameters except `batch_size`")
    assert [p.key for p in read(text).problems] == ["learning_rate_W_start", "training_single_type"]


def test_unsure_heading_stops():
    text = INSTRUCTION.replace("## Training parameters (the exploration space)", "## Training parameters (frozen?)")
    assert any(p.stops and p.where == f"small.md:{line_of(text, 'frozen?')}" for p in read(text).problems)


def test_yaml_error_in_a_fence_has_the_documents_line():
    text = INSTRUCTION.replace("  batch_size: 8", "\tbatch_size: 8")
    (problem,) = [p for p in read(text).problems if p.stops]
    assert problem.where == f"small.md:{line_of(text, 'batch_size: 8')}"
    assert "tabs" in problem.text


def test_fence_without_a_language_is_read_as_yaml():
    assert read(INSTRUCTION.replace("```yaml", "```")).keys == read().keys


def test_missing_primary_metric_stops_when_the_classes_judge_two():
    text = INSTRUCTION.replace("Primary metric: `connectivity_R2`", "Watch `connectivity_R2`")
    assert [p.stops for p in read(text).problems] == [False]
    two = text.replace("- **Partial**: connectivity_R2 0.1-0.9", "- **Partial**: test_R2 > 0.5")
    (problem,) = read(two).problems
    assert problem.stops and problem.key == "primary"


def test_two_primary_metrics_stop():
    text = INSTRUCTION.replace("Recover W.", "Recover W.\n\nPrimary target: `test_R2`")
    assert [p.key for p in read(text).problems if p.stops] == ["primary"]


def test_primary_named_before_the_word():
    text = INSTRUCTION.replace("Primary metric: `connectivity_R2`", "Here `test_R2` is the primary metric")
    assert [m.name for m in read(text).metrics if m.role == "primary"] == ["test_R2"]


def test_primary_without_backticks():
    text = INSTRUCTION.replace("Primary metric: `connectivity_R2`", "Primary metric: connectivity_R2")
    assert [m.name for m in read(text).metrics if m.role == "primary"] == ["connectivity_R2"]


def test_front_matter_keeps_line_numbers():
    front = "---\nnames: {speed: lr_W}\nprose: [Notes]\n---\n"
    text = front + INSTRUCTION + "\n## Notes\n\nWords.\n\n## More\n\nWords.\n"
    draft = read(text)
    assert draft.front.names == {"speed": "lr_W"}
    assert draft.keys[0].line == line_of(text, "learning_rate_W_start:")
    assert [u.text for u in draft.unmapped] == ["More"]


@pytest.mark.parametrize(
    ("front", "message"),
    [
        ("---\nnames: {}\n", "not closed"),
        ("---\nnames: [1\n---\n", "not valid YAML"),
        ("---\nnmaes: {}\n---\n", "nmaes.*fields: names, code, prose"),
    ],
)
def test_bad_front_matter(front, message):
    with pytest.raises(InstructionError, match=message):
        read(front + INSTRUCTION)


def test_levels_by_comment_inside_a_fence():
    text = INSTRUCTION.replace(
        "  batch_size: 8 # values: 8, 16, 32", "  # Block-level keys\n  batch_size: 8\n\n  # FIXED\n  loss: norm\n"
    )
    found = {k.name: k.level for k in read(text).keys}
    assert found["learning_rate_W_start"] == "free"
    assert (found["batch_size"], found["loss"]) == ("block", "frozen")


def test_a_list_item_may_state_a_range():
    text = INSTRUCTION.replace("Mutate ONE", "- `coeff_W_L1`: sparsity. Range: 1E-7 to 1E-3\n\nMutate ONE")
    (found,) = [k for k in read(text).keys if k.name == "coeff_W_L1"]
    assert (found.level, found.low, found.high) == ("free", 1e-7, 1e-3)
    bad = text.replace("1E-7 to 1E-3", "tiny")
    assert [p.where for p in read(bad).problems] == [f"small.md:{line_of(bad, 'tiny')}"]


def test_a_frozen_group_may_be_named_training_parameters():
    text = INSTRUCTION.replace("(the exploration space)", "(FROZEN)")
    assert {k.level for k in read(text).keys} == {"frozen"}
    assert not any(p.stops for p in read(text).problems)


pieces = st.sampled_from(
    ["|", "`", "**", "#", "\n", "\t", "---\n", "```\n", "- ", ": ", ">", "to", "1e999", "\x00", "?", "="]
)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, len(INSTRUCTION)), pieces | st.text(max_size=5)), max_size=8), st.data())
def test_any_text_is_read_or_refused(insertions, data):
    text = INSTRUCTION
    for at, piece in insertions:
        text = text[:at] + piece + text[at + data.draw(st.integers(0, 20)) :]
    try:
        build(instruction=text)
    except InstructionError as error:
        assert str(error)
