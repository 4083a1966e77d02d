"""Other ways to evaluate the right-hand side: fewer bits, compiled. Axis letters: B batch, N neurons."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from models.signal import SignalPropagation
from trainers.errors import RefusedError
from trainers.rollout import Rate, checkpointed

MODES = {"default": None, "reduce-overhead": "reduce-overhead"}
"""Value of `training.compile` -> torch's name of the mode."""
CACHE = "TORCHINDUCTOR_CACHE_DIR"


def right_hand_side(model: SignalPropagation, training: Any) -> tuple[Rate, Rate]:
    """Return `model.rate` as a config wants it evaluated: for single frames, and for the frames of a rollout.

    `precision` bfloat16 is for the matrix products of both MLPs and of W; states and results stay float32. `compile`
    compiles the whole right-hand side of one frame. A rollout calls the same compiled function frame by frame, so that
    the time to compile does not grow with it. `recurrent_checkpointing` is for rollouts alone, and the adjoint of a
    neural ODE keeps no steps that it could spare.

    Args:
        model: what is trained.
        training: section `training`.
    """
    rate: Rate = _narrow(model.rate) if training.precision == "bfloat16" else model.rate
    if training.compile != "none":
        rate = torch.compile(rate, mode=MODES[training.compile], fullgraph=True, dynamic=False)
    spares = training.recurrent_checkpointing and not (training.neural_ODE_training and training.ode_adjoint)
    return rate, checkpointed(rate) if spares else rate


def compiled(model: Any, mode: str) -> Any:
    """Return a module's call as `mode` wants it: itself, or compiled as a whole."""
    return model if mode == "none" else torch.compile(model, mode=MODES[mode], fullgraph=True, dynamic=False)


def _narrow(rate: Rate) -> Rate:
    def narrow(u: torch.Tensor, W: torch.Tensor, sent: torch.Tensor | None = None) -> torch.Tensor:
        with torch.autocast(u.device.type, torch.bfloat16):
            return rate(u, W, sent).float()

    return narrow


@contextlib.contextmanager
def compiler(mode: str, folder: Path, key: str = "training.compile") -> Iterator[None]:
    """Give torch.compile a folder of the run for what it makes, removed in the end, and its errors a sentence.

    Args:
        mode: value of `key`; nothing happens for `none`.
        folder: below what the sandbox lets a run write.
        key: the configuration key that asks for it.

    Raises:
        RefusedError: torch.compile found no compiler, no folder to write to, or code that it cannot compile.
    """
    if mode == "none":
        yield
        return
    import torch._inductor.config as inductor

    inductor.compile_threads = 1  # the graphs are few; helper processes would each import torch
    inductor.cpp_cache_precompile_headers = False  # 150 MB a run
    before = os.environ.get(CACHE)
    os.environ[CACHE] = str(folder)
    try:
        yield
    except Exception as error:
        if not _of_compiler(error):
            raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise RefusedError(
            f"{key}: {mode} does not work here ({reason}); set it to none, or provide a C++ compiler (g++, "
            f"on a GPU triton too) in PATH and let {folder} be written and executed from"
        ) from error
    finally:
        os.environ.pop(CACHE)
        if before is not None:
            os.environ[CACHE] = before
        shutil.rmtree(folder, ignore_errors=True)


def _of_compiler(error: Exception) -> bool:
    return any(kind.__module__ in ("torch._dynamo.exc", "torch._inductor.exc") for kind in type(error).__mro__)
