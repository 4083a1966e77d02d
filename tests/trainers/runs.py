"""Tiny trainings: sealed orders; in memory a config, frames, and a run that keeps its loss terms and writes nothing."""

import hashlib

import torch
import yaml

from trainers.data import SignalData, SignalInputs
from trainers.settings import GraphModel, read_config

N_NEURONS, N_FRAMES = 5, 60
SIMULATION = {"n_neurons": N_NEURONS, "n_frames": 50}
MODEL = {"hidden_dim": 6, "hidden_dim_update": 6}
TRAINING = {"seed": 9, "n_epochs": 2, "n_epochs_init": 1, "data_augmentation_loop": 2, "batch_size": 8,
            "learning_rate_W_start": 1e-2, "learning_rate_start": 1e-3, "coeff_edge_diff": 20.0}  # fmt: skip
STEPS = 2
"""Gradient steps of an epoch of `TRAINING`."""


def write_sealed(run_dir, data_dir, system, sections, identity="same"):
    """Write the sealed run.yaml of an order and return the run folder."""
    order = {
        "contract": 1, "exploration": "toy", "iteration": 1, "attempt": 1, "system": system, "profile": "cpu",
        "device": "cpu", "threads": 1, "identity": identity, "config": sections,
        "data": {"train": str(data_dir / "train"), "inputs": str(data_dir / "inputs")},
    }  # fmt: skip
    text = yaml.safe_dump(order, sort_keys=False)
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "run.yaml").write_text(text + f"sha256: {hashlib.sha256(text.encode()).hexdigest()}\n")
    return run_dir


def tiny(**keys):
    """Return a config of 5 neurons and 2 x 2 gradient steps, with these keys of graph_model or training changed."""
    model = {k: v for k, v in keys.items() if k in GraphModel.model_fields}
    training = {k: v for k, v in keys.items() if k not in model}
    sections = {"simulation": SIMULATION, "graph_model": MODEL | model, "training": TRAINING | training}
    return read_config("signal", sections)


def frames():
    """Return a slow oscillation and its derivative, with inputs to predict from."""
    generator = torch.Generator().manual_seed(1)
    rate, phase = torch.rand(2, N_NEURONS, generator=generator) + 0.5
    time = torch.arange(N_FRAMES)[:, None] * 0.1
    u, du = 3 * torch.sin(time * rate + 6 * phase), 3 * rate * torch.cos(time * rate + 6 * phase)
    return SignalData(u, du, 0.1), SignalInputs(torch.linspace(-4, 4, 9), u[:2], u[:1], 5, 0.1)


class Notes:
    """A run without files."""

    device = torch.device("cpu")

    def __init__(self):
        self.terms, self.phases, self.rates, self.counts = [], [], [], []

    def resume(self, stateful, total):
        return 0

    def start_epoch(self):
        pass

    def save_estimate(self, arrays, epoch, step, final=False):
        pass

    def checkpoint(self, stateful, epoch, step):
        self.stateful = stateful

    def count(self, name, amount):
        self.counts.append((name, amount))

    def record(self, stateful, terms, phase, epoch, step):
        self.terms.append({name: value.item() for name, value in terms.items()})
        self.phases.append(phase)
        self.rates.append((stateful["optimizer_W"].param_groups[0]["lr"], stateful["optimizer"].param_groups[0]["lr"]))
