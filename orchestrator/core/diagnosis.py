"""What the metrics of a run say together: the degeneracy gap and the instruction's diagnosis tables."""

from __future__ import annotations

from orchestrator.core.classify import holds
from orchestrator.core.contract import Contract, DiagnosisRule
from orchestrator.core.state import Iteration

GAP = "degeneracy_gap"
"""Name of the gap in conditions."""


def gap(contract: Contract, it: Iteration) -> float | None:
    """Return how much better the dynamics look than the mechanism behind them; None when either was not measured."""
    if contract.gap is None:
        return None
    dynamics, mechanism = (it.metric(name).value for name in (contract.gap.minuend, contract.gap.subtrahend))
    return None if dynamics is None or mechanism is None else dynamics - mechanism


def untrusted(contract: Contract, it: Iteration) -> bool:
    """Return whether the metrics of the dynamics are no evidence of learning in this run."""
    found = gap(contract, it)
    return contract.gap is not None and found is not None and found > contract.gap.untrusted_above


def diagnose(contract: Contract, it: Iteration) -> DiagnosisRule | None:
    """Return the first row of the diagnosis tables whose conditions all hold, or None."""
    for rule in contract.diagnosis:
        if all(holds(c, gap(contract, it) if c.metric == GAP else it.metric(c.metric).value) for c in rule.conditions):
            return rule
    return None


def line(contract: Contract, it: Iteration) -> str | None:
    """Return the entry's diagnosis, e.g. `gap=0.53 (test_pearson=0.999, connectivity_R2=0.466): Degenerate ...`."""
    found, rule = gap(contract, it), diagnose(contract, it)
    parts = []
    if contract.gap is not None and found is not None:
        names = (contract.gap.minuend, contract.gap.subtrahend)
        shown = ", ".join(f"{name}={it.metric(name).value:.3f}" for name in names)
        parts.append(f"gap={found:.2f} ({shown})")
    if rule is not None:
        parts.append(rule.diagnosis)
    if contract.gap is not None and untrusted(contract, it):
        parts.append(f"metrics of the dynamics are not evidence (gap > {contract.gap.untrusted_above:g})")
    return "; ".join(parts) or None
