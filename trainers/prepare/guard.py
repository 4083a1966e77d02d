"""Data guard: the stored du/dt is the right-hand side of the *saved* W, and consecutive frames follow from it.

Written without the simulator's code, neuron by neuron from the equation, so that one mistake cannot hide in both.

With process noise du/dt is the drift at the stored frame, so the first promise stays as it is; frames then follow from
du/dt up to a difference whose standard deviation is the declared noise level.

Under `legacy_sparse_transpose` the stored du/dt must be that of W o mask^T (mask: where the saved W is not 0); data of
that kind without the switch are refused by name.

What it does not stop: a wrong equation that the parameters on disk describe faithfully, data too poor to identify
W (the least-squares ceiling tells that), and noise that has the right size but is not white.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 1e-4
"""Largest relative error that is accepted; float32 storage gives about 1e-7."""
EULER_TOLERANCE = 1e-2
"""Same for (u[t+1] - u[t]) / delta_t, where float32 differences lose digits, and for the size of process noise."""
NOISE_SIGMAS = 5.0
"""The measured noise may differ from the declared one by this many standard errors on top."""
TRANSPOSED = "the stored du/dt fits W o mask^T, not the saved W: the sparse mask is transposed"
"""What the defect of the recorded simulator is called; mask is where W is not 0."""


def guard(data_dir: Path, noise_level: float = 0.0, legacy_sparse_transpose: bool = False) -> dict[str, Any]:
    """Return {ok, relative_error, sentence} for the files of a regime.

    Args:
        data_dir: the folder of the regime.
        noise_level: simulation.noise_model_level, declared standard deviation of the noise of a step.
        legacy_sparse_transpose: the data are declared to come from W o mask^T.

    Cost: O(T N^2).
    """
    saved = np.load(data_dir / "truth" / "W.npy").astype(np.float64)
    rows = np.load(data_dir / "truth" / "params.npy")[np.load(data_dir / "truth" / "types.npy")]
    u = np.load(data_dir / "train" / "u.npy").astype(np.float64)
    du = np.load(data_dir / "train" / "du.npy").astype(np.float64)
    held_u = np.load(data_dir / "inputs" / "heldout_u.npy").astype(np.float64)
    held_du = np.load(data_dir / "truth" / "heldout_du.npy").astype(np.float64)
    second = np.load(data_dir / "truth" / "rollout_u.npy").astype(np.float64)
    delta_t = float(np.load(data_dir / "truth" / "delta_t.npy"))
    stored = {"train/du.npy": (u, du), "truth/heldout_du.npy": (held_u, held_du)}
    transposed = saved * (saved != 0.0).T
    W, name = (transposed, "W o mask^T") if legacy_sparse_transpose else (saved, "the saved W")

    errors = {file: relative_error(right, expected(at, W, rows)) for file, (at, right) in stored.items()}
    worst = max(errors, key=lambda k: _size(errors[k]))
    if not errors[worst] < TOLERANCE:
        at, right = stored[worst]
        other = saved if legacy_sparse_transpose else transposed
        sentence = _cause(worst, errors[worst], relative_error(right, expected(at, other, rows)), name)
        return {"ok": False, "relative_error": errors[worst], "sentence": sentence}

    follow = {"train/u.npy": step_error(u, du[:-1], delta_t, noise_level)}
    for r, frames in enumerate(second):
        follow[f"truth/rollout_u.npy[{r}]"] = step_error(frames, expected(frames[:-1], W, rows), delta_t, 0.0)
    broken = max(follow, key=lambda k: _size(follow[k]))
    if not follow[broken] < EULER_TOLERANCE:
        sentence = f"frames of {broken} do not follow from du/dt (relative error {follow[broken]:.3g})"
        return {"ok": False, "relative_error": follow[broken], "sentence": sentence}
    sentence = f"stored du/dt equals the right-hand side of {name} (relative error {errors[worst]:.1e})"
    return {"ok": True, "relative_error": errors[worst], "sentence": sentence}


def _cause(file: str, error: float, other_error: float, name: str) -> str:
    if not other_error < TOLERANCE:
        return (
            f"{file} has a relative error of {error:.3g} against the right-hand side of {name} (at most "
            f"{TOLERANCE:g}): the data were not made by the saved W; correct the simulator and prepare again"
        )
    if name == "the saved W":
        return (
            f"{file}: {TRANSPOSED} (relative error {other_error:.1e} against {error:.3g}); correct the simulator, or "
            "declare the defect with simulation.legacy_sparse_transpose: true"
        )
    return f"{file}: the data are declared legacy_sparse_transpose, but du/dt fits the saved W itself; drop the switch"


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


def step_error(u: NDArray[np.float64], du: NDArray[np.float64], delta_t: float, noise_level: float) -> float:
    """Return how far the steps of frames `u` (T, N) are from `du` (T - 1, N), relative to `du`, or to the noise.

    Without noise it is the relative error of (u[t+1] - u[t]) / delta_t. With noise it is what the standard deviation of
    u[t+1] - u[t] - delta_t du differs from `noise_level` beyond chance and the digits that float32 loses, relative to
    `noise_level`.
    """
    left = np.diff(u, axis=0) - delta_t * du
    if noise_level == 0.0:
        return float(np.linalg.norm(left) / np.linalg.norm(delta_t * du))
    found = float(np.sqrt(np.mean(left**2)))
    chance = NOISE_SIGMAS * noise_level / np.sqrt(2 * left.size)
    digits = EULER_TOLERANCE * delta_t * float(np.sqrt(np.mean(du**2)))
    return max(0.0, abs(found - noise_level) - chance - digits) / noise_level


def relative_error(found: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    """Return ||found - right|| / ||right||."""
    return float(np.linalg.norm(found - right) / np.linalg.norm(right))


def _size(value: float) -> float:
    return value if np.isfinite(value) else np.inf
