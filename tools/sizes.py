"""Check that modules and functions stay small: `python tools/sizes.py` (part of `make check`).

A module has at most 500 lines, a function 60; functions that the scientist may edit may have 150.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

MODULE_LINES = 500
FUNCTION_LINES = 60
EDITABLE_LINES = 150
EDITABLE = {"data_train_signal", "data_train_homeostasis", "data_train_stoichiometry"}
"""Each is read and edited alone, so it is one explicit loop."""
FOLDERS = ("orchestrator", "models", "trainers", "tools", "tests")


def problems(path: Path) -> list[str]:
    """Return what is too long in one file."""
    text = path.read_text()
    found = []
    if (count := len(text.splitlines())) > MODULE_LINES:
        found.append(f"{path}: {count} lines, at most {MODULE_LINES}")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            limit = EDITABLE_LINES if node.name in EDITABLE else FUNCTION_LINES
            if lines > limit:
                found.append(f"{path}:{node.lineno}: {node.name} has {lines} lines, at most {limit}")
    return found


def main() -> int:
    """Print what is too long; return 1 if anything is."""
    found = [p for folder in FOLDERS for path in sorted(Path(folder).rglob("*.py")) for p in problems(path)]
    print("\n".join(found) or "sizes: all modules and functions are within their limits")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
