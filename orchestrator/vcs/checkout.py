"""What the doctor asks git: its version, and how the user's checkout stands. Nothing is written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

PATIENCE_S = 20.0
OLDEST = (2, 28)
"""First version that can name a new repository's branch."""


def version() -> tuple[int, ...] | None:
    """Return git's version, None when there is no git that answers."""
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", _git(None, "--version") or "")
    return tuple(int(n) for n in found.groups() if n is not None) if found else None


def changes(folder: Path) -> int | None:
    """Return how many files of a checkout are changed or new; None when it is none that git can read."""
    told = _git(folder, "-c", "core.fsmonitor=false", "status", "--porcelain", "-z", "--no-renames", ".")
    return None if told is None else sum(bool(part) for part in told.split("\0"))


def _git(folder: Path | None, *words: str) -> str | None:
    """Return what git prints, None when it fails."""
    program = shutil.which("git")
    if program is None:
        return None
    env = os.environ | {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            [program, *words], cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE_S
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None
