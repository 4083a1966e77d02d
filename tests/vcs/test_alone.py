"""Nothing of the user's git settings, hooks, attributes or environment acts in the exploration's repository."""

import os

from orchestrator.vcs import code, git
from tests.vcs.conftest import FILES, opened, plain

BRANCH = "exploration/x"


def everything(folder):
    """Return what each function gives in a fresh exploration below `folder`."""
    folder.mkdir()
    place = opened(folder)
    out = place.out
    first = code.tree_with(out, place.tree, {"models/mlp.py": "x = 2  \n", "trainers/crlf.py": "a = 3\r\nb = 2"})
    second = code.tree_with(out, place.tree, {"models/étè.py": "second\r\n"})
    commit = code.commit_edit(out, first, place.commit, "# [Iter 1] é\n\nIteration: 1\n", 1)
    patch = code.difference(out, place.tree, first)
    git.set_refs(out, {1: commit}, BRANCH, commit)
    git.export_code(out, first, out / "code" / first)
    exported = {
        str(p.relative_to(out)): p.read_bytes() for p in (out / "code").rglob("*") if p.is_file() and not p.is_symlink()
    }
    return {
        "opened": (place.commit, place.tree),
        "trees": (first, second),
        "commit": commit,
        "patch": patch,
        "patched": code.patched(out, place.tree, patch),
        "combined": code.combined(out, place.tree, (first, second)),
        "changed": code.changed_files(out, place.tree, first),
        "read": [code.read_file(out, first, name) for name in FILES],
        "refs": git.refs(out),
        "opening": git.opening_commit(out, BRANCH),
        "tree_of": git.tree_of(out, place.source),
        "exported": exported,
    }


def program(path, touched):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\ntouch "{touched}"\ncat >/dev/null\nexit 1\n')
    path.chmod(0o755)
    return path


SETTINGS = """
[core]
\thooksPath = {hooks}
\tfsmonitor = {tool}
\tautocrlf = true
\tattributesFile = {attributes}
\tquotePath = false
\tpager = {tool}
\tsshCommand = {tool}
[init]
\ttemplateDir = {template}
\tdefaultObjectFormat = sha256
[alias]
\tls-tree = !{tool}
\tx = !{tool}
[diff]
\texternal = {tool}
\tnoprefix = true
\tmnemonicPrefix = true
\trenames = copies
\tcontext = 0
[color]
\tui = always
\tdiff = always
[diff "bad"]
\tcommand = {tool}
\ttextconv = {tool}
[filter "bad"]
\tclean = {tool}
\tsmudge = {tool}
\trequired = true
[merge]
\tconflictStyle = diff3
[apply]
\twhitespace = error
[commit]
\tgpgsign = true
[gpg]
\tprogram = {tool}
[i18n]
\tcommitEncoding = latin1
[user]
\tname = Somebody
\tuseConfigOnly = true
[gc]
\tauto = 1
[trailer "x"]
\tcommand = {tool}
[tar]
\tumask = 0777
"""


def hostile(root, monkeypatch):
    """Put all of it in force; return the file that anything of it touches."""
    touched, home = root / "touched", root / "home"
    tool = program(root / "tool", touched)
    for folder in (root / "hooks", root / "template/hooks"):
        for hook in ("reference-transaction", "post-index-change", "pre-commit", "post-commit", "post-checkout"):
            program(folder / hook, touched)
    attributes = home / ".config/git/attributes"
    attributes.parent.mkdir(parents=True)
    attributes.write_text("*.py filter=bad diff=bad merge=bad text eol=crlf working-tree-encoding=UTF-16\n")
    text = SETTINGS.format(hooks=root / "hooks", tool=tool, attributes=attributes, template=root / "template")
    (home / ".gitconfig").write_text(text)
    (home / ".config/git/config").write_text(text)
    other = root / "other"
    other.mkdir()
    plain(other, "init", "--quiet")
    given = {
        "HOME": home, "XDG_CONFIG_HOME": home / ".config", "GIT_CONFIG_GLOBAL": home / ".gitconfig",
        "GIT_CONFIG_SYSTEM": home / ".gitconfig", "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "diff.external",
        "GIT_CONFIG_VALUE_0": tool, "GIT_CONFIG_PARAMETERS": f"'core.hooksPath'='{root / 'hooks'}'",
        "GIT_DIR": other / ".git", "GIT_WORK_TREE": other, "GIT_INDEX_FILE": other / "index",
        "GIT_OBJECT_DIRECTORY": other / "objects", "GIT_NAMESPACE": "x", "GIT_EXTERNAL_DIFF": tool,
        "GIT_TEMPLATE_DIR": root / "template", "GIT_AUTHOR_NAME": "x", "GIT_COMMITTER_DATE": "2001-01-01T00:00:00Z",
        "GIT_DIFF_OPTS": "--unified=0", "GIT_LITERAL_PATHSPECS": "1", "GIT_COMMON_DIR": other / ".git",
        "GIT_DEFAULT_HASH": "sha256", "GIT_TRACE": touched, "GIT_ATTR_SOURCE": "HEAD", "GIT_PREFIX": "models/",
    }  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(name, str(value))
    return touched, other


def test_nothing_of_the_users_git_acts(tmp_path, monkeypatch):
    expected = everything(tmp_path / "a")
    (tmp_path / "b").mkdir()
    touched, other = hostile(tmp_path / "b", monkeypatch)
    before = sorted(other.rglob("*"))
    environment = dict(os.environ)
    found = everything(tmp_path / "c")
    assert found == expected
    assert not touched.exists()
    assert sorted(other.rglob("*")) == before
    assert dict(os.environ) == environment
    assert not (tmp_path / "c/out/.git/hooks").exists()


def test_a_folder_named_like_a_variable_is_taken_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("ELSEWHERE", str(tmp_path / "elsewhere"))
    assert everything(tmp_path / "$ELSEWHERE %HOME%")["refs"]
    assert not (tmp_path / "elsewhere").exists()


def test_a_relative_folder_is_taken_from_where_one_is(tmp_path, monkeypatch):
    place = opened(tmp_path)
    monkeypatch.chdir(tmp_path)
    relative = type(place.out)("out")
    assert git.tree_of(relative, type(place.out)("source")) == place.tree
    assert code.read_file(relative, place.tree, "models/mlp.py") == FILES["models/mlp.py"]
