"""Compiled and narrow right-hand sides, as the engine runs them: sandboxed, with a folder of the run's own."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from models.signal import SignalPropagation
from orchestrator.launch import sandbox
from tests.trainers.conftest import write_order
from tests.trainers.test_programs import PROGRAM, ROOT, training_code  # noqa: F401 (a fixture)
from trainers.compiling import compiler, right_hand_side
from trainers.errors import RefusedError
from trainers.settings import read_config

KEYS = {"recurrent_training": True, "time_step": 3, "data_augmentation_loop": 1, "n_epochs_init": 0}
ENTER = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from orchestrator.launch import sandbox
argv, env = sandbox.enter(*json.loads(sys.argv[2]))
os.execvpe(argv[0], argv, env)
"""


def boxed(level, code, regime, run_dir, path=os.environ["PATH"]):
    """Run the training program as the supervisor does; return what subprocess.run returns."""
    out = run_dir / "out"
    out.mkdir()
    env = {"PATH": path, "HOME": str(out), "TMPDIR": str(out), "PYTHONPATH": str(code), "PYTHONHASHSEED": "0",
           "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", "LANG": "C.UTF-8"}  # fmt: skip
    inside = [code, run_dir / "run.yaml", regime / "train", regime / "inputs"]
    box = {"level": level, "read_only": [str(p) for p in inside], "writable": [str(out)]}
    order = json.dumps([[*PROGRAM, "train", str(run_dir)], str(out), env, box])
    return subprocess.run([sys.executable, "-c", ENTER, str(ROOT), order], cwd=out, capture_output=True, text=True,
                          timeout=600)  # fmt: skip


def learned(run_dir):
    with np.load(run_dir / "out" / "estimate.npz") as arrays:
        return {name: arrays[name] for name in ("W", "lin_edge", "lin_phi")}


@pytest.mark.science
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_a_compiled_training_in_the_sandbox_ends_where_the_plain_one_does(mode, regime, training_code, tmp_path):  # noqa: F811
    """Under the strongest sandbox of this machine; without a GPU reduce-overhead has no graphs to capture."""
    level = sandbox.best_level()
    plain, compiled = (write_order(tmp_path / name, regime, **KEYS, compile=name.split(".")[1])
                       for name in ("plain.none", f"compiled.{mode}"))  # fmt: skip
    for run_dir in (plain, compiled):
        done = boxed(level, training_code, regime, run_dir)
        assert done.returncode == 0, done.stderr
    left, right = learned(plain), learned(compiled)
    assert all(np.allclose(left[name], right[name], rtol=1e-3, atol=1e-4) for name in left)
    assert {p.name for p in (compiled / "out").iterdir()} == {p.name for p in (plain / "out").iterdir()}


@pytest.mark.science
def test_without_a_compiler_the_training_says_what_to_do(regime, training_code, tmp_path):  # noqa: F811
    run_dir = write_order(tmp_path / "run", regime, **KEYS, compile="default")
    done = boxed("none", training_code, regime, run_dir, path=str(tmp_path))
    assert done.returncode == 13, done.stderr
    told = json.loads((run_dir / "out" / "failure.json").read_text())["sentence"]
    assert "training.compile: default does not work here" in told and "set it to none" in told and "g++" in told


def test_other_errors_of_a_compiled_training_stay_what_they_are(tmp_path):
    with pytest.raises(ZeroDivisionError), compiler("default", tmp_path / "made"):
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "made")
        _ = 1 / 0
    assert os.environ.get("TORCHINDUCTOR_CACHE_DIR") != str(tmp_path / "made")
    from torch._inductor.exc import InvalidCxxCompiler

    with pytest.raises(RefusedError, match="set it to none"), compiler("default", tmp_path / "made"):
        raise InvalidCxxCompiler
    with pytest.raises(InvalidCxxCompiler), compiler("none", tmp_path / "made"):
        raise InvalidCxxCompiler


def test_bfloat16_is_for_products_alone():
    torch.manual_seed(0)
    model, u = SignalPropagation(6), torch.randn(3, 6)
    exact, narrow = (right_hand_side(model, read_config("signal", {"training": {"precision": p}}).training)[0]
                     for p in ("float32", "bfloat16"))  # fmt: skip
    W = model.connectivity()
    assert torch.equal(exact(u, W), model(u))
    found = narrow(u, W)
    assert found.dtype == torch.float32
    assert 1e-5 < (found - model(u)).abs().max() < 0.05 * model(u).abs().max()
    found.sum().backward()
    assert model.W.grad.dtype == torch.float32


def test_nothing_is_compiled_unless_asked_for():
    code = "import sys, trainers.signal; sys.exit('torch._inductor' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
