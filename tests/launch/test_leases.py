"""Leases of GPUs: real locks of real processes, on a folder of each test's own."""

import json
import multiprocessing
import os
import signal
import stat
import tempfile
import time
from pathlib import Path

import pytest

from orchestrator.errors import NeedsPersonError
from orchestrator.launch import folder, leases
from orchestrator.launch.leases import Leases
from orchestrator.ports import Gpu
from tests.toy import wait_for

from .conftest import make_run, toy_spec

A = Gpu(name="0", uuid="GPU-aaaa", total_bytes=24, free_bytes=20)
B = Gpu(name="1", uuid="GPU-bbbb", total_bytes=24, free_bytes=21)
FORK = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def where(tmp_path, monkeypatch):
    """The folder of leases, not yet made."""
    monkeypatch.setenv(leases.VARIABLE, str(tmp_path / "leases"))
    return tmp_path / "leases"


def took(lease, gpus=(A, B), wanted=1, share=False):
    return [gpu.name for gpu in lease.take(gpus, wanted, share)]


class Holder:
    """Another process that takes GPUs for an exploration, until it is killed."""

    def __init__(self, out, gpus=(A,), wanted=1):
        ours, theirs = FORK.Pipe()
        self.process = FORK.Process(target=self._hold, args=(theirs, out, gpus, wanted))
        self.process.start()
        theirs.close()
        self.answer = ours.recv()
        ours.close()

    @staticmethod
    def _hold(pipe, out, gpus, wanted):
        lease = Leases(out)
        pipe.send(took(lease, gpus, wanted))
        signal.pause()

    def kill(self):
        self.process.kill()
        self.process.join()
        self.process.close()


def in_a_process(function, *arguments, user=None):
    """Return what a function returns in a child process, as another user if one is given."""

    def work(pipe):
        try:
            if user is not None:
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)
            pipe.send(function(*arguments))
        except Exception as error:
            pipe.send(error)

    ours, theirs = FORK.Pipe()
    child = FORK.Process(target=work, args=(theirs,))
    child.start()
    theirs.close()
    found = ours.recv()
    child.join()
    child.close()
    ours.close()
    return found


# --- between explorations ---------------------------------------------------------------------------------------------


def test_two_explorations_get_different_gpus_and_the_third_is_told(tmp_path):
    with Leases(tmp_path / "a") as a, Leases(tmp_path / "b") as b, Leases(tmp_path / "c") as c:
        assert took(a) == ["1"]  # the emptier one
        assert took(b) == ["0"]
        with pytest.raises(NeedsPersonError) as refused:
            took(c)
        told = str(refused.value)
        assert f"GPU 0 (GPU-aaaa): the exploration in {tmp_path / 'b'} (pid {os.getpid()}, since 20" in told
        assert f"GPU 1 (GPU-bbbb): the exploration in {tmp_path / 'a'} (pid " in told
        for remedy in ("Wait until", "CUDA_VISIBLE_DEVICES=", "`share_gpus: true` in exploration.yaml"):
            assert remedy in told
        assert refused.value.exit_code == 3 and c.files == {}
        a.close()
        assert took(c) == ["1"]


def test_no_more_than_wanted_and_no_more_than_free(tmp_path):
    with Leases(tmp_path / "a") as a, Leases(tmp_path / "b") as b:
        assert took(a, wanted=1) == ["1"]
        assert took(b, wanted=4) == ["0"]


def test_without_gpus_nothing_is_touched(tmp_path, where):
    with Leases(tmp_path / "a") as a:
        assert took(a, gpus=()) == [] and not where.exists()


def test_sharing_takes_what_is_left_first(tmp_path):
    with Leases(tmp_path / "a") as a, Leases(tmp_path / "b") as b, Leases(tmp_path / "c") as c:
        assert took(a, gpus=(B,)) == ["1"]
        assert took(b, wanted=2, share=True) == ["0", "1"]
        assert took(c, gpus=(B,), share=True) == ["1"]


def test_an_exploration_never_blocks_itself_and_stays_where_its_runs_are(tmp_path):
    with Leases(tmp_path / "a") as before, Leases(tmp_path / "x" / ".." / "a") as after:
        assert took(before, gpus=(A,)) == ["0"]
        (found,) = after.take((B, A), 1, False)
        assert found.name == "0"
        assert found.free_bytes is None and found.room_bytes == 24  # what is free says nothing: its runs are on it


def test_the_folder_and_its_files_are_for_all_users_whatever_the_umask(tmp_path, where):
    old = os.umask(0o077)
    try:
        with Leases(tmp_path / "a") as a:
            took(a)
            (file,) = where.iterdir()
            assert stat.S_IMODE(where.stat().st_mode) == 0o1777
            assert stat.S_IMODE(file.stat().st_mode) == 0o644
            assert a.files == {"1": str(file)}
            found = json.loads(file.read_text())
            assert found["exploration"] == str(tmp_path / "a") and found["pid"] == os.getpid()
    finally:
        os.umask(old)


def test_the_folder_does_not_depend_on_the_session(monkeypatch, tmp_path):
    monkeypatch.delenv(leases.VARIABLE)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert Leases(tmp_path / "a").folder == Path("/tmp/orchestrator-leases")


# --- between processes ------------------------------------------------------------------------------------------------


def test_a_killed_holder_is_gone_without_a_trace(tmp_path):
    holder = Holder(tmp_path / "a")
    assert holder.answer == ["0"]
    with Leases(tmp_path / "b") as b:
        with pytest.raises(NeedsPersonError, match=f"pid {holder.process.pid}"):
            took(b, gpus=(A,))
        holder.kill()
        assert took(b, gpus=(A,)) == ["0"]


def test_of_engines_that_start_at_once_one_gets_the_gpu(tmp_path):
    gate = FORK.Barrier(6)
    hold = Leases._hold

    def slowly(*arguments):
        """Leave time between looking and taking: all would see the GPU free."""
        time.sleep(0.1)
        hold(*arguments)

    def race(number):
        Leases._hold = slowly
        gate.wait()
        with Leases(tmp_path / str(number)) as lease:
            try:
                found = took(lease, gpus=(A,))
            except NeedsPersonError:
                found = []
            gate.wait()
            return found

    pipes = []
    for number in range(6):
        ours, theirs = FORK.Pipe()
        child = FORK.Process(target=lambda n=number, end=theirs: end.send(race(n)))
        child.start()
        pipes.append((ours, theirs, child))
    answers = [ours.recv() for ours, _, _ in pipes]
    for ours, theirs, child in pipes:
        child.join()
        child.close()
        ours.close()
        theirs.close()
    assert sorted(answers) == [[], [], [], [], [], ["0"]]


def test_a_run_keeps_the_gpu_when_its_engine_is_killed(tmp_path, local):
    """From the moment `submit` returns; and when its supervisor is killed too, until nothing of it is alive."""
    run_dir = make_run(tmp_path)

    def engine():
        lease = Leases(tmp_path / "a")
        took(lease, gpus=(A,))
        spec = toy_spec(run_dir, "slow", options=("--epoch-s", "5"))
        local.launcher.submit(run_dir, spec.model_copy(update={"holds": tuple(lease.files.values())}))
        os.kill(os.getpid(), signal.SIGKILL)

    child = FORK.Process(target=engine)
    child.start()
    child.join()
    child.close()
    wait_for((run_dir / "out" / "progress.jsonl").exists)
    with Leases(tmp_path / "b") as b, Leases(tmp_path / "a") as again:
        with pytest.raises(NeedsPersonError):
            took(b, gpus=(A,))
        (found,) = again.take((B, A), 1, False)
        assert found.name == "0"  # where its run is, and not the emptier one
        again.close()
        os.kill(folder.claim_pid(run_dir), signal.SIGKILL)
        wait_for(lambda: local.launcher.state(run_dir) == "vanished")
        assert took(b, gpus=(A,)) == ["0"]


def test_the_training_does_not_inherit_the_lease(tmp_path, local):
    """Only the supervisor and its guard have it open; a child that gets away must not hold a GPU for ever."""
    lease, run_dir = Leases(tmp_path / "a"), make_run(tmp_path)
    took(lease, gpus=(A,))
    spec = toy_spec(run_dir, "slow", options=("--epoch-s", "5"))
    local.launcher.submit(run_dir, spec.model_copy(update={"holds": tuple(lease.files.values())}))
    wait_for((run_dir / "out" / "toy.json").exists)
    pid = json.loads((run_dir / "out" / "toy.json").read_text())["pid"]
    assert lease.files["0"] not in {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()}
    lease.close()
    local.launcher.cancel(run_dir, hard=True)
    local.end(run_dir)


def test_a_run_whose_lease_cannot_be_held_runs_all_the_same(tmp_path, local):
    run_dir = make_run(tmp_path)
    (tmp_path / "link").symlink_to(make_run(tmp_path, "other") / "run.yaml")
    paths = (str(tmp_path / "link"), str(tmp_path / "gone"), str(tmp_path / "nul\0"))
    local.launcher.submit(run_dir, toy_spec(run_dir).model_copy(update={"holds": paths}))
    assert local.end(run_dir).returncode == 0
    log = (run_dir / "supervisor.log").read_text()
    assert log.count("is not held") == 3


# --- files that are not what they should be ---------------------------------------------------------------------------


def test_a_folder_that_is_a_link_is_refused(tmp_path, where):
    (tmp_path / "elsewhere").mkdir()
    where.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NeedsPersonError, match=f"{where}: expected a folder, no link"):
        took(Leases(tmp_path / "a"))
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_file_in_place_of_the_folder_is_refused(tmp_path, where):
    where.write_text("")
    with pytest.raises(NeedsPersonError, match=leases.VARIABLE):
        took(Leases(tmp_path / "a"))


def test_a_folder_where_anybody_may_remove_files_is_refused(tmp_path, where):
    where.mkdir()
    where.chmod(0o777)
    with pytest.raises(NeedsPersonError, match="mode 777"):
        took(Leases(tmp_path / "a"))


def own_file(tmp_path, where):
    with Leases(tmp_path / "a") as lease:
        took(lease, gpus=(A,))
    (file,) = where.iterdir()
    return file


@pytest.mark.parametrize("kind", ["symlink", "hard link", "pipe"])
def test_a_lease_file_that_is_not_ours_is_refused_and_what_it_points_at_is_not_written(tmp_path, where, kind):
    file, target = own_file(tmp_path, where), tmp_path / "precious"
    target.write_text("precious")
    file.unlink()
    {"symlink": lambda: file.symlink_to(target), "hard link": lambda: file.hardlink_to(target),
     "pipe": lambda: os.mkfifo(file)}[kind]()  # fmt: skip
    with Leases(tmp_path / "a") as lease:
        with pytest.raises(NeedsPersonError, match=str(file)):
            took(lease, gpus=(A,))
        assert lease.files == {} and lease._held == []
    assert target.read_text() == "precious"


@pytest.mark.parametrize("kind", ["symlink", "pipe", "folder"])
def test_what_cannot_be_looked_at_counts_as_taken(tmp_path, where, kind):
    file = own_file(tmp_path, where)
    file.unlink()
    {"symlink": lambda: file.symlink_to(tmp_path), "pipe": lambda: os.mkfifo(file), "folder": file.mkdir}[kind]()
    with Leases(tmp_path / "b") as lease:
        with pytest.raises(NeedsPersonError, match=f"{file} .*remove it"):
            took(lease, gpus=(A,))
        assert took(lease, gpus=(A,), share=True) == ["0"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"exploration": 1, "pid": "x"}', "\0\1\2" * 9999])
def test_whatever_the_holder_wrote_the_message_is_fit_for_a_terminal(tmp_path, where, content):
    with Leases(tmp_path / "a") as a, Leases(tmp_path / "b") as b:
        took(a, gpus=(A,))
        Path(a.files["0"]).write_text(content)
        with pytest.raises(NeedsPersonError) as refused:
            took(b, gpus=(A,))
        assert str(refused.value).replace("\n", "").isprintable()
        Path(a.files["0"]).write_text(json.dumps({"exploration": "\x1b[31m\nred", "pid": 1, "since": "now"}))
        with pytest.raises(NeedsPersonError, match=r"in \?\[31m\?red \(pid 1"):
            took(b, gpus=(A,))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become two other users")
def test_users_see_each_other_and_what_they_cannot_read_counts_as_taken(tmp_path, monkeypatch):
    with tempfile.TemporaryDirectory(dir="/tmp") as top:
        os.chmod(top, 0o755)
        where = Path(top, "leases")
        where.mkdir()
        where.chmod(0o1777)
        monkeypatch.setenv(leases.VARIABLE, str(where))

        def first():
            lease = Leases(Path(top, "a"))
            return took(lease, gpus=(A,)), took(lease, gpus=(B,))

        def second():
            return took(Leases(Path(top, "b")), gpus=(A,))

        assert in_a_process(first, user=65534) == (["0"], ["1"])
        assert in_a_process(second, user=12345) == ["0"]  # its process has ended
        with Leases(Path(top, "c")) as c:
            took(c, gpus=(A,))
            told = in_a_process(second, user=12345)
            assert isinstance(told, NeedsPersonError) and f"the exploration in {top}/c" in str(told)
        for file in where.iterdir():
            file.chmod(0o600)
        told = in_a_process(second, user=54321)
        assert isinstance(told, NeedsPersonError) and "cannot be read (Permission denied)" in str(told)


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_an_unreadable_file_counts_as_taken(tmp_path, where):
    own_file(tmp_path, where).chmod(0)
    with pytest.raises(NeedsPersonError, match="cannot be read"):
        took(Leases(tmp_path / "b"), gpus=(A,))


def test_somebody_who_locks_the_folder_for_ever_is_told_of(tmp_path, where, monkeypatch):
    import fcntl

    own_file(tmp_path, where)
    monkeypatch.setattr(leases, "PATIENCE_S", 0.1)
    descriptor = os.open(where, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(NeedsPersonError, match="another program has locked"):
            took(Leases(tmp_path / "b"))
    finally:
        os.close(descriptor)
