"""What the commit of a code edit says."""

from __future__ import annotations

import re
import textwrap

from orchestrator.ports import Candidate

WIDTH = 100
"""Of a line, the subject's included."""
CHANGE_LEAST = 30
"""Characters of the change that a long list of units leaves in the subject."""

_BLANK = re.compile(r"[\s\x00-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]+")
"""White space, control characters, marks that turn or hide text, halves of characters."""


def edit_message(exploration: str, candidate: Candidate, config_sha: str) -> str:
    """Return the message: `[Iter N] <change> in <unit (file)>`, the hypothesis, and trailers that only facts can fill.

    Texts of the scientist are one line each, however they were written. Wrapped lines are indented, so that none reads
    as a trailer, a comment or the end of the message.
    """
    hypothesis = one_line(candidate.hypothesis) or "(none)"
    wrapped = textwrap.fill(
        f"Hypothesis: {hypothesis}", WIDTH, subsequent_indent="  ", break_on_hyphens=False, expand_tabs=False
    )
    facts = {
        "Exploration": exploration,
        "Iteration": candidate.iteration,
        "Parent": "root" if candidate.parent is None else candidate.parent,
        "Config-Sha": config_sha,
    }
    trailers = "\n".join(f"{name}: {one_line(str(value))}" for name, value in facts.items())
    return f"{_subject(candidate)}\n\n{wrapped}\n\n{trailers}\n"


def one_line(text: str) -> str:
    """Return text without line breaks, control characters and the like: a space in place of each run of them."""
    return _BLANK.sub(" ", text).strip()


def _subject(candidate: Candidate) -> str:
    head = f"[Iter {candidate.iteration}] "
    units = one_line(", ".join(candidate.units))
    place = f" in {_cut(units, WIDTH - len(head) - CHANGE_LEAST - 4)}" if units else ""
    change = one_line(candidate.change) or "edit"
    return head + _cut(change, WIDTH - len(head) - len(place)) + place


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"
