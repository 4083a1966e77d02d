"""The exploration's own git repository (never the user's): its first commit, exported code, refs.

Commits are deterministic: identity, dates and message are given, so repeating one gives the same sha.
"""

from __future__ import annotations

import fcntl
import io
import os
import re
import shutil
import stat
import tarfile
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.vcs.repo import Repository, object_name, repository

IDENTITY = {"name": "experiment-orchestrator", "email": "orchestrator@localhost"}
EPOCH = 1767225600
"""2026-01-01T00:00:00Z: the date of the first commit; later ones add their iteration in seconds."""
PACKAGES = ("models", "trainers")
HIDDEN_FROM_TRAINING = ("trainers/prepare", "trainers/scoring")
"""What the training process must not be able to import."""
EXPORTING = ".export-"
"""How the folder begins that an export is made in."""
PATIENT = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.filesRefLockTimeout", "GIT_CONFIG_VALUE_0": "2000"}
"""Lets git wait this many milliseconds for the lock of a ref, which a git that outlived its engine may hold."""
PATIENCE_S = 1.0
"""For the locks of a git process that outlives its killed engine."""


def commit_code(folder: Path, source: Path, branch: str, message: str) -> tuple[str, str]:
    """Commit `models/` and `trainers/` of `source` as they are now; return (commit sha, tree sha).

    The first commit of the exploration's repository. Files that git ignores or the user has not committed are taken
    as they lie there; `__pycache__` is left out. Nothing in `source` is changed.
    """
    with repository(folder, make=True) as repo:
        tree = _write_tree(repo, source)
        commit = commit_tree(repo, tree, (), message, EPOCH)
        repo.run("update-ref", f"refs/heads/{branch}", commit)
        repo.run("symbolic-ref", "HEAD", f"refs/heads/{branch}")
    return commit, tree


def tree_of(folder: Path, source: Path) -> str:
    """Return the tree sha that `commit_code` would commit now; nothing is committed."""
    with repository(folder, make=True) as repo:
        return _write_tree(repo, source)


def _write_tree(repo: Repository, source: Path) -> str:
    specs = [*(f":(top){name}" for name in PACKAGES), ":(top,exclude,glob)**/__pycache__/**"]
    with tempfile.TemporaryDirectory() as temporary:
        env = {"GIT_INDEX_FILE": f"{temporary}/index", "GIT_WORK_TREE": os.path.abspath(source)}
        settings = ("-c", "core.autocrlf=false", "-c", "core.fileMode=true")
        repo.run(*settings, "add", "--force", "--", *specs, env=env)
        return repo.line("write-tree", env=env)


def commit_tree(repo: Repository, tree: str, parents: tuple[str, ...], message: str, second: int) -> str:
    """Return the sha of a commit that the arguments alone decide."""
    env = {f"GIT_{role}_{k.upper()}": v for role in ("AUTHOR", "COMMITTER") for k, v in IDENTITY.items()}
    env |= {f"GIT_{role}_DATE": f"{second} +0000" for role in ("AUTHOR", "COMMITTER")}
    named = [word for parent in parents for word in ("-p", object_name(parent))]
    text = f"{message.rstrip()}\n".encode()
    return repo.line("-c", "i18n.commitEncoding=UTF-8", "commit-tree", object_name(tree), *named, given=text, env=env)


# Code as files


def export_code(folder: Path, tree: str, target: Path) -> None:
    """Write the files of `tree` to `target/base` and, without preparation and scoring, to `target/train`; read-only.

    Whole or not at all, also when killed; an existing export is kept, also one that another process made meanwhile.
    """
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with repository(folder) as repo:
        archive = repo.run("archive", "--format=tar", object_name(tree))
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=EXPORTING))
    held = os.open(temporary, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)  # tells `tidy` of another engine that it is being made
        _extract(archive, temporary)
        os.rename(temporary, target)
    except OSError:
        if not target.exists():
            raise
    finally:
        os.close(held)
        shutil.rmtree(temporary, ignore_errors=True)


def _extract(archive: bytes, folder: Path) -> None:
    for name in ("base", "train"):
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(folder / name, filter="data")
    for hidden in HIDDEN_FROM_TRAINING:
        shutil.rmtree(folder / "train" / hidden, ignore_errors=True)
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
            _sync(path)


def _sync(path: Path) -> None:
    """Bring a file to the disk: an export is never looked at again, so a power cut must not leave it empty."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def tidy(folder: Path) -> None:
    """Remove what a killed engine left: git's lock files, half-made exports in `code/`.

    Only the holder of the engine's lock may call it. A git process that outlived its engine has a second to finish.
    """
    deadline = time.monotonic() + PATIENCE_S
    while (found := _locks(folder)) and time.monotonic() < deadline:
        time.sleep(0.02)
    for path in found:
        path.unlink(missing_ok=True)
    for path in (folder / "code").glob(f"{EXPORTING}*"):
        _remove_unheld(path)


def _locks(folder: Path) -> list[Path]:
    return [p for p in (folder / ".git").rglob("*.lock") if p.is_file()]


def _remove_unheld(path: Path) -> None:
    """Remove a half-made export, unless a living process is making it."""
    try:
        held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
    except BlockingIOError:
        return
    finally:
        os.close(held)


# Refs: a view of the journal


def opening_commit(folder: Path, branch: str) -> str | None:
    """Return the commit that the branch began with, None where there is no such branch."""
    if not (folder / ".git").exists():
        return None
    with repository(folder) as repo:
        status, _, _ = repo.attempt("rev-parse", "--quiet", "--verify", f"refs/heads/{branch}^{{commit}}")
        if status != 0:
            return None
        return repo.line("rev-list", "--first-parent", "--max-parents=0", f"refs/heads/{branch}")


def refs(folder: Path) -> dict[str, str]:
    """Return the commit of each node with one: `refs/nodes/NNNN` -> sha."""
    if not (folder / ".git").exists():
        return {}
    with repository(folder) as repo:
        return {name: sha for name, sha in _refs(repo).items() if name.startswith("refs/nodes/")}


def set_refs(folder: Path, nodes: Mapping[int, str], branch: str, best: str) -> None:
    """Make `refs/nodes/*` exactly `nodes`, and `refs/heads/<branch>`, with HEAD on it, `best`, in one transaction.

    Nothing is written when they are so already.

    Raises:
        UserError: a commit is not in the repository; no ref was changed.
    """
    head = f"refs/heads/{branch}"
    wanted = {f"refs/nodes/{node:04d}": object_name(sha) for node, sha in nodes.items()} | {head: object_name(best)}
    with repository(folder) as repo:
        found = {name: sha for name, sha in _refs(repo).items() if name.startswith("refs/nodes/") or name == head}
        if found != wanted:
            _must_have(repo, wanted)
            orders = [f"delete {name}\0\0" for name in sorted(found.keys() - wanted.keys())]
            orders += [f"update {n}\0{sha}\0\0" for n, sha in sorted(wanted.items()) if found.get(n) != sha]
            repo.run("update-ref", "--no-deref", "-z", "--stdin", given="".join(orders).encode(), env=PATIENT)
        if (repo.folder / ".git" / "HEAD").read_text(encoding="utf-8").strip() != f"ref: {head}":
            repo.run("symbolic-ref", "HEAD", head)


def _refs(repo: Repository) -> dict[str, str]:
    told = repo.line("for-each-ref", "--format=%(objectname) %(refname)", "refs/nodes", "refs/heads")
    return {name: sha for sha, _, name in (line.partition(" ") for line in told.splitlines())}


def _must_have(repo: Repository, wanted: Mapping[str, str]) -> None:
    """Refuse commits that are not there."""
    asked = "".join(f"{sha}\n" for sha in wanted.values()).encode()
    told = repo.line("cat-file", "--batch-check=%(objectname) %(objecttype)", given=asked).splitlines()
    missing = [f"{name} ({sha})" for (name, sha), line in zip(wanted.items(), told, strict=True)
               if not re.fullmatch(r"\w+ commit", line)]  # fmt: skip
    if missing:
        raise UserError(
            f"{repo.folder / '.git'} has no commit for {', '.join(missing)}: something removed it (`git gc --prune`, a "
            "copy that is not whole). Put the folder back from a copy, or start again with FRESH=1"
        )
