"""The static check of code edits: only what a contract's scopes permit may change, and nothing reaches out.

Pure: texts in, records or a refusal out. The rules, in order: a plain small text (`scope_text`), a path in scope, valid
Python, everything outside the permitted function (or every public name and signature of a whole file) the same, one
definition at a time, and no new use of what training code has no business with (`scope_rules`, `scope_uses`).

What it does not stop. The check is for early refusals that teach; the guarantee is the sandbox, in which the code has
no key, no network and no truth in reach, and the trusted scorer, which reads estimates alone. It does not see through:

* names and paths put together at run time (`"/pr" + chr(111) + "c"`, `"".join(...)`), and values moved through
  containers, returned by calls, or passed to helpers: `box = dict(a=run)` is refused, `box(run)` of a helper is not;
* methods that overwrite what a library reaches by themselves (`register_buffer`, private hooks that `nn.Module` calls
  and a new private method may override), and in-place changes of a tensor that shares memory with a parameter's;
* uses that were there before: an edit may move them, or call them in another order;
* anything that the estimates can be made of: a constant, a guess, the training data; that is for metrics and people;
* work without end, memory without bound, random states that are reset: limits and the trial in the sandbox;
* what allowed libraries do inside (torch and numpy are large: the denied parts are those that we know of).
"""

from __future__ import annotations

import ast
import posixpath
import unicodedata

from orchestrator.core.contract import Scope
from orchestrator.core.records import CodeEdit
from orchestrator.core.scope_surface import check_functions, check_surface, rewrites
from orchestrator.core.scope_text import check_ascii, check_text
from orchestrator.core.scope_units import MODULE, Unit, edits, parse, units
from orchestrator.core.scope_uses import Use, facts_of, new_uses
from orchestrator.errors import RefusedError

REPORTED = 5
"""Problems that one refusal names, so that all can be mended at once."""


def check(
    scopes: tuple[Scope, ...], path: str, before: str, after: str, *, most: int | None = 1
) -> tuple[CodeEdit, ...]:
    """Return what an edit of a file changes; raises RefusedError unless it keeps the scope.

    Args:
        scopes: code that may be edited.
        path: file of the edit, as the scopes spell it.
        before: its text now.
        after: its text then.
        most: existing definitions that may change; None is any number (edits that are taken together).
    """
    check_text(path, before, after)
    names = _permitted(scopes, path)
    old, new = parse(path, before), parse(path, after)
    check_ascii(path, after)
    if names is not None:
        check_functions(path, names, (before, old), (after, new))
    else:
        check_surface(path, old, new)
    was, now = units(old, before), units(new, after)
    found = edits(path, was, now)
    if not found:
        raise RefusedError(
            f"{path}: the edit changes no code (only comments, docstrings or layout, or nothing at all); change what "
            "the code does, or leave the file as it is"
        )
    _check_number(path, was, now, found, most)
    _check_uses(path, (old, was), (new, now), found)
    return found


def changed(path: str, before: str, after: str) -> tuple[CodeEdit, ...]:
    """Return what an edit of a file changes, allowed or not; raises RefusedError when a text is no Python."""
    return edits(path, units(parse(path, before), before), units(parse(path, after), after))


def editable(scopes: tuple[Scope, ...]) -> str:
    """Return what may be edited, as refusals list it."""
    listed = [f"{s.path}: function {s.function}" if s.function else s.path for s in scopes]
    return ", ".join(dict.fromkeys(listed)) or "nothing"


def _permitted(scopes: tuple[Scope, ...], path: str) -> tuple[str, ...] | None:
    """Return the functions of a file that may change, None for the whole file; raises RefusedError for another file."""
    own = [s for s in scopes if posixpath.normpath(s.path) == path]
    if own:
        names = [s.function for s in own if s.function]
        return tuple(dict.fromkeys(names)) if len(names) == len(own) else None
    plain = posixpath.normpath(unicodedata.normalize("NFKC", path).strip().replace("\\", "/")).lstrip("/")
    near = next((s.path for s in scopes if posixpath.normpath(s.path) == plain), None)
    hint = f" Write `{near}` exactly so." if near else ""
    raise RefusedError(f"{path!r} may not be edited: it is not in scope.{hint} What may be edited: {editable(scopes)}")


def _check_number(
    path: str, was: dict[str, Unit], now: dict[str, Unit], found: tuple[CodeEdit, ...], most: int | None
) -> None:
    """Raise RefusedError when more existing definitions change than one edit may."""
    counted = [e.unit for e in found if e.unit in was and (e.unit != MODULE or rewrites(was[MODULE], now[MODULE]))]
    if most is not None and len(counted) > most:
        raise RefusedError(
            f"{path}: the edit changes {len(counted)} existing definitions ({', '.join(counted)}), at most {most} in "
            "one edit (one change at a time, so that its effect can be told); new private helpers beside it are fine"
        )


def _check_uses(
    path: str,
    old: tuple[ast.Module, dict[str, Unit]],
    new: tuple[ast.Module, dict[str, Unit]],
    found: tuple[CodeEdit, ...],
) -> None:
    """Raise RefusedError when a changed or new definition does what edited code may not."""
    facts = facts_of(old[0], new[0])
    problems: list[Use] = []
    for edit in found:
        if unit := new[1].get(edit.unit):
            problems += new_uses(old[1].get(edit.unit), unit, facts)
    by_line = {use.line: use for use in reversed(problems)}
    told = [f"{path} line {n}: `{by_line[n].what}` is refused: {by_line[n].rule}" for n in sorted(by_line)]
    if told:
        more = [f"and {len(told) - REPORTED} more lines"] if len(told) > REPORTED else []
        raise RefusedError("\n".join(told[:REPORTED] + more))
