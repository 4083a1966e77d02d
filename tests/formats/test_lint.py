from pathlib import Path

import pytest

from orchestrator.core.exploration import read_exploration
from orchestrator.formats import yaml_edit
from orchestrator.formats.contradictions import contradictions
from orchestrator.formats.instruction import read_instruction
from orchestrator.formats.lint import lint_report
from tests.formats.samples import CONFIG, EXPLORATION, INSTRUCTION, read, schema

GOLDEN = Path(__file__).parents[1] / "golden" / "instructions"


def report(text=INSTRUCTION, config=CONFIG, exploration=EXPLORATION):
    spec = read_exploration(yaml_edit.load(exploration, "e"))
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
    assert [(int(p.where.rpartition(":")[2]), p.text.partition(";")[0]) for p in contradictions(draft)] == [
        (13, "user instructions ask for n_neurons = 200, which line 9 freezes"),
        (13, "user instructions ask for low_rank = 20, which line 9 freezes"),
        (239, "seed stands under `training:` here and as a key of `simulation:` in line 233"),
        (311, "W is N(0, 1/√n) here and N(0, 1/n) in line 18"),
        (203, "strategy recombine merges several keys, line 248 allows one change an iteration"),
    ]


@pytest.mark.parametrize(
    ("wish", "found"), [("n_neurons = 200 rank = 3.", 2), ("set hidden_dim = 32", 0), ("connectivity_R2 = 0.9", 0)]
)
def test_wishes_of_a_file_alone(wish, found):
    text = INSTRUCTION.replace("Recover W.", "Recover W (n_neurons=100).") + f"\n## User instructions\n\n- {wish}\n"
    assert len(contradictions(read(text))) == found
    assert contradictions(read(text), compiled=True) == ()


def test_contradictions_of_metabolism_stoichiometry():
    draft = read_instruction((GOLDEN / "metabolism_stoichiometry.md").read_text(encoding="utf-8"), "m.md")
    assert [(int(p.where.rpartition(":")[2]), p.text) for p in contradictions(draft)] == [
        (108, "the term of coeff_mass_conservation is a mean here and a sum in line 46"),
        (184, "MLP([2, hidden_dim, output_size]) has 2 layers, and n_layers is 3 in line 182"),
        (184, "MLP([output_size, hidden_dim, 1]) has 2 layers, and n_layers is 3 in line 182"),
    ]
    (said,) = [p for p in draft.problems if p.key == "time_step"]
    assert (said.where, said.text) == ("m.md:145", "time_step: 1, 4, 8, 16 here and 1.0 to 10.0 in line 126")


@pytest.mark.parametrize(
    ("name", "lines"), [("recurrent_gnn", [131]), ("metabolism_homeostasis", []), ("cell_inr", [])]
)
def test_contradictions_of_the_others(name, lines):
    draft = read_instruction((GOLDEN / f"{name}.md").read_text(encoding="utf-8"), name)
    assert [int(p.where.rpartition(":")[2]) for p in contradictions(draft)] == lines


def test_our_instruction_has_no_contradiction():
    path = GOLDEN.parents[2] / "instructions" / "sparse_gnn.md"
    assert contradictions(read_instruction(path.read_text(encoding="utf-8"), path.name), compiled=True) == ()


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ("L = coeff_W_L1 * mean(|W|)", ["the term of coeff_W_L1 is a mean here and a sum in line 41"]),
        ("L = coeff_W_L1 * sum_j |W_j|", []),
        ("L = coeff_edge_diff * mean(d)", []),
        ("`MLP([3, 64, 64, 1])` for both", ["MLP([3, 64, 64, 1]) has 3 layers, and n_layers is 2 in line 45"]),
        ("`MLP([3, 64, 1])` for both", []),
    ],
)
def test_what_two_statements_say(added, said):
    text = f"{INSTRUCTION}\nL = coeff_W_L1 * sum(|W|)\n\n```yaml\ngraph_model:\n  n_layers: 2\n```\n\n{added}\n"
    assert [p.text for p in contradictions(read(text))] == said


MORE = """
## User instructions

- use n_neurons=200
- use n_neurons=300
- set hidden_dim = 32
- think twice

## More

The degeneracy gap is `test_R2 - connectivity_R2`.

| test_R2 | Gap | Diagnosis |
|---|---|---|
| > 0.9 | < 0.1 | Healthy |

| Condition | Strategy | Action |
|---|---|---|
| 3+ consecutive R2 >= 0.9 | **failure-probe** | Extreme |

| File | Permission |
|---|---|
| `models/mlp.py` | can modify |
| `models/signal.py` | only `forward` |

Look at `plots/loss.png`.
"""


def test_report_of_everything_else():
    extra = "regimes: [{name: a}, {name: b, simulation: {n_neurons: 200}}]\ncompare: n_neurons\n"
    text = report(INSTRUCTION + MORE, exploration=EXPLORATION + extra).text
    for part in (
        "failure-probe: 3+ consecutive R2 >= 0.9",
        "Degeneracy gap = test_R2 - connectivity_R2, no evidence above 0.3  [small.md:50]",
        "test_R2 > 0.9 and degeneracy_gap < 0.1: Healthy  [small.md:54]",
        "models/mlp.py, whole  [small.md:62]",
        "models/signal.py::forward  [small.md:63]",
        "Figures (1): plots/loss.png",
        "Regimes (2), compared in simulation.n_neurons",
        "  b: simulation.n_neurons = 200",
        "  use n_neurons=200  [small.md:43]\n    -> regimes b\n",
        "  use n_neurons=300  [small.md:44]\n    -> NOT DECLARED n_neurons=300\n",
        "  set hidden_dim = 32  [small.md:45]\n    -> changes the rule of graph_model.hidden_dim\n",
        "  think twice  [small.md:46]\n    -> prose for the scientist\n",
    ):
        assert part in text, part
    assert "n_neurons = 200, which line" not in text
    alone = lint_report(read(INSTRUCTION + MORE)).text
    assert "test_R2 > 0.9, Gap < 0.1: Healthy  [line 54]" in alone
    assert "test_R2 - connectivity_R2  [line 50]" in alone


@pytest.mark.parametrize("name", sorted(p.stem for p in GOLDEN.glob("*.md")))
def test_every_seed_gives_a_report(name):
    draft = read_instruction((GOLDEN / f"{name}.md").read_text(encoding="utf-8"), name)
    found = lint_report(draft)
    assert found.ok == (name in ("sparse_gnn", "cell_inr"))
    assert all(p.text in found.text for p in draft.problems)
