"""What an instruction says, item by item, each with the line where it stands. Nothing is checked against a trainer."""

from __future__ import annotations

from typing import Any, Literal

from orchestrator.core.contract import Level, Op, Step
from orchestrator.core.records import Record


class Problem(Record):
    """Something that cannot be read with certainty (`stops`), or that a person should know."""

    where: str
    """`source:line`."""
    text: str
    stops: bool = True
    key: str | None = None
    """Key whose entry under `settle:` in exploration.yaml removes the problem."""


class DraftKey(Record):
    """One config key that the instruction lists."""

    name: str
    section: str | None
    level: Level | None
    """Null: described, but not said to be free, block-level or frozen."""
    default: Any = None
    has_default: bool = False
    low: float | None = None
    high: float | None = None
    allowed: tuple[Any, ...] = ()
    short: str | None = None
    comment: str = ""
    line: int
    range_line: int | None = None

    @property
    def key(self) -> str:
        """`section.name` as far as the instruction says it."""
        return f"{self.section}.{self.name}" if self.section else self.name


class DraftClaude(Record):
    """One key of the `claude:` section."""

    name: str
    value: Any = None
    line: int


class Frozen(Record):
    """A statement that freezes a section or keys (`DO NOT change ...`)."""

    section: str | None = None
    keys: tuple[str, ...] = ()
    exceptions: tuple[str, ...] = ()
    line: int


class DraftMetric(Record):
    """One metric that the instruction names."""

    name: str
    role: Literal["primary", "secondary"] = "secondary"
    direction: Literal["max", "min", "target"] | None = None
    target: float | None = None
    aliases: tuple[str, ...] = ()
    line: int


class DraftCondition(Record):
    """`metric op value`, the metric as written; null is the metric of the class before, or the primary."""

    metric: str | None
    op: Op
    value: float


class DraftClass(Record):
    """One class: all conditions of one alternative hold."""

    name: str
    alternatives: tuple[tuple[DraftCondition, ...], ...]
    """Empty when the text could not be read."""
    text: str
    line: int


class StartingPoint(Record):
    """`name=value` that the instruction starts from."""

    name: str
    value: Any
    line: int


class SpreadChange(Record):
    """A value that a row of the initial spread gives to a key."""

    name: str
    value: Any
    was: Any = None
    """What the row says that the value was before; null when it does not say."""
    text: str
    """The value as written."""
    sure: bool = True
    """Whether it is one value: `8 or 16` and `2 x` are not."""
    loose: bool = False
    """Read from words (`name: 3`, `name to 3`), not from `name=3`: only a key's name makes it a change."""
    line: int


class SpreadRow(Record):
    """`Slot 1: ...` of the initial spread."""

    slot: int
    text: str
    """Without the slot's number; list items below it are joined with `; `."""
    start: bool = False
    """Whether it says that it is the start itself (`baseline`)."""
    changes: tuple[SpreadChange, ...] = ()
    line: int


class DraftMagnitude(Record):
    """One item of the mutation magnitudes: `Learning rates: x2 or /2`."""

    label: str
    """A key or a group of keys, as written."""
    steps: tuple[Step, ...]
    line: int


class StrategyRow(Record):
    """One row of the strategy table."""

    condition: str
    strategy: str
    action: str
    line: int


class DraftDiagnosis(Record):
    """One row of a diagnosis table."""

    cells: tuple[tuple[str, str], ...]
    """(column header, cell) of every column but the diagnosis."""
    diagnosis: str
    line: int
    table: int
    """Line of the table's header."""


class DraftGap(Record):
    """The degeneracy gap as the instruction defines it."""

    minuend: str
    subtrahend: str
    line: int
    above: tuple[float, int] | None = None
    """(gap above which the dynamics are no evidence, line where it is said)."""


class EditableFile(Record):
    """One row of the table of files that may change."""

    path: str
    permission: str
    functions: tuple[str, ...] = ()
    """Functions that the permission names, in backticks."""
    line: int


class Labels(Record):
    """Labels of one line of the log form, in order."""

    labels: tuple[str, ...] = ()
    line: int = 0


class LineOf(Record):
    """A piece of text and its line."""

    text: str
    line: int


class Reduction(Record):
    """A loss term: coefficient times a sum or a mean."""

    name: str
    word: Literal["sum", "mean"]
    line: int


class BlockFocus(Record):
    """`Block 2: ...`; `onwards` is the `+` of `Block 4+`."""

    block: int
    onwards: bool
    text: str
    line: int


class FrontMatter(Record):
    """YAML between `---` lines at the top of an instruction."""

    names: dict[str, str] = {}  # noqa: RUF012 (pydantic copies defaults)
    """Label or spelling used in the text -> schema name of the key or metric."""
    code: dict[str, str] = {}  # noqa: RUF012
    """Code path in the text -> path in this project."""
    prose: tuple[str, ...] = ()
    """Headings that are meant as prose: they and what is below them are not reported as unmapped."""


class InstructionDraft(Record):
    """Everything read from one instruction."""

    source: str
    front: FrontMatter = FrontMatter()
    title: LineOf
    goal: LineOf | None = None
    keys: tuple[DraftKey, ...] = ()
    frozen: tuple[Frozen, ...] = ()
    claude: tuple[DraftClaude, ...] = ()
    metrics: tuple[DraftMetric, ...] = ()
    classes: tuple[DraftClass, ...] = ()
    starts: tuple[StartingPoint, ...] = ()
    spread: tuple[SpreadRow, ...] = ()
    """In the order of their slots."""
    magnitudes: tuple[DraftMagnitude, ...] = ()
    order: tuple[LineOf, ...] = ()
    plan: tuple[BlockFocus, ...] = ()
    strategies: tuple[StrategyRow, ...] = ()
    diagnosis: tuple[DraftDiagnosis, ...] = ()
    gap: DraftGap | None = None
    files: tuple[EditableFile, ...] = ()
    log_config: Labels = Labels()
    log_metrics: Labels = Labels()
    log_activity: Labels = Labels()
    log_visual: Labels = Labels()
    log_form: LineOf | None = None
    memory_headings: tuple[LineOf, ...] = ()
    memory_cap: tuple[int, int] | None = None
    """(lines, line where it is said)."""
    principle_support: tuple[int, int] | None = None
    max_changes: tuple[int, int] | None = None
    exempt: tuple[LineOf, ...] = ()
    """Keys that the one-change rule does not count."""
    figures: tuple[LineOf, ...] = ()
    user_instructions: tuple[LineOf, ...] = ()
    noise_scales: tuple[LineOf, ...] = ()
    """Stated distributions of W, e.g. `N(0, 1/n)`."""
    reductions: tuple[Reduction, ...] = ()
    layers: tuple[LineOf, ...] = ()
    """Widths of each `MLP([2, hidden_dim, 1])`."""
    unmapped: tuple[LineOf, ...] = ()
    problems: tuple[Problem, ...] = ()

    def where(self, line: int) -> str:
        """Return `source:line`."""
        return f"{self.source}:{line}"
