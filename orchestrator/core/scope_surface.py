"""What an edit must leave as it is: the text around a permitted function, or the public surface of a whole file."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Sequence

from orchestrator.core import scope_rules as rules
from orchestrator.core.scope_units import FunctionNode, Unit, first_line, form, last_line
from orchestrator.core.scope_uses import bindings
from orchestrator.errors import RefusedError

Text = tuple[str, ast.Module]
PLAIN = (
    ast.Constant, ast.Tuple, ast.List, ast.Set, ast.Dict, ast.Name, ast.Attribute, ast.UnaryOp, ast.BinOp, ast.operator,
    ast.unaryop, ast.expr_context, ast.Subscript, ast.Slice,
)  # fmt: skip
"""Parts of an expression that calls nothing."""
BELONGS = re.compile(r"\s*|\s+#.*")
"""Lines that belong to the function above them: blank ones, and indented comments."""
DEFINITION = FunctionNode | ast.ClassDef


def check_functions(path: str, names: Sequence[str], before: Text, after: Text) -> None:
    """Raise RefusedError unless two texts are the same but for the bodies of the named functions of the module."""
    listed = " and ".join(names)
    for name in names:
        _check_signature(path, _only(path, name, before[1], "before the edit"), _only(path, name, after[1], "after it"))
    old, new = _around(names, before), _around(names, after)
    if [n for n, _ in old] != [n for n, _ in new]:
        raise RefusedError(f"{path}: the functions {listed} must keep their order")
    for (_, was), (_, now) in zip(old, new, strict=True):
        was_lines, now_lines = [line for _, line in was], [line for _, line in now]
        if was_lines != now_lines:
            raise RefusedError(_outside(path, listed, was_lines, now))
    if _skeleton(names, before[1]) != _skeleton(names, after[1]):
        raise RefusedError(f"{path}: code outside of function {listed} means something else after the edit; only the "
                           f"body of {listed} may change")  # fmt: skip


def _only(path: str, name: str, tree: ast.Module, when: str) -> FunctionNode:
    """Return the one function of that name of a module."""
    found = [node for node in tree.body if isinstance(node, FunctionNode) and node.name == name]
    if len(found) == 1:
        return found[0]
    there = ", ".join(node.name for node in tree.body if isinstance(node, FunctionNode)) or "none"
    if not found:
        raise RefusedError(f"{path}: {when} there is no function `{name}`: it may not be deleted or renamed, and stays "
                           f"at the top level of the module; functions there: {there}")  # fmt: skip
    raise RefusedError(f"{path} line {found[1].lineno}: a second definition of `{name}`, expected exactly one; change "
                       "the one that is there")  # fmt: skip


def _check_signature(path: str, before: FunctionNode, after: FunctionNode) -> None:
    """Raise RefusedError unless name, parameters, defaults, annotations, decorators and kind are the same."""
    if _head(before) != _head(after):
        raise RefusedError(
            f"{path} line {after.lineno}: the signature of `{before.name}` must stay as it is, decorators and defaults "
            f"included\n  expected: {_shown(before)}\n  got:      {_shown(after)}"
        )


def _head(node: ast.stmt) -> str:
    """Return a definition without its body."""
    fields = [(f, getattr(node, f, None)) for f in node._fields if f not in ("body", "type_comment")]
    return f"{type(node).__name__} {[(f, form(v)) for f, v in fields if v]}"


def _shown(node: ast.stmt) -> str:
    """Return a definition's head as code."""
    if isinstance(node, FunctionNode):
        kind = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        head = f"{kind} {node.name}({ast.unparse(node.args)}){returns}"
    elif isinstance(node, ast.ClassDef):
        head = f"class {node.name}({', '.join(ast.unparse(x) for x in (*node.bases, *node.keywords))})"
    else:
        return ast.unparse(node)
    return " ".join([*(f"@{ast.unparse(d)}" for d in node.decorator_list), head])


def _around(names: Sequence[str], text: Text) -> list[tuple[str, list[tuple[int, str]]]]:
    """Return the numbered lines before each permitted function and after the last one, in order.

    Blank lines and indented comments that follow a function belong to it.
    """
    lines = text[0].split("\n")
    found, start = [], 0
    functions = [n for n in text[1].body if isinstance(n, FunctionNode) and n.name in names]
    for node in functions:
        found.append((node.name, [(n + 1, lines[n]) for n in range(start, first_line(node) - 1)]))
        start = last_line(node)
        while start < len(lines) and BELONGS.fullmatch(lines[start]):
            start += 1
    return [*found, ("", [(n + 1, lines[n]) for n in range(start, len(lines))])]


def _outside(path: str, listed: str, was: list[str], now: list[tuple[int, str]]) -> str:
    """Return the refusal for text that differs outside of the permitted functions."""
    for n, (number, line) in enumerate(now):
        if n >= len(was) or was[n] != line:
            expected = f"expected: {was[n]!r}" if n < len(was) else "expected nothing more"
            where = f"line {number}: the text outside of function {listed} must stay as it is, byte for byte"
            return f"{path} {where}\n  {expected}\n  got:      {line!r}\nonly the body of {listed} may change"
    number = now[-1][0] + 1 if now else 1
    return (
        f"{path} line {number}: text outside of function {listed} is missing, it must stay as it is, byte for byte\n"
        f"  expected: {was[len(now)]!r}\nonly the body of {listed} may change"
    )


def _skeleton(names: Sequence[str], tree: ast.Module) -> list[str]:
    return [_head(n) if isinstance(n, FunctionNode) and n.name in names else form(n) for n in tree.body]


def check_surface(path: str, before: ast.Module, after: ast.Module) -> None:
    """Raise RefusedError unless a file keeps its public names and signatures, and gets no new kind of statement."""
    _Surface(path, after).check("", before.body, after.body)


class _Surface:
    """Compares the bodies of modules and classes."""

    def __init__(self, path: str, after: ast.Module) -> None:
        self.path = path
        self.imported = {name for node in ast.walk(after) if _is_import(node) for name in bindings(node)}

    def check(self, owner: str, old: list[ast.stmt], new: list[ast.stmt], *, known: bool = True) -> None:
        """Raise RefusedError unless `new` keeps what is public in `old`; a class that is not `known` has new names."""
        self._names(owner, old, new, known)
        self._statements(owner, old, new)
        heads = {_head(node) for node in old if isinstance(node, DEFINITION)}
        classes = {node.name: node for node in old if isinstance(node, ast.ClassDef)}
        for node in new:
            if isinstance(node, DEFINITION) and _head(node) not in heads:
                self._head_is_plain(node)
            if isinstance(node, ast.ClassDef):
                was = classes.get(node.name)
                self.check(f"{owner}{node.name}.", was.body if was else [], node.body, known=was is not None)

    def _names(self, owner: str, old: list[ast.stmt], new: list[ast.stmt], known: bool) -> None:
        was, now = _bound(old), _bound(new)
        for name, nodes in was.items():
            if name.startswith("_") and not rules.is_dunder(name):
                continue
            if name not in now:
                raise RefusedError(f"{self.path}: the public name `{owner}{name}` is gone; public names must stay, "
                                   "each with its signature")  # fmt: skip
            self._same_signature(f"{owner}{name}", nodes, now[name])
        for name, nodes in now.items():
            line = nodes[-1].lineno
            if known and name not in was and not rules.is_private(name):
                raise RefusedError(
                    f"{self.path} line {line}: the new name `{owner}{name}` is public; new functions, classes, methods "
                    f"and constants must be private helpers: `{owner}_{name.strip('_')}`"
                )
            if len(nodes) > max(1, len(was.get(name, ()))):
                raise RefusedError(f"{self.path} line {line}: a second definition of `{owner}{name}`; a name is bound "
                                   "once, change the one that is there")  # fmt: skip
        hidden, there = _hidden(new), _hidden(old)
        for node in new:
            for name, _ in _pairs(node):
                if name in hidden - there:
                    raise RefusedError(f"{self.path} line {node.lineno}: the import hides another `{owner}{name}`; "
                                       "import it under another name")  # fmt: skip

    def _same_signature(self, name: str, old: list[ast.stmt], new: list[ast.stmt]) -> None:
        was = [_head(n) if isinstance(n, DEFINITION) else "constant" for n in old]
        now = [_head(n) if isinstance(n, DEFINITION) else "constant" for n in new]
        if was != now and len(was) >= len(now):
            raise RefusedError(
                f"{self.path} line {new[0].lineno}: the signature of `{name}` must stay as it is, with bases, decorators "
                f"and defaults\n  expected: {_shown(old[0])}\n  got:      {_shown(new[0])}"
            )

    def _statements(self, owner: str, old: list[ast.stmt], new: list[ast.stmt]) -> None:
        """Refuse new or changed statements that are no definition, no import and no constant."""
        was, now = [s for s in old if not _is_plain(s)], [s for s in new if not _is_plain(s)]
        for n, node in enumerate(now):
            if n >= len(was) or form(was[n]) != form(node):
                raise RefusedError(
                    f"{self.path} line {node.lineno}: `{ast.unparse(node)[:80]}` is refused: statements of a "
                    f"{'class' if owner else 'module'} that are no def, class, import or constant (name = literals) "
                    "may not be added or changed; put the code into a function"
                )
        if len(now) < len(was):
            gone = ast.unparse(was[len(now)])[:80]
            raise RefusedError(f"{self.path}: the statement `{gone}` is gone; statements outside of definitions stay")
        fields = [form(s) for s in old if isinstance(s, ast.AnnAssign)]
        if owner and old and fields != [form(s) for s in new if isinstance(s, ast.AnnAssign)]:
            raise RefusedError(f"{self.path}: the fields of class `{owner[:-1]}` must stay as they are: they are part "
                               "of its signature")  # fmt: skip

    def _head_is_plain(self, node: ast.stmt) -> None:
        """Refuse a definition whose head runs code when the module is imported."""
        parts: list[ast.expr] = []
        if isinstance(node, FunctionNode):
            every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
            notes = [node.returns, *(a.annotation for a in every if a)]
            parts = [p for p in (*node.args.defaults, *node.args.kw_defaults, *notes) if p]
        elif isinstance(node, ast.ClassDef):
            parts = [*node.bases, *(k.value for k in node.keywords)]
        for part in parts:
            if not _calls_nothing(part):
                raise RefusedError(f"{self.path} line {part.lineno}: `{ast.unparse(part)[:80]}` is refused: defaults, "
                                   "annotations and bases run when the module is imported, so they are names and "
                                   "literals; compute the value in the body")  # fmt: skip
        for decorator in getattr(node, "decorator_list", []):
            call = decorator if isinstance(decorator, ast.Call) else None
            inner = [*call.args, *(k.value for k in call.keywords)] if call else []
            root = call.func if call else decorator
            while isinstance(root, ast.Attribute):
                root = root.value
            usable = isinstance(root, ast.Name) and root.id in self.imported | rules.BUILTINS
            if not usable or not all(map(_calls_nothing, inner)):
                raise RefusedError(f"{self.path} line {decorator.lineno}: the decorator `@{ast.unparse(decorator)[:80]}` is "
                                   "refused: it runs when the module is imported; use an imported one such as "
                                   "torch.no_grad()")  # fmt: skip


def _bound(body: list[ast.stmt]) -> dict[str, list[ast.stmt]]:
    """Return name -> statements that bind it, imports aside."""
    found: dict[str, list[ast.stmt]] = {}
    for node in body:
        for name in () if _is_import(node) else bindings(node):
            found.setdefault(name, []).append(node)
    return found


def _hidden(body: list[ast.stmt]) -> set[str]:
    """Return the names that a body's imports bind and that something else binds, too."""
    things = Counter(name for name, _ in {pair for node in body for pair in _pairs(node)}) + Counter(list(_bound(body)))
    return {name for name, count in things.items() if count > 1}


def _pairs(node: ast.stmt) -> list[tuple[str, str]]:
    return rules.imported(node) if isinstance(node, ast.Import | ast.ImportFrom) else []


def _is_plain(node: ast.stmt) -> bool:
    """Return whether a statement is a definition, an import, or gives one name a value that calls nothing."""
    if isinstance(node, ast.Assign):
        return len(node.targets) == 1 and isinstance(node.targets[0], ast.Name) and _calls_nothing(node.value)
    if isinstance(node, ast.AnnAssign):
        return isinstance(node.target, ast.Name) and all(
            map(_calls_nothing, filter(None, (node.value, node.annotation)))
        )
    return isinstance(node, DEFINITION | ast.Import | ast.ImportFrom | ast.Pass)


def _calls_nothing(node: ast.expr) -> bool:
    return all(isinstance(inner, PLAIN) for inner in ast.walk(node))


def rewrites(before: Unit, after: Unit) -> bool:
    """Return whether a statement of the module, imports aside, was changed or taken away."""
    was, now = (Counter(form(s) for s in u.nodes if not _is_import(s)) for u in (before, after))
    return bool(was - now)


def _is_import(node: ast.AST) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)
