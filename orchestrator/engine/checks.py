"""One finding of the doctor, and how findings are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from orchestrator.core.records import Record
from orchestrator.errors import EXIT_DONE, EXIT_NEEDS_PERSON


class Check(Record):
    """What was looked at, how it is, and what to do when it is not well."""

    name: str
    level: Literal["ok", "warning", "failed"]
    sentence: str
    remedy: str = ""
    """Never empty when the check failed."""


def ok(name: str, sentence: str) -> Check:
    """Return a check that found nothing to mend."""
    return Check(name=name, level="ok", sentence=sentence)


def warning(name: str, sentence: str, remedy: str) -> Check:
    """Return a check that found what works, though not as well as it could."""
    return Check(name=name, level="warning", sentence=sentence, remedy=remedy)


def failed(name: str, sentence: str, remedy: str) -> Check:
    """Return a check that found what stops an exploration."""
    return Check(name=name, level="failed", sentence=sentence, remedy=remedy)


def show(checks: Sequence[Check]) -> str:
    """Return one line a check, names aligned, and a last line with the count of each level."""
    width = max((len(c.name) for c in checks), default=0)
    lines = [f"{c.name:<{width}}  {c.level:<7}  {_told(c)}" for c in checks]
    counts = {level: sum(c.level == level for c in checks) for level in ("ok", "warning", "failed")}
    return "\n".join([*lines, "", ", ".join(f"{n} {level}" for level, n in counts.items())])


def exit_code(checks: Sequence[Check]) -> int:
    """Return 0 when nothing failed, else 3."""
    return EXIT_NEEDS_PERSON if any(c.level == "failed" for c in checks) else EXIT_DONE


def _told(check: Check) -> str:
    text = check.sentence + (f". To do: {check.remedy}" if check.remedy else "")
    return " ".join("; ".join(line.strip() for line in text.splitlines() if line.strip()).split())
