"""Data guard: the stored du/dt is the right-hand side of the *saved* W, and consecutive frames follow from it.

Written without the simulator's code, neuron by neuron from the equation, so that one mistake cannot hide in both.

What it does not stop: a wrong equation that the parameters on disk describe faithfully, and data too poor to identify
W (the least-squares ceiling tells that).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 1e-4
"""Largest relative error that is accepted; float32 storage gives about 1e-7."""
EULER_TOLERANCE = 1e-2
"""Same for (u[t+1] - u[t]) / delta_t, where float32 differences lose digits."""


def guard(data_dir: Path) -> dict[str, Any]:
    """Return {ok, relative_error, sentence} for the files of a regime.

    Cost: O(T N^2).
    """
    W = np.load(data_dir / "truth" / "W.npy").astype(np.float64)
    rows = np.load(data_dir / "truth" / "params.npy")[np.load(data_dir / "truth" / "types.npy")]
    u = np.load(data_dir / "train" / "u.npy").astype(np.float64)
    du = np.load(data_dir / "train" / "du.npy").astype(np.float64)
    held_u = np.load(data_dir / "inputs" / "heldout_u.npy").astype(np.float64)
    held_du = np.load(data_dir / "truth" / "heldout_du.npy").astype(np.float64)
    second = np.load(data_dir / "truth" / "rollout_u.npy").astype(np.float64)
    delta_t = float(np.load(data_dir / "truth" / "delta_t.npy"))
    errors = {
        "train/du.npy against the right-hand side of truth/W.npy": relative_error(du, expected(u, W, rows)),
        "truth/heldout_du.npy against it": relative_error(held_du, expected(held_u, W, rows)),
    }
    follow = {"train/u.npy": relative_error(np.diff(u, axis=0) / delta_t, du[:-1])}
    for r, frames in enumerate(second):
        step = np.diff(frames, axis=0) / delta_t
        follow[f"truth/rollout_u.npy[{r}]"] = relative_error(step, expected(frames[:-1], W, rows))
    worst = max(errors, key=lambda k: _size(errors[k]))
    broken = max(follow, key=lambda k: _size(follow[k]))
    if not errors[worst] < TOLERANCE:
        sentence = (
            f"{worst} has a relative error of {errors[worst]:.3g} (at most {TOLERANCE:g}): "
            "the data were not made by the saved W; correct the simulator and prepare again"
        )
        return {"ok": False, "relative_error": errors[worst], "sentence": sentence}
    if not follow[broken] < EULER_TOLERANCE:
        sentence = f"frames of {broken} do not follow from du/dt (relative error {follow[broken]:.3g})"
        return {"ok": False, "relative_error": follow[broken], "sentence": sentence}
    sentence = f"stored du/dt equals the right-hand side of the saved W (relative error {errors[worst]:.1e})"
    return {"ok": True, "relative_error": errors[worst], "sentence": sentence}


def expected(u: NDArray[np.float64], W: NDArray[np.float64], rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return du/dt of frames `u` (T, N) from W (N, N) and one row [a, b, g, s, w, h] a neuron (N, 6)."""
    a, b, g, s, w, h = (rows[:, column] for column in range(6))
    du = np.empty_like(u)
    phi = np.tanh((u - h) / w)
    for target in range(u.shape[1]):
        own = u[:, target]
        incoming = np.einsum("tj,j->t", phi, W[target])
        du[:, target] = -a[target] * own + b[target] + s[target] * np.tanh(own) + g[target] * incoming
    return du


def relative_error(found: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    """Return ||found - right|| / ||right||."""
    return float(np.linalg.norm(found - right) / np.linalg.norm(right))


def _size(value: float) -> float:
    return value if np.isfinite(value) else np.inf
