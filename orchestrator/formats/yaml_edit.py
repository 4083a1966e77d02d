"""YAML that people write: read with YAML 1.2 numbers, change one value, keep every other byte.

`1e-4`, `1E-4` and `5E-3` are numbers here (plain PyYAML reads text), `yes` and `2026-11-20` are text, and a key
that stands twice in one mapping is an error. Changes splice the marks of one scalar, so comments, order and number
style survive.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import yaml

from orchestrator.core.records import Change
from orchestrator.errors import InstructionError

_ABSENT: Any = object()
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+)(?:[eE][-+]?[0-9]+)?"  # 1.5, 1e-4, 3.0E-3
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_LINE_ENDS = re.compile("[\x85\u2028\u2029\ufeff]")
"""What PyYAML would fold away in single quotes."""
_SIMPLE_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


class _Loader(yaml.SafeLoader):
    """SafeLoader with the YAML 1.2 core schema, unique text keys, and no merge keys."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's own attribute)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "`*alias` is not supported: write the value out", mark)
        return super().compose_node(parent, index)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        text = self.construct_scalar(node)
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                raise yaml.constructor.ConstructorError(None, None, "a key must be text", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
for _tag, _pattern, _first in (
    ("bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), "tTfF"),
    ("int", re.compile(f"^(?:{_INT.pattern})$"), "-+0123456789"),
    ("float", re.compile(f"^(?:{_FLOAT.pattern})$"), "-+0123456789."),
    ("null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, list(_first))


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes text which either YAML version would read as something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"^(?:{_FLOAT.pattern})$"), list("-+0123456789."))
_Dumper.add_representer(
    list,
    lambda dumper, data: dumper.represent_sequence(
        "tag:yaml.org,2002:seq", data, flow_style=not any(isinstance(x, dict | list) for x in data)
    ),
)
_Dumper.add_representer(
    str,
    lambda dumper, data: dumper.represent_scalar(
        "tag:yaml.org,2002:str", data, style='"' if _LINE_ENDS.search(data) else None
    ),
)
_Dumper.add_representer(tuple, lambda dumper, data: dumper.represent_list(list(data)))


@dataclass(frozen=True)
class Document:
    """A parsed YAML text that still knows its lines."""

    config: dict[str, Any]
    source: str
    """Name for messages, e.g. `explorations/sparse_gnn/config.yaml`."""
    lines: dict[str, int]
    """Dotted key -> 1-based line of the key."""

    def where(self, key: str) -> str:
        """Return `source:line` of a dotted key, or `source` when the text does not have it."""
        return f"{self.source}:{self.lines[key]}" if key in self.lines else self.source


def _fail(error: yaml.YAMLError, source: str) -> InstructionError:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).split("\n")[0]
    where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
    advice = "indent with spaces, never tabs" if "\\t" in str(problem) else "correct this line and run lint again"
    return InstructionError(f"{where}: not valid YAML: {problem}; {advice}")


def _compose(text: str, source: str) -> yaml.MappingNode:
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise _fail(error, source) from error
    except RecursionError as error:
        raise InstructionError(f"{source}: nested too deeply; a config has sections of keys") from error
    if node is None:
        raise InstructionError(f"{source}: the file is empty; expected `key: value` lines")
    if not isinstance(node, yaml.MappingNode):
        raise InstructionError(
            f"{source}:{node.start_mark.line + 1}: expected `key: value` lines, found one value or a list"
        )
    return node


def load(text: str, source: str) -> dict[str, Any]:
    """Return the mapping that `text` holds; raises InstructionError naming file, line and column."""
    _compose(text, source)
    try:
        data = yaml.load(text, Loader=_Loader)  # noqa: TID251 (our loader is a SafeLoader)
    except yaml.YAMLError as error:
        raise _fail(error, source) from error
    except ValueError as error:
        raise InstructionError(f"{source}: {error}") from error
    assert isinstance(data, dict)
    return data


def read(text: str, source: str) -> Document:
    """Return `text` parsed, with the line of each key. Raises InstructionError like `load`."""
    config, lines = load(text, source), {}

    def walk(node: yaml.Node, path: str) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                dotted = f"{path}{key.value}"
                lines[dotted] = key.start_mark.line + 1
                walk(value, f"{dotted}.")

    walk(_compose(text, source), "")
    return Document(config, source, lines)


def dump(config: Any) -> str:
    """Return `config` as block YAML in its own order; short lists stay on one line."""
    text: str = yaml.dump(
        config, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=120
    )
    return text


def number_text(value: float, like: str = "") -> str:
    """Return a float that every YAML version reads as this very number; `like` is the spelling it replaces."""
    text = repr(value)
    small = "e" in text.lower() or ("e" in like.lower() and value != 0 and not 0.01 <= abs(value) < 1e5)
    if not small:
        return text
    digits = next(d for d in range(1, 18) if float(f"{value:.{d}E}") == value)
    mantissa, exponent = f"{value:.{digits}E}".split("E")
    return f"{mantissa}E{int(exponent):+d}"


def scalar_text(value: Any, like: str = "") -> str:
    """Return one value (scalar or flat list) as it stands after `key: `. Raises InstructionError for anything else."""
    if isinstance(value, bool):
        return str(value).lower() if like in ("true", "false") else str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InstructionError(f"{value} cannot be written to a config; expected a finite number")
        return number_text(value, like)
    if isinstance(value, int):
        return str(value)
    if value is None:
        return "null"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(scalar_text(v) for v in value) + "]"
    if not isinstance(value, str):
        raise InstructionError(f"a {type(value).__name__} is no single value; expected a number, text or list")
    if not like.startswith(('"', "'")) and _SIMPLE_TEXT.fullmatch(value) and _is_text(value):
        return value
    quoted: str = yaml.dump(value, Dumper=_Dumper, default_style='"', width=2**30)
    return quoted.rstrip("\n")


def _is_text(value: str) -> bool:
    resolved = yaml.resolver.Resolver().resolve(yaml.ScalarNode, value, (True, False))  # type: ignore[no-untyped-call]
    return bool(resolved == "tag:yaml.org,2002:str") and value.lower() not in ("y", "n")


def _find(node: yaml.Node, path: str) -> yaml.Node | None:
    """Return the value node of a dotted path; keys that hold a dot themselves are found too."""
    if not isinstance(node, yaml.MappingNode):
        return None
    for key, value in node.value:
        if key.value == path:
            return value  # type: ignore[no-any-return]  # PyYAML's nodes are untyped
        if path.startswith(f"{key.value}."):
            found = _find(value, path[len(key.value) + 1 :])
            if found is not None:
                return found
    return None


def splice(text: str, values: dict[str, Any], source: str = "config.yaml") -> str:
    """Return `text` with the value of each dotted key replaced and every other character kept.

    Raises:
        InstructionError: a key is not there, its value is not one scalar or a list on one line, or the change would
            touch anything else (an anchor, say). Nothing is written by this function.
    """
    root, before = _compose(text, source), load(text, source)
    cuts: list[tuple[int, int, str]] = []
    intended: dict[str, Any] = {}
    for key, value in values.items():
        node = _find(root, key)
        if node is None:
            raise InstructionError(f"{source}: no key {key} to change; write it there first")
        plain = isinstance(node, yaml.ScalarNode) and node.style not in ("|", ">")
        if not plain and not (isinstance(node, yaml.SequenceNode) and node.flow_style):
            raise InstructionError(f"{source}:{node.start_mark.line + 1}: {key} is not one value on one line")
        if _same(_at(before, key), list(value) if isinstance(value, tuple) else value):
            continue
        start, end = node.start_mark.index, node.end_mark.index
        token = scalar_text(value, text[start:end])
        cuts.append((start, end, token if end > start else f" {token}"))
        intended[key] = list(value) if isinstance(value, tuple) else value
    for start, end, token in sorted(cuts, reverse=True):
        text = text[:start] + token + text[end:]
    changed = {c.key: c.new for c in diff(before, load(text, source))}
    if changed.keys() != intended.keys() or not all(_same(changed[k], v) for k, v in intended.items()):
        raise InstructionError(
            f"{source}: changing {', '.join(intended)} would change {', '.join(changed) or 'nothing'}; edit it by hand"
        )
    return text


def _at(config: Any, path: str) -> Any:
    return _flat(config).get(path, _ABSENT)


def _flat(config: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(config, dict) or (not config and path):
        return {path: config}
    found: dict[str, Any] = {}
    for key, value in config.items():
        found.update(_flat(value, f"{path}.{key}" if path else str(key)))
    return found


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and bool(a == b or (a != a and b != b))


def diff(a: dict[str, Any], b: dict[str, Any]) -> tuple[Change, ...]:
    """Return the leaves that differ, in the order of `a`, then what only `b` has; an absent side is None."""
    old, new = _flat(a), _flat(b)
    return tuple(
        Change(key=key, old=old.get(key), new=new.get(key))
        for key in dict.fromkeys((*old, *new))
        if not _same(old.get(key, _ABSENT), new.get(key, _ABSENT))
    )
