"""Machines with GPUs that are not there: a real program called nvidia-smi, first on PATH, prints what it is told."""

import os
import sys

from tests import toy

GIB = 2**30
ROWS = ("0, GPU-aaaaaaaa-0001, 24576, 24000", "1, GPU-bbbbbbbb-0002, 24576, 23000")


def fake(folder, *rows, script=""):
    """Put an nvidia-smi into `folder` that prints these lines, or runs a script of its own; return the PATH with it."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "nvidia-smi"
    lines = "\n".join(rows)
    program.write_text(f"#!{sys.executable} -IS\n" + (script or f"print({lines!r})") + "\n")
    program.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def machine(folder, *rows, visible="0,1"):
    """Return what a command needs to run on such a machine, with leases of its own."""
    return {
        "PATH": fake(folder / "bin", *rows),
        "CUDA_VISIBLE_DEVICES": visible,
        "ORCHESTRATOR_LEASES": str(folder / "leases"),
    }


def device_of(home, run):
    """Return the CUDA_VISIBLE_DEVICES that a run's training had."""
    return (toy.out(home) / "runs" / run / "out" / "device.txt").read_text()
