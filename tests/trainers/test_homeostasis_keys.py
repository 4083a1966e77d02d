"""Every key of graph_model and training of system `homeostasis` acts, or `idle_keys` says that it cannot."""

import pytest

from tests.trainers.metabolism import config, same, sections, trained, write_spec
from trainers.errors import RefusedError
from trainers.idle_homeostasis import idle_keys
from trainers.prepare.build import prepare
from trainers.settings import read_config
from trainers.settings_homeostasis import HomeostasisModel, HomeostasisTraining

CHANGES = {
    "hidden_dim_sub": 5, "n_layers_sub": 2, "hidden_dim_node": 5, "n_layers_node": 3, "embedding_dim": 3,
    "MLP_activation": "tanh", "legacy_softplus": True, "seed": 4, "n_epochs": 2, "data_augmentation_loop": 2,
    "batch_size": 6, "n_runs": 2, "log_k_init_width": 1.0, "learning_rate_start": 3e-3, "learning_rate_k": 1e-2,
    "learning_rate_embedding": 1e-2, "learning_rate_node": 1e-2, "learning_rate_sub": 1e-3, "lr_scheduler": "cosine",
    "lr_scheduler_final": 0.5, "lr_scheduler_drops": 1, "freeze_stoichiometry": False, "learning_rate_S_start": 0.1,
    "coeff_S_L1": 1.0, "coeff_S_integer": 1.0, "coeff_mass_conservation": 1.0, "coeff_MLP_sub_diff": 50.0,
    "coeff_MLP_node_L1": 0.0, "coeff_MLP_sub_norm": 0.0, "coeff_k_floor": 0.0, "k_floor_threshold": 0.0,
    "coeff_k_spread": 50.0, "fix_gauge": True, "homeostasis_start": 0.5, "coeff_homeostasis_residual": 1.0,
    "recurrent_training": True, "time_step": 3, "noise_recurrent_level": 0.1, "normalise_dc": "metabolite",
    "loss": "mse", "embedding_init_scale": 0.5, "embedding_replacement": "kmeans",
    "embedding_replacement_at": 0.2, "embedding_clusters_max": 2,
}  # fmt: skip
"""Another value of every key."""
CONFIGS = {
    "plain": {},
    "S learned": {"freeze_stoichiometry": False},
    "rollouts": {"recurrent_training": True, "time_step": 2},
    "cosine": {"lr_scheduler": "cosine"},
    "drops": {"lr_scheduler": "step"},
    "no floor": {"coeff_k_floor": 0.0},
    "clusters": {"embedding_replacement": "kmeans", "embedding_replacement_at": 0.6},
    "shared rate": {"learning_rate_k": 0.0, "learning_rate_node": 0.0},
    "legacy": {"legacy_softplus": True},
}


@pytest.fixture(scope="module")
def regime(tmp_path_factory):
    folder = tmp_path_factory.mktemp("homeostasis")
    prepare(write_spec(folder / "SPEC.yaml"), folder / "data")
    return folder / "data"


def test_every_key_has_another_value_here():
    assert set(CHANGES) == set(HomeostasisModel.model_fields) | set(HomeostasisTraining.model_fields)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_key_acts_or_is_said_to_be_idle(name, regime):
    base = CONFIGS[name]
    idle = {key.partition(".")[2] for key in idle_keys(config(**base))}
    _, start, _ = trained(regime, **base)
    for key, value in CHANGES.items():
        if base.get(key, config().training.model_dump().get(key, config().graph_model.model_dump().get(key))) == value:
            continue
        _, other, _ = trained(regime, **base | {key: value})
        assert same(start, other) == (key in idle), key


def test_the_terms_of_the_loss_are_the_coefficients_that_are_above_0(regime):
    terms = trained(regime)[0].terms[0]
    assert set(terms) == {"prediction", "MLP_node_L1", "MLP_sub_diff", "MLP_sub_norm", "k_floor"}
    bare = {f"coeff_{k}": 0.0 for k in ("MLP_node_L1", "MLP_sub_diff", "MLP_sub_norm", "k_floor")}
    assert set(trained(regime, **bare)[0].terms[0]) == {"prediction"}


def test_the_homeostasis_joins_where_it_is_told_to(regime):
    notes, _, _ = trained(regime, homeostasis_start=0.6)
    assert ["MLP_node_L1" in terms for terms in notes.terms] == [False, False, False, True, True]
    assert notes.phases == [1, 1, 1, 2, 2]


def test_one_noiseless_euler_step_is_the_single_step(regime):
    single, rollout = trained(regime)[0].terms, trained(regime, recurrent_training=True, time_step=1)[0].terms
    assert [t["prediction"] for t in rollout] == pytest.approx([t["prediction"] for t in single], rel=1e-2)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"simulation__n_runs": 2, "n_runs": 3}, "training asks for 3"),
        ({"simulation__use_mass_action": False}, "needs use_mass_action"),
        ({"simulation__stoichiometry_given": False}, "stoichiometry_given: true"),
        ({"simulation__n_metabolite_types": 5, "simulation__homeostatic_lambda": [0.1] * 5,
          "simulation__homeostatic_baseline": [1.0] * 5}, "expected at most 4"),
        ({"time_step": 60, "simulation__n_frames": 200}, "less than a quarter"),
        ({"lr_nod": 1.0}, "nearest valid keys"),
    ],
)  # fmt: skip
def test_a_config_that_cannot_work_is_refused_by_name(keys, told):
    with pytest.raises(RefusedError, match=told):
        read_config("homeostasis", sections(**keys))
