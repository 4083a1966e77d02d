"""Protocols at the engine's edge: each has a real adapter and a fake that passes the same conformance suite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from pydantic import Field

from orchestrator.core.dialogue import Reply
from orchestrator.core.records import Config, Record

if TYPE_CHECKING:
    from orchestrator.core.dialogue import Request
    from orchestrator.core.events import Body
    from orchestrator.core.records import Turn
    from orchestrator.core.state import State

RunState = Literal["unclaimed", "running", "ended", "vanished", "revoked"]
"""unclaimed: no supervisor has claimed the folder; running: its lock is held; ended: exit.json is there;
vanished: claimed, lock free, no exit.json; revoked: the engine claimed it first."""


class Gpu(Record):
    """A GPU that runs may use."""

    name: str
    """What CUDA_VISIBLE_DEVICES calls it: the index that nvidia-smi shows, or a longer name such as `MIG-...`."""
    uuid: str
    """The same in every process of the machine: leases are named by it."""
    total_bytes: int | None = None
    """Null when it is not known."""
    free_bytes: int | None = None
    """When nothing of this exploration is on it; null when it is not known."""

    @property
    def room_bytes(self) -> int | None:
        """Memory that this exploration's runs may have together, or None when it is not known."""
        return self.total_bytes if self.free_bytes is None else self.free_bytes


class Sandbox(Record):
    """What a confined step may touch; anything not named is out of reach."""

    level: Literal["bwrap", "landlock", "none"]
    read_only: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    """Device files such as /dev/nvidia0."""


class Step(Record):
    """One program that the supervisor runs in the run folder."""

    name: str
    argv: tuple[str, ...]
    cwd: str
    env: dict[str, str]
    sandbox: Sandbox | None = None


class Limits(Record):
    """What the supervisor enforces, also while the engine is dead."""

    wall_s: float = 600.0
    silence_s: float = 120.0
    """Longest time without a new byte in progress.jsonl or stdout.log."""
    output_bytes: int = 16 * 2**20
    """Largest stdout.log."""
    folder_bytes: int = 2 * 2**30
    """Largest `out/`."""
    grace_s: float = 10.0
    """Time between SIGTERM and SIGKILL."""


class LaunchSpec(Record):
    """Content of launch.json."""

    contract: Literal[1] = 1
    steps: tuple[Step, ...]
    limits: Limits = Limits()
    holds: tuple[str, ...] = ()
    """Files that the supervisor holds a shared flock on for life: the lease of the run's GPU."""


class ExitRecord(Record):
    """Content of exit.json."""

    contract: Literal[1] = 1
    step: str
    returncode: int | None
    reason: Literal["wall", "silence", "output", "cancelled"] | None = None
    seconds: dict[str, float] = Field(default_factory=dict)
    """Wall time of each step that ran."""
    sentence: str = ""


class Launcher(Protocol):
    """Starts supervisors on run folders. The folder is the only state: any launcher may adopt any folder."""

    def submit(self, run_dir: Path, spec: LaunchSpec) -> None:
        """Write launch.json and start a supervisor; returns at once. Raises OSError when it cannot be started."""

    def state(self, run_dir: Path) -> RunState:
        """Return where the run stands, from its folder alone."""

    def exit_record(self, run_dir: Path) -> ExitRecord | None:
        """Return exit.json, or None when there is none (or it is not readable as one)."""

    def revoke(self, run_dir: Path) -> bool:
        """Claim the folder for the engine; True when no supervisor had claimed it (it then never starts)."""

    def cancel(self, run_dir: Path, *, hard: bool = False) -> None:
        """Ask a running supervisor to stop (checkpoint, then exit.json); `hard` kills its group at once."""


class LanguageModel(Protocol):
    """Answers one request at a time; holds no state of a conversation."""

    name: str

    def converse(self, request: Request, image: Callable[[str], bytes], *, longest_s: float | None = None) -> Reply:
        """Return the complete reply; `image` gives the bytes of a blob by its sha256.

        A reply that is not complete after `longest_s` is given up (ModelUnavailableError, perhaps paid).

        Raises:
            ModelUnavailableError: nothing usable came, and waiting may help.
            ModelRejectedError: the service turned the request down; says what to do.
        """

    def count_tokens(self, request: Request, image: Callable[[str], bytes]) -> int | None:
        """Return the tokens of a request's prompt as the service counts them; None when it cannot say."""


class Exchange(Record):
    """A request that was sent and the reply to it, as kept in prompts/NNNN.json."""

    call: int
    request_sha: str
    reply: Reply
    seconds: float


class Picture(Record):
    """A plot as it is shown to a model."""

    name: str
    """`iter 3: plots/loss.png`."""
    sha256: str
    """Of the PNG, kept as a blob."""
    media_type: Literal["image/png"] = "image/png"
    width: int
    height: int


class Candidate(Record):
    """A code edit that is to be proven and committed: everything that its commit says."""

    iteration: int
    parent: int | None
    """Of the node in the tree; null is root."""
    base: int | None
    """Node whose code is edited (a repair: the crashed one); null is the code that was opened with."""
    texts: dict[str, str]
    """Path -> the whole new text of each changed file."""
    units: tuple[str, ...]
    """`data_train_signal (trainers/signal.py)`, of each changed definition."""
    change: str
    hypothesis: str
    config: Config
    """That it will be trained with, seeds included."""


class CodeOffice(Protocol):
    """What the engine lends to a scientist that edits code. Texts are those of the exploration's own repository."""

    def text(self, tree: str, path: str) -> str:
        """Return a file of a code state; raises RefusedError when there is none."""

    def patched(self, tree: str, patch: str) -> dict[str, str]:
        """Return path -> new text after a unified diff; raises RefusedError when it does not apply."""

    def combined(self, base: str, trees: tuple[str, str]) -> dict[str, str]:
        """Return path -> new text with the edits of two children of `base`; raises RefusedError when they conflict."""

    def prove(self, candidate: Candidate) -> tuple[str, str]:
        """Try an edit in the sandbox, commit it, return (tree, commit); raises RefusedError with what went wrong.

        Asked again about the same edit it gives the same answer without another trial.
        """


class Office(Protocol):
    """What the engine lends to a scientist that converses: the journal, the files in its scope, the clock."""

    code: CodeOffice | None
    """Null where there is no code to edit."""

    def record(self, body: Body) -> None:
        """Append an event, unless one with its key is in the journal already."""

    def ledger(self) -> State:
        """Return the fold as it is now (what was spent, what was refused); never for decisions about runs."""

    def keep(self, exchange: Exchange, request: Request) -> None:
        """Keep a reply that has arrived, before it counts as settled."""

    def kept(self, call: int) -> Exchange | None:
        """Return a kept exchange, or None when no reply to that call had arrived."""

    def view_file(self, state: State, name: str) -> str:
        """Return a text that the scientist may read; raises RefusedError, with what may be read instead."""

    def view_plot(self, state: State, iteration: int, name: str) -> Picture:
        """Return a plot of a finished run; raises RefusedError, with the run's plots."""

    def plots(self, state: State, iteration: int) -> tuple[str, ...]:
        """Return the names of a finished run's plots, the instruction's figures first."""

    def image(self, sha256: str) -> bytes:
        """Return the bytes of a blob."""

    def pause(self, seconds: float, why: str) -> bool:
        """Wait, with `why` shown; return False when a person asked to stop meanwhile."""

    def say(self, text: str) -> None:
        """One line for the person at the terminal."""


class Scientist(Protocol):
    """Reads the state, says what the finished runs mean and what to run next."""

    name: str
    patient: bool
    """Whether finished runs may wait to be judged until something can be proposed, or nothing runs: a turn costs."""

    def attach(self, office: Office) -> None:
        """Take what the engine lends; called once, before the first turn."""

    def propose(self, state: State, n: int) -> Turn:
        """Return reflections on what is finished and at most `n` proposals; raises RefusedError never."""
