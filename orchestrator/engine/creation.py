"""`make new EXP=mine FROM=sparse_gnn`: a new exploration from an existing one."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from orchestrator.engine.opening import instruction_path, paths_of, read_spec
from orchestrator.errors import UserError
from orchestrator.formats import yaml_edit
from orchestrator.store import atomic


def create(home: Path, name: str, origin: str) -> list[Path]:
    """Copy an exploration's inputs (never its results) and its instruction under a new name; return what was written.

    Raises:
        UserError: the name is taken or no plain name, or the origin is unknown. Nothing is written then.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
        raise UserError(f"EXP={name!r}: expected letters, digits, _ and -, beginning with a letter")
    source = paths_of(home, origin, None)
    folder, instruction = home / "explorations" / name, home / "instructions" / f"{name}.md"
    taken = [str(p.relative_to(home)) for p in (folder, instruction) if p.exists()]
    if taken:
        raise UserError(f"{', '.join(taken)} is there already: choose another name")
    text = yaml_edit.splice(source.exploration_yaml.read_text(encoding="utf-8"), {"instruction": name})
    old_instruction = instruction_path(home, read_spec(source))
    folder.mkdir(parents=True)
    written = [folder / "exploration.yaml", instruction]
    atomic.write_text(folder / "exploration.yaml", text)
    shutil.copyfile(old_instruction, instruction)
    for path in sorted(source.source.iterdir()):
        if path.is_file() and path.name != "exploration.yaml":
            written.append(Path(shutil.copyfile(path, folder / path.name)))
    return written
