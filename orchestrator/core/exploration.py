"""Schema of exploration.yaml: everything about an exploration that is neither instruction nor hyperparameter."""

from __future__ import annotations

import difflib
import math
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from orchestrator.core.contract import Level
from orchestrator.core.dialogue import PRICES, Effort, Prices
from orchestrator.core.records import Mode, Record, Role
from orchestrator.errors import InstructionError

BUDGET_KEYS = (
    "claude.data_augmentation_loop", "claude.n_epochs", "simulation.n_frames", "simulation.n_neurons",
    "simulation.n_cells", "simulation.substeps", "simulation.delta_t", "inr.inr_total_steps", "training.max_minutes",
)  # fmt: skip
"""What a profile may scale, beside widths (`hidden_dim*`): the size of the problem, and how long is trained."""


NOT_YET = ("keep",)
"""Fields of the design whose settings no part of the engine reads yet; delete a name here when one does."""


def is_budget_key(key: str) -> bool:
    """Return whether a profile may override `section.name`."""
    section, _, name = key.partition(".")
    return key in BUDGET_KEYS or (section in ("graph_model", "inr") and name.startswith("hidden_dim"))


BLOCK_LENGTH = "claude.n_iter_block"
"""Key that a profile may set too; a regime's own profile may not: all blocks have one length."""
TARGET = "time_target_min"
"""Field that a profile may set too: what is two hours on a GPU is two minutes on a CPU."""


def _only_budget(profiles: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    for name, overrides in profiles.items():
        for key in overrides:
            if key in (TARGET, BLOCK_LENGTH):
                raise ValueError(
                    f"profile {name} of a regime may not set {key}: one value holds for all regimes; set it under "
                    "the exploration's own profiles"
                )
            if not is_budget_key(key):
                allowed = ", ".join((*BUDGET_KEYS, BLOCK_LENGTH, "graph_model.hidden_dim*", "inr.hidden_dim*"))
                raise ValueError(f"profile {name} may not set {key}; a profile scales the budget only: {allowed}")
    return profiles


class RunLimits(Record):
    """Limits of one run; the supervisor enforces them."""

    wall_s: float = Field(default=600.0, gt=0)
    """Longest time of a run, training and scoring together."""
    silence_s: float = Field(default=120.0, gt=0)
    """Longest time without a new byte of progress."""


class Regime(Record):
    """One simulated system; blocks take the regimes in their order."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    simulation: dict[str, Any] = Field(default_factory=dict)
    """Overrides of the config's `simulation` section, e.g. `n_neurons: 200`."""
    profiles: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Overrides of budget keys in this regime, by profile; they win over the profile's own."""

    @field_validator("profiles")
    @classmethod
    def _budgets(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return _only_budget(value)

    @field_validator("simulation")
    @classmethod
    def _no_seed(cls, value: dict[str, Any]) -> dict[str, Any]:
        if "seed" in value:
            raise ValueError("seed: a regime's draws start at simulation.seed of config.yaml; leave it out here")
        return value


class Draws(Record):
    """When a regime's draw (simulation seed) is replaced by the next one, before its first run."""

    tries: int = Field(default=1, ge=1, le=20)
    """Draws that are prepared and measured at most; of draws that are all unfit, the best-conditioned is taken."""
    ceiling: float | None = None
    """Least value of the primary metric that the data must allow (the preflight's ceiling)."""
    condition: float | None = Field(default=None, gt=1)
    """Greatest condition number of the sent activity."""


class Stop(Record):
    """When to stop before the iterations are used up."""

    target: float | None = None
    """Primary metric at which the exploration is done."""
    blocks_without_gain: int | None = Field(default=None, ge=1)
    """Complete blocks in a row that do not improve on the best before them by more than noise."""
    until: datetime | None = None
    """UTC time, `2026-11-20T06:00`: nothing new is started after it."""

    @field_validator("until")
    @classmethod
    def _utc(cls, value: datetime | None) -> datetime | None:
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


class ModelSettings(Record):
    """The language model behind the scientist `claude`."""

    name: str = "claude-opus-5-5"
    """As the service spells it; the environment variable ANTHROPIC_MODEL wins."""
    effort: Effort | None = None
    """Within a block; null is the model's own default."""
    boundary_effort: Effort | None = "high"
    """At a block's end."""
    max_tokens: int = Field(default=16_000, ge=256)
    """Longest reply, thinking included."""
    cache: Literal["5m", "1h"] = "1h"
    """How long the service keeps the prefix: an hour pays where a run takes between 5 and 55 minutes."""
    features: tuple[Literal["thinking", "effort", "cache"], ...] = ("thinking", "effort", "cache")
    """What is sent of what the service knows; a server of your own may not know all of it."""
    prices: Prices | None = None
    """Null: those that this version knows (`core.dialogue.PRICES`). A model without a price is never asked."""

    @property
    def rates(self) -> Prices:
        """Return the prices in force.

        Raises:
            InstructionError: none are known for this model.
        """
        found = self.prices or PRICES.get(self.name)
        if found is None:
            raise InstructionError(
                f"no price is known for the model {self.name!r}, so its cost could not be kept within the budget. Give "
                "`model: {prices: {date: YYYY-MM-DD, input: , output: , cache_write: , cache_write_1h: , cache_read: "
                "}}` in exploration.yaml (US dollars per million tokens; 0 for a server of your own), or take one of "
                f"{', '.join(PRICES)}"
            )
        return found


class Allowance(Record):
    """What the model may use for one turn; null is no limit of its own."""

    max_usd: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    max_tokens: int | None = Field(default=None, ge=1)
    """Of prompts and replies together, those from the cache included."""
    max_min: float | None = Field(default=None, gt=0)
    """Minutes of waiting for replies."""


class Budget(Allowance):
    """What the model may use in total, and how long the engine waits for it."""

    max_usd: float = Field(default=5.0, gt=0, allow_inf_nan=False)
    turn: Allowance = Allowance()
    """For one turn (an iteration, or a block's end)."""
    first_wait_s: float = Field(default=60.0, gt=0)
    """Pause after the service could not be asked; each further one is twice as long."""
    longest_wait_s: float = Field(default=1800.0, gt=0)
    max_wait_h: float = Field(default=8.0, gt=0)
    """Tries and pauses in a row, together, after which a person is needed."""


class Settled(Record):
    """What exploration.yaml says of a key that the instruction leaves unclear; it wins over the instruction."""

    range: tuple[float, float] | None = None
    allowed: tuple[Any, ...] | None = None
    level: Level | None = None

    @field_validator("range")
    @classmethod
    def _ordered(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and value[0] > value[1]:
            raise ValueError(f"range {value[0]:g} to {value[1]:g}: the first number is the smaller one")
        return value


class Exploration(Record):
    """Content of exploration.yaml."""

    instruction: str
    """Name (`sparse_gnn` is instructions/sparse_gnn.md) or path of the markdown file."""
    system: str
    """A system of trainers/schema.json."""
    scientist: Literal["offline", "claude"] | None = None
    """Null: `claude` when a key is set, else `offline`."""
    model: ModelSettings = ModelSettings()
    budget: Budget = Budget()
    primary: str | None = None
    """Metric that ranks nodes, in place of the instruction's."""
    classes: dict[str, str] | None = None
    """Name -> conditions such as `connectivity_R2 > 0.9`, best first; replaces the instruction's classes."""
    settle: dict[str, Settled] = Field(default_factory=dict)
    """Key (`section.name` or the instruction's spelling) -> what holds."""
    profiles: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Name -> overrides of budget keys, e.g. `claude.data_augmentation_loop: 25`, and of `time_target_min`.

    `full` needs no entry.
    """
    regimes: tuple[Regime, ...] = ()
    """Simulated systems in the order in which blocks take them; none is the one system of config.yaml."""
    compare: str | None = None
    """Key in which regimes are compared, e.g. `simulation.n_neurons`."""
    draws: Draws = Draws()
    slots: int = Field(default=1, ge=1, le=64)
    """Runs at the same time."""
    mode: Mode = "refill"
    """`batch`: all slots are judged and filled together; `refill`: a slot is judged and filled when its run ends."""
    roles: tuple[Role, ...] = ()
    """What each slot's proposals are for, slot 0 first, then from the start again; empty is the usual ones."""
    share_gpus: bool = False
    """Whether GPUs may be used that another exploration on this machine uses."""
    launcher: Literal["local"] = "local"
    sandbox: Literal["auto", "bwrap", "landlock", "none"] = "auto"
    limits: RunLimits = RunLimits()
    scorer: Literal["puct", "ucb1"] = "puct"
    """Formula of ucb_scores.txt (orchestrator/core/tree.py)."""
    replicate_every: int = Field(default=6, ge=0)
    """Every so many iterations the leader is run again at another training seed; 0 is never."""
    time_target_min: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Training time that a run should take, in minutes; a profile may set another. The budget key is scaled to it."""
    stop: Stop = Stop()
    keep: Literal["all", "best"] = "all"
    """Checkpoints that stay."""
    command: tuple[str, ...] | None = None
    """Your own trainer, in place of ours: a program and its arguments, in which `{run}` is the run folder, `{source}`
    this exploration's folder, and the word `python` the interpreter of the engine. It runs without a sandbox."""
    code: Literal["off", "on"] = "off"
    """Whether the scientist may edit the code that the instruction permits (`CODE=1` turns it on at the opening)."""

    @field_validator(*NOT_YET)
    @classmethod
    def _honoured(cls, value: Any, info: ValidationInfo) -> Any:
        if value != cls.model_fields[str(info.field_name)].default:
            raise ValueError("nothing honours this setting yet, so it is refused; leave the field out")
        return value

    @field_validator("profiles")
    @classmethod
    def _budgets(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, overrides in value.items():
            target = overrides.get(TARGET, 1.0)
            number = isinstance(target, int | float) and not isinstance(target, bool)
            if not number or not 0 < target < math.inf:
                raise ValueError(f"profile {name}: {TARGET} is a number of minutes above 0, found {target!r}")
        _only_budget(
            {name: {k: v for k, v in o.items() if k not in (TARGET, BLOCK_LENGTH)} for name, o in value.items()}
        )
        return value

    @field_validator("regimes")
    @classmethod
    def _told_apart(cls, value: tuple[Regime, ...], info: ValidationInfo) -> tuple[Regime, ...]:
        names = [r.name for r in value]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{names.count(name)} regimes are called {name}; a name belongs to one")
        known = ("full", *info.data.get("profiles", {}))
        for regime in value:
            for name in regime.profiles:
                if "profiles" in info.data and name not in known:
                    raise ValueError(f"regime {regime.name}: no profile {name!r}; profiles: {', '.join(known)}")
        return value

    def target_of(self, profile: str) -> float | None:
        """Return the minutes that a training should take under a profile, or None."""
        found = self.profiles.get(profile, {}).get(TARGET, self.time_target_min)
        return None if found is None else float(found)

    def overrides(self, profile: str) -> dict[str, Any]:
        """Return the config keys that a profile sets."""
        return {k: v for k, v in self.profiles.get(profile, {}).items() if k != TARGET}


def read_exploration(data: dict[str, Any], source: str = "exploration.yaml") -> Exploration:
    """Return a parsed exploration.yaml as a record.

    Raises:
        InstructionError: names each bad field, what was expected, and the nearest field for one that nothing reads.
    """
    try:
        return Exploration.model_validate(data)
    except ValidationError as error:
        lines = [f"{source}: {_line(problem)}" for problem in error.errors()]
        raise InstructionError("\n".join(lines)) from error


def _line(problem: Any) -> str:
    path = ".".join(str(p) for p in problem["loc"])
    if problem["type"] == "extra_forbidden":
        nested: dict[str, type[Record]] = {
            "regimes": Regime,
            "model": ModelSettings,
            "budget": Budget,
            "limits": RunLimits,
            "stop": Stop,
        }
        record: type[Record] = (
            nested.get(str(problem["loc"][0]), Exploration) if len(problem["loc"]) > 1 else Exploration
        )
        fields = list(record.model_fields)
        near = difflib.get_close_matches(str(problem["loc"][-1]), fields, n=1)
        hint = f"did you mean {near[0]}?" if near else f"fields: {', '.join(fields)}"
        return f"{path}: nothing reads this field, so it is refused; {hint}"
    if problem["type"] == "missing":
        return f"{path}: this field is needed"
    return f"{path}: {problem['msg'].removeprefix('Value error, ')}, found {problem['input']!r}"
