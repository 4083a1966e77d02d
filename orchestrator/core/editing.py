"""The text editor's commands on a text: view, replace, insert; and what two texts differ in.

Nothing here knows files or Python. Every refusal says what was expected, what was found and where (it is shown to a
language model, which mends its call by it). Sizes are checked before anything is compared: difflib is quadratic.
"""

from __future__ import annotations

import difflib
import heapq
from collections import Counter

from orchestrator.errors import RefusedError

TEXT_CHARS = 256 * 1024
"""Longest text that is shown, edited or compared."""
TEXT_LINES = 5000
"""Most lines of such a text."""
ARGUMENT_CHARS = 64 * 1024
"""Longest argument of a command."""
NEAREST = 3
"""Places that are shown when a text was not found."""
LIKE = 0.5
"""Ratio of difflib above which two lines resemble each other."""
COSTLY = 60
"""Lines that are compared with the costly ratio."""
COMPARED_CHARS = 160
"""Of a line, when similar lines are looked for."""
COMPARED_LINES = 12
"""Of a text that was not found, when similar places are looked for."""


def view(text: str, view_range: tuple[int, int] | None = None) -> str:
    """Return the lines with their numbers, all of them or `first` to `last` (-1: to the end), both included."""
    _check_text(text)
    lines = _lines(text)
    first, last = view_range or (1, -1)
    last = len(lines) if last == -1 else last
    if view_range and not 1 <= first <= last <= len(lines):
        raise RefusedError(
            f"view of lines {view_range[0]} to {view_range[1]} refused: the text has {len(lines)} lines; give "
            f"[first, last] with 1 <= first <= last <= {len(lines)}, or last = -1 for the end"
        )
    return "".join(f"{n:6d}\t{lines[n - 1]}\n" for n in range(first, last + 1))


def str_replace(text: str, old: str, new: str) -> str:
    """Return the text with its one occurrence of `old` replaced; raises RefusedError when there is none, or several."""
    _check_text(text)
    _check_argument("old", old)
    _check_argument("new", new)
    if not old:
        raise RefusedError("str_replace refused: `old` is empty; give the exact text to replace, or use insert")
    if old == new:
        raise RefusedError("str_replace refused: `old` and `new` are equal, so nothing would change")
    at = text.find(old)
    if at < 0:
        raise RefusedError(_not_found(text, old))
    if text.find(old, at + 1) >= 0:
        raise RefusedError(_several(text, old))
    return text[:at] + new + text[at + len(old) :]


def insert(text: str, line: int, new: str) -> str:
    """Return the text with `new` as lines of its own after line number `line` (0: at the top)."""
    _check_text(text)
    _check_argument("new", new)
    lines = _lines(text)
    if not new:
        raise RefusedError("insert refused: the text to insert is empty")
    if not 0 <= line <= len(lines):
        raise RefusedError(
            f"insert after line {line} refused: the text has {len(lines)} lines; give 0 (at the top) to {len(lines)} "
            "(at the end)"
        )
    added = _lines(new)
    return "".join(f"{item}\n" for item in (*lines[:line], *added, *lines[line:]))


def difference(before: str, after: str, path: str) -> str:
    """Return the unified diff of a file; "" when the texts are equal."""
    _check_text(before)
    _check_text(after)
    old, new = _ended(before), _ended(after)
    parts = []
    for line in difflib.unified_diff(old, new, f"a/{path}", f"b/{path}"):
        parts.append(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n")
    return "".join(parts)


def size(before: str, after: str) -> tuple[int, int]:
    """Return how many lines were added and how many removed."""
    added, removed = changed_lines(before, after)
    return len(added), len(removed)


def changed_lines(before: str, after: str) -> tuple[list[str], list[str]]:
    """Return the lines that were added and those that were removed, in order."""
    _check_text(before)
    _check_text(after)
    return changed_of(_lines(before), _lines(after))


def changed_of(old: list[str], new: list[str]) -> tuple[list[str], list[str]]:
    """Return the lines of `new` that were added to `old`, and the lines of `old` that were removed, in order."""
    head = 0
    while head < min(len(old), len(new)) and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < min(len(old), len(new)) - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    old, new = old[head : len(old) - tail], new[head : len(new) - tail]
    added: list[str] = []
    removed: list[str] = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new).get_opcodes():
        if kind != "equal":
            removed += old[a:b]
            added += new[c:d]
    return added, removed


def least_change(before: str, after: str) -> int:
    """Return a number of lines that every diff of the two has at least; cheap for texts of any size."""
    old, new = Counter(_lines(before)), Counter(_lines(after))
    return (old - new).total() + (new - old).total()


def _lines(text: str) -> list[str]:
    """Return the lines without their ends; a last line need not be ended."""
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def _ended(text: str) -> list[str]:
    """Return the lines with their ends; only a newline ends one, as in git."""
    lines = [f"{line}\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _check_text(text: str) -> None:
    if len(text) > TEXT_CHARS or text.count("\n") > TEXT_LINES:
        raise RefusedError(
            f"a text of {len(text)} characters in {text.count(chr(10)) + 1} lines refused: too large to edit or "
            f"compare, at most {TEXT_CHARS} characters and {TEXT_LINES} lines"
        )


def _check_argument(name: str, value: str) -> None:
    if len(value) > ARGUMENT_CHARS:
        raise RefusedError(
            f"`{name}` of {len(value)} characters refused: too large, at most {ARGUMENT_CHARS}; make a smaller edit"
        )
    if "\0" in value:
        raise RefusedError(f"`{name}` refused: it has a NUL character; give plain text")
    if "\r" in value:
        raise RefusedError(f"`{name}` refused: it has a carriage return; lines end with \\n alone")


def _not_found(text: str, old: str) -> str:
    """Return the refusal for a text that is nowhere: the nearest places, and where the best one begins to differ."""
    lines, wanted = _lines(text), _lines(old)
    sentence = "str_replace refused: `old` is not in the text (it must match exactly, blanks included)."
    if (start := _but_for_blanks(lines, wanted)) is not None:
        place = f" Lines {start + 1} to {start + len(wanted)} differ from it only in indentation or blanks."
        return sentence + place + _first_difference(lines, wanted, start)
    places = _nearest(lines, wanted)
    if not places:
        return f"{sentence} No line is similar; view the file and copy the lines to replace."
    shown = "".join(f"\n  line {start + 1}: {lines[start]}" for start in places)
    return f"{sentence} Nearest places:{shown}{_first_difference(lines, wanted, places[0])}"


def _but_for_blanks(lines: list[str], wanted: list[str]) -> int | None:
    """Return the index of the one place that equals `wanted` when runs of blanks count as one and edges as none."""
    bare, target = [" ".join(x.split()) for x in lines], [" ".join(x.split()) for x in wanted]
    if not any(target):
        return None
    found = [i for i in range(len(bare) - len(target) + 1) if bare[i : i + len(target)] == target]
    return found[0] if found else None


def _nearest(lines: list[str], wanted: list[str]) -> list[int]:
    """Return the indices of lines at which something like `wanted` begins, the most similar first."""
    skip = next((i for i, line in enumerate(wanted) if line.strip()), None)
    if skip is None:
        return []
    opening = _ratios(lines, wanted[skip])
    starts = heapq.nlargest(4 * NEAREST, (i for i in opening if i >= skip), key=lambda i: (opening[i], -i))
    ranked = sorted(starts, key=lambda i: (-_likeness(lines, wanted, i - skip, opening[i]), i))
    return [i - skip for i in ranked[:NEAREST]]


def _ratios(lines: list[str], wanted: str) -> dict[int, float]:
    """Return index -> likeness of the lines that resemble one line."""
    matcher = difflib.SequenceMatcher(None, "", wanted.strip()[:COMPARED_CHARS], autojunk=False)
    hopeful = {}
    for i, line in enumerate(lines):
        matcher.set_seq1(line.strip()[:COMPARED_CHARS])
        if matcher.real_quick_ratio() > LIKE and (bound := matcher.quick_ratio()) > LIKE:
            hopeful[i] = bound
    found = {}
    for i in heapq.nlargest(COSTLY, hopeful, key=lambda i: (hopeful[i], -i)):
        matcher.set_seq1(lines[i].strip()[:COMPARED_CHARS])
        if (ratio := matcher.ratio()) > LIKE:
            found[i] = ratio
    return found


def _likeness(lines: list[str], wanted: list[str], start: int, opening: float) -> float:
    """Return how much the place at `start` resembles `wanted`: its opening, and equal lines among the first ones."""
    pairs = zip(lines[start:], wanted[:COMPARED_LINES], strict=False)
    return opening + sum(a.strip() == b.strip() for a, b in pairs)


def _first_difference(lines: list[str], wanted: list[str], start: int) -> str:
    """Return `expected ... got ...` of the first line that differs, or "" when only the edges of a line do."""
    for n, got in enumerate(wanted):
        expected = lines[start + n] if start + n < len(lines) else None
        if expected is None:
            return f"\n  the text ends before line {start + n + 1}, `old` goes on with: {got!r}"
        if expected != got:
            return f"\n  line {start + n + 1} expected: {expected!r}\n  line {start + n + 1} got:      {got!r}"
    return ""


def _several(text: str, old: str) -> str:
    """Return the refusal for a text that is there more than once."""
    numbers: list[str] = []
    at, count = text.find(old), 0
    while at >= 0:
        count += 1
        if len(numbers) < 10:
            numbers.append(str(text.count("\n", 0, at) + 1))
        at = text.find(old, at + 1)
    more = "" if count <= len(numbers) else f" and {count - len(numbers)} more"
    return (
        f"str_replace refused: `old` is in the text {count} times, on lines {', '.join(numbers)}{more}; it must be "
        "there once: take in more lines around the one that you mean"
    )
