import json
import math

import pytest
import yaml

from trainers import schema
from trainers.errors import RefusedError
from trainers.idle import idle_keys
from trainers.settings import Reader, SignalConfig, fields, load_yaml, n_iterations, read_config


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("3.0E-3", 3e-3), ("5E2", 500.0), (".5", 0.5), ("-1", -1), ("017", 17), ("0x1F", 31),
     ("True", True), ("yes", "yes"), ("off", "off"), ("1:30", "1:30"), ("~", None), ("1_000", "1_000")],
)  # fmt: skip
def test_yaml_scalars_are_read_as_1_2(text, value):
    found = load_yaml(f"key: {text}")["key"]
    assert found == value and type(found) is type(value)


def test_yaml_special_floats_and_refusals():
    assert math.isnan(load_yaml("x: .nan")["x"])
    with pytest.raises(yaml.YAMLError, match="stands twice"):
        load_yaml("a: 1\na: 2")
    with pytest.raises(yaml.YAMLError):
        load_yaml("a: !!python/object/apply:os.system ['true']")


def test_schema_json_is_fresh():
    assert schema.SCHEMA_FILE.read_text() == schema.text(), "run: python -m trainers schema"


def test_schema_describes_types_bounds_and_metrics():
    body = json.loads(schema.text())["systems"]["signal"]
    rate = body["sections"]["training"]["learning_rate_W_start"]
    assert (rate["type"], rate["default"], rate["minimum"], rate["exclusive_minimum"]) == ("float", 3e-3, 0.0, True)
    assert "lr_W" in rate["aliases"] and rate["description"]
    assert body["sections"]["training"]["loss"]["allowed"] == ["norm", "mse"]
    assert body["sections"]["simulation"]["params"]["type"] == "list"
    assert body["metrics"]["effective_rank_99"]["log_key"] == "effective rank (99% var)"
    names = [n for m, spec in body["metrics"].items() for n in {m, spec["log_key"], *spec["aliases"]}]
    assert len(names) == len(set(names))


def test_every_key_has_a_unit_and_a_description():
    for section, name, field in fields(SignalConfig):
        assert field.description and field.json_schema_extra["unit"], (section, name)


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"training": {"lr_w": 1}}, "unknown key training.lr_w; nearest valid keys: training.learning_rate_W_start"),
        ({"training": {"coef_edge_diff": 1}}, "nearest valid keys: training.coeff_edge_diff"),
        ({"trainig": {}}, "unknown key trainig; nearest valid keys: training"),
        ({"training": {"batch_size": "8"}}, "training.batch_size"),
        ({"training": {"batch_size": True}}, "training.batch_size"),
        ({"training": {"learning_rate_start": 0.0}}, "greater than 0"),
        ({"training": {"learning_rate_start": math.nan}}, "finite"),
        ({"simulation": {"connectivity_type": "ring"}}, "chaotic"),
        ({"simulation": {"params": [[1, 0, 7]]}}, "6 numbers"),
        ({"graph_model": {"embedding_dim": 3}}, "1 \\+ embedding_dim = 4"),
    ],
)
def test_a_wrong_config_is_refused_with_a_sentence(sections, words):
    with pytest.raises(RefusedError, match=words):
        read_config("signal", sections)


def test_an_unknown_system_lists_the_systems():
    with pytest.raises(RefusedError, match="systems: signal"):
        read_config("metabolism", {})


@pytest.mark.parametrize(
    ("n_frames", "aug", "batch", "steps"),
    [(10000, 40, 8, 10000), (10000, 200, 8, 50000), (100000, 15, 8, 37500), (2880, 1000, 8, 72000), (50, 1, 32, 1)],
)
def test_steps_of_an_epoch(n_frames, aug, batch, steps):
    assert n_iterations(n_frames, aug, batch) == steps


def test_keys_that_cannot_act_are_named():
    """The reasons; that the list is complete is test_keys.py."""
    seed = {"n_epochs": 2, "n_epochs_init": 2, "coeff_W_L1": 1e-5}
    idle = idle_keys(read_config("signal", {"training": seed}))
    assert "phase 2" in idle["training.coeff_W_L1"] and "n_epochs=2" in idle["training.coeff_W_L1"]
    assert "recurrent_training" in idle["training.time_step"]
    acting = {"n_epochs": 3, "training_single_type": False, "recurrent_training": True, "optimizer_W": "sgd",
              "lr_scheduler": "step", "coeff_W_small": 0.1}  # fmt: skip
    still = set(idle_keys(read_config("signal", {"training": seed | acting})))
    other = {"recurrent_parameters", "recurrent_intermediate", "recurrent_curriculum"}  # time_step is 1
    other |= {"embedding_replacement_at", "embedding_clusters", "embedding_clusters_max"}
    other |= {f"ode_{k}" for k in ("method", "rtol", "atol", "adjoint", "state_clamp")}
    assert still == {f"training.{name}" for name in other}
    late = {"recurrent_training": True, "recurrent_training_start_epoch": 2}
    assert "begins at epoch 2" in idle_keys(read_config("signal", {"training": seed | late}))["training.time_step"]
    no_phase_1 = idle_keys(read_config("signal", {"training": {"n_epochs_init": 0}}))
    assert {"training.first_coeff_L1", "training.coeff_edge_diff"} <= set(no_phase_1)


def test_a_reader_remembers_what_was_read():
    config = Reader(SignalConfig())
    assert config.training.batch_size == 8 and config.simulation.n_frames == 10000
    assert config.keys_read == {"training.batch_size", "simulation.n_frames"}
