"""What the engine's steps share: the exploration's files and settings, and the adapters that `cli` chose."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from orchestrator.core.contract import Contract
from orchestrator.core.events import Event
from orchestrator.core.exploration import Exploration
from orchestrator.core.records import Mode
from orchestrator.core.state import Iteration, State
from orchestrator.paths import Paths
from orchestrator.ports import Gpu, Launcher, Scientist


@dataclass(frozen=True)
class Setup:
    """One exploration, compiled and ready to open."""

    name: str
    paths: Paths
    source_root: Path
    """Folder that holds the packages `models` and `trainers`."""
    spec: Exploration
    contract: Contract
    instruction: str
    """Text of the instruction in force."""
    schema: dict[str, Any]
    """Parsed trainers/schema.json."""
    profile: str
    device: Literal["cpu", "cuda"]
    seed: int
    origin: str | None = None
    """`exploration:iteration` that iteration 1 starts from."""
    code_wished: bool = False
    """Whether code edits were turned on by the command line, at the opening."""


@dataclass(frozen=True)
class Adapters:
    """The concrete edges."""

    scientist: Scientist
    launcher: Launcher
    sandbox: Literal["bwrap", "landlock", "none"]
    slots: int = 1
    mode: Mode = "refill"
    threads: int = 1
    """CPU threads that a run may use."""
    gpus: tuple[Gpu, ...] = ()
    """GPUs that are leased for this exploration; a run gets one."""
    holds: Mapping[str, str] = field(default_factory=dict)
    """Name of each leased GPU -> the lease file that a run on it holds."""
    python: str = sys.executable


@dataclass(frozen=True)
class Live:
    """A run in flight, for display."""

    iteration: Iteration
    attempt: int
    phase: str
    step: int | None
    total: int | None
    loss: float | None
    elapsed_s: float


class Observer(Protocol):
    """Sees what happens; changes nothing."""

    def event(self, event: Event, state: State) -> None:
        """Called after each event is durable and folded."""

    def tick(self, state: State, live: list[Live], iterations: int) -> None:
        """Called a few times a second while runs are in flight."""

    def say(self, text: str) -> None:
        """One line for the person at the terminal."""
