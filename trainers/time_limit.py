"""A training's own time limit: refused at once where it cannot be kept, and kept where it can."""

from __future__ import annotations

import math

import torch

from trainers.errors import RefusedError
from trainers.run import Run

WARM_UP, TIMED = 10, 30
"""Steps before the first one that is timed, and steps that are."""
MARGIN = 1.25
"""Times the limit up to which a prediction from so few steps refuses nothing."""


class TimeLimit:
    """Minutes that a training may take."""

    def __init__(self, minutes: float, run: Run, first: int, total: int) -> None:
        """Take the limit of a training that starts at step `first` of `total`."""
        self.limit_s, self.run, self.first, self.total = 60.0 * minutes, run, first, total
        self._since = 0.0

    def over(self, step: int) -> bool:
        """Return whether the time is over; called before each step.

        Raises:
            RefusedError: the first steps show that all of them take longer. A training that continues is not refused.
        """
        if step in (WARM_UP, WARM_UP + TIMED) and torch.cuda.is_available():
            torch.cuda.synchronize()  # steps are launched ahead of their work
        now = self.run.elapsed_s
        if self.first == 0 and step == WARM_UP:
            self._since = now
        if self.first == 0 and step == WARM_UP + TIMED:
            self._predict((now - self._since) / TIMED, now, step)
        if now <= self.limit_s or step == self.first:  # one step at least
            return False
        print(f"stopped after step {step} of {self.total}: {self.limit_s / 60:g} minutes are over", flush=True)
        return True

    def _predict(self, a_step: float, now: float, step: int) -> None:
        expected = now + (self.total - step) * a_step
        print(f"{self.total} steps are expected to take {expected / 60:.2f} min", flush=True)
        if expected > MARGIN * self.limit_s:
            fits = rounded_down(step + (self.limit_s - now) / a_step + 1e-6)
            told = f"the largest inr.inr_total_steps that fits is {fits}" if fits else "no number of steps fits"
            a_step_ms = f"{1000 * a_step:.3g} ms a step, measured"
            raise RefusedError(
                f"{self.total} gradient steps are expected to take {_shown(expected / 60)} min ({a_step_ms}), over the "
                f"limit of {self.limit_s / 60:g} (training.max_minutes); {told}"
            )


def rounded_down(steps: float) -> int:
    """Return a number of steps cut to two digits; 0 below 1."""
    if steps < 1:
        return 0
    unit = 10 ** max(0, int(math.log10(steps)) - 1)
    return int(steps // unit * unit)


def _shown(minutes: float) -> str:
    return f"{minutes:.0f}" if minutes >= 100 else f"{minutes:.3g}"
