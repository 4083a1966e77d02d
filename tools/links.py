"""Check that relative links in the project's markdown lead to files: `python tools/links.py` (part of `make check`)."""

from __future__ import annotations

import sys
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

SKIPPED = ("tests/golden", ".venv", "explorations")


def targets(tokens: list[Token]) -> list[str]:
    """Return the link and image targets of parsed markdown."""
    found = []
    for token in tokens:
        for name in ("href", "src"):
            value = token.attrGet(name)
            if isinstance(value, str):
                found.append(value)
        found += targets(token.children or [])
    return found


def broken(path: Path) -> list[str]:
    """Return the relative targets of one file that do not exist."""
    links = targets(MarkdownIt().parse(path.read_text()))
    local = [t.split("#")[0] for t in links if "://" not in t and not t.startswith(("#", "mailto:"))]
    return [f"{path}: {t} does not exist" for t in local if not (path.parent / t).exists()]


def main() -> int:
    """Print broken links; return 1 if there are any."""
    files = [p for p in sorted(Path().rglob("*.md")) if not str(p).startswith(SKIPPED) and "/out" not in str(p)]
    found = [line for path in files for line in broken(path)]
    print("\n".join(found) or f"links: {len(files)} files, none broken")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
