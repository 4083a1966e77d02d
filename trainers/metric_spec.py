"""What a metric is, for the tables of metrics of the systems."""

from __future__ import annotations

from typing import Literal, NamedTuple


class MetricSpec(NamedTuple):
    """What a metric is and how it is written."""

    direction: Literal["max", "min", "target", "none"]
    format: str
    description: str
    aliases: tuple[str, ...] = ()
    log_key: str = ""
    unit: str = "dimensionless"
    version: int = 1
    corrected_by: str | None = None
    """Metric that stands for this one where its recorded form misleads (the degeneracy gap of a chaotic system)."""
    target: float | None = None
    """Best value where the direction is `target`."""


def r2(description: str, *aliases: str, corrected_by: str | None = None) -> MetricSpec:
    """Return the spec of a metric that is 1 at its best and written with four decimals."""
    return MetricSpec("max", "%.4f", description, aliases, corrected_by=corrected_by)
