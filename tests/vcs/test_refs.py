import os
import random
import subprocess
import sys
import time

import pytest

from orchestrator.errors import UserError
from orchestrator.vcs import code, git
from orchestrator.vcs.repo import Repository
from tests.vcs.conftest import plain

BRANCH = "exploration/x"


def commits(place, count):
    """Return commits of a chain that nothing refers to."""
    found = [place.commit]
    for n in range(1, count + 1):
        tree = code.tree_with(place.out, place.tree, {"models/mlp.py": f"x = {n}\n"})
        found.append(code.commit_edit(place.out, tree, found[-1], f"[Iter {n}] x\n", n))
    return found[1:]


def files(folder):
    return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in sorted((folder / ".git").rglob("*")) if p.is_file()}


def test_refs_become_exactly_what_is_asked_for(odd_place):
    out, (a, b, c) = odd_place.out, commits(odd_place, 3)
    assert git.refs(out) == {}
    git.set_refs(out, {1: a, 2: b, 12345: c}, BRANCH, b)
    assert git.refs(out) == {"refs/nodes/0001": a, "refs/nodes/0002": b, "refs/nodes/12345": c}
    assert plain(out, "rev-parse", "HEAD", BRANCH).split() == [b, b]
    plain(out, "pack-refs", "--all")
    git.set_refs(out, {2: c}, BRANCH, c)
    assert git.refs(out) == {"refs/nodes/0002": c}
    assert plain(out, "symbolic-ref", "HEAD").strip() == f"refs/heads/{BRANCH}"
    assert plain(out, "rev-parse", "HEAD").strip() == c
    assert git.opening_commit(out, BRANCH) == odd_place.commit
    git.set_refs(out, {}, BRANCH, odd_place.commit)
    assert git.refs(out) == {}


def test_refs_that_are_so_already_cost_one_look(place, monkeypatch):
    a, b = commits(place, 2)
    git.set_refs(place.out, {1: a, 2: b}, BRANCH, b)
    before, ran, attempt = files(place.out), [], Repository.attempt
    monkeypatch.setattr(Repository, "attempt", lambda *given, **more: ran.append(given[1]) or attempt(*given, **more))
    git.set_refs(place.out, {2: b, 1: a}, BRANCH, b)
    assert files(place.out) == before and ran == ["for-each-ref"]


def test_a_ref_that_somebody_moved_is_put_back(place):
    a, b = commits(place, 2)
    git.set_refs(place.out, {1: a}, BRANCH, b)
    plain(place.out, "update-ref", "refs/nodes/0009", b)
    plain(place.out, "update-ref", "refs/nodes/0001", b)
    plain(place.out, "checkout", "-q", "-f", "-b", "mine")
    git.set_refs(place.out, {1: a}, BRANCH, b)
    assert git.refs(place.out) == {"refs/nodes/0001": a}
    assert plain(place.out, "symbolic-ref", "HEAD").strip() == f"refs/heads/{BRANCH}"
    assert plain(place.out, "rev-parse", "mine").strip() == b


def test_a_commit_that_is_missing_is_said_and_nothing_is_changed(place):
    (a,) = commits(place, 1)
    git.set_refs(place.out, {1: a}, BRANCH, a)
    for sha in ("1" * 40, place.tree):
        with pytest.raises(UserError, match=rf"no commit for refs/nodes/0002 \({sha}\)"):
            git.set_refs(place.out, {1: place.commit, 2: sha}, BRANCH, a)
    assert git.refs(place.out) == {"refs/nodes/0001": a}


def test_the_opening_commit_of_no_branch_is_none(place, tmp_path):
    assert git.opening_commit(place.out, "exploration/other") is None
    assert git.opening_commit(tmp_path, BRANCH) is None and git.refs(tmp_path) == {}
    assert not (tmp_path / ".git").exists()


def test_commits_that_nothing_refers_to_outlive_a_collection(place):
    a, b = commits(place, 2)
    for path in (place.out / ".git/objects").rglob("*"):
        if path.is_file():
            os.utime(path, (10**9, 10**9))
    plain(place.out, "gc", "--quiet")
    git.set_refs(place.out, {1: a, 2: b}, BRANCH, b)
    assert plain(place.out, "config", "gc.auto").strip() == "0"


def test_a_repository_of_an_earlier_version_gets_the_settings(tmp_path):
    plain(tmp_path, "init", "--quiet")
    assert git.opening_commit(tmp_path, BRANCH) is None
    config = (tmp_path / ".git/config").read_text()
    assert plain(tmp_path, "config", "gc.pruneExpire").strip() == "never" and "bare = false" in config
    git.opening_commit(tmp_path, BRANCH)
    assert (tmp_path / ".git/config").read_text() == config


# Kills


def test_tidy_removes_left_over_locks_and_exports_that_nobody_makes(place):
    out = place.out
    left = [out / ".git/index.lock", out / ".git/refs/nodes/0001.lock", out / ".git/packed-refs.lock"]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (out / "code/.export-dead/base").mkdir(parents=True)
    (out / "code/.export-dead/base/x.py").touch(mode=0o444)
    git.export_code(out, place.tree, out / "code" / place.tree)
    git.tidy(out)
    assert not any(path.exists() for path in left)
    assert [p.name for p in (out / "code").iterdir()] == [place.tree]
    assert (out / ".git/HEAD").exists()
    git.tidy(out)
    git.tidy(out / "nowhere")


def test_tidy_waits_for_a_git_process_that_is_still_at_work(place):
    lock = place.out / ".git/packed-refs.lock"
    lock.touch()
    holder = subprocess.Popen(["sh", "-c", 'sleep 0.2; mv "$1" "$2"', "sh", lock, place.out / ".git/packed-refs"])
    git.tidy(place.out)
    assert holder.wait() == 0 and (place.out / ".git/packed-refs").exists()


def test_tidy_leaves_an_export_that_a_living_process_makes(place):
    (place.out / "code/.export-alive").mkdir(parents=True)
    script = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), 2); print(1, flush=True); input()"
    command = [sys.executable, "-c", script, place.out / "code/.export-alive"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        git.tidy(place.out)
        assert (place.out / "code/.export-alive").exists()
        child.kill()
    git.tidy(place.out)
    assert not (place.out / "code/.export-alive").exists()


CHILD = """
import sys
from pathlib import Path
from orchestrator.vcs import git
out, tree, branch, *commits = sys.argv[1:]
print("ready", flush=True)
n = 0
while True:
    n += 1
    git.set_refs(Path(out), {i: commits[(i + n) % len(commits)] for i in range(1, 6 + n % 4)}, branch, commits[n % 2])
    git.export_code(Path(out), tree, Path(out) / "code" / f"{n}")
"""


def test_a_kill_at_any_point_leaves_refs_that_can_be_set_and_whole_exports(place):
    found, rng = commits(place, 3), random.Random(1)
    command = [sys.executable, "-c", CHILD, place.out, place.tree, BRANCH, *found]
    whole = None
    for n in range(10):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout.readline() == b"ready\n"
            time.sleep(rng.random() * 0.15)
            child.kill()
        git.tidy(place.out)
        git.set_refs(place.out, {n + 1: found[n % 3]}, BRANCH, found[2])
        assert git.refs(place.out) == {f"refs/nodes/{n + 1:04d}": found[n % 3]}
        git.export_code(place.out, place.tree, place.out / "code" / "own")
        exports = {p: sorted(str(f.relative_to(p)) for f in p.rglob("*")) for p in (place.out / "code").iterdir()}
        whole = whole or exports[place.out / "code" / "own"]
        assert all(names == whole for names in exports.values())
    assert plain(place.out, "fsck", "--no-dangling", "--no-progress") == ""


def test_two_processes_export_the_same_code_at_once(place):
    script = (
        "import sys; from pathlib import Path; from orchestrator.vcs import git; print(1, flush=True); input()\n"
        "for n in range(8): git.export_code(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[1]) / 'code' / str(n))"
    )
    command = [sys.executable, "-c", script, place.out, place.tree]
    pair = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
    for child in pair:
        child.stdout.readline()
    for child in pair:
        child.communicate(b"\n")
    assert [child.returncode for child in pair] == [0, 0]
    assert sorted(p.name for p in (place.out / "code").iterdir()) == [str(n) for n in range(8)]


def test_an_export_that_another_process_made_meanwhile_is_kept(place, monkeypatch):
    target, rename = place.out / "code" / "x", os.rename

    def late(source, destination):
        target.mkdir()
        (target / "theirs").touch()
        rename(source, destination)

    monkeypatch.setattr(os, "rename", late)
    git.export_code(place.out, place.tree, target)
    assert [p.name for p in target.parent.iterdir()] == ["x"] and [p.name for p in target.iterdir()] == ["theirs"]


HOLDER = """import os, sys, time
open(sys.argv[1], "x").close()
print(flush=True)
time.sleep(0.5)
os.unlink(sys.argv[1])
"""


def test_a_lock_of_a_git_that_is_still_at_work_is_waited_for(place):
    found = commits(place, 2)
    git.set_refs(place.out, {1: found[0]}, BRANCH, found[0])
    lock = place.out / ".git" / "refs" / "heads" / f"{BRANCH}.lock"
    with subprocess.Popen([sys.executable, "-c", HOLDER, lock], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        git.set_refs(place.out, {1: found[1]}, BRANCH, found[1])
    assert plain(place.out, "rev-parse", BRANCH).strip() == found[1]
