"""Check what Claude writes: lines that cannot be taken for the engine's, and no number that was not measured.

What this does not stop: a false statement without a number, a number of one run told of another, numbers of things
that are no metric. The facts beside the prose are the engine's in any case.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator

from orchestrator.core.state import State
from orchestrator.core.stats import summarise
from orchestrator.errors import RefusedError

LONGEST_LINE = 600
_LABELS = (
    "Node",
    "Config",
    "Metrics",
    "Activity",
    "Mutation",
    "Parent rule",
    "Next",
    "Outcome",
    "Marked",
    "Degeneracy",
)
_OF_THE_ENGINE = re.compile(rf"^\s*(?:#|---|```|\||(?:{'|'.join(_LABELS)})\s*:)")
_EQUALS = r"(?:=|:|\u2248|~|\bis\b|\bwas\b|\bof\b|\breached\b|\bat\b)"
_NUMBER = r"[-+\u2212]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"


def line(text: str, what: str, longest: int = LONGEST_LINE) -> str:
    """Return a text as one clean line.

    Raises:
        RefusedError: empty, too long, more than one line, or in the form of what the engine writes.
    """
    found = " ".join(_visible(text).split(" ")).strip()
    if not found:
        raise RefusedError(f"an empty {what} refused: say it in one line")
    if "\n" in found or "\r" in found:
        raise RefusedError(f"{what} of {len(found.splitlines())} lines refused: it is one line; put the rest elsewhere")
    if len(found) > longest:
        raise RefusedError(f"{what} of {len(found)} characters refused: at most {longest}; say it shorter")
    if _OF_THE_ENGINE.match(found):
        raise RefusedError(
            f"{what} refused: {found[:40]!r} has the form of a line or heading that the engine writes; use plain words"
        )
    return found


def _visible(text: str) -> str:
    """Return a text without characters that cannot be seen or that reorder others."""
    return "".join(c for c in text if c == "\n" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn"))


def lines(texts: list[str], what: str, most: int) -> tuple[str, ...]:
    """Return the lines of a section; raises RefusedError when one of them is none, or there are too many."""
    if len(texts) > most:
        raise RefusedError(f"{what} of {len(texts)} lines refused: at most {most}; keep what still matters")
    return tuple(
        line(text.strip().removeprefix("- ").removeprefix("* "), f"line {i} of {what}")
        for i, text in enumerate(texts, 1)
    )


def check_figures(state: State, texts: Iterable[str], what: str) -> None:
    """Raise RefusedError when a text states a metric's value that no finished run, node mean or preflight has."""
    for text in texts:
        for metric, name, said in claims(state, text):
            known = sorted(set(_measured(state, metric)))
            if not any(_same(said, value) for value in known):
                raise RefusedError(
                    f"{what} refused: it says {name} {said}, and nothing measured has that value "
                    f"({_nearest(known, said)}); the engine writes the numbers, say what they mean"
                )


def claims(state: State, text: str) -> Iterator[tuple[str, str, str]]:
    """Yield (metric, name as written, number as written) for each statement `name = number` of a known metric."""
    contract = state.contract
    names = {alias: m.name for m in contract.metrics for alias in (m.name, *m.aliases)}
    names |= dict((*contract.log_metrics, *contract.log_activity))
    words = "|".join(re.escape(n) for n in sorted(names, key=len, reverse=True))
    pattern = rf"(?<![\w.])({words})(?!\w)[`*]*\s*{_EQUALS}\s*[`*~]*({_NUMBER})(?!\w*[\w%])"
    for found in re.finditer(pattern, text):
        yield names[found[1]], found[1], found[2].replace("\u2212", "-")


def _measured(state: State, metric: str) -> Iterator[float]:
    for it in state.done:
        value = it.metric(metric).value
        if value is not None:
            yield value
    for node in state.nodes.values():
        mean = summarise(state, node, metric).mean
        if mean is not None:
            yield mean
    for regime in state.regimes:
        for part in ("oracle", "null", "ceiling", "baselines", "activity"):
            value = (regime.preflight.get(part) or {}).get(metric)
            if isinstance(value, int | float) and not isinstance(value, bool):
                yield float(value)
    for rule in state.contract.verdicts:
        yield from (c.value for c in rule.conditions if c.metric == metric)


def _same(said: str, value: float) -> bool:
    """Return whether a number as written is `value` rounded, or cut, to as many digits."""
    if not math.isfinite(value):
        return False
    mantissa, _, exponent = said.lower().partition("e")
    digits = len(mantissa.partition(".")[2])
    unit = 10.0 ** (int(exponent or 0) - digits)
    return abs(float(said) - value) <= unit * (1 + 1e-9)


def _nearest(known: list[float], said: str) -> str:
    if not known:
        return "none was measured yet"
    nearest = min(known, key=lambda v: abs(v - float(said)))
    return f"nearest: {nearest:.4g}"
