"""A few gradient steps of a sealed order, by the training itself: does changed code do all that a full run does?

The order's config is shrunk, nothing else: the system's own `train` runs, so the trial leaves every file of a run.

What it does not show: what takes many steps to act (an early stop, a rate that waits for a plateau), the memory and
the time of a full epoch, whether the change is any good.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainers.errors import RefusedError
from trainers.order import Order
from trainers.run import Run
from trainers.settings import SignalConfig, read_config
from trainers.systems import part

STEPS = 3
"""Gradient steps of an epoch, where the batch is not so small that the fewest possible are more."""
LEFT = STEPS - 1
"""Gradient steps that a training continued in the midst of its last epoch has left."""
SHORT_RUN = 50
"""Value of simulation.n_frames; training reads the key only to count the steps of an epoch."""


def shortened(system: str, config: Any) -> Any:
    """Return the config with the fewest gradient steps that one epoch can have: systems with a single phase."""
    sections = config.model_dump(exclude_unset=True)
    if system == "inr":
        sections["inr"] = sections.get("inr", {}) | {"inr_total_steps": STEPS}
    else:
        sections["training"] = sections.get("training", {}) | {"n_epochs": 1, "data_augmentation_loop": 1}
    return read_config(system, sections)


def shrunk(config: SignalConfig) -> Any:
    """Return the config of a trial: every regime of the loop in its order, an epoch of a few steps each.

    Epochs are the fewest in which phase 1, phase 2 and the rollouts each begin, in the order in which the config has
    them. Both phases are tried whatever the config (its children may have the other one), and rollouts begin even
    where their start epoch lies beyond `n_epochs`. Everything else, `time_step` and `batch_size` included, stays.
    """
    training = config.training
    unrolls = training.recurrent_training or training.neural_ODE_training
    phase_2, rollouts = max(1, training.n_epochs_init), training.recurrent_training_start_epoch if unrolls else 0
    starts = sorted({0, phase_2, rollouts})
    needed = STEPS * 5 * training.batch_size  # the least n_frames * data_augmentation_loop with that many steps
    changed = {
        "n_epochs": len(starts),
        "n_epochs_init": starts.index(phase_2),
        "recurrent_training_start_epoch": starts.index(rollouts),
        "data_augmentation_loop": max(1, -(-needed // SHORT_RUN)),
    }
    sections = config.model_dump(exclude_unset=True)
    sections["simulation"] = sections.get("simulation", {}) | {"n_frames": SHORT_RUN}
    sections["training"] = sections.get("training", {}) | changed
    return read_config("signal", sections)


class TrialRun(Run):
    """A run that keeps, as `out/checkpoint.cut`, what a kill in the midst of its last epoch would leave."""

    def record(self, stateful: Mapping[str, Any], terms: dict[str, torch.Tensor], phase: int, epoch: int,
               step: int) -> None:  # fmt: skip
        """Take note of a step as `Run` does; at the cut, save what SIGTERM would have saved."""
        super().record(stateful, terms, phase, epoch, step)
        if step == self.total - LEFT:
            self.checkpoint(stateful, epoch, step)
            os.replace(self.out / "checkpoint.pt", self.out / "checkpoint.cut")


def try_out(order: Order, run_dir: Path) -> None:
    """Train a few steps, then once more from a checkpoint in their midst; both must end the same.

    The estimates are compared bit for bit on a CPU; on a GPU, where the order of sums is not restored, the second
    training must only get to its end. A training that stops by itself before the cut is not continued.

    Raises:
        RefusedError: the continued training ended elsewhere, so something that a kill loses decides the result.
        StepError: as `train`.
    """
    out = run_dir / "out"
    checkpoint, estimate, whole = out / "checkpoint.pt", out / "estimate.npz", out / "whole.npz"
    if os.path.lexists(checkpoint):
        os.replace(checkpoint, out / "checkpoint.foreign")
    train = part(order.system, "train").train
    config = shrunk(order.config) if order.system == "signal" else shortened(order.system, order.config)
    small = order._replace(config=config, identity=f"trial of {order.identity}")
    train(small, run_dir, TrialRun)
    if not (out / "checkpoint.cut").exists():
        return
    os.replace(estimate, whole)
    os.replace(out / "checkpoint.cut", checkpoint)
    train(small, run_dir, Run)
    differing = _differing(whole, estimate) if order.device == "cpu" else []
    whole.unlink()
    if differing:
        raise RefusedError(
            f"a training continued {LEFT} steps before its end must end as the whole one, but {', '.join(differing)} "
            "differ: whatever must survive a kill belongs into `stateful`, or must follow from `step`"
        )


def _differing(left: Path, right: Path) -> list[str]:
    with np.load(left) as one, np.load(right) as other:
        return [name for name in one.files if not np.array_equal(one[name], other[name], equal_nan=True)]
