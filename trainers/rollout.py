"""Integration of a learned right-hand side. Axis letters: B batch, R rollouts, F frames, N neurons."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from trainers.errors import DivergedError

FIXED_STEP = ("euler", "midpoint", "heun3", "rk4")
"""Values of `training.ode_method` that take one solver step a frame, whatever the tolerances."""


@torch.no_grad()
def euler_rollout(
    rhs: Callable[[torch.Tensor], torch.Tensor], u0: torch.Tensor, n_frames: int, delta_t: float
) -> torch.Tensor:
    """Return `n_frames` frames from `u0` on, the first of which is `u0` itself.

    A rollout that explodes returns infinities and NaNs from there on: the scorer says so.

    Args:
        rhs: du/dt of states (R, N).
        u0: initial states (R, N).
        n_frames: F.
        delta_t: step, time.

    Shapes:
        -> (R, F, N).
    """
    u, frames = u0, [u0]
    for _ in range(n_frames - 1):
        u = u + delta_t * rhs(u)
        frames.append(u)
    return torch.stack(frames, dim=1)


class OdeSolver(NamedTuple):
    """How the neural ODE is solved."""

    method: str
    """`dopri5` (adaptive), or a name in `FIXED_STEP`."""
    rtol: float
    """Relative tolerance of the adaptive solver, dimensionless."""
    atol: float
    """Absolute tolerance of the adaptive solver, unit of u."""
    adjoint: bool
    """Gradient by the adjoint ODE, solved backwards: memory does not grow with the solver steps."""
    clamp: float
    """The right-hand side sees u within this many units of 0, so that a state can grow only linearly."""


def ode_state(model: nn.Module, u: torch.Tensor, n_frames: int, delta_t: float, solver: OdeSolver) -> torch.Tensor:
    """Return the state `n_frames` frames after `u`, (B, N) -> (B, N), with gradient.

    Time is counted in frames, so that one fixed step is one frame exactly: `euler` gives the bits of n_frames Euler
    steps of delta_t. The data are Euler steps themselves; a better solver disagrees with them by a few per cent.

    Args:
        model: right-hand side du/dt of states (B, N).
        u: first states.
        n_frames: frames between u and the result.
        delta_t: time between frames.
        solver: see there.

    Raises:
        DivergedError: the adaptive solver found no step small enough.

    Source: Chen et al. 2018 (arXiv 1806.07366); seed document 004, step 5.1. Deviation from the recorded code: the
    state that is integrated is the one that the model reads (reference section 5.4).
    """
    from torchdiffeq import odeint, odeint_adjoint  # imports scipy: only a run that needs it pays

    def right_hand_side(_: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        return delta_t * model(state.clamp(-solver.clamp, solver.clamp))

    options = {"step_size": 1.0} if solver.method in FIXED_STEP else {}
    settings = {"rtol": solver.rtol, "atol": solver.atol, "method": solver.method, "options": options}
    times = torch.tensor([0.0, float(n_frames)], device=u.device)
    try:
        if solver.adjoint:
            states = odeint_adjoint(right_hand_side, u, times, adjoint_params=tuple(model.parameters()), **settings)
        else:
            states = odeint(right_hand_side, u, times, **settings)
    except AssertionError as error:
        raise DivergedError(
            f"{solver.method} found no step over {n_frames} frames ({error}); lower the learning rates or "
            "ode_state_clamp, or take a fixed-step ode_method"
        ) from error
    return states[-1]
