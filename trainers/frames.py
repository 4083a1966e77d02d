"""Which frames a step of a metabolic training looks at. Axis letters: B batch."""

from __future__ import annotations

import torch

from models.utils import sample_frames

LOG_OFFSET = 10.0
"""Frames that are added to the time in log(time + offset): the first frames are drawn about alike."""


def log_frames(u: torch.Tensor, n_frames: int) -> torch.Tensor:
    """Return frame numbers below `n_frames` that are uniform in log(frame + LOG_OFFSET) for `u` uniform in [0, 1)."""
    reach = (n_frames + LOG_OFFSET) / LOG_OFFSET
    return (LOG_OFFSET * reach**u - LOG_OFFSET).long().clamp(0, n_frames - 1)


def draw_frames(n_frames: int, batch_size: int, kind: str, period: int, generator: torch.Generator) -> torch.Tensor:
    """Return `batch_size` frame numbers below `n_frames`, drawn with replacement (B,).

    Args:
        n_frames: frames of a run.
        batch_size: B.
        kind: `uniform` or `log_time`.
        period: frames after which the time of `log_time` starts again; 0: never.
        generator: source of randomness.
    """
    if kind == "uniform":
        return sample_frames(n_frames, batch_size, generator)
    u = torch.rand(batch_size, generator=generator)
    if not 0 < period < n_frames:
        return log_frames(u, n_frames)
    since = log_frames(u, period)
    starts = period * sample_frames(-(-n_frames // period), batch_size, generator)
    return (starts + since).clamp(max=n_frames - 1)


def typical_frames(n_frames: int, kind: str, period: int, count: int = 1000) -> torch.Tensor:
    """Return frames of which each stands for an equal share of what `draw_frames` draws; all frames where alike."""
    if kind == "uniform":
        return torch.arange(n_frames)
    return draw_frames(n_frames, count, kind, period, torch.Generator().manual_seed(0))
