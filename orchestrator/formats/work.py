"""What the parts of one compilation share: its inputs, the meaning of names, and the problems found so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from orchestrator.core.exploration import Exploration, Settled
from orchestrator.core.records import Config
from orchestrator.core.schema import CLAUDE, KeySchema, SystemSchema
from orchestrator.formats.draft import InstructionDraft, Problem
from orchestrator.formats.yaml_edit import Document

BUDGET = ("training.n_epochs", "training.data_augmentation_loop")
"""Set by `claude.n_epochs` and `claude.data_augmentation_loop`; never mutated, but the budget key of a time target."""


@dataclass
class Work:
    """One compilation: inputs, and the problems found so far."""

    draft: InstructionDraft
    schema: SystemSchema
    spec: Exploration
    config: Document
    profile: str
    problems: list[Problem] = field(default_factory=list)

    @property
    def target(self) -> float | None:
        """Minutes that a training should take, or None."""
        return self.spec.target_of(self.profile)

    def scaled(self, known: KeySchema) -> bool:
        """Return whether a key is the budget that is scaled to a time target, or that the instruction excuses.

        It is then free and does not count as a change: with a target, or where the instruction lists it as free and
        excuses it from the one-change rule. Never where exploration.yaml settles it as frozen.
        """
        if known.key != self.schema.budget or not self.schema.budget:
            return False
        settled = self.settled(known.key)
        if settled is not None and settled.level in ("block", "frozen"):
            return False
        listed = any(k.level == "free" and (f := self.key(k.key)) and f.key == known.key for k in self.draft.keys)
        return self.target is not None or (listed and self.excused(known))

    def excused(self, known: KeySchema) -> bool:
        """Return whether the instruction excuses a key from the one-change rule."""
        return any((k := self.key(e.text)) is not None and k.key == known.key for e in self.draft.exempt)

    def problem(self, where: str, text: str, *, stops: bool = True, key: str | None = None) -> None:
        """Note a problem at `file:line`."""
        self.problems.append(Problem(where=where, text=text, stops=stops, key=key))

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

    def evidence(self, name: str) -> tuple[str | None, str | None]:
        """Return the metric to judge by (the scorer's correction when it has one), and the metric it stands for."""
        found = self.metric(name)
        known = self.schema.metric(found) if found else None
        better = known.corrected_by if known else None
        return (better, found) if better and self.schema.metric(better) else (found, None)

    def corrected(self, where: str, better: str, name: str) -> None:
        """Tell that `better` stands in for `name`."""
        self.problem(
            where, f"{name} is judged by {better}: the system is chaotic, the short horizon is used", stops=False
        )

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
                self.problem("exploration.yaml", f"settle.{name}: no such key{self.near(name)}")

    def near(self, name: str) -> str:
        """Return the end of a sentence that names the keys most like `name`."""
        near = self.schema.nearest_keys(name)
        return f"; nearest: {', '.join(near)}" if near else f"; sections: {', '.join(self.schema.sections)}"

    def override(self, start: Config, values: dict[str, Any], where: str) -> None:
        """Set each `section.name` of `values`, and note what the trainer would refuse."""
        for key, value in values.items():
            self.set(start, key, value, where)

    def set(self, start: Config, key: str, value: Any, where: str) -> None:
        """Set one key of a config; an unknown key or a bad value is a problem and changes nothing."""
        known = {k.key: k for k in (*self.schema.keys, *CLAUDE)}.get(key)
        if known is None:
            only = "; `claude:` has exactly n_epochs, data_augmentation_loop, n_iter_block, ucb_c"
            advice = only if key.startswith("claude.") else self.near(key.partition(".")[2] or key)
            self.problem(where, f"{key}: no such key{advice}")
            return
        fault = known.fault(value)
        if fault:
            self.problem(where, f"{key}: {fault}")
            return
        start[known.section][known.name] = known.typed(value)
