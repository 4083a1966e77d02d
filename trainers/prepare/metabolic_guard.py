"""Data guard of metabolic regimes: stored dc/dt is the right-hand side of the *saved* truth, and frames follow from it.

Written without the simulator's code, reaction by reaction from the equation. What it does not stop: a wrong equation
that the parameters on disk describe faithfully, and data too poor to identify k (the ceiling tells that).

Axis letters: T frames, M metabolites, R reactions, E edges.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rates = Callable[[Array, dict[str, Any]], Array]
"""Rates (T, R) of concentrations (T, M) by the truth on disk."""
TOLERANCE, EULER_TOLERANCE = 1e-4, 1e-2


def guard(folder: Path, delta_t: float, pulse_every: int = 0, circadian: tuple[float, float] = (0.0, 1.0),
          shuffled: bool = False, rates: Rates | None = None, frames_max: int = 1000000) -> dict[str, Any]:  # fmt: skip
    """Return {ok, relative_error, sentence} for the files of a regime.

    Args:
        folder: of the regime.
        delta_t: of the Euler steps.
        pulse_every: frames between pulses; the step into such a frame is not compared.
        circadian: amplitude and period of the baselines' modulation.
        shuffled: the training dc/dt is declared to be in random order, and only the others are compared.
        rates: of the reactions; None: mass action.
        frames_max: frames of all runs together at which the right-hand side is evaluated, evenly spread.
    """
    truth = {p.stem: np.load(p) for p in (folder / "truth").glob("*.npy")}
    c, dc = (np.load(folder / "train" / f"{name}.npy").astype(np.float64) for name in ("c", "dc"))
    held = np.load(folder / "inputs" / "heldout_c.npy").astype(np.float64)
    times, second = np.arange(c.shape[1]) * delta_t, truth["rollout_c"][0]

    def right(c: Array, time: Array) -> Array:
        return expected(c, time, truth, circadian, rates or mass_action)

    looked = {"truth/heldout_dc.npy": _error(truth["heldout_dc"], right(held, truth["heldout_time"]))}
    follow = {"truth/rollout_c.npy": _steps(second, right(second, np.arange(len(second)) * delta_t), delta_t, 0)}
    per_run = min(c.shape[1], max(2, frames_max // len(c)))
    rows = np.unique(np.linspace(0, c.shape[1] - 1, per_run).astype(int))
    if not shuffled:
        for r in range(len(c)):
            looked[f"train/dc.npy run {r}"] = _error(dc[r, rows], right(c[r, rows], times[rows]))
            follow[f"train/c.npy run {r}"] = _steps(c[r], dc[r], delta_t, pulse_every)
    worst, broken = (max(d, key=lambda k: d[k] if np.isfinite(d[k]) else np.inf) for d in (looked, follow))
    if not looked[worst] < TOLERANCE:
        return {"ok": False, "relative_error": looked[worst], "sentence": f"{worst} has a relative error of "
                f"{looked[worst]:.3g} against the right-hand side of the saved network (at most {TOLERANCE:g}): the "
                "data were not made by it; correct the simulator and prepare again"}  # fmt: skip
    if not follow[broken] < EULER_TOLERANCE:
        return {"ok": False, "relative_error": follow[broken], "sentence":
                f"frames of {broken} do not follow from dc/dt (relative error {follow[broken]:.3g})"}  # fmt: skip
    what = "held-out dc/dt (the training's is shuffled, as declared)" if shuffled else "dc/dt"
    some = f", looked at in {per_run} of {c.shape[1]} frames of a run" if per_run < c.shape[1] else ""
    told = f"{what} equals the right-hand side of the saved network (relative error {looked[worst]:.1e}{some})"
    return {"ok": True, "relative_error": looked[worst], "sentence": told}


def expected(c: Array, time: Array, truth: dict[str, Any], circadian: tuple[float, float], rates: Rates) -> Array:
    """Return dc/dt (T, M) of concentrations (T, M) at times (T,)."""
    dc = np.empty_like(c)
    wave = 1.0 + circadian[0] * np.sin(2 * np.pi * time / circadian[1])
    for i, t in enumerate(truth["types"]):
        dc[:, i] = truth["decay"][t] * (truth["baseline"][t] * wave - c[:, i])
    for j, v in enumerate(rates(c, truth).T):
        for i in np.flatnonzero(truth["S"][:, j]):
            dc[:, i] += truth["S"][i, j] * v
    return dc


def mass_action(c: Array, truth: dict[str, Any]) -> Array:
    """Return k prod c^order (T, R), 0 for a reaction without substrates."""
    v = np.zeros((len(c), len(truth["log_k"])))
    for j, log_k in enumerate(truth["log_k"]):
        edges = np.flatnonzero(truth["rxn_sub"] == j)
        if len(edges) == 0:
            continue
        v[:, j] = 10.0**log_k
        for e in edges:
            v[:, j] = v[:, j] * c[:, truth["met_sub"][e]] ** truth["order"][e]
    return v


def rates_of_functions(functions: dict[str, Array], flux_limit: bool, delta_t: float) -> Rates:
    """Return the rates k softplus(rate_func(sum substrate_func([c, order]))), limited where `flux_limit` says so.

    Args:
        functions: weights and biases of truth/functions.npz, `substrate_0_weight`, `substrate_0_bias`, ...
        flux_limit: a reaction takes the smallest, over its substrates, of c / (what all reactions take in a step).
        delta_t: of that step.
    """

    def network(name: str, x: Array) -> Array:
        depth = sum(key.startswith(name) for key in functions) // 2
        for layer in range(depth):
            x = x @ functions[f"{name}_{layer}_weight"] + functions[f"{name}_{layer}_bias"]
            x = np.tanh(x) if layer < depth - 1 else x
        return x

    def rates(c: Array, truth: dict[str, Any]) -> Array:
        v = np.empty((len(c), len(truth["log_k"])))
        sub = list(zip(truth["met_sub"], truth["rxn_sub"], truth["order"], strict=True))
        for j, log_k in enumerate(truth["log_k"]):
            sent = [network("substrate", np.column_stack([c[:, m], np.full(len(c), s)])) for m, r, s in sub if r == j]
            v[:, j] = 10.0**log_k * np.log1p(np.exp(network("rate", np.sum(sent, axis=0))[:, 0]))
        if not flux_limit:
            return v
        share = np.ones_like(v)
        taken = np.zeros_like(c)
        for m, r, s in sub:
            taken[:, m] += s * v[:, r] * delta_t
        for m, r, _ in sub:
            enough = taken[:, m] <= c[:, m]
            share[:, r] = np.where(
                enough, share[:, r], np.minimum(share[:, r], c[:, m] / np.where(enough, 1.0, taken[:, m]))
            )
        return v * share

    return rates


def _error(found: Array, right: Array) -> float:
    return float(np.linalg.norm(found - right) / np.linalg.norm(right))


def _steps(c: Array, dc: Array, delta_t: float, pulse_every: int) -> float:
    """Return how far c[t+1] is from max(0, c[t] + delta_t dc[t]), relative to the steps."""
    ahead = np.maximum(c[:-1] + delta_t * dc[:-1], 0.0)
    kept = np.ones(len(ahead), bool)
    if pulse_every:
        kept[pulse_every - 1 :: pulse_every] = False
    return float(np.linalg.norm((c[1:] - ahead)[kept]) / np.linalg.norm(delta_t * dc[:-1][kept]))
