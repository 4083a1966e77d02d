"""Prepared patches at a start: which of them the code at the opening does not take."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from orchestrator.core import scope
from orchestrator.core.contract import Contract
from orchestrator.errors import RefusedError
from orchestrator.vcs import code


def notes(folder: Path, contract: Contract, tree: str) -> Iterator[str]:
    """Yield a line for each prepared patch that does not apply to a code state, or leaves the scope there.

    It is no error: a patch may be meant for the code that another one leaves.
    """
    for patch in contract.patches:
        try:
            for path, text in sorted(code.patched(folder, tree, patch.text).items()):
                scope.check(contract.scopes, path, code.read_file(folder, tree, path), text)
        except RefusedError as error:
            told = " ".join(str(error).split())
            yield f"note: {patch.name} is passed over until a node's code takes it: {told}"
