"""Which GPU a run gets: pure functions of the leased GPUs and the journal's state.

A run goes where the fewest runs of this exploration are, then where most memory is left. As soon as a run of the regime
has been measured, no more are put on a GPU than fit with the greatest peak so far. Before that the slots are filled,
spread evenly. The alternative, one run a GPU until the first peak is known, costs every regime of every night the time
of a run with all slots but one idle; filling costs something only where memory is short, and then little: a run that
does not fit ends within seconds to minutes and is tried once more.

That second try decides what the tree says of the idea, so it is made where nothing else can be the cause: alone, on a
GPU that has as much memory as any. Nothing new is put where it runs or waits to run, so it always gets its turn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from orchestrator.core.records import Record
from orchestrator.core.state import Iteration, State
from orchestrator.ports import Gpu

MARGIN = 1.1
"""The next config may need more than the ones before."""
CONTEXT_BYTES = 600 * 10**6
"""What CUDA itself takes for each process; no peak of a training contains it."""
ALIKE = 0.9
"""Part of the most memory of any GPU from which a GPU counts as having as much: equal cards differ by some MB."""


class Placed(Record):
    """A run in flight."""

    device: str
    alone: bool = False
    """It follows an attempt that ran out of memory: nothing is put beside it."""


def device_for(state: State, gpus: Sequence[Gpu], it: Iteration) -> str | None:
    """Return the device for the next attempt of an open iteration, or None: wait until a run in flight ends."""
    waiting = [w for w in state.open_iterations if not w.in_flight]
    found = place(gpus, in_flight(state), [after_out_of_memory(w) for w in waiting], peak_bytes(state, it))
    return next(device for w, device in zip(waiting, found, strict=True) if w is it)


def place(gpus: Sequence[Gpu], flying: Sequence[Placed], waiting: Sequence[bool], peak: int | None) -> list[str | None]:
    """Return a device for each waiting run, None for one that has to wait until a run in flight ends.

    The first runs that wait get a device whenever nothing is in flight. Without GPUs all get "", the CPU.

    Args:
        gpus: leased for this exploration.
        flying: its runs in flight; those on other devices do not count.
        waiting: for each run, oldest first, whether it follows an attempt that ran out of memory.
        peak: greatest memory in bytes of a run like these, None when none was measured.
    """
    if not gpus:
        return [""] * len(waiting)
    counts = {gpu.name: sum(run.device == gpu.name for run in flying) for gpu in gpus}
    closed = {run.device for run in flying if run.alone}
    found: list[str | None] = [None] * len(waiting)
    for number in sorted(range(len(waiting)), key=lambda n: not waiting[n]):  # the second tries first
        if waiting[number]:
            chosen = _for_second_try(gpus, counts, closed)
            if chosen is not None:
                closed.add(chosen)  # for the runs after it, whether it starts now or waits
        else:
            chosen = _emptiest(gpus, counts, closed, peak)
        if chosen is not None and not (waiting[number] and counts[chosen]):
            found[number] = chosen
            counts[chosen] += 1
    return found


def beside(state: State, device: str) -> int:
    """Return how many runs of this exploration are in flight on a device."""
    return sum(run.device == device for run in in_flight(state))


def in_flight(state: State) -> list[Placed]:
    """Return the runs in flight."""
    return [
        Placed(device=it.attempts[-1].device, alone=after_out_of_memory(it, before=len(it.attempts) - 1))
        for it in state.open_iterations
        if it.in_flight
    ]


def after_out_of_memory(it: Iteration, before: int | None = None) -> bool:
    """Return whether the last of an iteration's attempts (before that index) that was not lost ran out of memory."""
    ends = [a.ended for a in it.attempts[:before] if a.ended is not None and not a.ended.lost]
    return bool(ends) and ends[-1].outcome == "out_of_memory"


def peak_bytes(state: State, it: Iteration) -> int | None:
    """Return the greatest measured memory of the finished runs in an iteration's regime, None without any."""
    regime = state.regime_name(it.block)
    found = [
        done.final.memory_bytes
        for done in state.done
        if done.final and done.final.memory_bytes is not None and state.regime_name(done.block) == regime
    ]
    return max(found, default=None)


def _emptiest(gpus: Sequence[Gpu], counts: dict[str, int], closed: set[str], peak: int | None) -> str | None:
    """Return the GPU for a run that may have others beside it, or None."""
    need = 0.0 if peak is None else peak * MARGIN + CONTEXT_BYTES
    usable = [g for g in gpus if g.name not in closed and (counts[g.name] + 1) * need <= _room(g)]
    if not usable and not any(counts.values()) and not closed:
        return max(gpus, key=_room).name  # it does not fit anywhere as far as is known: that has to be seen
    return min(usable, key=lambda g: (counts[g.name], counts[g.name] * need - _room(g))).name if usable else None


def _for_second_try(gpus: Sequence[Gpu], counts: dict[str, int], closed: set[str]) -> str | None:
    """Return the GPU to be alone on, now if it is empty, or None when all are promised to other second tries."""
    most = max(_room(g) for g in gpus)
    usable = [g for g in gpus if g.name not in closed and (_room(g) >= ALIKE * most)]
    return min(usable, key=lambda g: (counts[g.name], -_room(g))).name if usable else None


def _room(gpu: Gpu) -> float:
    return math.inf if gpu.room_bytes is None else float(gpu.room_bytes)
