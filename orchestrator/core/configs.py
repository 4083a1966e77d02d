"""Configs as nested dicts: look up, change, and hash them."""

from __future__ import annotations

import copy
from typing import Any

from orchestrator.core.records import Change, Config, canonical, sha_of

SEED_KEYS = ("training.seed", "simulation.seed")
"""Another training seed is a replicate, another simulation seed a draw: neither is a new idea."""


def get(config: Config, key: str) -> Any:
    """Return the value of `section.name`; raises KeyError."""
    section, name = key.split(".", 1)
    return config[section][name]


def with_values(config: Config, values: dict[str, Any]) -> Config:
    """Return a copy of `config` in which each `section.name` of `values` is set."""
    new = copy.deepcopy(config)
    for key, value in values.items():
        section, name = key.split(".", 1)
        new.setdefault(section, {})[name] = value
    return new


def apply(config: Config, changes: tuple[Change, ...]) -> Config:
    """Return `config` after `changes`; raises ValueError when an `old` value is not what the config holds."""
    for change in changes:
        found = get(config, change.key)
        if canonical(found) != canonical(change.old):
            raise ValueError(f"{change.key}: expected {change.old!r} before the change, found {found!r}")
    return with_values(config, {c.key: c.new for c in changes})


def idea_sha(config: Config) -> str:
    """Return the sha of what makes a config an idea: everything but the seeds and the `claude` section."""
    idea = {
        section: {k: v for k, v in sorted(values.items()) if f"{section}.{k}" not in SEED_KEYS}
        for section, values in config.items()
        if section != "claude"
    }
    return sha_of(idea)
