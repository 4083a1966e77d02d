"""Which devices this machine has, found without importing a numerical library."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from typing import Literal

from orchestrator.ports import Gpu

PATIENCE_S = 20.0
"""How long nvidia-smi may take; with a broken driver it hangs, even for SIGKILL."""
QUERY = ("--query-gpu=index,uuid,memory.total,memory.free", "--format=csv,noheader,nounits")
KEPT = ("GPU-", "MIG-")
"""Names that CUDA_VISIBLE_DEVICES may hold though nvidia-smi does not list them (slices of a GPU)."""


def gpus() -> list[Gpu]:
    """Return the NVIDIA GPUs that may be used: all, or those that CUDA_VISIBLE_DEVICES lists ("" means none).

    A number is the index that nvidia-smi shows. As in CUDA, what follows a wrong entry does not count. A machine whose
    nvidia-smi fails, hangs or prints something else has none.
    """
    found = _listed(_ask())
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is None or not found:
        return found
    chosen: dict[str, Gpu] = {}
    for name in allowed.split(","):
        gpu = _named(name.strip(), found)
        if gpu is None:
            break
        chosen.setdefault(gpu.uuid, gpu)
    return list(chosen.values())


def device_kind() -> Literal["cpu", "cuda"]:
    """Return `cuda` when a GPU may be used, else `cpu`."""
    return "cuda" if gpus() else "cpu"


def device_files() -> tuple[str, ...]:
    """Return the device files that a confined CUDA process needs."""
    names = [n for n in sorted(os.listdir("/dev")) if n.startswith("nvidia")] if os.path.isdir("/dev") else []
    return tuple(f"/dev/{n}" for n in names)


def _ask() -> str:
    """Return what nvidia-smi prints, "" when it cannot be asked."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ""
    quiet = subprocess.DEVNULL
    try:
        child = subprocess.Popen(
            [program, *QUERY], stdin=quiet, stdout=subprocess.PIPE, stderr=quiet, start_new_session=True
        )
    except OSError:
        return ""
    assert child.stdout is not None
    with child.stdout:
        try:
            return child.communicate(timeout=PATIENCE_S)[0].decode(errors="replace")
        except subprocess.TimeoutExpired:
            with contextlib.suppress(OSError):
                os.killpg(child.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(1.0)  # not for ever: a process that hangs in the kernel does not die
            return ""


def _listed(text: str) -> list[Gpu]:
    """Return the GPUs of nvidia-smi's lines `index, uuid, MiB in all, MiB free`; other lines are left out."""
    found = []
    for line in text.splitlines():
        index, *rest = (part.strip() for part in line.split(","))
        if not (index.isascii() and index.isdigit()) or len(rest) != 3:
            continue
        uuid = rest[0] if rest[0].startswith(KEPT) else f"index-{index}"
        found.append(Gpu(name=index, uuid=uuid, total_bytes=_mib(rest[1]), free_bytes=_mib(rest[2])))
    return found


def _mib(text: str) -> int | None:
    """Return a number of MiB in bytes, None for `[N/A]` and the like."""
    return int(text) * 2**20 if text.isascii() and text.isdigit() else None


def _named(name: str, found: list[Gpu]) -> Gpu | None:
    """Return the GPU that an entry of CUDA_VISIBLE_DEVICES means: an index, a UUID or its unique beginning."""
    if name.startswith(KEPT):
        alike = [gpu for gpu in found if gpu.uuid.startswith(name)]
        return alike[0] if len(alike) == 1 else Gpu(name=name, uuid=name)
    return next((gpu for gpu in found if gpu.name == name), None)
