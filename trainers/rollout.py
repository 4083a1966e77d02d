"""Forward Euler rollouts of a right-hand side. Axis letters: R rollouts, F frames, N neurons."""

from __future__ import annotations

from collections.abc import Callable

import torch


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
