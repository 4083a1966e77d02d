"""A regime from a person's own recording: no W, types or parameters are known, so no metric that needs them is given.

The recording is `simulation.activity_file`, one row a frame. du/dt is (u[t+1] - u[t]) / delta_t, at every frame. The
first 90 % of the frames are for training. Of the last 10 % the first half (at most 600 frames) is the rollout, from its
first frame; from the second half every other frame or fewer are those whose du/dt is asked for. The two do not overlap,
and no two neighbours are asked for: the answers do not stand in the inputs. (A training that cheats could still
interpolate du/dt between the frames that it is asked about.)

Axis letters: T frames, N neurons.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from trainers.data import XNORM_STD
from trainers.errors import RefusedError
from trainers.prepare import files
from trainers.prepare.activity import Recording
from trainers.prepare.readers import Asked, digest, open_array, read_frames
from trainers.prepare.simulator import CHUNK
from trainers.scoring.metrics import SOURCE
from trainers.settings import Simulation
from trainers.yaml_io import write_text

ACTIVITY = Asked(
    key="simulation.activity_file",
    name_key="simulation.activity_name",
    expected="expected numbers of shape (frames, neurons) in a .npy file, an .npz file or a zarr array",
    write="write it with numpy.save(path, u) where u has one row a frame",
    numbers="save numbers: numpy.save(path, numpy.asarray(u, dtype='float32'))",
    damaged="save numbers: numpy.save(path, numpy.asarray(u, dtype='float32'))",
)
KEY = ACTIVITY.key
FRAMES_MIN = 300
"""Fewer leave less than 15 frames of a rollout."""
STATED = ("n_neurons", "n_frames", "delta_t")
"""What a config must say about a recording, so that a file of another shape is noticed."""
ROUNDING_WARN = 1e-2
"""Part of du/dt that the rounding of u to float32 may be before it is told."""


def take_over(simulation: Simulation, folder: Path) -> None:
    """Write `train/`, `inputs/` and `truth/` from the recording of the config.

    Raises:
        RefusedError: the config does not describe it, or the file is not what was expected; nothing of it is kept.
    """
    path, n, n_frames = Path(simulation.activity_file), simulation.n_neurons, simulation.n_frames
    missing = [name for name in STATED if name not in simulation.model_fields_set]
    if missing:
        told = " and ".join(f"simulation.{name}" for name in missing)
        raise RefusedError(
            f"{KEY} is set and {told} {'is' if len(missing) == 1 else 'are'} not; state what the file holds"
        )
    array = open_array(path, simulation.activity_name, ACTIVITY)
    _check_form(array, path, n_frames, n)

    n_train = int(files.TRAIN_PART * n_frames)
    rollout, held = parts(n_frames)
    frames = files.Frames(folder, n_frames, n_train, n, held)
    recording = Recording(n)
    tail = np.empty((n_frames - n_train, n), np.float32)
    low, high = np.full(n, np.inf), np.full(n, -np.inf)
    first, last = 0, None
    for piece in read_frames(array, path, CHUNK, ACTIVITY):
        u32 = _numbers(piece, path, first)
        frames.add(first, u32)
        tail[max(0, first - n_train) : max(0, first + len(u32) - n_train)] = u32[max(0, n_train - first) :]
        with_last = u32 if last is None else np.concatenate([last, u32])
        du = np.diff(with_last.astype(np.float64), axis=0) / simulation.delta_t
        recording.add(u32.astype(np.float64), du, max(0, n_train - first))
        low, high = np.minimum(low, u32.min(axis=0)), np.maximum(high, u32.max(axis=0))
        first, last = first + len(u32), u32[-1:]
    frames.train.flush()
    still = np.flatnonzero(low == high)
    _check_moves(still, n, recording, path)
    _write(folder, frames, tail, rollout, recording, simulation)
    sha, size = digest(path)
    source = {"file": path.name, "name": simulation.activity_name, "sha256": sha, "bytes": size,
              "warnings": _warnings(still, recording, simulation, n_train)}  # fmt: skip
    write_text(folder / SOURCE, json.dumps(source, indent=1) + "\n")


def parts(n_frames: int) -> tuple[range, Any]:
    """Return the frames of the rollout, and those whose du/dt is asked for."""
    n_train = int(files.TRAIN_PART * n_frames)
    rollout = range(n_train, n_train + min(files.ROLLOUT_FRAMES, (n_frames - n_train) // 2))
    apart = np.arange(rollout.stop, n_frames - 1, 2)
    chosen = np.linspace(0, len(apart) - 1, min(len(apart), files.HELDOUT_MAX)).astype(np.int64)
    return rollout, apart[np.unique(chosen)]


def _check_form(array: Any, path: Path, n_frames: int, n: int) -> None:
    shape, kind = tuple(array.shape), np.dtype(array.dtype).kind
    if kind not in "fiu":
        raise RefusedError(
            f"{KEY}: {path} has dtype {array.dtype}; expected real numbers (float or integer): save its real part, "
            "or convert it with numpy.asarray(u, dtype='float32')"
        )
    if len(shape) != 2:
        raise RefusedError(
            f"{KEY}: {path} has shape {shape}; expected two axes (frames, neurons) = ({n_frames}, {n}): reshape it"
        )
    if 0 in shape:
        raise RefusedError(f"{KEY}: {path} is empty, shape {shape}; expected ({n_frames}, {n}) frames by neurons")
    if shape != (n_frames, n) and shape == (n, n_frames):
        raise RefusedError(
            f"{KEY}: {path} has shape {shape}, neurons by frames; expected frames by neurons ({n_frames}, {n}): save "
            "its transpose, numpy.save(path, u.T)"
        )
    if shape != (n_frames, n):
        wanted = {"simulation.n_frames": (n_frames, shape[0]), "simulation.n_neurons": (n, shape[1])}
        told = " and ".join(f"{key}: {found}" for key, (stated, found) in wanted.items() if stated != found)
        raise RefusedError(
            f"{KEY}: {path} has shape {shape}; the config states ({n_frames}, {n}) frames by neurons: set {told}, or "
            "name another file"
        )
    if n_frames < FRAMES_MIN:
        raise RefusedError(
            f"{KEY}: {path} has {n_frames} frames; expected at least {FRAMES_MIN}, the last 10 % are held out: "
            "record longer, or join recordings"
        )


def _numbers(piece: Any, path: Path, first: int) -> Any:
    with np.errstate(over="ignore"):
        u32 = np.asarray(piece, dtype=np.float32)
    bad = np.argwhere(~np.isfinite(u32))
    if len(bad):
        frame, neuron = bad[0]
        found = piece[frame, neuron]
        raise RefusedError(
            f"{KEY}: {path}: frame {first + frame}, neuron {neuron} is {found}; expected finite numbers in float32: "
            "leave out such neurons or frames, or fill the gaps (and say so where you report results)"
        )
    return u32


def _check_moves(still: Any, n: int, recording: Recording, path: Path) -> None:
    if len(still) == n or not recording.du_squares > 0 or not recording.train_std > 0:
        raise RefusedError(
            f"{KEY}: {path}: no neuron changes over the frames; expected activity that varies: is it the right array?"
        )


def _write(folder: Path, frames: files.Frames, tail: Any, rollout: range, recording: Recording,
           simulation: Simulation) -> None:  # fmt: skip
    start = frames.n_train
    xnorm = XNORM_STD * recording.train_std
    rolled = tail[rollout.start - start : rollout.stop - start][None]
    at = frames.held - start
    held_du = (tail[at + 1].astype(np.float64) - tail[at]) / simulation.delta_t
    files.save(folder, {
        "inputs/grid_u.npy": files.grid(xnorm),
        "inputs/heldout_u.npy": frames.held_u,
        "inputs/rollout_u0.npy": rolled[:, 0],
        "truth/heldout_du.npy": held_du.astype(np.float32),
        "truth/rollout_u.npy": rolled.astype(np.float64),
        "truth/delta_t.npy": np.float64(simulation.delta_t),
        "truth/xnorm.npy": np.float64(xnorm),
        "truth/activity.npy": frames.shown.T,
    })  # fmt: skip
    files.tell(folder, frames.train.shape, len(rollout), simulation.delta_t, recording.described())


def _warnings(still: Any, recording: Recording, simulation: Simulation, n_train: int) -> list[str]:
    found, n = [], simulation.n_neurons
    if n_train < n:
        found.append(f"{n_train} training frames for {n} neurons: each neuron has as many unknown weights, so W is not "
                     "determined by these data; record longer, or choose fewer neurons")  # fmt: skip
    if len(still):
        named = ", ".join(map(str, still[:10])) + (", ..." if len(still) > 10 else "")
        found.append(f"{len(still)} of {n} neurons never change (from 0: {named}): nothing can be learned from them")
    largest = max(abs(recording.low), abs(recording.high))
    rounding = float(np.finfo(np.float32).eps) * largest / simulation.delta_t
    size = np.sqrt(recording.du_squares / (recording.n_frames * n))
    if rounding > ROUNDING_WARN * size:
        found.append(f"du/dt is {size:.2g} and u goes to {largest:.2g}: rounding to float32 alone makes up to "
                     f"{rounding:.1g} of it; subtract each neuron's mean before saving")  # fmt: skip
    return found


def own_guard(folder: Path) -> dict[str, Any]:
    """Return {ok, relative_error, sentence, pairs} for the files of a recording, read back.

    What it does not stop: a recording of something else, axes that are swapped in a square array, filtered or
    interpolated traces, whose du/dt is an artefact, and a delta_t that is not that of the recording.
    """
    u, delta_t = np.load(folder / "train" / "u.npy", mmap_mode="r"), float(np.load(folder / "truth" / "delta_t.npy"))
    rolled, held = np.load(folder / "truth" / "rollout_u.npy"), np.load(folder / "truth" / "heldout_du.npy")
    faults = {
        "the frames are not finite": not all(np.isfinite(piece).all() for piece in (u, rolled, held)),
        "the shapes disagree": not u.ndim == held.ndim == 2 or not u.shape[1] == rolled.shape[2] == held.shape[1],
        "the activity is constant": u.std(dtype=np.float64) == 0 or not held.any(),
        f"delta_t is {delta_t}, expected > 0": not delta_t > 0,
    }
    broken = [told for told, found in faults.items() if found]
    sentence = "; ".join(broken) or (
        f"your own data, {len(u)} training frames of {u.shape[1]} neurons: finite, not constant, delta_t {delta_t:g} "
        "> 0, du/dt by forward differences; there is no truth to check them against"
    )
    return {"ok": not broken, "relative_error": None, "sentence": sentence, "pairs": len(u) - 1}
