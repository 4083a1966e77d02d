"""Every key of system `stoichiometry` acts, or its `idle_keys` says that it cannot: a dead key fails here."""

import json

import pytest
import torch

from tests.trainers.reacting import Terms, config, write_spec
from trainers.data_metabolism import load_stoichiometry
from trainers.errors import RefusedError
from trainers.idle_stoichiometry import idle_keys
from trainers.prepare.build import prepare
from trainers.settings import Reader, read_config
from trainers.settings_stoichiometry import StoichiometryModel, StoichiometryTraining
from trainers.stoichiometry import data_train_stoichiometry

CHANGES = {
    "graph_model.hidden_dim": [4], "graph_model.output_size": [2], "graph_model.n_layers": [3],
    "graph_model.MLP_activation": ["relu", "leaky_relu", "soft_relu"], "graph_model.flux_limit": [True, False],
    "graph_model.node_func": [True, False], "graph_model.hidden_dim_node": [4], "graph_model.n_layers_node": [2],
    "graph_model.embedding_dim": [1],
    "training.seed": [8], "training.n_epochs": [1, 3], "training.data_augmentation_loop": [6],
    "training.batch_size": [4], "training.batch_size_functions": [3], "training.n_runs": [1],
    "training.frame_sampling": ["uniform", "log_time"], "training.log_time_period": [10],
    "training.S_init": ["randn", "graph_sign"], "training.S_init_scale": [0.7], "training.log_k_init_center": [-1.0],
    "training.log_k_init_width": [1.0], "training.functions_start": [0.0, 0.5], "training.learning_rate_start": [3e-3],
    "training.learning_rate_embedding_start": [3e-3], "training.learning_rate_S_start": [0.0, 5e-3],
    "training.learning_rate_k": [0.02], "training.gauge_parameter": [True, False],
    "training.learning_rate_gauge": [0.02], "training.gauge_start": [0.5], "training.adam_beta2": [0.9],
    "training.lr_warmup": [0.4], "training.lr_scheduler": ["none", "cosine", "step"],
    "training.lr_scheduler_final": [0.2], "training.lr_scheduler_drops": [1], "training.constrain_sign": [True, False],
    "training.coeff_S_L1": [0.0, 0.5], "training.n_epochs_init": [0, 1, 2], "training.first_coeff_L1": [0.0, 0.3],
    "training.coeff_S_integer": [0.0, 0.5], "training.S_integer_start": [0.5], "training.coeff_S_floor": [0.0, 0.5],
    "training.S_floor_start": [0.5], "training.S_floor_ramp": [0.7], "training.S_floor_share": [0.8],
    "training.S_refit_every": [0.0, 0.3], "training.S_refit_until": [0.3],
    "training.coeff_mass_conservation": [0.0, 0.5], "training.coeff_MLP_sub_diff": [0.5],
    "training.recurrent_training": [False, True], "training.time_step": [3],
    "training.noise_recurrent_level": [0.05], "training.normalise_dc": ["overall", "metabolite"],
    "training.loss": ["norm", "mse"],
}  # fmt: skip
"""Other values of every key; the one that a config has already is skipped."""
ELSEWHERE = {"training.freeze_stoichiometry"}
"""Needs other data: test_a_given_S_stays."""

GIVEN = {"stoichiometry_given": True}
PENALTIES = {"coeff_S_L1": 0.1, "coeff_S_integer": 0.2, "coeff_S_floor": 0.2, "coeff_mass_conservation": 0.2}
CONFIGS = {
    "plain": {},
    "all penalties": PENALTIES | {"n_epochs_init": 1},
    "one phase": PENALTIES | {"n_epochs_init": 2, "first_coeff_L1": 0.2, "S_floor_ramp": 0.5},
    "equal phases": {"coeff_S_L1": 0.1, "first_coeff_L1": 0.1, "n_epochs_init": 1},
    "recipe": PENALTIES | {
        "flux_limit": True, "S_init": "randn", "S_init_scale": 1.0, "constrain_sign": True, "functions_start": 0.3,
        "gauge_parameter": True, "frame_sampling": "log_time", "lr_scheduler": "cosine", "loss": "mse",
        "normalise_dc": "metabolite", "batch_size_functions": 4,
        "S_refit_every": 0.25,
    },
    "node": {"node_func": True, "lr_scheduler": "step"},
    "rollouts": {"recurrent_training": True, "time_step": 2, "flux_limit": True},
}  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    prepare(write_spec(folder / "SPEC.yaml"), folder / "data")
    return load_stoichiometry(folder / "data" / "train", folder / "data" / "inputs")


def trace(tiny, **keys):
    """Return the losses of every step and all learned numbers."""
    torch.set_num_threads(1)
    run = Terms()
    model = data_train_stoichiometry(Reader(read_config("stoichiometry", config(**keys))), *tiny, run)
    return [sum(terms.values()) for terms in run.terms], torch.cat([p.detach().flatten() for p in model.parameters()])


def same(first, second):
    return first[0] == second[0] and torch.equal(first[1], second[1])


def others(declared, key):
    """Return the configs that differ from this one in one key, as changes."""
    section, name = key.split(".")
    return [{name: value} for value in CHANGES[key] if value != getattr(getattr(declared, section), name)]


def test_the_table_has_every_key():
    keys = {f"graph_model.{k}" for k in StoichiometryModel.model_fields}
    keys |= {f"training.{k}" for k in StoichiometryTraining.model_fields}
    assert keys == set(CHANGES) | ELSEWHERE


@pytest.mark.parametrize("name", CONFIGS)
def test_a_key_acts_exactly_when_it_is_not_named_idle(tiny, name):
    keys, wrong = CONFIGS[name], []
    declared, before = read_config("stoichiometry", config(**keys)), trace(tiny, **keys)
    idle = idle_keys(declared)
    assert set(idle) <= set(CHANGES)
    for key in CHANGES:
        changes = [same(before, trace(tiny, **(keys | change))) for change in others(declared, key)]
        if key in idle and not all(changes):
            wrong.append(f"{key} acts although {idle[key]}")
        if key not in idle and all(changes):
            wrong.append(f"{key} changes nothing and is not named idle")
    assert not wrong


def test_a_given_S_stays(tmp_path):
    sections = config(GIVEN, freeze_stoichiometry=True, coeff_S_L1=0.3, S_init_scale=0.5)
    prepare(write_spec(tmp_path / "SPEC.yaml", sections), tmp_path / "data")
    given = load_stoichiometry(tmp_path / "data" / "train", tmp_path / "data" / "inputs")
    declared, run = read_config("stoichiometry", sections), Terms()
    model = data_train_stoichiometry(Reader(declared), *given, run)
    assert torch.equal(model.sto_all, given[0].graph.sto)
    assert all(set(terms) == {"prediction"} for terms in run.terms)
    idle = {k.partition(".")[2] for k, why in idle_keys(declared).items() if why.startswith("freeze")}
    plain = trace(given, simulation=GIVEN, freeze_stoichiometry=True)
    for name in idle:
        for change in others(declared, f"training.{name}"):
            changed = trace(given, simulation=GIVEN, freeze_stoichiometry=True, **change)
            assert same(plain, changed), name


def test_phases_switch_at_n_epochs_init(tiny):
    run = Terms()
    keys = {"n_epochs": 3, "n_epochs_init": 2, "first_coeff_L1": 0.5}
    data_train_stoichiometry(Reader(read_config("stoichiometry", config(**keys))), *tiny, run)
    steps = len(run.phases) // 3
    assert run.phases == [1] * 2 * steps + [2] * steps
    assert ["S_L1" in terms for terms in run.terms] == [True] * 2 * steps + [False] * steps


def test_one_noiseless_step_of_a_rollout_is_the_single_step(tiny):
    single, rollout = (trace(tiny, flux_limit=True, **keys)[0]
                       for keys in ({}, {"recurrent_training": True, "time_step": 1}))  # fmt: skip
    assert rollout[0] != single[0]  # the last frame has no successor, so frames are drawn below it
    assert len(rollout) == len(single)


def test_unknown_keys_name_the_nearest():
    with pytest.raises(RefusedError, match="coeff_S_integer"):
        read_config("stoichiometry", {"training": {"coeff_integer": 1.0}})


def test_the_schema_describes_every_key():
    from trainers.schema import SCHEMA_FILE

    found = json.loads(SCHEMA_FILE.read_text())["systems"]["stoichiometry"]
    described = {f"{section}.{k}": v for section in ("graph_model", "training") for k, v in
                 found["sections"][section].items()}  # fmt: skip
    assert set(described) == set(CHANGES) | ELSEWHERE
    assert all(v["description"] and v["unit"] and v["acts_when"] for v in described.values())
