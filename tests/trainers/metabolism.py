"""A tiny metabolic regime: 12 metabolites of two types, 10 reactions (3 cycles, one reaction empty), 300 frames."""

import torch
import yaml

from tests.trainers.runs import Notes, write_sealed
from trainers.data_metabolism import load_metabolism
from trainers.homeostasis import data_train_homeostasis, estimates
from trainers.settings import read_config
from trainers.settings_homeostasis import HomeostasisModel

SIMULATION = {
    "n_metabolites": 12, "n_metabolite_types": 2, "n_reactions": 10, "cycle_fraction": 1.0, "cycle_length": 3,
    "use_mass_action": True, "log_k_min": -2.0, "log_k_max": -1.0, "flux_limit": False,
    "homeostatic_lambda": [0.01, 0.02], "homeostatic_baseline": [4.0, 6.0], "c_min": 1.0, "c_max": 9.0,
    "n_frames": 300, "delta_t": 0.1, "stoichiometry_given": True, "n_runs": 2,
}  # fmt: skip
MODEL = {"hidden_dim_sub": 8, "hidden_dim_node": 8, "n_layers_node": 2, "MLP_activation": "relu"}
TRAINING = {"seed": 3, "data_augmentation_loop": 1, "batch_size": 12, "coeff_MLP_sub_diff": 1.0,
            "k_floor_threshold": -0.5}  # fmt: skip
STEPS = 5
"""Gradient steps of an epoch of `TRAINING`."""
HIDDEN = ("seed", "homeostatic_lambda", "homeostatic_baseline")


def sections(**keys):
    """Return the sections of a config, with these keys of simulation, graph_model or training changed."""
    found = {"simulation": SIMULATION | {"seed": 5}, "graph_model": dict(MODEL), "training": dict(TRAINING)}
    for name, value in keys.items():
        section, _, key = name.rpartition("__")
        section = section or ("graph_model" if key in HomeostasisModel.model_fields else "training")
        found[section] = found[section] | {key: value}
    return found


def config(**keys):
    return read_config("homeostasis", sections(**keys))


def write_spec(path, **keys):
    spec = {"contract": 1, "system": "homeostasis", "profile": "cpu", "regime": "abc", "config": sections(**keys)}
    path.write_text(yaml.safe_dump(spec))
    return path


def write_order(run_dir, data_dir, identity="same", **keys):
    """Write a sealed run.yaml and return the run folder."""
    told = sections(**keys)
    told["simulation"] = {k: v for k, v in told["simulation"].items() if k not in HIDDEN}
    return write_sealed(run_dir, data_dir, "homeostasis", told, identity)


def trained(data_dir, **keys):
    """Train in memory; return the notes of the run, what was learned, and the model."""
    data, inputs = load_metabolism(data_dir / "train", data_dir / "inputs")
    notes = _Notes()
    model = data_train_homeostasis(config(**keys), data, inputs, notes)
    return notes, {k: v.detach().clone() for k, v in estimates(model, inputs).items()}, model


class _Notes(Notes):
    def record(self, stateful, terms, phase, epoch, step):
        self.terms.append({name: value.item() for name, value in terms.items()})
        self.phases.append(phase)


def same(left, right):
    """Return whether two sets of estimates are equal bit for bit."""
    return all(left[k].shape == right[k].shape and torch.equal(left[k], right[k]) for k in left)
