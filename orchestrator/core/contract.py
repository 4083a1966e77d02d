"""The law of an exploration: what may change, within which bounds, and how results are judged.

Compiled once from schema, instruction and exploration.yaml (see `formats.instruction`), written to `contract.yaml`,
sealed by its sha in the journal. Everything not named here is frozen (default deny).
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from orchestrator.core.records import Config, Record, sha_of

Level = Literal["free", "block", "frozen"]
Op = Literal["<", "<=", ">", ">="]


class KeyRule(Record):
    """What the contract says of one config key."""

    key: str
    """`section.name`, the schema's spelling."""
    short: str
    """Name used in log lines (`lr_W`)."""
    type: Literal["int", "float", "bool", "str", "list"]
    level: Level
    low: float | None = None
    """Smallest allowed value, inclusive."""
    high: float | None = None
    """Largest allowed value, inclusive."""
    allowed: tuple[Any, ...] = ()
    """Closed list of values; empty means the range decides."""
    start: Any = None
    """Value of iteration 1."""
    exempt: bool = False
    """Does not count towards the changes of a mutation (seeds)."""
    source: str = ""
    """Where the rule was read, e.g. `instructions/sparse_gnn.md:88`."""


class MetricRule(Record):
    """One metric that the instruction names."""

    name: str
    role: Literal["primary", "secondary"]
    direction: Literal["max", "min", "target"] = "max"
    target: float | None = None
    """Best value when direction is `target`."""
    aliases: tuple[str, ...] = ()
    source: str = ""


class Condition(Record):
    """`metric op value`."""

    metric: str
    op: Op
    value: float


class VerdictRule(Record):
    """One class of the instruction; a run gets the first whose conditions all hold."""

    name: str
    conditions: tuple[Condition, ...]
    source: str = ""


class Contract(Record):
    """Everything the engine enforces, in one sealed record."""

    contract: Literal[1] = 1
    exploration: str
    system: str
    title: str
    goal: str
    keys: tuple[KeyRule, ...]
    metrics: tuple[MetricRule, ...]
    verdicts: tuple[VerdictRule, ...]
    """Ordered best to worst; the last one also takes runs without the metrics."""
    start: Config
    """Effective config of iteration 1, profile applied; `claude` holds the budget and the block length."""
    n_iter_block: int = Field(ge=1)
    ucb_c: float = Field(ge=0.5, le=3.0)
    scorer: Literal["puct", "ucb1"] = "puct"
    command: tuple[str, ...] | None = None
    """The user's own trainer; null is ours."""
    max_changes: int = Field(default=1, ge=1)
    """Keys that one mutation may change."""
    replicate_every: int = Field(default=6, ge=0)
    """Every so many iterations the leader is run again at another training seed; 0 is never."""
    order: tuple[str, ...] = ()
    """Keys in the order in which they are to be explored (the block plan's first focus first)."""
    log_config: tuple[str, ...] = ()
    """Keys of the `Config:` line, in order (schema spelling)."""
    log_metrics: tuple[tuple[str, str], ...] = ()
    """(label, metric) of the `Metrics:` line, in order."""
    log_activity: tuple[tuple[str, str], ...] = ()
    """(label, metric) of the `Activity:` line, in order."""
    memory_cap_lines: int = Field(default=500, ge=50)
    principle_support: int = Field(default=3, ge=1)
    """Iterations that must support a principle before it is established."""
    block_focus: tuple[str, ...] = ()
    """The instruction's focus for block 1, 2, ...; empty when it has no plan."""
    unmapped_sections: tuple[str, ...] = ()
    """Headings kept as prose for the scientist only."""

    @property
    def primary(self) -> MetricRule:
        """The metric that ranks nodes."""
        return next(m for m in self.metrics if m.role == "primary")

    def key(self, name: str) -> KeyRule | None:
        """Return the rule of `section.name` (or of its short name), or None when the contract does not know it."""
        return next((k for k in self.keys if name in (k.key, k.short)), None)

    @property
    def sha(self) -> str:
        """Seal of the contract."""
        return sha_of(self.model_dump(mode="json"))
