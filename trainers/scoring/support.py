"""Which learned couplings stand out from zero, told from the learned values alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
POINTS_MAX = 4096
"""Sizes that are looked at: evenly spread over the ordered ones."""
STARTS = (0.02, 0.1, 0.4, 1.0)
"""Widths of the narrow population that the fit starts from, in medians of |x|."""
STEPS = 200
WIDER = 2.0
"""The wide population is at least this much wider than the narrow one."""
FLOOR = 1e-9
"""Smallest width, in the largest |x|: exact zeros are a population too."""


def threshold(couplings: Array) -> float | None:
    """Return the size above which a coupling counts as non-zero, or None when all look like one population.

    The sizes are described by two zero-centred normal distributions, a narrow one (couplings that are zero, with the
    error of learning) and a wide one, fitted by expectation-maximisation; the threshold is where an entry is as likely
    to be of either. None when one normal distribution describes them as well (BIC), or all are zero. The truth is not
    looked at, nor is the filling factor given.

    Cost: O(POINTS_MAX), whatever the number of couplings.
    """
    x = np.sort(np.abs(np.asarray(couplings, dtype=np.float64).ravel()))
    if len(x) > POINTS_MAX:
        x = x[np.linspace(0, len(x) - 1, POINTS_MAX).astype(int)]
    if len(x) < 3 or x[-1] <= 0.0:
        return None
    x = x / x[-1]
    single = float(np.sum(_log_normal(x, float(np.sqrt(np.mean(x**2))))))
    likelihood, narrow, wide = max((_fit(x, start * float(np.median(x[x > 0]))) for start in STARTS), key=_first)
    if likelihood - single <= np.log(len(x)):  # BIC of two more numbers
        return None
    below = x[wide <= narrow]
    return float(below[-1] * np.abs(couplings).max()) if len(below) else 0.0


def _fit(x: Array, start: float) -> tuple[float, Array, Array]:
    """Return log-likelihood and both weighted log densities at `x` (ordered, largest 1)."""
    s, part = max(start, FLOOR), 0.5
    w = max(WIDER * s, float(np.median(x[x > 0])))
    for _ in range(STEPS):
        narrow, wide = np.log(1 - part) + _log_normal(x, s), np.log(part) + _log_normal(x, w)
        both = np.logaddexp(narrow, wide)
        of_wide = np.exp(wide - both)
        part = float(np.clip(of_wide.mean(), 1e-6, 1 - 1e-6))
        s = max(FLOOR, float(np.sqrt((1 - of_wide) @ x**2 / max(1e-300, float(np.sum(1 - of_wide))))))
        w = max(WIDER * s, float(np.sqrt(of_wide @ x**2 / max(1e-300, float(of_wide.sum())))))
    return float(both.sum()), narrow, wide


def _first(fit: tuple[float, Array, Array]) -> float:
    return fit[0]


def _log_normal(x: Array, sd: float) -> Array:
    """Return the log density of |x| for x of a normal distribution around 0."""
    return np.asarray(0.5 * np.log(2 / np.pi) - np.log(sd) - 0.5 * (x / sd) ** 2)


def precision_recall(chosen: NDArray[np.bool_], real: NDArray[np.bool_]) -> tuple[float, float]:
    """Return precision and recall of a choice; precision is 0 when nothing is chosen."""
    right = float(np.sum(chosen & real))
    return right / max(1.0, float(chosen.sum())), right / float(real.sum())
