"""Typed reading of trainers/schema.json: which config keys and metrics a system has, and their hard bounds."""

from __future__ import annotations

import difflib
import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from orchestrator.errors import InstructionError

KeyType = Literal["int", "float", "bool", "str", "list"]

BARE_NAME_ORDER = ("training", "inr", "graph_model", "claude", "simulation")
"""A name without its section means the first of these sections that has it (`seed` is `training.seed`)."""


class _Open(BaseModel):
    """Frozen, and deaf to fields of a newer schema.json."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class KeySchema(_Open):
    """One config key as the trainer defines it."""

    section: str
    name: str
    type: KeyType
    default: Any = None
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: bool = False
    allowed: tuple[Any, ...] | None = None
    unit: str = "dimensionless"
    aliases: tuple[str, ...] = ()
    acts_when: str = "always"
    description: str = ""

    @property
    def key(self) -> str:
        """`section.name`."""
        return f"{self.section}.{self.name}"

    def fault(self, value: Any) -> str | None:
        """Return what is wrong with a value (type or hard bound), or None."""
        kinds: dict[str, tuple[type, ...]] = {
            "int": (int,), "float": (int, float), "bool": (bool,), "str": (str,), "list": (list, tuple)
        }  # fmt: skip
        if not isinstance(value, kinds[self.type]) or (isinstance(value, bool) and self.type != "bool"):
            return f"expected {self.type}, found {value!r} ({type(value).__name__})"
        if isinstance(value, float) and not math.isfinite(value):
            return f"expected a finite number, found {value!r}"
        if self.allowed and value not in self.allowed:
            return f"expected one of {', '.join(map(str, self.allowed))}, found {value!r}"
        if isinstance(value, int | float) and not isinstance(value, bool) and not self.within(value):
            return f"expected {self.bounds}, found {value!r}"
        return None

    def within(self, value: float) -> bool:
        """Return whether a number lies within the hard bounds."""
        low = self.minimum is None or (value > self.minimum if self.exclusive_minimum else value >= self.minimum)
        return bool(low and (self.maximum is None or value <= self.maximum))

    @property
    def bounds(self) -> str:
        """The hard range in words."""
        parts = []
        if self.minimum is not None:
            parts.append(f"{'>' if self.exclusive_minimum else '>='} {self.minimum:g}")
        if self.maximum is not None:
            parts.append(f"<= {self.maximum:g}")
        return " and ".join(parts) or "any number"

    def typed(self, value: Any) -> Any:
        """Return a value in the key's own type (an int given for a float key becomes a float)."""
        if self.type == "float" and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        return list(value) if self.type == "list" else value


class MetricSchema(_Open):
    """One metric that the scorer writes."""

    name: str
    unit: str = "dimensionless"
    direction: Literal["max", "min", "target", "none"] | None = "max"
    target: float | None = None
    aliases: tuple[str, ...] = ()
    version: int = 1
    corrected_by: str | None = None
    """Metric to judge by where this one misleads (a chaotic system over a long horizon)."""
    log_key: str = ""
    format: str = "%g"
    description: str = ""


CLAUDE: tuple[KeySchema, ...] = (
    KeySchema(section="claude", name="n_epochs", type="int", default=1, minimum=1, maximum=1000, unit="epochs"),
    KeySchema(section="claude", name="data_augmentation_loop", type="int", default=40, minimum=1, maximum=100000),
    KeySchema(
        section="claude", name="n_iter_block", type="int", default=12, minimum=1, maximum=1000, unit="iterations"
    ),
    KeySchema(section="claude", name="ucb_c", type="float", default=1.414, minimum=0.5, maximum=3.0),
)
"""The engine's own section: exactly these four keys."""


class SystemSchema(_Open):
    """Keys and metrics of one system."""

    system: str
    generator_version: int
    keys: tuple[KeySchema, ...]
    metrics: tuple[MetricSchema, ...]
    cost: tuple[str, ...] = ()
    """Keys (`section.name`) whose product is the work of a training."""
    cost_per: tuple[str, ...] = ()
    """Keys by which that product is divided: a step takes about as long however many frames it sees."""
    budget: str = ""
    """The one of `cost` that scales the work and nothing else."""
    time_limit: str = ""
    """Key that holds the longest training in minutes; the training keeps it by itself. "" when there is none."""
    exclusive: tuple[tuple[str, ...], ...] = ()
    """Groups of keys of which at most one may be true."""

    @property
    def sections(self) -> tuple[str, ...]:
        """Sections that a config of this system has, `claude` last."""
        return (*dict.fromkeys(k.section for k in self.keys), "claude")

    def key(self, name: str) -> KeySchema | None:
        """Return the key called `section.name`, `name`, or by one of its aliases; None when there is none."""
        keys = (*self.keys, *CLAUDE)
        for found in keys:
            if found.key == name:
                return found
        section, _, bare = name.rpartition(".")
        named = [k for k in keys if not section and k.name == bare]
        if not named:
            named = [k for k in keys if section in ("", k.section) and bare in k.aliases]
        order = {s: i for i, s in enumerate(BARE_NAME_ORDER)}
        return min(named, key=lambda k: order.get(k.section, len(order)), default=None)

    def metric(self, name: str) -> MetricSchema | None:
        """Return the metric of this name, alias or log key (case counts only when it must); None when there is none."""
        for fold in (str, _folded):
            for metric in self.metrics:
                if fold(name) in {fold(n) for n in (metric.name, metric.log_key, *metric.aliases) if n}:
                    return metric
        return None

    def nearest_keys(self, name: str, n: int = 3) -> tuple[str, ...]:
        """Return the spellings of keys most like `name`, best first."""
        names = {s: k.key for k in (*self.keys, *CLAUDE) for s in (k.name, k.key, *k.aliases)}
        close = difflib.get_close_matches(name, list(names), n=2 * n, cutoff=0.55)
        return tuple(dict.fromkeys(names[c] for c in close))[:n]

    def nearest_metrics(self, name: str, n: int = 3) -> tuple[str, ...]:
        """Return the metric names most like `name`, best first."""
        names = {s: m.name for m in self.metrics for s in (m.name, *m.aliases)}
        return tuple(dict.fromkeys(names[c] for c in difflib.get_close_matches(name, list(names), n=n, cutoff=0.4)))


def _folded(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def read_schema(data: dict[str, Any], system: str, source: str = "trainers/schema.json") -> SystemSchema:
    """Return one system of a parsed schema.json.

    Raises:
        InstructionError: another contract version, no such system (the message lists those there are), or a field of
            the wrong form.
    """
    if data.get("contract") != 1:
        raise InstructionError(f"{source}: expected contract 1, found {data.get('contract')!r}; regenerate the schema")
    systems = data.get("systems", {})
    if system not in systems:
        known = ", ".join(systems) or "none"
        raise InstructionError(f"{source}: no system {system!r}; systems: {known}; set `system:` in exploration.yaml")
    body = systems[system]
    try:
        return SystemSchema(
            system=system,
            generator_version=body["generator_version"],
            keys=tuple(
                KeySchema(section=section, name=name, **spec)
                for section, keys in body["sections"].items()
                for name, spec in keys.items()
                if section != "claude"
            ),
            metrics=tuple(MetricSchema(name=name, **spec) for name, spec in body["metrics"].items()),
            **{name: body[name] for name in ("cost", "cost_per", "budget", "time_limit", "exclusive") if name in body},
        )
    except (ValidationError, KeyError, AttributeError, TypeError) as error:
        raise InstructionError(f"{source}: system {system}: {error}; regenerate the schema") from error
