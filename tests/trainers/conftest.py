"""A tiny regime (10 neurons, 400 frames) and run folders for it."""

import pytest
import torch
import yaml

from tests.trainers.runs import write_sealed
from trainers.prepare.build import prepare

SIMULATION = {
    "connectivity_type": "chaotic", "connectivity_filling_factor": 0.5, "params": [[1, 0, 7, 0, 1, 0]],
    "phi": "tanh", "n_neurons": 10, "n_neuron_types": 1, "n_frames": 400, "delta_t": 0.01, "start_frame": -100,
}  # fmt: skip
GRAPH_MODEL = {"hidden_dim": 8, "hidden_dim_update": 8}
TRAINING = {
    "seed": 7, "n_epochs": 2, "data_augmentation_loop": 6, "batch_size": 8, "n_epochs_init": 1,
    "coeff_edge_diff": 10.0, "coeff_W_L1": 1e-3, "learning_rate_start": 1e-3,
}  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def write_spec(path, **simulation):
    config = {"simulation": SIMULATION | {"seed": 5} | simulation, "graph_model": GRAPH_MODEL, "training": TRAINING}
    spec = {"contract": 1, "system": "signal", "profile": "cpu", "regime": "abc", "config": config}
    path.write_text(yaml.safe_dump(spec))
    return path


def write_order(run_dir, data_dir, simulation=None, identity="same", **training):
    """Write a sealed run.yaml and return the run folder."""
    config = {
        "simulation": SIMULATION | (simulation or {}),
        "graph_model": GRAPH_MODEL,
        "training": TRAINING | training,
    }
    return write_sealed(run_dir, data_dir, "signal", config, identity)


@pytest.fixture(scope="session")
def regime(tmp_path_factory):
    folder = tmp_path_factory.mktemp("regime")
    prepare(write_spec(folder / "SPEC.yaml"), folder / "data")
    return folder / "data"


@pytest.fixture
def order(tmp_path, regime):
    """Return a function that writes an order of this regime with other training keys."""
    return lambda name="run", **keys: write_order(tmp_path / name, regime, **keys)
