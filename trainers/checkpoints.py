"""Checkpoints that a killed training continues from, bit for bit on a CPU.

What it does not restore: the order of floating-point sums on a GPU, and anything an edited loop keeps outside the
objects it hands over in `stateful`.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainers.yaml_io import write_atomic

FORMAT = 1


def save(path: Path, stateful: Mapping[str, Any], progress: dict[str, Any], identity: str) -> None:
    """Replace the checkpoint by the present state.

    Args:
        path: `out/checkpoint.pt`.
        stateful: name -> object with `state_dict` and `load_state_dict` (model, optimizer, scheduler), a
            `torch.Generator`, or a tensor that is changed in place.
        progress: where training stands: numbers only.
        identity: sha of config, data, code and device kind.
    """
    states = {name: _state(value) for name, value in stateful.items()}
    _, keys, position, has_gauss, gauss = np.random.get_state()
    content = {
        "format": FORMAT,
        "identity": identity,
        "progress": progress,
        "states": states,
        "rng_torch": torch.get_rng_state(),
        "rng_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "rng_numpy": [torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(gauss)],
    }
    write_atomic(path, lambda file: torch.save(content, file))


def load(path: Path, stateful: Mapping[str, Any], identity: str) -> dict[str, Any] | None:
    """Restore `stateful` and the random states; return the saved progress, or None when there is nothing to continue.

    A checkpoint of another identity, another format, or one that cannot be read is renamed to `checkpoint.foreign`;
    nothing of it is used.
    """
    if path.is_symlink() or not path.is_file():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        usable = content["identity"] == identity and content["format"] == FORMAT
        usable = usable and set(content["states"]) == set(stateful)
    except (RuntimeError, EOFError, KeyError, TypeError, ValueError, OSError, pickle.UnpicklingError):
        usable = False
    if not usable:
        os.replace(path, path.with_name("checkpoint.foreign"))
        return None
    for name, value in stateful.items():
        _restore(value, content["states"][name])
    torch.set_rng_state(content["rng_torch"])
    if content["rng_cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(content["rng_cuda"])
    keys, position, has_gauss, gauss = content["rng_numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    return dict(content["progress"])


def _state(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value
    return value.get_state() if isinstance(value, torch.Generator) else value.state_dict()


def _restore(value: Any, state: Any) -> None:
    if isinstance(value, torch.Tensor):
        value.copy_(state)
    elif isinstance(value, torch.Generator):
        value.set_state(state)
    else:
        value.load_state_dict(state)
