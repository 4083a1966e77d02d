"""Find, compile, seal and check an exploration before its engine starts."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from orchestrator.core import configs, lineage, mutation
from orchestrator.core.contract import Contract
from orchestrator.core.events import Opened
from orchestrator.core.exploration import Exploration, read_exploration
from orchestrator.core.records import Config
from orchestrator.core.schema import SystemSchema, read_schema
from orchestrator.core.state import State
from orchestrator.engine.context import Setup
from orchestrator.engine.devices import device_kind
from orchestrator.engine.sealing import finish, opened_of, rules_of, sealed_contract, state_of
from orchestrator.errors import InstructionError, NeedsPersonError, RefusedError, UserError
from orchestrator.formats import yaml_edit
from orchestrator.formats.compile import compile_contract
from orchestrator.formats.instruction import read_instruction
from orchestrator.formats.own_schema import own_schema
from orchestrator.paths import Paths
from orchestrator.vcs import git

DIFFERENCE_LINES = 60
"""Lines of the difference to the contract in force that lint shows."""


@dataclass(frozen=True)
class Wishes:
    """What the command line asks for; None leaves it to exploration.yaml or to what was opened."""

    root: Path | None = None
    profile: str | None = None
    seed: int | None = None
    origin: str | None = None
    fresh: bool = False
    code: bool = False
    """Code edits on, whatever exploration.yaml says."""

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Wishes:
        """Return the wishes of parsed arguments."""
        found = vars(arguments)
        return cls(
            **{name: found[name] for name in ("root", "profile", "seed", "origin", "fresh", "code") if name in found}
        )


def paths_of(home: Path, name: str, root: Path | None) -> Paths:
    """Return the paths of a known exploration.

    Raises:
        UserError: unknown name; lists the known ones.
    """
    folder = home / "explorations"
    known = sorted(p.parent.name for p in folder.glob("*/exploration.yaml"))
    if name not in known:
        raise UserError(f"unknown exploration {name!r}; known: {', '.join(known) or 'none'} (folders of {folder})")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise UserError(f"exploration {name!r}: rename its folder to letters, digits, _ and - only")
    source = folder / name
    out = (root.absolute() / name) if root else source / "out"
    if os.pathsep in str(out):
        raise UserError(f"{out}: a path with {os.pathsep!r} cannot hold code (PYTHONPATH splits there); use ROOT=")
    return Paths(source=source, out=out)


def load(home: Path, name: str, wishes: Wishes) -> Setup:
    """Compile an exploration, or take up the sealed contract of one that was opened before.

    Raises:
        InstructionError: a file that cannot be read with certainty; names the line.
        UserError: the wishes do not fit what was opened.
    """
    paths = paths_of(home, name, wishes.root)
    finish(paths)
    opened = None if wishes.fresh else opened_of(paths)
    wished = wishes.code or (opened is not None and opened.code_wished)
    spec = with_code(read_spec(paths), wished)
    schema = _schema(home, paths, spec, opened)
    device = opened.device if opened else device_kind()
    if opened is not None:
        _must_fit(paths, opened, wishes)
        if opened.device == "cuda" and device_kind() != "cuda":
            raise NeedsPersonError(f"{name} was opened on a GPU and none is found: make the GPU visible, or FRESH=1")
        contract, text = sealed_contract(paths), rules_of(paths)[-1].instruction
        if contract.command != spec.command:
            raise UserError(
                f"`command:` is {spec.command} now and was {contract.command} when {paths.out} was opened: "
                "put it back, or use FRESH=1"
            )
        profile, seed = opened.profile, opened.seed
    else:
        profile = wishes.profile or ("full" if device == "cuda" else "cpu")
        text = read_text(instruction_path(home, spec))
        contract, seed = _compile(home, paths, spec, schema, profile, wishes)
    return Setup(name, paths, home, spec, contract, text, schema, profile, device, seed, wishes.origin, wished)


def _compile(
    home: Path, paths: Paths, spec: Exploration, schema: dict[str, Any], profile: str, wishes: Wishes
) -> tuple[Contract, int]:
    path = instruction_path(home, spec)
    draft, config = read_instruction(read_text(path), shown(path, home)), read_config(home, paths)
    system = read_schema(schema, spec.system)
    contract = compile_contract(paths.source.name, draft, system, spec, config, profile, read_patches(paths, spec))
    start = contract.start
    if wishes.origin:
        start = _start_from(home, wishes, contract)
    if wishes.seed is not None:
        start = configs.with_values(start, dict.fromkeys(configs.SEED_KEYS, wishes.seed))
    seed = wishes.seed if wishes.seed is not None else int(configs.get(start, "training.seed"))
    return _with_start(contract, system, start), seed


def _with_start(contract: Contract, system: SystemSchema, start: Config) -> Contract:
    """Return the contract with another start, after holding it against the schema and the instruction's ranges."""
    keys = []
    for rule in contract.keys:
        value = configs.get(start, rule.key)
        known = system.key(rule.key)
        fault = known.fault(value) if known is not None else None
        if fault:
            raise UserError(f"{rule.key}: {fault} (asked for by SEED= or FROM=)")
        if rule.level == "free":
            try:
                mutation.check_value(rule, value)
            except RefusedError as error:
                raise UserError(f"FROM=: {error}") from error
        keys.append(rule.model_copy(update={"start": value}))
    return contract.model_copy(update={"start": start, "keys": tuple(keys)})


def _start_from(home: Path, wishes: Wishes, contract: Contract) -> Config:
    """Return the start with the free keys of another exploration's node."""
    state, node = _origin(home, wishes.root, wishes.origin or "")
    config = state.nodes[node].config
    values = {}
    for rule in contract.keys:
        section, key = rule.key.split(".", 1)
        if rule.level == "free" and not rule.exempt and key in config.get(section, {}):
            values[rule.key] = config[section][key]
    return configs.with_values(contract.start, values)


def _origin(home: Path, root: Path | None, origin: str) -> tuple[State, int]:
    """Return the exploration that FROM= names, and its node; raises UserError when there is none."""
    name, _, number = origin.partition(":")
    places = [paths_of(home, name, root), paths_of(home, name, None)]
    other = next((p for p in places if p.journal.exists()), None)
    if not number.isdigit() or other is None:
        raise UserError(f"FROM={origin}: expected EXPLORATION:ITERATION of one that has run, e.g. sparse_gnn:7")
    state = state_of(other)
    iteration = state.iterations.get(int(number))
    if iteration is None:
        raise UserError(f"FROM={origin}: {name} has no iteration {number}; it has 1 to {state.last_iteration}")
    return state, iteration.node


def code_left_behind(home: Path, wishes: Wishes) -> list[str]:
    """Return what a person should know of FROM=: it takes a node's keys, and not the edits of its code."""
    if not wishes.origin:
        return []
    state, node = _origin(home, wishes.root, wishes.origin)
    if lineage.code_commit(state, node) is None:
        return []
    name = wishes.origin.partition(":")[0]
    return [
        f"note: FROM={wishes.origin} takes the config alone, and the code of node {node} was edited: its figures need "
        f"not come again. To take the edits over first: make -s adopt EXP={name} NODE={node} | git apply"
    ]


def instruction_path(home: Path, spec: Exploration) -> Path:
    """Return the file that exploration.yaml names.

    Raises:
        InstructionError: there is no such file.
    """
    named = Path(spec.instruction)
    path = home / "instructions" / f"{named}.md" if named.suffix != ".md" else home / named
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in (home / "instructions").glob("*.md")))
        raise InstructionError(f"instruction {spec.instruction!r} not found at {path}; there are: {known}")
    return path


def shown(path: Path, home: Path) -> str:
    """Return a path as messages name it: relative to the checkout when it is inside."""
    return str(path.relative_to(home)) if path.is_relative_to(home) else str(path)


def read_spec(paths: Paths) -> Exploration:
    """Return exploration.yaml; raises InstructionError naming what is wrong."""
    source = f"explorations/{paths.source.name}/exploration.yaml"
    return read_exploration(yaml_edit.load(read_text(paths.exploration_yaml), source), source)


def with_code(spec: Exploration, wished: bool) -> Exploration:
    """Return the settings with code edits on when the command line asked for them at the opening."""
    return spec.model_copy(update={"code": "on"}) if wished else spec


def read_patches(paths: Paths, spec: Exploration) -> dict[str, str]:
    """Return the prepared patches by file name; none while code edits are off."""
    if spec.code == "off":
        return {}
    return {path.name: read_text(path) for path in sorted(paths.patches.glob("*.patch"))}


def _schema(home: Path, paths: Paths, spec: Exploration, opened: Opened | None) -> dict[str, Any]:
    """Return the schema in force: of the user's own trainer, of the exported code, or of this checkout."""
    if spec.command is not None:
        path = instruction_path(home, spec)
        draft = read_instruction(read_text(path), shown(path, home))
        return own_schema(spec.system, draft, read_config(home, paths))
    return _read_json(home / "trainers" / "schema.json" if opened is None else _exported_schema(paths, opened))


def read_config(home: Path, paths: Paths) -> yaml_edit.Document:
    """Return config.yaml with its lines; raises InstructionError."""
    return yaml_edit.read(read_text(paths.config_yaml), shown(paths.config_yaml, home))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); regenerate it with `make schema`") from error


# What was opened before


def _exported_schema(paths: Paths, opened: Opened) -> Path:
    git.export_code(paths.out, opened.code, paths.code / opened.code)
    return paths.code / opened.code / "base" / "trainers" / "schema.json"


def _must_fit(paths: Paths, opened: Opened, wishes: Wishes) -> None:
    asked = {"PROFILE": (wishes.profile, opened.profile), "SEED": (wishes.seed, opened.seed)}
    for name, (wanted, found) in asked.items():
        if wanted is not None and wanted != found:
            raise UserError(
                f"{name}={wanted} does not fit: {paths.out} was opened with {name}={found}. "
                "Use FRESH=1 to set it aside and start again, or ROOT=another/folder"
            )
    if wishes.code and sealed_contract(paths).code == "off":
        raise UserError(
            f"CODE=1 does not fit: {paths.out} was opened with code edits off. Write `code: on` into "
            f"{paths.exploration_yaml} (the next turn takes it up), or use FRESH=1"
        )
    if wishes.origin:
        raise UserError(f"FROM={wishes.origin} starts an exploration, and {paths.out} has one: use FRESH=1 or ROOT=")


# Opening


def make_folder(setup: Setup) -> list[str]:
    """Make the output folder; return what a person should know about code that changed since the opening.

    Raises:
        UserError: the folder cannot be written.
    """
    paths = setup.paths
    try:
        paths.out.mkdir(parents=True, exist_ok=True)
        (paths.out / ".gitignore").write_text("*\n")
    except OSError as error:
        raise UserError(f"cannot write {paths.out}: {error.strerror}. Choose another folder with ROOT=") from error
    opened = opened_of(paths)
    return [] if opened is None else _changed_code(setup, opened)


def _changed_code(setup: Setup, opened: Opened) -> list[str]:
    if setup.contract.command is not None or git.tree_of(setup.paths.out, setup.source_root) == opened.code:
        return []
    return [
        f"note: models/ or trainers/ changed since opening; this exploration keeps its own code ({opened.code[:12]}). "
        "FRESH=1 starts again with the new code"
    ]


def lint(home: Path, name: str | None, file: Path | None) -> Any:
    """Return what an exploration's instruction, or any instruction file, compiles to.

    Raises:
        UserError: the file or the exploration is not there.
    """
    from orchestrator.formats.lint import lint_report

    if file is not None:
        if not file.is_file():
            raise UserError(f"no such file: {file}")
        return lint_report(read_instruction(read_text(file), str(file)))
    paths = paths_of(home, name or "", None)
    opened = opened_of(paths)
    spec = with_code(read_spec(paths), opened is not None and opened.code_wished)
    path = instruction_path(home, spec)
    schema = read_schema(_schema(home, paths, spec, None), spec.system)
    config = read_config(home, paths)
    draft = read_instruction(read_text(path), shown(path, home))
    profile: Literal["full", "cpu"] = "full" if device_kind() == "cuda" else "cpu"
    patches = read_patches(paths, spec)
    report = lint_report(draft, paths.source.name, schema, spec, config, profile, patches)
    if opened is None or not report.ok:
        return report
    contract = compile_contract(paths.source.name, draft, schema, spec, config, opened.profile, patches)
    told = _difference(sealed_contract(paths), contract)
    return report.model_copy(update={"text": f"{report.text}\n\n{told}"})


def _difference(force: Contract, found: Contract) -> str:
    """Return what would change in the contract in force, line by line; the start acts in iteration 1 only."""
    before, after = _without_lines(force), _without_lines(found.model_copy(update={"start": force.start}))
    if before == after:
        return "The contract in force says the same"
    texts = [yaml_edit.dump(side).splitlines() for side in (before, after)]
    lines = list(difflib.unified_diff(texts[0], texts[1], lineterm="", n=0))[2:]
    shown_lines = [line for line in lines if not line.startswith("@@")]
    more = [f"  ... {len(shown_lines) - DIFFERENCE_LINES} more lines"] if len(shown_lines) > DIFFERENCE_LINES else []
    listed = [f"  {line}" for line in shown_lines[:DIFFERENCE_LINES]]
    return "\n".join(["Difference to the contract in force, taken up at the next iteration:", *listed, *more])


def _without_lines(contract: Contract) -> dict[str, Any]:
    """Return a contract without what names lines of files."""

    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: bare(v) for k, v in value.items() if k != "source"}
        return [bare(v) for v in value] if isinstance(value, list) else value

    found: dict[str, Any] = bare(contract.model_dump(mode="json"))
    return found


def read_text(path: Path) -> str:
    """Return a file's text; raises InstructionError when it cannot be read or is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InstructionError(f"{path}: expected a file that can be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InstructionError(
            f"{path}: expected UTF-8 text, found byte {error.object[error.start]:#x} at {error.start}"
        ) from None
