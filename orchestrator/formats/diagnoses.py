"""The degeneracy gap, and the diagnosis tables as typed conditions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from orchestrator.core.contract import Condition, DiagnosisRule, Gap, Op
from orchestrator.formats import rules
from orchestrator.formats.draft import DraftDiagnosis
from orchestrator.formats.work import Work

GAP = "degeneracy_gap"
"""Name of the gap in a condition."""
_Alternatives = tuple[tuple[tuple[Op, float], ...], ...]


def gap(work: Work) -> Gap | None:
    """Return the degeneracy gap, by the corrected metric where the scorer has one; None when there is none."""
    said = work.draft.gap
    if said is None:
        return None
    where = work.draft.where(said.line)
    minuend, stands_for = work.evidence(said.minuend)
    subtrahend = work.metric(said.subtrahend)
    for name, found in ((said.minuend, minuend), (said.subtrahend, subtrahend)):
        if found is None:
            near = ", ".join(work.schema.nearest_metrics(name)) or "none"
            text = f"degeneracy gap: {name!r} is not measured by the scorer, so there is no gap; nearest: {near}"
            work.problem(where, text, stops=False)
    if minuend is None or subtrahend is None:
        return None
    if stands_for:
        work.corrected(where, minuend, stands_for)
    limit = {"untrusted_above": said.above[0]} if said.above else {}
    return Gap(minuend=minuend, subtrahend=subtrahend, source=where, **limit)


def diagnosis(work: Work, found: Gap | None) -> tuple[DiagnosisRule, ...]:
    """Return the rows of the diagnosis tables in their order; a row that no run could reach goes before the other.

    A row with a cell or column that cannot be read is left out, and a problem names its line.
    """
    rows: list[DiagnosisRule] = []
    for row in work.draft.diagnosis:
        rows += _rules(work, row, found)
    ordered: list[DiagnosisRule] = []
    for rule in rows:
        first = next((i for i, other in enumerate(ordered) if _implies(rule, other)), None)
        if first is None:
            ordered.append(rule)
            continue
        other = ordered[first]
        if _implies(other, rule):
            work.problem(rule.source, f"diagnosis {rule.diagnosis!r}: same conditions as {other.source}", stops=False)
        else:
            text = f"diagnosis {rule.diagnosis!r} holds only where {other.source} holds too, so it is asked first"
            work.problem(rule.source, text, stops=False)
            ordered.insert(first, rule)
    return tuple(ordered)


def _rules(work: Work, row: DraftDiagnosis, found: Gap | None) -> Iterator[DiagnosisRule]:
    where = work.draft.where(row.line)
    cells: list[tuple[str, _Alternatives]] = []
    for column, text in row.cells:
        try:
            alternatives = rules.cell_conditions(text)
        except ValueError as error:
            work.problem(where, f"diagnosis {row.diagnosis!r}, column {column}: {error}; row left out", stops=False)
            return
        if alternatives:
            metric = _column(work, column, found, work.draft.where(row.table))
            if metric is None:
                return
            cells.append((metric, alternatives))
    if not cells or not row.diagnosis:
        work.problem(where, "diagnosis row without a condition or a diagnosis; row left out", stops=False)
        return
    for chosen in itertools.product(*(alternatives for _, alternatives in cells)):
        conditions = [
            Condition(metric=metric, op=op, value=value)
            for (metric, _), pairs in zip(cells, chosen, strict=True)
            for op, value in pairs
        ]
        yield DiagnosisRule(conditions=tuple(conditions), diagnosis=row.diagnosis, source=where)


def _column(work: Work, column: str, found: Gap | None, where: str) -> str | None:
    if "gap" in column.lower().split() or column.lower() == GAP:
        if found is None:
            text = (
                "the degeneracy gap is not defined; write ``The degeneracy gap is `test_pearson - connectivity_R2` ``"
            )
            work.problem(where, f"diagnosis table, column {column}: {text}; its rows are left out", stops=False)
        return GAP if found else None
    metric, stands_for = work.evidence(column)
    if metric is None:
        near = ", ".join(work.schema.nearest_metrics(column)) or "none"
        text = f"{column!r} is not measured by the scorer; rows that use it are left out; nearest: {near}"
        work.problem(where, f"diagnosis table: {text}", stops=False)
    elif stands_for:
        work.corrected(where, metric, stands_for)
    return metric


def _implies(rule: DiagnosisRule, other: DiagnosisRule) -> bool:
    """Return whether `other` holds whenever `rule` does."""
    return all(any(_within(mine, theirs) for mine in rule.conditions) for theirs in other.conditions)


def _within(mine: Condition, theirs: Condition) -> bool:
    if mine.metric != theirs.metric or mine.op[0] != theirs.op[0]:
        return False
    inside = mine.value - theirs.value if mine.op[0] == ">" else theirs.value - mine.value
    return inside > 0 or (inside == 0 and (mine.op == theirs.op or len(theirs.op) == 2))
