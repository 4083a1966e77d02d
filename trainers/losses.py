"""Loss terms of the training loops. Axis letters: B batch, N neurons.

Two conventions, `training.loss`:

* `norm` (recorded): 2-norms, not squared and not averaged, as the seeds' coefficients were chosen for. The size of the
  gradient does not shrink with the residual.
* `mse`: means of squares.
"""

from __future__ import annotations

import math

import torch

from models.utils import decrease


def prediction_loss(residual: torch.Tensor, kind: str) -> torch.Tensor:
    """Return the prediction loss of a step.

    Args:
        residual: predicted minus true du/dt (B, N), u per unit of time.
        kind: `norm` (2-norm over all B * N numbers) or `mse` (their mean square).

    Source: reference sections 3.3.3 and 16.2.
    """
    if kind == "mse":
        return residual.square().mean()
    return torch.linalg.vector_norm(residual)


def root_mean_square(loss: float, kind: str, count: int) -> float:
    """Return the root mean square error a neuron and frame behind a prediction loss over `count` numbers."""
    return math.sqrt(loss) if kind == "mse" else loss / math.sqrt(count)


def edge_diff(low: torch.Tensor, high: torch.Tensor, kind: str) -> torch.Tensor:
    """Return how much lin_edge falls with u: 0 for a rising function.

    Args:
        low: lin_edge at the activities of the step (B, N).
        high: lin_edge at the same activities + delta (B, N).
        kind: `norm` adds one 2-norm over neurons for each frame of the step, so the sum grows with the batch size (the
            recorded form); `mse` is the mean of squares.

    Source: reference section 16.2 (c_ed without its coefficient).
    """
    fall = decrease(low, high)
    if kind == "mse":
        return fall.square().mean()
    return torch.linalg.vector_norm(fall, dim=-1).sum()


def small_entries(W: torch.Tensor, threshold: float) -> torch.Tensor:
    """Return the sum of min(|W_ij|, threshold): pulls entries below the threshold to zero and leaves larger ones alone.

    Exact zeros cost nothing; an entry above the threshold costs `threshold` and has no gradient.

    Source: capped L1, Zhang 2010 (Journal of Machine Learning Research 11).
    """
    return W.abs().clamp(max=threshold).sum()


def group_lasso(W: torch.Tensor) -> torch.Tensor:
    """Return the sum over senders j of the 2-norm of column j: pulls whole columns, all that a neuron sends, to zero.

    Source: Yuan and Lin 2006 (Journal of the Royal Statistical Society B 68), without the factor for the group size,
    which is the same for every column.
    """
    return torch.linalg.vector_norm(W, dim=0).sum()


@torch.no_grad()
def soft_threshold_(W: torch.Tensor, threshold: float) -> None:
    """Move every entry of W towards 0 by `threshold`, in place; an entry that would cross 0 becomes exactly 0.

    This is the proximal step of threshold * sum |W_ij|.
    """
    W.sub_(W.clamp(-threshold, threshold))
