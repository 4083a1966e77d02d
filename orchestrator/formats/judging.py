"""Rules by which results are judged: metrics, classes, and the metrics of the log form."""

from __future__ import annotations

from typing import Any

from orchestrator.core.contract import Condition, MetricRule, VerdictRule
from orchestrator.formats import rules
from orchestrator.formats.draft import DraftClass, Labels
from orchestrator.formats.work import Work


def metrics(work: Work) -> tuple[MetricRule, ...]:
    """Return the metrics that the scorer has, the primary one first."""
    found: dict[str, MetricRule] = {}
    primary = _primary(work)
    for item in work.draft.metrics:
        where, name = work.draft.where(item.line), work.metric(item.name)
        if name is None:
            near = ", ".join(work.schema.nearest_metrics(item.name)) or ", ".join(m.name for m in work.schema.metrics)
            stops = item.role == "primary" and work.spec.primary is None
            work.problem(where, f"metric {item.name!r} is not measured by the scorer; nearest: {near}", stops=stops)
            continue
        known = work.schema.metric(name)
        assert known is not None
        way = item.direction or (known.direction if known.direction not in (None, "none") else "max")
        aliases = tuple(dict.fromkeys(n for n in (item.name, *item.aliases, *known.aliases) if n != name))
        found.setdefault(name, MetricRule(
            name=name, role="primary" if name == primary else "secondary", direction=way,
            target=item.target if item.direction == "target" else known.target, aliases=aliases, source=where,
        ))  # fmt: skip
    if primary and primary not in found:
        known = work.schema.metric(primary)
        way = known.direction if known and known.direction not in (None, "none") else "max"
        found[primary] = MetricRule(
            name=primary, role="primary", direction=way, target=known.target if known else None,
            source="exploration.yaml: primary",
        )  # fmt: skip
    return tuple(sorted(found.values(), key=lambda m: m.role != "primary"))


def _primary(work: Work) -> str | None:
    if work.spec.primary is None:
        stated = [m.name for m in work.draft.metrics if m.role == "primary"]
        return work.metric(stated[0]) if stated else None
    name = work.metric(work.spec.primary)
    text = f"primary: {work.spec.primary!r} is not measured by the scorer"
    if name is None and not any(p.text.startswith(text) for p in work.problems):
        near = ", ".join(work.schema.nearest_metrics(work.spec.primary)) or "none"
        work.problem("exploration.yaml", f"{text}; nearest: {near}")
    return name


def verdicts(work: Work) -> tuple[VerdictRule, ...]:
    """Return the classes, best first."""
    classes = list(work.draft.classes)
    if work.spec.classes is not None:
        classes = []
        for name, text in work.spec.classes.items():
            try:
                classes.append(DraftClass(name=name, alternatives=rules.conditions(text), text=text, line=0))
            except ValueError as error:
                work.problem("exploration.yaml", f"classes.{name}: {error}")
    if not classes:
        work.problem(
            work.draft.source, "no classes; write `- **Converged**: metric > 0.9` lines under `**Classification:**`"
        )

    def where(line: int) -> str:
        return work.draft.where(line) if work.spec.classes is None else "exploration.yaml: classes"

    primary = _primary(work)
    found = []
    for item in classes:
        if len(item.alternatives) > 1 and item is not classes[-1]:
            work.problem(where(item.line), f"class {item.name}: OR is understood in the last class only")
        conditions: list[Condition] = []
        for part in item.alternatives[0] if item.alternatives else ():
            metric = primary if part.metric in (None, "R2", "R²") else work.metric(part.metric or "")
            if metric is None:
                work.problem(where(item.line), f"class {item.name}: {part.metric!r} is not measured by the scorer")
                continue
            conditions.append(Condition(metric=metric, op=part.op, value=part.value))
        found.append(VerdictRule(name=item.name, conditions=tuple(conditions), source=where(item.line)))
    return _vetoed(work, found, classes[-1], where(classes[-1].line)) if classes else ()


def _vetoed(work: Work, found: list[VerdictRule], last: DraftClass, where: str) -> tuple[VerdictRule, ...]:
    """Return the classes; a further alternative of the last one bars all better ones (`OR time > 60`)."""
    opposite: dict[str, Any] = {">": "<=", ">=": "<", "<": ">=", "<=": ">"}
    bars: list[Condition] = []
    for alternative in last.alternatives[1:]:
        names = [work.metric(c.metric) if c.metric else None for c in alternative]
        if len(alternative) != 1 or names[0] is None:
            work.problem(where, f"class {last.name}: {last.text!r}: each part after OR is one condition on one metric")
            continue
        bars.append(Condition(metric=names[0], op=opposite[alternative[0].op], value=alternative[0].value))
    better = [r.model_copy(update={"conditions": (*r.conditions, *bars)}) for r in found[:-1]]
    return (*better, found[-1])


def labelled(work: Work, labels: Labels, kind: str) -> tuple[tuple[str, str], ...]:
    """Return (label, schema name) of each label of a log line that the trainer knows."""
    found: list[tuple[str, str]] = []
    for label in labels.labels:
        if kind == "key":
            known = work.key(label)
            name = known.key if known else None
        else:
            name = work.metric(label)
        if name is None:
            near = work.schema.nearest_keys(label) if kind == "key" else work.schema.nearest_metrics(label)
            hint = f"; nearest: {', '.join(near)}" if near else ""
            text = f"log form: the trainer has no {kind} for the label {label!r}, left out{hint}"
            work.problem(work.draft.where(labels.line), text, stops=False)
        elif name not in [n for _, n in found]:
            found.append((label, name))
    return tuple(found)
