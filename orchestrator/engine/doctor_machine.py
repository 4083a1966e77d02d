"""The doctor's look at the machine: Python, packages, git, GPUs, sandbox, leases."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from orchestrator.core.exploration import Exploration
from orchestrator.engine.checks import Check, failed, ok, warning
from orchestrator.engine.devices import gpus
from orchestrator.errors import UserError
from orchestrator.launch import sandbox
from orchestrator.launch.leases import Leases
from orchestrator.ports import Gpu
from orchestrator.vcs import checkout

OLDEST_PYTHON = (3, 11)
LISTED = 6
"""Packages that a sentence names."""
INSTALL = "run `make setup`, or `pip install -c constraints.txt -e .` in the checkout"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def python() -> Check:
    """Return whether this Python will do."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        return failed(
            "python", f"3.11 or newer is needed, found {found}", "install one and run `make setup PYTHON=...`"
        )
    where = sys.prefix if sys.prefix != sys.base_prefix else f"{sys.prefix}, no environment of its own"
    return ok("python", f"{found} ({where})")


def packages(source: Path) -> Check:
    """Return whether what pyproject.toml needs is installed, in the versions that constraints.txt names."""
    try:
        needed = [_plain(d) for d in tomllib.loads(_read(source / "pyproject.toml"))["project"]["dependencies"]]
        lines = _read(source / "constraints.txt").splitlines()
    except (OSError, ValueError, KeyError, TypeError):
        return warning("packages", f"{source} has no pyproject.toml and constraints.txt to compare with", INSTALL)
    pins = dict(pin for line in lines if (pin := _pin(line)) is not None)
    missing = [name for name in needed if _version(name) is None]
    if missing:
        return failed("packages", f"not installed: {_some(missing)}", INSTALL)
    others = [f"{n} {v} (tested {pins[n]})" for n in pins if (v := _version(n)) is not None and v != pins[n]]
    if others:
        return warning("packages", f"other versions than those that are tested: {_some(others)}", INSTALL)
    return ok("packages", f"{len(needed)} needed, all in the tested versions ({len(pins)} in constraints.txt)")


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _plain(requirement: str) -> str:
    match = _NAME.match(requirement)
    return re.sub(r"[-_.]+", "-", match[0]).lower() if match else requirement


def _pin(line: str) -> tuple[str, str] | None:
    name, equal, version = line.partition("#")[0].strip().partition("==")
    return (_plain(name), version) if equal else None


def _version(name: str) -> str | None:
    """Return a package's installed version without its local part (`+cpu`), None when it is not installed."""
    try:
        return metadata.version(name).partition("+")[0]
    except metadata.PackageNotFoundError:
        return None


def _some(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def git(home: Path) -> Check:
    """Return whether git is there, and what the checkout's state means."""
    found, oldest = checkout.version(), ".".join(map(str, checkout.OLDEST))
    if found is None:
        return failed("git", "not found", "install it, for example `apt install git`")
    shown = ".".join(map(str, found))
    if found < checkout.OLDEST:
        return failed("git", f"{oldest} or newer is needed, found {shown}", "install a newer one")
    count = checkout.changes(home)
    lies = "models/ and trainers/ are taken as they lie there, when an exploration is opened"
    if count is None:
        return ok("git", f"{shown}; {home} is no checkout that git can read: {lies}")
    return ok("git", f"{shown}; the checkout has {count or 'no'} changed or new file(s): {lies}")


def gpu(found: list[Gpu], opened_on: str | None) -> Check:
    """Return which GPUs there are, and whether the code can use them.

    Args:
        found: those that may be used.
        opened_on: device kind that the exploration was opened on, None when it was not.
    """
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if found:
        told = "; ".join(f"{g.name}: {_gib(g.free_bytes)} of {_gib(g.total_bytes)} free" for g in found)
        local = _local_part("torch")
        if local == "cpu":
            remedy = "install the wheel for CUDA from https://pytorch.org, or hide the GPUs: CUDA_VISIBLE_DEVICES=''"
            return failed("gpu", f"{told}; but the installed torch is built for the CPU alone", remedy)
        return ok("gpu", f"{told}")
    if opened_on == "cuda":
        return failed(
            "gpu", "this exploration was opened on a GPU and none is found", "make the GPU visible, or use FRESH=1"
        )
    if hidden is not None and shutil.which("nvidia-smi"):
        return ok("gpu", f"none, since CUDA_VISIBLE_DEVICES is {hidden!r}: runs use the CPU")
    if shutil.which("nvidia-smi"):
        remedy = "run `nvidia-smi` by hand and mend the driver, or go on without: runs use the CPU"
        return warning("gpu", "nvidia-smi is installed and lists none", remedy)
    return ok("gpu", "none (no nvidia-smi): runs use the CPU")


def _local_part(name: str) -> str:
    try:
        return metadata.version(name).partition("+")[2]
    except metadata.PackageNotFoundError:
        return ""


def _gib(count: int | None) -> str:
    return "?" if count is None else f"{count / 2**30:.1f} GiB"


def confinement(spec: Exploration | None) -> Check:
    """Return how well runs are confined on this machine."""
    if spec is not None and spec.command is not None:
        return ok("sandbox", "none: `command:` is your own program, and runs as you do")
    wanted = spec.sandbox if spec is not None else "auto"
    if wanted != "auto":
        why = sandbox.why_not(wanted)
        if why is not None:
            return failed("sandbox", f"exploration.yaml asks for {wanted}: {why}", f"{_mend(why)}, or `sandbox: auto`")
    level = sandbox.best_level() if wanted == "auto" else wanted
    if level == "bwrap":
        return ok("sandbox", "bwrap: runs see their own files, no network, no key")
    if wanted == "none":
        return warning(
            "sandbox", "none, as exploration.yaml says: runs may read and write what you may", "sandbox: auto"
        )
    why = sandbox.why_not("bwrap") or ""
    told = "landlock: files and TCP are closed" if level == "landlock" else "none: runs may read and write what you may"
    return warning("sandbox", f"{told} ({why})", _mend(why))


def _mend(why: str) -> str:
    """Return what makes bwrap work."""
    if "no bwrap" in why:
        return "`apt install bubblewrap`"
    return "allow user namespaces: `sysctl kernel.unprivileged_userns_clone=1` (in a container: its security profile)"


def leases(out: Path, found: list[Gpu]) -> Check:
    """Return whether GPUs can be leased; without GPUs nothing is looked at."""
    if not found:
        return ok("leases", "not needed without a GPU")
    held = Leases(out)
    try:
        held.look()
    except UserError as error:
        told, _, remedy = str(error).rpartition(". ")
        return failed("leases", told, remedy)
    return ok("leases", f"{held.folder} can be used")


def look(home: Path, source: Path, spec: Exploration | None, out: Path, opened_on: str | None) -> Iterator[Check]:
    """Yield the checks of the machine.

    Args:
        home: folder of models/ and trainers/.
        source: folder of pyproject.toml and constraints.txt.
        spec: of the exploration, None without one.
        out: its output folder.
        opened_on: device kind that it was opened on, None when it was not.
    """
    yield python()
    yield packages(source)
    yield git(home)
    found = gpus()
    yield gpu(found, opened_on)
    yield leases(out, found)
    yield confinement(spec)
