"""Data guard of metabolic regimes: stored dc/dt is the right-hand side of the *saved* truth, and frames follow from it.

Written without the simulator's code, reaction by reaction from the equation. What it does not stop: a wrong equation
that the parameters on disk describe faithfully, and data too poor to identify k (the ceiling tells that).

Axis letters: T frames, M metabolites, R reactions, E edges.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
TOLERANCE, EULER_TOLERANCE = 1e-4, 1e-2


def guard(folder: Path, delta_t: float, pulse_every: int = 0, circadian: tuple[float, float] = (0.0, 1.0),
          shuffled: bool = False) -> dict[str, Any]:  # fmt: skip
    """Return {ok, relative_error, sentence} for the files of a regime with mass action.

    Args:
        folder: of the regime.
        delta_t: of the Euler steps.
        pulse_every: frames between pulses; the step into such a frame is not compared.
        circadian: amplitude and period of the baselines' modulation.
        shuffled: the training dc/dt is declared to be in random order, and only the others are compared.
    """
    truth = {p.stem: np.load(p) for p in (folder / "truth").glob("*.npy")}
    c, dc = (np.load(folder / "train" / f"{name}.npy").astype(np.float64) for name in ("c", "dc"))
    times = np.arange(c.shape[1]) * delta_t
    looked = {
        "truth/heldout_dc.npy": _error(
            truth["heldout_dc"],
            expected(
                np.load(folder / "inputs" / "heldout_c.npy").astype(np.float64), truth["heldout_time"], truth, circadian
            ),
        )
    }
    if not shuffled:
        looked |= {
            f"train/dc.npy run {r}": _error(dc[r], expected(c[r], times, truth, circadian)) for r in range(len(c))
        }
    worst = max(looked, key=lambda k: looked[k] if np.isfinite(looked[k]) else np.inf)
    if not looked[worst] < TOLERANCE:
        return {"ok": False, "relative_error": looked[worst], "sentence": f"{worst} has a relative error of "
                f"{looked[worst]:.3g} against the right-hand side of the saved network (at most {TOLERANCE:g}): the "
                "data were not made by it; correct the simulator and prepare again"}  # fmt: skip
    second = truth["rollout_c"][0]
    follow = {
        "truth/rollout_c.npy": _steps(
            second, expected(second, np.arange(len(second)) * delta_t, truth, circadian), delta_t, 0
        )
    }
    if not shuffled:
        follow |= {f"train/c.npy run {r}": _steps(c[r], dc[r], delta_t, pulse_every) for r in range(len(c))}
    broken = max(follow, key=lambda k: follow[k] if np.isfinite(follow[k]) else np.inf)
    if not follow[broken] < EULER_TOLERANCE:
        return {
            "ok": False,
            "relative_error": follow[broken],
            "sentence": f"frames of {broken} do not follow from dc/dt (relative error {follow[broken]:.3g})",
        }
    what = "held-out dc/dt (the training's is shuffled, as declared)" if shuffled else "dc/dt"
    return {
        "ok": True,
        "relative_error": looked[worst],
        "sentence": f"{what} equals the right-hand side of the saved network (relative error {looked[worst]:.1e})",
    }


def expected(c: Array, time: Array, truth: dict[str, Any], circadian: tuple[float, float]) -> Array:
    """Return dc/dt (T, M) of concentrations (T, M) at times (T,)."""
    dc = np.empty_like(c)
    wave = 1.0 + circadian[0] * np.sin(2 * np.pi * time / circadian[1])
    for i, t in enumerate(truth["types"]):
        dc[:, i] = truth["decay"][t] * (truth["baseline"][t] * wave - c[:, i])
    for j, log_k in enumerate(truth["log_k"]):
        edges = np.flatnonzero(truth["rxn_sub"] == j)
        if len(edges) == 0:
            continue
        v = np.full(len(c), 10.0**log_k)
        for e in edges:
            v = v * c[:, truth["met_sub"][e]] ** truth["order"][e]
        for i in np.flatnonzero(truth["S"][:, j]):
            dc[:, i] += truth["S"][i, j] * v
    return dc


def _error(found: Array, right: Array) -> float:
    return float(np.linalg.norm(found - right) / np.linalg.norm(right))


def _steps(c: Array, dc: Array, delta_t: float, pulse_every: int) -> float:
    """Return how far c[t+1] is from max(0, c[t] + delta_t dc[t]), relative to the steps."""
    ahead = np.maximum(c[:-1] + delta_t * dc[:-1], 0.0)
    kept = np.ones(len(ahead), bool)
    if pulse_every:
        kept[pulse_every - 1 :: pulse_every] = False
    return float(np.linalg.norm((c[1:] - ahead)[kept]) / np.linalg.norm(delta_t * dc[:-1][kept]))
