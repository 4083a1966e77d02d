"""The sealed order of a run, run.yaml; read by training and scoring, without torch."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from trainers.errors import RefusedError
from trainers.settings import load_yaml, read_config
from trainers.yaml_io import write_text


class Order(NamedTuple):
    """Content of run.yaml."""

    exploration: str
    iteration: int
    attempt: int
    system: str
    device: str
    threads: int
    identity: str
    config: Any
    """A config of the system, see `trainers.settings.SYSTEMS`."""
    train: Path
    inputs: Path


def read_order(run_dir: Path) -> Order:
    """Return the order in `run_dir/run.yaml`.

    Raises:
        RefusedError: missing, not sealed by its own sha256, of another contract, or with a config that is not valid.
    """
    path = run_dir / "run.yaml"
    try:
        text = path.read_bytes()
        body, _, last = text.rstrip(b"\n").rpartition(b"\n")
        order = load_yaml(body.decode())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RefusedError(f"{path} cannot be read: {error}") from error
    digest = hashlib.sha256(body + b"\n").hexdigest()
    if last.decode(errors="replace") != f"sha256: {digest}":
        raise RefusedError(f"{path}: the last line must be the sha256 of every byte before it; the file was changed")
    if not isinstance(order, dict) or order.get("contract") != 1:
        raise RefusedError(f"{path}: expected contract 1, found {order.get('contract') if order else order!r}")
    try:
        return Order(
            exploration=str(order["exploration"]),
            iteration=int(order["iteration"]),
            attempt=int(order["attempt"]),
            system=str(order["system"]),
            device=str(order["device"]),
            threads=int(order["threads"]),
            identity=str(order["identity"]),
            config=read_config(str(order["system"]), order["config"]),
            train=Path(order["data"]["train"]),
            inputs=Path(order["data"]["inputs"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RefusedError(f"{path}: missing or malformed field: {error!r}") from error


def write_failure(run_dir: Path, kind: str, sentence: str) -> None:
    """Write out/failure.json, best effort (the exit code says the same)."""
    try:
        os.makedirs(run_dir / "out", exist_ok=True)
        write_text(run_dir / "out" / "failure.json", json.dumps({"kind": kind, "sentence": sentence}) + "\n")
    except OSError as error:
        print(f"failure.json cannot be written: {error}", file=sys.stderr)
