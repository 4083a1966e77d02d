"""The law of an exploration: what may change, within which bounds, and how results are judged.

Compiled once from schema, instruction and exploration.yaml (see `formats.instruction`), written to `contract.yaml`,
sealed by its sha in the journal. Everything not named here is frozen (default deny).
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from orchestrator.core.records import Change, Config, Mutation, Record, sha_of

Level = Literal["free", "block", "frozen"]
Op = Literal["<", "<=", ">", ">="]


class Step(Record):
    """One size of a mutation, as the instruction lists it."""

    op: Literal["*", "+"]
    value: float = Field(allow_inf_nan=False)
    """Factor of `*`, above 0: `/2` is 0.5; difference of `+`: `-128` is -128."""


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
    """Does not count towards the changes of a mutation (seeds, the budget key of a time target)."""
    steps: tuple[Step, ...] = ()
    """Sizes of its mutations, where the instruction lists them; empty means the range sets them."""
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


class StrategyRule(Record):
    """One row of the strategy table; `core.strategy` knows by its name when it holds."""

    name: str
    """`forced-branch`."""
    condition: str
    """As the instruction (or a boundary's rule edit) words it."""
    action: str
    metric: str | None = None
    """Metric that the condition is about, by the scorer's name; null is the primary, or none."""
    numbers: dict[str, float] = Field(default_factory=dict)
    """Numbers read from the condition, e.g. `{"count": 3, "within": 0.05}`: those of a name: `core.strategy_kinds`."""
    assumed: tuple[str, ...] = ()
    """Those of `numbers` that the condition does not state: the registry's defaults."""
    known: bool = True
    """Whether `core.strategy` has a predicate of that name; a row without one is shown and never triggers."""
    block: int = 0
    """Block at whose end the row was added or changed; 0 is the instruction's own."""
    source: str = ""


class DiagnosisRule(Record):
    """One row of a diagnosis table: what the metrics of a run say together."""

    conditions: tuple[Condition, ...]
    """All must hold; `degeneracy_gap` is a metric here."""
    diagnosis: str
    source: str = ""


class Gap(Record):
    """The degeneracy gap: how much better the dynamics look than the mechanism behind them."""

    minuend: str
    """Metric of the dynamics, by the scorer's name."""
    subtrahend: str
    """Metric of the mechanism."""
    untrusted_above: float = 0.3
    """Above it the metrics of the dynamics are no evidence of learning."""
    source: str = ""


class Scope(Record):
    """Code that may be edited: a file of ours, whole or one function."""

    path: str
    function: str | None = None
    permission: str
    source: str = ""


class Patch(Record):
    """A prepared, reviewed code edit of the exploration's `patches/` folder."""

    name: str
    """Of its file: `01-adamw.patch`."""
    change: str
    """What it changes, one line."""
    hypothesis: str
    text: str
    """Unified diff against the code that the exploration was opened with."""


class UserInstruction(Record):
    """One item of the instruction's user instructions; it wins over frozen rules."""

    text: str
    regimes: tuple[str, ...] = ()
    """Declared regimes that it asks for."""
    undeclared: tuple[str, ...] = ()
    """Values it asks for that no declared regime and no key's range holds, e.g. `n_neurons=400`."""
    between: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    """`section.name` -> values that it asks of keys which change between blocks only."""
    source: str = ""


class RegimeRule(Record):
    """One simulated system of the exploration, frozen within a block."""

    name: str
    values: dict[str, Any] = Field(default_factory=dict)
    """`section.name` -> value, for every key that any regime sets: moving between regimes replaces all of them."""


class SpreadRule(Record):
    """One run of the instruction's initial spread."""

    text: str
    """As the instruction words it."""
    values: dict[str, Any] = Field(default_factory=dict)
    """`section.name` -> value where it differs from the start; empty is the start itself."""
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
    time_target_min: float | None = Field(default=None, gt=0)
    """Training time that a run should take, in minutes; the budget key is scaled to it."""
    cost: tuple[str, ...] = ()
    """Keys whose product is the work of a training; the budget key is one of them."""
    cost_per: tuple[str, ...] = ()
    """Keys by which that product is divided."""
    budget: str = ""
    """Key that scales the work of a training and nothing else; "" when the system has none."""
    time_limit: str = ""
    """Key that holds the longest training in minutes: no config that is expected to take longer is proposed."""
    exclusive: tuple[tuple[str, ...], ...] = ()
    """Groups of keys of which at most one may be true."""
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
    log_visual: tuple[str, ...] = ()
    """Labels of the `Visual:` line: what the scientist must have seen in each run's plots."""
    memory_cap_lines: int = Field(default=500, ge=50)
    principle_support: int = Field(default=3, ge=1)
    """Iterations that must support a principle before it is established."""
    spread: tuple[SpreadRule, ...] = ()
    """The instruction's initial spread, in the order of its slots; exempt from `max_changes`."""
    block_focus: tuple[str, ...] = ()
    """The instruction's focus for block 1, 2, ...; empty when it has no plan."""
    regimes: tuple[RegimeRule, ...] = ()
    """In the order in which blocks take them; empty is the one system of `start`."""
    compare: str | None = None
    """Key in which regimes are compared: memory.md has a table for each group that differs in it alone. Of level
    `block`: blocks run over its allowed values, and memory.md has one table of them."""
    comparison_heading: str = ""
    """Of that table, as the instruction's memory skeleton has it; "" when it has none."""
    strategies: tuple[StrategyRule, ...] = ()
    """Rows of the strategy table, in its order; boundaries may add to them (`State.strategies`)."""
    diagnosis: tuple[DiagnosisRule, ...] = ()
    """The first whose conditions all hold is a run's diagnosis."""
    gap: Gap | None = None
    scopes: tuple[Scope, ...] = ()
    """Default deny: code not listed is never edited."""
    code: Literal["off", "on"] = "off"
    """Whether `scopes` may be edited at all."""
    unsandboxed: bool = False
    """Whether edited code may run where there is no sandbox (exploration.yaml: `sandbox: none`)."""
    patches: tuple[Patch, ...] = ()
    """In the order in which the offline scientist tries them."""
    figures: tuple[str, ...] = ()
    """Plots that the instruction wants looked at (paths or patterns below a run)."""
    user_instructions: tuple[UserInstruction, ...] = ()
    unmapped_sections: tuple[str, ...] = ()
    """Headings kept as prose for the scientist only."""

    @property
    def primary(self) -> MetricRule:
        """The metric that ranks nodes."""
        return next(m for m in self.metrics if m.role == "primary")

    def key(self, name: str) -> KeyRule | None:
        """Return the rule of `section.name` (or of its short name), or None when the contract does not know it."""
        return next((k for k in self.keys if name in (k.key, k.short)), None)

    def counted(self, changes: tuple[Change, ...]) -> tuple[Change, ...]:
        """Return the changes that count towards `max_changes`: those of keys that are not exempt."""
        exempt = {k.key for k in self.keys if k.exempt}
        return tuple(c for c in changes if c.key not in exempt)

    def counted_of(self, mutation: Mutation) -> tuple[Change, ...]:
        """Return the changes of a mutation that count: a budget that only keeps the time limit does not either."""
        return self.counted(self.explored(mutation))

    def explored(self, mutation: Mutation) -> tuple[Change, ...]:
        """Return the changes of a mutation without a budget that only keeps the time limit."""
        return tuple(c for c in mutation.changes if not (mutation.fitted and c.key == self.budget))

    def clash(self, config: Config) -> tuple[str, ...]:
        """Return the true keys of the first exclusive group of which a config has more than one, () where none is."""
        for group in self.exclusive:
            sections = ((key, *key.split(".", 1)) for key in group)
            true = tuple(key for key, section, name in sections if config.get(section, {}).get(name) is True)
            if len(true) > 1:
                return true
        return ()

    @property
    def sha(self) -> str:
        """Seal of the contract."""
        return sha_of(self.model_dump(mode="json"))
