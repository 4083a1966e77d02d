"""The real program on machines whose nvidia-smi lists GPUs: which run gets which, and who has to wait."""

import json
import signal

import pytest

from orchestrator.core.events import RunEnded, RunReserved
from orchestrator.store import journal
from tests import toy
from tests.gpus import ROWS, device_of, machine

LONG = ("--epochs", "60", "--epoch-s", "0.2")


def events(home):
    return [e.body for e in journal.read(toy.out(home) / "journal.jsonl")]


def reserved(home):
    return {(e.iteration, e.attempt): e for e in events(home) if isinstance(e, RunReserved)}


def ended(engine):
    """Wait for a program's end and return its code and output."""
    output, _ = engine.communicate(timeout=40)
    return engine.returncode, output.decode()


def running(home, *runs):
    return all((toy.out(home) / "runs" / run / "out" / "checkpoint.pt").exists() for run in runs)


def moments(home):
    """Return the runs in flight after each event that changed them."""
    flying, found = {}, []
    for e in events(home):
        if isinstance(e, RunReserved):
            flying[e.iteration, e.attempt] = e
        elif isinstance(e, RunEnded):
            del flying[e.iteration, e.attempt]
        if isinstance(e, RunReserved | RunEnded):
            found.append(dict(flying))
    return found


def test_two_runs_in_flight_have_two_gpus(tmp_path):
    home = toy.make_home(tmp_path, "--epochs", "4", "--epoch-s", "0.3")
    done = toy.run(home, "explore", "toy", "--iterations", "5", "--slots", "2", **machine(tmp_path, *ROWS))
    assert done.returncode == 0, done.stdout + done.stderr
    pairs = [sorted(e.device for e in flying.values()) for flying in moments(home) if len(flying) == 2]
    assert pairs and all(pair == ["0", "1"] for pair in pairs)
    for (iteration, attempt), e in reserved(home).items():
        assert e.beside == 0
        assert device_of(home, f"{iteration:04d}-{attempt}") == e.device
        launch = json.loads((toy.out(home) / "runs" / f"{iteration:04d}-{attempt}" / "launch.json").read_text())
        (hold,) = launch["holds"]
        assert hold.startswith(str(tmp_path / "leases" / ("GPU-aaaaaaaa" if e.device == "0" else "GPU-bbbbbbbb")))
        assert launch["steps"][0]["env"]["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
        assert launch["steps"][1]["env"]["CUDA_VISIBLE_DEVICES"] == ""  # scoring needs none


def test_a_known_peak_keeps_the_slots_from_overfilling_a_gpu(tmp_path):
    """10 GB a run on 24 GiB: from the first peak on two of the three slots are filled."""
    options = ("--memory", str(10 * 10**9), "--epochs", "4", "--epoch-s", "0.1")
    home = toy.make_home(tmp_path, *options)
    done = toy.run(home, "explore", "toy", "--iterations", "7", "--slots", "3", **machine(tmp_path, ROWS[0]))
    assert done.returncode == 0, done.stdout + done.stderr
    assert [e.memory_bytes for e in events(home) if isinstance(e, RunEnded)] == [10 * 10**9] * 7
    first = next(n for n, e in enumerate(events(home)) if isinstance(e, RunEnded))
    assert max(e.beside for e in events(home)[first:] if isinstance(e, RunReserved)) == 1


def test_out_of_memory_is_tried_again_alone(tmp_path):
    """The first three are started by one turn, before any of them is looked at."""
    home = toy.make_home(tmp_path, "--faults", "3-1=oom", "--epochs", "4", "--epoch-s", "0.2")
    done = toy.run(home, "explore", "toy", "--iterations", "6", "--slots", "3", **machine(tmp_path, ROWS[0]))
    assert done.returncode == 0, done.stdout + done.stderr
    assert reserved(home)[3, 1].beside == 2 and reserved(home)[3, 2].beside == 0
    assert all(len(flying) == 1 for flying in moments(home) if (3, 2) in flying)
    ends = [e for e in events(home) if isinstance(e, RunEnded)]
    assert [e.outcome for e in ends if e.iteration == 3] == ["out_of_memory", "ok"]
    assert len({e.iteration for e in ends if e.outcome == "ok"}) == 6


def test_a_trainer_of_ones_own_gets_a_gpu_too(tmp_path):
    exploration = toy.EXPLORATION + 'command: [python, "{source}/train.py", "{run}"]\n'
    home = toy.make_home(tmp_path, exploration=exploration)
    code = "import os, sys\nfrom pathlib import Path\nrun = Path(sys.argv[1])\n"
    code += "(run / 'out' / 'device.txt').write_text(os.environ['CUDA_VISIBLE_DEVICES'])\n"
    code += "(run / 'analysis.log').write_text('connectivity_R2: 0.5\\n')\n"
    (home / "explorations" / "toy" / "train.py").write_text(code)
    done = toy.run(home, "explore", "toy", "--iterations", "1", **machine(tmp_path, *ROWS, visible="1"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert device_of(home, "0001-1") == "1"


@pytest.fixture
def busy(tmp_path):
    """A machine with one GPU, and an exploration that uses it."""
    env = machine(tmp_path, ROWS[0])
    home = toy.make_home(tmp_path / "first", *LONG)
    engine = toy.start(home, "explore", "toy", "--iterations", "1", **env)
    toy.wait_for(lambda: running(home, "0001-1"))
    yield home, env, engine
    if engine.poll() is None:
        engine.send_signal(signal.SIGINT)
        engine.communicate(timeout=40)
    engine.stdout.close()
    toy.wait_for(lambda: not toy.processes_of(home))


def test_a_second_exploration_is_told_who_has_the_gpu(tmp_path, busy):
    home, env, engine = busy
    other = toy.make_home(tmp_path / "second")
    done = toy.run(other, "explore", "toy", "--iterations", "1", **env)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "GPU 0 (GPU-aaaaaaaa-0001): the exploration in " in done.stderr
    assert str(toy.out(home)) in done.stderr and f"pid {engine.pid}" in done.stderr
    assert not (toy.out(other) / "journal.jsonl").exists()
    done = toy.run(other, "explore", "toy", "--iterations", "1", **env | {"CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 0, done.stdout + done.stderr
    assert device_of(other, "0001-1") == ""


def test_share_gpus_lets_it_run_beside(tmp_path, busy):
    _, env, _ = busy
    other = toy.make_home(tmp_path / "second", exploration=toy.EXPLORATION + "share_gpus: true\n")
    done = toy.run(other, "explore", "toy", "--iterations", "1", **env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert device_of(other, "0001-1") == "0"


def test_a_run_of_a_killed_engine_keeps_the_gpu_and_is_adopted_by_its_own(tmp_path, busy):
    home, env, engine = busy
    engine.kill()
    engine.wait()
    other = toy.make_home(tmp_path / "second")
    assert toy.run(other, "explore", "toy", "--iterations", "1", **env).returncode == 3
    again = toy.start(home, "resume", "toy", **env)
    toy.wait_for(lambda: sum(e.type == "session" for e in events(home)) == 2)
    assert toy.run(other, "explore", "toy", "--iterations", "1", **env).returncode == 3
    again.send_signal(signal.SIGINT)
    assert ended(again)[0] == 130
    assert [key for key in reserved(home)] == [(1, 1)]  # adopted, not started anew
    assert toy.run(other, "explore", "toy", "--iterations", "1", **env).returncode == 0
