"""Steps per second of a SIREN beside what the machine's matrix products allow: `python -m trainers.bench_inr`.

Times the training loop itself (`trainers.inr.data_train_inr`: sampling, clipping and optimizer included) on random
points, as it stands (eager), with bfloat16, compiled, and captured in CUDA graphs. The roofline is what matrix products
of the same shapes, forward and backward, take alone: 6 x weights x points operations a step at the measured rate.

A GPU gets the full size (8 frames of 1000 cells, 384 x 3); a CPU 2 frames of 200 cells, 128 x 3, one thread unless
told otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import platform
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from trainers.compiling import compiler
from trainers.data_points import HELD, PointData, PointInputs
from trainers.inr import data_train_inr
from trainers.run import Run
from trainers.settings import read_config

WAYS: dict[str, dict[str, Any]] = {
    "eager": {},
    "bfloat16": {"inr_precision": "bfloat16"},
    "compiled": {"inr_compile": "default"},
    "CUDA graphs": {"inr_compile": "reduce-overhead"},
    "compiled, bfloat16": {"inr_compile": "default", "inr_precision": "bfloat16"},
}
SIZES = {"cpu": (2, 200, 128), "cuda": (8, 1000, 384)}
"""Device -> frames of a step, cells, width."""
WARM_UP, STEPS = 20, 200
PRODUCTS = 20
"""Matrix products that are timed for the roofline."""


class Clock(Run):
    """A run whose steps are timed and whose estimates are not written."""

    def __init__(self, folder: Path, device: str) -> None:
        super().__init__(folder, device=device)
        self.seconds: list[float] = []
        self._last = 0.0

    def record(self, stateful: Mapping[str, Any], terms: dict[str, torch.Tensor], phase: int, epoch: int,
               step: int) -> None:  # fmt: skip
        """Note the seconds of a step, the GPU's work included."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        if step > WARM_UP:
            self.seconds.append(now - self._last)
        self._last = now

    def save_estimate(self, arrays: Mapping[str, torch.Tensor], epoch: int, step: int, final: bool = False) -> None:
        """Write nothing."""

    def checkpoint(self, stateful: Mapping[str, Any], epoch: int, step: int) -> None:
        """Write nothing."""


def step_seconds(way: dict[str, Any], device: str) -> float:
    """Return the median seconds of a gradient step."""
    frames, cells, width = SIZES[device]
    inr = {"inr_batch_size": frames, "hidden_dim_inr": width, "inr_total_steps": WARM_UP + STEPS, "omega_inr": 10.0}
    config = read_config("inr", {"inr": inr | way, "training": {"max_minutes": 1e5}})
    x = torch.rand(50, cells, 3)
    data = PointData(torch.rand(50), x, torch.sin(6 * x), torch.ones(50, cells, dtype=torch.bool), ("velocity",))
    inputs = PointInputs({kind: torch.rand(2, 4) for kind in HELD}, torch.rand(2, 4), 1)
    with tempfile.TemporaryDirectory() as folder:
        clock = Clock(Path(folder), device)
        quiet = contextlib.redirect_stdout(io.StringIO())
        with quiet, compiler(config.inr.inr_compile, Path(folder) / "compiled", "inr.inr_compile"):
            data_train_inr(config, data, inputs, clock)
    return statistics.median(clock.seconds)


def roofline(device: str) -> tuple[float, float]:
    """Return operations of a step, and operations per second of matrix products of the hidden layers' shape."""
    frames, cells, width = SIZES[device]
    points = frames * cells
    weights = 4 * width + 3 * width**2 + 3 * width
    left, right = torch.rand(points, width, device=device), torch.rand(width, width, device=device)
    seconds = []
    for _ in range(PRODUCTS):
        started = time.perf_counter()
        left @ right
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return 6.0 * weights * points, 2.0 * points * width**2 / statistics.median(seconds)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m trainers.bench_inr", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    frames, cells, width = SIZES[args.device]
    gpu = args.device == "cuda"
    name = torch.cuda.get_device_name() if gpu else f"{platform.machine()} CPU, {args.threads} thread(s)"
    work, rate = roofline(args.device)
    print(f"{name}, torch {torch.__version__}; {frames} frames of {cells} cells, {width} x 3"
          f"{'' if gpu else '; not measured on GPU'}")  # fmt: skip
    print(f"  roofline: {work / 1e9:.2f} GFLOP a step at {rate / 1e9:.0f} GFLOP/s: {rate / work:.1f} steps/s")
    for label, way in WAYS.items():
        if label == "CUDA graphs" and not gpu:
            continue
        seconds = step_seconds(way, args.device)
        share = work / seconds / rate
        print(f"  {label:20} {1 / seconds:8.1f} steps/s  {1000 * seconds:7.2f} ms  {share:5.0%} of the roofline")


if __name__ == "__main__":
    main()
