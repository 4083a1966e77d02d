"""Texts of a code state, and what an edit makes of them: trees, commits, patches, merges, differences.

Everything is read from and written to git objects; no worktree, no branch and no index of the repository is touched,
so a kill leaves unreferenced objects at most, which the repository's settings keep.
"""

from __future__ import annotations

import difflib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import RefusedError
from orchestrator.vcs.git import EPOCH, commit_tree
from orchestrator.vcs.repo import Repository, object_name, reason, repository

REGULAR = {"100644": "file", "100755": "program"}
KINDS = {"040000": "a folder", "120000": "a symbolic link", "160000": "another repository"}
LISTED = 40
"""Files that a refusal names."""


@dataclass(frozen=True)
class Entry:
    """One line of a tree: a file, a folder, a link."""

    mode: str
    kind: str
    sha: str


def read_file(folder: Path, tree: str, path: str) -> str:
    """Return the text of a regular file of a tree, byte for byte: no filter or line-end rule acts.

    Raises:
        RefusedError: there is no such file, it is no regular one, or no UTF-8 text; says what there is.
    """
    with repository(folder) as repo:
        return _text(repo, _entries(repo, tree), path)


def tree_with(folder: Path, tree: str, texts: Mapping[str, str]) -> str:
    """Return the sha of `tree` with other texts in some of its regular files, whose modes are kept.

    Raises:
        RefusedError: a path that is not there or no regular file, or a text that is no UTF-8. Only loose objects
            are left behind.
    """
    with repository(folder) as repo:
        entries = _entries(repo, tree)
        for path, text in sorted(texts.items()):
            old = _file(entries, path)
            sha = repo.line("hash-object", "-w", "--no-filters", "--stdin", given=_encoded(path, text))
            entries[path] = Entry(old.mode, old.kind, sha)
        return _rebuilt(repo, tree, entries, texts)


def commit_edit(folder: Path, tree: str, parent: str, message: str, iteration: int) -> str:
    """Return the sha of the commit of an edit: the same for the same arguments; `git log` sorts by iteration."""
    with repository(folder) as repo:
        return commit_tree(repo, tree, (parent,), message, EPOCH + iteration)


def patched(folder: Path, tree: str, patch: str) -> dict[str, str]:
    """Return path -> new text of the files that a unified diff (paths below a/ and b/) changes.

    Raises:
        RefusedError: it does not apply (with git's reason), or does more than change texts of existing regular files.
    """
    given = _encoded("the patch", patch if patch.endswith("\n") else f"{patch}\n")
    with repository(folder) as repo, tempfile.TemporaryDirectory() as temporary:
        env = {"GIT_INDEX_FILE": f"{temporary}/index"}
        before = _entries(repo, tree)
        repo.run("read-tree", tree, env=env)
        status, _, message = repo.attempt("apply", "--cached", "--whitespace=nowarn", "-", given=given, env=env)
        if status != 0:
            raise RefusedError(
                f"the patch does not apply: {reason(message)}. Expected a unified diff of existing files against this "
                "code, with paths such as a/models/mlp.py and b/models/mlp.py"
            )
        after = _entries(repo, repo.line("write-tree", env=env))
        changed = _changed(before, after)
        if not changed:
            raise RefusedError("the patch changes nothing")
        _only_texts(before, after, changed)
        return {path: _text(repo, after, path) for path in changed}


def combined(folder: Path, base: str, trees: tuple[str, str]) -> dict[str, str]:
    """Return path -> text of the files that either of two children of `base` changes, with the changes of both.

    Raises:
        RefusedError: both change the same lines (names file and lines of `base`), or a child does more than change
            texts of existing regular files.
    """
    with repository(folder) as repo:
        old, first, second = (_entries(repo, tree) for tree in (base, *trees))
        for child in (first, second):
            _only_texts(old, child, _changed(old, child))
        found = {}
        for path in _changed(old, first) + [p for p in _changed(old, second) if old[p] == first[p]]:
            if old[path] == second[path] or first[path] == second[path]:
                found[path] = _text(repo, first, path)
            elif old[path] == first[path]:
                found[path] = _text(repo, second, path)
            else:
                sides = [_text(repo, side, path) for side in (first, old, second)]
                found[path] = _merged(repo, path, sides)
        return dict(sorted(found.items()))


def changed_files(folder: Path, tree_a: str, tree_b: str) -> tuple[str, ...]:
    """Return the paths of files that differ between two trees (or commits), sorted."""
    with repository(folder) as repo:
        return tuple(_changed(_entries(repo, tree_a), _entries(repo, tree_b)))


def difference(folder: Path, a: str, b: str) -> str:
    """Return the unified diff between two trees (or commits) that `git apply` takes.

    Bytes that are no UTF-8 come as surrogates (`errors="surrogateescape"`).
    """
    options = ("--no-renames", "--no-ext-diff", "--no-textconv", "--no-color", "--full-index", "--binary")
    prefixes = ("--src-prefix=a/", "--dst-prefix=b/")
    with repository(folder) as repo:
        told = repo.run("diff-tree", "-r", "-p", *options, *prefixes, object_name(a), object_name(b))
    return told.decode(errors="surrogateescape")


# Trees


def _entries(repo: Repository, tree: str) -> dict[str, Entry]:
    """Return everything in a tree by its path, folders included."""
    found = {}
    told = repo.run("ls-tree", "-r", "-t", "-z", "--full-tree", object_name(tree))
    for line in told.decode(errors="surrogateescape").split("\0")[:-1]:
        facts, _, path = line.partition("\t")
        found[path] = Entry(*facts.split())
    return found


def _file(entries: Mapping[str, Entry], path: str) -> Entry:
    """Return the entry of a regular file; raises RefusedError saying what there is."""
    found = entries.get(path)
    if found is not None and found.mode in REGULAR:
        return found
    files = sorted(name for name, entry in entries.items() if entry.mode in REGULAR)
    beside = [name for name in files if os.path.dirname(name) == os.path.dirname(path) or name.startswith(f"{path}/")]
    listed = beside or difflib.get_close_matches(path, files, 5) or files
    more = f" and {len(listed) - LISTED} more" if len(listed) > LISTED else ""
    what = f"{path!r} is {KINDS.get(found.mode, 'no file')}" if found is not None else f"no file {path!r} in this code"
    raise RefusedError(f"{what}; there are: {', '.join(listed[:LISTED]) or 'no files'}{more}")


def _text(repo: Repository, entries: Mapping[str, Entry], path: str) -> str:
    data = repo.run("cat-file", "blob", _file(entries, path).sha)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RefusedError(f"{path}: expected UTF-8 text, found byte {data[error.start]:#x} in line {line}") from None


def _encoded(path: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        raise RefusedError(f"{path}: line {line} has {text[error.start]!a}, which no UTF-8 text can hold") from None


def _rebuilt(repo: Repository, tree: str, entries: dict[str, Entry], changed: Mapping[str, str]) -> str:
    """Return the tree of changed entries: the folders above them are written anew, the deepest first."""
    above = {str(parent) for path in changed for parent in Path(path).parents if str(parent) != "."}
    for place in (*sorted(above, key=lambda name: -name.count("/")), ""):
        inside = {name: entry for name, entry in entries.items() if os.path.dirname(name) == place}
        lines = "".join(f"{e.mode} {e.kind} {e.sha}\t{os.path.basename(n)}\0" for n, e in inside.items())
        tree = repo.line("mktree", "-z", given=lines.encode(errors="surrogateescape"))
        entries[place] = Entry("040000", "tree", tree)
    return tree


def _changed(before: Mapping[str, Entry], after: Mapping[str, Entry]) -> list[str]:
    paths = {p for side in (before, after) for p, entry in side.items() if entry.kind != "tree"}
    return sorted(path for path in paths if before.get(path) != after.get(path))


def _only_texts(before: Mapping[str, Entry], after: Mapping[str, Entry], changed: list[str]) -> None:
    """Refuse everything but new texts in existing regular files."""
    for path in changed:
        old, new = before.get(path), after.get(path)
        if old is None or new is None or new.kind == "tree" or old.kind == "tree":
            what = "creates" if old is None or old.kind == "tree" else "deletes"
        elif old.mode not in REGULAR or new.mode not in REGULAR:
            what = "touches or makes a link in place of"
        elif old.mode != new.mode:
            what = "changes the mode of"
        else:
            continue
        raise RefusedError(f"the edit {what} {path}: an edit may only change the text of files that are there")


# Merging


def _merged(repo: Repository, path: str, sides: list[str]) -> str:
    """Return the merge of one file; `sides` are the first child's, the base's and the second child's text."""
    with tempfile.TemporaryDirectory() as temporary:
        names = [f"{temporary}/{name}" for name in ("first", "base", "second")]
        for name, text in zip(names, sides, strict=True):
            Path(name).write_bytes(text.encode())
        status, output, message = repo.attempt("merge-file", "--stdout", "--quiet", *names)
    if status == 0:
        return output.decode()
    if status > 127:
        raise RefusedError(f"{path}: the two edits cannot be merged: {reason(message) or 'git gives no reason'}")
    raise RefusedError(
        f"the two edits conflict in {path}{_both(*sides)}: both change the same place. Take one of them, or write the "
        "combination yourself"
    )


def _both(first: str, base: str, second: str) -> str:
    """Return which lines of the base both sides change, in words; "" where a plain comparison finds none."""
    ours, theirs = _touched(base, first), _touched(base, second)
    places = sorted({(max(a, c), min(b, d)) for a, b in ours for c, d in theirs if max(a, c) <= min(b, d)})
    shown = [f"{low + 1}" if high <= low + 1 else f"{low + 1} to {high}" for low, high in places]
    return f", near line {', '.join(shown)} of the code that both began with" if shown else ""


def _touched(base: str, side: str) -> list[tuple[int, int]]:
    """Return the ranges of the base's lines (from 0, end left out) that a side replaces or adds at."""
    matcher = difflib.SequenceMatcher(None, base.splitlines(), side.splitlines(), autojunk=False)
    return [(low, high) for tag, low, high, _, _ in matcher.get_opcodes() if tag != "equal"]
