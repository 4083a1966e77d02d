"""Compiles instruction, trainer schema, exploration.yaml and config.yaml into the contract (pure, default deny).

Precedence: hard schema < instruction < exploration.yaml < the instruction's user instructions. What the instruction
does not free is frozen; what it frees and the trainer does not have is left out and said so. All problems are gathered
before anything is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from orchestrator.core.contract import Contract
from orchestrator.core.exploration import Exploration
from orchestrator.core.schema import SystemSchema
from orchestrator.errors import InstructionError
from orchestrator.formats import (
    code_permission,
    diagnoses,
    judging,
    key_rules,
    magnitudes,
    practice,
    spread,
    systems,
    wishes,
)
from orchestrator.formats.draft import InstructionDraft, Problem
from orchestrator.formats.work import Work
from orchestrator.formats.yaml_edit import Document

NO_PATCHES: Mapping[str, str] = {}


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
    name: str,
    draft: InstructionDraft,
    schema: SystemSchema,
    spec: Exploration,
    config: Document,
    profile: str,
    patches: Mapping[str, str] = NO_PATCHES,
) -> Contract:
    """Return the contract of exploration `name`; raises InstructionError with every problem on its own line."""
    compiled = compile_all(name, draft, schema, spec, config, profile, patches)
    if compiled.contract is None:
        raise InstructionError("\n".join(f"{p.where}: {p.text}" for p in compiled.stops))
    return compiled.contract


def compile_all(name: str, draft: InstructionDraft, schema: SystemSchema, spec: Exploration, config: Document,
                profile: str, patches: Mapping[str, str] = NO_PATCHES) -> Compiled:  # fmt: skip
    """Return the contract, or None, with every problem and warning. `patches`: file name -> text."""
    work = Work(draft, schema, spec, config, profile)
    work.unsettled()
    base = systems.base_config(work)
    start = systems.start_config(work, base)
    keys = magnitudes.applied(work, wishes.honoured(work, key_rules.keys(work, start)))
    key_rules.agreement(work, keys)
    regimes = systems.regimes(work, base, keys)
    fields: dict[str, Any] = {
        "keys": tuple(keys),
        "metrics": judging.metrics(work),
        "verdicts": judging.verdicts(work),
        "gap": (gap := diagnoses.gap(work)),
        "diagnosis": diagnoses.diagnosis(work, gap),
        "order": key_rules.order(work, keys),
        "log_config": tuple(k for label, k in judging.labelled(work, draft.log_config, "key")),
        "log_metrics": judging.labelled(work, draft.log_metrics, "metric"),
        "log_activity": judging.labelled(work, draft.log_activity, "metric"),
        "log_visual": draft.log_visual.labels,
        "spread": spread.spread(work, keys, start),
        "block_focus": key_rules.focus(work),
        "max_changes": draft.max_changes[0] if draft.max_changes else 1,
        "regimes": regimes,
        "user_instructions": wishes.user_instructions(work, start, regimes, keys),
        "strategies": practice.strategies(work),
        "scopes": practice.scopes(work) or code_permission.default_scopes(work),
        "figures": practice.figures(work),
    }
    fields |= code_permission.settings(work, patches) | systems.comparison(work, regimes, keys)
    fields["time_target_min"] = key_rules.time_target(work, keys)
    problems = tuple(dict.fromkeys(work.problems))
    if any(p.stops for p in problems):
        return Compiled(None, problems)
    stated = (("memory_cap_lines", draft.memory_cap), ("principle_support", draft.principle_support))
    fields |= {field: found[0] for field, found in stated if found}
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
            cost=schema.cost,
            cost_per=schema.cost_per,
            budget=schema.budget,
            time_limit=schema.time_limit,
            exclusive=schema.exclusive,
            unmapped_sections=tuple(u.text for u in draft.unmapped),
            **fields,
        )
    except ValidationError as error:
        return Compiled(None, (*problems, Problem(where=draft.source, text=_faults(error))))
    return Compiled(contract, problems)


def _faults(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}, found {e['input']!r}" for e in error.errors())
