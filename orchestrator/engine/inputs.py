"""Notice that a person changed the instruction, config.yaml or exploration.yaml, and compile the new rules.

The three files are the person's: the engine never writes them. Their text as compiled lies in `.inputs/N`, N the
amendments so far, written before the event that counts it: so a change is recorded once, with its diff, whatever was
killed, and a journal that starts again from an earlier block finds the files of its own last amendment. A change that
cannot be taken up pauses the exploration with its line; the old rules stay in force for what is running.
"""

from __future__ import annotations

import difflib
from dataclasses import replace

from orchestrator.core.contract import Contract
from orchestrator.core.events import Amended
from orchestrator.core.exploration import Exploration
from orchestrator.core.schema import read_schema
from orchestrator.core.state import State
from orchestrator.engine import opening
from orchestrator.engine.context import Setup
from orchestrator.errors import InstructionError, UserError
from orchestrator.formats.compile import compile_contract
from orchestrator.formats.instruction import read_instruction
from orchestrator.store import atomic

FIXED = ("exploration", "system", "command", "n_iter_block")
"""Fields of the contract that only a new exploration can change."""


class Inputs:
    """The three files of one exploration, as last compiled."""

    def __init__(self, setup: Setup) -> None:
        self._paths = setup.paths
        self._seen: dict[str, str] | None = None
        self._refused: dict[str, str] | None = None
        self._why = ""

    def remember(self, setup: Setup) -> None:
        """Keep the files as they are compiled now (at the opening)."""
        self._keep(_texts(setup), 0)

    def changed(self, setup: Setup, state: State) -> tuple[Setup, Amended] | None:
        """Return the new setup with its event, or None when nothing changed since the last call.

        Raises:
            UserError: a file cannot be read or compiled, or changes what cannot change; names file and line.
        """
        if self._seen is None:
            self._seen = self._kept(len(state.amendments))
        texts = _texts(setup)
        if texts == self._seen:
            self._refused = None
            return None
        if texts == self._refused:
            raise InstructionError(self._why)
        try:
            found = _compiled(setup, state)
        except UserError as error:
            self._refused, self._why = texts, str(error)
            raise
        seen = {"instruction.md": setup.instruction} | self._seen
        diff = "\n".join(_diff(name, seen.get(name), text) for name, text in texts.items()).strip("\n")
        contract = found.contract
        if not self._seen and contract == state.contract and found.instruction == setup.instruction:
            self._keep(texts, len(state.amendments))  # an exploration of an earlier version, unchanged
            return None
        event = Amended(
            number=len(state.amendments) + 1,
            contract_sha=contract.sha,
            contract=contract.model_dump(mode="json"),
            instruction=found.instruction,
            diff=diff,
        )
        self._refused = None
        self._keep(texts, event.number)
        return found, event

    def _keep(self, texts: dict[str, str], number: int) -> None:
        folder = self._paths.compiled(number)
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            atomic.write_if_changed(folder / name, text)
        self._seen = texts

    def _kept(self, number: int) -> dict[str, str]:
        folder = self._paths.compiled(number)
        paths = [folder / name for name in ("instruction.md", "config.yaml", "exploration.yaml")]
        if not all(path.is_file() for path in paths):
            return {}
        return {path.name: opening.read_text(path) for path in (*paths, *sorted(folder.glob("*.patch")))}


def _texts(setup: Setup) -> dict[str, str]:
    spec = opening.read_spec(setup.paths)  # it may name another instruction now
    files = {
        "instruction.md": opening.instruction_path(setup.source_root, spec),
        "config.yaml": setup.paths.config_yaml,
        "exploration.yaml": setup.paths.exploration_yaml,
    }
    texts = {name: opening.read_text(path) for name, path in files.items()}
    patches = opening.read_patches(setup.paths, opening.with_code(spec, setup.code_wished))
    return texts | {name: text for name, text in sorted(patches.items())}


def _diff(name: str, before: str | None, after: str) -> str:
    if before is None or before == after:
        return ""
    return "\n".join(difflib.unified_diff(before.splitlines(), after.splitlines(), name, name, lineterm="", n=1))


def _compiled(setup: Setup, state: State) -> Setup:
    assert state.opened is not None
    spec: Exploration = opening.with_code(opening.read_spec(setup.paths), setup.code_wished)
    path = opening.instruction_path(setup.source_root, spec)
    text = opening.read_text(path)
    config = opening.read_config(setup.source_root, setup.paths)
    draft = read_instruction(text, opening.shown(path, setup.source_root))
    if spec.system != setup.spec.system:
        raise InstructionError(_fixed("system", setup.spec.system, spec.system))
    system = read_schema(setup.schema, spec.system)
    patches = opening.read_patches(setup.paths, spec)
    contract = compile_contract(setup.name, draft, system, spec, config, setup.profile, patches)
    for name in FIXED:
        if getattr(contract, name) != getattr(state.contract, name):
            raise InstructionError(_fixed(name, getattr(state.contract, name), getattr(contract, name)))
    if contract.primary != state.contract.primary.model_copy(update={"source": contract.primary.source}):
        raise InstructionError(_fixed("primary metric", state.contract.primary.name, contract.primary.name))
    _check_regimes(contract, state)
    starts = {rule.key: rule.start for rule in state.contract.keys}
    keys = tuple(k.model_copy(update={"start": starts.get(k.key, k.start)}) for k in contract.keys)
    contract = contract.model_copy(update={"start": state.opened.start, "keys": keys})
    return replace(setup, spec=spec, contract=contract, instruction=text)


def _fixed(name: str, old: object, new: object) -> str:
    return (
        f"{name} was {old!r} when this exploration was opened and is {new!r} now: put it back, or start a new "
        "exploration with FRESH=1"
    )


def _check_regimes(contract: Contract, state: State) -> None:
    """Raise unless every regime that has run is declared as it was (and no key joins it)."""
    used = {state.regime_name(b) for b in range(1, state.block + 1) if state.first_of(b) in state.iterations}
    new = {r.name: r for r in contract.regimes}
    for regime in state.contract.regimes:
        if regime.name in used and regime.name not in new:
            raise InstructionError(_fixed(f"regimes.{regime.name}", "declared", "gone"))
        if regime.name in used and new[regime.name] != regime:
            before, after = regime.values, new[regime.name].values
            keys = sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))
            told = ", ".join(f"{k}: {before.get(k)!r} -> {after.get(k)!r}" for k in keys)
            raise InstructionError(
                f"regimes.{regime.name} has run and would change ({told}; from config.yaml, profiles or regimes): put "
                "it back, or start a new exploration with FRESH=1"
            )
    if "" in used and contract.regimes:
        raise InstructionError(_fixed("regimes", "none", [r.name for r in contract.regimes]))
