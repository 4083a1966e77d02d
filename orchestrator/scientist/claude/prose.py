"""Check what Claude writes: lines that cannot be taken for the engine's, and no number that was not measured.

What this does not stop: a false statement without a number, a number of one run told of another, a number before its
metric's name (`0.99 in R2`), behind a sign of comparison or in words, a made-up difference, numbers of things that are
no metric; of letters that look like Latin ones only the commonest are known. Hypotheses and the next block's focus
state expectations, so their numbers are not checked. The facts beside the prose are the engine's in any case.
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
TOLD = 700
"""Characters of the head and of the tail of a long refusal."""
_LABELS = (
    "Node",
    "Mode",
    "Mode/Strategy",
    "Slot",
    "Evidence",
    "Config",
    "Metrics",
    "Activity",
    "Degeneracy",
    "Marked",
    "Outcome",
    "Idle keys",
    "Mutation",
    "Parent rule",
    "Visual",
    "Observation",
    "Next",
    "Next block",
    "Regime",
    "Focus",
    "Iterations",
    "Figures",
    "Strategies followed",
    "Strategy table",
    "Instructions edited",
    "Config edited",
)
"""Beginnings of the engine's lines; "Hypothesis" begins only what is the scientist's in any case."""
_QUOTED = r"[\s>*_`~+\-]*(?:\d+[.)]\s+)?[\s>*_`]*"
"""Marks of a list, a quotation or of emphasis before a line's first word."""
_LABEL = re.compile(rf"{_QUOTED}(?:{'|'.join(_LABELS)})[\s*_`]*:", re.IGNORECASE)
_MARKUP = re.compile(rf"{_QUOTED}(?:#|```|~~~|\||===|\[[^\]]*\]:)|\s*(?:(?:-\s*){{3}}|(?:\*\s*){{3}}|(?:_\s*){{3}})")
"""Headings, fences, tables, rules, link definitions."""
_HTML = re.compile(r"<!|-->|<\?|</?[A-Za-z][\w-]*(?:\s+[\w-]+\s*=[^<>]*|\s*/)?>")
_ENDS = "\t\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029"
"""What ends a line for `str.splitlines`, and the tab."""
_BLANK = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters and signs by category that show nothing."""
_UNSEEN = ("Cc", "Cf", "Cs", "Co", "Cn")
_LOOK_ALIKES = str.maketrans("\u0430\u0435\u043e\u0440\u0441\u0445\u0456\u039d\u041c\u0421\u0422", "aeopcxiNMCT")
"""Letters of other alphabets that look like Latin ones, where the labels have them."""
_WORDS = (
    "is|was|were|are|be|being|been|equals|equal|stays|stayed|remains|remained|keeps|kept|has|had|gives|gave|shows|showed|of|"
    "in|on|for|at|to|from|as|high|low|now|only|just|even|still|about|around|roughly|nearly|almost|approximately|exactly|"
    "reaches|reached|reaching|hits|hit|goes|went|came|comes|ends|ended|up|down|value|a|an|the|mean|average|score"
)
_MOVES = (
    "rises|rose|climbs|climbed|grows|grew|jumps|jumped|improves|improved|increases|increased|falls|fell|drops|dropped|"
    "decreases|decreased"
)
"""Without "to" or "from" they tell a difference."""
_BETWEEN = (
    rf"(?:[\s`*_(\[)\]=:~\u2248\u2243\u2192]|->|\b(?:{_WORDS})\b"
    rf"|\b(?:{_MOVES})(?=\s+(?:(?:up|down|now|even|again)\s+)*(?:to|from)\b)"
    r"|\b(?:iteration|iter|node|run|block|slot)\s+#?\d+\b)*+"
)
"""What may stand between a metric's name and its value."""
_NUMBER = r"[-+]?(?:\d+(?:[.,]\d+)?|[.,]\d+)(?:[eE][-+]?\d+)?"
_THEN = r"[\s`*)\]]*(?:\bto\b|->|\u2192|\band\b|\bvs\.?|\bversus\b|\bagainst\b)[\s`*(\[~]*"
"""What may stand between a value and another one of the same metric."""
_AFTER = r"(?!\.?\d)[`*]*(?P<percent>\s*%|\s+percent\b)?(?P<rest>\s*\w*)"
_NO_VALUE = re.compile(
    r"\s*(?:x|d|sd|sds|sigma|sigmas|standard|se|times|fold|above|below|better|worse|higher|lower|more|less|points?|runs?|"
    r"seeds?|iterations?|iters?|nodes?|draws?|replicates?|blocks?|epochs?|steps?|others?)?"
)
_NO_LEVEL = re.compile(
    r"\b(?:sd|se|std|noise|spread|error|variance|deviation|range|gain|loss|difference|change|rise|drop|fall|improvement|"
    r"decrease|increase|threshold)(?:\s+\w+)?\s+(?:of|in|on|for)\s+(?:the\s+|mean\s+)*[`*]*$",
    re.IGNORECASE,
)
"""Before a metric's name: the number is not the metric's value."""


def line(text: str, what: str, longest: int = LONGEST_LINE) -> str:
    """Return a text as one clean line.

    Raises:
        RefusedError: empty, too long, more than one line, or in the form of what the engine writes.
    """
    if len(text) > 100 * longest:  # not worth a look
        raise RefusedError(f"{what} of {len(text)} characters refused: at most {longest}; say it shorter")
    rows = visible(text).strip().splitlines()
    found = " ".join(rows[0].split()) if rows else ""
    if len(rows) > 1:
        raise RefusedError(f"{what} of {len(rows)} lines refused: it is one line; put the rest elsewhere")
    if len(found) > longest:
        raise RefusedError(f"{what} of {len(found)} characters refused: at most {longest}; say it shorter")
    if _of_the_engine(found):
        raise RefusedError(
            f"{what} refused: {found[:40]!r} has the form of a line or heading that the engine writes, or of markup; "
            "use plain words"
        )
    if not any(c.isalnum() for c in found):
        raise RefusedError(f"an empty {what} refused: it has no word in it; say it in one line")
    return found


def _of_the_engine(text: str) -> bool:
    """Return whether a line reads like one of the engine's, or would change how those after it are shown."""
    plain = unicodedata.normalize("NFKC", text).translate(_LOOK_ALIKES)
    return bool(_LABEL.match(plain) or _MARKUP.match(plain) or _HTML.search(plain))


def visible(text: str) -> str:
    """Return a text without characters that cannot be seen or that reorder others; ends of lines stay."""
    return "".join(c for c in text if c in _ENDS or (c not in _BLANK and unicodedata.category(c) not in _UNSEEN))


def told(reason: str, ends: str = "") -> str:
    """Return a refusal as it is told and kept: printable but for `ends`, its middle left out where it is long."""
    plain = "".join(c if c.isprintable() or c in ends else " " for c in reason[:TOLD] + reason[TOLD:][-TOLD:])
    return plain if len(reason) <= 2 * TOLD else f"{plain[:TOLD]} [...] {plain[TOLD:]}"


def lines(texts: list[str], what: str, most: int) -> tuple[str, ...]:
    """Return the lines of a section; raises RefusedError when one of them is none, or there are too many."""
    if len(texts) > most:
        raise RefusedError(f"{what} of {len(texts)} lines refused: at most {most}; keep what still matters")
    return tuple(
        line(text.strip().removeprefix("- ").removeprefix("* "), f"line {i} of {what}")
        for i, text in enumerate(texts, 1)
    )


def check_figures(state: State, texts: Iterable[str], what: str, *, given: str = "") -> None:
    """Raise RefusedError when a text states a metric's value that no finished run, node mean or preflight has.

    Numbers that stand in `given` (a user instruction) may be repeated.
    """
    for text in texts:
        for metrics, name, said in claims(state, text):
            known = sorted({value for metric in metrics for value in _measured(state, metric)})
            if said not in given and not any(_same(said, value) for value in known):
                raise RefusedError(
                    f"{what} refused: it says {name} {said}, and nothing measured has that value "
                    f"({_nearest(known, said)}); the engine writes the numbers, say what they mean"
                )


def claims(state: State, text: str) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Yield (metrics that may be meant, name as written, number as written) for each statement `name = number`."""
    plain = unicodedata.normalize("NFKC", text).replace("\u2212", "-")
    names = _names(state)
    words = "|".join(re.escape(n).replace("_", r"[_\s-]") for n in sorted(names, key=len, reverse=True))
    for found in re.finditer(rf"(?<![\w.])({words})(?!\w)", plain, re.IGNORECASE):
        if _NO_LEVEL.search(plain[: found.start()]):
            continue
        metrics = names[re.sub(r"[\s-]", "_", found[1]).lower()]
        for said in _values(plain[found.end() :]):
            yield metrics, found[1], said


def _values(text: str) -> Iterator[str]:
    """Yield the numbers that follow a metric's name as its values."""
    between, at = _BETWEEN, 0
    while number := re.compile(rf"{between}(?P<number>{_NUMBER}){_AFTER}", re.IGNORECASE).match(text, at):
        said, rest, percent = number["number"].replace(",", "."), number["rest"], bool(number["percent"])
        whole = "." not in said and "e" not in said.lower()
        told_by = text[at : number.start("number")]
        if whole and not percent and "=" not in told_by and float(said) >= 2 and re.search(r":|\bat\b", told_by):
            return  # `at 64`, `: 5 is best`: a value of a key, a node
        counted = rest.strip() and _NO_VALUE.fullmatch(rest) is not None
        attached = bool(rest[:1].strip()) and not percent
        if counted or attached or (at and whole and not percent):
            return
        yield f"{said}%" if percent else said
        between, at = _THEN, number.start("rest")


def _names(state: State) -> dict[str, tuple[str, ...]]:
    """Return what a metric may be called, in small letters, and the metrics that are called so."""
    contract = state.contract
    found: dict[str, tuple[str, ...]] = {}
    found |= {name.lower(): (name,) for it in state.done if it.final is not None for name in it.final.metrics}
    found |= {alias.lower(): (m.name,) for m in contract.metrics for alias in (m.name, *m.aliases)}
    found |= {label.lower(): (name,) for label, name in (*contract.log_metrics, *contract.log_activity)}
    several = tuple(dict.fromkeys(name for names in found.values() for name in names if name.endswith("R2")))
    if several:
        found.setdefault("r2", several)
    return found


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
    contract = state.contract
    limits = [r.conditions for r in contract.verdicts] + [r.conditions for r in contract.diagnosis]
    yield from (c.value for conditions in limits for c in conditions if c.metric == metric)
    yield from (m.target for m in contract.metrics if m.name == metric and m.target is not None)


def _number(said: str) -> tuple[float, float]:
    """Return a number as written, and what its last digit is worth."""
    mantissa, _, exponent = said.rstrip("%").lower().partition("e")
    scale = 10.0 ** (max(-400, min(300, int(exponent or 0))) - 2 * said.endswith("%"))
    return float(mantissa) * scale, scale * 10.0 ** -len(mantissa.partition(".")[2])


def _same(said: str, value: float) -> bool:
    """Return whether a number as written is `value` rounded, or cut, to as many digits.

    A number without decimals is close only to a value that is: `1` is 0.97 rounded, and not 0.6.
    """
    if not math.isfinite(value):
        return False
    number, unit = _number(said)
    off = abs(number - value)
    if "." not in said and "e" not in said.lower() and not said.endswith("%"):
        return off <= min(0.5, max(0.05, 0.05 * abs(value)))
    cut = abs(number) <= abs(value) and number * value >= 0 and off < unit
    return cut or off <= unit / 2 * (1 + 1e-9)


def _nearest(known: list[float], said: str) -> str:
    if not known:
        return "none was measured yet"
    nearest = min(known, key=lambda v: abs(v - _number(said)[0]))
    return f"nearest: {nearest:.4g}"
