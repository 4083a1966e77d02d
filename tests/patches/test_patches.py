"""Prepared code changes: each stays inside data_train_signal, acts, and can be killed and continued.

The six of sparse_gnn act in single-step training, the early stop only once the loss stands still, which it does not in
the 15,000 steps of iteration 1. recurrent_gnn has two that act in rollouts, and another scheduler, which waits for a
plateau too.
"""

import ast
import filecmp
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.trainers.conftest import regime, write_order  # noqa: F401 (a fixture)
from tests.trainers.test_programs import PROGRAM, ROOT, environment
from tools.sizes import EDITABLE_LINES

FOLDERS = [ROOT / "explorations" / name / "patches" for name in ("sparse_gnn", "recurrent_gnn")]
KINDS = {"optimizer", "scheduler", "clipping", "loss", "sampling", "early-stop", "curriculum", "intermediate",
         "plateau"}  # fmt: skip
"""What seed document 004 allows, Step 5.2 A, the recurrent loop by two of its hypotheses, the scheduler in two ways."""
PATCHES = [patch for folder in FOLDERS for patch in sorted(folder.glob("*.patch"))]
FUNCTION = "data_train_signal"
STEPS = 120
ROLLOUTS = {"recurrent_training": True, "time_step": 4, "noise_recurrent_level": 0.01}

each_patch = pytest.mark.parametrize("patch", PATCHES, ids=lambda p: p.stem)


def patched(patch, folder):
    """Return a copy of the code that training gets, with a patch applied."""
    hidden = shutil.ignore_patterns("prepare", "scoring", "__pycache__")
    for package in ("models", "trainers"):
        shutil.copytree(ROOT / package, folder / package, ignore=hidden)
    if patch:
        subprocess.run(["git", "apply", str(patch)], cwd=folder, check=True, capture_output=True,
                       env={"PATH": os.environ["PATH"], "GIT_CEILING_DIRECTORIES": str(folder.parent)})  # fmt: skip
    return folder


def around(path):
    """Return a module as a tree without the body of the function, and the function."""
    tree = ast.parse(path.read_text())
    function = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == FUNCTION)
    inside = ast.dump(ast.Module(function.body, []))
    lines = path.read_text().splitlines()
    outside = lines[: function.body[0].lineno - 1], lines[function.end_lineno :]
    length = function.end_lineno - function.lineno + 1
    function.body = []
    return ast.dump(tree), outside, inside, length


def test_there_is_one_of_each_kind():
    names = [p.stem for p in PATCHES]
    assert [int(name[:2]) for name in names] == [1, 2, 3, 4, 5, 6, 1, 2, 3]
    assert {name[3:] for name in names} == KINDS


@each_patch
def test_a_patch_says_what_and_why(patch):
    first, second, third, fourth, *_ = patch.read_text().splitlines()
    assert first.startswith("Change: ") and second.startswith("Hypothesis: ") and third == ""
    assert fourth == "--- a/trainers/signal.py"


@each_patch
def test_a_patch_applies_and_changes_nothing_but_the_function(patch, tmp_path):
    code = patched(patch, tmp_path / "code")
    for package in ("models", "trainers"):
        names = [p.name for p in (code / package).iterdir() if p.is_file()]
        _, differ, errors = filecmp.cmpfiles(ROOT / package, code / package, names, shallow=False)
        assert not errors and differ == (["signal.py"] if package == "trainers" else [])
    tree, outside, inside, length = around(code / "trainers" / "signal.py")
    base_tree, base_outside, base_inside, _ = around(ROOT / "trainers" / "signal.py")
    assert (tree, outside) == (base_tree, base_outside)
    assert inside != base_inside
    assert length <= EDITABLE_LINES


def child(code, home, *words):
    return subprocess.run([*words], env=environment(code, home), cwd=home, capture_output=True, text=True, timeout=120)


STOPPING = """
import sys
from pathlib import Path
from trainers.errors import StoppedError
from trainers.order import read_order
from trainers.run import Run
from trainers.signal import train

def stop_at(last):
    class StopAt(Run):
        def record(self, stateful, terms, phase, epoch, step):
            self.stop_requested = step == last
            super().record(stateful, terms, phase, epoch, step)
    return StopAt

for word in sys.argv[1:]:
    folder, _, last = word.rpartition(":")
    try:
        train(read_order(Path(folder)), Path(folder), stop_at(int(last)))
    except StoppedError:
        print("stopped", last, flush=True)
"""


def trained(run_dir):
    with np.load(run_dir / "out" / "estimate.npz") as arrays:
        found = {name: arrays[name] for name in arrays.files}
    return found | {"final_loss": json.loads((run_dir / "out" / "train.json").read_text())["final_loss"]}


def equal(left, right):
    return all(np.array_equal(left[name], right[name]) for name in left)


@pytest.fixture
def keys(patch):
    return ROLLOUTS if patch.stem[3:] in ("curriculum", "intermediate") else {}


@pytest.mark.science
@each_patch
def test_a_patch_passes_the_gate(patch, keys, regime, tmp_path):  # noqa: F811 (the fixture)
    code, run_dir = patched(patch, tmp_path / "code"), write_order(tmp_path / "run", regime, **keys)
    done = child(code, tmp_path, *PROGRAM, "try", str(run_dir))
    assert done.returncode == 0, done.stderr
    assert "continuing from step 4 of 6" in done.stdout
    done = child(ROOT, tmp_path, *PROGRAM, "check", str(run_dir), "--data", str(regime))
    assert done.returncode == 0, done.stderr


@pytest.mark.science
@each_patch
def test_a_patch_acts_and_survives_a_kill(patch, keys, regime, tmp_path):  # noqa: F811 (the fixture)
    """Killed in the midst of both epochs, and once more when all was done."""
    code, plain = patched(patch, tmp_path / "code"), patched(None, tmp_path / "plain")
    base, whole, cut = (write_order(tmp_path / name, regime, **keys) for name in ("base", "whole", "cut"))
    program = [sys.executable, "-P", "-c", STOPPING]
    done = [child(plain, tmp_path, *program, f"{base}:0"), child(code, tmp_path, *program, f"{whole}:0", f"{cut}:33"),
            child(code, tmp_path, *program, f"{cut}:65")]  # fmt: skip
    assert [d.returncode for d in done] == [0, 0, 0], [d.stderr for d in done]
    assert "stopped 33" in done[1].stdout and "stopped 65" in done[2].stdout
    done = child(code, tmp_path, *program, f"{cut}:0")
    assert done.returncode == 0 and "continuing from step 65" in done.stdout, done.stderr
    expected = trained(whole)
    assert not equal(expected, trained(base))
    assert equal(expected, trained(cut))
    assert (expected["step"] < STEPS) == patch.stem.endswith("early-stop")
    (cut / "out" / "estimate.npz").unlink()
    done = child(code, tmp_path, *program, f"{cut}:0")
    assert done.returncode == 0, done.stderr
    assert equal(expected, trained(cut))
