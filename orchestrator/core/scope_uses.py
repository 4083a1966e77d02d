"""What a definition does that edited code may not: each use with its line and the rule that it breaks.

Uses are counted by spelling: one that the definition had before may stay, one more is new and refused.
"""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from orchestrator.core import scope_flow as flow
from orchestrator.core import scope_rules as rules
from orchestrator.core.scope_units import FunctionNode, Unit

SHOWN_CHARS = 100


class Use(NamedTuple):
    """One use that breaks a rule."""

    key: str
    """Kind and spelling: equal uses are counted together."""
    line: int
    what: str
    rule: str


class Facts(NamedTuple):
    """What a unit is surrounded by."""

    origins: dict[str, str]
    """Name -> dotted origin of what the module imports."""
    names: frozenset[str]
    """Every name that the module binds, imports included."""
    constants: frozenset[str]
    """Names that the module assigns."""


def facts_of(*trees: ast.Module) -> Facts:
    """Return the facts of a module before and after an edit together; an origin is the earlier one."""
    origins: dict[str, str] = {}
    names: set[str] = set()
    constants: set[str] = set()
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                for name, origin in rules.imported(node):
                    origins.setdefault(name, origin)
        for statement in tree.body:
            bound = set(bindings(statement))
            names |= bound
            if not isinstance(statement, ast.Import | ast.ImportFrom | ast.ClassDef | FunctionNode):
                constants |= bound
    return Facts(origins, frozenset(names), frozenset(constants))


def bindings(node: ast.AST) -> Iterator[str]:
    """Yield the names that one statement of a module or class binds."""
    if isinstance(node, FunctionNode | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
        yield from (name for name, _ in rules.imported(node))
    else:
        for inner in ast.walk(node):
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                yield inner.id
            elif inner is not node and isinstance(inner, FunctionNode | ast.ClassDef | ast.Import | ast.ImportFrom):
                yield from bindings(inner)


def new_uses(before: Unit | None, after: Unit, facts: Facts) -> list[Use]:
    """Return the uses that break a rule and that the unit did not have before, by line."""
    old = _Reader(before, before, facts).uses() if before else []
    found: dict[str, list[Use]] = defaultdict(list)
    for use in _Reader(after, before, facts).uses():
        found[use.key].append(use)
    counts = Counter(use.key for use in old)
    new: list[Use] = []
    for key, uses in found.items():
        kept = counts[key]
        known = Counter(use.what for use in old if use.key == key)
        uses.sort(key=lambda use: (known[use.what] > 0, use.line))
        new += uses[: max(0, len(uses) - kept)]
    return sorted(new, key=lambda use: use.line)


class _Reader:
    """Reads one unit; `before` is the same unit before the edit, None for a new one."""

    def __init__(self, unit: Unit, before: Unit | None, facts: Facts) -> None:
        self.unit, self.before, self.facts = unit, before, facts
        self.parents = {
            inner: node for top in unit.nodes for node in ast.walk(top) for inner in ast.iter_child_nodes(node)
        }
        self.function = unit.nodes[0] if unit.nodes and isinstance(unit.nodes[0], FunctionNode) else None
        self.own = flow.own_name(self.function) if self.function and unit.owner else None
        parameters = flow.parameters(self.function) if self.function else []
        self.parameters = {a.arg for a in parameters} - {self.own}
        self.guarded = {a.arg for a in parameters if a.arg != self.own and before and not self._is_value(a)}
        self.given = {(root, attr) for node in before.nodes for root, attr in flow.reads(node)} if before else set()
        self.aliases = self._aliases()

    def uses(self) -> list[Use]:
        """Return every use that breaks a rule unless it was there before."""
        found = []
        for top in self.unit.nodes:
            for node in ast.walk(top):
                for kind, what, rule in self._problems(node):
                    line: int = getattr(node, "lineno", 0) or getattr(self.parents.get(node), "lineno", 0)
                    found.append(Use(f"{kind} {what}", line, what[:SHOWN_CHARS], rule))
        return found

    def _problems(self, node: ast.AST) -> Iterator[tuple[str, str, str]]:
        """Yield (kind, spelling, rule) of one node."""
        if isinstance(node, ast.Name):
            yield from self._name(node)
        elif isinstance(node, ast.Attribute):
            yield from self._attribute(node)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from self._import(node)
        elif isinstance(node, ast.Call):
            yield from self._call(node)
        elif isinstance(node, FunctionNode | ast.ClassDef):
            yield from self._definition(node)
        elif isinstance(node, ast.Constant | ast.JoinedStr | ast.BinOp):
            yield from self._string(node)
        elif isinstance(node, ast.ExceptHandler):
            yield from self._handler(node)
            yield from self._spelled(node)
        elif isinstance(node, ast.arg | ast.keyword | ast.MatchAs | ast.MatchStar | ast.MatchMapping | ast.MatchClass):
            yield from self._spelled(node)
        else:
            yield from _statement(node)
        if isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            yield from self._store(node)

    def _name(self, node: ast.Name) -> Iterator[tuple[str, str, str]]:
        name = node.id
        if name in rules.FORBIDDEN_NAMES:
            rule = f"the builtin `{name}` is not for training code"
            yield "name", self._whole(node), f"{rule}; name attributes and values directly, and end by returning"
        elif rules.is_dunder(name):
            yield "name", name, "names with two underscores on both sides are out of reach"
        elif rules.names_truth(name):
            yield "name", name, rules.TRUTH
        elif name == "Exception" and not self._is_raised(node):
            yield (
                "name",
                name,
                "it would swallow the stop of a run; catch or raise a narrow one (ValueError, RuntimeError)",
            )
        elif name == "type" and not self._is_question(node):
            yield "name", self._whole(node), "`type` may only ask for the type of one value; write a class statement"
        origin = self.facts.origins.get(name)
        if origin and isinstance(node.ctx, ast.Load) and not rules.importable(origin) and not self._is_known(origin):
            spelling = name if rules.of_project(origin) else self._whole(node)
            rule = f"`{name}` ({origin}) is outside of what an edit may use; uses that were there may stay as they are"
            yield "outside", spelling, rule
        if name in self.guarded:
            yield from self._guarded(node)
        elif not isinstance(node.ctx, ast.Load) and self._is_own(node):
            yield "rebind", name, f"`{name}` is the object itself and keeps its name; use another name"

    def _guarded(self, node: ast.Name) -> Iterator[tuple[str, str, str]]:
        if not isinstance(node.ctx, ast.Load):
            yield "rebind", node.id, f"the parameter `{node.id}` is read-only and keeps its name; use another name"
        elif not self._is_lent(node):
            spelling = ast.unparse(self.parents[node]) if node in self.parents else node.id
            rule = f"the parameter `{node.id}` gets no second name and is put into nothing; use its attributes"
            yield "lend", spelling, rule

    def _attribute(self, node: ast.Attribute) -> Iterator[tuple[str, str, str]]:
        attr, base = node.attr, node.value
        if problem := _attribute_problem(attr):
            yield "attribute", f".{attr}", problem
        elif rules.is_private(attr) and not self._is_own(base):
            yield (
                "private",
                f".{attr}",
                "private attributes (with a leading underscore) of other objects are out of reach",
            )
        elif isinstance(base, ast.Name) and base.id in self.guarded and (base.id, attr) not in self.given:
            given = ", ".join(sorted(a for root, a in self.given if root == base.id)) or "nothing"
            yield "given", f"{base.id}.{attr}", f"`{base.id}` gives this function only: {given}"
        dotted = self._dotted(node)
        apart = dotted and rules.of_project(dotted) and not (self._is_known(dotted) or rules.importable(dotted))
        if dotted and (apart or rules.denied(dotted)):
            yield "outside", dotted, "that part of the package is outside of what an edit may use"

    def _import(self, node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str, str]]:
        if problem := rules.import_problem(node):
            yield "import", ast.unparse(node), problem
        for name, origin in rules.imported(node):
            taken = name in self.facts.names and self.facts.origins.get(name) != origin
            if taken or name in self.parameters or name in rules.BUILTINS:
                yield "shadow", ast.unparse(node), f"the import hides the existing name `{name}`; import it as another"
            if rules.names_truth(name) or rules.names_truth(origin.rsplit(".", 1)[-1]):
                yield "name", name, rules.TRUTH

    def _call(self, node: ast.Call) -> Iterator[tuple[str, str, str]]:
        if isinstance(node.func, ast.Attribute) and node.func.attr in rules.MUTATORS:
            root = flow.root(node.func.value)
            if isinstance(root, ast.Name) and root.id in self.facts.constants:
                yield "mutate", ast.unparse(node), f"`{root.id}` belongs to the module; change a copy"
        elif isinstance(node.func, ast.Attribute) and node.func.attr.endswith("_") and node.func.attr[0] != "_":
            root = flow.root(node.func.value)
            if isinstance(root, ast.Name) and root.id in self.guarded | self.aliases | self.facts.constants:
                rule = f"`{root.id}` is read-only (or may stand for what is); change a copy (`.clone()`)"
                yield "mutate", ast.unparse(node), rule

    def _definition(self, node: FunctionNode | ast.ClassDef) -> Iterator[tuple[str, str, str]]:
        if isinstance(node, ast.AsyncFunctionDef):
            yield "async", f"async def {node.name}", "training code is not async; write a plain function"
        if isinstance(node, ast.ClassDef) and node.keywords:
            yield "metaclass", f"class {node.name}", "a class takes bases only, no metaclass or other keywords"
        existing = node is self.function and self.before
        if rules.is_dunder(node.name) and not existing and node.name not in rules.DEFINABLE_DUNDERS:
            allowed = ", ".join(sorted(rules.DEFINABLE_DUNDERS))
            yield "dunder", f"def {node.name}", f"methods with two underscores may be {allowed}"
        if rules.names_truth(node.name):
            yield "name", node.name, rules.TRUTH
        if node is self.function and isinstance(node, FunctionNode) and flow.yields(node):
            yield "yield", f"yield in {node.name}", "a function that returned becomes a generator; return the result"
        if node is not self.function and node.name in self.guarded:
            yield "rebind", node.name, f"the parameter `{node.name}` is read-only and keeps its name"

    def _handler(self, node: ast.ExceptHandler) -> Iterator[tuple[str, str, str]]:
        if node.type is None:
            yield "except", "except:", "a bare `except:` swallows the stop of a run; name the errors that you expect"
        for inner in ast.walk(node.type) if node.type else ():
            if isinstance(inner, ast.Name) and rules.of_project(self.facts.origins.get(inner.id, "")):
                rule = "errors of the code around this function end the run and are not caught here"
                yield "except", f"except {inner.id}", rule

    def _string(self, node: ast.expr) -> Iterator[tuple[str, str, str]]:
        parent = self.parents.get(node)
        if isinstance(parent, ast.JoinedStr | ast.FormattedValue) and isinstance(node, ast.Constant):
            return
        if isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.Add):
            return
        text = rules.text_of(node)
        if text is not None and (problem := rules.text_problem(text)):
            yield "string", repr(text), problem

    def _spelled(self, node: ast.AST) -> Iterator[tuple[str, str, str]]:
        names = [getattr(node, field, None) for field in ("arg", "name", "rest")]
        for name in filter(None, names):
            if rules.names_truth(name):
                yield "name", name, rules.TRUTH
            if name in self.guarded and not isinstance(node, ast.arg | ast.keyword):
                yield "rebind", name, f"the parameter `{name}` is read-only and keeps its name"
        for attr in node.kwd_attrs if isinstance(node, ast.MatchClass) else []:
            if problem := _attribute_problem(attr):
                yield "attribute", f".{attr}", problem
            elif rules.is_private(attr):
                yield "private", f".{attr}", "private attributes of other objects are out of reach"

    def _store(self, node: ast.Attribute | ast.Subscript) -> Iterator[tuple[str, str, str]]:
        root = flow.root(node)
        called = isinstance(root, ast.Call)
        while isinstance(root, ast.Call | ast.Attribute | ast.Subscript):
            root = root.func if isinstance(root, ast.Call) else root.value
        if not isinstance(root, ast.Name) or self._is_own(root):
            return
        name = root.id
        if name in self.guarded:
            rule = f"the parameter `{name}` is read-only; work on a copy under a new name"
        elif called and name not in ("type", "super"):
            return
        elif name in self.facts.names or name in self.facts.origins:
            rule = (
                f"`{name}` belongs to the module or is imported, and stays as it is for everyone; use local variables"
            )
        elif name in rules.BUILTINS:
            rule = f"the builtin `{name}` and the classes behind it stay as they are"
        elif name in self.aliases:
            rule = f"`{name}` may stand for a part of a parameter or of the module, which are read-only; change a copy"
        elif name in self.parameters and self.before and isinstance(node, ast.Attribute):
            if node.attr in rules.STORABLE:
                return
            rule = f"the parameter `{name}` is read-only but for .data, .grad and .requires_grad of its tensors"
        else:
            return
        yield "store", ast.unparse(node), f"assigning or deleting it is refused: {rule}"

    def _is_value(self, argument: ast.arg) -> bool:
        """Return whether the annotation says that a parameter is a plain value: of builtins, torch, or this module."""
        if argument.annotation is None:
            return False
        names = {n.id for n in ast.walk(argument.annotation) if isinstance(n, ast.Name)}
        if any(isinstance(n, ast.Constant) and isinstance(n.value, str) for n in ast.walk(argument.annotation)):
            return False
        origins = {name: self.facts.origins.get(name, "") for name in names}
        return all(
            origins[n] != "typing.Any" and (rules.importable(origins[n]) or n in rules.BUILTINS - {"object"}
                                           or (not origins[n] and n in self.facts.names))
            for n in names
        )  # fmt: skip

    def _is_known(self, dotted: str) -> bool:
        """Return whether an import binds a package of which parts are allowed, or a name of an allowed module."""
        module = dotted.rpartition(".")[0]
        return rules.importable(module) and not rules.denied(dotted)

    def _is_own(self, node: ast.AST) -> bool:
        """Return whether a name is the `self` of the method around it."""
        if not isinstance(node, ast.Name):
            return False
        above = self.parents.get(node)
        while above:
            named = flow.parameters(above) if isinstance(above, FunctionNode | ast.Lambda) else []
            if node.id in {a.arg for a in named}:
                method = (above is self.function and self.unit.owner) or isinstance(
                    self.parents.get(above), ast.ClassDef
                )
                return bool(method and isinstance(above, FunctionNode) and flow.own_name(above) == node.id)
            above = self.parents.get(above)
        return False

    def _is_raised(self, node: ast.Name) -> bool:
        call = self.parents.get(node)
        return isinstance(call, ast.Call) and call.func is node and isinstance(self.parents.get(call), ast.Raise)

    def _is_question(self, node: ast.Name) -> bool:
        above = self.parents.get(node)
        if isinstance(above, ast.Call) and above.func is node:
            return len(above.args) == 1 and not above.keywords and not isinstance(above.args[0], ast.Starred)
        return isinstance(above, ast.Subscript) and above.value is node

    def _is_lent(self, node: ast.Name) -> bool:
        """Return whether a parameter is only looked into, compared, or handed to a function of the module."""
        above = self.parents.get(node)
        if isinstance(above, ast.keyword):
            above = self.parents.get(above)
        if isinstance(above, ast.Call) and above.func is not node:
            root = flow.root(above.func)
            name = root.id if isinstance(root, ast.Name) else ""
            return name in self.facts.names or name in ("len", "isinstance")
        return isinstance(above, ast.Attribute | ast.Compare) or (
            isinstance(above, ast.Subscript) and above.value is node
        )

    def _whole(self, node: ast.expr) -> str:
        """Return the spelling of a name with the attributes, items and calls around it."""
        while True:
            above = self.parents.get(node)
            inner = getattr(above, "value", None) is node or getattr(above, "func", None) is node
            if not inner or not isinstance(above, ast.Attribute | ast.Subscript | ast.Call):
                return ast.unparse(node)
            node = above

    def _dotted(self, node: ast.Attribute) -> str | None:
        """Return the dotted origin of an attribute of something imported."""
        parts, base = [node.attr], node.value
        while isinstance(base, ast.Attribute):
            parts.append(base.attr)
            base = base.value
        origin = self.facts.origins.get(base.id) if isinstance(base, ast.Name) else None
        return ".".join([origin, *reversed(parts)]) if origin else None

    def _aliases(self) -> set[str]:
        """Return local names that may stand for a part of a read-only parameter, or of the module."""
        fixed = self.guarded | self.facts.names | set(self.facts.origins)
        pairs = [pair for top in self.unit.nodes for node in ast.walk(top) for pair in flow.assigned(node)]
        found: set[str] = set()
        while True:
            grown = found | {target for target, value in pairs if flow.stands_for(value, fixed | found)}
            if grown == found:
                return found
            found = grown


def _attribute_problem(attr: str) -> str | None:
    if rules.is_dunder(attr) and attr not in rules.ALLOWED_DUNDERS:
        return "attributes with two underscores on both sides are out of reach"
    return rules.TRUTH if rules.names_truth(attr) else rules.FORBIDDEN_ATTRIBUTES.get(attr)


def _statement(node: ast.AST) -> Iterator[tuple[str, str, str]]:
    """Yield the problems of statements that are wrong whatever they name."""
    if isinstance(node, ast.Global):
        yield "global", ast.unparse(node), "`global` is refused; pass values and return them"
    elif isinstance(node, ast.AsyncFor | ast.AsyncWith | ast.Await) or getattr(node, "is_async", False):
        yield "async", type(node).__name__, "training code is not async"
    elif isinstance(node, ast.Try | getattr(ast, "TryStar", ast.Try)) and flow.leaves(node.finalbody):
        rule = "return, break and continue in `finally:` swallow every error, the stop of a run included"
        yield "finally", "finally:", rule
