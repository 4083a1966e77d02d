"""Tiny regimes and orders of system `stoichiometry`, and a run without files."""

import yaml

from tests.trainers.runs import Notes, write_sealed
from trainers.settings import read_config

SIMULATION = {"n_metabolites": 8, "n_reactions": 6, "n_frames": 60, "n_runs": 2, "log_k_min": -2.0, "log_k_max": 0.0}
MODEL = {"hidden_dim": 5, "output_size": 3, "n_layers": 2}
TRAINING = {"seed": 9, "n_epochs": 2, "data_augmentation_loop": 4, "batch_size": 8, "n_runs": 2}
STEPS = 6
"""Gradient steps of an epoch of `TRAINING`."""


def config(simulation=None, **keys):
    """Return sections with these keys of graph_model or training changed."""
    tiny = read_config("stoichiometry", {})
    model = {k: v for k, v in keys.items() if k in type(tiny.graph_model).model_fields}
    training = {k: v for k, v in keys.items() if k not in model}
    return {
        "simulation": SIMULATION | (simulation or {}),
        "graph_model": MODEL | model,
        "training": TRAINING | training,
    }


def write_spec(path, sections=None, **simulation):
    sections = sections or config()
    told = sections | {"simulation": sections["simulation"] | {"seed": 5} | simulation}
    spec = {"contract": 1, "system": "stoichiometry", "profile": "cpu", "regime": "abc", "config": told}
    path.write_text(yaml.safe_dump(spec))
    return path


def write_order(run_dir, data_dir, identity="same", **keys):
    """Write a sealed run.yaml and return the run folder."""
    return write_sealed(run_dir, data_dir, "stoichiometry", config(**keys), identity)


class Terms(Notes):
    """A run without files that keeps the loss terms and phases."""

    def record(self, stateful, terms, phase, epoch, step):
        self.terms.append({name: value.item() for name, value in terms.items()})
        self.phases.append(phase)
