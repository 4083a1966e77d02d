"""What the contract says about code edits: whether they are on, the default scope, the prepared patches."""

from __future__ import annotations

import re
from collections.abc import Mapping

from orchestrator.core.contract import Contract, Patch, Scope
from orchestrator.errors import InstructionError
from orchestrator.formats.work import Work

_HEADER = re.compile(r"(Change|Hypothesis):[ \t]*(.*)")
LONGEST = 120
"""Characters of `Change:`; it becomes the subject of a commit."""


def default_scopes(work: Work) -> tuple[Scope, ...]:
    """Return what may be edited where the instruction has no permission table: model file and training function.

    Source: seed document 000 permits code without a table.
    """
    if work.draft.files or work.spec.command is not None:
        return ()
    system, told = work.schema.system, "default: the instruction has no permission table"
    return (
        Scope(path=f"trainers/{system}.py", function=f"data_train_{system}", permission=told, source=work.draft.source),
        Scope(path=f"models/{system}.py", permission=told, source=work.draft.source),
    )


def settings(work: Work, patches: Mapping[str, str]) -> dict[str, object]:
    """Return the contract's fields about code edits; nothing of patches while they are off."""
    spec = work.spec
    if spec.code == "on" and spec.command is not None:
        text = (
            "code edits (`code: on`, or CODE=1) are refused beside `command:`: they are for models/ and trainers/ of "
            "this project, and a trainer of your own runs without its sandbox. Leave them off"
        )
        work.problem("exploration.yaml", text)
    found: list[Patch] = []
    for name, text in sorted(patches.items()) if spec.code == "on" else ():
        try:
            found.append(read_patch(name, text))
        except InstructionError as error:
            work.problem(name, str(error))
    return {"code": spec.code, "unsandboxed": spec.sandbox == "none", "patches": tuple(found)}


def read_patch(name: str, text: str) -> Patch:
    """Return a prepared patch: header lines `Change:` and `Hypothesis:`, an empty line, a unified diff.

    Raises:
        InstructionError: a header is missing or empty, or no diff follows.
    """
    head, found, diff = f"\n{text}".partition("\n--- ")
    if not found:
        raise InstructionError("expected a unified diff (a line that begins with `--- a/`), found none")
    said = {m[1]: m[2].strip() for line in head.splitlines() if (m := _HEADER.fullmatch(line.strip()))}
    for field in ("Change", "Hypothesis"):
        if not said.get(field):
            raise InstructionError(f"expected a header line `{field}: <one line>` before the diff")
    if len(said["Change"]) > LONGEST:
        raise InstructionError(f"`Change:` has {len(said['Change'])} characters, at most {LONGEST}")
    return Patch(name=name, change=said["Change"], hypothesis=said["Hypothesis"], text=f"--- {diff}")


def editable(scopes: tuple[Scope, ...]) -> str:
    """Return what may be edited, in one line."""
    return ", ".join(f"{s.path}::{s.function}" if s.function else s.path for s in scopes) or "nothing"


def told(contract: Contract, sandbox: str) -> str:
    """Return the line that says at a start whether code is edited, of what, and confined by what."""
    if contract.code == "off":
        return "code edits: off"
    if not contract.scopes:
        return "code edits: off (the instruction permits none)"
    if sandbox == "none" and not contract.unsandboxed:
        return (
            "code edits: off, though asked for: this machine has no sandbox. Install bubblewrap, or accept "
            "`sandbox: none` in exploration.yaml"
        )
    prepared = f", {len(contract.patches)} prepared patch(es)" if contract.patches else ""
    confined = "NO SANDBOX" if sandbox == "none" else f"sandbox {sandbox}"
    return f"code edits: on ({confined}{prepared}): {editable(contract.scopes)}"
