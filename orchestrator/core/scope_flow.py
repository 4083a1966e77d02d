"""What a piece of code reads, binds and leaves: questions about a syntax tree that know no rule."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from orchestrator.core.scope_units import FunctionNode


def leaves(body: list[ast.stmt]) -> bool:
    """Return whether statements may leave the block that they are in."""
    nodes: list[ast.AST] = list(body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Return | ast.Break | ast.Continue):
            return True
        if not isinstance(node, FunctionNode | ast.ClassDef):
            nodes += ast.iter_child_nodes(node)
    return False


def yields(function: FunctionNode) -> bool:
    """Return whether a function is a generator."""
    nodes: list[ast.AST] = list(function.body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(node, FunctionNode | ast.Lambda | ast.ClassDef):
            nodes += ast.iter_child_nodes(node)
    return False


def parameters(function: FunctionNode | ast.Lambda) -> list[ast.arg]:
    """Return the named parameters of a function."""
    args = function.args
    return [*args.posonlyargs, *args.args, *args.kwonlyargs]


def own_name(method: FunctionNode) -> str | None:
    """Return the name of a method's `self`; class and static methods have none."""
    plain = not any(isinstance(d, ast.Name) and d.id in ("staticmethod", "classmethod") for d in method.decorator_list)
    first = parameters(method)[:1]
    return first[0].arg if plain and first else None


def reads(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield (name, attribute) of the public attributes that a definition reads of bare names."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name) and not inner.attr.startswith("_"):
            yield inner.value.id, inner.attr


def root(node: ast.expr) -> ast.expr:
    """Return what attributes and items are taken of."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Starred):
        node = node.value
    return node


def stands_for(value: ast.expr, names: set[str]) -> bool:
    """Return whether an expression may be a part of what `names` name, and not something made from it."""
    if isinstance(value, ast.IfExp):
        return stands_for(value.body, names) or stands_for(value.orelse, names)
    if isinstance(value, ast.BoolOp | ast.Tuple | ast.List | ast.Set):
        parts = value.values if isinstance(value, ast.BoolOp) else value.elts
        return any(stands_for(part, names) for part in parts)
    if isinstance(value, ast.NamedExpr):
        return stands_for(value.value, names)
    base = root(value)
    return isinstance(base, ast.Name) and base.id in names


def assigned(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Yield (name, value) of what a statement or expression gives a name to."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            yield from _pairs(target, node.value)
    elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
        yield from _pairs(node.target, node.value)
    elif isinstance(node, ast.For | ast.comprehension):
        yield from _pairs(node.target, node.iter)
    elif isinstance(node, ast.withitem) and node.optional_vars is not None:
        yield from _pairs(node.optional_vars, node.context_expr)


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, ast.Starred):
        yield from _pairs(target.value, value)
    elif isinstance(target, ast.Tuple | ast.List):
        same = isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(target.elts)
        for i, part in enumerate(target.elts):
            yield from _pairs(part, value.elts[i] if same and isinstance(value, ast.Tuple | ast.List) else value)
