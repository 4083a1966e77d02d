"""The schema of a user's own trainer, derived from what the user wrote: config.yaml and the instruction.

A trainer named by `command:` in exploration.yaml has no schema.json. Its keys are those of config.yaml, with the types
of their values and no hard range (the instruction's ranges hold); its metrics are those that the instruction names.
"""

from __future__ import annotations

from typing import Any

from orchestrator.errors import InstructionError
from orchestrator.formats.draft import InstructionDraft
from orchestrator.formats.yaml_edit import Document

SEED = 1
"""Both seeds when config.yaml does not name them; a trainer may ignore either."""


def own_schema(system: str, draft: InstructionDraft, config: Document) -> dict[str, Any]:
    """Return a schema in the form of trainers/schema.json.

    Raises:
        InstructionError: a value in config.yaml whose type no key can have.
    """
    sections: dict[str, dict[str, Any]] = {"simulation": {}, "training": {}}
    for section, values in config.config.items():
        if section != "claude" and isinstance(values, dict):
            sections[section] = {name: _key(config, f"{section}.{name}", value) for name, value in values.items()}
    for section in ("simulation", "training"):
        sections[section].setdefault("seed", _spec("int", SEED))
    for name in ("n_epochs", "data_augmentation_loop"):
        sections["training"].setdefault(name, _spec("int", 1))
    metrics = {m.name: _metric(m.direction or "max", list(m.aliases)) for m in draft.metrics}
    body = {"generator_version": 1, "sections": sections, "metrics": metrics}
    return {"contract": 1, "systems": {system: body}}


def _key(config: Document, key: str, value: Any) -> dict[str, Any]:
    kinds = {bool: "bool", int: "int", float: "float", str: "str", list: "list"}
    kind = kinds.get(type(value))
    if kind is None:
        found = type(value).__name__
        raise InstructionError(f"{config.where(key)}: {key}: expected a number, text, flag or list, found {found}")
    return _spec(kind, value)


def _spec(kind: str, default: Any) -> dict[str, Any]:
    return {"type": kind, "default": default, "description": "a key of the user's trainer"}


def _metric(direction: str, aliases: list[str]) -> dict[str, Any]:
    return {"unit": "dimensionless", "direction": direction, "aliases": aliases, "version": 1, "description": "own"}
