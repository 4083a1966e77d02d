"""Every key of graph_model and training acts, or `idle_keys` says that it cannot: a dead key fails here."""

import pytest
import torch

from tests.trainers.runs import Notes, frames, tiny
from trainers.errors import RefusedError
from trainers.idle import idle_keys
from trainers.settings import GraphModel, Reader, SignalTraining
from trainers.signal import data_train_signal

ONE_LEGAL_VALUE = {"graph_model.signal_model_name", "graph_model.output_size",
                   "graph_model.input_size", "graph_model.input_size_update"}  # fmt: skip
"""Keys that no config can change alone."""
ELSEWHERE = {"training.recurrent_checkpointing", "training.compile", "training.embedding_clusters_max"}
"""Keys that act on memory and time, or on more groups than five neurons have: test_recurrent, test_compiling,
test_embeddings."""

CHANGES = {
    "graph_model.hidden_dim": [5], "graph_model.n_layers": [2], "graph_model.hidden_dim_update": [5],
    "graph_model.n_layers_update": [2], "graph_model.MLP_activation": ["leaky_relu", "tanh", "sigmoid", "soft_relu"],
    "graph_model.embedding_dim": [1], "graph_model.lin_edge_mode": ["tanh", "mlp"], "graph_model.W_rank": [0, 2],
    "graph_model.W_zero_diagonal": [True, False],
    "training.seed": [8], "training.n_epochs": [1, 3], "training.data_augmentation_loop": [4],
    "training.batch_size": [4], "training.W_init_scale": [0.0, 0.3], "training.learning_rate_W_start": [0.02],
    "training.optimizer_W": ["adam", "sgd"], "training.momentum_W": [0.0, 0.5], "training.grad_clip_W": [1e-3],
    "training.lr_scheduler": ["none", "cosine", "step"], "training.lr_scheduler_scope": ["W", "all"],
    "training.lr_scheduler_final": [0.2], "training.lr_scheduler_drops": [1],
    "training.learning_rate_start": [3e-3], "training.learning_rate_embedding_start": [3e-3],
    "training.coeff_W_L1": [0.0, 0.5], "training.first_coeff_L1": [0.0, 0.5], "training.coeff_W_proximal": [2.0],
    "training.coeff_W_small": [0.0, 0.5], "training.W_small_threshold": [0.4], "training.coeff_W_group_lasso": [0.5],
    "training.n_epochs_init": [0, 1, 2], "training.coeff_edge_diff": [0.0, 50.0],
    "training.coeff_edge_diff_phase2": [0.0, 50.0], "training.recurrent_training": [False, True],
    "training.time_step": [2], "training.noise_recurrent_level": [0.05],
    "training.recurrent_training_start_epoch": [0, 1], "training.neural_ODE_training": [False, True],
    "training.ode_method": ["dopri5", "rk4", "euler", "midpoint", "heun3"], "training.ode_rtol": [1e-3],
    "training.ode_atol": [1e-3], "training.ode_adjoint": [True, False], "training.ode_state_clamp": [0.1],
    "training.training_single_type": [True, False], "training.loss": ["norm", "mse"],
    "training.recurrent_intermediate": [0.0, 0.5], "training.recurrent_curriculum": [False, True],
    "training.recurrent_parameters": [[0.5, 2.0]], "training.embedding_replacement": ["none", "kmeans"],
    "training.embedding_replacement_at": [0.8], "training.embedding_clusters": [0, 1],
    "training.normalise_du": [False, True],
    "training.precision": ["float32", "bfloat16"],
}  # fmt: skip
"""Other values of every key; the one that a config has already is skipped."""

PENALTIES = {"coeff_W_L1": 0.1, "first_coeff_L1": 0.2, "coeff_W_proximal": 0.5, "coeff_W_small": 0.3,
             "coeff_W_group_lasso": 0.3}  # fmt: skip
ODE = {"neural_ODE_training": True, "time_step": 3, "data_augmentation_loop": 1, "ode_rtol": 0.01, "ode_atol": 0.01,
       "ode_adjoint": False}  # fmt: skip
CONFIGS = {
    "plain": {},
    "all penalties": PENALTIES,
    "no phase 2": PENALTIES | {"n_epochs_init": 2},
    "no phase 1": PENALTIES | {"n_epochs_init": 0, "coeff_edge_diff_phase2": 5.0},
    "two equal phases": {"coeff_edge_diff_phase2": 20.0},
    "tanh": PENALTIES | {"lin_edge_mode": "tanh"},
    "tanh, two equal phases": {"lin_edge_mode": "tanh"},
    "low rank": PENALTIES | {"W_rank": 3},
    "low rank, two equal phases": {"W_rank": 3, "coeff_W_proximal": 0.5, "coeff_edge_diff_phase2": 20.0},
    "sgd": {"optimizer_W": "sgd", "grad_clip_W": 0.1},
    "cosine": {"lr_scheduler": "cosine", "training_single_type": False},
    "step": {"lr_scheduler": "step", "lr_scheduler_scope": "all", "loss": "mse"},
    "recurrent": {"recurrent_training": True, "time_step": 3, "W_zero_diagonal": False},
    "recurrent, too late": {"recurrent_training": True, "time_step": 3, "recurrent_training_start_epoch": 2},
    "no rollout, too late": {"recurrent_training_start_epoch": 2},
    "ODE": ODE,
    "ODE, Euler": ODE | {"ode_method": "euler", "ode_adjoint": True, "recurrent_training_start_epoch": 1},
    "ODE, too late": ODE | {"recurrent_training_start_epoch": 2},
    "rollouts of one frame": {"recurrent_training": True},
    "all of a rollout": {
        "recurrent_training": True,
        "time_step": 3,
        "recurrent_intermediate": 0.2,
        "recurrent_curriculum": True,
        "recurrent_checkpointing": True,
        "normalise_du": True,
    },
    "embeddings": {"training_single_type": False, "embedding_replacement": "kmeans"},
    "two embeddings": {"training_single_type": False, "embedding_replacement": "kmeans", "embedding_clusters": 2},
    "embeddings of one type": {"embedding_replacement": "kmeans", "embedding_clusters": 2},
}


def trace(**keys):
    """Return the losses of every step and all learned numbers."""
    run, (data, inputs) = Notes(), frames()
    model = data_train_signal(Reader(tiny(**keys)), data, inputs, run)
    losses = [sum(terms.values()) for terms in run.terms]
    return losses, torch.cat([p.detach().flatten() for p in model.parameters()])


def same(first, second):
    return first[0] == second[0] and torch.equal(first[1], second[1])


def others(config, key):
    """Return the configs that differ from this one in one key, as changes."""
    section, name = key.split(".")
    for value in CHANGES[key]:
        if value != getattr(getattr(config, section), name):
            with_it = {"input_size": 1 + value, "input_size_update": 1 + value} if name == "embedding_dim" else {}
            yield {name: value, **with_it}


def test_the_table_has_every_key():
    keys = {f"graph_model.{k}" for k in GraphModel.model_fields} | {
        f"training.{k}" for k in SignalTraining.model_fields
    }
    assert keys == set(CHANGES) | ONE_LEGAL_VALUE | ELSEWHERE


@pytest.mark.parametrize("name", CONFIGS)
def test_a_key_acts_exactly_when_it_is_not_named_idle(name):
    keys = CONFIGS[name]
    config, before = tiny(**keys), trace(**keys)
    idle, wrong = idle_keys(config), []
    assert set(idle) <= set(CHANGES) | ELSEWHERE
    for key in CHANGES:
        try:
            changes = [same(before, trace(**(keys | change))) for change in others(config, key)]
        except RefusedError:  # the other kind of rollout
            assert key in ("training.recurrent_training", "training.neural_ODE_training")
            continue
        if key in idle and not all(changes):
            wrong.append(f"{key} acts although {idle[key]}")
        if key not in idle and all(changes):
            wrong.append(f"{key} changes nothing and is not named idle")
    assert not wrong


def test_the_default_config_names_what_the_seed_leaves_off():
    idle = idle_keys(tiny())
    assert {"training.momentum_W", "training.W_small_threshold", "training.ode_rtol", "training.time_step",
            "training.recurrent_parameters", "training.recurrent_checkpointing"} <= set(idle)  # fmt: skip
    assert all(reason for reason in idle.values())
