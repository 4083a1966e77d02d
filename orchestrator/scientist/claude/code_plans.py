"""What one slot is to run, and the edits of code among it, in the making."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeVar

from orchestrator.core import code_rules, editing, scope
from orchestrator.core.records import Change
from orchestrator.core.state import State
from orchestrator.errors import RefusedError
from orchestrator.ports import CodeOffice
from orchestrator.scientist.claude import prose, tools
from orchestrator.scientist.desk import CodeDraft

T = TypeVar("T")
LONGEST_CHANGE = 120
"""Characters of the line that says what an edit changes: it becomes the subject of its commit."""
SHOWN_LINES = 80
"""Of the difference that an edit is answered with."""


@dataclass
class Plan:
    """What one slot is to run."""

    parent: int | Literal["root"]
    second: int | None = None
    changes: dict[str, Change] = field(default_factory=dict)
    again: Literal["training", "simulation"] | None = None
    """Seed that another run of the parent gets; null is a change."""
    texts: dict[str, str] = field(default_factory=dict)
    """Path -> whole new text of an edited file."""
    repairs: int | None = None
    """Crashed iteration whose code is mended."""
    combines: tuple[int, ...] = ()
    """Nodes whose code edits are taken together."""

    @property
    def node(self) -> int | None:
        """The parent as records name it."""
        return self.parent if isinstance(self.parent, int) else None


class CodePlans:
    """The edits of one slot's code."""

    def __init__(self, state: State, office: CodeOffice | None, iteration: int, block: int) -> None:
        why = code_rules.off(state)
        if office is None or why:
            raise RefusedError(f"edit_code refused: {why or 'no code can be edited here'}")
        self._state, self._office, self._closed = state, office, code_rules.closed(state, iteration, block)

    def edit(self, plan: Plan | None, call: tools.EditCode) -> str:
        """Return what a command of the text editor shows or changed; the plan takes an edit that keeps the scope."""
        if plan is None or plan.node is None:
            raise RefusedError(f"slot {call.slot} has no parent node yet: call choose_parent first; code is a node's")
        before = self._text(self._state.nodes[plan.node].code, call.path)
        start = self._text(self._state.nodes[plan.repairs].code, call.path) if plan.repairs is not None else before
        now = plan.texts.get(call.path, start)
        if call.command == "view":
            return editing.view(now, _range(call.view_range))
        self._free(plan, call)
        after = _edited(now, call)
        if after == start:
            plan.texts.pop(call.path, None)
            if plan.repairs is not None:
                plan.texts[call.path] = start
            return f"slot {call.slot}: {call.path} has the text that it began with again"
        found = scope.check(self._state.contract.scopes, call.path, before, after)
        plan.texts[call.path] = after
        told = "; ".join(f"{e.unit} of {e.path}, +{e.added} -{e.removed} lines" for e in found)
        shown = editing.difference(before, after, call.path).splitlines()
        more = [f"... {len(shown) - SHOWN_LINES} more lines"] if len(shown) > SHOWN_LINES else []
        head = f"slot {call.slot}: against node {plan.node}: {told}. It is tried when you submit"
        return "\n".join([head, *shown[:SHOWN_LINES], *more])

    def _text(self, tree: str, path: str) -> str:
        permitted = list(dict.fromkeys(s.path for s in self._state.contract.scopes))
        if path not in permitted:
            raise RefusedError(f"{path[:120]!r} refused: it may not be edited; files that may: {', '.join(permitted)}")
        return self._office.text(tree, path)

    def _free(self, plan: Plan, call: tools.EditCode) -> None:
        """Raise RefusedError unless a slot's code may be edited now."""
        if self._closed:
            raise RefusedError(f"edit_code refused: {self._closed}")
        if plan.changes or plan.second is not None or plan.again:
            raise RefusedError(
                f"edit_code refused: slot {call.slot} has another change already, and code is never edited together "
                "with it; call choose_parent to start again"
            )
        if plan.combines:
            raise RefusedError(f"edit_code refused: slot {call.slot} combines two edits as they are")
        other = next((path for path in plan.texts if path != call.path), None)
        if other is not None:
            raise RefusedError(
                f"{call.path} refused: slot {call.slot} edits {other} already, and one definition changes in one "
                "iteration; give that file its old text again first, or leave this one"
            )

    def repair(self, iteration: int) -> tuple[Plan, str]:
        """Return the plan of a repair, which begins as the crashed code."""
        if self._closed:
            raise RefusedError(f"repair_code refused: {self._closed}")
        it = self._state.iterations.get(iteration)
        code_rules.check_repair(self._state, iteration, it.proposal.parent if it is not None else None)
        assert it is not None and it.proposal.parent is not None
        node = it.proposal.parent
        change = it.proposal.mutation.code
        paths = [e.path for e in change.edits] if change is not None else []
        texts = {path: self._text(it.proposal.code, path) for path in dict.fromkeys(paths)}
        return Plan(parent=node, texts=texts, repairs=iteration), (
            f"the code of iteration {iteration} is to be mended, on node {node}'s config; edit {', '.join(texts)}"
        )

    def combine(self, first: int, second: int) -> tuple[Plan, str]:
        """Return the plan of two edits together; raises RefusedError when they are not of one parent, or conflict."""
        if self._closed:
            raise RefusedError(f"combine_code refused: {self._closed}")
        nodes = [self._state.nodes[n] for n in (first, second)]
        edited = all(self._state.iterations[n.id].proposal.mutation.kind == "code" for n in nodes)
        parents = {n.parent for n in nodes}
        parent = parents.pop()
        if parents or parent is None or first == second or not edited:
            raise RefusedError(f"nodes {first} and {second} refused: two code edits of one parent are combined")
        texts = self._office.combined(self._state.nodes[parent].code, (nodes[0].code, nodes[1].code))
        return Plan(parent=parent, texts=texts, combines=(first, second)), (
            f"the code edits of nodes {first} and {second} together, on node {parent}"
        )


def code_draft(plan: Plan, change: str) -> CodeDraft | None:
    """Return the code edit of a plan, or None; raises RefusedError when nothing says what it changes."""
    if not plan.texts:
        return None
    told = prose.line(change, "change", LONGEST_CHANGE) if change.strip() else ""
    if not told:
        raise RefusedError("a code edit without `change` refused: say in one short line what it changes")
    return CodeDraft(texts=dict(plan.texts), change=told, repairs=plan.repairs, combines=plan.combines)


def _range(asked: list[int] | None) -> tuple[int, int] | None:
    if asked is None:
        return None
    if len(asked) != 2:
        raise RefusedError(f"view_range {asked[:6]} refused: it is [first, last] line, or null")
    return asked[0], asked[1]


def _edited(text: str, call: tools.EditCode) -> str:
    """Return a text after a command; raises RefusedError when the command does not fit it."""
    match call.command:
        case "str_replace":
            return editing.str_replace(text, _given(call.old_str, "old_str"), call.new_str or "")
        case "insert":
            return editing.insert(
                text, _given(call.insert_line, "insert_line"), _given(call.insert_text, "insert_text")
            )
    return _given(call.file_text, "file_text")


def _given(value: T | None, name: str) -> T:
    if value is None:
        raise RefusedError(f"edit_code refused: {name} is missing")
    return value
