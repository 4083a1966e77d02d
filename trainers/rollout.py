"""Integration of a learned right-hand side. Axis letters: B batch, R rollouts, F frames, N neurons."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from trainers.errors import DivergedError

Rate = Callable[..., torch.Tensor]
"""du/dt of states (B, N) under a connectivity (N, N): `rate(u, W)`; `rate(u, W, sent)` where lin_edge is known."""

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


def euler_concentrations(
    rhs: Callable[[torch.Tensor], torch.Tensor], c0: torch.Tensor, n_frames: int, delta_t: float
) -> torch.Tensor:
    """Return frames as `euler_rollout` does, of concentrations, which stay at or above 0."""
    c, frames = c0, [c0]
    for _ in range(n_frames - 1):
        c = (c + delta_t * rhs(c)).clamp(min=0.0)
        frames.append(c)
    return torch.stack(frames, dim=1)


def rollout_depth(training: Any, step: int, first: float, total: int) -> int:
    """Return how many frames the rollout of a gradient step has; 0: none, du/dt of single frames is predicted.

    With `recurrent_curriculum` it is 1, 2, 4, ... and last `time_step`, each for an equal stretch of the gradient steps
    from `first` to `total`. It follows from the step alone, so a continued training has the same.

    Args:
        training: section `training`.
        step: gradient steps taken so far.
        first: gradient step from which on there are rollouts, `inf` for never.
        total: gradient steps of the whole training.
    """
    if step < first:
        return 0
    deepest: int = training.time_step
    if not training.recurrent_curriculum:
        return deepest
    depths = [*(2**k for k in range((deepest - 1).bit_length())), deepest]
    return depths[int(step - first) * len(depths) // int(total - first)]


def checkpointed(rate: Rate) -> Rate:
    """Return the same function, of which the backward pass keeps only the arguments and evaluates it once more.

    Memory of a rollout then grows by one state (B, N) a frame in place of every activation of both MLPs, and a step
    takes one more evaluation. The gradients are the same to the bit on a CPU.

    Source: Chen et al. 2016 (arXiv 1604.06174), one segment a frame.
    """

    def lean(u: torch.Tensor, W: torch.Tensor, sent: torch.Tensor | None = None) -> torch.Tensor:
        kept: torch.Tensor = checkpoint(rate, u, W, sent, use_reentrant=False, preserve_rng_state=False)
        return kept

    return lean


@dataclass
class OdeSolver:
    """How the neural ODE is solved, and how much work that was."""

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
    evaluations: int = field(default=0, init=False)
    """Evaluations of the right-hand side since the last `taken`; those of the adjoint's backward pass are in it."""

    def taken(self) -> int:
        """Return the evaluations since this was last asked, and begin to count anew."""
        taken, self.evaluations = self.evaluations, 0
        return taken

    def states(
        self,
        rate: Rate,
        u: torch.Tensor,
        W: torch.Tensor,
        ahead: Sequence[int],
        delta_t: float,
        learned: Iterable[torch.Tensor],
    ) -> dict[int, torch.Tensor]:
        """Return the states (B, N) that many frames after `u` (B, N), by frames ahead, with gradient.

        Time is counted in frames, so that one fixed step is one frame exactly: `euler` gives the bits of Euler steps
        of delta_t. The data are Euler steps themselves; a better solver disagrees with them by a few per cent.

        Args:
            rate: right-hand side du/dt.
            u: first states.
            W: connectivity that acts (N, N).
            ahead: frames between u and each result, rising.
            delta_t: time between frames.
            learned: what else `rate` learns; the adjoint returns gradients to W and to these alone.

        Raises:
            DivergedError: the adaptive solver found no step small enough.

        Source: Chen et al. 2018 (arXiv 1806.07366); seed document 004, step 5.1. Deviation from the recorded code: the
        state that is integrated is the one that the model reads (reference section 5.4).
        """
        from torchdiffeq import odeint, odeint_adjoint  # imports scipy: only a run that needs it pays

        def right_hand_side(_: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
            self.evaluations += 1
            return delta_t * rate(state.clamp(-self.clamp, self.clamp), W)

        options = {"step_size": 1.0} if self.method in FIXED_STEP else {}
        settings = {"rtol": self.rtol, "atol": self.atol, "method": self.method, "options": options}
        times = torch.tensor([0.0, *map(float, ahead)], device=u.device)
        try:
            if self.adjoint:
                found = odeint_adjoint(right_hand_side, u, times, adjoint_params=(W, *learned), **settings)
            else:
                found = odeint(right_hand_side, u, times, **settings)
        except AssertionError as error:
            raise DivergedError(
                f"{self.method} found no step over {ahead[-1]} frames ({error}); lower the learning rates or "
                "ode_state_clamp, or take a fixed-step ode_method"
            ) from error
        return dict(zip(ahead, found[1:], strict=True))


def ode_solver(training: Any, sd: float) -> OdeSolver:
    """Return the solver that a config names.

    Args:
        training: section `training`.
        sd: standard deviation of u, the unit of `ode_state_clamp`.
    """
    clamp = training.ode_state_clamp * sd
    return OdeSolver(training.ode_method, training.ode_rtol, training.ode_atol, training.ode_adjoint, clamp)
