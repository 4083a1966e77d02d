"""Mutation magnitudes: what an instruction lists, which keys take it, and what is told of the rest."""

import pytest

from orchestrator.core.contract import Contract
from orchestrator.core.mutation import steps_text
from orchestrator.formats.instruction import read_instruction
from orchestrator.formats.lint import lint
from tests.formats.samples import CONFIG, INSTRUCTION, build, line_of, read
from tests.formats.test_golden import ROOT, of_own_trainer, ours
from tests.golden.update import DOCUMENTS

INR = """\
inr:
  omega_inr: 10.0
  inr_learning_rate: 1.0E-4
  hidden_dim_inr: 384
  n_layers_inr: 3
  inr_total_steps: 500000
  inr_batch_size: 8
  inr_xy_period: 1.0
  inr_t_period: 1.0
"""
MORE = INSTRUCTION.replace("batch_size: 8 # values: 8, 16, 32", "batch_size: 8 # range: 1 to 64").replace(
    "  training_single_type: True # can try False",
    "  learning_rate_start: 1.0E-4 # range: 1E-5 to 1E-3\n  training_single_type: True # can try False",
)


def text(*items, title="**Mutation magnitude:**", base=MORE):
    return f"{base}\n## Mutations\n\n{title}\n\n" + "".join(f"- {item}\n" for item in items)


def compiled(*items, **kwargs):
    return build(text(*items, **kwargs), CONFIG)


def steps(found):
    return {k.key.partition(".")[2]: steps_text(k.steps) for k in found.contract.keys if k.steps}


def told(found):
    return [(int(p.where.rpartition(":")[2]), p.text) for p in found.problems if "magnitude" in p.text]


def test_the_seed_document_gives_each_key_its_steps():
    found = of_own_trainer("cell_inr", INR)
    assert steps(found) == {
        "omega_inr": "+5 or -5", "inr_learning_rate": "x2 or /2", "hidden_dim_inr": "+128 or -128",
        "inr_total_steps": "x1.5 or x2", "inr_batch_size": "x2 or /2",
    }  # fmt: skip
    assert told(found) == []
    of_steps = found.contract.key("inr.inr_total_steps").steps
    assert [(s.op, s.value) for s in of_steps] == [("*", 1.5), ("*", 2.0)]
    assert [(s.op, s.value) for s in found.contract.key("hidden_dim_inr").steps] == [("+", 128.0), ("+", -128.0)]


def test_lint_names_the_steps():
    found = of_own_trainer("cell_inr", INR)
    draft = read_instruction(DOCUMENTS["cell_inr"].read_text(encoding="utf-8"), "cell_inr.md")
    shown = lint(draft, found.contract, found.problems)
    assert "= 384, 128 to 1024, steps +128 or -128  [cell_inr.md:64]" in shown
    assert "= 3, 2 to 5  [cell_inr.md:65]" in shown
    assert "Mutation magnitudes (5)\n  Learning rates: x2 or /2  [line 115]" in lint(draft, None, ())


@pytest.mark.parametrize("name", [n for n in DOCUMENTS if n != "cell_inr"])
def test_other_documents_list_none(name):
    assert read_instruction(DOCUMENTS[name].read_text(encoding="utf-8"), name).magnitudes == ()


def test_a_contract_without_steps_is_read_from_before_there_were_any():
    contract = ours(ROOT / "instructions" / "TEMPLATE.md").contract
    assert not any(k.steps for k in contract.keys)
    before = contract.model_dump(mode="json")
    for key in before["keys"]:
        del key["steps"]
    assert Contract.model_validate(before) == contract


@pytest.mark.parametrize(
    ("spelled", "shown"),
    [
        ("x2 or /2", "x2 or /2"), ("×2, ÷2", "x2 or /2"), ("*2 or /2", "x2 or /2"), ("/10", "/10"),
        ("`x2` / `/2`", "x2 or /2"), ("2x and x 0.7", "x2 or x0.7"), ("×/÷3", "x3 or /3"), ("x2 or x2", "x2"),
        ("X1.5 OR x2.", "x1.5 or x2"), ("x2 or x0.5", "x2 or /2"),
        ("+128 or -128", "+128 or -128"), ("+/-128", "+128 or -128"), ("±128", "+128 or -128"),
        ("+ 1E-4; −1E-4", "+1E-4 or -1E-4"), ("+-5 (whole numbers)", "+5 or -5"),
    ],
)  # fmt: skip
def test_spellings(spelled, shown):
    assert steps(compiled(f"**lr_W**: {spelled}")) == {"learning_rate_W_start": shown}


@pytest.mark.parametrize(
    ("spelled", "part"),
    [
        ("x2 or so", "so"), ("a little", "a little"), ("+10%", "+10%"), ("x1.5-2", "x1.5-2"), ("x1", "x1"),
        ("/0", "/0"), ("+0", "+0"), ("x-2", "x-2"), ("x1E999", "x1E999"), ("+100,000", "000"), ("2", "2"), ("", ""),
    ],
)  # fmt: skip
def test_a_step_that_cannot_be_read_is_told_with_its_line(spelled, part):
    item = f"lr_W: {spelled}".rstrip()
    found = compiled("batch_size: x2", item)
    assert steps(found) == {"batch_size": "x2"}
    ((line, said),) = told(found)
    assert line == line_of(text("batch_size: x2", item), f"- {item}")
    assert said.startswith(f"mutation magnitude: {part!r} in ") and "write `- learning rates: x2 or /2`" in said


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ("Wishes: x2 or /2", "'Wishes' names no key and no group of keys (learning rates, network size, "),
        ("batch_sizze: x2", "'batch_sizze' names no key and no group of keys"),
        ("Layers: +1 or -1", "no free key is one of the layers"),
        ("Network width: +8", "no free key is one of the network size"),
        ("coeff_W_L1: x10", "training.coeff_W_L1 is frozen (not named free by the instruction)"),
        ("n_neurons: x2", "simulation.n_neurons is frozen (small.md:"),
        ("training_single_type: x2", "training.training_single_type moves along its list of values"),
        ("n_iter_block: +1", "claude.n_iter_block is no key that changes"),
        (": x2", "mutation magnitude: ': x2' names no key, so the line is not used"),
        ("x2 or /2", "mutation magnitude: 'x2 or /2' names no key, so the line is not used"),
    ],
)  # fmt: skip
def test_a_label_that_no_key_can_use_is_told_with_its_line(item, expected):
    found = compiled(item)
    assert steps(found) == {} and found.stops == ()
    ((line, said),) = told(found)
    assert expected in said and line == line_of(text(item), f"- {item}")


def test_a_misspelled_label_is_told_with_the_nearest_key():
    assert told(compiled("batch_sizze: x2"))[0][1].endswith("; nearest: training.batch_size")


@pytest.mark.parametrize(
    ("label", "keys"),
    [
        ("Learning rate", ["learning_rate_W_start", "learning_rate_start"]),
        ("All learning rates", ["learning_rate_W_start", "learning_rate_start"]),
        ("lr", ["learning_rate_start"]),
        ("training.batch_size", ["batch_size"]),
        ("Batch size (frames)", ["batch_size"]),
        ("lr_W and batch size", ["learning_rate_W_start", "batch_size"]),
        ("learning rates, batch_size", ["learning_rate_W_start", "batch_size", "learning_rate_start"]),
    ],
)
def test_what_a_label_names(label, keys):
    found = compiled(f"{label}: x2 or /2")
    assert sorted(steps(found)) == sorted(keys) and told(found) == []


def test_the_line_of_a_key_goes_before_that_of_its_group():
    for items in (["Learning rates: x2", "lr_W: x3"], ["lr_W: x3", "Learning rates: x2"]):
        found = compiled(*items)
        assert steps(found) == {"learning_rate_W_start": "x3", "learning_rate_start": "x2"} and told(found) == []


def test_of_two_lines_of_one_key_the_first_is_used_and_told():
    found = compiled("lr_W: x3", "learning_rate_W_start: x2")
    assert steps(found) == {"learning_rate_W_start": "x3"}
    ((line, said),) = told(found)
    first = line_of(text("lr_W: x3"), "- lr_W")
    assert line == first + 1 and f"line {first} gives other steps of training.learning_rate_W_start" in said


@pytest.mark.parametrize("title", ["### Mutation magnitude", "### Mutation magnitudes", "**Mutation magnitude(s):**"])
def test_titles(title):
    assert steps(compiled("lr_W: x2", title=title)) == {"learning_rate_W_start": "x2"}


def test_a_list_of_values_keeps_its_own_steps():
    found = compiled("Batch size: x2 or /2", base=INSTRUCTION)
    assert steps(found) == {}
    assert "training.batch_size moves along its list of values, so these steps are not used" in told(found)[0][1]


def test_schedules_are_no_learning_rates_and_the_free_budget_belongs_to_the_training_steps():
    extra = "\n## Mutation magnitudes\n\n- Learning rates: x2 or /2\n- Training steps: x1.5\n"
    found = ours(ROOT / "instructions" / "recurrent_gnn.md", name="recurrent_gnn", extra=extra)
    assert {k.key for k in found.contract.keys if "lr_scheduler" in k.key and k.level == "free"}
    assert steps(found) == {
        "learning_rate_W_start": "x2 or /2", "learning_rate_start": "x2 or /2",
        "learning_rate_embedding_start": "x2 or /2", "data_augmentation_loop": "x1.5",
    }  # fmt: skip


def test_the_front_matter_maps_a_label():
    found = build("---\nnames: {Sparsity: lr_W}\n---\n" + text("Sparsity: x10 or /10"), CONFIG)
    assert steps(found) == {"learning_rate_W_start": "x10 or /10"}


def test_the_list_is_no_prose():
    assert "Mutations" not in [u.text for u in read(text("lr_W: x2")).unmapped]
