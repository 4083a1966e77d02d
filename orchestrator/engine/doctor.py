"""`make doctor EXP=name`: looks at everything an exploration needs before a night is lost to one thing that is missing.

It changes nothing: what it writes to try a folder is gone when it ends (the folder of leases stays, as with an engine).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from orchestrator.core.exploration import Exploration
from orchestrator.core.state import State
from orchestrator.engine import doctor_machine, doctor_model, opening, sealing
from orchestrator.engine.checks import Check, failed, ok, warning
from orchestrator.engine.doctor_model import Service
from orchestrator.errors import UserError
from orchestrator.paths import Paths

LEAST_FREE = 2**30
"""Free space below which a warning is given while the size of a run is not known."""
MEASURED = 50
"""Latest runs whose mean size is taken."""


def examine(
    home: Path, source: Path, name: str | None, root: Path | None, service: Service | None, fault: str = ""
) -> list[Check]:
    """Return every check, of the machine and of an exploration when one is named.

    Args:
        home: folder of explorations/, instructions/, models/ and trainers/.
        source: checkout with pyproject.toml and constraints.txt.
        name: the exploration.
        root: folder for the output, as ROOT= says.
        service: the language model's service, None without a key.
        fault: why a key that is set cannot be used.

    Raises:
        UserError: there is no such exploration.
    """
    if name is None:
        out = (root or home / "explorations").absolute()
        machine = doctor_machine.look(home, source, None, out, None)
        return [*machine, *doctor_model.look(service, fault, None, None, ""), folder(out), disk(out, None, None)]
    paths = opening.paths_of(home, name, root)
    spec, read = _spec(paths)
    state, opens = _state(paths)
    text, lints = _lint(home, name, spec)
    opened_on = state.opened.device if state is not None and state.opened is not None else None
    return [
        *doctor_machine.look(home, source, spec, paths.out, opened_on),
        read,
        *lints,
        *opens,
        *doctor_model.look(service, fault, spec, state or _unopened(home, name, root), text),
        folder(paths.out),
        disk(paths.out, paths, state),
    ]


# --- the exploration ---


def _spec(paths: Paths) -> tuple[Exploration | None, Check]:
    try:
        spec = opening.read_spec(paths)
    except UserError as error:
        return None, failed("exploration", str(error), f"correct {paths.exploration_yaml}")
    return spec, ok("exploration", f"{opening.shown(paths.exploration_yaml, paths.source)} is read")


def _state(paths: Paths) -> tuple[State | None, list[Check]]:
    """Return where an exploration stands, None when nothing has run; a check when its journal cannot be read."""
    if not paths.journal.exists():
        return None, []
    try:
        state = sealing.state_of(paths)
    except (UserError, OSError, ValueError, KeyError) as error:
        remedy = "do what it says, or set the folder aside with FRESH=1"
        return None, [failed("journal", str(error), remedy)]
    return state, [ok("journal", f"{len(state.done)} iterations done, {state.seq} events")]


def _lint(home: Path, name: str, spec: Exploration | None) -> tuple[str, list[Check]]:
    """Return the instruction's text and what lint finds in it; nothing where exploration.yaml cannot be read."""
    if spec is None:
        return "", []
    try:
        text = opening.read_text(opening.instruction_path(home, spec))
        report = opening.lint(home, name, None)
    except UserError as error:
        return "", [failed("instruction", str(error), f"correct it; `make lint EXP={name}` shows the rest")]
    lines = report.text.splitlines()
    remedy = f"`make lint EXP={name}` shows all of it"
    if not report.ok:
        return text, [failed("instruction", _section(lines, "Stops the start") or "it would not start", remedy)]
    known = next((line for line in lines if line.startswith("Worth knowing (")), "")
    told = f"compiles; {known.lower()}: {remedy}" if known else "compiles"
    return text, [ok("instruction", told)]


def _section(lines: list[str], title: str) -> str:
    """Return the first line below a title of a lint report."""
    at = next((i for i, line in enumerate(lines) if line.startswith(title)), None)
    return "" if at is None or at + 1 >= len(lines) else f"{lines[at].lower()}: {lines[at + 1].strip()}"


def _unopened(home: Path, name: str, root: Path | None) -> State | None:
    """Return the empty state that an exploration would be opened with, None when it would not open."""
    try:
        return State(opening.load(home, name, opening.Wishes(root=root)).contract)
    except (UserError, OSError):
        return None


# --- folder and disk ---


def folder(out: Path) -> Check:
    """Return whether the output folder can be made and written, and whether locks work there."""
    there = _nearest(out)
    remedy = "choose another folder with ROOT=, or mend its permissions"
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return failed("folder", f"{out} cannot be written: {error.strerror or error} ({there})", remedy)
    return ok("folder", f"{out} can be written{'' if there == out else ' (it is made at the first start)'}")


def _nearest(path: Path) -> Path:
    """Return a path, or the first one above it that is there."""
    return next((p for p in (path, *path.parents) if os.path.lexists(p)), Path("/"))


def disk(out: Path, paths: Paths | None, state: State | None) -> Check:
    """Return whether there is room for what is asked for, from the size of the runs so far."""
    there = _nearest(out)
    try:
        free = shutil.disk_usage(there).free
    except OSError as error:
        return failed(
            "disk", f"{there}: free space cannot be told ({error.strerror})", "choose another folder with ROOT="
        )
    remedy = "free some space, or choose another folder with ROOT="
    sizes = _sizes(paths) if paths is not None else []
    if not sizes or state is None:
        if free < LEAST_FREE:
            return warning("disk", f"{_size(free)} are free at {there}; no run has shown its size yet", remedy)
        return ok("disk", f"{_size(free)} are free at {there}; no run has shown its size yet")
    total = state.session.iterations if state.session is not None else 0
    left = max(total - state.planned, 0) or state.n_iter_block
    each = sum(sizes) / len(sizes)
    told = (
        f"{_size(free)} are free at {there}; a run takes {_size(each)} (mean of {len(sizes)}), so {left} more take "
        f"about {_size(left * each)}"
    )
    return failed("disk", told, remedy) if left * each > free else ok("disk", told)


def _sizes(paths: Paths) -> list[int]:
    """Return the sizes of the latest run folders in bytes; links are not followed."""
    try:
        runs = sorted(p for p in paths.runs.iterdir() if p.is_dir() and not p.is_symlink())
    except OSError:
        return []
    return [sum(_bytes(run)) for run in runs[-MEASURED:]]


def _bytes(run: Path) -> Iterator[int]:
    for at, _, files in os.walk(run):
        for file in files:
            try:
                found = os.lstat(os.path.join(at, file))
            except OSError:
                continue
            if stat.S_ISREG(found.st_mode):
                yield found.st_blocks * 512


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
