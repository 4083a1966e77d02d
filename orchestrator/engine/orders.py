"""Build the folder and the launch order of a run: run.yaml, launch.json's content, environment, sandbox."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import Any

import yaml

from orchestrator.core.records import Config, sha_of
from orchestrator.core.state import Iteration, State
from orchestrator.engine.context import Adapters, Setup
from orchestrator.engine.devices import device_files
from orchestrator.launch.folder import open_file
from orchestrator.paths import DataPaths, RunPaths
from orchestrator.ports import LaunchSpec, Limits, Sandbox, Step
from orchestrator.store import atomic
from orchestrator.vcs import git

COPIED_FROM_EARLIER = ("checkpoint.pt", "checkpoint.json", "progress.jsonl")
"""`checkpoint.json` is for trainers of one's own that keep theirs as text."""
CHECKPOINT_LIMIT = 4 * 2**30
MOMENT = re.compile(r"\d{1,12}_\d{1,12}\.npz")
MOMENTS_MAX = 1000
"""Estimates that are carried over, by name: their folder is the training's, it may hold any number of files."""


def regime_sha(setup: Setup, config: Config) -> str:
    """Return the name of the data that a config trains on: system, simulation section, profile, generator version."""
    version = setup.schema["systems"][setup.contract.system]["generator_version"]
    parts = {
        "system": setup.contract.system,
        "simulation": config["simulation"],
        "profile": setup.profile,
        "generator_version": version,
    }
    return sha_of(parts)


def seal(content: dict[str, Any]) -> str:
    """Return `content` as YAML whose last line is the sha256 of every byte before it."""
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    return f"{text}sha256: {hashlib.sha256(text.encode()).hexdigest()}\n"


NOT_TOLD = ("seed", "params", "homeostatic_lambda", "homeostatic_baseline", "activity_file", "activity_name",
            "points_file", "positions_name", "field_name", "box_name")  # fmt: skip
"""Keys of `simulation` that a training must not have: the seed would redraw the truth, params and homeostatic_* are
part of it, and a person's recording holds the held-out frames."""
RECORDINGS = ("activity_file", "points_file")
"""Keys of `simulation` that are the path of a person's recording."""


def child_config(config: Config) -> Config:
    """Return what the child is told: no `claude` section, nothing of the truth."""
    told = {k: dict(v) for k, v in config.items() if k != "claude"}
    for key in NOT_TOLD:
        told["simulation"].pop(key, None)
    return told


def identity(setup: Setup, config: Config, data: DataPaths, code: str) -> str:
    """Return the sha that a checkpoint must carry to be continued: config, data, code, device kind."""
    return sha_of([child_config(config), data.root.name, code, setup.device])


def unconfined(setup: Setup, adapters: Adapters, codes: tuple[str, str]) -> str:
    """Return why a code must not run here, "" when it may: without a sandbox only the person's own runs unasked.

    Args:
        setup: the exploration.
        adapters: the sandbox.
        codes: tree sha of the code, and of the code at the opening.
    """
    if codes[0] == codes[1] or adapters.sandbox != "none" or setup.spec.sandbox == "none":
        return ""
    return (
        f"the code {codes[0][:12]} was edited by the exploration, and this machine has no sandbox to run it in: "
        "install bubblewrap, go on where there is one, or accept `sandbox: none` in exploration.yaml"
    )


def build(setup: Setup, adapters: Adapters, state: State, it: Iteration, attempt: int, device: str) -> LaunchSpec:
    """Make the run folder (again, if an unclaimed one is there) and return its launch order.

    Args:
        setup: the exploration.
        adapters: launcher, GPUs and their leases.
        state: of which `it` is an iteration.
        it: what is run.
        attempt: its number.
        device: the GPU by its name in CUDA_VISIBLE_DEVICES; "" is the CPU.
    """
    run = setup.paths.run(it.proposal.iteration, attempt)
    config = state.config_of(it.proposal)
    data = setup.paths.regime(regime_sha(setup, config))
    run.out.mkdir(parents=True, exist_ok=True)
    _write_order(setup, adapters, config, it.proposal.code, run, (it.proposal.iteration, attempt))
    if setup.spec.command:
        steps: tuple[Step, ...] = (_own_command(setup, adapters, run, data, device),)
    else:
        assert state.opened is not None
        codes = (it.proposal.code, state.opened.code)
        for code in codes:
            git.export_code(setup.paths.out, code, setup.paths.code / code)
        steps = _steps(setup, adapters, codes, run, data, device)
    holds = (adapters.holds[device],) if device in adapters.holds else ()
    return LaunchSpec(steps=steps, limits=Limits(**setup.spec.limits.model_dump()), holds=holds)


def _write_order(
    setup: Setup, adapters: Adapters, config: Config, code: str, run: RunPaths, number: tuple[int, int]
) -> None:
    """Write a sealed run.yaml; `number` is (iteration, attempt)."""
    data = setup.paths.regime(regime_sha(setup, config))
    order = {
        "contract": 1,
        "exploration": setup.name,
        "iteration": number[0],
        "attempt": number[1],
        "system": setup.contract.system,
        "profile": setup.profile,
        "device": setup.device,
        "threads": adapters.threads,
        "identity": identity(setup, config, data, code),
        "config": {k: v for k, v in config.items() if k != "claude"} if setup.spec.command else child_config(config),
        "data": {"train": str(data.train), "inputs": str(data.inputs)},
    }
    atomic.write_text(run.run_yaml, seal(order))


def trial(
    setup: Setup, adapters: Adapters, codes: tuple[str, str], config: Config, run: RunPaths, limits: Limits
) -> LaunchSpec:
    """Make the folder of a trial and return its launch order: `try` and `check` in place of `train` and `score`."""
    run.out.mkdir(parents=True, exist_ok=True)
    _write_order(setup, adapters, config, codes[0], run, (0, 1))
    data, visible = setup.paths.regime(regime_sha(setup, config)), next((g.name for g in adapters.gpus), "")
    train, score = _steps(setup, adapters, codes, run, data, visible)
    names = {"train": "try", "score": "check"}
    steps = tuple(
        step.model_copy(update={"name": names[step.name], "argv": tuple(names.get(word, word) for word in step.argv)})
        for step in (train, score)
    )
    return LaunchSpec(steps=steps, limits=limits)


def environment(home: Path, code: Path, adapters: Adapters, visible: str = "") -> dict[str, str]:
    """Return the whole environment of a child: an allow-list, so that no key can pass."""
    threads = str(adapters.threads)
    env = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": str(home),
        "TMPDIR": str(home),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(code),
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "CUDA_VISIBLE_DEVICES": visible,
        "MPLBACKEND": "Agg",
        "MPLCONFIGDIR": str(home),
    }
    if visible:
        env["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
        env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # nvidia-smi's: by itself CUDA counts the fastest GPU first
    return env


def _steps(
    setup: Setup, adapters: Adapters, codes: tuple[str, str], run: RunPaths, data: DataPaths, visible: str
) -> tuple[Step, ...]:
    tree, base = (setup.paths.code / code for code in codes)
    sandbox = Sandbox(
        level=adapters.sandbox,
        read_only=tuple(str(p) for p in (tree / "train", data.train, data.inputs, run.run_yaml)),
        writable=(str(run.out),),
        devices=device_files() if visible else (),
    )
    python = (adapters.python, "-P", "-m", "trainers")
    train = Step(
        name="train",
        argv=(*python, "train", str(run.root)),
        cwd=str(run.out),
        env=environment(run.out, tree / "train", adapters, visible),
        sandbox=sandbox,
    )
    score = Step(
        name="score",
        argv=(*python, "score", str(run.root), "--data", str(data.root)),
        cwd=str(run.root),
        env=environment(run.root, base / "base", adapters),
    )
    return train, score


def _own_command(setup: Setup, adapters: Adapters, run: RunPaths, data: DataPaths, visible: str) -> Step:
    named = {"{run}": run.root, "{data}": data.root, "{source}": setup.paths.source}
    words = list(setup.spec.command or ())
    for name, path in named.items():
        words = [word.replace(name, str(path)) for word in words]
    if words[0] == "python":
        words[0] = adapters.python
    env = environment(run.out, setup.paths.source, adapters, visible)
    return Step(name="train", argv=tuple(words), cwd=str(run.root), env=env)


def carry_over(old: RunPaths, new: RunPaths) -> bool:
    """Copy an earlier attempt's checkpoint, progress and estimates; return whether there was a checkpoint.

    Only regular files below a size, opened without following links; a missing one is left out.
    """
    new.out.mkdir(parents=True, exist_ok=True)
    found = any([copy_regular(old.out / name, new.out / name) for name in COPIED_FROM_EARLIER])
    estimates = old.out / "estimates"
    (new.out / "estimates").mkdir(exist_ok=True)
    for name in _moments(estimates):
        copy_regular(estimates / name, new.out / "estimates" / name)
    return found


def _moments(folder: Path) -> list[str]:
    try:
        names = [] if folder.is_symlink() else os.listdir(folder)
    except OSError:
        return []
    return sorted(filter(MOMENT.fullmatch, names))[:MOMENTS_MAX]


def copy_regular(source: Path, target: Path) -> bool:
    """Copy a file that a training wrote; return whether it was one: regular, reached by no link, not too large."""
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open_file(source))
        except OSError:
            return False
        if os.fstat(file.fileno()).st_size > CHECKPOINT_LIMIT:
            return False
        temporary = target.with_name(f".{target.name}.tmp")
        with open(temporary, "wb") as copy:
            shutil.copyfileobj(file, copy)
            copy.flush()
            os.fsync(copy.fileno())
        os.replace(temporary, target)
    return True


def _located(setup: Setup, config: Config) -> dict[str, Any]:
    """Return the simulation section with the path of a person's recording taken from the exploration's folder."""
    simulation = dict(config["simulation"])
    for key in RECORDINGS:
        if simulation.get(key):
            simulation[key] = str(setup.paths.source.absolute() / simulation[key])
    return simulation


def prepare_order(setup: Setup, adapters: Adapters, config: Config, code: str, run: RunPaths) -> LaunchSpec:
    """Write SPEC.yaml into a preparation folder and return the order that makes the regime's data."""
    sha = regime_sha(setup, config)
    run.root.mkdir(parents=True, exist_ok=True)
    spec = {
        "contract": 1,
        "system": setup.contract.system,
        "profile": setup.profile,
        "regime": sha,
        "config": {k: v for k, v in config.items() if k != "claude"} | {"simulation": _located(setup, config)},
    }
    path = run.root / "SPEC.yaml"
    atomic.write_text(path, yaml.safe_dump(spec, sort_keys=False))
    step = Step(
        name="prepare",
        argv=(adapters.python, "-P", "-m", "trainers", "prepare", str(path), str(setup.paths.regime(sha).root)),
        cwd=str(run.root),
        env=environment(run.root, setup.paths.code / code / "base", adapters),
    )
    return LaunchSpec(steps=(step,), limits=Limits(wall_s=3600, silence_s=3600))
