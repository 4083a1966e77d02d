"""Loss terms of the training loops. Axis letters: B batch, N neurons.

Two conventions, `training.loss`:

* `norm` (recorded): 2-norms, not squared and not averaged, as the seeds' coefficients were chosen for. The size of the
  gradient does not shrink with the residual.
* `mse`: means of squares.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch

from models.utils import decrease


class Coefficients(NamedTuple):
    """Coefficients of the penalties in one phase."""

    L1: float
    small: float
    group_lasso: float
    proximal: float
    edge_diff: float


def coefficients(training: Any, graph_model: Any, first_phase: bool) -> Coefficients:
    """Return the coefficients that act in phase 1 or in phase 2.

    Phase 1, before epoch `n_epochs_init`: `first_coeff_L1` and `coeff_edge_diff`. Phase 2, from then on: `coeff_W_L1`,
    `coeff_edge_diff_phase2` (0 in the recorded behaviour), and the other penalties on W. What cannot act is 0:
    edge_diff on a fixed lin_edge, which rises everywhere, and the proximal step on a product of factors.

    Source: reference section 3.3.4.
    """
    fixed = graph_model.lin_edge_mode == "tanh"
    if first_phase:
        return Coefficients(training.first_coeff_L1, 0.0, 0.0, 0.0, 0.0 if fixed else training.coeff_edge_diff)
    return Coefficients(
        L1=training.coeff_W_L1,
        small=training.coeff_W_small,
        group_lasso=training.coeff_W_group_lasso,
        proximal=0.0 if graph_model.W_rank > 0 else training.coeff_W_proximal,
        edge_diff=0.0 if fixed else training.coeff_edge_diff_phase2,
    )


def residual_unit(training: Any, data: Any) -> float:
    """Return what residuals are divided by: 1, or with `normalise_du` the standard deviation of the training du/dt."""
    return float(data.du.std()) if training.normalise_du else 1.0


def prediction_loss(residual: torch.Tensor, kind: str) -> torch.Tensor:
    """Return the prediction loss of a step.

    Args:
        residual: predicted minus true du/dt (B, N), u per unit of time, or without unit after `residual_unit`.
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
