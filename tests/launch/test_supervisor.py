"""What only processes can show: kills at every place, limits to the byte, nothing left behind, nothing inherited."""

import fcntl
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from orchestrator.launch import folder, local, sandbox, supervisor
from orchestrator.ports import LaunchSpec, Step
from tests.toy import wait_for

from .conftest import make_run, processes, read_json, toy_spec, zombies_of

LEVELS = ("none", "landlock", "bwrap")


@pytest.fixture(params=LEVELS)
def level(request):
    """Each sandbox level that works here."""
    reason = sandbox.why_not(request.param)
    if reason:
        pytest.skip(reason)
    return request.param


def alive(pid):
    try:
        os.kill(pid, 0)
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False


def children(pid):
    return [int(name) for name in filter(str.isdigit, os.listdir("/proc")) if parent(name) == pid]


def parent(name):
    try:
        return int(Path("/proc", name, "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def start(bench, tmp_path, fault="slow", **changes):
    """Start a run and return its folder once it trains."""
    run_dir = make_run(tmp_path)
    bench.launcher.submit(run_dir, toy_spec(run_dir, fault, **{"options": ("--epoch-s", "5"), **changes}))
    wait_for((run_dir / "out" / "progress.jsonl").exists)
    return run_dir


def script(code, *arguments):
    """Return a launch order of one step that runs Python code."""
    argv = (sys.executable, "-I", "-S", "-c", textwrap.dedent(code), *map(str, arguments))
    return lambda run_dir, **limits: LaunchSpec(
        steps=(Step(name="train", argv=argv, cwd=str(run_dir), env={"PATH": os.defpath}),),
        limits=toy_spec(run_dir, **limits).limits,
    )


# --- kills ------------------------------------------------------------------------------------------------------------


def test_killed_supervisor_takes_the_training_along(local, tmp_path, level):
    run_dir = start(local, tmp_path, sandbox=level)
    pid = folder.claim_pid(run_dir)
    assert len(processes(tmp_path)) >= 3
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not processes(tmp_path), 2.0)
    assert local.launcher.state(run_dir) == "vanished"
    assert local.launcher.exit_record(run_dir) is None
    local.launcher.cancel(run_dir, hard=True)


@pytest.mark.parametrize("victim", ["supervisor", "guard"])
def test_grandchildren_go_too(local, tmp_path, victim):
    """A process that made a session of its own is not forgotten, whoever is killed."""
    code = """
        import os, sys, time
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                open(sys.argv[1], "w").write(str(os.getpid()))
                time.sleep(60)
            os._exit(0)
        time.sleep(60)
    """
    run_dir = make_run(tmp_path)
    pid_file = run_dir / "out" / "grandchild.pid"
    local.launcher.submit(run_dir, script(code, pid_file)(run_dir))
    wait_for(lambda: pid_file.exists() and pid_file.read_text())
    grandchild, top = int(pid_file.read_text()), folder.claim_pid(run_dir)
    os.kill(top if victim == "supervisor" else children(top)[0], signal.SIGKILL)
    wait_for(lambda: not alive(grandchild), 2.0)
    wait_for(lambda: not processes(tmp_path), 2.0)
    if victim == "guard":
        record = local.end(run_dir)
        assert (record.returncode, record.reason) == (-9, None)


def test_no_grandchild_survives_its_step(local, tmp_path):
    run_dir = make_run(tmp_path)
    assert local.run(run_dir, "fork_grandchild").returncode == 0
    pid_file = run_dir / "out" / "grandchild.pid"
    assert not pid_file.exists() or not alive(int(pid_file.read_text()))


def test_killed_child(local, tmp_path, level):
    run_dir = start(local, tmp_path, sandbox=level)
    pid = read_json(run_dir / "out" / "toy.json")["pid"]
    if level == "bwrap":
        pid = next(p for p in processes(f"train\0{run_dir}") if Path(f"/proc/{p}/comm").read_text() != "bwrap\n"
                   and b"supervisor.py" not in Path(f"/proc/{p}/cmdline").read_bytes())  # fmt: skip
    os.kill(pid, signal.SIGKILL)
    record = local.end(run_dir)
    assert (record.step, record.returncode, record.reason) == ("train", -9, None)
    assert "SIGKILL" in record.sentence


def test_killed_engine_and_another_that_adopts(local, tmp_path):
    """The run outlives its engine, and a new process sees it to its end."""
    run_dir = make_run(tmp_path)
    spec = toy_spec(run_dir, "slow", options=("--epoch-s", "0.3"))
    code = """
        import sys, time
        from pathlib import Path
        from orchestrator.launch.local import LocalLauncher
        from orchestrator.ports import LaunchSpec
        LocalLauncher().submit(Path(sys.argv[1]), LaunchSpec.model_validate_json(sys.argv[2]))
        print("submitted", flush=True)
        time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(run_dir), spec.model_dump_json()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as engine:
        assert engine.stdout.readline() == "submitted\n"
        assert zombies_of(engine.pid) == []
        assert children(engine.pid) == []
        os.killpg(engine.pid, signal.SIGKILL)
    assert local.launcher.state(run_dir) == "running"
    record = local.end(run_dir)
    assert (record.step, record.returncode) == ("score", 0)


def test_hard_cancel_of_a_stopped_supervisor(local, tmp_path, monkeypatch):
    monkeypatch.setattr("orchestrator.launch.local.HARD_S", 0.2)
    run_dir = start(local, tmp_path)
    os.kill(folder.claim_pid(run_dir), signal.SIGSTOP)
    local.launcher.cancel(run_dir, hard=True)
    wait_for(lambda: not processes(tmp_path), 2.0)
    assert local.launcher.state(run_dir) == "vanished"


# --- cancel, limits ---------------------------------------------------------------------------------------------------


def test_cancel_gives_time_for_a_checkpoint(local, tmp_path, level):
    run_dir = start(local, tmp_path, sandbox=level, grace_s=10)
    local.launcher.cancel(run_dir)
    record = local.end(run_dir)
    assert (record.returncode, record.reason) == (12, "cancelled")
    assert (run_dir / "out" / "checkpoint.pt").exists()
    assert "cancelled" in record.sentence


@pytest.mark.parametrize("delay", [0, 0.005, 0.01, 0.02])
def test_an_early_cancel_is_not_lost(local, tmp_path, level, delay):
    """Wherever the start is at that moment, the grace time is not waited out."""
    run_dir = make_run(tmp_path)
    local.launcher.submit(run_dir, toy_spec(run_dir, "slow", sandbox=level, grace_s=30))
    time.sleep(delay)
    local.launcher.cancel(run_dir)
    record = local.end(run_dir, timeout=10)
    assert record.reason == "cancelled"
    assert record.returncode in (None, 12, -15, -9)


def test_the_deaf_are_killed_after_the_grace_time(local, tmp_path, level):
    run_dir = start(local, tmp_path, "ignore_sigterm", sandbox=level, grace_s=0.3)
    begun = time.monotonic()
    local.launcher.cancel(run_dir)
    record = local.end(run_dir)
    assert time.monotonic() - begun >= 0.3
    assert (record.returncode, record.reason) == (-9, "cancelled")
    assert "killed" in record.sentence


def test_a_stranger_is_never_signalled(local, tmp_path):
    """A claim whose number was given to another process, while somebody holds the lock."""
    run_dir = make_run(tmp_path)
    with subprocess.Popen(["sleep", "30"]) as stranger:
        (run_dir / "claim").write_text(f"supervisor {stranger.pid}\n")
        assert local.launcher.state(run_dir) == "vanished"
        local.launcher.cancel(run_dir, hard=True)
        with open(run_dir / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert local.launcher.state(run_dir) == "running"
            local.launcher.cancel(run_dir, hard=True)
        assert stranger.poll() is None
        stranger.kill()
    (run_dir / "claim").unlink()


def test_flood_keeps_the_head_and_says_why_it_ends(local, tmp_path):
    run_dir = make_run(tmp_path)
    code = "import os\nos.write(1, b'first line')\nwhile True: os.write(1, b'x' * 65536)"
    local.launcher.submit(run_dir, script(code)(run_dir))
    record = local.end(run_dir)
    assert (record.reason, record.returncode) == ("output", -15)
    log = (run_dir / "stdout.log").read_bytes()
    assert len(log) <= 100_000
    assert log.startswith(b"first line")
    assert b"[supervisor] it printed more than stdout.log may hold, 100000 bytes" in log


def test_output_dropped_at_the_very_end_is_told(tmp_path):
    """A step that prints too much and ends at once has ended by itself, but its log says that some is missing."""
    watched = supervisor.Watched(str(make_run(tmp_path)), {"output_bytes": 1000})
    watched.write(b"x" * 5000)
    watched.close(None)
    log = (tmp_path / "0003-1" / "stdout.log").read_bytes()
    assert len(log) <= 1000
    assert log.endswith(b"\n[supervisor] more was printed than this file may hold\n")


def test_full_folder(local, tmp_path):
    record = local.run(make_run(tmp_path), "fill", folder_bytes=2_000_000)
    assert record.reason == "output"
    assert "out/ holds more than 2000000 bytes" in record.sentence


def test_progress_alone_is_a_sign_of_life(local, tmp_path):
    """A step that prints nothing but writes progress every 0.1 s is not silent for 0.5 s."""
    record = local.run(make_run(tmp_path), "slow", silence_s=0.5, options=("--epoch-s", "1.0", "--epochs", "1"))
    assert (record.returncode, record.reason) == (0, None)


def test_wall_counts_all_steps(local, tmp_path):
    run_dir = make_run(tmp_path)
    nap = (sys.executable, "-I", "-S", "-c", "import time; time.sleep(0.4)")
    steps = tuple(Step(name=n, argv=nap, cwd=str(run_dir), env={}) for n in ("train", "score"))
    local.launcher.submit(run_dir, LaunchSpec(steps=steps, limits=toy_spec(run_dir, wall_s=0.7).limits))
    record = local.end(run_dir)
    assert (record.step, record.reason) == ("score", "wall")


# --- what a step gets -------------------------------------------------------------------------------------------------


def test_a_step_inherits_nothing(local, tmp_path, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key")
    code = """
        import os, signal, sys
        print(sorted(os.environ), os.getcwd() == sys.argv[1], repr(sys.stdin.read()))
        print(sorted(fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")))
        print(os.getpgrp() == os.getpid() == os.getsid(0), signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        print([n for n in (1, 2, 3, 15) if signal.getsignal(n) == signal.SIG_IGN])
    """
    run_dir = make_run(tmp_path)
    with open(tmp_path / "engine.lock", "w") as lock:
        os.set_inheritable(lock.fileno(), True)
        local.launcher.submit(run_dir, script(code, run_dir)(run_dir))
        assert local.end(run_dir).returncode == 0
    lines = (run_dir / "stdout.log").read_text().splitlines()
    assert lines == ["['LC_CTYPE', 'PATH'] True ''", "['0', '1', '2']", "True set()", "[]"]


def test_a_supervisor_holds_nothing_of_the_engine(local, tmp_path):
    with open(tmp_path / "engine.lock", "w") as lock:
        os.set_inheritable(lock.fileno(), True)
        run_dir = start(local, tmp_path)
        pid = folder.claim_pid(run_dir)
        for process in (pid, *children(pid)):
            names = [os.readlink(f"/proc/{process}/fd/{fd}") for fd in os.listdir(f"/proc/{process}/fd")]
            assert not any("engine.lock" in name for name in names)
            assert b"ANTHROPIC" not in Path(f"/proc/{process}/environ").read_bytes()
    assert os.getsid(pid) != os.getsid(0)
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    local.launcher.cancel(run_dir, hard=True)


def test_a_program_that_is_not_there(local, tmp_path):
    run_dir = make_run(tmp_path)
    step = Step(name="train", argv=("/no/such/program",), cwd=str(run_dir), env={})
    local.launcher.submit(run_dir, LaunchSpec(steps=(step,)))
    record = local.end(run_dir)
    assert record.returncode == 127
    assert "/no/such/program" in (run_dir / "stdout.log").read_text() + (run_dir / "supervisor.log").read_text()


def test_sandboxed_run_writes_only_out(local, tmp_path, level):
    run_dir = make_run(tmp_path)
    record = local.run(run_dir, sandbox=level)
    assert record.returncode == 0, folder.tail(run_dir / "stdout.log")
    assert (run_dir / "result.json").exists()


# --- lock and claim --------------------------------------------------------------------------------------------------


def command(run_dir, *options):
    """Run a supervisor by hand."""
    argv = [sys.executable, "-I", "-S", local_supervisor(), *options, str(run_dir)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=20, cwd=run_dir)


def local_supervisor():
    return str(Path(supervisor.__file__))


def test_a_second_supervisor_leaves_quietly(local, tmp_path):
    run_dir = start(local, tmp_path)
    done = command(run_dir)
    assert done.returncode == 0
    assert done.stdout.startswith("refused")
    assert local.launcher.state(run_dir) == "running"
    wait_for(lambda: "leaving" in (run_dir / "supervisor.log").read_text())
    local.launcher.cancel(run_dir, hard=True)


def test_a_revoked_folder_is_left_alone(tmp_path):
    run_dir = make_run(tmp_path)
    folder.revoke(run_dir)
    (run_dir / "launch.json").write_text(toy_spec(run_dir).model_dump_json())
    done = command(run_dir, "--foreground")
    assert (done.returncode, done.stdout) == (0, "refused the folder is claimed by revoked\n")
    assert not (run_dir / "stdout.log").exists()


def test_foreground(tmp_path):
    """For queues: the process stays until the run has ended."""
    run_dir = make_run(tmp_path)
    (run_dir / "launch.json").write_text(toy_spec(run_dir).model_dump_json())
    assert command(run_dir, "--foreground").returncode == 0
    assert folder.exit_record(run_dir).returncode == 0


@pytest.mark.parametrize("content", ["", "{", '{"contract": 1}'])
def test_a_bad_launch_order_ends_with_a_sentence(tmp_path, content):
    run_dir = make_run(tmp_path)
    (run_dir / "launch.json").write_text(content)
    command(run_dir, "--foreground")
    record = folder.exit_record(run_dir)
    assert (record.step, record.returncode) == ("launch", None)
    assert "supervisor failed" in record.sentence


def test_not_a_folder(tmp_path):
    done = subprocess.run(
        [sys.executable, "-I", "-S", local_supervisor(), str(tmp_path / "none")], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "usage" in done.stderr


def test_probes_never_turn_a_supervisor_away(local, tmp_path):
    """Eight runs start while two threads ask for their state and try the lock as fast as they can."""
    run_dirs = [make_run(tmp_path, f"{n:04d}-1") for n in range(1, 9)]
    done = threading.Event()

    def probe():
        while not done.is_set():
            for run_dir in run_dirs:
                folder.run_state(run_dir)
                if (run_dir / "lock").exists():
                    with open(run_dir / "lock") as lock:
                        try:
                            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                        except BlockingIOError:
                            continue

    threads = [threading.Thread(target=probe) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for run_dir in run_dirs:
            local.launcher.submit(run_dir, toy_spec(run_dir))
        assert [local.end(run_dir).returncode for run_dir in run_dirs] == [0] * 8
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_submit_says_when_it_cannot_start(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "SUPERVISOR", tmp_path / "missing.py")
    run_dir = make_run(tmp_path)
    with pytest.raises(OSError, match="did not start"):
        local.LocalLauncher().submit(run_dir, toy_spec(run_dir))
    assert folder.run_state(run_dir) == "unclaimed"


def test_standard_library_only():
    """Neither file of the supervisor imports the engine when it runs."""
    code = "import runpy, sys; runpy.run_path(sys.argv[1]); print(any('orchestrator' in m for m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, local_supervisor()], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
