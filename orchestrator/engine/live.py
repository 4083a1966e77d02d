"""Read a running child's progress without disturbing it."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from orchestrator.core.state import Iteration
from orchestrator.engine.context import Live
from orchestrator.paths import Paths

TAIL_BYTES = 4096


def read_live(paths: Paths, it: Iteration, attempt: int) -> Live:
    """Return where a run stands by its last whole progress line; fields are None before the first."""
    run = paths.run(it.proposal.iteration, attempt)
    last = _last_line(str(run.progress))
    try:
        elapsed = max(0.0, time.time() - run.run_yaml.stat().st_mtime)
    except OSError:
        elapsed = 0.0
    phase = "scoring" if (run.out / "train.json").exists() else "training" if last else "starting"
    return Live(it, attempt, phase, _int(last, "step"), _int(last, "total"), _float(last, "loss"), elapsed)


def _last_line(path: str) -> dict[str, Any]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return {}
    with os.fdopen(descriptor, "rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - TAIL_BYTES))
        lines = file.read().split(b"\n")[:-1]
    try:
        found = json.loads(lines[-1]) if lines else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _int(found: dict[str, Any], key: str) -> int | None:
    value = found.get(key)
    return value if isinstance(value, int) else None


def _float(found: dict[str, Any], key: str) -> float | None:
    value = found.get(key)
    return float(value) if isinstance(value, int | float) else None
