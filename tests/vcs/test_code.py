import subprocess

import pytest

from orchestrator.errors import RefusedError, UserError
from orchestrator.vcs import code, git
from tests.vcs.conftest import FILES, SIGNAL, plain, write


def replaced(line, text):
    return SIGNAL.replace(f"line {line}\n", text)


def child(place, texts, base=None):
    return code.tree_with(place.out, base or place.tree, texts)


def patch_of(place, texts):
    return code.difference(place.out, place.tree, child(place, texts))


def refused(function, *arguments):
    with pytest.raises(RefusedError) as caught:
        function(*arguments)
    return str(caught.value)


def test_a_file_is_read_byte_for_byte(odd_place):
    for name, text in FILES.items():
        assert code.read_file(odd_place.out, odd_place.tree, name) == text
    assert code.read_file(odd_place.out, odd_place.commit, "models/mlp.py") == FILES["models/mlp.py"]


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("models/mpl.py", "no file 'models/mpl.py' in this code; there are: "),
        ("models/mpl.py", "models/mlp.py"),
        ("elsewhere/mlp.py", "there are: models/mlp.py"),
        ("models/deep", "'models/deep' is a folder; there are: "),
        ("models/deep/er", "models/deep/er/inner.py"),
        ("models/link.py", "is a symbolic link"),
        ("models/latin.py", "expected UTF-8 text, found byte 0xe9 in line 2"),
        ("", "no file ''"),
        ("../source/models/mlp.py", "no file"),
        ("models/*.py", "no file"),
        (":(top)models/mlp.py", "no file"),
        ("/etc/passwd", "no file"),
    ],
)
def test_what_is_no_regular_text_is_refused_with_what_there_is(place, path, told):
    assert told in refused(code.read_file, place.out, place.tree, path)


def test_a_tree_with_other_texts_keeps_everything_else(odd_place):
    texts = {"models/deep/er/inner.py": "new\n", "models/run.sh": "other\n", "trainers/crlf.py": "no end\r",
             "models/with space.py": "é"}  # fmt: skip
    tree = child(odd_place, texts)
    assert tree == child(odd_place, texts)
    assert code.changed_files(odd_place.out, odd_place.tree, tree) == tuple(sorted(texts))
    assert all(code.read_file(odd_place.out, tree, name) == text for name, text in texts.items())
    assert "100755 blob" in plain(odd_place.out, "ls-tree", tree, "models/run.sh")
    write(odd_place.source, texts)
    assert git.tree_of(odd_place.out, odd_place.source) == tree
    assert plain(odd_place.out, "fsck", "--strict", "--no-dangling") == ""
    assert child(odd_place, {}) == odd_place.tree


@pytest.mark.parametrize("path", ["models/new.py", "models", "models/link.py", "models/deep/er", ""])
def test_a_tree_with_texts_takes_only_files_that_are_there(place, path):
    assert "there are: " in refused(child, place, {"models/mlp.py": "x\n", path: "text\n"})


def test_a_text_that_is_no_utf8_is_refused(place):
    assert "models/mlp.py: line 2 has" in refused(child, place, {"models/mlp.py": "a\n\ud800"})


def test_a_tree_that_is_not_there_or_no_sha_is_an_error(place):
    for name in ("0" * 40, "--help", "HEAD", "", place.tree[:12]):
        with pytest.raises(UserError):
            code.read_file(place.out, name, "models/mlp.py")


def test_a_folder_without_a_repository_is_an_error_and_stays_as_it_is(place, tmp_path):
    inside = place.out / "inside"  # git by itself would go up to the one around it
    inside.mkdir()
    with pytest.raises(UserError, match="no git repository"):
        code.read_file(inside, place.tree, "models/mlp.py")
    assert not list(inside.iterdir())


def test_a_commit_is_decided_by_its_arguments_alone(place, monkeypatch):
    tree = child(place, {"models/mlp.py": "x = 2\n"})
    message = "[Iter 7] é in x (models/mlp.py)\n\nHypothesis: y\n\nIteration: 7\n"
    first = code.commit_edit(place.out, tree, place.commit, message, 7)
    monkeypatch.setenv("GIT_AUTHOR_NAME", "somebody")
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2001-01-01T00:00:00Z")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert code.commit_edit(place.out, tree, place.commit, message, 7) == first
    facts = plain(place.out, "log", "-1", "--format=%T %P %an%n%ad%n%cd%n%B", "--date=iso", first)
    second_7 = "2026-01-01 00:00:07 +0000"
    assert facts == f"{tree} {place.commit} experiment-orchestrator\n{second_7}\n{second_7}\n{message}\n"
    second = code.commit_edit(place.out, place.tree, first, message, 8)
    assert len({first, second, code.commit_edit(place.out, tree, place.commit, message, 8)}) == 3
    assert plain(place.out, "log", "--format=%H", second).split() == [second, first, place.commit]
    with pytest.raises(UserError):
        code.commit_edit(place.out, tree, "0" * 40, message, 7)


def test_the_first_commit_has_the_same_sha_as_ever(tmp_path):
    """Explorations of earlier versions go on: the sha is of a commit that plain git makes with these facts."""
    source, out = write(tmp_path / "source"), tmp_path / "out"
    out.mkdir()
    commit, tree = git.commit_code(out, source, "exploration/x", "Code\n\nExploration: x")
    who = "experiment-orchestrator <orchestrator@localhost> 1767225600 +0000"
    body = f"tree {tree}\nauthor {who}\ncommitter {who}\n\nCode\n\nExploration: x\n"
    assert plain(out, "hash-object", "-t", "commit", "--stdin", given=body.encode()).strip() == commit


# Patches


def test_a_difference_is_a_patch_for_git_apply_and_back(odd_place):
    texts = {"models/with space.py": "new\n", "trainers/crlf.py": "a = 2\r\nb = 2", "models/étè.py": "\n",
             "models/run.sh": "none"}  # fmt: skip
    patch = patch_of(odd_place, texts)
    assert code.patched(odd_place.out, odd_place.tree, patch) == texts
    assert code.patched(odd_place.out, odd_place.tree, f"From someone\n\nSubject: words\n---\n{patch}") == texts
    subprocess.run(["git", "apply", "-"], cwd=odd_place.source, input=patch.encode(), check=True)
    assert git.tree_of(odd_place.out, odd_place.source) == child(odd_place, texts)
    assert code.difference(odd_place.out, odd_place.tree, odd_place.tree) == ""


def test_a_difference_shows_no_renames_and_carries_bytes_that_are_no_text(place):
    (place.source / "models/mlp.py").rename(place.source / "models/other.py")
    (place.source / "models/latin.py").write_bytes(b"# \xe8\n")
    (place.source / "models/binary.bin").write_bytes(bytes(range(256)))
    tree = git.tree_of(place.out, place.source)
    patch = code.difference(place.out, place.tree, tree)
    assert "rename" not in patch and "deleted file" in patch
    other = write(place.out.parent / "other")
    (other / "models/latin.py").write_bytes(b"# first\n# \xe9\n")
    subprocess.run(["git", "apply", "-"], cwd=other, input=patch.encode(errors="surrogateescape"), check=True)
    assert (other / "models/binary.bin").read_bytes() == bytes(range(256))
    assert (other / "models/latin.py").read_bytes() == b"# \xe8\n"


NEW = "--- /dev/null\n+++ b/models/new.py\n@@ -0,0 +1 @@\n+x\n"
HEAD = "diff --git a/models/mlp.py b/models/mlp.py\n"
FAULTY = {
    "creates": (f"diff --git a/models/new.py b/models/new.py\nnew file mode 100644\n{NEW}", "creates models/new.py"),
    "deletes": (f"{HEAD}deleted file mode 100644\n--- a/models/mlp.py\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-# mlp\n"
                "-x = 1\n", "deletes models/mlp.py"),
    "renames": ("diff --git a/models/mlp.py b/models/m.py\nsimilarity index 100%\nrename from models/mlp.py\n"
                "rename to models/m.py\n", "creates models/m.py"),
    "mode": (f"{HEAD}old mode 100644\nnew mode 100755\n", "changes the mode of models/mlp.py"),
    "link": ("diff --git a/models/link.py b/models/link.py\n--- a/models/link.py\n+++ b/models/link.py\n@@ -1 +1 @@\n"
             "-mlp.py\n\\ No newline at end of file\n+/etc/passwd\n\\ No newline at end of file\n", "a link"),
    "context": ("--- a/models/mlp.py\n+++ b/models/mlp.py\n@@ -1,2 +1,2 @@\n # mpl\n-x = 1\n+x = 2\n",
                "does not apply: patch failed: models/mlp.py:1"),
    "absent": ("--- a/models/no.py\n+++ b/models/no.py\n@@ -1 +1 @@\n-x\n+y\n", "models/no.py: does not exist"),
    "above": ("--- a/../own.py\n+++ b/../own.py\n@@ -1 +1 @@\n-x\n+y\n", "does not apply"),
    "prose": ("please change x to 2", "does not apply"),
    "empty": ("", "does not apply"),
    "torn": ("--- a/models/mlp.py\n+++ b/models/mlp.py\n@@ -1,2 +1,2 @@\n # mlp\n-x = 1\n", "does not apply"),
    "latin": ("--- a/models/latin.py\n+++ b/models/latin.py\n@@ -1 +1 @@\n-# first\n+# second\n", "does not apply"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTY)
def test_a_patch_that_does_more_than_change_texts_is_refused(place, name):
    patch, told = FAULTY[name]
    before = plain(place.out, "for-each-ref") + plain(place.out, "ls-tree", "-r", place.commit)
    assert told in refused(code.patched, place.out, place.tree, patch)
    assert plain(place.out, "for-each-ref") + plain(place.out, "ls-tree", "-r", place.commit) == before
    assert not (place.out / ".git/index").exists()


# Merges


def test_edits_of_two_children_are_combined(odd_place):
    near, far = replaced(3, "three\n"), replaced(28, "more\nthan one\n")
    same = {"models/with space.py": "same\n"}
    first = child(odd_place, {"trainers/signal.py": near, "models/mlp.py": "first\n", **same})
    second = child(odd_place, {"trainers/signal.py": far, "models/run.sh": "second\n", **same})
    both = near.replace("line 28\n", "more\nthan one\n")
    expected = {"trainers/signal.py": both, "models/mlp.py": "first\n", "models/run.sh": "second\n", **same}
    assert code.combined(odd_place.out, odd_place.tree, (first, second)) == expected
    assert code.combined(odd_place.out, odd_place.tree, (second, first)) == expected
    assert code.combined(odd_place.out, odd_place.tree, (first, odd_place.tree)).keys() == {
        "trainers/signal.py", "models/mlp.py", "models/with space.py"}  # fmt: skip


def test_a_conflict_is_refused_with_file_and_lines(place):
    first = child(place, {"trainers/signal.py": replaced(12, "twelve\n").replace("line 25\n", "x\n")})
    second = child(place, {"trainers/signal.py": replaced(12, "dozen\n").replace("line 2\n", "y\n")})
    told = refused(code.combined, place.out, place.tree, (first, second))
    assert "conflict in trainers/signal.py, near line 12 of" in told


def test_children_that_do_more_than_change_texts_are_not_combined(place):
    first = child(place, {"models/mlp.py": "first\n"})
    (place.source / "models/new.py").write_text("new\n")
    second = git.tree_of(place.out, place.source)
    assert "creates models/new.py" in refused(code.combined, place.out, place.tree, (first, second))
    assert "deletes models/new.py" in refused(code.combined, place.out, second, (first, second))
    latin = (place.source / "models/latin.py").read_bytes()
    (place.source / "models/new.py").unlink()
    (place.source / "models/latin.py").write_bytes(latin + b"# more\n")
    third = git.tree_of(place.out, place.source)
    assert "expected UTF-8" in refused(code.combined, place.out, place.tree, (first, third))
