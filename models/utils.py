"""Regularisers, masks and sampling shared by the training loops. Axis letters: B batch, N neurons."""

from __future__ import annotations

import torch


def off_diagonal(n: int) -> torch.Tensor:
    """Return ones (n, n) with a zero diagonal."""
    return 1.0 - torch.eye(n)


def sample_frames(n_frames: int, batch_size: int, generator: torch.Generator) -> torch.Tensor:
    """Return `batch_size` frame numbers below `n_frames`, drawn with replacement (B,)."""
    return torch.randint(0, n_frames, (batch_size,), generator=generator)


def decrease(low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Return how far a function falls between two neighbouring points, 0 where it rises.

    Args:
        low: values at the smaller argument (B, N).
        high: values at the larger argument (B, N).
    """
    return torch.relu(low - high)
