"""Opening the exploration's own git repository, with nothing of the machine or the user acting in it.

One `Repo` per call, closed at its end (GitPython leaks in long processes otherwise). The environment's `GIT_*`
variables, the user's and the system's git settings and attributes, templates and hooks are off. `GIT_DIR` is given, so
that git never goes up into a repository around the folder.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.errors import UserError

SETTINGS = """\
# Of the orchestrator: what a journal names is never dropped, and no hook acts.
[gc]
\tauto = 0
\tpruneExpire = never
[maintenance]
\tauto = false
[core]
\thooksPath = /dev/null
\tlogAllRefUpdates = false
"""
"""Added to the repository's own settings when they are not there."""

_ALONE = {
    "HOME": os.devnull,
    "XDG_CONFIG_HOME": os.devnull,
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
}
"""HOME as well, since versions before 2.32 know no GIT_CONFIG_GLOBAL, and for `~/.config/git/attributes`."""

_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Repository:
    """An open repository: runs one git command at a time in it."""

    def __init__(self, commands: Any, folder: Path) -> None:
        self.folder = folder
        self._commands = commands

    def attempt(self, *words: str, given: bytes = b"", env: Mapping[str, str] | None = None) -> tuple[int, bytes, str]:
        """Return exit status, output and message of `git <words>`, which reads `given` on its standard input."""
        with tempfile.TemporaryFile() as file:
            file.write(given)
            file.seek(0)
            env = {"GIT_DIR": str(self.folder / ".git"), **(env or {})}
            return _execute(self._commands, self.folder, words, file, env)

    def run(self, *words: str, given: bytes = b"", env: Mapping[str, str] | None = None) -> bytes:
        """Return the output of a git command; raises UserError when it fails."""
        status, output, message = self.attempt(*words, given=given, env=env)
        if status != 0:
            raise UserError(_failed(self.folder, words, status, message))
        return output

    def line(self, *words: str, given: bytes = b"", env: Mapping[str, str] | None = None) -> str:
        """Return the one line that a git command prints."""
        return self.run(*words, given=given, env=env).decode().rstrip("\n")


@contextmanager
def repository(folder: Path, *, make: bool = False) -> Iterator[Repository]:
    """Open the repository of `folder`, after making or repairing it where `make` says so.

    Raises:
        UserError: there is no git, no repository, or a git command failed.
    """
    git, folder = _gitpython(), Path(os.path.abspath(folder))
    with _no_git_variables():
        try:
            _settle(git, folder, make)
            with git.Repo(folder, expand_vars=False) as repo:
                yield Repository(repo.git, folder)
        except git.exc.GitError as error:
            raise UserError(f"git failed in {folder}: {error!r}") from error


def object_name(value: str) -> str:
    """Return a whole sha as it is; raises UserError for anything else, which git might read as an option or a name."""
    if not _SHA.fullmatch(value):
        raise UserError(f"expected the whole sha of a commit or a tree, found {value!r}")
    return value


def reason(message: str) -> str:
    """Return git's own words without its prefixes, on one line."""
    lines = (re.sub(r"^(error|fatal): ", "", line.strip()) for line in message.splitlines())
    return "; ".join(line for line in lines if line)


def _gitpython() -> Any:
    try:
        import git
    except ImportError as error:
        raise UserError("git was not found: install it (for example `apt install git`) and run again") from error
    return git


@contextmanager
def _no_git_variables() -> Iterator[None]:
    """Take GIT_* out of the environment for a while: a git hook's or a shell's settings are about another place."""
    before = {name: value for name, value in os.environ.items() if name.startswith("GIT_")}
    for name in before:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(before)


def _execute(
    commands: Any, folder: Path, words: tuple[str, ...], given: Any, env: Mapping[str, str]
) -> tuple[int, bytes, str]:
    found = commands.execute(
        [commands.GIT_PYTHON_GIT_EXECUTABLE, "-C", str(folder), *words],  # GitPython expands $ in a path
        istream=given,
        env={**_ALONE, **env},
        with_extended_output=True,
        with_exceptions=False,
        stdout_as_string=False,
        strip_newline_in_stdout=False,
    )
    return int(found[0]), bytes(found[1]), str(found[2])


def _settle(git: Any, folder: Path, make: bool) -> None:
    """See to it that there is a repository with our settings."""
    config = folder / ".git" / "config"
    if not make and not config.exists():
        raise UserError(f"no git repository in {folder}: expected the one that the exploration was opened with")
    with contextlib.suppress(OSError):
        if SETTINGS in config.read_text(encoding="utf-8"):
            return
    words = ("init", "--quiet", "--template=", "--initial-branch=main")
    status, _, message = _execute(git.Git(), folder, words, None, {})  # repairs a half-made one
    if status != 0:
        raise UserError(_failed(folder, words, status, message))
    descriptor, temporary = tempfile.mkstemp(dir=config.parent, prefix="config.")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(config.read_text(encoding="utf-8").rstrip("\n") + "\n" + SETTINGS)
    os.replace(temporary, config)


def _failed(folder: Path, words: tuple[str, ...], status: int, message: str) -> str:
    told = reason(message) or f"exit status {status}"
    hint = ". If no git is at work there, remove that *.lock file" if ".lock" in told else ""
    return f"`git {words[0]}` failed in {folder}: {told}{hint}"
