"""Which module does what for a system; imported when it is needed, because torch takes seconds."""

from __future__ import annotations

import importlib
from typing import Any, Literal

from trainers.errors import RefusedError

Part = Literal["train", "prepare", "score"]
PARTS: dict[str, dict[str, str]] = {
    "signal": {"train": "trainers.signal", "prepare": "trainers.prepare.signal", "score": "trainers.scoring.signal"},
    "homeostasis": {
        "train": "trainers.homeostasis",
        "prepare": "trainers.prepare.homeostasis",
        "score": "trainers.scoring.homeostasis",
    },
    "stoichiometry": {
        "train": "trainers.stoichiometry",
        "prepare": "trainers.prepare.stoichiometry",
        "score": "trainers.scoring.stoichiometry",
    },
    "inr": {"train": "trainers.inr", "prepare": "trainers.prepare.inr", "score": "trainers.scoring.inr"},
}
"""A `train` module has `train`; a `prepare` module `make`; a `score` module those that scoring/score.py lists."""


def part(system: str, name: Part) -> Any:
    """Return the module that does a part for a system; raises RefusedError for an unknown system."""
    if system not in PARTS:
        raise RefusedError(f"unknown system {system!r}; systems: {', '.join(PARTS)}")
    return importlib.import_module(PARTS[system][name])
