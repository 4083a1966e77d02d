"""Retrain recorded settings and print ours beside theirs: `python -m trainers.parity`, about five minutes on one core.

Every record of records.yaml is trained twice, with `simulation.legacy_sparse_transpose` and without. A plateau that
comes with the switch, at the ceiling of those data, and goes without it was a defect of the data, not a law. Beside the
final value stands the one after 65 % of the training: a plateau has stopped rising there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError

from trainers.errors import RefusedError, StepError
from trainers.order import read_order
from trainers.prepare.build import prepare
from trainers.scoring import estimates
from trainers.scoring.metrics import Truth, load_truth, score_estimate
from trainers.settings import Section, key, load_yaml
from trainers.signal import train
from trainers.yaml_io import write_text

RECORDS_FILE = Path(__file__).with_name("records.yaml")
SWITCH = "legacy_sparse_transpose"
HEADER = (
    "| record | metric | recorded | with the switch: 65 %, end | its ceiling | without: 65 %, end | its ceiling |\n"
    "|---|---|---|---|---|---|---|"
)


class Record(Section):
    """One recorded result and the setting that retrains it."""

    name: str = key(..., "What people call it.")
    metric: str = key(..., "Metric of the learned W, by its name in schema.json.")
    recorded: float = key(..., "The recorded value.")
    source: str = key(..., "Where it was recorded.")
    simulation: dict[str, Any] = key(..., "Simulation section, without the switch.")
    training: dict[str, Any] = key(..., "Training section, small enough for a CPU.")
    graph_model: dict[str, Any] = key({}, "Graph model section.")


class Outcome(NamedTuple):
    """What a retraining gave."""

    before: float | None
    """The metric at the last intermediate estimate."""
    value: float | None
    """The metric at the end."""
    ceiling: float | None
    """What least squares reaches on these data."""
    seconds: float
    """Wall time of preparation, training and scoring."""


def read_records(path: Path = RECORDS_FILE) -> list[Record]:
    """Return the records of a file.

    Raises:
        RefusedError: not readable, not a list, or a record with a missing, unknown or malformed field.
    """
    try:
        found = load_yaml(path.read_text())
        if not isinstance(found, list) or not found:
            raise RefusedError(f"{path}: expected a list of records, found {type(found).__name__}")
        return [Record.model_validate(one) for one in found]
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RefusedError(f"{path} cannot be read: {error}") from error
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise RefusedError(f"{path}: a record's {where or 'content'}: {fault['msg']}") from error


def retrain(record: Record, legacy: bool, folder: Path) -> Outcome:
    """Prepare and train a record in `folder`, and score its W.

    Raises:
        StepError: see `trainers.errors`; data whose preflight does not pass are refused.
    """
    started = time.monotonic()
    simulation = record.simulation | ({SWITCH: True} if legacy else {})
    config = {"simulation": simulation, "graph_model": record.graph_model, "training": record.training}
    spec = {"contract": 1, "system": "signal", "profile": "cpu", "regime": "parity", "config": config}
    folder.mkdir(parents=True)
    write_text(folder / "SPEC.yaml", yaml.safe_dump(spec))
    data, run_dir = folder / "data", folder / "run"
    prepare(folder / "SPEC.yaml", data)
    preflight = json.loads((data / "preflight.json").read_text())
    if not preflight["ok"]:
        raise RefusedError(f"{record.name}: {preflight['reason']}")
    _write_order(run_dir, data, config)
    train(read_order(run_dir), run_dir)
    out, truth = run_dir / "out", load_truth(data)
    return Outcome(
        before=_value(record.metric, estimates.list_moments(out / "estimates")[-1], truth),
        value=_value(record.metric, out / "estimate.npz", truth),
        ceiling=preflight["ceiling"].get(record.metric),
        seconds=time.monotonic() - started,
    )


def _write_order(run_dir: Path, data: Path, config: dict[str, Any]) -> None:
    told = {k: v for k, v in config["simulation"].items() if k not in ("seed", "params")}
    order = {
        "contract": 1, "exploration": "parity", "iteration": 1, "attempt": 1, "system": "signal", "profile": "cpu",
        "device": "cpu", "threads": 1, "identity": "parity", "config": config | {"simulation": told},
        "data": {"train": str(data / "train"), "inputs": str(data / "inputs")},
    }  # fmt: skip
    text = yaml.safe_dump(order, sort_keys=False)
    run_dir.mkdir()
    write_text(run_dir / "run.yaml", f"{text}sha256: {hashlib.sha256(text.encode()).hexdigest()}\n")


def _value(metric: str, estimate: Path, truth: Truth) -> float | None:
    n, g = len(truth.W), len(truth.grid_u)
    found = estimates.read_estimate(estimate, {"W": (n, n), "lin_edge": (n, g)})
    return score_estimate(found, truth).get(metric)


def row(record: Record, legacy: Outcome, correct: Outcome) -> str:
    """Return one line of the table."""
    cells = [record.name, record.metric, f"{record.recorded:.3f}"]
    for one in (legacy, correct):
        cells += [f"{_shown(one.before)}, {_shown(one.value)}", _shown(one.ceiling)]
    return f"| {' | '.join(cells)} |"


def _shown(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def parity(records: list[Record], folder: Path, tell: Callable[[str], None] = print) -> None:
    """Retrain every record with and without the switch and tell the table, line by line."""
    tell(HEADER)
    seconds = 0.0
    for number, record in enumerate(records):
        both = [retrain(record, legacy, folder / f"{number}-{name}") for name, legacy in SIDES]
        seconds += sum(one.seconds for one in both)
        tell(row(record, *both))
    tell(f"\n{2 * len(records)} trainings in {seconds:.0f} s on one core; the switch is simulation.{SWITCH}. Sources:")
    for record in records:
        tell(f"- {record.name}: {record.source}")


SIDES = (("legacy", True), ("correct", False))


def main(argv: list[str] | None = None) -> int:
    """Print the table; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m trainers.parity", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--records", type=Path, default=RECORDS_FILE, help="another records.yaml")
    parser.add_argument("--only", metavar="TEXT", default="", help="records whose name holds TEXT")
    args = parser.parse_args(argv)
    try:
        records = [record for record in read_records(args.records) if args.only in record.name]
        if not records:
            raise RefusedError(f"{args.records}: no record's name holds {args.only!r}")
        with tempfile.TemporaryDirectory(prefix="parity-") as folder:
            parity(records, Path(folder), lambda line: print(line, flush=True))
    except StepError as error:
        print(f"parity: {error}", flush=True)
        return error.code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
