"""Steps per second, memory and learning of rollouts by depth: `python -m trainers.bench_recurrent [--device cuda]`.

The first table times the training loop itself (`trainers.signal.data_train_signal`, sampling and optimizers included)
at batch 8: rollouts of 1, 4 and 16 frames, evaluated as they stand (eager), with checkpoints, compiled, and captured in
CUDA graphs; beside them the message-passing path over edges, whose cost is that of one frame. `--learn MINUTES` prints
connectivity_R2 over wall time instead, that long for each depth, on a Lorentz network of four types.

A GPU gets the full size, 1000 neurons; a CPU 200, one thread unless told otherwise. Memory is the peak of a row above
what was held before it: torch's own on a GPU, of a process of its own on a CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

from models.signal import SignalPropagation
from models.signal_message_passing import SignalMessagePassing, complete_graph
from trainers.bench import HIDDEN, LAYERS, stepper
from trainers.compiling import compiler
from trainers.data import SignalData, SignalInputs, load_signal
from trainers.run import Run
from trainers.settings import Reader, SignalConfig, n_iterations, read_config
from trainers.signal import data_train_signal, estimates

DEPTHS = (1, 4, 16)
WAYS: dict[str, dict[str, Any]] = {
    "eager": {},
    "checkpointed": {"recurrent_checkpointing": True},
    "compiled": {"compile": "default"},
    "CUDA graphs": {"compile": "reduce-overhead"},
}
BATCH = 8
WARM_UP = 3
"""Gradient steps before the clock starts; the first one compiles."""
SECONDS, STEPS = 2.0, 200
"""A row ends after this long or this many gradient steps, and has 3 at least."""
TYPES = [[1.0, 0.0, 10.0, s, w, 0.0] for w in (1.0, 2.0) for s in (1.0, 2.0)]
LOOKS = 8
"""How often learning is looked at."""


class Bench(NamedTuple):
    """What is measured, where."""

    device: torch.device
    n_neurons: int

    def __str__(self) -> str:
        """Return the line above a table."""
        gpu = self.device.type == "cuda"
        name = torch.cuda.get_device_name() if gpu else f"{platform.machine()} CPU, {torch.get_num_threads()} thread(s)"
        missing = "" if gpu else "; not measured on GPU"
        return f"{name}, torch {torch.__version__}; {self.n_neurons} neurons, batch {BATCH}{missing}"


class Enough(Exception):
    """The row has been measured."""


class Clock:
    """A run without files that notes the seconds of gradient steps."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: list[float] = []
        self._last = 0.0

    def resume(self, stateful: Mapping[str, Any], total: int) -> int:
        """Return 0: nothing was trained before."""
        return 0

    def start_epoch(self) -> None:
        """Do nothing."""

    def record(self, stateful: Mapping[str, Any], terms: object, phase: int, epoch: int, step: int) -> None:
        """Note the time of a step; raises Enough at the end of the row."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        if step > WARM_UP:
            self.seconds.append(now - self._last)
        self._last = now
        if len(self.seconds) == STEPS or (len(self.seconds) >= 3 and sum(self.seconds) > SECONDS):
            raise Enough


def config_of(bench: Bench, **training: Any) -> SignalConfig:
    """Return a config of the Lorentz exploration with these keys of `training`."""
    simulation = {"connectivity_type": "Lorentz", "n_neurons": bench.n_neurons, "n_neuron_types": 4, "params": TYPES,
                  "n_frames": 100000 if bench.device.type == "cuda" else 20000}  # fmt: skip
    keys = {"n_epochs": 1, "n_epochs_init": 0, "batch_size": BATCH, "training_single_type": False,
            "learning_rate_W_start": 1e-3, "learning_rate_start": 5e-4,
            "learning_rate_embedding_start": 7.5e-4, "W_init_scale": 0.0}  # fmt: skip
    return read_config("signal", {"simulation": simulation, "training": keys | training})


def measure(bench: Bench, depth: int, way: str) -> tuple[float, int]:
    """Return the median seconds of a gradient step, and the bytes held at most above those held before."""
    u = 4 * torch.randn(2000, bench.n_neurons)
    inputs = SignalInputs(u[0], u[:1], u[:1], 2, 0.01)
    config = config_of(bench, recurrent_training=True, time_step=depth, **WAYS[way])
    clock, before = Clock(bench.device), _peak(bench.device, fresh=True)
    with contextlib.suppress(Enough):
        data_train_signal(Reader(config), SignalData(u, -u, 0.01), inputs, clock)  # type: ignore[arg-type]
    return statistics.median(clock.seconds), _peak(bench.device) - before


def _peak(device: torch.device, fresh: bool = False) -> int:
    if device.type == "cuda":
        if fresh:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _child(pipe: Any, work: Callable[..., Any], of: tuple[Any, ...]) -> None:
    pipe.send(work(*of))


def apart(bench: Bench, work: Callable[..., Any], *of: Any) -> Any:
    """Return work(bench, *of); on a CPU from a forked process, whose peak of memory is the row's own."""
    if bench.device.type == "cuda":
        return work(bench, *of)
    here, there = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_child, args=(there, work, (bench, *of)))
    child.start()
    there.close()
    try:
        return here.recv()
    finally:
        child.join()


def message_passing(bench: Bench) -> float:
    """Return the median seconds of a gradient step on du/dt of single frames, over an edge list."""
    u = 4 * torch.randn(BATCH, bench.n_neurons, device=bench.device)
    model = SignalPropagation(bench.n_neurons, 2, (HIDDEN, LAYERS), (HIDDEN, LAYERS), "relu", True).to(bench.device)
    edges, passing = complete_graph(bench.n_neurons).to(bench.device), SignalMessagePassing(model)

    def each(frames: torch.Tensor) -> torch.Tensor:
        return torch.stack([passing(frame, edges) for frame in frames])

    step = stepper(model, each, u)
    step()
    return statistics.median(step() for _ in range(3))


def steps_table(bench: Bench, ways: list[str]) -> None:
    """Print steps per second and memory of every depth and way."""
    print(f"{bench}; the training loop, steps per second (peak memory above the start, MB)")
    print(f"| frames | {' | '.join(ways)} | message passing |")
    print("|---" * (len(ways) + 2) + "|")
    edges = f"{1 / apart(bench, message_passing):.3f}"
    for depth in DEPTHS:
        cells = []
        for way in ways:
            if way == "CUDA graphs" and bench.device.type != "cuda":
                cells.append("needs CUDA")
                continue
            seconds, held = apart(bench, measure, depth, way)
            cells.append(f"{1 / seconds:.1f} ({held / 2**20:.0f})")
        print(f"| {depth} | {' | '.join(cells)} | {edges if depth == 1 else '-'} |", flush=True)


class Learning(Run):
    """A run that prints the score of W a few times, off the clock, and ends when its time is spent."""

    def __init__(self, folder: Path, device: str, inputs: SignalInputs, minutes: float, truth: Any) -> None:
        super().__init__(folder, "bench", device)
        self.inputs, self.limit, self.truth = inputs, 60 * minutes, truth
        self.cells: list[str] = []
        self._away = 0.0

    def record(self, stateful: Mapping[str, Any], terms: dict[str, torch.Tensor], phase: int, epoch: int,
               step: int) -> None:  # fmt: skip
        """Look at W when its time has come; raises Enough at the end."""
        from trainers.scoring.metrics import score_estimate

        super().record(stateful, terms, phase, epoch, step)
        begun = time.monotonic()
        spent = self.elapsed_s - self._away
        if spent < self.limit * (len(self.cells) + 1) / LOOKS:
            return
        arrays = {
            name: value.detach().cpu().numpy() for name, value in estimates(stateful["model"], self.inputs).items()
        }
        found = score_estimate(arrays, self.truth)
        self.cells.append(f"{found['connectivity_R2']:.3f} ({step})")
        self._away += time.monotonic() - begun
        if len(self.cells) == LOOKS:
            raise Enough


def learning_table(bench: Bench, minutes: float, way: str) -> None:
    """Print connectivity_R2 over wall time for every depth, on one data set."""
    from trainers.prepare.build import prepare
    from trainers.scoring.metrics import load_truth

    print(f"{bench}; connectivity_R2 (gradient steps) after minutes of training, {way}, W from 0, constant rates")
    print(f"| frames | {' | '.join(f'{minutes * (i + 1) / LOOKS:.2f}' for i in range(LOOKS))} |")
    print("|---" * (LOOKS + 1) + "|", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spec = {"contract": 1, "system": "signal", "profile": "bench", "regime": "bench",
                "config": config_of(bench).model_dump(mode="json")}  # fmt: skip
        (folder / "SPEC.yaml").write_text(yaml.safe_dump(spec))
        prepare(folder / "SPEC.yaml", folder / "data")
        data, inputs = load_signal(folder / "data" / "train", folder / "data" / "inputs")
        for depth in DEPTHS:
            config = config_of(bench, recurrent_training=True, time_step=depth, n_epochs=1000, **WAYS[way])
            assert n_iterations(20000, 40, BATCH) * 1000 > 10**7  # epochs beyond any time limit
            run = Learning(folder / str(depth), bench.device.type, inputs, minutes, load_truth(folder / "data"))
            with contextlib.suppress(Enough), compiler(config.training.compile, folder / "compiled"):
                data_train_signal(Reader(config), data, inputs, run)
            print(f"| {depth} | {' | '.join(run.cells)} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--neurons", type=int, help="1000 on a GPU, 200 on a CPU")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ways", nargs="+", choices=tuple(WAYS), default=list(WAYS))
    parser.add_argument("--learn", type=float, metavar="MINUTES", help="learning over wall time, this long a depth")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch sees no CUDA device here; leave --device out, or take --device cpu")
    bench = Bench(torch.device(args.device), args.neurons or (1000 if args.device == "cuda" else 200))
    if args.learn:
        learning_table(bench, args.learn, args.ways[0])
    else:
        compiled = any("compile" in WAYS[way] for way in args.ways)
        with tempfile.TemporaryDirectory() as folder, compiler("default" if compiled else "none", Path(folder, "made")):
            steps_table(bench, args.ways)  # what one row compiles serves the next


if __name__ == "__main__":
    main()
