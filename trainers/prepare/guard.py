"""Data guard: du/dt as training uses it is the right-hand side of the *saved* W, and consecutive frames follow from it.

Training uses `train/du.npy` where it is stored and (u[t+1] - u[t]) / delta_t where it is not; that is what is looked
at. Every pair of consecutive frames up to `BUDGET` / N^2 of them (at least `PAIRS_MIN`), evenly spread ones beyond: all
of 100,000 frames at N = 200, 4000 at N = 1000. Held-out frames and rollouts are looked at whole.

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

from trainers.prepare.activity import affordable, spread

TOLERANCE = 1e-4
"""Largest relative error that is accepted; float32 gives about 1e-7 where du is stored, about 1e-5 for differences."""
EULER_TOLERANCE = 1e-2
"""Same for (u[t+1] - u[t]) / delta_t, where float32 differences lose digits, and for the size of process noise."""
NOISE_SIGMAS = 5.0
"""The measured noise may differ from the declared one by this many standard errors on top."""
BUDGET, PAIRS_MIN = 4e9, 2000
"""Products (pairs times N^2) that are afforded, about 4 s, and pairs that are looked at whatever they cost."""
TRANSPOSED = "the du/dt fits W o mask^T, not the saved W: the sparse mask is transposed"
"""What the defect of the recorded simulator is called; mask is where W is not 0."""


def guard(data_dir: Path, noise_level: float = 0.0, legacy_sparse_transpose: bool = False) -> dict[str, Any]:
    """Return {ok, relative_error, sentence, pairs} for the files of a regime; pairs is how many were looked at.

    Args:
        data_dir: the folder of the regime.
        noise_level: simulation.noise_model_level, declared standard deviation of the noise of a step.
        legacy_sparse_transpose: the data are declared to come from W o mask^T.

    Cost: O(T N^2), at most that of `BUDGET`.
    """
    saved = np.load(data_dir / "truth" / "W.npy").astype(np.float64)
    rows = np.load(data_dir / "truth" / "params.npy")[np.load(data_dir / "truth" / "types.npy")]
    held_u = np.load(data_dir / "inputs" / "heldout_u.npy").astype(np.float64)
    held_du = np.load(data_dir / "truth" / "heldout_du.npy").astype(np.float64)
    second = np.load(data_dir / "truth" / "rollout_u.npy").astype(np.float64)
    delta_t = float(np.load(data_dir / "truth" / "delta_t.npy"))
    u, ahead, du, named, told = _training(data_dir, delta_t)
    looked_at = {named: (u, du), "truth/heldout_du.npy": (held_u, held_du)}
    transposed = saved * (saved != 0.0).T
    W, name = (transposed, "W o mask^T") if legacy_sparse_transpose else (saved, "the saved W")

    def answer(ok: bool, error: float, sentence: str) -> dict[str, Any]:
        return {"ok": ok, "relative_error": error, "sentence": sentence, "pairs": len(ahead)}

    errors = {file: relative_error(right, expected(at, W, rows)) for file, (at, right) in looked_at.items()}
    worst = max(errors, key=lambda k: _size(errors[k]))
    if not errors[worst] < TOLERANCE:
        at, right = looked_at[worst]
        other = saved if legacy_sparse_transpose else transposed
        sentence = _cause(worst, errors[worst], relative_error(right, expected(at, other, rows)), name)
        return answer(False, errors[worst], sentence)

    follow = {"train/u.npy": step_error(u[: len(ahead)], ahead, du[: len(ahead)], delta_t, noise_level)}
    for r, frames in enumerate(second):
        right = expected(frames[:-1], W, rows)
        follow[f"truth/rollout_u.npy[{r}]"] = step_error(frames[:-1], frames[1:], right, delta_t, 0.0)
    broken = max(follow, key=lambda k: _size(follow[k]))
    if not follow[broken] < EULER_TOLERANCE:
        sentence = f"frames of {broken} do not follow from du/dt (relative error {follow[broken]:.3g})"
        return answer(False, follow[broken], sentence)
    sentence = f"{named} equals the right-hand side of {name} (relative error {errors[worst]:.1e}){told}"
    return answer(True, errors[worst], sentence)


Pairs = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], str, str]


def _training(data_dir: Path, delta_t: float) -> Pairs:
    """Return frames, those after them, du/dt as training uses it, what that is called, and what was left out.

    The last training frame has none after it: where du is stored, there is one more frame and du than there are pairs.
    """
    frames, path = np.load(data_dir / "train" / "u.npy", mmap_mode="r"), data_dir / "train" / "du.npy"
    pairs = len(frames) - 1
    at = spread(pairs, affordable(frames.shape[1], BUDGET, PAIRS_MIN))
    told = "" if len(at) == pairs else f"; looked at {len(at)} of {pairs} pairs of consecutive frames, evenly spread"
    ahead = frames[at + 1]
    if not path.exists():
        du = (ahead - frames[at]) / np.float32(delta_t)
        return (*(x.astype(np.float64) for x in (frames[at], ahead, du)), "du/dt of train/u.npy", told)
    stored = np.load(path, mmap_mode="r")
    at = np.append(at, pairs)
    return (*(x.astype(np.float64) for x in (frames[at], ahead, stored[at])), "train/du.npy", told)


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


def step_error(
    u: NDArray[np.float64], ahead: NDArray[np.float64], du: NDArray[np.float64], delta_t: float, noise_level: float
) -> float:
    """Return how far the steps from frames `u` to `ahead` are from `du` (each T, N), relative to `du`, or to the noise.

    Without noise it is the relative error of (u[t+1] - u[t]) / delta_t. With noise it is what the standard deviation of
    u[t+1] - u[t] - delta_t du differs from `noise_level` beyond chance and the digits that float32 loses, relative to
    `noise_level`.
    """
    left = ahead - u - delta_t * du
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
