"""Collector that the readers of an instruction share: problems found, blocks used."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.formats.draft import Problem
from orchestrator.formats.markdown import Block


@dataclass
class Notes:
    """What reading one instruction found out on the way."""

    source: str
    problems: list[Problem] = field(default_factory=list)
    used: set[int] = field(default_factory=set)
    """Lines of headings whose own text gave a field."""

    def problem(self, line: int, text: str, *, key: str | None = None, stops: bool = True) -> None:
        """Note a problem at a line."""
        self.problems.append(Problem(where=f"{self.source}:{line}", text=text, stops=stops, key=key))

    def use(self, block: Block) -> None:
        """Note that a block gave a field."""
        if block.path:
            self.used.add(block.path[-1].line)
