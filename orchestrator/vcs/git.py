"""The exploration's own git repository (never the user's).

One `Repo` per call, closed at its end (GitPython leaks in long processes otherwise). Hooks and the user's git settings
are off. Commits are deterministic: identity, dates and message are given, so repeating one gives the same sha.
"""

from __future__ import annotations

import io
import os
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.errors import UserError

IDENTITY = {"name": "experiment-orchestrator", "email": "orchestrator@localhost"}
PACKAGES = ("models", "trainers")
HIDDEN_FROM_TRAINING = ("trainers/prepare", "trainers/scoring")
"""What the training process must not be able to import."""

_NO_SETTINGS = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}


@contextmanager
def _repo(folder: Path) -> Iterator[Any]:
    try:
        import git
    except ImportError as error:
        raise UserError("git was not found: install it (for example `apt install git`) and run again") from error
    try:
        git.Repo.init(folder, initial_branch="main", env=_NO_SETTINGS).close()  # repairs a half-made one
        with git.Repo(folder) as repo, repo.git.custom_environment(**_NO_SETTINGS):
            yield repo
    except git.exc.GitError as error:
        raise UserError(
            f"git failed in {folder}: {error}. If no git is at work there, remove a left-over *.lock file in its .git"
        ) from error


def commit_code(folder: Path, source: Path, branch: str, message: str) -> tuple[str, str]:
    """Commit `models/` and `trainers/` of `source` as they are now; return (commit sha, tree sha).

    The first commit of the exploration's repository. Files that git ignores or the user has not committed are taken
    as they lie there; `__pycache__` is left out. Nothing in `source` is changed.
    """
    with _repo(folder) as repo, tempfile.TemporaryDirectory() as temporary:
        tree = _write_tree(repo, source, Path(temporary))
        commit = _commit_tree(repo, tree, message)
        repo.git.update_ref(f"refs/heads/{branch}", commit)
        repo.git.symbolic_ref("HEAD", f"refs/heads/{branch}")
    return str(commit), str(tree)


def tree_of(folder: Path, source: Path) -> str:
    """Return the tree sha that `commit_code` would commit now; nothing is committed."""
    with _repo(folder) as repo, tempfile.TemporaryDirectory() as temporary:
        return _write_tree(repo, source, Path(temporary))


def _write_tree(repo: Any, source: Path, temporary: Path) -> str:
    index = {"GIT_INDEX_FILE": str(temporary / "index"), "GIT_WORK_TREE": str(source)}
    with repo.git.custom_environment(**_NO_SETTINGS, **index):
        specs = [*(f":(top){name}" for name in PACKAGES), ":(top,exclude,glob)**/__pycache__/**"]
        repo.git(c=["core.autocrlf=false", "core.fileMode=true"]).add("--force", "--", *specs)
        return str(repo.git.write_tree())


def _commit_tree(repo: Any, tree: str, message: str) -> str:
    who = {f"GIT_{role}_{k.upper()}": v for role in ("AUTHOR", "COMMITTER") for k, v in IDENTITY.items()}
    when = {f"GIT_{role}_DATE": "2026-01-01T00:00:00+0000" for role in ("AUTHOR", "COMMITTER")}
    with repo.git.custom_environment(**_NO_SETTINGS, **who, **when):
        return str(repo.git.commit_tree(tree, "-m", message))


def export_code(folder: Path, tree: str, target: Path) -> None:
    """Write the files of `tree` to `target/base` and, without preparation and scoring, to `target/train`; read-only.

    Whole or not at all; an existing export is kept.
    """
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with _repo(folder) as repo, tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as temporary:
        archive = io.BytesIO()
        repo.archive(archive, treeish=tree, format="tar")
        for name in ("base", "train"):
            archive.seek(0)
            with tarfile.open(fileobj=archive) as tar:
                tar.extractall(Path(temporary) / name, filter="data")
        for hidden in HIDDEN_FROM_TRAINING:
            shutil.rmtree(Path(temporary) / "train" / hidden, ignore_errors=True)
        for path in Path(temporary).rglob("*"):
            if path.is_file():
                path.chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
        os.rename(temporary, target)
        os.mkdir(temporary)  # the context manager expects its folder
