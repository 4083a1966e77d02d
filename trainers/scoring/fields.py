"""Metrics of a learned field. Axis letters: F frames, N cells, C components, K points."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trainers.data_points import HELD
from trainers.errors import RefusedError

FREQUENCIES = 256
"""Numbers that stand for the first layer's frequencies in time, and as many for those in space."""
Metrics = dict[str, float | None]


class Truth(NamedTuple):
    """What a run is compared with."""

    held: dict[str, Any]
    """Kind -> withheld values (K, C)."""
    frames: dict[str, Any]
    """Kind -> frame of each (K,)."""
    seen: Any
    """Values that were trained on (F, N, C), every `seen_every` frames."""
    seen_kept: Any
    """Which of them (F, N)."""
    seen_frames: Any
    """Their frames (F,)."""
    slabs: list[Any]
    """Position on the slice and value of cells near it, slice by slice (., 2 + C)."""
    limits: dict[str, Any]
    activity: dict[str, Any]
    told: dict[str, Any]
    """train/dataset.json."""
    n_slices: int


def load_truth(folder: Path) -> Truth:
    """Return the truth of a regime; raises OSError, ValueError or KeyError."""

    def array(name: str) -> Any:
        return np.load(folder / name, allow_pickle=False)

    every = int(json.loads((folder / "inputs" / "inputs.json").read_text())["seen_every"])
    active = folder / "truth" / "activity.json"
    return Truth(
        held={kind: array(f"truth/field_{kind}.npy").astype(np.float64) for kind in HELD},
        frames={kind: array(f"truth/frames_{kind}.npy") for kind in HELD},
        seen=array("train/field.npy")[::every].astype(np.float64),
        seen_kept=array("train/kept.npy")[::every],
        seen_frames=array("train/frames.npy")[::every],
        slabs=[array(f"truth/slab_{number}.npy").astype(np.float64) for number in range(3)],
        limits=json.loads((folder / "truth" / "limits.json").read_text()),
        activity=json.loads(active.read_text()) if active.exists() else {},
        told=json.loads((folder / "train" / "dataset.json").read_text()),
        n_slices=len(array("inputs/slices.npy")),
    )


def shapes_of(folder: Path) -> dict[str, tuple[int | None, ...]]:
    """Return the shapes of the final estimate from what training was given; raises RefusedError."""
    try:
        told = json.loads((folder / "train" / "dataset.json").read_text())
        every = int(json.loads((folder / "inputs" / "inputs.json").read_text())["seen_every"])
        points = {kind: len(np.load(folder / "inputs" / f"points_{kind}.npy", mmap_mode="r")) for kind in HELD}
        frames = len(np.load(folder / "train" / "frames.npy", mmap_mode="r")[::every])
        slices = len(np.load(folder / "inputs" / "slices.npy", mmap_mode="r"))
        return shapes_from(int(told["n_components"]), points, (frames, int(told["n_cells"])), slices)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RefusedError(f"{folder} is not complete ({error}); prepare the regime again") from error


def shapes_from(components: int, points: dict[str, int], seen: tuple[int, int],
                slices: int) -> dict[str, tuple[int | None, ...]]:  # fmt: skip
    """Return the shapes of the final estimate."""
    held: dict[str, tuple[int | None, ...]] = {kind: (k, components) for kind, k in points.items()}
    return held | {"frequencies": (2, FREQUENCIES), "seen": (*seen, components), "slices": (slices, components)}


def r2(predicted: Any, true: Any) -> float | None:
    """Return 1 - SSE/SST over all components of (K, C), SST around each component's mean; None for constant values."""
    total = float(np.sum((true - true.mean(axis=0)) ** 2))
    return None if total == 0 else 1.0 - float(np.sum((predicted - true) ** 2)) / total


def score_estimate(estimate: dict[str, Any], truth: Truth) -> Metrics:
    """Return the metrics of withheld values."""
    found = {f"heldout_{kind}_r2": r2(estimate[kind], truth.held[kind]) for kind in HELD}
    found |= {f"heldout_{kind}_mse": float(np.mean((estimate[kind] - truth.held[kind]) ** 2)) for kind in HELD}
    ceiling, reached = truth.limits.get("ceiling"), found["heldout_cells_r2"]
    found["ceiling_share"] = reached / ceiling if ceiling and reached is not None else None
    return found


def score_seen(seen: Any, truth: Truth) -> Metrics:
    """Return the metrics of what was trained on: the recorded forms, and 1 - SSE/SST."""
    found, true = seen[truth.seen_kept], truth.seen[truth.seen_kept]
    x, y = true.ravel() - true.mean(), found.ravel() - found.mean()
    power, across = float(x @ x), float(x @ y)
    spread = float(y @ y)
    return {
        "final_r2": (across / power) * (across / spread) if spread > 0 and power > 0 else 0.0,
        "final_r2_strict": r2(found, true),
        "final_mse": float(np.mean((found - true) ** 2)),
        "slope": across / power if power > 0 else None,
    }


def best_of(scores: dict[str, float | None]) -> float | None:
    """Return the largest of the scores that are known."""
    return max((v for v in scores.values() if v is not None), default=None)


def beyond(reached: float | None, truth: Truth, kind: str) -> float | None:
    """Return how much a score is above the best baseline of its kind."""
    best = best_of(truth.limits["baselines"][kind])
    return None if reached is None or best is None else reached - best
