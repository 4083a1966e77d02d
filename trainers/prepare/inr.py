"""Make the data of a field regime and measure them: guard, oracle, null, ceiling, baselines.

Axis letters: T frames, N cells, D axes, C components, K points, S points of the slices.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainers.data_points import HELD, load_points
from trainers.inr import Fitted, estimates, new_model, predictions, scales
from trainers.prepare import field_limits
from trainers.prepare.cells import Cells, minimum_image, walk
from trainers.prepare.files import save
from trainers.prepare.tracks import Tracks, read_tracks
from trainers.prepare.withheld import Withheld, withhold
from trainers.scoring.fields import Truth, best_of, load_truth, r2, score_estimate, score_seen
from trainers.settings_inr import InrConfig, Points
from trainers.yaml_io import write_text

TWINS = {1: 4, 300: 1}
"""Cells from which on so many more populations are simulated for the ceiling: fewer cells have fewer pairs."""
SEEN_MAX = 6_000_000
"""Trained numbers that are asked for again, at most."""
SLICES, SIDE = (1 / 6, 1 / 2, 5 / 6), 64
"""Times and points a side of the slices that are drawn."""
SLAB = 0.08
"""Cells are drawn on a slice that is at most this far, in boxes."""
NULL_SEED = 0
NULL_MAX = 0.1
STATIONARY = 0.1
CEILING_MIN = 0.05
"""Part of the variance below which nothing is said of what a place decides."""
ROUNDING = 2.0**-23
"""Of float32 positions near 1, which a small step of them suffers from."""
SIZES = (1e-2, 1e2)
"""Sizes of a field that is learned as it is."""
DIFFERENCES = 5e-3
"""Relative error of stored velocities against differences of stored positions, which are float32."""
CHECKED = ("final_r2_strict", *(f"heldout_{kind}_r2" for kind in HELD))
"""Scores that the true field has 1 on and an untrained network nothing; final_r2 is a squared correlation, and two
smooth fields may correlate by chance."""


def make(config: InrConfig, folder: Path) -> dict[str, Any]:
    """Write the files of a regime into `folder`; return what preflight.json says of them."""
    s = config.simulation
    tracks, twins = (read_tracks(s), []) if s.points_file else simulated(s)
    held = withhold(tracks.field, s.seed)
    _write(folder, s, tracks, held)
    limits = _limits(folder, s, tracks, held, twins)
    truth = load_truth(folder)
    told = guard(folder, s, truth)
    active = _activity(s, tracks, held)
    write_text(folder / "truth" / "activity.json", json.dumps(active, indent=1) + "\n")
    oracle = score_estimate(truth.held, truth) | score_seen(truth.seen, truth)
    null = _null(config, folder, truth)
    ceiling = {"heldout_cells_r2": limits["ceiling"], "ceiling_share": None if limits["ceiling"] is None else 1.0}
    reason = None if told["ok"] else told["sentence"]
    reason = reason or _faults(oracle, null, s)
    return {
        "reason": reason,
        "truth": True,
        **({"source": tracks.source} if s.points_file else {}),
        "guard": told,
        "oracle": oracle,
        "null": null,
        "ceiling": ceiling,
        "baselines": {f"heldout_{kind}_r2": best_of(limits["baselines"][kind]) for kind in HELD},
        "activity": active,
        "looked_at": {"training_frames": int(held.kept.any(axis=1).sum())},
        "marks": [],
        "warnings": [*tracks.warnings, *_warnings(config, tracks, held, limits)],
    }


def simulated(s: Points) -> tuple[Tracks, list[tuple[Any, Any]]]:
    """Return the simulated recording, and positions and velocities of other populations in the same signal."""
    side = s.box[0]
    cells = Cells(s.n_cells, s.dimension, side, s.speed, s.signal_length, s.signal_time, s.alignment,
                  s.rotational_diffusion, s.pair_stiffness, s.pair_range)  # fmt: skip
    number = 1 + next(n for least, n in sorted(TWINS.items(), reverse=True) if s.n_cells >= least)
    walked = walk(cells, s.seed, number, s.delta_t, s.substeps)
    x = np.empty((number, s.n_frames + 1, s.n_cells, s.dimension), np.float32)
    field = np.empty((number, s.n_frames, s.n_cells, s.dimension), np.float32)
    before = None
    for frame, now in enumerate(itertools.islice(walked, s.n_frames + 1)):
        x[:, frame] = now
        if before is not None:
            field[:, frame - 1] = minimum_image(now - before, side) / s.delta_t
        before = now
    whole = Tracks(x[0, :-1].astype(np.float64), field[0], np.full(s.dimension, side), {}, [])
    return whole, [(x[i, :-1], field[i]) for i in range(1, number)]


def _write(folder: Path, s: Points, tracks: Tracks, held: Withheld) -> None:
    for name in ("train", "inputs", "truth"):
        (folder / name).mkdir(exist_ok=True)
    x = _scaled(tracks)
    n_frames = len(x)
    frames = np.flatnonzero(held.kept.any(axis=1))
    others = np.flatnonzero(held.kept.any(axis=0))
    own = np.ix_(frames, others)
    kept = held.kept[own]
    field = np.where(kept[:, :, None], tracks.field[own], 0).astype(np.float32)
    seen_every = max(1, -(-field.size // SEEN_MAX))
    arrays = {"train/frames.npy": frames, "train/positions.npy": x[own].astype(np.float32), "train/field.npy": field,
              "train/kept.npy": kept, "inputs/slices.npy": _slices(n_frames, x)}  # fmt: skip
    for kind, (at, cells) in held.asked.items():
        points = np.concatenate([(at / n_frames)[:, None], x[at, cells]], axis=1)
        arrays[f"inputs/points_{kind}.npy"] = points.astype(np.float32)
        arrays[f"truth/field_{kind}.npy"] = tracks.field[at, cells]
        arrays[f"truth/frames_{kind}.npy"] = at
    for number, part in enumerate(SLICES):
        frame = int(part * n_frames)
        near = np.all(np.abs(x[frame, :, 2:] - _middle(x)[2:]) < SLAB, axis=1)
        shown = np.concatenate([x[frame, near, :2], tracks.field[frame, near]], axis=1)
        arrays[f"truth/slab_{number}.npy"] = shown.astype(np.float32)
    save(folder, arrays)
    told = {"n_frames": n_frames, "n_cells": len(others), "dimension": x.shape[2], "periodic": tracks.box is not None,
            "n_components": field.shape[2], "delta_t": s.delta_t, "field": _names(s, field.shape[2])}  # fmt: skip
    write_text(folder / "train" / "dataset.json", json.dumps(told, indent=1) + "\n")
    write_text(folder / "inputs" / "inputs.json", json.dumps({"seen_every": seen_every}, indent=1) + "\n")


def _names(s: Points, components: int) -> list[str]:
    """Return what the field may be called: a named array of as many components as axes may be the velocity."""
    if not s.field_name:
        return ["velocity"]
    return [s.field_name, "velocity"] if components == s.dimension else [s.field_name]


def _scaled(tracks: Tracks) -> Any:
    """Return positions in boxes, [0, 1); without a box in the largest extent of an axis."""
    if tracks.box is not None:
        return np.mod(tracks.positions, tracks.box) / tracks.box
    low = tracks.positions.min(axis=(0, 1))
    return (tracks.positions - low) / np.ptp(tracks.positions, axis=(0, 1)).max()


def _middle(x: Any) -> Any:
    """Return the middle of the places that occur (D,): of a periodic box, nearly its own."""
    return (x.min(axis=(0, 1)) + x.max(axis=(0, 1))) / 2


def _slices(n_frames: int, x: Any) -> Any:
    """Return points of a plane through the middle at three times (S, 1 + D)."""
    across = (np.arange(SIDE) + 0.5) / SIDE
    second, first = np.meshgrid(across, across, indexing="ij")
    plane = np.tile(_middle(x), (SIDE * SIDE, 1))
    plane[:, 0], plane[:, 1] = first.ravel(), second.ravel()
    times = [int(part * n_frames) / n_frames for part in SLICES]
    return np.concatenate([np.concatenate([np.full((len(plane), 1), t), plane], axis=1) for t in times]).astype("f4")


def _limits(folder: Path, s: Points, tracks: Tracks, held: Withheld, twins: list[tuple[Any, Any]]) -> dict[str, Any]:
    """Measure baselines and the ceiling; write truth/limits.json."""
    guessed = field_limits.baselines(tracks.positions, tracks.field, tracks.box, held)
    values = {kind: tracks.field[held.asked[kind]].astype(np.float64) for kind in HELD}
    if not s.field_name:
        guessed["windows"]["path"] = field_limits.paths(tracks.positions, tracks.field, tracks.box, held, s.delta_t)
    scored = {kind: {name: r2(guess, values[kind]) for name, guess in guessed[kind].items()} for kind in HELD}
    left = field_limits.unexplained(tracks.positions, tracks.field, tracks.box, twins)
    total = float(values["cells"].var(axis=0).sum())
    known = left is not None and total > 0 and 1.0 - left / total > CEILING_MIN
    limits = {
        "baselines": scored,
        "ceiling": 1.0 - left / total if known else None,
        "ceiling_from": "other populations in the same signal" if twins else "pairs of the recording's own cells",
    }
    write_text(folder / "truth" / "limits.json", json.dumps(limits, indent=1) + "\n")
    return limits


def guard(folder: Path, s: Points, truth: Truth) -> dict[str, Any]:
    """Return {ok, relative_error, sentence} for the files, read back.

    What it does not stop: a field that was filtered, or a recording of something else.
    """
    data, _ = load_points(folder / "train", folder / "inputs")
    if not all(bool(torch.isfinite(a).all()) for a in (data.x, data.field)):
        return {"ok": False, "relative_error": None, "sentence": "positions or field are not finite"}
    if s.points_file and s.field_name:
        told = f"your own field {s.field_name!r} at {data.shape[1]} training cells: finite, not constant"
        return {"ok": True, "relative_error": None, "sentence": told}
    frames = np.load(folder / "train" / "frames.npy")
    next_to = np.flatnonzero(np.diff(frames) == 1)
    x = data.x.double().numpy()
    side = np.asarray(s.box, float) if s.box else None
    step = x[next_to + 1] - x[next_to]
    right = minimum_image(step, 1.0) * side / s.delta_t if side is not None else None
    if right is None:
        return {"ok": True, "relative_error": None, "sentence": "velocities of a recording without a box: finite"}
    kept = data.kept.numpy()[next_to]
    found = data.field.double().numpy()[next_to]
    error = float(np.linalg.norm((found - right)[kept]) / np.linalg.norm(right[kept]))
    most = DIFFERENCES + ROUNDING / float(np.sqrt(np.mean(minimum_image(step, 1.0)[kept] ** 2)))
    if not error < most:
        told = f"velocities differ from the differences of positions (relative error {error:.3g}, at most {most:.3g})"
        return {"ok": False, "relative_error": error, "sentence": told}
    drift = _drift(data.field.numpy(), data.kept.numpy())
    if not s.points_file and drift > STATIONARY:
        return {"ok": False, "relative_error": error, "sentence": f"the simulation is not stationary: rms velocity of "
                f"the last quarter is off by {drift:.0%} from the second (at most {STATIONARY:.0%})"}  # fmt: skip
    told = f"velocities are the differences of positions (relative error {error:.1e}); rms velocity of the last quarter"
    return {"ok": True, "relative_error": error, "sentence": f"{told} within {drift:.1%} of the second"}


def _drift(field: Any, kept: Any) -> float:
    """Return by how much the rms of the last quarter differs from that of the second one, relative to it."""
    quarter = len(field) // 4
    second, last = (
        np.sqrt(np.mean(field[part][kept[part]].astype(np.float64) ** 2))
        for part in (slice(quarter, 2 * quarter), slice(3 * quarter, None))
    )
    return float(abs(last - second) / max(float(second), 1e-300))


def _activity(s: Points, tracks: Tracks, held: Withheld) -> dict[str, float | None]:
    n_frames, n_cells, components = tracks.field.shape
    remembered = held.remembered
    rms = float(np.sqrt(np.mean(np.sum(tracks.field.astype(np.float64) ** 2, axis=2))))
    spacing = None
    if tracks.box is not None:
        spacing = float((np.prod(tracks.box) / n_cells) ** (1 / tracks.positions.shape[2]))
    return {
        "n_cells": float(n_cells),
        "n_frames": float(n_frames),
        "n_components": float(components),
        "dimension": float(tracks.positions.shape[2]),
        "rms": rms,
        "persistence_time": None if remembered is None else remembered * s.delta_t,
        "spacing": spacing,
        "box": None if tracks.box is None else float(tracks.box.max()),
        "signal_length": None if s.points_file else s.signal_length,
        "withheld_cells": float(len(held.cells)),
        "withheld_window_time": len(held.windows[0]) * s.delta_t,
        "withheld_windows": float(len(held.windows)),
        "trained_values": float(held.kept.sum()),
        "drift": _drift(tracks.field, np.ones(tracks.field.shape[:2], bool)),
    }


def _null(config: InrConfig, folder: Path, truth: Truth) -> dict[str, float | None]:
    data, inputs = load_points(folder / "train", folder / "inputs")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(NULL_SEED)
        model = new_model(config.inr, data.shape[2], data.shape[3])
    fitted = Fitted(model, *scales(data, False))
    arrays = estimates(fitted, inputs) | predictions(fitted, data, inputs)
    plain = {k: v.detach().double().numpy() for k, v in arrays.items()}
    return score_estimate(plain, truth) | score_seen(plain["seen"], truth)


def _faults(oracle: dict[str, Any], null: dict[str, Any], s: Points) -> str | None:
    """Return what is wrong with the metrics; an untrained network may agree with a short recording by chance."""
    for name in ("final_r2", *CHECKED):
        if oracle.get(name) is None or abs(oracle[name] - 1.0) > 1e-6:
            return f"the true field scores {oracle.get(name)} on {name} instead of 1: the metric or the data are wrong"
        if name in CHECKED and not s.points_file and null.get(name) is not None and null[name] > NULL_MAX:
            return f"an untrained network scores {null[name]} on {name} (at most {NULL_MAX})"
    return None


def _warnings(config: InrConfig, tracks: Tracks, held: Withheld, limits: dict[str, Any]) -> list[str]:
    found = []
    size = float(np.sqrt(np.mean(tracks.field.astype(np.float64) ** 2)))
    if not SIZES[0] < size < SIZES[1] and not config.inr.inr_whiten:
        found.append(f"the field has the size {size:.2g}: a network starts near 1 and takes long from there; "
                     "set inr.inr_whiten: true")  # fmt: skip
    remembered, length = held.remembered, len(held.windows[0])
    if remembered is None or length < remembered:
        found.append(f"a withheld stretch has {length} frames, less than the field is remembered by a cell: "
                     "heldout_windows_r2 is easier than it should be; record longer")  # fmt: skip
    if limits["ceiling"] is None:
        found.append("too few cells come near enough to each other to measure what a place decides, so no ceiling is "
                     "known: state `classes:` by heldout_cells_r2 in exploration.yaml")  # fmt: skip
    elif not tracks.source:
        return found
    else:
        found.append("the ceiling is from pairs of the recording's own cells, an estimate: what neighbours share "
                     "beyond their place makes it too high")  # fmt: skip
    return found
