"""Read a running child's progress without disturbing it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from orchestrator.core.state import Iteration
from orchestrator.engine.context import Live
from orchestrator.launch.folder import open_file
from orchestrator.paths import Paths

TAIL_BYTES = 4096
COUNT_LIMIT = 2**53


def read_live(paths: Paths, it: Iteration, attempt: int) -> Live:
    """Return where a run stands by its last whole progress line; fields are None before the first."""
    run = paths.run(it.proposal.iteration, attempt)
    last = _last_line(run.progress)
    try:
        elapsed = max(0.0, time.time() - run.run_yaml.stat().st_mtime)
    except OSError:
        elapsed = 0.0
    phase = "scoring" if os.path.lexists(run.out / "train.json") else "training" if last else "starting"
    return Live(it, attempt, phase, _int(last, "step"), _int(last, "total"), _float(last, "loss"), elapsed)


def _last_line(path: Path) -> dict[str, Any]:
    """Return the last whole line of progress, {} when there is none: the file is the training's, it may be anything."""
    try:
        with open_file(path) as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            lines = file.read(TAIL_BYTES).split(b"\n")[:-1]
        found = json.loads(lines[-1]) if lines else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _int(found: dict[str, Any], key: str) -> int | None:
    value = found.get(key)
    return value if type(value) is int and 0 <= value < COUNT_LIMIT else None


def _float(found: dict[str, Any], key: str) -> float | None:
    value = found.get(key)
    if type(value) is int and abs(value) < COUNT_LIMIT:
        return float(value)
    return value if isinstance(value, float) else None
