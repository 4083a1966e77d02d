"""Render `analysis.md`, the full log: a header, then one entry for each iteration that was judged, in order."""

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
    """Return the entries of judged iterations, oldest first, stopping at the first that is not judged.

    The last one of an ended block is followed by the block's summary; what a person changed in the input files stands
    before the first iteration that it could act on.
    """
    texts = []
    changes = list(state.amendments)
    for number, it in sorted(state.iterations.items()):
        if it.final is None or it.reflection is None:
            break
        while changes and changes[0][0] < it.seq:
            texts.append("\n" + _change(changes.pop(0)[1], number))
        texts.append("\n" + entry.render(state, it))
        if it.block in state.boundaries and number + 1 == state.first_of(it.block + 1):
            texts.append("\n" + block.render(state.at_end(it.block), it.block))
    return texts


def _change(change: Amended, number: int) -> str:
    text = f"## Changed by a person before iter {number}\n\n"
    return text + (f"```diff\n{change.diff}\n```\n" if change.diff else "(nothing that shows in the files)\n")


def render(state: State) -> str:
    """Return the whole file."""
    return header(state) + "".join(entries(state))
