import subprocess

import pytest

from orchestrator.vcs import git


@pytest.fixture
def source(odd_path):
    root = odd_path / "source"
    for name in ("models/mlp.py", "trainers/signal.py", "trainers/prepare/x.py", "trainers/scoring/y.py",
                 "models/__pycache__/junk.pyc"):  # fmt: skip
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {name}\n")
    return root


def test_the_first_commit_holds_the_code_in_use_and_is_deterministic(source, odd_path):
    out = odd_path / "out"
    out.mkdir()
    first = git.commit_code(out, source, "exploration/x", "code in use")
    assert git.commit_code(out, source, "exploration/x", "code in use") == first
    names = subprocess.run(["git", "-C", out, "ls-tree", "-r", "--name-only", first[0]], capture_output=True, text=True)
    listed = names.stdout.split()
    assert "trainers/prepare/x.py" in listed and not any("pycache" in n for n in listed)
    (source / "models/mlp.py").write_text("changed\n")
    assert git.commit_code(out, source, "exploration/x", "code in use")[1] != first[1]


def test_the_training_tree_has_no_preparation_and_no_scoring(source, odd_path):
    out = odd_path / "out"
    out.mkdir()
    _, tree = git.commit_code(out, source, "exploration/x", "m")
    git.export_code(out, tree, out / "code" / tree)
    train = {str(p.relative_to(out / "code" / tree / "train")) for p in (out / "code" / tree / "train").rglob("*.py")}
    base = {str(p.relative_to(out / "code" / tree / "base")) for p in (out / "code" / tree / "base").rglob("*.py")}
    assert train == {"models/mlp.py", "trainers/signal.py"}
    assert base == train | {"trainers/prepare/x.py", "trainers/scoring/y.py"}
    assert not (out / "code" / tree / "base" / "models/mlp.py").stat().st_mode & 0o222
    git.export_code(out, tree, out / "code" / tree)


def test_the_users_checkout_is_not_touched(source, odd_path):
    subprocess.run(["git", "init", "-q", source], check=True)
    before = sorted(str(p) for p in source.rglob("*") if ".git/" not in str(p))
    status = subprocess.run(["git", "-C", source, "status", "--porcelain"], capture_output=True).stdout
    out = odd_path / "out"
    out.mkdir()
    git.commit_code(out, source, "exploration/x", "m")
    assert sorted(str(p) for p in source.rglob("*") if ".git/" not in str(p)) == before
    assert subprocess.run(["git", "-C", source, "status", "--porcelain"], capture_output=True).stdout == status


def test_hooks_and_global_settings_do_not_act(source, odd_path, monkeypatch):
    home = odd_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text("[commit]\n\tgpgsign = true\n[core]\n\thooksPath = /nonexistent\n")
    monkeypatch.setenv("HOME", str(home))
    out = odd_path / "out"
    out.mkdir()
    assert git.commit_code(out, source, "exploration/x", "m")
