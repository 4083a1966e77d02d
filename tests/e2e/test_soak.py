"""A thousand runs through four slots: nothing leaks, and what the engine costs per run is printed (slow: `science`).

`python -m tests.e2e.test_soak [RUNS] [SLOTS]` prints the figures alone.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests import toy

RUNS, SLOTS, BLOCK = 1000, 4, 50
KEYS = 12
"""Further free keys, so that a thousand different ideas are there."""
EARLY = 200
"""Runs after which the first look is taken: imports and first blocks are behind."""


def make(folder):
    """Return a toy home with many free keys."""
    lines = "".join(f"  extra_{i}: 1.0E-2 # range: 1E-5 to 1E1\n" for i in range(KEYS))
    instruction = toy.INSTRUCTION.replace("  batch_size: 8 #", lines + "  batch_size: 8 #")
    config = toy.CONFIG.replace("n_iter_block: 12", f"n_iter_block: {BLOCK}")
    home = toy.make_home(folder, config=config, instruction=instruction)
    schema = json.loads((home / "trainers" / "schema.json").read_text())
    training = schema["systems"]["signal"]["sections"]["training"]
    training |= {f"extra_{i}": toy.key("float", 1e-2, 0.0, 10.0) for i in range(KEYS)}
    (home / "trainers" / "schema.json").write_text(json.dumps(schema))
    return home


def look(pid):
    """Return (open files, resident MiB, CPU seconds, child processes) of the engine."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    resident = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmRSS"))
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    cpu = (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
    return len(os.listdir(f"/proc/{pid}/fd")), int(resident.split()[1]) / 1024, cpu, len(children)


def soak(home, runs=RUNS, slots=SLOTS):
    """Explore; return the looks by the number of ended runs, the wall time, and the exit code."""
    words = ("explore", "toy", "--iterations", str(runs), "--slots", str(slots))
    journal, looks, began = toy.out(home) / "journal.jsonl", {}, time.monotonic()
    with open(home / "console.txt", "w", encoding="utf-8") as console:
        engine = subprocess.Popen(toy.command(home, *words), stdout=console, stderr=console, env=toy.environment())
        while engine.poll() is None:
            time.sleep(0.5)
            try:
                ended = journal.read_bytes().count(b'"type":"run_ended"')
                looks[ended] = (time.monotonic() - began, *look(engine.pid))
            except (OSError, StopIteration):
                continue  # not there yet, or gone
    return looks, time.monotonic() - began, engine.returncode


def told(looks, wall):
    """Return the figures as text."""
    rows = [f"{'runs':>5} {'wall s':>7} {'files':>5} {'MiB':>6} {'engine CPU s':>12} children"]
    step = max(looks) // 10 or 1
    for n in sorted(
        {min((k for k in looks if k >= at), default=max(looks)) for at in range(step, max(looks) + 1, step)}
    ):
        rows.append("{:>5} {:>7.1f} {:>5} {:>6.1f} {:>12.1f} {}".format(n, *looks[n]))
    last = looks[max(looks)]
    rows.append(f"{max(looks)} runs in {wall:.1f} s; engine {1000 * last[3] / max(looks):.1f} ms of CPU a run")
    return "\n".join(rows)


@pytest.mark.science
def test_a_thousand_runs_through_four_slots_leak_nothing(tmp_path, capsys):
    home = make(tmp_path)
    looks, wall, code = soak(home)
    with capsys.disabled():
        print("\n" + told(looks, wall))
    assert code == 0, (home / "console.txt").read_text()[-2000:]
    assert not toy.processes_of(home)
    early, late = looks[min(n for n in looks if n >= EARLY)], looks[max(looks)]
    assert max(looks) >= RUNS - SLOTS
    before = max(x[1] for n, x in looks.items() if n <= EARLY)
    last = [x[1] for n, x in looks.items() if n > 0.8 * RUNS]
    assert min(last) <= before, sorted(last)  # a look may catch the pipes of a start; what leaked is in every look
    assert late[2] - early[2] < 0.1 * (max(looks) - EARLY)  # MiB: the fold keeps some tens of KiB of each run
    assert all(x[4] <= 1 for x in looks.values())  # the short process that starts a supervisor; no zombie stays


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        counts = [int(word) for word in sys.argv[1:]]
        found, seconds, _ = soak(make(Path(scratch)), *counts)
        print(told(found, seconds))
