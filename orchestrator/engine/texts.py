"""Files as text for a language model: decoded, without control characters, cut, with a line that says what was cut."""

from __future__ import annotations

import io
import logging
import os
import re
import unicodedata
from itertools import pairwise
from typing import BinaryIO

from orchestrator.errors import RefusedError

CHARACTERS = 20_000
"""Longest text that is given at once; what follows is asked for as `name#2`."""
BYTES = 2**20
"""Longest part of a log that is read."""
TAIL_LINES, TAIL_BYTES, TAIL_CHARACTERS = 200, 2**18, CHARACTERS - 500
SAMPLES = 32
"""Lines of progress that are shown."""
LINE = 500
WHOLE_BYTES, CHUNK_BYTES = 2**23, 2**16
PDF_PAGES, PDF_CHARACTERS = 200, 400_000

_ANSI = re.compile(r"\x1b\[[0-9;:?]*[ -/]*[@-~]")


def clean(data: bytes) -> str:
    """Return bytes as text: UTF-8 with replacements, line ends as one character, nothing invisible but tab and newline.

    Control, format (direction, hidden tags) and private characters are left out, and the colour codes of terminals.
    """
    text = _ANSI.sub("", data.decode(errors="replace")).replace("\r\n", "\n").replace("\r", "\n")
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c)[0] != "C")


def one_line(text: str, limit: int = LINE) -> str:
    """Return a foreign text as one printable line of at most `limit` characters.

    What would move a terminal's cursor, begin a line in a log or a prompt, or break the journal (half of a pair of
    UTF-16) becomes a space.
    """
    shown = "".join(c if c.isprintable() else " " for c in _ANSI.sub("", text[: 4 * limit]))
    return " ".join(shown.split())[:limit]


def excerpt(text: str, name: str, number: int = 1) -> str:
    """Return a part of a text (1-based), with a line that says what is left out.

    Raises:
        RefusedError: there is no such part.
    """
    if not text.strip():
        return f"({name} is empty)\n"
    parts = -(-len(text) // CHARACTERS)
    if not 1 <= number <= parts:
        raise RefusedError(f"{name}#{number} was refused: {name} has {parts} part(s); the nearest is {name}#{parts}")
    if parts == 1:
        return text
    start, stop = (number - 1) * CHARACTERS, min(len(text), number * CHARACTERS)
    before = f"(goes on from part {number - 1})\n" if number > 1 else ""
    more = f"; ask for {name}#{number + 1} to read on" if number < parts else "; this is the last part"
    return f"{before}{text[start:stop]}\n(cut here: characters {start + 1} to {stop} of {len(text)}{more})\n"


def beginning(file: BinaryIO) -> str:
    """Return a log as text, its first MiB at most."""
    data = file.read(BYTES + 1)
    more = f"\n(cut here: only the first {BYTES} bytes are read)\n" if len(data) > BYTES else ""
    return clean(data[:BYTES]) + more


def tail(file: BinaryIO) -> str:
    """Return the last lines of a log, with a first line that says how much was left out; the end is never cut."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - TAIL_BYTES))
    lines = file.read(TAIL_BYTES).split(b"\n")
    if size > TAIL_BYTES:
        lines = lines[1:] or lines  # the first is not whole
    if lines and not lines[-1]:
        lines.pop()
    kept = [clean(line.rstrip(b"\r").rsplit(b"\r", 1)[-1]) for line in lines[-TAIL_LINES:]]  # a progress bar's last
    text = "".join(f"{line}\n" for line in kept)
    if len(kept) == len(lines) and size <= TAIL_BYTES and len(text) <= TAIL_CHARACTERS:
        return text
    told = f"(the last {len(kept)} lines of {size} bytes"
    if len(text) > TAIL_CHARACTERS:
        text, told = text[-TAIL_CHARACTERS:], f"{told}, of them the last {TAIL_CHARACTERS} characters"
    return f"{told})\n{text}"


def progress(file: BinaryIO) -> str:
    """Return the first and the last line of progress and evenly spaced ones between, whatever the file's size."""
    size = file.seek(0, os.SEEK_END)
    if size > WHOLE_BYTES:
        lines = _sampled(file, size)
        told = f"({len(lines)} lines of {size} bytes, evenly spaced)"
    else:
        file.seek(0)
        every = [line for line in file.read(WHOLE_BYTES).split(b"\n") if line.strip()]
        at = range(len(every)) if len(every) <= SAMPLES else _spaced(len(every) - 1)
        lines = [every[i] for i in at]
        told = f"({len(lines)} of {len(every)} lines, evenly spaced)" if len(lines) < len(every) else ""
    shown = [f"{line[:LINE]} (cut)" if len(line) > LINE else line for line in map(clean, lines)]
    return "".join(f"{line}\n" for line in ([told] if told else []) + shown)


def _spaced(last: int) -> list[int]:
    return [i * last // (SAMPLES - 1) for i in range(SAMPLES)]


def _sampled(file: BinaryIO, size: int) -> list[bytes]:
    """Return lines at evenly spaced bytes of a file too large to be read."""
    found: list[bytes] = []
    for at in _spaced(size - CHUNK_BYTES):
        file.seek(at)
        lines = file.read(CHUNK_BYTES).split(b"\n")
        whole = [line for line in (lines[:1] if at == 0 else lines[1:-1]) if line.strip()]
        if at == size - CHUNK_BYTES:
            whole = [line for line in lines[1:] if line.strip()][-1:]
        found += whole[:1]
    return found[:1] + [b for a, b in pairwise(found) if a != b]


def is_binary(data: bytes) -> bool:
    """Return whether bytes are no text: a NUL, or no UTF-8."""
    if b"\0" in data:
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return True
    return False


def pdf_text(data: bytes) -> str:
    """Return the text of a PDF, each page under a mark.

    Pages and characters are capped, and the last line says so. What it does not do: formulas and figures (the text of a
    PDF has neither), scanned pages, and a limit on time (a file made to be slow is; only files that a person names in
    the instruction are read).

    Raises:
        RefusedError: it is encrypted, broken, or has no text; says which.
    """
    from pypdf import PdfReader

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it tells every oddity of a file on stderr
    parts: list[str] = []
    try:
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted:
            raise RefusedError("the PDF is encrypted: a person can save a copy without a password")
        count, length = len(reader.pages), 0
        for number in range(1, min(count, PDF_PAGES) + 1):
            text = clean((reader.pages[number - 1].extract_text() or "").encode(errors="replace")).strip()
            parts.append(f"[page {number} of {count}]\n{text}\n")
            length += len(text)
            if length > PDF_CHARACTERS:
                break
    except RefusedError:
        raise
    except Exception as error:  # a parser of foreign files: anything may come out of it
        reason = clean(str(error).encode(errors="replace"))[:200]
        raise RefusedError(f"the PDF cannot be read ({type(error).__name__}: {reason})") from error
    if not length:
        raise RefusedError("the PDF has no text in it (scanned pages?)")
    more = f"\n(cut here: pages 1 to {len(parts)} of {count} are read)\n" if len(parts) < count else ""
    return "\n".join(parts)[: PDF_CHARACTERS + CHARACTERS] + more
