"""`make adopt`: the code edits of a node as one patch for the user's own checkout, which is only read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orchestrator.core import lineage
from orchestrator.core.records import Proposal
from orchestrator.core.state import State
from orchestrator.core.stats import summarise
from orchestrator.engine.opening import paths_of
from orchestrator.engine.sealing import state_of
from orchestrator.errors import UserError
from orchestrator.paths import Paths
from orchestrator.vcs import code, git, message


@dataclass(frozen=True)
class Adoption:
    """A patch, and what a person should know about it."""

    patch: str
    """From the code at opening to the node's; bytes that are no UTF-8 as surrogates."""
    notes: tuple[str, ...]
    """One line each."""


def adopt(home: Path, name: str, root: Path | None, node: int) -> Adoption:
    """Return the patch that brings a node's code into the checkout `home`; nothing there is written.

    Raises:
        UserError: unknown exploration or node, or there is no code of ours that the node changed.
    """
    paths = paths_of(home, name, root)
    state = state_of(paths)
    if state.contract.command is not None:
        raise UserError(
            f"{name} runs its own command ({' '.join(state.contract.command)}): there are no code edits to adopt"
        )
    _must_know(state, name, node)
    commit = lineage.code_commit(state, node)
    assert state.opened is not None
    patch = code.difference(paths.out, state.opened.code, commit) if commit is not None else ""
    if commit is None or not patch:
        raise UserError(f"node {node} of {name} has the code that the exploration was opened with: nothing to adopt")
    touched = code.changed_files(paths.out, state.opened.code, commit)
    notes = (_about(state, name, node), *_stale(paths, home, state.opened.code, touched))
    return Adoption(patch, notes)


def _must_know(state: State, name: str, node: int) -> None:
    if node in state.nodes:
        return
    found = lineage.edited(state)
    listed = f"nodes with code edits: {', '.join(map(str, found))}" if found else "no node of it has code edits"
    again = state.iterations.get(node)
    what = f"iteration {node} ran node {again.node} again" if again is not None else f"{name} has no node {node}"
    raise UserError(f"{what}; {listed}")


def _about(state: State, name: str, node: int) -> str:
    """Return what the patch is: node, metric, the edits that lead to it."""
    primary = state.contract.primary.name
    found = summarise(state, state.nodes[node], primary)
    runs = f"{found.n} run{'s' if found.n > 1 else ''}"
    metric = f"{primary}={found.mean:.4g} ({runs})" if found.mean is not None else f"no {primary}: {found.reason}"
    edits = "; ".join(_edit(proposal) for proposal in lineage.code_path(state, node))
    return f"patch of {name}, node {node}, {metric}. Edits: {edits}"


def _edit(proposal: Proposal) -> str:
    change = proposal.mutation.code
    assert change is not None
    return f"iteration {proposal.iteration} ({change.commit[:12]}): {message.one_line(change.change)}"


def _stale(paths: Paths, home: Path, opened: str, touched: tuple[str, ...]) -> tuple[str, ...]:
    """Return a warning about files of the checkout that are not as they were at opening."""
    try:
        own = code.changed_files(paths.out, opened, git.tree_of(paths.out, home))
    except UserError as error:
        return (f"note: models/ and trainers/ of {home} cannot be compared with the code at opening: {error}",)
    both = [path for path in own if path in touched]
    if both:
        return (
            f"note: changed in {home} since the exploration was opened, and by this patch: {', '.join(both)}. Where "
            "`git apply` refuses, try `git apply --3way`",
        )
    if own:
        return (f"note: changed in {home} since the exploration was opened, not by this patch: {', '.join(own)}",)
    return ()
