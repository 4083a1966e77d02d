"""Which devices this machine has, found without importing a numerical library."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Literal


def gpus() -> list[str]:
    """Return the names of NVIDIA GPUs that may be used: indices, or what CUDA_VISIBLE_DEVICES lists ("" means none)."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, "--query-gpu=index", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    found = [line.strip() for line in done.stdout.splitlines() if line.strip().isdigit()]
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is None or not found:
        return found
    names = [part.strip() for part in allowed.split(",") if part.strip()]
    return [name for name in names if name in found or not name.lstrip("-").isdigit()]


def device_kind() -> Literal["cpu", "cuda"]:
    """Return `cuda` when a GPU may be used, else `cpu`."""
    return "cuda" if gpus() else "cpu"


def device_files() -> tuple[str, ...]:
    """Return the device files that a confined CUDA process needs."""
    names = [n for n in sorted(os.listdir("/dev")) if n.startswith("nvidia")] if os.path.isdir("/dev") else []
    return tuple(f"/dev/{n}" for n in names)
