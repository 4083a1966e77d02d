"""The strategies that have a predicate: names, groups, meanings, and the numbers that their conditions state.

A row of an instruction's table is matched by its name. Two documents may mean different things by one name; then the
kinds are variants, told apart by a cue in the condition. How each predicate is computed: `core.strategy_predicates`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

from pydantic import Field

from orchestrator.core.records import Record

Group = Literal["safety", "protocol", "plateau", "progress", "default"]
"""In the order of precedence: whether results can be trusted, the written protocol, stagnation, chances, the rest."""


class Kind(Record):
    """One meaning that a row of the strategy table can have."""

    names: tuple[str, ...]
    """Spellings in the tables; the first is the predicate's."""
    variant: str = ""
    cue: str = ""
    """Pattern of the condition that selects this variant; "" takes what no other variant takes."""
    group: Group
    meaning: str
    """One line for people."""
    reads: tuple[str, ...] = ()
    """Numbers that the condition may state (`READERS`)."""
    defaults: dict[str, float] = Field(default_factory=dict)
    """Taken, and listed as assumed, when the condition does not state them."""
    metric: bool = False
    """Whether the condition may name a metric."""
    again: int = 6
    """Iterations after which a row that was followed fires again on the same evidence; 0 is never."""

    @property
    def key(self) -> str:
        """Name of the predicate."""
        return f"{self.names[0]}/{self.variant}" if self.variant else self.names[0]


_NUMBER = r"(\d*\.?\d+(?:[eE][-+]?\d+)?)"
_WORDS = {"two": 2.0, "three": 3.0, "four": 4.0, "five": 5.0, "six": 6.0}
_THINGS = r"(?:consecutive|in a row|iter|run|time|node|seed|block|batch|config|code|mutation|partial|success|result)"
_COUNT = re.compile(
    rf"(?<![\w.])(\d+|{'|'.join(_WORDS)})\s*(\+|or more\b)|(?:(>)\s*)?(?<![\w./])(\d+)\s+{_THINGS}", re.I
)
_COUNT_WORD = re.compile(rf"\b({'|'.join(_WORDS)})\s+{_THINGS}", re.I)


def _count(text: str) -> float | None:
    match = _COUNT.search(text)
    if match is None:
        word = _COUNT_WORD.search(text)
        return _WORDS[word[1].lower()] if word else None
    if match[1]:
        return _WORDS.get(match[1].lower()) or float(match[1])
    return float(match[4]) + (1.0 if match[3] else 0.0)


def _compared(signs: str) -> Callable[[str], float | None]:
    pattern = re.compile(rf"(?<![<>=≥≤])(?:{signs})\s*{_NUMBER}\s*(%|percent\b)?(?!\s*{_THINGS})", re.I)

    def read(text: str) -> float | None:
        match = pattern.search(text)
        if match is None:
            return None
        return float(match[1]) / (100.0 if match[2] else 1.0)

    return read


def _first(pattern: str, scale: Callable[[float], float] = lambda x: x) -> Callable[[str], float | None]:
    compiled = re.compile(pattern, re.I)

    def read(text: str) -> float | None:
        match = compiled.search(text)
        return scale(float(match[1])) if match else None

    return read


_RANGE = rf"(?<![\w.]){_NUMBER}\s*(?:-|–|to)\s*{_NUMBER}"
READERS: dict[str, Callable[[str], float | None]] = {
    "count": _count,
    "at_least": _compared(r">=|≥|at least"),
    "above": _compared(r">(?!=)|above|over|more than|exceeds"),
    "below": _compared(r"<(?!=)|below|under|less than"),
    "at_most": _compared(r"<=|≤|at most"),
    "within": _first(rf"(?:±|\+/-|\+-|within)\s*{_NUMBER}"),
    "block_fraction": _first(r"n_iter_block\s*/\s*(\d+)", lambda x: 1.0 / x),
    "converged": _first(rf"{_NUMBER}\s*%\s*converge", lambda x: x / 100.0),
    "low": _first(_RANGE),
    "high": _first(_RANGE.replace(_NUMBER, r"(?:\d*\.?\d+(?:[eE][-+]?\d+)?)", 1)),
}
"""Number -> reader of a condition's text; a reader returns None when the text does not state it."""

_SUCCESS = ("count", "at_least", "above", "below", "at_most")

EDITS = frozenset({"code-modification", "code-refine", "code-revert", "code-next-priority", "multi-code-modification"})
"""Kinds that are about edits of the code: shown and not followed while code edits are off."""
KINDS: tuple[Kind, ...] = (
    Kind(names=("exploit",), group="default", meaning="nothing else holds: extend the highest UCB"),
    # safety
    Kind(names=("degeneracy-break",), group="safety", reads=("above", "count"), defaults={"above": 0.3, "count": 1},
         meaning="the degeneracy gap is too large in the last `count` runs"),
    Kind(names=("k-protect",), group="safety", reads=("count",), defaults={"count": 4},
         meaning="the last `count` runs are all of the class that the condition names"),
    Kind(names=("variance-reduction",), group="safety", reads=("above",), defaults={"above": 0.05}, metric=True,
         meaning="runs of one config on one draw differ by more than `above`"),
    Kind(names=("code-revert",), group="safety", metric=True,
         meaning="the newest decided code edit is worse or crashed, and none was proposed since"),
    # protocol
    Kind(names=("failure-probe", "boundary-probe"), group="protocol", reads=_SUCCESS, defaults={"count": 3},
         metric=True, again=0, meaning="`count` consecutive runs at or above the level (or in the best class)"),
    Kind(names=("explore",), group="protocol", reads=("block_fraction", *_SUCCESS), defaults={"block_fraction": 0.25},
         metric=True, meaning="a share `block_fraction` of a block (or `count` runs) of consecutive successes"),
    Kind(names=("robustness-test",), group="protocol", again=0,
         meaning="the leader is in the best class and was run once"),
    Kind(names=("boundary-skip",), group="protocol", reads=("count",), defaults={"count": 3}, again=0,
         meaning="the last `count` probes were neither in the best nor in the worst class"),
    Kind(names=("switch-dimension", "switch-param"), group="protocol", reads=("count",), defaults={"count": 4}, again=0,
         meaning="the last `count` mutations changed the same key"),
    # plateau
    Kind(names=("forced-branch",), variant="converged", cue=r"converge.*branch|branch.*converge", group="plateau",
         reads=("converged", "below", "count"), defaults={"converged": 1.0, "below": 0.1, "count": 4},
         meaning="at least the share `converged` of the block's runs succeeds and the branching rate is `below`"),
    Kind(names=("forced-branch",), group="plateau", reads=("within", "count"), defaults={"within": 0.05, "count": 3},
         metric=True, meaning="the last `count` ideas differ by at most `within`"),
    Kind(names=("dimension-sweep",), group="plateau", reads=("above", "at_least", "within", "count"),
         defaults={"within": 0.05, "count": 3}, metric=True,
         meaning="the last `count` ideas differ by at most `within`, all beyond the level if one is stated"),
    Kind(names=("regime-shift",), group="plateau", reads=("count",), defaults={"count": 2}, metric=True,
         meaning="the best of the block was not beaten in the last `count` batches of four iterations"),
    Kind(names=("cross-seed-optimize",), group="plateau", reads=("count",), defaults={"count": 2}, metric=True,
         meaning="the last `count` complete blocks of this regime did not beat the best before them"),
    Kind(names=("code-modification",), group="plateau", reads=("within", "count"),
         defaults={"within": 0.02, "count": 4}, metric=True,
         meaning="no edit is open; the last `count` ideas of one code, with other configs, differ by at most `within`"),
    Kind(names=("multi-code-modification",), group="plateau", reads=("count", "within"),
         defaults={"count": 2, "within": 0.02}, metric=True,
         meaning="a plateau, and `count` neutral edits of one node, each alone, differ from it by at most `within`"),
    Kind(names=("identifiability-test",), group="plateau", reads=("count", "within"),
         defaults={"count": 4, "within": 0.02}, metric=True,
         meaning="the last `count` code edits and their parents differ by at most `within`: they are taken for all"),
    # progress
    Kind(names=("recombine",), group="progress", reads=_SUCCESS, defaults={"count": 2}, metric=True,
         meaning="`count` nodes beyond the level on two branches, two or more steps apart, that differ in two keys"),
    Kind(names=("exploit-tighten",), group="progress", reads=("below", "count"), defaults={"below": 0.3, "count": 4},
         meaning="the block's improvement rate is `below`, over `count` mutations or more"),
    Kind(names=("seed-robustness",), group="progress", reads=("count",), defaults={"count": 3},
         meaning="all children of the best node, `count` or more, are worse beyond noise"),
    Kind(names=("universal-recipe-validate",), group="progress", reads=("count",), defaults={"count": 2}, again=0,
         meaning="the block's best node beats its baseline beyond noise at `count` seeds or more"),
    Kind(names=("L1-calibration",), group="progress", reads=("low", "high"),
         defaults={"low": 0.3, "high": 0.7, "gap": 0.3}, metric=True,
         meaning="the leader lies between `low` and `high` and its degeneracy gap is below `gap`"),
    Kind(names=("code-refine",), group="progress", metric=True,
         meaning="the newest decided code edit is better than its parent beyond noise (keep)"),
    Kind(names=("code-next-priority",), group="progress", metric=True,
         meaning="the newest decided code edit is neutral, and none was proposed since"),
    Kind(names=("fixed-model-sweep",), group="progress", reads=("within",), defaults={"within": 0.02}, metric=True,
         meaning="`key=a gives the same as b`: the best node with a and the best with b differ by at most `within`"),
    Kind(names=("homeo-kick",), group="progress", reads=("above", "at_least"), defaults={"slope": 0.1}, metric=True,
         meaning="the last run is beyond the level while avg_slope_ratio stays below `slope`"),
    Kind(names=("embedding-focus",), group="progress", reads=("count",),
         defaults={"slope": 0.1, "count": 3, "within": 0.02},
         meaning="avg_slope_ratio is beyond `slope` while the cluster accuracy of `count` runs moves at most `within`"),
)  # fmt: skip


def kind_of(name: str, condition: str) -> Kind | None:
    """Return the kind of a row by its name, and by its condition where a name has variants; None when unknown."""
    named = [k for k in KINDS if name.strip().lower() in (n.lower() for n in k.names)]
    cued = [k for k in named if k.cue and re.search(k.cue, condition, re.I)]
    return next(iter(cued), next((k for k in named if not k.cue), None))
