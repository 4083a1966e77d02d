"""Render `analysis.md`, the full log: a header, then an entry for each judged iteration, as they were judged."""

from __future__ import annotations

from orchestrator.core.events import Amended
from orchestrator.core.state import State
from orchestrator.formats import block, entry


def header(state: State) -> str:
    """Return the part above the entries."""
    opened = state.opened
    assert opened is not None
    return (
        f"# {opened.contract.get('title', state.contract.title)}: full log\n\n"
        f"Exploration `{opened.exploration}`, profile `{opened.profile}`, device `{opened.device}`, "
        f"contract `{opened.contract_sha[:12]}`, code `{opened.code[:12]}`.\n"
        "Written by the engine from records; write your own remarks to `notes.md`.\n" + notes(state, "analysis.md")
    )


def notes(state: State, name: str) -> str:
    """Return what people wrote into a view, verbatim, as a section; "" when nobody did."""
    texts = [note.text for note in state.notes if note.what == name]
    return "".join(["\n## Notes from people\n", *(f"\n{text}\n" for text in texts)]) if texts else ""


def entries(state: State) -> list[str]:
    """Return the entries of judged iterations in the order of their judgement: with several slots not by number.

    The last one of an ended block is followed by the block's summary; what a person changed in the input files stands
    before the first iteration that it could act on.
    """
    texts = []
    changes = list(state.amendments)
    left = {b: sum(it.block == b for it in state.iterations.values()) for b in state.boundaries}
    for number in state.judged:
        it = state.iterations[number]
        while changes and changes[0][0] < it.seq:
            texts.append("\n" + _change(changes.pop(0)[1], number))
        texts.append("\n" + entry.render(state, it))
        if it.block in left:
            left[it.block] -= 1
        if left.get(it.block) == 0:
            texts.append("\n" + block.render(state.at_end(it.block), it.block))
    return texts


def _change(change: Amended, number: int) -> str:
    text = f"## Changed by a person before iter {number}\n\n"
    return text + (f"```diff\n{change.diff}\n```\n" if change.diff else "(nothing that shows in the files)\n")


def render(state: State) -> str:
    """Return the whole file."""
    return header(state) + "".join(entries(state))
