"""The report of `make lint`: what came from where, what stops the start, what contradicts itself."""

from __future__ import annotations

import re
from collections.abc import Iterator

from orchestrator.core.contract import Contract, KeyRule
from orchestrator.core.exploration import Exploration
from orchestrator.core.mutation import number
from orchestrator.core.records import Record
from orchestrator.core.schema import SystemSchema
from orchestrator.formats.compile import compile_all
from orchestrator.formats.draft import DraftKey, InstructionDraft, Problem
from orchestrator.formats.yaml_edit import Document

_ASSIGNED = re.compile(r"\b([A-Za-z_]\w*)\s*=\s*([\w.+-]+)")


class LintReport(Record):
    """Text for a person; `ok` when nothing stops the start."""

    text: str
    ok: bool


def lint_report(
    draft: InstructionDraft,
    name: str | None = None,
    schema: SystemSchema | None = None,
    spec: Exploration | None = None,
    config: Document | None = None,
    profile: str = "full",
) -> LintReport:
    """Return the report of an instruction alone, or (with all arguments) of the contract that it compiles to."""
    contract, problems = None, draft.problems
    if name is not None and schema is not None and spec is not None and config is not None:
        compiled = compile_all(name, draft, schema, spec, config, profile)
        contract, problems = compiled.contract, compiled.problems
    problems = (*problems, *contradictions(draft))
    ok = not any(p.stops for p in problems)
    return LintReport(text=lint(draft, contract, problems), ok=ok)


def lint(draft: InstructionDraft, contract: Contract | None, problems: tuple[Problem, ...]) -> str:
    """Return the report as text."""
    stops = [p for p in problems if p.stops]
    warnings = [p for p in problems if not p.stops]
    lines = [f"{draft.source}: {draft.title.text}", ""]
    lines += list(_from_contract(contract) if contract else _from_draft(draft))
    for title, found in (("Stops the start", stops), ("Worth knowing", warnings)):
        if found:
            lines += ["", f"{title} ({len(found)})", *(f"  {p.where}: {p.text}" for p in found)]
    if stops:
        lines += ["", "Correct each line above, or settle it in exploration.yaml (settle, primary, classes)."]
    if draft.unmapped:
        lines += ["", f"Kept as prose for the scientist ({len(draft.unmapped)}): no field was read from"]
        lines += [f"  {draft.where(u.line)}: {u.text}" for u in draft.unmapped]
    verdict = "not ok: an exploration would not start" if stops else "ok"
    return "\n".join([*lines, "", verdict, ""])


def _from_contract(contract: Contract) -> Iterator[str]:
    for level in ("free", "block"):
        rules = [k for k in contract.keys if k.level == level]
        if rules or level == "free":
            yield f"{level.capitalize()} keys ({len(rules)})"
            yield from (f"  {_rule(k)}" for k in rules)
    frozen = [k for k in contract.keys if k.level == "frozen"]
    yield f"Frozen keys ({len(frozen)})"
    yield from (f"  {k.key} = {number(k.start)}  [{k.source}]" for k in frozen)
    claude = ", ".join(f"{k} = {number(v)}" for k, v in contract.start["claude"].items())
    yield f"Budget: {claude}; {contract.max_changes} change an iteration, a replicate every {contract.replicate_every}"
    yield f"Metrics ({len(contract.metrics)})"
    for m in contract.metrics:
        way = f"target {number(m.target)}" if m.direction == "target" and m.target is not None else m.direction
        yield f"  {m.name} ({m.role}, {way})  [{m.source}]"
    yield f"Classes ({len(contract.verdicts)}), best first"
    for v in contract.verdicts:
        yield f"  {v.name}: {' and '.join(f'{c.metric} {c.op} {c.value:g}' for c in v.conditions)}  [{v.source}]"
    yield f"Order: {', '.join(contract.order)}"
    yield from (f"Block {i}: {text}" for i, text in enumerate(contract.block_focus, 1))
    yield f"Log form: Config: {', '.join(contract.log_config)}"
    yield f"          Metrics: {', '.join(f'{a}={b}' for a, b in contract.log_metrics)}"
    if contract.log_activity:
        yield f"          Activity: {', '.join(f'{a}={b}' for a, b in contract.log_activity)}"
    cap, support = contract.memory_cap_lines, contract.principle_support
    yield f"memory.md: at most {cap} lines; a principle needs {support} iterations"


def _rule(rule: KeyRule) -> str:
    if rule.allowed:
        bounds = f"one of {', '.join(number(v) for v in rule.allowed)}"
    else:
        low, high = ("any" if v is None else number(v) for v in (rule.low, rule.high))
        bounds = f"{low} to {high}"
    return f"{rule.key} ({rule.short}) = {number(rule.start)}, {bounds}  [{rule.source}]"


def _from_draft(draft: InstructionDraft) -> Iterator[str]:
    for level in ("free", "block", "frozen", None):
        keys = [k for k in draft.keys if k.level == level]
        if keys:
            yield f"{(level or 'described, level not said').capitalize()} keys ({len(keys)})"
            yield from (f"  {_draft_key(k)}  [line {k.line}]" for k in keys)
    yield from (
        f"Frozen: {f.section or ', '.join(f.keys)}{' except ' + ', '.join(f.exceptions) if f.exceptions else ''}"
        f"  [line {f.line}]"
        for f in draft.frozen
    )
    for title, found in (
        ("Metrics", [(f"{m.name} ({m.role})", m.line) for m in draft.metrics]),
        ("Classes", [(f"{c.name}: {c.text}", c.line) for c in draft.classes]),
        ("Strategies", [(s.strategy, s.line) for s in draft.strategies]),
        ("Starting points", [(f"{s.name} = {s.value}", s.line) for s in draft.starts]),
        ("Files that may change", [(f.path, f.line) for f in draft.files]),
        ("Block plan", [(f"{b.block}{'+' * b.onwards}: {b.text}", b.line) for b in draft.plan]),
        ("Figures", [(f.text, f.line) for f in draft.figures]),
        ("User instructions", [(u.text, u.line) for u in draft.user_instructions]),
    ):
        if found:
            yield f"{title} ({len(found)})"
            yield from (f"  {text}  [line {line}]" for text, line in found)
    for title, labels in (
        ("Config", draft.log_config),
        ("Metrics", draft.log_metrics),
        ("Activity", draft.log_activity),
    ):
        if labels.labels:
            yield f"Log form, {title}: {', '.join(labels.labels)}  [line {labels.line}]"


def _draft_key(key: DraftKey) -> str:
    default = f" = {key.default}" if key.has_default else ""
    bounds = f", {key.low} to {key.high}" if key.range_line else ""
    return f"{key.key}{default}{', one of ' + ', '.join(map(str, key.allowed)) if key.allowed else bounds}"


def contradictions(draft: InstructionDraft) -> tuple[Problem, ...]:
    """Return what an instruction says in two ways, as warnings with both lines."""
    found = (*_wishes_against_frozen(draft), *_misplaced(draft), *_scales(draft), *_recombination(draft))
    return tuple(Problem(where=draft.where(line), text=text, stops=False) for line, text in dict.fromkeys(found))


def _wishes_against_frozen(draft: InstructionDraft) -> Iterator[tuple[int, str]]:
    """User instructions that ask for another value of something frozen."""
    sections = [f for f in draft.frozen if f.section == "simulation"]
    for wish in draft.user_instructions:
        for name, value in _ASSIGNED.findall(wish.text):
            key = next((k for k in draft.keys if k.name == name), None)
            by = next((f.line for f in draft.frozen if name in f.keys), None)
            if key is not None and key.level == "frozen" and str(key.default) != value:
                by = key.line
            elif key is None and by is None and sections and name not in sections[-1].exceptions:
                by = _simulation_line(draft, name, value)
            if by is not None:
                yield wish.line, f"user instructions ask for {name} = {value}, which line {by} freezes"


def _simulation_line(draft: InstructionDraft, name: str, value: str) -> int | None:
    """The line that freezes `simulation`, when the goal states another value of a key that is listed nowhere."""
    stated = dict(_ASSIGNED.findall(draft.goal.text)) if draft.goal else {}
    if stated.get(name, "").strip(".") == value or (stated and name not in stated):
        return None
    return next(f.line for f in draft.frozen if f.section == "simulation")


def _misplaced(draft: InstructionDraft) -> Iterator[tuple[int, str]]:
    """A key excepted from a frozen section but listed under another one."""
    for statement in draft.frozen:
        for name in statement.exceptions:
            for key in draft.keys:
                if key.name == name and key.section and key.section != statement.section:
                    yield (
                        key.line,
                        f"{name} stands under `{key.section}:` here and as a key of `{statement.section}:` in line "
                        f"{statement.line}; training.{name} is a replicate, simulation.{name} draws another system",
                    )


def _scales(draft: InstructionDraft) -> Iterator[tuple[int, str]]:
    first = draft.noise_scales[:1]
    other = next((s for s in draft.noise_scales if s.text != first[0].text), None) if first else None
    if other is not None:
        yield other.line, f"W is {other.text} here and {first[0].text} in line {first[0].line}"


def _recombination(draft: InstructionDraft) -> Iterator[tuple[int, str]]:
    if draft.max_changes is None or draft.max_changes[0] != 1:
        return
    for row in draft.strategies:
        if row.strategy == "recombine" and "merge" in row.action.lower():
            line = draft.max_changes[1]
            yield row.line, f"strategy recombine merges several keys, line {line} allows one change an iteration"
