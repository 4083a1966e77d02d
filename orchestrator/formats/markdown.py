"""Markdown as a flat list of blocks, each with its line and the headings above it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markdown_it.token import Token

CODE = re.compile(r"`([^`]+)`")
_MARKS = re.compile(r"\*\*|__|`")


@dataclass(frozen=True)
class Block:
    """Anything in a document; `line` is 1-based."""

    line: int
    path: tuple[Heading, ...]
    """Headings above, outermost first."""


@dataclass(frozen=True)
class Heading:
    """A heading; it is part of the path of what follows."""

    line: int
    level: int
    text: str


@dataclass(frozen=True)
class Paragraph(Block):
    """Text outside lists; its source lines."""

    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return " ".join(self.lines)

    @property
    def label(self) -> bool:
        """Whether it introduces what follows (`**Metrics:**`)."""
        return plain(self.text).rstrip().endswith(":")


@dataclass(frozen=True)
class Item(Block):
    """A list item without its sublists."""

    text: str
    ordered: bool
    depth: int


@dataclass(frozen=True)
class Fence(Block):
    """A code block; `line` is that of its first content line."""

    info: str
    text: str


@dataclass(frozen=True)
class Table(Block):
    """A table with plain header names; `line` is the header's."""

    header: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]
    """(line, cells as written)."""

    def column(self, *names: str) -> int | None:
        """Return the index of the first header that starts with one of `names` (lower case), or None."""
        for name in names:
            for i, title in enumerate(self.header):
                if title.lower().startswith(name):
                    return i
        return None


@dataclass(frozen=True)
class Text:
    """A parsed document."""

    headings: tuple[Heading, ...]
    blocks: tuple[Block, ...]


def plain(text: str) -> str:
    """Return text without bold marks and backticks."""
    return _MARKS.sub("", text).strip()


def codes(text: str) -> list[str]:
    """Return the code spans of a line."""
    return CODE.findall(text)


def parse(text: str, offset: int = 0) -> Text:
    """Return the blocks of a markdown text; `offset` is added to every line number."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    headings: list[Heading] = []
    blocks: list[Block] = []
    path: tuple[Heading, ...] = ()
    lists: list[bool] = []
    stream = iter(tokens)
    for token in stream:
        line = (token.map[0] + 1 if token.map else 0) + offset
        if token.type == "heading_open":
            heading = Heading(line, int(token.tag[1]), plain(next(stream).content))
            path = (*(h for h in path if h.level < heading.level), heading)
            headings.append(heading)
        elif token.type in ("bullet_list_open", "ordered_list_open"):
            lists.append(token.type == "ordered_list_open")
        elif token.type in ("bullet_list_close", "ordered_list_close"):
            lists.pop()
        elif token.type == "paragraph_open":
            content = next(stream).content
            if lists:
                blocks.append(Item(line, path, content.replace("\n", " "), lists[-1], len(lists)))
            else:
                blocks.append(Paragraph(line, path, tuple(content.split("\n"))))
        elif token.type == "fence":
            blocks.append(Fence(line + 1, path, token.info.strip().lower(), token.content))
        elif token.type == "table_open":
            blocks.append(_table(stream, line, path, offset))
    return Text(tuple(headings), tuple(blocks))


def _table(stream: Iterator[Token], line: int, path: tuple[Heading, ...], offset: int) -> Table:
    rows: list[tuple[int, tuple[str, ...]]] = []
    cells: list[str] = []
    at = line
    for token in stream:
        if token.type == "tr_open":
            cells, at = [], (token.map[0] + 1 + offset if token.map else at)
        elif token.type == "inline":
            cells.append(token.content.strip())
        elif token.type == "tr_close":
            rows.append((at, tuple(cells)))
        elif token.type == "table_close":
            break
    return Table(line, path, tuple(plain(c) for c in rows[0][1]), tuple(rows[1:]))
