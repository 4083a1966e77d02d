"""The three programs as child processes, as the engine starts them."""

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import trainers.scoring.signal
import trainers.signal
from tests import real
from tests.trainers.conftest import write_order, write_spec
from trainers.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, "-P", "-m", "trainers"]


def environment(code, home):
    return {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(code), "PYTHONHASHSEED": "0",
            "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "MPLBACKEND": "Agg",
            "LANG": "C.UTF-8", "TMPDIR": str(home), "PYTHONWARNINGS": "error"}  # fmt: skip


@pytest.fixture
def training_code(tmp_path):
    """The code tree that training gets: without preparation and scoring."""
    hidden = shutil.ignore_patterns("prepare", "scoring", "__pycache__")
    for package in ("models", "trainers"):
        shutil.copytree(ROOT / package, tmp_path / "code" / package, ignore=hidden)
    return tmp_path / "code"


@pytest.mark.trains
def test_prepare_train_score(tmp_path, training_code):
    spec = write_spec(tmp_path / "SPEC.yaml")
    run_dir = write_order(tmp_path / "run", tmp_path / "data")

    def step(*words, code=ROOT):
        real.count(1)
        return subprocess.run([*PROGRAM, *map(str, words)], env=environment(code, tmp_path), cwd=tmp_path,
                              capture_output=True, text=True, timeout=60)  # fmt: skip

    done = step("prepare", spec, tmp_path / "data")
    assert done.returncode == 0, done.stderr
    done = step("train", run_dir, code=training_code)
    assert done.returncode == 0, done.stderr
    done = step("score", run_dir, "--data", tmp_path / "data")
    assert done.returncode == 0, done.stderr
    assert json.loads((run_dir / "result.json").read_text())["metrics"]["connectivity_R2"]["value"] is not None


@pytest.mark.trains
def test_sigterm_leaves_a_checkpoint_that_is_continued(tmp_path, regime, training_code):
    long = {"n_epochs": 1, "data_augmentation_loop": 300}  # 3000 steps, about 3 s
    run_dir = write_order(tmp_path / "run", regime, **long)
    real.count(2)
    child = subprocess.Popen([*PROGRAM, "train", str(run_dir)], env=environment(training_code, tmp_path), cwd=tmp_path)
    progress = run_dir / "out" / "progress.jsonl"
    deadline = time.monotonic() + 30
    while not progress.exists() and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.02)
    child.send_signal(signal.SIGTERM)
    assert child.wait(20) == 12
    told = json.loads((run_dir / "out" / "failure.json").read_text())
    assert told["kind"] == "stopped" and "checkpoint" in told["sentence"]
    stopped_at = json.loads(progress.read_text().splitlines()[-1])["step"]
    assert 0 < stopped_at < 3000
    done = subprocess.run([*PROGRAM, "train", str(run_dir)], env=environment(training_code, tmp_path), cwd=tmp_path,
                          capture_output=True, text=True, timeout=60)  # fmt: skip
    assert done.returncode == 0 and f"continuing from step {stopped_at}" in done.stdout
    assert not (run_dir / "out" / "failure.json").exists()
    with np.load(run_dir / "out" / "estimate.npz") as arrays:  # equal bits: test_training.py
        assert int(arrays["step"]) == 3000


def test_refusals_end_with_13_and_a_sentence(tmp_path, regime, capsys):
    run_dir = write_order(tmp_path / "run", regime, batchsize=8)
    assert main(["train", str(run_dir)]) == 13
    told = json.loads((run_dir / "out" / "failure.json").read_text())
    assert told["kind"] == "refused" and "training.batch_size" in told["sentence"]
    assert main(["score", str(run_dir), "--data", str(regime)]) == 13
    assert main(["prepare", str(tmp_path / "none.yaml"), str(tmp_path / "d")]) == 13
    assert "none.yaml cannot be read" in capsys.readouterr().err


def test_divergence_ends_with_10(tmp_path, regime):
    data = shutil.copytree(regime, tmp_path / "data")
    np.save(data / "train" / "du.npy", np.full((360, 10), np.nan, np.float32))
    run_dir = write_order(tmp_path / "run", data)
    assert main(["train", str(run_dir)]) == 10
    assert json.loads((run_dir / "out" / "failure.json").read_text())["kind"] == "diverged"


def too_much_for_torch():
    torch.empty(2**55)


def too_much_for_numpy():
    np.empty(2**55)


def out_of_memory(error):
    def work():
        raise error

    return work


SHORT_OF_MEMORY = {
    "torch on the CPU": too_much_for_torch,
    "numpy": too_much_for_numpy,
    "python": out_of_memory(MemoryError()),
    "torch on a GPU": out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0")),
    "torch, other words": out_of_memory(torch.OutOfMemoryError("no room on the device")),
    "the driver": out_of_memory(RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later")),
    "cuBLAS": out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")),
}


@pytest.mark.parametrize("kind", SHORT_OF_MEMORY)
@pytest.mark.parametrize("program", ["train", "score"])
def test_a_lack_of_memory_ends_with_11(program, kind, tmp_path, regime, monkeypatch, capsys):
    run_dir = write_order(tmp_path / "run", regime)
    work = SHORT_OF_MEMORY[kind]
    monkeypatch.setattr(trainers.signal, "data_train_signal", lambda *_: work())
    monkeypatch.setattr(trainers.scoring.signal, "load_truth", lambda *_: work())
    assert main([program, str(run_dir), *(["--data", str(regime)] if program == "score" else [])]) == 11
    assert capsys.readouterr().err.startswith(f"{program}: memory ran out")
    if program == "train":
        told = json.loads((run_dir / "out" / "failure.json").read_text())
        assert told["kind"] == "out_of_memory" and "\n" not in told["sentence"]


@pytest.mark.parametrize("program", ["train", "score"])
def test_another_runtime_error_is_a_crash(program, tmp_path, regime, monkeypatch):
    run_dir = write_order(tmp_path / "run", regime)
    work = out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))
    monkeypatch.setattr(trainers.signal, "data_train_signal", lambda *_: work())
    monkeypatch.setattr(trainers.scoring.signal, "load_truth", lambda *_: work())
    with pytest.raises(RuntimeError, match="illegal memory access"):
        main([program, str(run_dir), *(["--data", str(regime)] if program == "score" else [])])


@pytest.mark.parametrize("argv", [[], ["fly"], ["train"], ["score", "x"], ["prepare", "x"]])
def test_wrong_arguments_end_with_2(argv, capsys):
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 2
    assert "usage: python -m trainers" in capsys.readouterr().err


def imports(name):
    """Return the names of our own modules that a module imports, wherever in its text."""
    path = ROOT / Path(*name.split("."))
    path = path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"
    nodes = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom) and n.module]
    named = [n.module for n in nodes] + [f"{n.module}.{a.name}" for n in nodes for a in n.names]
    return [m for m in named if (ROOT / Path(*m.split("."))).with_suffix(".py").exists()]


def test_training_imports_neither_preparation_nor_scoring():
    seen, todo = set(), ["trainers.signal", "trainers.order"]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += imports(name)
    assert not [n for n in seen if n.startswith(("trainers.prepare", "trainers.scoring", "orchestrator"))]
    assert {"trainers.losses", "trainers.checkpoints", "trainers.run", "models.signal", "models.mlp"} <= seen
