"""The stoichiometry exploration at its own size: its ranges hold a recovery, and the control has none."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from tests.trainers.test_training import restore_global_state  # noqa: F401 (a fixture)
from trainers.data_metabolism import load_stoichiometry
from trainers.prepare.build import prepare
from trainers.run import Run
from trainers.scoring.stoichiometric import load_truth, score_estimate
from trainers.settings import Reader, load_yaml, read_config
from trainers.stoichiometry import data_train_stoichiometry, estimates

START = Path(__file__).resolve().parents[2] / "explorations" / "metabolism_stoichiometry" / "config.yaml"
FOUND_MODEL = {"hidden_dim": 16, "output_size": 8}
FOUND = {"seed": 0, "n_runs": 20, "n_epochs": 5, "n_epochs_init": 2, "first_coeff_L1": 3e-7,
         "data_augmentation_loop": 240, "batch_size": 32,
         "frame_sampling": "log_time", "S_init": "graph_sign",
         "S_init_scale": 1.0, "S_refit_every": 0.05, "log_k_init_center": -2.0, "log_k_init_width": 2.0,
         "functions_start": 0.25, "learning_rate_start": 3e-3, "learning_rate_S_start": 2e-2, "learning_rate_k": 1e-2,
         "gauge_parameter": True, "learning_rate_gauge": 1e-2, "gauge_start": 0.15, "coeff_S_floor": 3e-3,
         "S_floor_start": 0.15, "S_floor_ramp": 0.05, "S_floor_share": 0.14,
         "coeff_mass_conservation": 1e-2, "adam_beta2": 0.99,
         "lr_warmup": 0.02, "lr_scheduler": "cosine", "normalise_dc": "metabolite", "loss": "mse"}  # fmt: skip
"""Tuned at network 42; network 43 was looked at once, afterwards."""
FIFTH = {"n_epochs": 1, "n_epochs_init": 0}
"""What a control is trained with: a fifth of the steps shows that it goes nowhere."""


def trained(folder, draw, fewer=None, **simulation):
    """Return metrics and preflight of `FOUND` on a network."""
    config = load_yaml(START.read_text())
    del config["claude"]
    config["simulation"] |= simulation | {"seed": draw}
    config["graph_model"] |= FOUND_MODEL
    config["training"] |= FOUND | (fewer or {})
    spec = {"contract": 1, "system": "stoichiometry", "profile": "cpu", "regime": "multi", "config": config}
    (folder / "SPEC.yaml").write_text(yaml.safe_dump(spec))
    prepare(folder / "SPEC.yaml", folder / "data")
    data, inputs = load_stoichiometry(folder / "data" / "train", folder / "data" / "inputs")
    torch.set_num_threads(1)
    model = data_train_stoichiometry(Reader(read_config("stoichiometry", config)), data, inputs, Run(folder / "run"))
    arrays = {k: v.detach().double().numpy() for k, v in estimates(model, inputs).items()}
    preflight = json.loads((folder / "data" / "preflight.json").read_text())
    return score_estimate(arrays, load_truth(folder / "data")), preflight


@pytest.mark.science
def test_many_trajectories_give_s(tmp_path):
    found, preflight = trained(tmp_path, 43)
    assert found["stoichiometry_R2"] > max(0.94, preflight["baselines"]["stoichiometry_R2_mass_balance"])
    assert found["sign_accuracy"] > 0.99, "signs are learned"


@pytest.mark.science
def test_a_shuffled_control_stays_below_the_graph(tmp_path):
    found, preflight = trained(tmp_path, 43, FIFTH, shuffled_control=True)
    assert found["stoichiometry_R2"] < preflight["baselines"]["stoichiometry_R2_sign_only"]
