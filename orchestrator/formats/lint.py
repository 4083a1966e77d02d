"""The report of `make lint`: what came from where, what stops the start, what contradicts itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orchestrator.core import block_keys, pace
from orchestrator.core.contract import Condition, Contract, KeyRule
from orchestrator.core.exploration import Exploration
from orchestrator.core.mutation import number, steps_text
from orchestrator.core.records import Record
from orchestrator.core.schema import SystemSchema
from orchestrator.formats.compile import NO_PATCHES, compile_all
from orchestrator.formats.contradictions import contradictions
from orchestrator.formats.draft import DraftDiagnosis, DraftKey, InstructionDraft, Problem, SpreadRow
from orchestrator.formats.yaml_edit import Document

_BETWEEN = "changed at a block's end only"


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
    patches: Mapping[str, str] = NO_PATCHES,
) -> LintReport:
    """Return the report of an instruction alone, or (with all arguments) of the contract that it compiles to."""
    contract, problems = None, draft.problems
    if name is not None and schema is not None and spec is not None and config is not None:
        compiled = compile_all(name, draft, schema, spec, config, profile, patches)
        contract, problems = compiled.contract, compiled.problems
    problems = (*problems, *contradictions(draft, compiled=spec is not None))
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
            yield f"Free keys ({len(rules)})" if level == "free" else f"Block-level keys ({len(rules)}), {_BETWEEN}"
            yield from (f"  {_rule(k)}" for k in rules)
    changing = {k.key for k in contract.keys if k.level != "frozen"}
    yield from (f"At most one is true: {', '.join(group)}" for group in contract.exclusive if changing & set(group))
    over = block_keys.compared(contract)
    if over is not None:
        values = ", ".join(number(v) for v in block_keys.allowed(over)) or "no list of values"
        yield f"Blocks run over {over.key}: {values}; memory.md: {contract.comparison_heading or 'a table of its own'}"
    elif contract.compare is None and contract.comparison_heading:
        yield f"memory.md: {contract.comparison_heading}, one row a block"
    frozen = [k for k in contract.keys if k.level == "frozen"]
    yield f"Frozen keys ({len(frozen)})"
    yield from (f"  {k.key} = {number(k.start)}  [{k.source}]" for k in frozen)
    claude = ", ".join(f"{k} = {number(v)}" for k, v in contract.start["claude"].items())
    yield f"Budget: {claude}; {contract.max_changes} change an iteration, a replicate every {contract.replicate_every}"
    if contract.time_target_min is not None:
        rule = pace.budget_rule(contract)
        held = f"held by {rule.key}" if rule is not None else "held by no key"
        work = pace.work_text(contract) or "nothing that is known"
        yield f"Time target: {pace.shown(contract.time_target_min)} min a training, {held}; work = {work}"
    limit = pace.limit_min(contract, contract.start)
    if limit is not None:
        work = pace.work_text(contract) or "nothing that is known"
        yield f"Time limit: {pace.shown(limit)} min a training ({contract.time_limit}); work = {work}"
    yield f"Metrics ({len(contract.metrics)})"
    for m in contract.metrics:
        way = f"target {number(m.target)}" if m.direction == "target" and m.target is not None else m.direction
        yield f"  {m.name} ({m.role}, {way})  [{m.source}]"
    yield f"Classes ({len(contract.verdicts)}), best first"
    for v in contract.verdicts:
        yield f"  {v.name}: {_conditions(v.conditions)}  [{v.source}]"
    yield f"Order: {', '.join(contract.order)}"
    yield from (f"Block {i}: {text}" for i, text in enumerate(contract.block_focus, 1))
    yield from _spread(contract)
    yield f"Log form: Config: {', '.join(contract.log_config)}"
    yield f"          Metrics: {', '.join(f'{a}={b}' for a, b in contract.log_metrics)}"
    if contract.log_activity:
        yield f"          Activity: {', '.join(f'{a}={b}' for a, b in contract.log_activity)}"
    if contract.log_visual:
        yield f"          Visual (of plots that were viewed): {', '.join(contract.log_visual)}"
    yield from _practice(contract)
    yield from _systems(contract)
    cap, support = contract.memory_cap_lines, contract.principle_support
    yield f"memory.md: at most {cap} lines; a principle needs {support} iterations"


def _spread(contract: Contract) -> Iterator[str]:
    """The first runs, slot by slot."""
    if contract.spread:
        yield f"Initial spread ({len(contract.spread)}), in the order of the slots"
    for rule in contract.spread:
        values = ", ".join(f"{k} = {number(v)}" for k, v in rule.values.items()) or "the start"
        yield f"  {values}  [{rule.source}]"


def _practice(contract: Contract) -> Iterator[str]:
    """What the scientist works with: strategies, diagnosis, code, figures."""
    if contract.strategies:
        yield f"Strategies ({len(contract.strategies)})"
    for s in contract.strategies:
        said = [f"{k} {v:g}{' (assumed)' if k in s.assumed else ''}" for k, v in s.numbers.items()]
        said = [*([f"of {s.metric}"] if s.metric else []), *said] if s.known else ["unknown, never triggers"]
        yield f"  {s.name}: {s.condition}{' -> ' + ', '.join(said) if said else ''}  [{s.source}]"
    if contract.gap:
        gap = contract.gap
        formula = f"{gap.minuend} - {gap.subtrahend}"
        yield f"Degeneracy gap = {formula}, no evidence above {gap.untrusted_above:g}  [{gap.source}]"
    if contract.diagnosis:
        yield f"Diagnosis ({len(contract.diagnosis)}), the first that holds"
    yield from (f"  {_conditions(d.conditions)}: {d.diagnosis}  [{d.source}]" for d in contract.diagnosis)
    yield f"Code edits: {_switch(contract)}"
    if contract.scopes:
        yield f"Code that may be edited ({len(contract.scopes)})"
    for scope in contract.scopes:
        yield f"  {scope.path}{'::' + scope.function if scope.function else ', whole'}  [{scope.source}]"
    if contract.figures:
        yield f"Figures ({len(contract.figures)}): {', '.join(contract.figures)}"


def _switch(contract: Contract) -> str:
    """Whether code is edited; while it is not, what would switch it on."""
    if contract.code == "off":
        may = contract.scopes and contract.command is None
        return "off (on with `code: on` in exploration.yaml, or CODE=1 at the opening)" if may else "off"
    return "on" + (f", {len(contract.patches)} prepared patch(es)" if contract.patches else "")


def _systems(contract: Contract) -> Iterator[str]:
    """Regimes, and how each user instruction is honoured."""
    if contract.regimes:
        compared = f", compared in {contract.compare}" if contract.compare and not block_keys.compared(contract) else ""
        yield f"Regimes ({len(contract.regimes)}){compared}"
    for regime in contract.regimes:
        yield f"  {regime.name}: {', '.join(f'{k} = {number(v)}' for k, v in regime.values.items())}"
    if contract.user_instructions:
        yield f"User instructions ({len(contract.user_instructions)})"
    for item in contract.user_instructions:
        freed = [k.key for k in contract.keys if k.source == item.source]
        between = [f"{k}={number(v)}" for k, values in item.between.items() for v in values]
        done = [f"{title} {', '.join(found)}" for title, found in (
            ("regimes", item.regimes), ("a block with", between), ("changes the rule of", freed),
            ("NOT DECLARED", item.undeclared),
        ) if found]  # fmt: skip
        yield f"  {item.text}  [{item.source}]"
        yield f"    -> {'; '.join(done) or 'prose for the scientist'}"


def _conditions(found: tuple[Condition, ...]) -> str:
    return " and ".join(f"{c.metric} {c.op} {c.value:g}" for c in found)


def _rule(rule: KeyRule) -> str:
    if rule.type == "bool":
        bounds = "True or False"
    elif rule.allowed:
        bounds = f"one of {', '.join(number(v) for v in rule.allowed)}"
    else:
        low, high = ("any" if v is None else number(v) for v in (rule.low, rule.high))
        bounds = f"{low} to {high}"
    steps = f", steps {steps_text(rule.steps)}" if rule.steps else ""
    beside = ", may change beside another" if rule.exempt else ""
    return f"{rule.key} ({rule.short}) = {number(rule.start)}, {bounds}{steps}{beside}  [{rule.source}]"


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
        ("Strategies", [(f"{s.strategy}: {s.condition}", s.line) for s in draft.strategies]),
        ("Diagnosis", [(f"{_cells(d)}: {d.diagnosis}", d.line) for d in draft.diagnosis]),
        ("Degeneracy gap", [(f"{g.minuend} - {g.subtrahend}", g.line) for g in [draft.gap] if g]),
        ("Starting points", [(f"{s.name} = {s.value}", s.line) for s in draft.starts]),
        ("Initial spread", [(f"slot {r.slot}: {_row(r)}", r.line) for r in draft.spread]),
        ("Mutation magnitudes", [(f"{m.label}: {steps_text(m.steps)}", m.line) for m in draft.magnitudes]),
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
        ("Visual", draft.log_visual),
    ):
        if labels.labels:
            yield f"Log form, {title}: {', '.join(labels.labels)}  [line {labels.line}]"


def _row(row: SpreadRow) -> str:
    return ", ".join(f"{c.name} = {c.text}" for c in row.changes) or "the start"


def _cells(row: DraftDiagnosis) -> str:
    return ", ".join(f"{column} {cell}" for column, cell in row.cells)


def _draft_key(key: DraftKey) -> str:
    default = f" = {key.default}" if key.has_default else ""
    bounds = f", {key.low} to {key.high}" if key.range_line else ""
    return f"{key.key}{default}{', one of ' + ', '.join(map(str, key.allowed)) if key.allowed else bounds}"
