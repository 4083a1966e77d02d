"""Make the data of a neural signal regime and measure them.

Axis letters: T frames, N neurons, G grid points, K held-out frames, R rollouts, F rollout frames.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from trainers.data import SignalData, load_signal
from trainers.prepare import baselines, findings
from trainers.prepare.activity import Array
from trainers.prepare.guard import guard
from trainers.prepare.own import own_guard, take_over
from trainers.prepare.simulate import simulate
from trainers.prepare.simulator import System, acting_system
from trainers.schema import NEEDS_TRUTH
from trainers.scoring.metrics import SOURCE, load_truth
from trainers.settings import SignalConfig

Metrics = dict[str, float | None]


def make(config: SignalConfig, folder: Path) -> dict[str, Any]:
    """Write the files of a regime into `folder`; return what preflight.json says of them."""
    if config.simulation.activity_file:
        take_over(config.simulation, folder)
        return measure_own(config, folder)
    simulate(config.simulation, folder)
    return measure(config, folder)


def measure(config: SignalConfig, folder: Path) -> dict[str, Any]:
    """Return what preflight.json says of the files of `folder` (the caller adds whose they are).

    Nothing is taken over from the simulation in memory: everything is read back from the files. Large data are looked
    at in part, see `guard.BUDGET` and `baselines.chosen_frames`; `looked_at` says how much.
    """
    simulation = config.simulation
    legacy = simulation.legacy_sparse_transpose
    told = guard(folder, simulation.noise_model_level, legacy)
    truth = load_truth(folder)
    data, inputs = load_signal(folder / "train", folder / "inputs")
    system = System(truth.W, truth.types, truth.params)
    u, du = _sampled(data)
    oracle = baselines.oracle(system, inputs, truth)
    null = baselines.null(config, inputs, truth)
    ceiling, condition = baselines.ceiling(acting_system(system, legacy), u, du, inputs, truth)
    tricks = baselines.tricks(u, du, inputs, truth)
    marks = findings.legacy_marks(simulation.connectivity_filling_factor, oracle, ceiling) if legacy else []
    active = truth.activity | {"condition_number": condition}
    must_be_one = findings.ONE_FOR_PARAMETERS if legacy else findings.ONE_FOR_TRUTH
    reason = None if told["ok"] else told["sentence"]
    reason = reason or findings.oracle_fault(oracle, must_be_one) or findings.null_fault(null)
    return {
        "reason": reason,
        "guard": told,
        "oracle": oracle,
        "null": null,
        "ceiling": ceiling,
        "baselines": tricks,
        "activity": active,
        "looked_at": {"training_frames": len(data.u), "guard": told["pairs"], "least_squares": len(u)},
        "marks": marks,
        "warnings": findings.warnings(active, ceiling),
    }


def measure_own(config: SignalConfig, folder: Path) -> dict[str, Any]:
    """Return what preflight.json says of a person's own recording: no oracle, no ceiling, no metric of a truth."""
    told, source = own_guard(folder), json.loads((folder / SOURCE).read_text())
    warnings = source.pop("warnings")
    truth = load_truth(folder)
    data, inputs = load_signal(folder / "train", folder / "inputs")
    u, du = _sampled(data)
    null = baselines.null(config, inputs, truth)
    reason = None if told["ok"] else told["sentence"]
    reason = reason or findings.null_fault(null, ("one_step_R2",))
    return {
        "reason": reason,
        "truth": False,
        "absent_metrics": sorted(NEEDS_TRUTH["signal"]),
        "source": source,
        "guard": told,
        "oracle": {},
        "null": null,
        "ceiling": {},
        "baselines": baselines.tricks(u, du, inputs, truth),
        "activity": truth.activity,
        "looked_at": {"training_frames": len(data.u), "guard": told["pairs"], "least_squares": len(u)},
        "marks": [],
        "warnings": [*warnings, *findings.own_warnings(truth.activity)],
    }


def _sampled(data: SignalData) -> tuple[Array, Array]:
    chosen = torch.from_numpy(baselines.chosen_frames(*data.u.shape))
    return data.u[chosen].numpy(), data.du[chosen].numpy()
