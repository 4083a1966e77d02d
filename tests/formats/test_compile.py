import pytest

from orchestrator.core import configs
from orchestrator.core.contract import Contract
from orchestrator.core.exploration import read_exploration
from orchestrator.core.mutation import check_value
from orchestrator.errors import InstructionError, RefusedError
from orchestrator.formats import yaml_edit
from orchestrator.formats.compile import compile_contract
from tests.formats.samples import CONFIG, EXPLORATION, INSTRUCTION, build, line_of, read, schema


def stops(**parts):
    compiled = build(**parts)
    assert (compiled.contract is None) == bool(compiled.stops)
    return [f"{p.where}: {p.text}" for p in compiled.stops]


def contract(**parts):
    compiled = build(**parts)
    assert compiled.contract is not None, compiled.stops
    return compiled.contract


def test_rules_of_the_sample():
    found = contract()
    free = [(k.key, k.short, k.low, k.high, k.allowed, k.start) for k in found.keys if k.level == "free"]
    assert free == [
        ("training.learning_rate_W_start", "lr_W", 1e-4, 1e-2, (), 3e-3),
        ("training.batch_size", "batch_size", 1, 1024, (8, 16, 32), 8),
        ("training.training_single_type", "training_single_type", None, None, (True, False), True),
    ]
    assert found.key("lr_W").source == f"small.md:{line_of(INSTRUCTION, 'learning_rate_W_start')}"
    assert [m.name for m in found.metrics] == ["connectivity_R2", "test_R2", "effective_rank_99"]
    assert found.primary.name == "connectivity_R2"
    assert [(v.name, [(c.metric, c.op, c.value) for c in v.conditions]) for v in found.verdicts] == [
        ("Converged", [("connectivity_R2", ">", 0.9)]),
        ("Partial", [("connectivity_R2", ">=", 0.1), ("connectivity_R2", "<=", 0.9)]),
        ("Failed", [("connectivity_R2", "<", 0.1)]),
    ]
    assert found.log_config == ("training.learning_rate_W_start", "training.batch_size")
    assert found.log_metrics == (("connectivity_R2", "connectivity_R2"), ("test_R2", "test_R2"))
    assert found.log_activity == (("eff_rank", "effective_rank_99"),)
    assert found.order == tuple(f[0] for f in free)


def test_what_is_not_named_is_frozen():
    found = contract()
    frozen = {k.key for k in found.keys if k.level == "frozen"}
    assert {"training.loss", "training.coeff_W_L1", "simulation.n_neurons", "graph_model.hidden_dim"} <= frozen
    assert len(found.keys) == len(schema().keys)


def test_seeds_are_exempt_and_never_mutated():
    text = INSTRUCTION.replace("  batch_size", "  seed: 137 # mutable\n  batch_size")
    for name in ("training.seed", "simulation.seed"):
        rule = contract(instruction=text).key(name)
        assert rule.exempt and rule.level == "frozen"


def test_start_holds_defaults_profile_and_budget():
    start = contract().start
    assert start["claude"] == {"n_epochs": 2, "data_augmentation_loop": 25, "n_iter_block": 12, "ucb_c": 1.414}
    assert start["training"]["data_augmentation_loop"] == 25
    assert start["training"]["learning_rate_start"] == 1e-4
    assert start["simulation"] == {"n_neurons": 100, "n_frames": 1000, "seed": 42}
    assert contract(profile="full").start["training"]["data_augmentation_loop"] == 200


def test_numbers_take_the_type_of_their_key():
    start = contract(config=CONFIG.replace("batch_size: 8", "batch_size: 8\n  coeff_W_L1: 0")).start
    assert isinstance(start["training"]["coeff_W_L1"], float)


def test_contract_survives_its_yaml():
    found = contract(
        instruction=INSTRUCTION.replace("Recover W.", "Recover W: 50\u00a0% \u2028 'quoted' # text.\n\n- yes")
    )
    text = yaml_edit.dump(found.model_dump(mode="json"))
    assert Contract.model_validate(yaml_edit.load(text, "contract.yaml")).sha == found.sha


def test_exclusive_minimum_holds_without_a_range():
    text = INSTRUCTION.replace(" # range: 1E-4 to 1E-2", "")
    rule = contract(instruction=text).key("lr_W")
    check_value(rule, 1e-12)
    with pytest.raises(RefusedError):
        check_value(rule, 0.0)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (("  batch_size: 8", "  batchsize: 8"), ["config.yaml:5", "training.batchsize", "training.batch_size"]),
        (("  batch_size: 8", "  batch_size: 0"), ["config.yaml:5", ">= 1", "found 0"]),
        (("  batch_size: 8", "  batch_size: 8.5"), ["config.yaml:5", "expected int"]),
        (("  batch_size: 8", "  batch_size: True"), ["config.yaml:5", "expected int"]),
        (("  batch_size: 8", "  batch_size: '8'"), ["config.yaml:5", "expected int"]),
        (("  batch_size: 8", "  batch_size: 8\n  loss: huber"), ["config.yaml:6", "norm, mse"]),
        (("training:", "trainings:"), ["config.yaml:3", "simulation, graph_model, training, claude"]),
        (("  n_epochs: 2\n", ""), ["config.yaml:6", "missing: n_epochs"]),
        (("  ucb_c: 1.414", "  ucb_c: 4"), ["config.yaml:10", "<= 3"]),
        (("  ucb_c: 1.414", "  ucb_c: 1.4\n  temperature: 1"), ["config.yaml:11", "has exactly n_epochs"]),
    ],
)
def test_config_errors(change, parts):
    found = "\n".join(stops(config=CONFIG.replace(*change)))
    assert all(part in found for part in parts), found


def test_starting_values_must_agree():
    (found,) = stops(config=CONFIG.replace("3e-3", "4e-3"))
    assert found.startswith(f"small.md:{line_of(INSTRUCTION, '3.0E-3')}") and "config.yaml:4" in found
    text = INSTRUCTION + "\n## Starting points\n\n- `lr_W=2E-3` is fine\n"
    (found,) = stops(instruction=text)
    assert f"small.md:{line_of(text, 'is fine')}" in found


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("range: 1E-4 to 1E-2", "range: 1E-4 to 10", "10 is outside what the trainer accepts"),
        ("range: 1E-4 to 1E-2", "range: 0 to 1E-2", "0 is outside"),
        ("range: 1E-4 to 1E-2", "range: 1E-4 to 1E-3", "0.003 is outside 0.0001 to 0.001"),
        ("values: 8, 16, 32", "values: 0, 8", ">= 1"),
        ("values: 8, 16, 32", "values: 16, 32", "8 is outside 16, 32"),
        ("values: 8, 16, 32", "values: 8, many", "expected int"),
        ("Primary metric: `connectivity_R2`", "Primary metric: `conectivity_R2`", "nearest: connectivity_R2"),
        ("**Partial**: connectivity_R2", "**Partial**: speed", "'speed' is not measured"),
        ("**Converged**: connectivity_R2 > 0.9", "**Converged**: test_R2 > 0.9 OR slope > 1", "last class only"),
    ],
)
def test_instruction_against_the_trainer(old, new, message):
    assert message in "\n".join(stops(instruction=INSTRUCTION.replace(old, new)))


def test_no_classes_stops():
    text = "\n".join(line for line in INSTRUCTION.split("\n") if not line.startswith("- **"))
    assert "no classes" in "\n".join(stops(instruction=text))


def test_keys_without_a_trainer_are_said_and_left_out():
    text = INSTRUCTION.replace("  batch_size", "  time_step: 1 # values: 1, 4\n  batch_size")
    compiled = build(instruction=text)
    (said,) = [p for p in compiled.problems if "not supported by the trainer" in p.text]
    assert said.where == f"small.md:{line_of(text, 'time_step')}" and not said.stops
    assert compiled.contract.key("time_step") is None


def test_or_in_the_last_class_bars_the_better_ones():
    text = INSTRUCTION.replace("connectivity_R2 < 0.1", "connectivity_R2 < 0.1 OR training_time_min > 60")
    for rule in contract(instruction=text).verdicts[:-1]:
        assert [(c.op, c.value) for c in rule.conditions if c.metric == "training_time_min"] == [("<=", 60.0)]


# exploration.yaml


def test_settle_removes_the_problem_and_wins():
    text = INSTRUCTION.replace("range: 1E-4 to 1E-2", "range: small to large")
    assert stops(instruction=text)
    found = contract(instruction=text, exploration=EXPLORATION + "settle: {lr_W: {range: [1e-3, 5e-3]}}\n")
    assert (found.key("lr_W").low, found.key("lr_W").high) == (1e-3, 5e-3)
    frozen = contract(exploration=EXPLORATION + "settle: {training.batch_size: {level: frozen}}\n")
    assert frozen.key("batch_size").level == "frozen"


def test_settled_bounds_are_checked_too():
    found = "\n".join(stops(exploration=EXPLORATION + "settle: {lr_W: {range: [1e-3, 50]}}\n"))
    assert "50 is outside what the trainer accepts" in found
    assert "no such key" in "\n".join(stops(exploration=EXPLORATION + "settle: {lr_Q: {level: free}}\n"))


def test_settled_values_replace_range_and_values():
    found = contract(exploration=EXPLORATION + "settle: {lr_W: {allowed: [3e-3, 0.5]}, batch_size: {range: [4, 9]}}\n")
    check_value(found.key("lr_W"), 0.5)
    check_value(found.key("batch_size"), 5)
    with pytest.raises(RefusedError):
        check_value(found.key("batch_size"), 16)


def test_settle_frees_a_key_that_the_instruction_does_not_name():
    found = contract(exploration=EXPLORATION + "settle: {loss: {level: free}}\n")
    assert found.key("training.loss").level == "free"
    assert "training.loss" in found.order


def test_primary_and_classes_from_exploration_yaml():
    text = INSTRUCTION.replace("- **Partial**: connectivity_R2 0.1-0.9", "- **Partial**: so so")
    extra = "primary: test_R2\nclasses: {Good: test_R2 > 0.5, Bad: test_R2 < 0.5}\n"
    found = contract(instruction=text, exploration=EXPLORATION + extra)
    assert found.primary.name == "test_R2"
    assert [v.name for v in found.verdicts] == ["Good", "Bad"]
    assert [m.role for m in found.metrics].count("primary") == 1


def test_unknown_profile_and_primary():
    assert "profiles: full, cpu" in "\n".join(stops(profile="gpu"))
    assert "nearest: test_R2" in "\n".join(stops(exploration=EXPLORATION + "primary: test_R3\n"))


def test_profile_value_out_of_range():
    found = "\n".join(stops(exploration=EXPLORATION.replace("25", "0")))
    assert "profiles.cpu: claude.data_augmentation_loop" in found


def test_regime_overrides_the_simulation():
    extra = "regimes: [{name: large, simulation: {n_neurons: 200}}]\n"
    assert contract(exploration=EXPLORATION + extra).start["simulation"]["n_neurons"] == 200


REGIMES = """\
regimes:
  - {name: small}
  - name: large
    simulation: {n_neurons: 200}
    profiles: {cpu: {simulation.n_frames: 20000, claude.data_augmentation_loop: 60}}
compare: n_neurons
"""


def test_each_regime_has_every_value():
    found = contract(exploration=EXPLORATION + REGIMES)
    assert [(r.name, r.values) for r in found.regimes] == [
        ("small", {
            "simulation.n_neurons": 100, "simulation.n_frames": 1000, "claude.data_augmentation_loop": 25,
            "training.data_augmentation_loop": 25,
        }),
        ("large", {
            "simulation.n_neurons": 200, "simulation.n_frames": 20000, "claude.data_augmentation_loop": 60,
            "training.data_augmentation_loop": 60,
        }),
    ]  # fmt: skip
    assert found.compare == "simulation.n_neurons"
    assert configs.with_values(found.start, found.regimes[0].values) == found.start


def test_a_regime_in_another_profile():
    found = contract(exploration=EXPLORATION + REGIMES, profile="full")
    assert [r.values for r in found.regimes] == [{"simulation.n_neurons": 100}, {"simulation.n_neurons": 200}]


def test_the_start_is_the_first_regime():
    turned = REGIMES.replace("  - {name: small}\n", "").replace("compare", "  - {name: small}\ncompare")
    found = contract(exploration=EXPLORATION + turned)
    assert found.start == configs.with_values(found.start, found.regimes[0].values)
    assert (found.start["simulation"]["n_neurons"], found.start["training"]["data_augmentation_loop"]) == (200, 60)


def test_no_regime_no_comparison():
    found = contract()
    assert (found.regimes, found.compare) == ((), None)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("n_neurons: 200", "n_neuron: 200", "regimes.large: simulation.n_neuron: no such key; nearest"),
        ("n_neurons: 200", "n_neurons: 1", "regimes.large: simulation.n_neurons: expected >= 2"),
        ("loop: 60", "loop: none", "regimes.large.profiles.cpu: claude.data_augmentation_loop: expected int"),
        ("{n_neurons: 200}", "{}", None),
        ("simulation: {n_neurons: 200}", "simulation: {n_frames: 1000}", None),
        (
            "compare: n_neurons",
            "compare: n_neutrons",
            "compare: n_neutrons: no such key; nearest: simulation.n_neurons",
        ),
    ],
)
def test_regime_errors(old, new, message):
    text = REGIMES.replace(old, new)
    if message is None:
        text, message = text.replace("simulation.n_frames: 20000, ", ""), "regime small is the same system"
    assert message in "\n".join(stops(exploration=EXPLORATION + text))


def test_a_key_is_free_or_of_a_regime():
    text = INSTRUCTION.replace("```yaml\n", "```yaml\ngraph_model:\n  hidden_dim: 64 # range: 1 to 64\n")
    extra = REGIMES.replace("simulation.n_frames: 20000", "graph_model.hidden_dim: 32")
    (found,) = stops(instruction=text, exploration=EXPLORATION + extra)
    assert "graph_model.hidden_dim is set by a regime and free in small.md" in found


def test_a_profile_that_levels_regimes_is_told():
    spec = (EXPLORATION + REGIMES).replace("25}", "25, simulation.n_neurons: 50}")
    compiled = build(exploration=spec)
    assert any("50 in profile cpu, which wins" in p.text and not p.stops for p in compiled.problems)
    assert any(
        "same system" in p.text for p in build(exploration=spec.replace("simulation.n_frames: 20000, ", "")).stops
    )
    (said,) = [p for p in compiled.problems if p.text.startswith("compare")]
    assert "nothing is compared" in said.text and not said.stops


def test_compile_contract_raises_every_problem():
    spec = read_exploration(yaml_edit.load(EXPLORATION, "e"))
    config = yaml_edit.read(CONFIG.replace("batch_size: 8", "batch_size: 0\n  nothing: 1"), "config.yaml")
    with pytest.raises(InstructionError) as error:
        compile_contract("small", read(), schema(), spec, config, "cpu")
    assert str(error.value).count("\n") >= 1
