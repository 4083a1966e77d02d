"""A home with the real models and trainers and a regime of 20 neurons that trains in a second or two."""

import os
import shutil
from pathlib import Path

import yaml

from orchestrator.launch import sandbox
from orchestrator.launch.local import LocalLauncher
from orchestrator.ports import LaunchSpec
from tests import toy
from trainers.settings import load_yaml

CONFIG_CHANGES = {
    "n_neurons: 100": "n_neurons: 20",
    "n_frames: 10000": "n_frames: 1500",
    "  hidden_dim: 64": "  hidden_dim: 16",
    "hidden_dim_update: 64": "hidden_dim_update: 16",
}
METABOLIC = {
    "metabolism_homeostasis": {"n_metabolites": 24, "n_reactions": 19, "n_frames": 400},
    "metabolism_stoichiometry": {"n_metabolites": 24, "n_reactions": 19, "n_frames": 400, "n_runs": 2},
}
"""Exploration -> what is smaller in its simulation."""
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


def make_metabolic(folder, name):
    """Copy the real science into a home and shrink the simulation of a metabolic exploration."""
    home = folder / "home"
    for part in ("models", "trainers", "instructions"):
        shutil.copytree(toy.REPOSITORY / part, home / part, ignore=shutil.ignore_patterns("__pycache__"))
    source, target = (root / "explorations" / name for root in (toy.REPOSITORY, home))
    target.mkdir(parents=True)
    config, own = (load_yaml((source / f"{part}.yaml").read_text()) for part in ("config", "exploration"))
    config["simulation"] |= METABOLIC[name]
    own["profiles"]["cpu"]["claude.data_augmentation_loop"] = 1
    for regime in own.get("regimes", ()):
        regime["simulation"]["n_runs"] = min(2, regime["simulation"]["n_runs"])
    (target / "config.yaml").write_text(yaml.safe_dump(config))
    (target / "exploration.yaml").write_text(yaml.safe_dump(own))
    return home


def out(home):
    """Return the output folder of the one exploration of a home."""
    (folder,) = (home / "explorations").iterdir()
    return folder / "out"


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


PROBE = """
import importlib, os, sys
for name in ("trainers.prepare", "trainers.scoring", "trainers.prepare.simulator", "orchestrator"):
    try:
        importlib.import_module(name)
        print("IMPORTED", name)
    except ImportError:
        pass
import trainers.homeostasis, trainers.inr, trainers.signal, trainers.stoichiometry
found = []
for top in ("/", os.getcwd(), os.path.expanduser("~"), *sys.path):
    for folder, folders, files in os.walk(top):
        folders[:] = [f for f in folders if f not in ("proc", "sys", "usr", "site-packages")]
        for name in files:
            path = os.path.join(folder, name)
            if "truth" in path:
                try:
                    open(path, "rb").read(1)
                    found.append(path)
                except OSError:
                    pass
for path in TRUTH:
    try:
        open(path, "rb").read(1)
        found.append(path)
    except OSError:
        pass
print("FOUND", found)
print("KEYS", [k for k in os.environ if "KEY" in k or "ANTHROPIC" in k])
"""


def probe(home, folder, level):
    """Return what a probe says in place of the training: the very step that the engine ordered for iteration 1."""
    truth = [str(p) for p in (out(home) / "data").glob("*/truth/*") if p.is_file()]
    truth += [str(p) for p in out(home).parent.glob("*.npz")]  # a person's recording holds it, too
    assert truth and all(Path(p).read_bytes() for p in truth)
    spec = LaunchSpec.model_validate_json((out(home) / "runs" / "0001-1" / "launch.json").read_text())
    step = spec.steps[0]
    assert step.sandbox is not None and step.sandbox.level == sandbox.best_level()
    (folder / "out").mkdir(parents=True)
    planted = step.model_copy(
        update={
            "argv": (step.argv[0], "-P", "-c", f"TRUTH = {truth!r}\n{PROBE}"),
            "cwd": str(folder / "out"),
            "env": step.env | {"HOME": str(folder / "out"), "TMPDIR": str(folder / "out")},
            "sandbox": step.sandbox.model_copy(update={"level": level, "writable": (str(folder / "out"),)}),
        }
    )
    LocalLauncher().submit(folder, LaunchSpec(steps=(planted,), limits=spec.limits))
    toy.wait_for(lambda: LocalLauncher().state(folder) == "ended", 60)
    count(1)
    return (folder / "stdout.log").read_text()
