"""What the scientist may read of an exploration: default deny, and as of the journal prefix that it is asked at.

Views are rendered from the state, never read from disk; logs are those of runs that had ended in that state; code is
the exported tree; other files are those that a person named in the instruction. Files below a run are opened as what
they are, written by a program that nobody trusts.

What this does not stop: a person who names a file in the instruction that the scientist should not have read.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import unquote

from orchestrator.core import tree
from orchestrator.core.state import State
from orchestrator.engine import texts
from orchestrator.engine.context import Setup
from orchestrator.engine.pictures import NAME, Plots, finished, numbers, shown_name
from orchestrator.engine.publish import best_yaml
from orchestrator.engine.sealing import NOTES, contract_text
from orchestrator.errors import RefusedError
from orchestrator.formats import memory, strategy_table, ucb_scores
from orchestrator.launch.folder import open_file, read_file
from orchestrator.paths import RunPaths
from orchestrator.ports import Picture
from orchestrator.store.blobs import Blobs

FILE_BYTES = 2**20
PDF_BYTES = 32 * 2**20
LISTED = 12
"""Names of each kind that a refusal lists."""

_SHORT = re.compile(r"(?:iter(?:ation)? *)?([0-9]{1,6})", re.IGNORECASE)
_RUN = re.compile(r"runs/([0-9]{4,6})-([0-9]{1,4})(?:/(.*))?")
_PART = re.compile(r"(.+)#([0-9]{1,4})")

LOGS: dict[str, Callable[[BinaryIO], str]] = {
    "analysis.log": texts.beginning,
    "run.yaml": texts.beginning,
    "stdout.log": texts.tail,
    "out/progress.jsonl": texts.progress,
}
"""Files of a run that may be read, and how much of each is shown."""

CLOSED = (
    (("analysis.md",), "the history table in this turn holds every iteration; one iteration's own log: `3`"),
    (("journal.jsonl",), "the engine's record is not shown; its content is in memory.md and contract.yaml"),
    (("prompts", "blobs"), "what was said to a model is not shown again"),
    (("truth", "data"), "the truth and the data are no evidence that a scientist may use; metrics are in analysis.log"),
    (("out", "checkpoints", "estimates"), "a run's own output is not shown; its metrics are in analysis.log"),
    ((".env", ".git"), "hidden files are not shown"),
)
"""Parts of a path that close it, and why."""


class Library:
    """Read-only access to one exploration, for a scientist.

    Args:
        setup: the exploration; its contract and instruction are not used where the state has its own.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._paths = setup.paths
        self._plots = Plots(setup.paths)
        self._blobs = Blobs(setup.paths.blobs)
        self._extracted: dict[str, str] = {}
        self._views: dict[str, Callable[[State], str]] = {
            self._paths.memory.name: memory.render,
            self._paths.contract.name: contract_text,
            self._paths.instruction.name: self._instruction,
            self._paths.ucb_scores.name: lambda state: ucb_scores.render(state, state.block_shown),
            self._paths.config_yaml.name: self._config,
            self._paths.notes.name: self._notes,
            self._paths.best.name: _best,
        }

    def view_file(self, state: State, name: str) -> str:
        """Return a text that the scientist may read, at most `texts.CHARACTERS` of it; `name#2` is what follows.

        Raises:
            RefusedError: it may not, or there is none; says the rule and names what may be read instead.
        """
        plain, part = self._wanted(state, name)
        try:
            return texts.excerpt(self._text(state, plain), plain, part)
        except OSError as error:
            why = "there is no such file" if isinstance(error, FileNotFoundError) else "it is no file that can be read"
            raise self._refused(state, plain, why) from error

    def plots(self, state: State, iteration: int) -> tuple[str, ...]:
        """Return a finished run's plots, the instruction's figures first; raises RefusedError when it has not ended."""
        return self._plots.names(state, iteration)

    def view_plot(self, state: State, iteration: int, name: str) -> Picture:
        """Return a plot of a finished run; raises RefusedError with the nearest names."""
        return self._plots.view(state, iteration, name)

    def image(self, sha256: str) -> bytes:
        """Return the bytes of a blob; raises NeedsPersonError when they are not what they were."""
        return self._blobs.read(sha256)

    def names(self, state: State) -> tuple[str, ...]:
        """Return what may be read by name, files of runs apart: views, the contract's code, the instruction's files."""
        code = [scope.path for scope in state.contract.scopes]
        named = [n for n in sorted(_named(self._persons_text(state))) if self._place(n) is not None]
        return tuple(dict.fromkeys([*self._views, *code, *named]))

    def _wanted(self, state: State, name: object) -> tuple[str, int]:
        """Return the name and the part that are asked for; raises RefusedError for what is no relative path."""
        if not isinstance(name, str):
            raise self._refused(state, name, "expected the name of a file, as text")
        match = _PART.fullmatch(name)
        plain, part = (match[1], int(match[2])) if match else (name, 1)
        if not plain or len(plain) > NAME or not plain.isprintable():
            raise self._refused(state, name, f"expected a name of 1 to {NAME} printable characters")
        parts = plain.split("/")
        if plain[0] in "/~" or "\\" in plain or not all(parts) or "." in parts or ".." in parts:
            raise self._refused(state, name, "expected a relative path without `.`, `..`, `\\` or `//`")
        return plain, part

    def _text(self, state: State, name: str) -> str:
        if name in self._views:
            return self._views[name](state)
        if short := _SHORT.fullmatch(name):
            it = finished(state, int(short[1]))
            return self._log(state, it.proposal.iteration, it.attempts[-1].number, "analysis.log")
        if run := _RUN.fullmatch(name):
            return self._log(state, int(run[1]), int(run[2]), run[3] or "")
        for part in PurePosixPath(name).parts:
            if why := _closed(part):
                raise self._refused(state, name, why)
        if name in {scope.path for scope in state.contract.scopes}:
            return self._code(state, name)
        if name in _named(self._persons_text(state)):
            return self._person_file(state, name)
        raise self._refused(state, name, "it is not among what may be read")

    # --- views ------------------------------------------------------------------------------------------------------

    def _instruction(self, state: State) -> str:
        return self._setup.instruction if state.opened is None else strategy_table.in_force(state)

    def _config(self, state: State) -> str:
        compiled = self._paths.compiled(len(state.amendments)) / self._paths.config_yaml.name
        return _trusted(compiled if compiled.is_file() else self._paths.config_yaml).decode(errors="replace")

    def _notes(self, state: State) -> str:
        said = [note.text for note in state.notes if note.what == self._paths.notes.name]
        return texts.clean((said[-1] if said else NOTES).encode())

    # --- runs -------------------------------------------------------------------------------------------------------

    def _log(self, state: State, iteration: int, attempt: int, file: str) -> str:
        """Return a file of a run that had ended."""
        run = self._paths.run(iteration, attempt)
        it = state.iterations.get(iteration)
        ended = [a.number for a in it.attempts if a.ended is not None] if it is not None else []
        if attempt not in ended:
            done = numbers([i.proposal.iteration for i in state.done])
            near = f"; of iteration {iteration}: {', '.join(map(str, ended))}" if ended else ""
            raise RefusedError(f"{run.root.name} was refused: no such run has ended; only runs that have, {done}{near}")
        if file not in LOGS:
            raise RefusedError(
                f"{shown_name(file)} of a run was refused: only {', '.join(LOGS)} may be read{_why(file)}"
            )
        try:
            with open_file(run.root / file, root=self._paths.runs) as opened:
                return LOGS[file](opened)
        except OSError as error:
            failed = it is not None and it.outcome != "ok" and isinstance(error, FileNotFoundError)
            if failed and file == "analysis.log" and _is_readable(run.root / "stdout.log", self._paths.runs):
                said = self._log(state, iteration, attempt, "stdout.log")
                return f"(the run left no analysis.log; its stdout.log)\n{said}"
            raise RefusedError(self._no_log(run, file)) from error

    def _no_log(self, run: RunPaths, file: str) -> str:
        there = [name for name in LOGS if name != file and _is_readable(run.root / name, self._paths.runs)]
        has = f"it has {', '.join(f'runs/{run.root.name}/{n}' for n in there)}" if there else "nothing of it is left"
        return f"runs/{run.root.name}/{file} was refused: the run left no such regular file; {has}"

    # --- code and files of the instruction --------------------------------------------------------------------------

    def _code(self, state: State, name: str) -> str:
        """Return a file of the code in use: as it was exported, else as it lies in the checkout."""
        if state.opened is not None:
            base = self._paths.code / state.opened.code / "base"
            if base.is_dir():
                return texts.clean(read_file(base / name, FILE_BYTES, root=base))
        return self._file(state, name, self._setup.source_root)

    def _person_file(self, state: State, name: str) -> str:
        root = self._place(name)
        if root is None:
            raise FileNotFoundError(name)
        return self._file(state, name, root)

    def _place(self, name: str) -> Path | None:
        """Return the folder below which a named file lies: this exploration's, else the checkout; None without one."""
        if any(_closed(part) for part in PurePosixPath(name).parts):
            return None
        try:
            return next((r for r in (self._paths.source, self._setup.source_root) if (r / name).is_file()), None)
        except (OSError, ValueError):  # a name that no file can have
            return None

    def _file(self, state: State, name: str, root: Path) -> str:
        """Return a file below a trusted folder; links may lead about inside it, never out, and never into output."""
        top, path = (Path(os.path.realpath(p)) for p in (root, root / name))
        if not path.is_relative_to(top):
            raise self._refused(state, name, "it leads out of its folder")
        if path.is_relative_to(os.path.realpath(self._paths.out)):
            raise self._refused(state, name, "it leads into the exploration's output")
        for part in path.relative_to(top).parts:
            if why := _closed(part):
                raise self._refused(state, name, why)
        if path.suffix.lower() == ".pdf":
            return self._pdf(state, name, read_file(path, PDF_BYTES, root=top))
        if path.stat().st_size > FILE_BYTES:
            raise self._refused(state, name, f"it has more than {FILE_BYTES} bytes")
        data = read_file(path, FILE_BYTES, root=top)
        if texts.is_binary(data):
            raise self._refused(state, name, "it is no UTF-8 text")
        return texts.clean(data)

    def _pdf(self, state: State, name: str, data: bytes) -> str:
        sha = hashlib.sha256(data).hexdigest()
        if sha not in self._extracted:
            try:
                self._extracted[sha] = texts.pdf_text(data)
            except RefusedError as error:
                raise self._refused(state, name, str(error)) from error
        return self._extracted[sha]

    # --- refusals ---------------------------------------------------------------------------------------------------

    def _persons_text(self, state: State) -> str:
        """Return the instruction as people wrote it: a rule that the scientist edited must not open a file to it."""
        if state.amendments:
            return state.amendments[-1][1].instruction
        return self._setup.instruction if state.opened is None else state.opened.instruction

    def _refused(self, state: State, name: object, why: str) -> RefusedError:
        names = self.names(state)
        near = difflib.get_close_matches(str(name)[:NAME], names, n=1)
        hint = f"did you mean {near[0]}? " if near and near[0] != name else ""
        more = f" and {len(names) - 2 * LISTED} more" if len(names) > 2 * LISTED else ""
        return RefusedError(
            f"{shown_name(name)} was refused: {why}. {hint}You may read {', '.join(names[: 2 * LISTED])}{more}; and of "
            f"runs that have ended `3` (iteration 3's analysis.log) and runs/0003-1/ with {', '.join(LOGS)}"
        )


def _best(state: State) -> str:
    node = tree.best(state)
    if node is None:
        raise RefusedError("best.yaml was refused: no run has given a result yet; config.yaml is the start")
    return best_yaml(state, node)


def _closed(part: str) -> str:
    """Return why a part of a path closes it, "" when it does not."""
    for names, why in CLOSED:
        if part.lower() in names:
            return why
    return "hidden files are not shown" if part.startswith(".") else ""


def _why(file: str) -> str:
    closed = [why for part in PurePosixPath(file).parts[1:] if (why := _closed(part))]
    if file.startswith("out/") or not closed:
        return "; its plots by view_plot" if file.startswith("plots") else ""
    return f" ({closed[0]})"


def _is_readable(path: Path, root: Path) -> bool:
    try:
        with open_file(path, root=root):
            return True
    except OSError:
        return False


def _trusted(path: Path) -> bytes:
    """Return a file of a person's, who may have made it a link. Raises OSError: not there, no file, or too large."""
    real = Path(os.path.realpath(path))
    return read_file(real, FILE_BYTES, root=real.parent)


@functools.lru_cache(maxsize=8)
def _named(text: str) -> frozenset[str]:
    """Return the relative paths that a Markdown text names, in backticks or as the target of a link."""
    from markdown_it import MarkdownIt

    found: set[str] = set()
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        for child in token.children or ():
            if child.type == "code_inline":
                found.add(child.content.strip())
            elif child.type == "link_open":
                found.add(unquote(str(child.attrs.get("href", "")).partition("#")[0]))
    return frozenset(name.removeprefix("./") for name in found if name and name.isprintable() and len(name) <= NAME)
