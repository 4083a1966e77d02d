"""A small exploration's repository: its first commit, and what plain git says about it."""

import os
import subprocess
from types import SimpleNamespace

import pytest

from orchestrator.vcs import git

SIGNAL = "".join(f"line {n}\n" for n in range(1, 31))
FILES = {
    "models/mlp.py": "# mlp\nx = 1\n", "models/deep/er/inner.py": "y = 2\n", "models/with space.py": "z = 3\n",
    "trainers/signal.py": SIGNAL, "trainers/prepare/x.py": "# x\n", "trainers/scoring/y.py": "# y\n",
    "trainers/crlf.py": "a = 1\r\nb = 2", "models/étè.py": "é = 'ü'\n",
}  # fmt: skip


def plain(folder, *words, given=None):
    """Return what git prints, with none of the user's settings."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | {
        "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "HOME": os.devnull,
    }  # fmt: skip
    done = subprocess.run(["git", "-C", folder, *words], input=given, capture_output=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode(errors="surrogateescape")


def write(root, files=FILES):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    return root


def opened(folder):
    """Return an exploration's folder with its first commit, and the source that it was made of."""
    source, out = write(folder / "source"), folder / "out"
    out.mkdir()
    (source / "models/run.sh").write_text("#!/bin/sh\n")
    (source / "models/run.sh").chmod(0o755)
    (source / "models/link.py").symlink_to("mlp.py")
    (source / "models/latin.py").write_bytes(b"# first\n# \xe9\n")
    commit, tree = git.commit_code(out, source, "exploration/x", "code in use")
    return SimpleNamespace(source=source, out=out, commit=commit, tree=tree)


@pytest.fixture
def place(tmp_path):
    return opened(tmp_path)


@pytest.fixture
def odd_place(odd_path):
    return opened(odd_path)
