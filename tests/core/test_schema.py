import json
from pathlib import Path

import pytest

from orchestrator.core.schema import read_schema
from orchestrator.errors import InstructionError
from tests.formats.samples import SCHEMA, schema


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("training.batch_size", "training.batch_size"),
        ("batch_size", "training.batch_size"),
        ("lr_W", "training.learning_rate_W_start"),
        ("training.lr_W", "training.learning_rate_W_start"),
        ("seed", "training.seed"),
        ("simulation.seed", "simulation.seed"),
        ("n_epochs", "training.n_epochs"),
        ("claude.n_epochs", "claude.n_epochs"),
        ("ucb_c", "claude.ucb_c"),
    ],
)
def test_key_by_name_or_alias(name, key):
    assert schema().key(name).key == key


@pytest.mark.parametrize("name", ["nothing", "simulation.lr_W", "graph_model.batch_size", "", "training."])
def test_no_such_key(name):
    assert schema().key(name) is None


def test_nearest():
    assert schema().nearest_keys("batchsize")[0] == "training.batch_size"
    assert schema().nearest_metrics("conectivity_R2")[0] == "connectivity_R2"


def test_metric_by_alias_and_log_key():
    found = schema()
    for name in ("effective_rank_99", "eff_rank", "effective rank (99% var)", "Effective_Rank_99"):
        assert found.metric(name).name == "effective_rank_99"
    assert found.metric("speed") is None


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("lr_W", (1e-9, 1, 1.0), (0.0, -1, 1.1, "x", True, None, float("nan"), float("inf"))),
        ("batch_size", (1, 1024), (0, 8.0, True, "8", [8])),
        ("training_single_type", (True, False), (1, 0, "yes")),
        ("loss", ("norm", "mse"), ("huber", 1, None)),
    ],
)
def test_faults(name, good, bad):
    key = schema().key(name)
    assert [key.fault(v) for v in good] == [None] * len(good)
    assert all(key.fault(v) for v in bad)


def test_errors():
    with pytest.raises(InstructionError, match="systems: signal"):
        read_schema(SCHEMA, "metabolism")
    with pytest.raises(InstructionError, match="expected contract 1"):
        read_schema({"contract": 2}, "signal")
    with pytest.raises(InstructionError, match="regenerate"):
        read_schema({"contract": 1, "systems": {"x": {"sections": {}}}}, "x")
    with pytest.raises(InstructionError, match="regenerate"):
        read_schema(
            {"contract": 1, "systems": {"x": {"generator_version": 1, "sections": {"a": {"b": {}}}, "metrics": {}}}},
            "x",
        )


def test_the_trainers_own_schema():
    path = Path(__file__).parents[2] / "trainers" / "schema.json"
    found = read_schema(json.loads(path.read_text(encoding="utf-8")), "signal")
    assert all(k.fault(k.default) is None for k in found.keys)
    assert found.key("lr_W").key == "training.learning_rate_W_start"
    assert found.metric("connectivity_R2") is not None
