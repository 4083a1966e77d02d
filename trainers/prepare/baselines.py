"""What a metric gives for the truth, for nothing, for the best possible, and for tricks that recover nothing.

All four go through `trainers.scoring.metrics.score_estimate`, the code that scores a run. Axis letters: T frames,
N neurons, K held-out frames, R rollouts, F rollout frames.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trainers.data import SignalInputs
from trainers.prepare.activity import affordable, spread
from trainers.prepare.simulator import System, integrate
from trainers.rollout import euler_rollout
from trainers.scoring.metrics import Truth, score_estimate
from trainers.settings import SignalConfig
from trainers.signal import estimates, new_model, predictions

Metrics = dict[str, float | None]
NULL_SEED = 0
"""The untrained model is always the same one."""
FRAMES_MAX, BUDGET = 20000, 1e10
"""Frames used by least squares; more change nothing. From N = 708 on fewer, so that frames times N^2 is `BUDGET`."""
FRAMES_PER_NEURON = 2
"""Frames that are used at least, whatever they cost: W has N unknowns a neuron."""
NULL_ROWS = 100_000
"""Neurons times frames that the untrained model is asked for at once: its hidden layers take 64 numbers a row."""


def chosen_frames(n_frames: int, n_neurons: int) -> NDArray[np.int64]:
    """Return the training frames that least squares looks at: all, or `FRAMES_MAX` or `BUDGET` spread evenly."""
    return spread(n_frames, min(FRAMES_MAX, affordable(n_neurons, BUDGET, FRAMES_PER_NEURON * n_neurons)))


def oracle(system: System, inputs: SignalInputs, truth: Truth) -> dict[str, float | None]:
    """Return the metrics of the true parameters: 1, or something is wrong with the metric or the data."""
    u0 = inputs.rollout_u0.numpy().astype(np.float64)
    frames = np.stack([integrate(system, start, inputs.rollout_frames - 1, inputs.delta_t) for start in u0])
    grid = np.repeat(inputs.grid_u.numpy().astype(np.float64)[:, None], len(system.W), axis=1)
    estimate = {
        "W": system.coupling(),
        "a": system.embedding(),
        "lin_edge": system.sent(grid).T,
        "lin_phi": system.self_term(grid).T,
        "heldout_du": system.rhs(inputs.heldout_u.numpy().astype(np.float64)),
        "rollout_u": frames,
    }
    return score_estimate(estimate, truth)


def null(config: SignalConfig, inputs: SignalInputs, truth: Truth) -> dict[str, float | None]:
    """Return the metrics of an untrained model: about 0 for everything that must be learned."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(NULL_SEED)
        model = new_model(config.simulation.n_neurons, config.graph_model, single_type=True)
    arrays = estimates(model, inputs) | predictions(model, inputs._replace(heldout_u=inputs.heldout_u[:1]))
    with torch.no_grad():
        some = max(1, NULL_ROWS // config.simulation.n_neurons)
        arrays["heldout_du"] = torch.cat([model(frames) for frames in inputs.heldout_u.split(some)])
    return score_estimate({k: v.detach().numpy().astype(np.float64) for k, v in arrays.items()}, truth)


def ceiling(
    system: System, u: NDArray[Any], du: NDArray[Any], inputs: SignalInputs, truth: Truth
) -> tuple[dict[str, float | None], float]:
    """Return the metrics of W found by least squares with everything else known, and the condition number.

    The other metrics are those of the true system rolled out in float32, what a perfect model could reach.

    Args:
        system: the truth.
        u: training frames (T, N), those of `chosen_frames`.
        du: their du/dt (T, N).
        inputs: held-out inputs.
        truth: what is scored against.

    Cost: O(T N^2).
    """
    u, du = u.astype(np.float64), du.astype(np.float64)
    sent = system.sent(u)
    coupling, _, _, singular = np.linalg.lstsq(sent, du - system.self_term(u), rcond=None)
    grid = np.repeat(inputs.grid_u.numpy().astype(np.float64)[:, None], len(system.W), axis=1)
    single = torch.from_numpy(system.coupling().astype(np.float32))

    def rhs(state: torch.Tensor) -> torch.Tensor:
        known = system.self_term(state.numpy()).astype(np.float32)
        sent_now = torch.from_numpy(system.sent(state.numpy()).astype(np.float32))
        return torch.from_numpy(known) + sent_now @ single.T

    estimate = {
        "W": coupling.T,
        "a": system.embedding(),
        "lin_edge": system.sent(grid).T,
        "lin_phi": system.self_term(grid).T,
        "heldout_du": rhs(inputs.heldout_u).numpy().astype(np.float64),
        "rollout_u": euler_rollout(rhs, inputs.rollout_u0, inputs.rollout_frames, inputs.delta_t).numpy(),
    }
    condition = float(singular[0] / singular[-1]) if singular[-1] > 0 else float("inf")
    return score_estimate(estimate, truth), condition


def tricks(u: NDArray[Any], du: NDArray[Any], inputs: SignalInputs, truth: Truth) -> dict[str, float | None]:
    """Return the metrics of a linear fit du = A u + c and of a rollout that stands still: they recover no function.

    Args:
        u: training frames (T, N), those of `chosen_frames`.
        du: their du/dt (T, N).
        inputs: held-out inputs.
        truth: what is scored against.
    """
    u, du = u.astype(np.float64), du.astype(np.float64)
    design = np.hstack([u, np.ones((len(u), 1))])
    fit = np.linalg.lstsq(design, du, rcond=None)[0]
    held = inputs.heldout_u.numpy().astype(np.float64)
    A = fit[:-1].T.copy()
    np.fill_diagonal(A, 0.0)
    grid = np.repeat(inputs.grid_u.numpy().astype(np.float64)[None, :], len(A), axis=0)
    estimate = {
        "W": A,
        "lin_edge": grid,
        "lin_phi": np.zeros_like(grid),
        "heldout_du": np.hstack([held, np.ones((len(held), 1))]) @ fit,
        "rollout_u": np.repeat(inputs.rollout_u0.numpy().astype(np.float64)[:, None], inputs.rollout_frames, axis=1),
    }
    return score_estimate(estimate, truth)
