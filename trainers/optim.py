"""Schedules of learning rates, as fractions of the first rate over the whole training."""

from __future__ import annotations

import math


def rate_factor(progress: float, kind: str, final: float, drops: int) -> float:
    """Return the fraction of the first learning rate that is used.

    Args:
        progress: gradient steps taken over those of the whole training, 0 to 1. Epochs play no part: a run of two
            epochs has a schedule too.
        kind: `none` (always 1), `cosine` (half a cosine from 1 to `final`), or `step` (equal factors between stretches
            of equal length, the last of which has `final`).
        final: fraction that is reached.
        drops: `step`: how often the rate falls.
    """
    if kind == "cosine":
        return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * progress))
    if kind == "step":
        return float(final ** (min(drops, int(progress * (drops + 1))) / drops))
    return 1.0
