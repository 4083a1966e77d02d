"""What the documents in the repository compile to: counts checked by hand against their text."""

import json
from pathlib import Path

import pytest

from orchestrator.core.exploration import read_exploration
from orchestrator.core.schema import read_schema
from orchestrator.formats import yaml_edit
from orchestrator.formats.compile import compile_all
from orchestrator.formats.instruction import read_instruction
from orchestrator.formats.lint import lint
from orchestrator.formats.own_schema import own_schema

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "instructions"
BUDGET = "claude: {n_epochs: 2, data_augmentation_loop: 40, n_iter_block: 12, ucb_c: 1.414}\n"
SPARSE = """\
training:
  learning_rate_W_start: 3.0E-3
  learning_rate_start: 1.0E-4
  learning_rate_embedding_start: 2.5E-4
  coeff_W_L1: 1.0E-5
  coeff_edge_diff: 10000
  batch_size: 8
"""
REGIMES = """\
regimes:
  - {name: n100}
  - {name: n200, simulation: {n_neurons: 200}}
  - {name: low200, simulation: {n_neurons: 200, connectivity_type: low_rank, connectivity_rank: 20}}
compare: n_neurons
"""


def ours(instruction, profile="cpu", name="sparse_gnn", extra=""):
    folder = ROOT / "explorations" / name
    spec = read_exploration(yaml_edit.load((folder / "exploration.yaml").read_text(), "exploration.yaml"))
    config = yaml_edit.read((folder / "config.yaml").read_text(), "config.yaml")
    known = read_schema(json.loads((ROOT / "trainers" / "schema.json").read_text()), spec.system)
    draft = read_instruction(instruction.read_text(encoding="utf-8") + extra, str(instruction.relative_to(ROOT)))
    return compile_all(name, draft, known, spec, config, profile)


def test_sparse_gnn_compiles_without_a_word():
    compiled = ours(ROOT / "instructions" / "sparse_gnn.md")
    assert [p.text for p in compiled.problems if "the short horizon is used" not in p.text] == []
    found = compiled.contract
    free = [k.key for k in found.keys if k.level == "free"]
    assert free[:13] == [
        f"training.{name}"
        for name in (
            "learning_rate_W_start", "learning_rate_start", "learning_rate_embedding_start", "batch_size",
            "coeff_edge_diff", "coeff_W_L1", "n_epochs_init", "first_coeff_L1", "training_single_type",
            "recurrent_training", "time_step", "noise_recurrent_level", "recurrent_training_start_epoch",
        )
    ]  # fmt: skip
    assert len(free) == 27 and not any(k.startswith("simulation.") for k in free)
    assert [r.name for r in found.regimes] == ["sparse-100", "sparse-200", "low-rank-100", "low-rank-200"]
    assert [u.regimes for u in found.user_instructions] == [tuple(r.name for r in found.regimes)] * 2
    assert not any(u.undeclared for u in found.user_instructions)
    assert all(row.known for row in found.strategies)
    assert (found.start["claude"]["n_iter_block"], len(found.block_focus)) == (12, 4)
    assert len(found.log_metrics) == 8 and len(found.log_activity) == 2


EXPLORABLE = ("omega_inr", "inr_learning_rate", "hidden_dim_inr", "n_layers_inr", "inr_total_steps", "inr_batch_size",
              "inr_xy_period", "inr_t_period")  # fmt: skip
"""The keys of seed document 003."""


@pytest.mark.parametrize(
    ("profile", "start", "minutes", "steps"),
    [("cpu", (128, 5000, 200), 3, (1250, 2e6)), ("full", (384, 500000, 1000), 60, (50000, 2e6))],
)
def test_cell_inr_compiles_without_a_word(profile, start, minutes, steps):
    compiled = ours(ROOT / "instructions" / "cell_inr.md", profile, "cell_inr")
    assert [p.text for p in compiled.problems] == []
    found = compiled.contract
    rules = {k.key: k for k in found.keys}
    assert all(rules[f"inr.{name}"].level == "free" for name in EXPLORABLE)
    frozen = ("inr.inr_field_name", "inr.inr_type", "inr.inr_gradient_mode", "training.max_minutes", "simulation.speed")
    assert all(rules[name].level == "frozen" for name in frozen)
    inr, simulation = found.start["inr"], found.start["simulation"]
    assert (inr["hidden_dim_inr"], inr["inr_total_steps"], simulation["n_cells"]) == start
    assert found.start["training"]["max_minutes"] == minutes and found.time_limit == "training.max_minutes"
    assert (rules["inr.inr_total_steps"].low, rules["inr.inr_total_steps"].high) == steps
    assert [(s.op, s.value) for s in rules["inr.omega_inr"].steps] == [("+", 5), ("+", -5)]
    assert [(s.op, s.value) for s in rules["inr.inr_learning_rate"].steps] == [("*", 2), ("*", 0.5)]
    assert [v.name for v in found.verdicts] == ["Excellent", "Good", "Moderate", "Poor"]
    assert found.comparison_heading == "Regime Comparison Table" and found.primary.name == "heldout_cells_r2"


@pytest.mark.parametrize("profile", ["cpu", "full"])
def test_seed_document_003_compiles_as_its_users_wrote_it(profile):
    compiled = ours(GOLDEN / "cell_inr.md", profile, "cell_inr")
    assert [p.text for p in compiled.problems] == []
    found = compiled.contract
    assert [k.key for k in found.keys if k.level == "free"] == [f"inr.{name}" for name in EXPLORABLE]
    poor = {"metric": "training_time_min", "op": "<=", "value": 60.0}
    assert all(poor in [c.model_dump() for c in v.conditions] for v in found.verdicts[:3])
    assert (found.primary.name, found.verdicts[3].name) == ("final_r2", "Poor")
    assert [s.name for s in found.strategies] == ["exploit", "failure-probe", "switch-param"]


BETWEEN = (
    "time_step", "recurrent_training", "neural_ODE_training", "recurrent_training_start_epoch", "ode_method",
    "ode_rtol", "ode_atol", "ode_adjoint", "ode_state_clamp",
)  # fmt: skip
"""The block-level list of seed document 004."""


@pytest.mark.parametrize(
    ("profile", "loop", "neurons", "length", "target"),
    [("cpu", (40, 1, 160), 200, 6, 1.8), ("full", (15, 1, 25), 1000, 8, 120)],
)
def test_recurrent_gnn_compiles_without_a_word(profile, loop, neurons, length, target):
    compiled = ours(ROOT / "instructions" / "recurrent_gnn.md", profile, "recurrent_gnn")
    assert [p.text for p in compiled.problems if "the short horizon is used" not in p.text] == []
    found = compiled.contract
    levels = {k.key.partition(".")[2]: k.level for k in found.keys if k.level != "frozen"}
    assert tuple(name for name, level in levels.items() if level == "block") == BETWEEN
    seeds_own = ("learning_rate_W_start", "learning_rate_start", "learning_rate_embedding_start", "coeff_W_L1",
                 "batch_size", "data_augmentation_loop", "noise_recurrent_level", "recurrent_parameters")  # fmt: skip
    assert all(levels[name] == "free" for name in seeds_own)
    budget = found.key("data_augmentation_loop")
    assert (budget.start, budget.low, budget.high, budget.exempt) == (*loop, True)
    assert found.compare == "training.time_step" and found.key("time_step").allowed == (1, 4, 16, 32, 64)
    assert found.comparison_heading == "Time Step Comparison Table"
    assert (found.n_iter_block, found.time_target_min) == (length, target)
    start = found.start["training"]
    assert (start["recurrent_training"], start["neural_ODE_training"], start["time_step"]) == (True, False, 1)
    assert found.start["simulation"]["n_neurons"] == neurons
    assert all(row.known for row in found.strategies) and len(found.strategies) == 11
    assert [s.path for s in found.scopes] == ["trainers/signal.py", "models/signal.py", "models/utils.py"]


def test_the_template_compiles():
    compiled = ours(ROOT / "instructions" / "TEMPLATE.md")
    assert compiled.problems == ()
    found = compiled.contract
    assert (len(found.strategies), len(found.diagnosis), found.gap.minuend) == (3, 2, "test_pearson_100")
    assert all(r.known and not r.assumed for r in found.strategies)
    assert [r.values for r in found.spread] == [
        {}, {"training.learning_rate_W_start": 6e-3}, {"training.batch_size": 16}
    ]  # fmt: skip


def seed_of_sparse(extra="", front=""):
    """Compile the seed document of sparse_gnn with the values that it states."""
    schema = read_schema(json.loads((ROOT / "trainers" / "schema.json").read_text()), "signal")
    draft = read_instruction(front + (GOLDEN / "sparse_gnn.md").read_text(encoding="utf-8"), "sparse_gnn.md")
    spec = read_exploration(yaml_edit.load("instruction: sparse_gnn\nsystem: signal\n" + extra, "exploration.yaml"))
    compiled = compile_all("sparse_gnn", draft, schema, spec, yaml_edit.read(SPARSE + BUDGET, "config.yaml"), "full")
    assert compiled.contract is not None, compiled.stops
    return compiled, draft


def told(compiled, word):
    return [(int(p.where.rpartition(":")[2]), p.text) for p in compiled.problems if word in p.text]


def test_the_seed_of_sparse_gnn_compiles():
    compiled, _ = seed_of_sparse()
    found = compiled.contract
    assert sum("not supported by the trainer" in p.text for p in compiled.problems) <= 4
    assert (len(found.strategies), len(found.diagnosis), len(found.scopes), len(found.figures)) == (22, 4, 4, 0)
    assert all(r.known for r in found.strategies)
    by_name = {r.name: r for r in found.strategies}
    assert (by_name["forced-branch"].numbers, by_name["forced-branch"].source) == (
        {"count": 3, "within": 0.05}, "sparse_gnn.md:201"
    )  # fmt: skip
    assert by_name["code-modification"].metric == "connectivity_R2"
    assert [(s.path, s.function) for s in found.scopes] == [
        ("trainers/signal.py", "data_train_signal"), ("models/signal.py", None), ("models/mlp.py", None),
        ("models/utils.py", None),
    ]  # fmt: skip
    assert [k.start for k in found.keys if k.key == "training.seed"] == [42]
    assert len([k for k in found.keys if k.level == "free" or k.key == "training.seed"]) == 14


def test_the_short_horizon_judges_the_gap_of_sparse_gnn():
    compiled, _ = seed_of_sparse()
    gap = compiled.contract.gap
    assert (gap.minuend, gap.subtrahend, gap.untrusted_above) == ("test_pearson_100", "connectivity_R2", 0.3)
    assert [r.conditions[0].metric for r in compiled.contract.diagnosis] == ["test_pearson_100"] * 4
    lines = [line for line, _ in told(compiled, "the short horizon is used")]
    assert lines == [127, 129, 204, 206, 208]


def test_user_instructions_of_sparse_gnn_without_a_regime():
    compiled, draft = seed_of_sparse()
    assert [(u.regimes, u.undeclared) for u in compiled.contract.user_instructions] == [
        ((), ("n_neurons=200", "low_rank=20")), ((), ("n_neurons=200",))
    ]  # fmt: skip
    assert [line for line, _ in told(compiled, "user instructions ask for n_neurons=200, and no regime")] == [13, 14]
    assert [line for line, _ in told(compiled, "user instructions ask for low_rank=20")] == [13]
    text = lint(draft, compiled.contract, compiled.problems)
    assert "sparse_gnn.md:13: user instructions ask for n_neurons=200" in text


def test_user_instructions_of_sparse_gnn_with_regimes():
    compiled, _ = seed_of_sparse(REGIMES, "---\nnames: {low_rank: simulation.connectivity_rank}\n---\n")
    assert [(u.regimes, u.undeclared) for u in compiled.contract.user_instructions] == [
        (("n100", "n200", "low200"), ()), (("n100", "n200", "low200"), ())
    ]  # fmt: skip
    assert told(compiled, "user instructions") == []
    assert [r.values["simulation.n_neurons"] for r in compiled.contract.regimes] == [100, 200, 200]
    assert [r.values["simulation.connectivity_type"] for r in compiled.contract.regimes] == [
        "chaotic", "chaotic", "low_rank"
    ]  # fmt: skip


def of_own_trainer(name, config, **spec):
    """Compile a golden document as if a trainer of one's own measured what it names."""
    document = yaml_edit.read(config + BUDGET, "config.yaml")
    draft = read_instruction((GOLDEN / f"{name}.md").read_text(encoding="utf-8"), f"{name}.md")
    schema = read_schema(own_schema("own", draft, document), "own")
    exploration = read_exploration({"instruction": name, "system": "own", "command": ["python", "t.py"]} | spec)
    compiled = compile_all(name, draft, schema, exploration, document, "full")
    assert compiled.contract is not None, compiled.stops
    return compiled


def test_metabolism_homeostasis_compiles():
    compiled = of_own_trainer(
        "metabolism_homeostasis", "training: {learning_rate_k: 5E-3}\n",
        classes={"Converged": "rate_constants_R2 > 0.9", "Failed": "rate_constants_R2 < 0.9"},
    )  # fmt: skip
    found = compiled.contract
    assert found.gap.model_dump() == {
        "minuend": "test_pearson", "subtrahend": "rate_constants_R2", "untrusted_above": 0.3,
        "source": "metabolism_homeostasis.md:173",
    }  # fmt: skip
    lines = [int(r.source.rpartition(":")[2]) for r in found.diagnosis]
    assert lines == [177, 178, 179, 180, 186, 187, 187, 188, 189, 188]  # 189 (~0) lies inside 188 (< 0.3)
    assert [len(r.conditions) for r in found.diagnosis] == [3, 5, 3, 4, 2, 2, 2, 1, 2, 1]
    assert len(found.strategies) == 6 and all(r.known for r in found.strategies)
    assert len(found.figures) == 5 and found.scopes == ()
    assert [r.values for r in found.spread] == [{}, {"training.learning_rate_k": 2e-3}]  # of the one key there is
    lines = [line for line, text in told(compiled, "initial spread") if "left out" in text]
    assert lines == [320, 320, 320, 321, 321, 322, 322, 323, 323]


JOINT = {
    "Converged": "rate_constants_R2 > 0.9 AND avg_slope_ratio in [0.5, 2.0] AND embedding_cluster_acc = 1.0",
    "Partial-k": "rate_constants_R2 > 0.9", "Partial-homeo": "rate_constants_R2 >= 0.5 AND avg_slope_ratio >= 0.1",
    "Failed": "rate_constants_R2 < 0.5",
}  # fmt: skip
"""What seed document 001 says of its classes, two of them in words ("slopes improving")."""


def test_the_seed_document_of_the_homeostasis_compiles_for_our_system():
    folder = ROOT / "explorations" / "metabolism_homeostasis"
    spec = read_exploration(yaml_edit.load((folder / "exploration.yaml").read_text(), "exploration.yaml") | {
        "classes": JOINT})  # fmt: skip
    config = yaml_edit.read((folder / "config.yaml").read_text(), "config.yaml")
    known = read_schema(json.loads((ROOT / "trainers" / "schema.json").read_text()), "homeostasis")
    draft = read_instruction((GOLDEN / "metabolism_homeostasis.md").read_text(encoding="utf-8"), "m.md")
    found = compile_all("metabolism_homeostasis", draft, known, spec, config, "cpu").contract
    assert found is not None and found.primary.name == "rate_constants_R2"
    assert len([k for k in found.keys if k.level == "free"]) == 17
    frozen = {k.key for k in found.keys if k.level == "frozen"}
    assert {"training.freeze_stoichiometry", "training.learning_rate_S_start", "training.coeff_S_L1"} <= frozen
    assert [r.values for r in found.spread] == [
        {}, {"training.learning_rate_node": 5e-4}, {"training.coeff_MLP_node_L1": 0.1},
        {"training.recurrent_training": True, "training.time_step": 4, "training.learning_rate_k": 2e-3},
    ]  # fmt: skip
    assert (len(found.log_config), len(found.log_metrics)) == (12, 16)
    assert [len(v.conditions) for v in found.verdicts] == [5, 1, 2, 1]


def test_our_instruction_of_the_homeostasis_compiles_and_is_ranked_by_the_joint_score():
    compiled = ours(ROOT / "instructions" / "metabolism_homeostasis.md", name="metabolism_homeostasis")
    found = compiled.contract
    assert found is not None and found.primary.name == "joint_score"
    assert not [k.key for k in found.keys if k.level == "free" and k.key.startswith("simulation.")]
    assert {m.name: (m.direction, m.target) for m in found.metrics}["avg_slope_ratio"] == ("target", 1.0)
    assert all(row.known for row in found.strategies)
    assert [len(v.conditions) for v in found.verdicts] == [5, 1, 2, 1]
    assert len(found.log_metrics) == 19 and len(found.log_visual) == 4


KNOWN = """\
training:
  learning_rate_k: 5E-3
  learning_rate_embedding: 1E-4
  learning_rate_node: 1E-4
  learning_rate_sub: 5E-3
  coeff_MLP_node_L1: 1.0
  recurrent_training: false
  time_step: 1
"""


@pytest.mark.parametrize(
    ("old", "new", "lines"), [("x", "x", []), ("L1: 1.0", "L1: 5.0", [322]), ("k: 5E-3", "k: 3E-3", [320])]
)
def test_the_spread_of_metabolism_homeostasis(old, new, lines):
    compiled = of_own_trainer(
        "metabolism_homeostasis", KNOWN.replace(old, new),
        classes={"Converged": "rate_constants_R2 > 0.9", "Failed": "rate_constants_R2 < 0.9"},
    )  # fmt: skip
    found = [{k.removeprefix("training."): v for k, v in r.values.items()} for r in compiled.contract.spread]
    assert found == [
        {"learning_rate_k": 5e-3} if 320 in lines else {}, {"learning_rate_node": 5e-4}, {"coeff_MLP_node_L1": 0.1},
        {"recurrent_training": True, "time_step": 4, "learning_rate_k": 2e-3},
    ]  # fmt: skip
    assert [line for line, text in told(compiled, "initial spread") if "written for another start" in text] == lines
    assert len(told(compiled, "initial spread")) == len(lines)


def test_recurrent_gnn_compiles():
    compiled = of_own_trainer(
        "recurrent_gnn", "training: {learning_rate_W_start: 1E-3, batch_size: 8}\n",
        settle={"batch_size": {"level": "frozen"}},
    )  # fmt: skip
    assert len(compiled.contract.strategies) == 8
    assert [s.path for s in compiled.contract.scopes] == ["trainers/signal.py", "models/signal.py", "models/utils.py"]
    assert [line for line, _ in told(compiled, "never editable")] == [233]
    assert (compiled.contract.gap, compiled.contract.diagnosis) == (None, ())


@pytest.mark.parametrize(
    ("name", "config", "spec", "rows"),
    [
        ("cell_inr", "inr: {omega_inr: 10.0}\n", {}, ["exploit", "failure-probe", "switch-param"]),
        (
            "metabolism_stoichiometry", "training: {learning_rate_start: 1E-3, time_step: 1}\n",
            {
                "primary": "stoichiometry_R2",
                "classes": {"Good": "stoichiometry_R2 > 0.9", "Bad": "stoichiometry_R2 < 1"},
                "settle": {"time_step": {"range": [1, 16]}},
            },
            [],
        ),
    ],
)  # fmt: skip
def test_the_others_compile(name, config, spec, rows):
    compiled = of_own_trainer(name, config, **spec)
    assert [r.name for r in compiled.contract.strategies] == rows
    assert (compiled.contract.gap, compiled.contract.diagnosis, compiled.contract.scopes) == (None, (), ())
