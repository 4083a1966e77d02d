"""A tiny field regime: 40 cells in two dimensions, 120 frames."""

import torch
import yaml

from tests.trainers.runs import Notes, write_sealed
from trainers.data_points import load_points
from trainers.inr import data_train_inr, estimates
from trainers.settings import read_config
from trainers.settings_inr import Inr

SIMULATION = {"n_cells": 40, "n_frames": 120, "dimension": 2, "delta_t": 0.05, "substeps": 5, "pair_stiffness": 20.0,
              "box": [2.0], "seed": 5}  # fmt: skip
INR = {"hidden_dim_inr": 16, "n_layers_inr": 1, "inr_total_steps": 6, "inr_batch_size": 3}
TRAINING = {"seed": 3, "max_minutes": 5.0}
HIDDEN = ("seed", "points_file", "positions_name", "field_name", "box_name")


def sections(**keys):
    """Return the sections of a config, with these keys of simulation, inr or training changed."""
    found = {"simulation": dict(SIMULATION), "inr": dict(INR), "training": dict(TRAINING)}
    for name, value in keys.items():
        section, _, key = name.rpartition("__")
        section = section or ("inr" if key in Inr.model_fields else "training")
        found[section] = found[section] | {key: value}
    return found


def config(**keys):
    return read_config("inr", sections(**keys))


def write_spec(path, **keys):
    spec = {"contract": 1, "system": "inr", "profile": "cpu", "regime": "abc", "config": sections(**keys)}
    path.write_text(yaml.safe_dump(spec))
    return path


def write_order(run_dir, data_dir, identity="same", **keys):
    """Write a sealed run.yaml and return the run folder."""
    told = sections(**keys)
    told["simulation"] = {k: v for k, v in told["simulation"].items() if k not in HIDDEN}
    return write_sealed(run_dir, data_dir, "inr", told, identity)


def trained(data_dir, **keys):
    """Train in memory; return the notes of the run, and what was learned."""
    data, inputs = load_points(data_dir / "train", data_dir / "inputs")
    notes = _Notes()
    fitted = data_train_inr(config(**keys), data, inputs, notes)
    return notes, {k: v.detach().clone() for k, v in estimates(fitted, inputs).items()}


class _Notes(Notes):
    elapsed_s = 0.0

    def record(self, stateful, terms, phase, epoch, step):
        self.terms.append({name: value.item() for name, value in terms.items()})
        self.phases.append(phase)


def same(left, right):
    """Return whether two sets of estimates are equal bit for bit."""
    return all(left[k].shape == right[k].shape and torch.equal(left[k], right[k]) for k in left)
