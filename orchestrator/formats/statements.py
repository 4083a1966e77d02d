"""Formulas and shapes that an instruction states in passing: what `contradictions` holds against each other."""

from __future__ import annotations

import re
from collections.abc import Iterator

from orchestrator.formats.draft import LineOf, Reduction
from orchestrator.formats.markdown import Fence, Item, Paragraph, Table, Text, codes, plain

_NORMAL = re.compile(r"N\(0,\s*1/(√\s*n|sqrt\(?n\)?|n)\)")
_REDUCED = re.compile(r"\b(coeff\w*)\s*[*·×]\s*(sum|mean)(?=[_\s(])")
_LAYERS = re.compile(r"\bMLP\(\[([^\]]+)\]\)")


def _lines(text: Text) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of paragraphs, list items and code blocks."""
    for block in text.blocks:
        if isinstance(block, Paragraph):
            yield from enumerate(block.lines, start=block.line)
        elif isinstance(block, Fence):
            yield from enumerate(block.text.split("\n"), start=block.line)
        elif isinstance(block, Item):
            yield block.line, block.text


def noise_scales(text: Text) -> list[LineOf]:
    """Return every stated distribution N(0, 1/n) or N(0, 1/√n)."""
    found = []
    for line, content in _lines(text):
        for match in _NORMAL.finditer(content):
            scale = "N(0, 1/n)" if match[1] == "n" else "N(0, 1/√n)"
            found.append(LineOf(text=scale, line=line))
    return found


def reductions(text: Text) -> list[Reduction]:
    """Return the loss terms written as coefficient times a sum or a mean, in formulas and in tables of keys."""
    found = []
    for line, content in _lines(text):
        found += [Reduction(name=m[1], word=m[2], line=line) for m in _REDUCED.finditer(content)]
    for table in (b for b in text.blocks if isinstance(b, Table)):
        at, term = table.column("parameter"), table.column("loss term", "term", "formula")
        if at is not None and term is not None:
            for line, cells in table.rows:
                match = _REDUCED.search(plain(cells[term]))
                name = (codes(cells[at]) or [plain(cells[at])])[0]
                found += [Reduction(name=name, word=match[2], line=line)] if match else []
    return sorted(found, key=lambda r: r.line)


def layers(text: Text) -> list[LineOf]:
    """Return the widths of every `MLP([...])`, as written."""
    return [LineOf(text=m[1], line=line) for line, content in _lines(text) for m in _LAYERS.finditer(content)]
