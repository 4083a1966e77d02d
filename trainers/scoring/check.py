"""Whether a trial left what scoring reads; no metric, no truth, no torch.

What it does not stop: values that are wrong, slow or made up. A trial asks only whether a full training can be scored.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from trainers.errors import RefusedError
from trainers.order import read_order
from trainers.scoring import estimates
from trainers.systems import part


def check(run_dir: Path, data_dir: Path) -> None:
    """Return if the estimates, train.json and progress.jsonl below `run_dir/out` have the form of the contract.

    Raises:
        RefusedError: one of them has not, or the inputs of the data cannot be read.
    """
    out = run_dir / "out"
    system = part(read_order(run_dir).system, "score")
    shapes = system.input_shapes(data_dir / "inputs")
    estimates.read_estimate(out / "estimate.npz", shapes)
    moments = estimates.list_moments(out / "estimates")
    if not moments:
        raise RefusedError("out/estimates: expected an intermediate estimate, found none; keep `run.save_estimate`")
    for path in moments:
        estimates.read_estimate(path, {name: shapes[name] for name in system.LEARNED})
    _check_train(estimates.read_json(out / "train.json"))
    terms = [line.get("terms") for line in estimates.read_progress(out / "progress.jsonl")]
    if not any(isinstance(found, dict) and "prediction" in found for found in terms):
        raise RefusedError("progress.jsonl: expected a line with the loss term `prediction`, found none")


def _check_train(content: dict[str, Any]) -> None:
    kinds = {"keys_read": list, "keys_idle": dict, "versions": dict, "device": str}
    for name, kind in kinds.items():
        if not isinstance(content.get(name), kind):
            raise RefusedError(f"train.json: {name} must be a {kind.__name__}, found {_told(content.get(name))}")
    for name in ("final_loss", "training_time_s"):
        value = content.get(name)
        if type(value) not in (int, float) or not math.isfinite(value):
            raise RefusedError(f"train.json: {name} must be a finite number, found {_told(value)}")


def _told(value: Any) -> str:
    return repr(value)[:80]
