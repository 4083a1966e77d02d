"""What confining a run costs on this machine: `python tools/bench_sandbox.py [N]` (make bench runs it too).

Each run is a real one (launch order, supervisor, guard, exit.json) of a program that does nothing, at the levels in
turn; beside it a loop of system calls inside, for what a level costs a training that is under way.
"""

import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from orchestrator.launch import sandbox
from orchestrator.launch.local import LocalLauncher
from orchestrator.ports import LaunchSpec, Limits, Sandbox, Step

LEVELS = ("none", "landlock", "bwrap")
NOTHING = "pass"
CALLS = 20_000
LOOP = f"""if True:
    import os, time
    open("u", "w").close()
    for name, act in (("stat", lambda: os.stat("u")), ("open", lambda: os.close(os.open("u", os.O_RDONLY)))):
        begun = time.perf_counter()
        for _ in range({CALLS}):
            act()
        print(name, (time.perf_counter() - begun) / {CALLS} * 1e6, flush=True)
"""


def run(folder: Path, level: str, code: str) -> tuple[float, float, str]:
    """Return the wall time from order to end, that of the step alone (ms), and what it printed."""
    (folder / "out").mkdir(parents=True)
    out = str(folder / "out")
    box = Sandbox(level=level, writable=(out,))
    step = Step(name="train", argv=(sys.executable, "-I", "-S", "-c", code), cwd=out, env={"HOME": out}, sandbox=box)
    launcher = LocalLauncher()
    begun = time.perf_counter()
    launcher.submit(folder, LaunchSpec(steps=(step,), limits=Limits()))
    while launcher.state(folder) == "running":
        time.sleep(0.0005)
    spent = time.perf_counter() - begun
    record = launcher.exit_record(folder)
    assert record is not None and record.returncode == 0, (folder / "stdout.log").read_text()
    return spent * 1e3, record.seconds["train"] * 1e3, (folder / "stdout.log").read_text()


def spread(values: list[float]) -> str:
    """Return median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"


def main(n: int) -> None:
    """Print a table."""
    levels = [level for level in LEVELS if sandbox.why_not(level) is None]
    times: dict[str, list[tuple[float, float]]] = {level: [] for level in levels}
    loops: dict[str, dict[str, list[float]]] = {level: {"stat": [], "open": []} for level in levels}
    with tempfile.TemporaryDirectory() as folder:
        for i in range(n):
            for level in levels:
                wall, step, _ = run(Path(folder, f"{level}-{i}"), level, NOTHING)
                times[level].append((wall, step))
                if i < max(3, n // 10):
                    _, _, said = run(Path(folder, f"{level}-loop-{i}"), level, LOOP)
                    for name, value in (line.split() for line in said.splitlines()):
                        loops[level][name].append(float(value))
    machine = f"{platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}"
    print(f"{machine}, n = {n} a level, in turn")
    print("median (quartiles) | whole run, ms | its step, ms | more than none, ms | stat, us | open + close, us")
    base = statistics.median(step for _, step in times[levels[0]])
    for level in levels:
        walls, steps = ([pair[i] for pair in times[level]] for i in (0, 1))
        more = statistics.median(steps) - base
        calls = " | ".join(f"{statistics.median(loops[level][name]):.2f}" for name in ("stat", "open"))
        print(f"{level} | {spread(walls)} | {spread(steps)} | {more:.1f} | {calls}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
