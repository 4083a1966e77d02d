"""Build a regime's data folder: whole or not at all, under a lock, the same bytes for the same order.

Axis letters: T frames, N neurons, G grid points, K held-out frames, R rollouts, F rollout frames.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import torch
import yaml
from threadpoolctl import threadpool_limits

from trainers.data import SignalData, load_signal
from trainers.errors import RefusedError
from trainers.prepare import baselines, findings
from trainers.prepare.activity import Array
from trainers.prepare.files import fingerprint
from trainers.prepare.guard import guard
from trainers.prepare.own import own_guard, take_over
from trainers.prepare.simulate import simulate
from trainers.prepare.simulator import System, acting_system
from trainers.schema import NEEDS_TRUTH
from trainers.scoring.metrics import SOURCE, load_truth
from trainers.settings import SignalConfig, load_yaml, read_config
from trainers.yaml_io import write_text

Metrics = dict[str, float | None]


def prepare(spec_file: Path, data_dir: Path) -> bool:
    """Make `data_dir` from an order unless it is complete; return whether it was made now.

    Raises:
        RefusedError: the order is not valid, a recording is not what it says, or an incomplete folder stands in the
            way. `data_dir` is then as before, and nothing is left beside it but the lock.
    """
    spec = _read_spec(spec_file)
    config = read_config(spec["system"], spec["config"])
    if (data_dir / "preflight.json").is_file():
        return False
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    with open(data_dir.with_name(f"{data_dir.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (data_dir / "preflight.json").is_file():
            return False
        if data_dir.exists():
            raise RefusedError(f"{data_dir} is there without preflight.json; remove it and run again")
        temporary = data_dir.with_name(f".{data_dir.name}.building")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            _make(spec, config, temporary)
            os.replace(temporary, data_dir)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return True


def _make(spec: dict[str, Any], config: SignalConfig, folder: Path) -> None:
    with threadpool_limits(limits=1):  # sums must not depend on the number of threads: same order, same bytes
        if config.simulation.activity_file:
            take_over(config.simulation, folder)
            found = measure_own(config, folder)
        else:
            simulate(config.simulation, folder)
            found = measure(config, folder)
    named = {"contract": 1, "system": spec["system"], "regime": spec["regime"]}
    write_text(folder / "preflight.json", json.dumps(named | found, indent=1) + "\n")


def _read_spec(path: Path) -> dict[str, Any]:
    try:
        spec = load_yaml(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RefusedError(f"{path} cannot be read: {error}") from error
    wanted = {"contract", "system", "profile", "regime", "config"}
    if not isinstance(spec, dict) or spec.get("contract") != 1 or not wanted <= set(spec):
        raise RefusedError(f"{path}: expected contract 1 with {', '.join(sorted(wanted))}")
    return spec


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
        "generator_version": config.generator_version,
        "fingerprint": fingerprint(folder),
        "ok": reason is None,
        "reason": reason,
        "truth": True,
        "guard": told,
        "oracle": _plain(oracle),
        "null": _plain(null),
        "ceiling": _plain(ceiling),
        "baselines": _plain(tricks),
        "activity": _plain(active),
        "looked_at": {"training_frames": len(data.u), "guard": told["pairs"], "least_squares": len(u)},
        "marks": marks,
        "warnings": [*marks, *findings.warnings(active, ceiling)],
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
        "generator_version": config.generator_version,
        "fingerprint": fingerprint(folder),
        "ok": reason is None,
        "reason": reason,
        "truth": False,
        "absent_metrics": sorted(NEEDS_TRUTH["signal"]),
        "source": source,
        "guard": told,
        "oracle": {},
        "null": _plain(null),
        "ceiling": {},
        "baselines": _plain(baselines.tricks(u, du, inputs, truth)),
        "activity": _plain(truth.activity),
        "looked_at": {"training_frames": len(data.u), "guard": told["pairs"], "least_squares": len(u)},
        "marks": [],
        "warnings": [*warnings, *findings.own_warnings(truth.activity)],
    }


def _sampled(data: SignalData) -> tuple[Array, Array]:
    chosen = torch.from_numpy(baselines.chosen_frames(*data.u.shape))
    return data.u[chosen].numpy(), data.du[chosen].numpy()


def _plain(values: dict[str, Any]) -> Metrics:
    return {k: None if v is None or not math.isfinite(v) else float(v) for k, v in values.items()}
