"""STUB until the helper's lands."""

from __future__ import annotations

from typing import Literal

from orchestrator.core.records import Record
from orchestrator.core.state import Iteration, Node, State

REPAIRS = 2


class Judged(Record):
    node: int
    verdict: Literal["keep", "neutral", "worse", "crashed", "open"]
    provisional: bool = False
    n: int = 0
    wanted: tuple[int, int] | None = None
    sentence: str = ""


def code_nodes(state: State, block: int | None = None) -> list[Node]:
    return [n for n in state.nodes.values() if state.iterations[n.id].proposal.mutation.kind == "code"]


def judged(state: State, node: Node, until: int | None = None) -> Judged:
    return Judged(node=node.id, verdict="open")


def repeat(state: State, sha: str, parent: int | None, block: int) -> str | None:
    return None


def awaiting_repair(state: State) -> list[Iteration]:
    return []


def root_of(state: State, iteration: int) -> int:
    return iteration
