"""ScriptedLauncher: a launcher without processes, for tests of the engine and for trying out policies.

A script says what each run leaves behind; the launcher writes those files. Folders look like real ones: while a run is
held the launcher holds the folder's lock, so that its state can be read by anybody (and vanishes with this process).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from orchestrator.core.records import Record
from orchestrator.formats import yaml_edit
from orchestrator.launch import folder
from orchestrator.paths import RunPaths
from orchestrator.ports import ExitRecord, LaunchSpec, RunState


class ScriptedRun(Record):
    """What one run leaves behind. The default is a run that ends well without metrics."""

    metrics: dict[str, float | str] = Field(default={})
    """Name -> value, NaN and infinity included, or the reason why there is none."""
    step: str = "score"
    returncode: int | None = 0
    reason: Literal["wall", "silence", "output", "cancelled"] | None = None
    seconds: dict[str, float] = Field(default={"train": 60.0, "score": 1.0})
    sentence: str = "scripted"
    stdout: str = ""
    failure: dict[str, str] | None = None
    """Content of out/failure.json."""
    keys_read: tuple[str, ...] | None = None
    """Default: every key of the order's config."""
    keys_idle: dict[str, str] = Field(default={})
    files: dict[str, str] = Field(default={})
    """Further files by path below the run folder; they replace scripted ones."""
    omit: tuple[str, ...] = ()
    """Files that are not written, e.g. `result.json`; without `exit.json` the run has vanished."""
    polls: int | None = 0
    """How many questions for its state a run answers with `running`; None: until it is cancelled."""


Script = Callable[[dict[str, Any]], ScriptedRun]
"""run.yaml's content -> what the run leaves behind."""


class ScriptedLauncher:
    """Plays scripted runs; passes the conformance suite of launchers where no process is asked for."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.submitted: list[tuple[Path, LaunchSpec]] = []
        self._held: dict[Path, tuple[int, ScriptedRun, int | None]] = {}

    def submit(self, run_dir: Path, spec: LaunchSpec) -> None:
        """Write launch.json, claim the folder and play the run. Raises FileExistsError when it is claimed."""
        paths = RunPaths(run_dir.absolute())
        owner = folder.claim_of(paths.root)
        if owner is not None:
            raise FileExistsError(f"{run_dir} is already claimed ({owner}): a new run needs a new folder")
        run = self.script(yaml_edit.load(paths.run_yaml.read_text(encoding="utf-8"), str(paths.run_yaml)))
        folder.write_record(paths.launch, spec)
        lock = os.open(paths.lock, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with paths.claim.open("x", encoding="ascii") as file:
            file.write(f"supervisor {os.getpid()}\n")
        self.submitted.append((run_dir, spec))
        self._held[paths.root] = lock, run, run.polls
        self._advance(paths.root, ask=False)

    def state(self, run_dir: Path) -> RunState:
        """Return where the run stands, from its folder; each question brings a held run nearer to its end."""
        self._advance(run_dir.absolute(), ask=True)
        return folder.run_state(run_dir)

    def exit_record(self, run_dir: Path) -> ExitRecord | None:
        """Return exit.json, or None when there is none (or it is not readable as one)."""
        return folder.exit_record(run_dir)

    def revoke(self, run_dir: Path) -> bool:
        """Claim the folder for the engine; True when nobody had claimed it."""
        return folder.revoke(run_dir)

    def cancel(self, run_dir: Path, *, hard: bool = False) -> None:
        """End a held run as a supervisor would: with a checkpoint's code, or killed when `hard`."""
        held = self._held.pop(run_dir.absolute(), None)
        if held is not None:
            record = ExitRecord(
                step="train",
                returncode=-9 if hard else 12,
                reason="cancelled",
                seconds={"train": 1.0},
                sentence="train was stopped after 1.0 s: it was cancelled",
            )
            folder.write_record(RunPaths(run_dir.absolute()).exit, record)
            os.close(held[0])

    def kill(self, run_dir: Path) -> None:
        """End a held run as if its child had been killed by a stranger."""
        lock, _, _ = self._held.pop(run_dir.absolute())
        record = ExitRecord(step="train", returncode=-9, seconds={"train": 1.0}, sentence="train was killed by SIGKILL")
        folder.write_record(RunPaths(run_dir.absolute()).exit, record)
        os.close(lock)

    def vanish(self, run_dir: Path) -> None:
        """End a held run as if its supervisor had been killed: no exit.json, a free lock."""
        os.close(self._held.pop(run_dir.absolute())[0])

    def _advance(self, root: Path, *, ask: bool) -> None:
        if root not in self._held:
            return
        lock, run, polls = self._held[root]
        if polls is None or polls > 0:
            if ask and polls is not None:
                self._held[root] = lock, run, polls - 1
            return
        del self._held[root]
        leave(RunPaths(root), run)
        os.close(lock)


def leave(paths: RunPaths, run: ScriptedRun) -> None:
    """Write the files of a run that has ended, exit.json last."""
    order = yaml_edit.load(paths.run_yaml.read_text(encoding="utf-8"), str(paths.run_yaml))
    files = {"stdout.log": run.stdout}
    if run.failure is not None:
        files["out/failure.json"] = json.dumps(run.failure)
    if run.step == "score" and run.returncode == 0:
        log = "".join(f"{name}: {_in_log(value)}\n" for name, value in run.metrics.items())
        files["analysis.log"] = log
        files["result.json"] = json.dumps(_result(order, run, log))
    record = ExitRecord(
        step=run.step, returncode=run.returncode, reason=run.reason, seconds=run.seconds, sentence=run.sentence
    )
    for name, content in (files | run.files | {"exit.json": record.model_dump_json()}).items():
        if name not in run.omit:
            (paths.root / name).parent.mkdir(parents=True, exist_ok=True)
            folder.write_atomic(paths.root / name, content.encode())


def _in_log(value: float | str) -> str:
    return f"n/a ({value})" if isinstance(value, str) else repr(value)


def _in_json(value: float | str) -> dict[str, Any]:
    finite = not isinstance(value, str) and math.isfinite(value)
    return {"value": value if finite else None, "reason": None if finite else str(value), "version": 1}


def _result(order: dict[str, Any], run: ScriptedRun, log: str) -> dict[str, Any]:
    keys = [f"{section}.{key}" for section, values in order.get("config", {}).items() for key in values]
    return {
        "contract": 1,
        "iteration": order.get("iteration", 1),
        "attempt": order.get("attempt", 1),
        "metrics": {name: _in_json(value) for name, value in run.metrics.items()},
        "keys_read": list(run.keys_read) if run.keys_read is not None else keys,
        "keys_idle": run.keys_idle,
        "timings": run.seconds,
        "versions": {"scripted": "1"},
        "device": order.get("device", "cpu"),
        "data_fingerprint": "scripted",
        "analysis_log_sha256": hashlib.sha256(log.encode()).hexdigest(),
        "plots": [],
    }
