"""Gradient steps per second of the dense path beside message passing over edges: `python -m trainers.bench`.

Both paths have the same parameters, data, loss and optimizer, and are timed in turns in one process, so that a change
of the machine's load meets both. One thread unless told otherwise. The table gives medians and the range of single
steps; it says which batch size each row has (at n = 1000 the edge path needs gigabytes a frame, so both take one).
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import torch

from models.signal import SignalPropagation
from models.signal_message_passing import SignalMessagePassing, complete_graph
from trainers.losses import prediction_loss

SIZES = ((100, 8, 20), (200, 8, 8), (1000, 1, 5))
"""(neurons, batch size, steps that are timed on the edge path)."""
DENSE_PER_EDGE_STEP = 5
"""Dense steps timed for each step of the edge path."""
HIDDEN, LAYERS = 64, 3


def stepper(
    model: SignalPropagation, forward: Callable[[torch.Tensor], torch.Tensor], u: torch.Tensor
) -> Callable[[], float]:
    """Return a function that takes one gradient step on frames `u` (B, N) and returns its seconds."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    target = -u

    def step() -> float:
        started = time.perf_counter()
        optimizer.zero_grad()
        prediction_loss(forward(u) - target, "norm").backward()
        optimizer.step()
        return time.perf_counter() - started

    return step


def compare(n: int, batch: int, edge_steps: int) -> tuple[list[float], list[float]]:
    """Return the seconds of single gradient steps: dense path, edge path."""
    torch.manual_seed(0)
    u = 4 * torch.randn(batch, n)
    dense, shared = (SignalPropagation(n, 2, (HIDDEN, LAYERS), (HIDDEN, LAYERS), "relu", True) for _ in range(2))
    edges, passing = complete_graph(n), SignalMessagePassing(shared)
    fast = stepper(dense, dense, u)
    slow = stepper(shared, lambda frames: torch.stack([passing(frame, edges) for frame in frames]), u)
    fast(), slow()  # warm-up
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(edge_steps):
        times[0].extend(fast() for _ in range(DENSE_PER_EDGE_STEP))
        times[1].append(slow())
    return times


def row(n: int, batch: int, times: tuple[list[float], list[float]]) -> str:
    """Return one line of the table."""
    dense, edge = (statistics.median(t) for t in times)
    spread = [f"{1e3 * min(t):.1f} to {1e3 * max(t):.1f}" for t in times]
    return f"| {n} | {batch} | {1 / dense:.1f} | {spread[0]} | {1 / edge:.3f} | {spread[1]} | {edge / dense:.0f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    threads = parser.parse_args().threads
    torch.set_num_threads(threads)
    print(
        f"{platform.machine()}, {threads} thread(s), torch {torch.__version__}; hidden {HIDDEN}, {LAYERS} layers, Adam"
    )
    print("| n | batch | dense steps/s | ms a step | edge steps/s | ms a step | ratio |")
    print("|---|---|---|---|---|---|---|")
    for n, batch, edge_steps in SIZES:
        print(row(n, batch, compare(n, batch, edge_steps)), flush=True)


if __name__ == "__main__":
    main()
