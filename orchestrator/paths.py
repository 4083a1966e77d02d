"""The only place that spells a file name of the engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunPaths:
    """Files of one run folder, `runs/NNNN-A` (docs/contract.md)."""

    root: Path

    @property
    def run_yaml(self) -> Path:
        return self.root / "run.yaml"

    @property
    def launch(self) -> Path:
        return self.root / "launch.json"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def claim(self) -> Path:
        return self.root / "claim"

    @property
    def supervisor_log(self) -> Path:
        return self.root / "supervisor.log"

    @property
    def stdout(self) -> Path:
        return self.root / "stdout.log"

    @property
    def exit(self) -> Path:
        return self.root / "exit.json"

    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def progress(self) -> Path:
        return self.out / "progress.jsonl"

    @property
    def checkpoint(self) -> Path:
        return self.out / "checkpoint.pt"

    @property
    def failure(self) -> Path:
        return self.out / "failure.json"

    @property
    def analysis_log(self) -> Path:
        return self.root / "analysis.log"

    @property
    def result(self) -> Path:
        return self.root / "result.json"

    @property
    def plots(self) -> Path:
        return self.root / "plots"


@dataclass(frozen=True)
class DataPaths:
    """Files of one regime's data folder."""

    root: Path

    @property
    def train(self) -> Path:
        return self.root / "train"

    @property
    def inputs(self) -> Path:
        return self.root / "inputs"

    @property
    def truth(self) -> Path:
        return self.root / "truth"

    @property
    def preflight(self) -> Path:
        return self.root / "preflight.json"


@dataclass(frozen=True)
class Paths:
    """Files of one exploration: tracked inputs in `source`, everything written in `out`."""

    source: Path
    """`explorations/<name>`."""
    out: Path
    """`explorations/<name>/out`, or `<ROOT>/<name>`."""

    @property
    def exploration_yaml(self) -> Path:
        return self.source / "exploration.yaml"

    @property
    def config_yaml(self) -> Path:
        return self.source / "config.yaml"

    @property
    def patches(self) -> Path:
        """Prepared code edits, for the offline scientist."""
        return self.source / "patches"

    @property
    def journal(self) -> Path:
        return self.out / "journal.jsonl"

    @property
    def engine_lock(self) -> Path:
        return self.out / "engine.lock"

    @property
    def contract(self) -> Path:
        return self.out / "contract.yaml"

    @property
    def instruction(self) -> Path:
        return self.out / "instruction.md"

    @property
    def memory(self) -> Path:
        return self.out / "memory.md"

    @property
    def analysis(self) -> Path:
        return self.out / "analysis.md"

    @property
    def ucb_scores(self) -> Path:
        return self.out / "ucb_scores.txt"

    @property
    def notes(self) -> Path:
        return self.out / "notes.md"

    @property
    def paused(self) -> Path:
        """Why the engine waits for a person; there only while it does."""
        return self.out / "paused.txt"

    @property
    def best(self) -> Path:
        return self.out / "best.yaml"

    @property
    def prompts(self) -> Path:
        """What was said to the language model and what came back, one file a request."""
        return self.out / "prompts"

    def prompt(self, number: int) -> Path:
        return self.prompts / f"{number:04d}.json"

    @property
    def blobs(self) -> Path:
        """Texts and pictures that several prompts share, named by their sha256."""
        return self.out / "blobs"

    def shown(self, sha256: str) -> Path:
        """Which blob a plot (by the sha256 of its file) is shown as."""
        return self.blobs / f"{sha256}.json"

    def compiled(self, number: int) -> Path:
        """The person's three files as they were compiled after `number` amendments."""
        return self.out / ".inputs" / str(number)

    def block(self, number: int) -> Path:
        """Snapshot of an ended block."""
        return self.out / "blocks" / f"{number:03d}"

    @property
    def code(self) -> Path:
        return self.out / "code"

    @property
    def data(self) -> Path:
        return self.out / "data"

    @property
    def runs(self) -> Path:
        return self.out / "runs"

    @property
    def trials(self) -> Path:
        return self.out / "trials"

    def trial(self, tree: str, config_sha: str, number: int) -> RunPaths:
        """Folder of a trial of an edited code before it was committed."""
        return RunPaths(self.trials / f"{tree[:12]}-{config_sha[:8]}-{number}")

    @property
    def confirmations(self) -> Path:
        return self.out / "confirm"

    def unknown_run(self, name: str) -> Path:
        """Free place for a run folder that the journal does not know."""
        folder, number = self.out / "runs.unknown", 1
        while (folder / f"{name}.{number}").exists():
            number += 1
        return folder / f"{name}.{number}"

    def run(self, iteration: int, attempt: int) -> RunPaths:
        return RunPaths(self.runs / f"{iteration:04d}-{attempt}")

    def regime(self, sha: str) -> DataPaths:
        return DataPaths(self.data / sha[:16])


@dataclass(frozen=True)
class ConfirmPaths(Paths):
    """Files of one confirmation: data and code are the exploration's, runs lie in a folder of their own."""

    folder: Path
    """`out/confirm/<stamp>`."""

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    @property
    def plan(self) -> Path:
        return self.folder / "plan.json"

    @property
    def table(self) -> Path:
        return self.folder / "confirm.md"
