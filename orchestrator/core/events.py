"""Journal events: what happened, in the order it happened.

Each event has a natural key; folding the same key twice changes nothing. No decision reads `at`, a pid or a host.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from orchestrator.core.dialogue import Usage
from orchestrator.core.records import Config, Metric, Mode, Outcome, Record, Role, Turn


class Opened(Record):
    """The exploration exists: its sealed contract, its code and its seed."""

    type: Literal["opened"] = "opened"
    exploration: str
    contract_sha: str
    contract: dict[str, Any]
    """The sealed contract; contract.yaml is a view of it."""
    instruction: str
    """Text in force; instruction.md is a view of it."""
    origin: str | None = None
    """`exploration:iteration` whose hyperparameters iteration 1 starts from."""
    profile: str
    device: Literal["cpu", "cuda"]
    code: str
    """Tree sha of models/ and trainers/ in use."""
    seed: int
    """Of the scientist's choices."""
    start: Config
    """Effective config of iteration 1."""
    code_wished: bool = False
    """Whether the command line turned code edits on."""

    @property
    def key(self) -> str:
        return "opened"


class Session(Record):
    """An engine has taken the exploration; runs of earlier sessions that it did not adopt were lost with them."""

    type: Literal["session"] = "session"
    session: int
    version: str
    scientist: str
    launcher: str
    slots: int
    sandbox: str
    iterations: int
    """Total asked for."""
    mode: Mode = "refill"
    roles: tuple[Role, ...] = ()
    """Of each slot; empty with one slot."""

    @property
    def key(self) -> str:
        return f"session:{self.session}"


class RegimeReady(Record):
    """Data are generated and the preflight is measured."""

    type: Literal["regime_ready"] = "regime_ready"
    regime: str
    """Sha of system, simulation section, profile and generator version."""
    name: str
    regime_name: str = ""
    """Of exploration.yaml's regimes; "" when it declares none."""
    simulation_seed: int | None = None
    """The draw."""
    unfit: str = ""
    """Why another draw is taken in place of this one (rule `draws` of exploration.yaml); "" when it is fit."""
    preflight: dict[str, Any]

    @property
    def key(self) -> str:
        return f"regime:{self.regime}"


class Amended(Record):
    """A person changed the instruction, config.yaml or exploration.yaml; the new contract holds from here on."""

    type: Literal["amended"] = "amended"
    number: int
    contract_sha: str
    contract: dict[str, Any]
    instruction: str
    diff: str
    """Unified diff of the changed files."""

    @property
    def key(self) -> str:
        return f"amended:{self.number}"


class Turned(Record):
    """The scientist's say."""

    type: Literal["turn"] = "turn"
    turn: Turn

    @property
    def key(self) -> str:
        return f"turn:{self.turn.turn}"


class Refused(Record):
    """A part of a turn that broke a rule; nothing of it was applied."""

    type: Literal["refused"] = "refused"
    turn: int
    attempt: int
    scientist: str
    reason: str

    @property
    def key(self) -> str:
        return f"refused:{self.turn}:{self.attempt}"


class RunReserved(Record):
    """A run is about to be started (written before the spawn, so a crash can never start it twice unseen)."""

    type: Literal["run_reserved"] = "run_reserved"
    iteration: int
    attempt: int
    session: int
    resumes: int | None = None
    """Attempt whose checkpoint this one starts from."""
    slot: int = 0
    """Where it runs."""
    device: str = ""
    """GPU by its name in CUDA_VISIBLE_DEVICES; "" is the CPU."""
    beside: int = 0
    """Runs of this exploration in flight on the same device when it started, itself left out."""
    sandbox: str = ""
    """Level that its training is confined by; "" in journals from before it was kept."""

    @property
    def key(self) -> str:
        return f"run_reserved:{self.iteration}:{self.attempt}"


class RunEnded(Record):
    """A run's outcome and, if ok, its metrics. Written once per attempt."""

    type: Literal["run_ended"] = "run_ended"
    iteration: int
    attempt: int
    session: int
    outcome: Outcome
    sentence: str = ""
    """What happened and what to do, for people and for the scientist."""
    cause: str = ""
    """Short form that is equal for equal causes: three in a row over different configs stop the exploration."""
    traceback: str = ""
    """Its own lines, of a training that crashed."""
    lost: bool = False
    """The supervisor vanished (machine or session died): says nothing about the idea and does not count as a retry."""
    metrics: dict[str, Metric] = Field(default_factory=dict)
    keys_idle: dict[str, str] = Field(default_factory=dict)
    """Config keys that could not act in this run, with the reason."""
    marks: tuple[str, ...] = ()
    """Sentences that stand beside every number of this run (legacy switches)."""
    result_sha: str = ""
    seconds: float = 0.0
    in_flight: float | None = None
    """Mean number of runs of this exploration in flight while it ran, itself included; training_time_min depends on it.
    Null when it is not known."""
    memory_bytes: int | None = None
    """Greatest memory that its training held on the device; null when it is not known."""

    @property
    def key(self) -> str:
        return f"run_ended:{self.iteration}:{self.attempt}"


class CodeChecked(Record):
    """A code state was tried in the sandbox before it was committed: compiled, imported, a few gradient steps."""

    type: Literal["code_checked"] = "code_checked"
    tree: str
    """Tree sha."""
    config_sha: str
    """Of the whole config, seeds included, that it was tried with."""
    ok: bool
    sentence: str = ""
    """What went wrong, with the traceback's own lines, and what to do; "" when it is ok."""
    sandbox: str
    """Level."""
    seconds: float = 0.0

    @property
    def key(self) -> str:
        return f"code_checked:{self.tree}:{self.config_sha}"


class Alarm(Record):
    """The exploration stopped by a rule; a person must look."""

    type: Literal["alarm"] = "alarm"
    session: int
    kind: str
    iteration: int
    """Last finished iteration. Alarms of later sessions look only at runs that were reserved after this session."""
    sentence: str

    @property
    def key(self) -> str:
        return f"alarm:{self.session}:{self.kind}"


class Human(Record):
    """A person changed something that the engine honours."""

    type: Literal["human"] = "human"
    number: int
    what: str
    text: str

    @property
    def key(self) -> str:
        return f"human:{self.number}"


class LlmReserved(Record):
    """A request to a language model is about to be sent (written before it, so that no kill can hide that it was)."""

    type: Literal["llm_reserved"] = "llm_reserved"
    call: int
    """1-based over the whole exploration; prompts/NNNN.json is named by it."""
    turn: int
    """That the conversation is about."""
    based_on: int
    """Sequence number of the last event that the conversation had seen when it began."""
    asked: int
    """Proposals that it was asked for at most."""
    step: int
    """Of the conversation, 1-based; a request that is sent again keeps its step."""
    model: str
    request_sha: str
    micro_usd: int = Field(ge=0)
    """The most that it can cost."""
    tokens: int = Field(default=0, ge=0)
    """The most that prompt and reply can take; 0 in journals from before it was kept."""

    @property
    def key(self) -> str:
        return f"llm_reserved:{self.call}"


class LlmSettled(Record):
    """What became of a request, and what it cost."""

    type: Literal["llm_settled"] = "llm_settled"
    call: int
    outcome: Literal["replied", "unavailable", "rejected", "lost"]
    """lost: sent, and no reply had arrived when the engine died; it may be on the bill."""
    micro_usd: int = Field(ge=0)
    usage: Usage | None = None
    """Null when no reply arrived."""
    stop_reason: str = ""
    request_id: str = ""
    seconds: float = 0.0
    sentence: str = ""

    @property
    def key(self) -> str:
        return f"llm_settled:{self.call}"


class LlmBefore(Record):
    """What the language model had used in the part that a person cut off (`resume BLOCK=n`): it stays spent."""

    type: Literal["llm_before"] = "llm_before"
    number: int
    micro_usd: int = Field(ge=0)
    usage: Usage = Usage()
    held_tokens: int = Field(default=0, ge=0)
    """Reserved for requests whose reply never arrived."""
    seconds: float = 0.0

    @property
    def key(self) -> str:
        return f"llm_before:{self.number}"


class Waiting(Record):
    """The language model cannot be asked just now; the engine waits."""

    type: Literal["waiting"] = "waiting"
    call: int
    """That was turned away."""
    seconds: float
    sentence: str

    @property
    def key(self) -> str:
        return f"waiting:{self.call}"


Body = (
    Opened
    | Session
    | RegimeReady
    | Amended
    | Turned
    | Refused
    | RunReserved
    | RunEnded
    | LlmReserved
    | LlmSettled
    | LlmBefore
    | Waiting
    | CodeChecked
    | Alarm
    | Human
)


class Event(Record):
    """One journal line: `{"v": 1, "seq": n, "at": "...Z", "body": {...}}`."""

    v: Literal[1] = 1
    seq: int = Field(ge=1)
    at: str
    """UTC time in milliseconds (whole seconds in journals of earlier versions), for people only."""
    body: Annotated[Body, Field(discriminator="type")]
