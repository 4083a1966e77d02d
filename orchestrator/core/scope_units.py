"""A Python text as definitions: what is compared when code changes, with comments, docstrings and layout left out.

A unit is a function of the module, a method, what a class holds beside its methods, or the module's other statements.
"""

from __future__ import annotations

import ast
import copy
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

from orchestrator.core.editing import changed_of
from orchestrator.core.records import CodeEdit, sha_of
from orchestrator.errors import RefusedError

MODULE = "(module)"
"""Unit of the statements outside every definition."""
LAYOUT = frozenset({"ctx", "kind", "type_comment", "type_ignores"})
"""Fields of a syntax tree that say nothing of what the code does."""

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


class Unit(NamedTuple):
    """One unit of a text."""

    nodes: tuple[ast.stmt, ...]
    """Several when a name is defined more than once, and of `(module)`."""
    lines: tuple[str, ...]
    """Its text, to be counted."""
    owner: str = ""
    """Class of a method."""

    @property
    def form(self) -> str:
        """What the unit does; equal for two texts that differ in comments, docstrings or layout alone."""
        return form(self.nodes)


def parse(path: str, text: str) -> ast.Module:
    """Return the tree of a text that compiles, docstrings left out; raises RefusedError with line, text and message."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
            compile(text, path, "exec", dont_inherit=True)
        form(tree.body)
        _bare(tree)
        return tree
    except SyntaxError as error:
        lines = text.split("\n")
        number = error.lineno or 1
        shown = lines[number - 1].strip()[:120] if number <= len(lines) else ""
        raise RefusedError(
            f"{path} line {number}: `{shown}` is no valid Python: {error.msg}; mend this line (or one just above it) "
            "and send the edit again"
        ) from error
    except (RecursionError, MemoryError, ValueError, OverflowError) as error:
        raise RefusedError(
            f"{path}: the code cannot be parsed: too deeply nested or too large a literal ({type(error).__name__}); "
            "write it as several statements"
        ) from error


def _bare(tree: ast.Module) -> None:
    """Take out of a tree what does nothing: docstrings, other bare constants, `pass` beside other statements."""
    for node in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            statements = getattr(node, field, None)
            if isinstance(statements, list):
                kept = [s for s in statements if not _idle(s)]
                if not kept and field == "body" and statements:
                    kept = [ast.copy_location(ast.Pass(), statements[0])]
                setattr(node, field, kept)


def _idle(node: ast.stmt) -> bool:
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def form(value: object) -> str:
    """Return a spelling of a tree (or of several) that is the same for every version of Python."""
    if isinstance(value, ast.AST):
        fields = ((name, getattr(value, name, None)) for name in value._fields if name not in LAYOUT)
        inner = ",".join(f"{name}={form(item)}" for name, item in fields if item is not None and item != [])
        if isinstance(value, ast.Constant):
            inner = (
                f"{type(value.value).__name__}={hex(value.value) if type(value.value) is int else repr(value.value)}"
            )
        return f"{type(value).__name__}({inner})"
    if isinstance(value, list | tuple):
        return f"[{','.join(form(item) for item in value)}]"
    return repr(value)


def first_line(node: ast.stmt) -> int:
    """Return the number of the first line of a statement, decorators included."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(d.lineno for d in decorators)])


def last_line(node: ast.stmt) -> int:
    """Return the number of the last line of a statement."""
    return node.end_lineno or node.lineno


def units(tree: ast.Module, text: str) -> dict[str, Unit]:
    """Return the units of a text by name, in its order, `(module)` last."""
    lines = text.split("\n")
    found: dict[str, Unit] = {}
    loose, outside = _split(tree.body, range(1, len(lines) + 1), FunctionNode | ast.ClassDef)
    for name, node, inside, owner in _definitions(tree):
        old = found.get(name, Unit((), (), owner))
        found[name] = Unit((*old.nodes, node), (*old.lines, *(lines[n - 1] for n in inside)), owner)
    found[MODULE] = Unit(tuple(loose), tuple(lines[n - 1] for n in outside))
    return found


def _definitions(tree: ast.Module) -> Iterator[tuple[str, ast.stmt, list[int], str]]:
    """Yield (unit, node, its lines, class) of the functions and classes of a module and the methods of the latter."""
    for node in tree.body:
        whole = range(first_line(node), last_line(node) + 1)
        if isinstance(node, FunctionNode):
            yield node.name, node, list(whole), ""
        elif isinstance(node, ast.ClassDef):
            loose, outside = _split(node.body, whole, FunctionNode)
            shell = copy.copy(node)
            shell.body = loose
            yield node.name, shell, outside, ""
            for inner in node.body:
                if isinstance(inner, FunctionNode):
                    own = list(range(first_line(inner), last_line(inner) + 1))
                    yield f"{node.name}.{inner.name}", inner, own, node.name


def _split(body: list[ast.stmt], lines: range, apart: Any) -> tuple[list[ast.stmt], list[int]]:
    """Return the statements of a body that are not of the types `apart`, and the numbers of the lines beside those."""
    inside = {n for s in body if isinstance(s, apart) for n in range(first_line(s), last_line(s) + 1)}
    return [s for s in body if not isinstance(s, apart)], [n for n in lines if n not in inside]


def edits(path: str, before: dict[str, Unit], after: dict[str, Unit]) -> tuple[CodeEdit, ...]:
    """Return what became of each unit that differs, in the order of the new text, units that are gone last."""
    nothing = Unit((), ())
    found = []
    for name in (*after, *(n for n in before if n not in after)):
        old, new = before.get(name, nothing), after.get(name, nothing)
        if old.form == new.form:
            continue
        added, removed = changed_of(list(old.lines), list(new.lines))
        sha = sha_of([old.form, new.form])
        found.append(CodeEdit(path=path, unit=name, added=len(added), removed=len(removed), sha=sha))
    return tuple(found)
