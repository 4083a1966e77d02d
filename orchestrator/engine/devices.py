"""Which devices this machine has, found without importing a numerical library."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Literal


def gpus() -> list[int]:
    """Return the indices of NVIDIA GPUs that may be used; CUDA_VISIBLE_DEVICES narrows them, `""` means none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, "--query-gpu=index", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    found = [int(line) for line in done.stdout.split() if line.strip().isdigit()]
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is None:
        return found
    names = {part.strip() for part in allowed.split(",")}
    return [i for i in found if str(i) in names]


def device_kind() -> Literal["cpu", "cuda"]:
    """Return `cuda` when a GPU may be used, else `cpu`."""
    return "cuda" if gpus() else "cpu"


def device_files() -> tuple[str, ...]:
    """Return the device files that a confined CUDA process needs."""
    names = [n for n in sorted(os.listdir("/dev")) if n.startswith("nvidia")] if os.path.isdir("/dev") else []
    return tuple(f"/dev/{n}" for n in names)
