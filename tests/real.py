"""A home with the real models and trainers and a regime of 20 neurons that trains in a second or two."""

import os
import shutil
from pathlib import Path

from tests import toy

CONFIG_CHANGES = {
    "n_neurons: 100": "n_neurons: 20",
    "n_frames: 10000": "n_frames: 1500",
    "  hidden_dim: 64": "  hidden_dim: 16",
    "hidden_dim_update: 64": "hidden_dim_update: 16",
}
LIMIT = 25
"""Child processes of `make test` that may import torch."""


def make_home(folder, *, augmentation=2, epochs=5, sandbox="auto"):
    """Copy the real science into a home and shrink the sparse exploration."""
    home = folder / "home"
    for name in ("models", "trainers", "instructions"):
        shutil.copytree(toy.REPOSITORY / name, home / name, ignore=shutil.ignore_patterns("__pycache__"))
    instruction = home / "instructions" / "sparse_gnn.md"
    instruction.write_text(instruction.read_text().replace("64 # values: 32, 64, 128", "16 # values: 16, 32"))
    source, target = (root / "explorations" / "sparse_gnn" for root in (toy.REPOSITORY, home))
    target.mkdir(parents=True)
    text = (source / "config.yaml").read_text()
    for old, new in CONFIG_CHANGES.items():
        assert old in text, old
        text = text.replace(old, new)
    (target / "config.yaml").write_text(text)
    (target / "exploration.yaml").write_text(
        f"instruction: sparse_gnn\nsystem: signal\nsandbox: {sandbox}\nreplicate_every: 3\nprofiles:\n  cpu:\n"
        f"    claude.data_augmentation_loop: {augmentation}\n    claude.n_epochs: {epochs}\n"
    )
    return home


def out(home):
    """Return the output folder."""
    return home / "explorations" / "sparse_gnn" / "out"


def run(home, *words, timeout=120):
    """Run the program to its end and count the children that import torch."""
    before = children(home)
    done = toy.run(home, *words, timeout=timeout, OMP_NUM_THREADS="1")
    count(children(home) - before)
    return done


def children(home):
    """Return how many steps the run folders of a home have started."""
    return sum(path.read_text().count(": [") for path in out(home).glob("**/supervisor.log"))


def count(n):
    """Add to this test session's number of children that import torch (checked at its end by conftest)."""
    path = os.environ.get("TORCH_CHILDREN")
    if path:
        with open(path, "a") as file:
            file.write("x" * n)


def counted():
    """Return the number so far."""
    path = Path(os.environ.get("TORCH_CHILDREN", ""))
    return path.stat().st_size if path.is_file() else 0
