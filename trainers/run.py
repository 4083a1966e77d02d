"""The files that a training leaves under `out/`: progress, checkpoints, estimates, train.json."""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainers import checkpoints
from trainers.errors import DivergedError, StoppedError
from trainers.order import Order
from trainers.yaml_io import write_atomic, write_text

FLUSH_S = 1.0
"""Time between two lines of progress.jsonl; only then is the loss looked at (a look waits for the device)."""


class Run:
    """Files of a training run: progress, checkpoints, estimates, its end.

    Args:
        run_dir: RUN_DIR; only `run_dir/out` is written.
        identity: sha that a checkpoint must carry to be continued.
        device: `cpu` or `cuda`.
    """

    def __init__(self, run_dir: Path, identity: str = "", device: str = "cpu") -> None:
        self.out = run_dir / "out"
        (self.out / "estimates").mkdir(parents=True, exist_ok=True)
        self.identity = identity
        self.device = torch.device(device)
        self.stop_requested = False
        self.total = 0
        self.last = (0, 0)
        """Epoch and number of the last gradient step taken, those before a kill included."""
        self._elapsed_before = 0.0
        self._start = self._last_line = time.monotonic()
        self._sums: dict[str, torch.Tensor] = {}
        self._steps, self._phase, self._epoch = 0, 1, 0
        self._epoch_sum, self._epoch_steps = torch.zeros((), dtype=torch.float64), 0
        self._counts: dict[str, tuple[int, int]] = {}

    def listen(self) -> None:
        """Turn SIGTERM into `stop_requested`."""
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "stop_requested", True))

    @property
    def elapsed_s(self) -> float:
        """Seconds of training, those before a kill included."""
        return self._elapsed_before + time.monotonic() - self._start

    # --- continuing ------------------------------------------------------------------------------------------------

    def resume(self, stateful: Mapping[str, Any], total: int) -> int:
        """Restore an equal-identity checkpoint into `stateful`; return the gradient steps already taken (0 without)."""
        self.total = total
        progress = checkpoints.load(self.out / "checkpoint.pt", stateful, self.identity)
        if progress is None:
            return 0
        self._elapsed_before = float(progress["elapsed_s"])
        self._epoch_sum = torch.tensor(progress["epoch_sum"], dtype=torch.float64)
        self._epoch_steps = int(progress["epoch_steps"])
        self._counts = {name: (int(sum_), int(steps)) for name, (sum_, steps) in progress["counts"].items()}
        self.last = (int(progress["epoch"]), int(progress["step"]))
        print(f"continuing from step {progress['step']} of {total}", flush=True)
        return int(progress["step"])

    def checkpoint(self, stateful: Mapping[str, Any], epoch: int, step: int) -> None:
        """Save everything that `resume` needs; raises DivergedError before a bad state is saved."""
        self._check(epoch, step)
        progress = {"epoch": epoch, "step": step, "elapsed_s": self.elapsed_s,
                    "epoch_sum": float(self._epoch_sum), "epoch_steps": self._epoch_steps,
                    "counts": {name: list(count) for name, count in self._counts.items()}}  # fmt: skip
        checkpoints.save(self.out / "checkpoint.pt", stateful, progress, self.identity)

    # --- progress --------------------------------------------------------------------------------------------------

    def start_epoch(self) -> None:
        """Forget the mean loss of the epoch before."""
        self._epoch_sum, self._epoch_steps = torch.zeros((), dtype=torch.float64), 0

    def count(self, name: str, amount: int) -> None:
        """Add a whole number of a gradient step, before its `record`; train.json has the mean over the steps told."""
        known, steps = self._counts.get(name, (0, 0))
        self._counts[name] = (known + amount, steps + 1)

    def record(self, stateful: Mapping[str, Any], terms: dict[str, torch.Tensor], phase: int, epoch: int,
               step: int) -> None:  # fmt: skip
        """Take note of a gradient step: sums every term; now and then writes a line and answers SIGTERM.

        Args:
            stateful: what a checkpoint holds.
            terms: loss terms of the step, coefficients included; `prediction` is one of them.
            phase: 1 or 2.
            epoch: its number, from 0.
            step: gradient steps taken so far, this one included.

        Raises:
            DivergedError: a term is NaN or infinite.
            StoppedError: SIGTERM arrived; the checkpoint is written.
        """
        if self._steps and epoch != self._epoch:  # no line mixes two epochs, so none mixes two phases
            self._line(self._phase, self._epoch, step - 1)
        self._phase, self._epoch, self.last = phase, epoch, (epoch, step)
        for name, value in terms.items():
            value = value.detach()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._steps += 1
        self._epoch_sum = self._epoch_sum + terms["prediction"].detach()
        self._epoch_steps += 1
        now = time.monotonic()
        if now - self._last_line < FLUSH_S and step != self.total and not self.stop_requested:
            return
        self._last_line = now
        self._line(phase, epoch, step)
        if self.stop_requested:
            self.checkpoint(stateful, epoch, step)
            raise StoppedError(f"stopped by SIGTERM after step {step} of {self.total}; a checkpoint is written")

    def _check(self, epoch: int, step: int) -> None:
        for name, value in self._sums.items():
            if not math.isfinite(float(value)):
                raise DivergedError(
                    f"loss term {name} became {float(value)} at epoch {epoch}, near step {step} of {self.total}; "
                    "lower the learning rates or the coefficients"
                )

    def _line(self, phase: int, epoch: int, step: int) -> None:
        means = {k: _finite(float(v) / self._steps) for k, v in self._sums.items()} if self._steps else {}
        known = [v for v in means.values() if v is not None]
        line = {"phase": phase, "epoch": epoch, "step": step, "total": self.total,
                "loss": sum(known) if len(known) == len(means) else None, "terms": means,
                "elapsed_s": round(self.elapsed_s, 3)}  # fmt: skip
        with open(self.out / "progress.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._check(epoch, step)
        self._sums, self._steps = {}, 0

    @property
    def mean_prediction_loss(self) -> float:
        """Mean of the term `prediction` over the epoch so far."""
        return float(self._epoch_sum) / max(1, self._epoch_steps)

    # --- results ---------------------------------------------------------------------------------------------------

    def save_estimate(self, arrays: Mapping[str, torch.Tensor], epoch: int, step: int, final: bool = False) -> None:
        """Write learned arrays as an intermediate or the final estimate."""
        content = {name: value.detach().cpu().numpy().astype(np.float32) for name, value in arrays.items()}
        content["epoch"], content["step"] = np.int64(epoch), np.int64(step)
        name = "estimate.npz" if final else f"estimates/{epoch:03d}_{step:07d}.npz"
        write_atomic(self.out / name, lambda file: np.savez(file, **content))

    def save_final(self, learned: Mapping[str, torch.Tensor], predicted: Mapping[str, torch.Tensor]) -> None:
        """Write the final estimate; raises DivergedError when something learned is not finite."""
        for name, value in learned.items():
            if not bool(torch.isfinite(value).all()):
                raise DivergedError(f"{name} is not finite after the last step; lower the learning rates")
        self.save_estimate({**learned, **predicted}, *self.last, final=True)

    def finish(self, keys_read: list[str], keys_idle: dict[str, str], final_loss: float) -> None:
        """Write train.json, the last file of a training."""
        versions = {"python": sys.version.split()[0], "torch": torch.__version__, "numpy": np.__version__}
        content = {"keys_read": keys_read, "keys_idle": keys_idle, "final_loss": _finite(final_loss),
                   "training_time_s": self.elapsed_s, "device": self.device.type, "versions": versions,
                   "peak_memory_bytes": peak_memory_bytes(self.device),
                   "counts": {name: known / steps for name, (known, steps) in self._counts.items()}}  # fmt: skip
        write_text(self.out / "train.json", json.dumps(content, indent=1) + "\n")


@contextmanager
def carry_out(run: Run, order: Order, share: bool) -> Iterator[None]:
    """Train inside: deterministic sums, SIGTERM answered, one thread or (`share`) all that the order allows."""
    torch.set_num_threads(order.threads if share else 1)
    if order.device == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    run.listen()
    yield


def peak_memory_bytes(device: torch.device) -> int:
    """Return the most memory that this process ever held: torch's on a GPU (CUDA's own comes on top), else all."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes there, KiB on Linux


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
