"""Retrain recorded settings and print ours beside theirs: `python -m trainers.parity`, 15 to 20 minutes on a core.

Every record of records.yaml is trained twice, with the switch that brings an old defect back and without. A plateau
that comes with the switch and goes without it was that defect, not a law; where the defect was one of the data, it
stands at the ceiling of those data. Beside the final value stands the one after 65 % of the training: a plateau has
stopped rising there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

import yaml
from pydantic import ValidationError, model_validator

from trainers.errors import RefusedError, StepError
from trainers.order import read_order
from trainers.prepare.build import prepare
from trainers.scoring import estimates
from trainers.settings import Section, key, load_yaml
from trainers.systems import part
from trainers.yaml_io import write_text

RECORDS_FILE = Path(__file__).with_name("records.yaml")
NOT_TOLD = ("seed", "params", "homeostatic_lambda", "homeostatic_baseline")
"""Keys of simulation that training is not told."""
HEADER = (
    "| record | metric | recorded | with the switch: 65 %, end | its ceiling | without: 65 %, end | its ceiling |\n"
    "|---|---|---|---|---|---|---|"
)


class Record(Section):
    """One recorded result and the setting that retrains it."""

    name: str = key(..., "What people call it.")
    system: str = key("signal", "System, by its name in schema.json.")
    switch: dict[str, dict[str, Any]] = key(..., "Section -> key -> value that brings the old defect back.")
    metric: str = key(..., "Metric of what is learned, by its name in schema.json.")
    recorded: float = key(..., "The recorded value.")
    source: str = key(..., "Where it was recorded.")
    simulation: dict[str, Any] = key(..., "Simulation section, without the switch.")
    training: dict[str, Any] = key(..., "Training section, small enough for a CPU.")
    graph_model: dict[str, Any] = key({}, "Graph model section.")

    @model_validator(mode="after")
    def _acts(self) -> Self:
        known = {"simulation", "training", "graph_model"}
        if not self.switch or not set(self.switch) <= known:
            raise ValueError(f"switch: expected keys of {', '.join(sorted(known))}, found {self.switch}")
        return self


class Outcome(NamedTuple):
    """What a retraining gave."""

    before: float | None
    """The metric at the last intermediate estimate."""
    value: float | None
    """The metric at the end."""
    ceiling: float | None
    """What can be reached on these data."""
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
    """Prepare and train a record in `folder`, and score what it learned.

    Raises:
        StepError: see `trainers.errors`; data whose preflight does not pass are refused.
    """
    started = time.monotonic()
    config = config_of(record, legacy)
    spec = {"contract": 1, "system": record.system, "profile": "cpu", "regime": "parity", "config": config}
    folder.mkdir(parents=True)
    write_text(folder / "SPEC.yaml", yaml.safe_dump(spec))
    data, run_dir = folder / "data", folder / "run"
    prepare(folder / "SPEC.yaml", data)
    preflight = json.loads((data / "preflight.json").read_text())
    if not preflight["ok"]:
        raise RefusedError(f"{record.name}: {preflight['reason']}")
    _write_order(run_dir, data, record.system, config)
    part(record.system, "train").train(read_order(run_dir), run_dir)
    out = run_dir / "out"
    return Outcome(
        before=_value(record, estimates.list_moments(out / "estimates")[-1], data),
        value=_value(record, out / "estimate.npz", data),
        ceiling=preflight["ceiling"].get(record.metric),
        seconds=time.monotonic() - started,
    )


def config_of(record: Record, legacy: bool) -> dict[str, Any]:
    """Return the config of a record, with its switch or without."""
    config = {"simulation": record.simulation, "graph_model": record.graph_model, "training": record.training}
    return {section: keys | (record.switch.get(section, {}) if legacy else {}) for section, keys in config.items()}


def _write_order(run_dir: Path, data: Path, system: str, config: dict[str, Any]) -> None:
    told = {k: v for k, v in config["simulation"].items() if k not in NOT_TOLD}
    order = {
        "contract": 1, "exploration": "parity", "iteration": 1, "attempt": 1, "system": system, "profile": "cpu",
        "device": "cpu", "threads": 1, "identity": "parity", "config": config | {"simulation": told},
        "data": {"train": str(data / "train"), "inputs": str(data / "inputs")},
    }  # fmt: skip
    text = yaml.safe_dump(order, sort_keys=False)
    run_dir.mkdir()
    write_text(run_dir / "run.yaml", f"{text}sha256: {hashlib.sha256(text.encode()).hexdigest()}\n")


def _value(record: Record, estimate: Path, data: Path) -> float | None:
    system = part(record.system, "score")
    truth = system.load_truth(data)
    found = estimates.read_estimate(estimate, {k: v for k, v in system.shapes(truth).items() if k in system.LEARNED})
    value = system.score_estimate(found, truth).get(record.metric)
    return None if value is None else float(value)


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
    tell(f"\n{2 * len(records)} trainings in {seconds:.0f} s on one core. Switches and sources:")
    for record in records:
        named = ", ".join(f"{s}.{k}: {v}" for s, keys in record.switch.items() for k, v in keys.items())
        tell(f"- {record.name}: {named}; {record.source}")


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
