"""The part of a program's output that says why it died, short enough for a model and for a journal line."""

from __future__ import annotations

import re

LONGEST = 2000
"""Characters."""
_HEAD = "Traceback (most recent call last):"
_FRAME = re.compile(r'^\s+File "(?P<path>[^"]*)", line (?P<line>\d+)')
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]")


def own_lines(output: str, root: str) -> str:
    """Return the last traceback in `output` with its frames below the folder `root` only, their paths relative to it.

    Without a traceback the last lines of the output. Control characters are taken out, long lines cut, and what is
    longer than `LONGEST` loses its middle.
    """
    lines = [_CONTROL.sub("", line)[:300] for line in output.splitlines()]
    starts = [i for i, line in enumerate(lines) if line.strip() == _HEAD]
    if not starts:
        return _short("\n".join([line for line in lines if line.strip()][-8:]))
    kept, own = [_HEAD], False
    for line in lines[starts[-1] + 1 :]:
        frame = _FRAME.match(line)
        if frame is not None:
            own = frame["path"].startswith(root.rstrip("/") + "/")
            line = line.replace(root.rstrip("/") + "/", "", 1)
        elif line and not line.startswith(" "):
            own = True  # the exception itself
        if own and line.strip(" ^~"):
            kept.append(line)
    return _short("\n".join(kept))


def _short(text: str) -> str:
    half = LONGEST // 2
    return text if len(text) <= LONGEST else f"{text[:half]}\n...\n{text[-half:]}"
