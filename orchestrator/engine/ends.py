"""Wait for the end of steps that the loop itself needs before it goes on: data that are made, an edit that is tried."""

from __future__ import annotations

import time
from collections.abc import Callable

from orchestrator.engine.context import Adapters
from orchestrator.errors import StoppedError
from orchestrator.paths import RunPaths

CLAIM_DEADLINE_S = 60.0
POLL_S = 0.05


def wait(adapters: Adapters, run: RunPaths, go_on: Callable[[], bool]) -> None:
    """Return when a folder's steps have ended, or when no supervisor claimed them in time (it is revoked then).

    Raises:
        StoppedError: `go_on`, called while waiting, returned False; the steps are cancelled.
    """
    deadline = time.monotonic() + CLAIM_DEADLINE_S
    while True:
        state = adapters.launcher.state(run.root)
        if state in ("ended", "vanished", "revoked"):
            return
        if state == "unclaimed" and time.monotonic() > deadline and adapters.launcher.revoke(run.root):
            return
        if not go_on():
            adapters.launcher.cancel(run.root)
            raise StoppedError
        time.sleep(POLL_S)
