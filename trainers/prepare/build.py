"""Build a regime's data folder: whole or not at all, under a lock, the same bytes for the same order."""

from __future__ import annotations

import fcntl
import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import yaml
from threadpoolctl import threadpool_limits

from trainers.errors import RefusedError
from trainers.prepare.files import fingerprint
from trainers.settings import load_yaml, read_config
from trainers.systems import part
from trainers.yaml_io import write_text

MEASURED = ("oracle", "null", "ceiling", "baselines", "activity")
"""What a system's `make` returns as metrics by name, beside reason, guard, looked_at, marks and warnings."""


def prepare(spec_file: Path, data_dir: Path) -> bool:
    """Make `data_dir` from an order unless it is complete; return whether it was made now.

    Raises:
        RefusedError: the order is not valid, a recording is not what it says, or an incomplete folder stands in the
            way. `data_dir` is then as before, and nothing is left beside it but the lock.
    """
    spec = _read_spec(spec_file)
    config = read_config(spec["system"], spec["config"])
    if (data_dir / "preflight.json").is_file():
        return False
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    with open(data_dir.with_name(f"{data_dir.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (data_dir / "preflight.json").is_file():
            return False
        if data_dir.exists():
            raise RefusedError(f"{data_dir} is there without preflight.json; remove it and run again")
        temporary = data_dir.with_name(f".{data_dir.name}.building")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            _make(spec, config, temporary)
            os.replace(temporary, data_dir)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return True


def _make(spec: dict[str, Any], config: Any, folder: Path) -> None:
    with threadpool_limits(limits=1):  # sums must not depend on the number of threads: same order, same bytes
        found = part(spec["system"], "prepare").make(config, folder)
    named = {
        "contract": 1, "system": spec["system"], "regime": spec["regime"],
        "generator_version": config.generator_version, "fingerprint": fingerprint(folder),
        "ok": found["reason"] is None, "truth": True,
    }  # fmt: skip
    measured = {side: plain(found[side]) for side in MEASURED}
    told = {"warnings": [*found["marks"], *found["warnings"]]}
    write_text(folder / "preflight.json", json.dumps(named | found | measured | told, indent=1) + "\n")


def plain(values: dict[str, Any]) -> dict[str, float | None]:
    """Return metrics as JSON takes them: what is not finite is null."""
    return {k: None if v is None or not math.isfinite(v) else float(v) for k, v in values.items()}


def _read_spec(path: Path) -> dict[str, Any]:
    try:
        spec = load_yaml(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RefusedError(f"{path} cannot be read: {error}") from error
    wanted = {"contract", "system", "profile", "regime", "config"}
    if not isinstance(spec, dict) or spec.get("contract") != 1 or not wanted <= set(spec):
        raise RefusedError(f"{path}: expected contract 1 with {', '.join(sorted(wanted))}")
    return spec
