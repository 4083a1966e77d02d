"""Checks of an edited text before it is read as Python: characters, sizes, and that code is ASCII.

They come first because the later ones rely on them: that a line is what Python takes for one, that what a person sees
is what Python reads, and that nothing costly is done with a huge text.
"""

from __future__ import annotations

import io
import re
import tokenize
import unicodedata

from orchestrator.core import editing
from orchestrator.errors import RefusedError

FILE_BYTES = 64 * 1024
"""Largest file after an edit."""
FILE_LINES = 3000
"""Most lines of it."""
EDIT_LINES = 200
"""Most lines that one edit adds and removes together."""
EDIT_CHARS = 16 * 1024
"""Most characters in those lines."""
INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories of characters that are not seen, or that reorder what is."""
NAMED = {"\r": "a carriage return; lines end with \\n alone", "\0": "a NUL character", "\f": "a form feed"}
COOKIE = re.compile(r"^[ \t]*#.*?coding[:=]")
"""What Python takes for the declaration of a file's encoding, on its first two lines."""


def check_text(path: str, before: str, after: str) -> None:
    """Raise RefusedError unless `after` is a plain text of a size, and the edit is small."""
    if not isinstance(after, str):
        raise RefusedError(f"{path}: the new text is of type {type(after).__name__}, expected text")
    if len(after) > FILE_BYTES or len(after.encode(errors="replace")) > FILE_BYTES or after.count("\n") > FILE_LINES:
        raise RefusedError(
            f"{path}: a file of {len(after)} characters in {after.count(chr(10))} lines is too large, at most "
            f"{FILE_BYTES} bytes and {FILE_LINES} lines; make a smaller edit"
        )
    _check_characters(path, after)
    if not after.endswith("\n"):
        raise RefusedError(f"{path}: the last line has no newline at its end; end the text with one")
    for number, line in enumerate(after.split("\n")[:2], 1):
        if COOKIE.match(line) and line not in before.split("\n")[:2]:
            raise RefusedError(f"{path} line {number}: an encoding declaration is refused: files are UTF-8; leave it")
    _check_size(path, before, after)


def _check_characters(path: str, text: str) -> None:
    for number, line in enumerate(text.split("\n"), 1):
        if line.isascii() and line.isprintable():
            continue
        for character in line:
            if character != "\t" and unicodedata.category(character) in INVISIBLE:
                what = NAMED.get(character, f"the invisible control character U+{ord(character):04X}")
                raise RefusedError(
                    f"{path} line {number}: refused, it has {what}; only visible characters, spaces and tabs are code"
                    " (write others as an escape in a string)"
                )


def _check_size(path: str, before: str, after: str) -> None:
    """Refuse a large edit; difflib sees only texts of which a lower bound of the difference is small."""
    count, chars = editing.least_change(before, after), 0
    if count <= EDIT_LINES:
        added, removed = editing.changed_lines(before, after)
        count, chars = len(added) + len(removed), sum(map(len, (*added, *removed)))
    if count > EDIT_LINES or chars > EDIT_CHARS:
        raise RefusedError(
            f"{path}: the edit is too large: {count} lines added and removed"
            f"{f' with {chars} characters' if chars else ''}, at most {EDIT_LINES} lines and {EDIT_CHARS} characters; "
            "make one change at a time and leave the other lines as they are"
        )


def check_ascii(path: str, text: str) -> None:
    """Raise RefusedError unless everything but strings and comments is ASCII; the text is known to parse."""
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            quoted = token.type in (tokenize.STRING, tokenize.COMMENT) or "FSTRING" in tokenize.tok_name[token.type]
            if not quoted and not token.string.isascii():
                raise RefusedError(
                    f"{path} line {token.start[0]}: `{token.string.strip()}` is refused: only strings and comments may "
                    "have characters that are not ASCII (a look-alike letter makes another name, or the same one); "
                    "write the name in ASCII"
                )
    except (tokenize.TokenError, SyntaxError) as error:
        raise RefusedError(f"{path}: the text cannot be split into tokens ({error}); write it more plainly") from error
