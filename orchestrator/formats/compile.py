"""Compiles instruction, trainer schema, exploration.yaml and config.yaml into the contract (pure, default deny).

Precedence: hard schema < instruction < exploration.yaml. What the instruction does not free is frozen; what it frees
and the trainer does not have is left out and said so. All problems are gathered before anything is refused.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from orchestrator.core import configs
from orchestrator.core.contract import Condition, Contract, KeyRule, MetricRule, VerdictRule
from orchestrator.core.exploration import Exploration, Settled
from orchestrator.core.records import Config
from orchestrator.core.schema import CLAUDE, KeySchema, SystemSchema
from orchestrator.errors import InstructionError
from orchestrator.formats import rules
from orchestrator.formats.draft import DraftClass, DraftKey, InstructionDraft, Labels, Problem
from orchestrator.formats.yaml_edit import Document

BUDGET = ("training.n_epochs", "training.data_augmentation_loop")
"""Set by `claude.n_epochs` and `claude.data_augmentation_loop`; never mutated."""
_WORD = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class Compiled:
    """A contract, or the problems that stop it."""

    contract: Contract | None
    problems: tuple[Problem, ...]

    @property
    def stops(self) -> tuple[Problem, ...]:
        """Problems that a person must settle."""
        return tuple(p for p in self.problems if p.stops)


def compile_contract(
    name: str, draft: InstructionDraft, schema: SystemSchema, spec: Exploration, config: Document, profile: str
) -> Contract:
    """Return the contract of exploration `name`; raises InstructionError with every problem on its own line."""
    compiled = compile_all(name, draft, schema, spec, config, profile)
    if compiled.contract is None:
        raise InstructionError("\n".join(f"{p.where}: {p.text}" for p in compiled.stops))
    return compiled.contract


def compile_all(
    name: str, draft: InstructionDraft, schema: SystemSchema, spec: Exploration, config: Document, profile: str
) -> Compiled:
    """Return the contract, or None, with every problem and warning."""
    work = _Work(draft, schema, spec, config, profile)
    work.unsettled()
    start = work.start()
    keys = work.keys(start)
    work.agreement()
    fields: dict[str, Any] = {
        "keys": tuple(keys),
        "metrics": work.metrics(),
        "verdicts": work.verdicts(),
        "order": work.order(keys),
        "log_config": tuple(k for label, k in work.labelled(draft.log_config, "key")),
        "log_metrics": work.labelled(draft.log_metrics, "metric"),
        "log_activity": work.labelled(draft.log_activity, "metric"),
        "block_focus": work.focus(),
        "max_changes": draft.max_changes[0] if draft.max_changes else 1,
    }
    if any(p.stops for p in work.problems):
        return Compiled(None, tuple(work.problems))
    if draft.memory_cap:
        fields["memory_cap_lines"] = draft.memory_cap[0]
    if draft.principle_support:
        fields["principle_support"] = draft.principle_support[0]
    try:
        contract = Contract(
            exploration=name,
            system=schema.system,
            title=draft.title.text,
            goal=draft.goal.text if draft.goal else "",
            start=start,
            n_iter_block=start["claude"]["n_iter_block"],
            ucb_c=start["claude"]["ucb_c"],
            scorer=spec.scorer,
            command=spec.command,
            replicate_every=spec.replicate_every,
            unmapped_sections=tuple(u.text for u in draft.unmapped),
            **fields,
        )
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}, found {e['input']!r}" for e in error.errors())
        work.problem(draft.source, found)
        return Compiled(None, tuple(work.problems))
    return Compiled(contract, tuple(work.problems))


@dataclass
class _Work:
    """One compilation: inputs, and the problems found so far."""

    draft: InstructionDraft
    schema: SystemSchema
    spec: Exploration
    config: Document
    profile: str
    problems: list[Problem] = field(default_factory=list)

    def problem(self, where: str, text: str, *, stops: bool = True, key: str | None = None) -> None:
        self.problems.append(Problem(where=where, text=text, stops=stops, key=key))

    # Names.

    def key(self, name: str) -> KeySchema | None:
        """Return the schema key behind a spelling of the instruction."""
        mapped = self.draft.front.names.get(name, name)
        found = self.schema.key(mapped)
        if found is None:
            short = next((k for k in self.draft.keys if k.short == name), None)
            found = self.schema.key(short.key) if short else None
        return found

    def metric(self, name: str) -> str | None:
        """Return the scorer's name of a metric as the instruction spells it."""
        mapped = self.draft.front.names.get(name, name)
        listed = next((m.name for m in self.draft.metrics if mapped == m.name or mapped in m.aliases), mapped)
        for spelling in (mapped, listed, self.draft.front.names.get(listed, listed)):
            found = self.schema.metric(spelling)
            if found:
                return found.name
        return None

    def settled(self, name: str) -> Settled | None:
        """Return what exploration.yaml settles for a key, under whichever of its spellings."""
        found = self.key(name)
        for spelled, rule in self.spec.settle.items():
            other = self.key(spelled)
            if spelled == name or (found and other and found.key == other.key):
                return rule
        return None

    def unsettled(self) -> None:
        """Take over the draft's problems, but those that exploration.yaml settles."""
        for problem in self.draft.problems:
            settled = (
                (problem.key == "primary" and self.spec.primary is not None)
                or (problem.key == "classes" and self.spec.classes is not None)
                or (problem.key is not None and self.settled(problem.key) is not None)
            )
            if not settled:
                self.problems.append(problem)
        for name in self.spec.settle:
            if self.key(name) is None:
                self.problem("exploration.yaml", f"settle.{name}: no such key{self._near(name)}")

    def _near(self, name: str) -> str:
        near = self.schema.nearest_keys(name)
        return f"; nearest: {', '.join(near)}" if near else f"; sections: {', '.join(self.schema.sections)}"

    # The config of iteration 1.

    def start(self) -> Config:
        """Return the effective config: schema defaults, config.yaml, regime, profile, budget."""
        start: Config = {section: {} for section in self.schema.sections}
        for key in self.schema.keys:
            start[key.section][key.name] = key.typed(key.default)
        self._own_values(start)
        values = {f"simulation.{k}": v for r in self.spec.regimes[:1] for k, v in r.simulation.items()}
        self._override(start, values, "exploration.yaml: regimes")
        profiles = {"full": {}, **self.spec.profiles}
        if self.profile not in profiles:
            self.problem("exploration.yaml", f"no profile {self.profile!r}; profiles: {', '.join(profiles)}")
        self._override(start, profiles.get(self.profile, {}), f"exploration.yaml: profiles.{self.profile}")
        if all(k.name in start["claude"] for k in CLAUDE):
            for name in ("n_epochs", "data_augmentation_loop"):
                if self.schema.key(f"training.{name}") or "training" in start:
                    start.setdefault("training", {})[name] = start["claude"][name]
        return start

    def _own_values(self, start: Config) -> None:
        for section, values in self.config.config.items():
            if section not in self.schema.sections or not isinstance(values, dict):
                known = ", ".join(self.schema.sections)
                self.problem(self.config.where(section), f"section {section!r} is not known; sections: {known}")
                continue
            for name, value in values.items():
                self._set(start, f"{section}.{name}", value, self.config.where(f"{section}.{name}"))
        missing = [k.name for k in CLAUDE if k.name not in self.config.config.get("claude", {})]
        if missing:
            expected = ", ".join(k.name for k in CLAUDE)
            self.problem(
                self.config.where("claude"), f"`claude:` needs exactly {expected}; missing: {', '.join(missing)}"
            )

    def _override(self, start: Config, values: dict[str, Any], where: str) -> None:
        for key, value in values.items():
            self._set(start, key, value, where)

    def _set(self, start: Config, key: str, value: Any, where: str) -> None:
        known = {k.key: k for k in (*self.schema.keys, *CLAUDE)}.get(key)
        if known is None:
            only = "; `claude:` has exactly n_epochs, data_augmentation_loop, n_iter_block, ucb_c"
            advice = only if key.startswith("claude.") else self._near(key.partition(".")[2] or key)
            self.problem(where, f"{key}: no such key{advice}")
            return
        fault = known.fault(value)
        if fault:
            self.problem(where, f"{key}: {fault}")
            return
        start[known.section][known.name] = known.typed(value)

    # Rules of keys.

    def keys(self, start: Config) -> list[KeyRule]:
        """Return one rule a key of the schema: those that the instruction lists, in its order, then the frozen rest."""
        found: dict[str, KeyRule] = {}
        for item in self.draft.keys:
            if item.section == "claude":
                continue
            known = self.key(item.key) or (None if item.section else self.key(item.name))
            if known is None:
                self._unsupported(item)
            elif known.key not in found:
                found[known.key] = self._rule(item, known, start)
        for known in self.schema.keys:
            if known.key not in found:
                found[known.key] = self._default_rule(known, start)
        taken: dict[str, int] = {}
        for rule in found.values():
            taken[rule.short] = taken.get(rule.short, 0) + 1
        return [r if taken[r.short] == 1 else r.model_copy(update={"short": r.key}) for r in found.values()]

    def _unsupported(self, item: DraftKey) -> None:
        near = self.schema.nearest_keys(item.name)
        hint = f" (nearest: {', '.join(near)})" if near else ""
        self.problem(
            self.draft.where(item.line), f"{item.key}: not supported by the trainer: cannot be explored{hint}",
            stops=False, key=item.name,
        )  # fmt: skip

    def _short(self, known: KeySchema) -> str:
        label = next((n for n in self.draft.log_config.labels if (k := self.key(n)) and k.key == known.key), None)
        return label or next(iter(known.aliases), known.name)

    def _default_rule(self, known: KeySchema, start: Config) -> KeyRule:
        frozen = next((f for f in self.draft.frozen if f.section == known.section and not f.keys), None)
        source = self.draft.where(frozen.line) if frozen else "not named free by the instruction"
        if known.key in BUDGET:
            source = f"set by claude.{known.name}"
        settled = self.settled(known.key)
        level = settled.level if settled and settled.level else "frozen"
        if known.key in configs.SEED_KEYS:
            level, source = "frozen", "a seed belongs to a run: ask for a replicate or a draw"
        return self._bounded(KeyRule(
            key=known.key, short=self._short(known), type=known.type, level=level,
            low=_low(known), high=known.maximum, allowed=known.allowed or (),
            start=start[known.section].get(known.name), exempt=known.key in configs.SEED_KEYS, source=source,
        ), settled, known)  # fmt: skip

    def _rule(self, item: DraftKey, known: KeySchema, start: Config) -> KeyRule:
        where, settled = self.draft.where(item.line), self.settled(known.key)
        if known.key in (*configs.SEED_KEYS, *BUDGET):
            if known.key in BUDGET:
                text = f"{known.key}: set by claude.{known.name}, so it is frozen here"
                self.problem(where, text, stops=False)
            return self._default_rule(known, start)
        level = settled.level if settled and settled.level else item.level
        if level is None:
            self.problem(where, f"{item.key}: described, but not said to be free; frozen", stops=False, key=item.name)
        exempt = any((k := self.key(e.text)) and k.key == known.key for e in self.draft.exempt)
        low, high = (_low(known) if item.low is None else item.low), (known.maximum if item.high is None else item.high)
        rule = KeyRule(
            key=known.key, short=self._short(known), type=known.type, level=level or "frozen", low=low, high=high,
            allowed=tuple(known.typed(v) for v in item.allowed) or known.allowed or (),
            start=start[known.section].get(known.name), exempt=exempt, source=where,
        )  # fmt: skip
        return self._bounded(rule, settled, known) if settled else self._checked(rule, known)

    def _bounded(self, rule: KeyRule, settled: Settled | None, known: KeySchema) -> KeyRule:
        if settled is None:
            return rule
        update: dict[str, Any] = {"source": "exploration.yaml: settle"}
        if settled.range:
            update |= {"low": settled.range[0], "high": settled.range[1], "allowed": ()}
        if settled.allowed:
            low, high = (None, None) if settled.range is None else settled.range
            update |= {"low": low, "high": high, "allowed": tuple(known.typed(v) for v in settled.allowed)}
        return self._checked(rule.model_copy(update=update), known)

    def _checked(self, rule: KeyRule, known: KeySchema) -> KeyRule:
        """Note bounds outside the trainer's, and a start outside the bounds."""
        where = rule.source
        for bound in (rule.low, rule.high):
            if bound is not None and not known.within(bound) and known.type in ("int", "float"):
                self.problem(where, f"{rule.key}: {bound:g} is outside what the trainer accepts ({known.bounds})")
        for value in rule.allowed:
            fault = known.fault(value)
            if fault:
                self.problem(where, f"{rule.key}: {fault}")
        start = rule.start
        if rule.level == "frozen" or isinstance(start, bool) or not isinstance(start, int | float):
            outside = bool(rule.allowed) and rule.level != "frozen" and start not in rule.allowed
        else:
            low, high = (
                rule.low if rule.low is not None else -math.inf,
                rule.high if rule.high is not None else math.inf,
            )
            outside = not low <= start <= high or (bool(rule.allowed) and start not in rule.allowed)
        if outside:
            said = ", ".join(map(str, rule.allowed)) if rule.allowed else f"{rule.low} to {rule.high}"
            self.problem(self.config.where(rule.key), f"{rule.key}: {start!r} is outside {said} ({where})")
        return rule

    def agreement(self) -> None:
        """Note starting values that differ between instruction and config.yaml, each with both lines."""
        stated = [(k.key, k.default, k.line) for k in self.draft.keys if k.has_default]
        stated += [(s.name, s.value, s.line) for s in self.draft.starts]
        stated += [(f"claude.{c.name}", c.value, c.line) for c in self.draft.claude if c.value is not None]
        own = self.config.config
        for name, value, line in stated:
            known = self.key(name)
            if known is None or known.key in configs.SEED_KEYS or known.key in BUDGET:
                continue
            section = own.get(known.section)
            found = section.get(known.name, known.default) if isinstance(section, dict) else known.default
            if not _equal(known.typed(value), known.typed(found)):
                where = self.config.where(known.key)
                self.problem(
                    self.draft.where(line),
                    f"{known.key} starts at {value!r} here and at {found!r} in {where}; make them equal",
                )

    # Metrics, classes, log form, plan.

    def metrics(self) -> tuple[MetricRule, ...]:
        """Return the metrics that the scorer has, the primary one first."""
        found: dict[str, MetricRule] = {}
        primary = self._primary()
        for item in self.draft.metrics:
            where, name = self.draft.where(item.line), self.metric(item.name)
            if name is None:
                near = ", ".join(self.schema.nearest_metrics(item.name)) or ", ".join(
                    m.name for m in self.schema.metrics
                )
                stops = item.role == "primary" and self.spec.primary is None
                self.problem(where, f"metric {item.name!r} is not measured by the scorer; nearest: {near}", stops=stops)
                continue
            known = self.schema.metric(name)
            assert known is not None
            way = item.direction or (known.direction if known.direction not in (None, "none") else "max")
            aliases = tuple(dict.fromkeys(n for n in (item.name, *item.aliases, *known.aliases) if n != name))
            found.setdefault(name, MetricRule(
                name=name, role="primary" if name == primary else "secondary", direction=way,
                target=item.target if item.direction == "target" else known.target, aliases=aliases, source=where,
            ))  # fmt: skip
        if primary and primary not in found:
            known = self.schema.metric(primary)
            way = known.direction if known and known.direction not in (None, "none") else "max"
            found[primary] = MetricRule(
                name=primary, role="primary", direction=way, target=known.target if known else None,
                source="exploration.yaml: primary",
            )  # fmt: skip
        return tuple(sorted(found.values(), key=lambda m: m.role != "primary"))

    def _primary(self) -> str | None:
        if self.spec.primary is None:
            stated = [m.name for m in self.draft.metrics if m.role == "primary"]
            return self.metric(stated[0]) if stated else None
        name = self.metric(self.spec.primary)
        text = f"primary: {self.spec.primary!r} is not measured by the scorer"
        if name is None and not any(p.text.startswith(text) for p in self.problems):
            near = ", ".join(self.schema.nearest_metrics(self.spec.primary)) or "none"
            self.problem("exploration.yaml", f"{text}; nearest: {near}")
        return name

    def verdicts(self) -> tuple[VerdictRule, ...]:
        """Return the classes, best first."""
        classes = list(self.draft.classes)
        if self.spec.classes is not None:
            classes = []
            for name, text in self.spec.classes.items():
                try:
                    classes.append(DraftClass(name=name, alternatives=rules.conditions(text), text=text, line=0))
                except ValueError as error:
                    self.problem("exploration.yaml", f"classes.{name}: {error}")
        if not classes:
            self.problem(
                self.draft.source, "no classes; write `- **Converged**: metric > 0.9` lines under `**Classification:**`"
            )

        def where(line: int) -> str:
            return self.draft.where(line) if self.spec.classes is None else "exploration.yaml: classes"

        primary = self._primary()
        found = []
        for item in classes:
            if len(item.alternatives) > 1 and item is not classes[-1]:
                self.problem(where(item.line), f"class {item.name}: OR is understood in the last class only")
            conditions: list[Condition] = []
            for part in item.alternatives[0] if item.alternatives else ():
                metric = primary if part.metric in (None, "R2", "R²") else self.metric(part.metric or "")
                if metric is None:
                    self.problem(where(item.line), f"class {item.name}: {part.metric!r} is not measured by the scorer")
                    continue
                conditions.append(Condition(metric=metric, op=part.op, value=part.value))
            found.append(VerdictRule(name=item.name, conditions=tuple(conditions), source=where(item.line)))
        return self._vetoed(found, classes[-1], where(classes[-1].line)) if classes else ()

    def _vetoed(self, found: list[VerdictRule], last: DraftClass, where: str) -> tuple[VerdictRule, ...]:
        """Return the classes; a further alternative of the last one bars all better ones (`OR time > 60`)."""
        opposite: dict[str, Any] = {">": "<=", ">=": "<", "<": ">=", "<=": ">"}
        bars: list[Condition] = []
        for alternative in last.alternatives[1:]:
            names = [self.metric(c.metric) if c.metric else None for c in alternative]
            if len(alternative) != 1 or names[0] is None:
                self.problem(
                    where, f"class {last.name}: {last.text!r}: each part after OR is one condition on one metric"
                )
                continue
            bars.append(Condition(metric=names[0], op=opposite[alternative[0].op], value=alternative[0].value))
        better = [r.model_copy(update={"conditions": (*r.conditions, *bars)}) for r in found[:-1]]
        return (*better, found[-1])

    def labelled(self, labels: Labels, kind: str) -> tuple[tuple[str, str], ...]:
        """Return (label, schema name) of each label of a log line that the trainer knows."""
        found: list[tuple[str, str]] = []
        for label in labels.labels:
            if kind == "key":
                known = self.key(label)
                name = known.key if known else None
            else:
                name = self.metric(label)
            if name is None:
                near = self.schema.nearest_keys(label) if kind == "key" else self.schema.nearest_metrics(label)
                hint = f"; nearest: {', '.join(near)}" if near else ""
                text = f"log form: the trainer has no {kind} for the label {label!r}, left out{hint}"
                self.problem(self.draft.where(labels.line), text, stops=False)
            elif name not in [n for _, n in found]:
                found.append((label, name))
        return tuple(found)

    def focus(self) -> tuple[str, ...]:
        """Return the focus of block 1, 2, ..."""
        return tuple(p.text for p in sorted(self.draft.plan, key=lambda p: p.block))

    def order(self, keys: list[KeyRule]) -> tuple[str, ...]:
        """Return the free keys: as the block plan and the exploration order name them, then as listed."""
        free = [k.key for k in keys if k.level == "free" and not k.exempt]
        named: list[str] = []
        for text in (*self.focus(), *(o.text for o in self.draft.order)):
            for word in _WORD.findall(text):
                known = self.key(word)
                if known and known.key in free:
                    named.append(known.key)
        return tuple(dict.fromkeys((*named, *free)))


def _low(known: KeySchema) -> float | None:
    if known.minimum is not None and known.exclusive_minimum:
        return known.minimum + 1 if known.type == "int" else math.nextafter(known.minimum, math.inf)
    return known.minimum


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, bool) or isinstance(b, bool) or not isinstance(a, int | float) or not isinstance(b, int | float):
        return bool(a == b)
    return math.isclose(a, b, rel_tol=1e-12, abs_tol=0.0)
