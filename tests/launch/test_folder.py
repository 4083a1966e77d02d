"""Reading a run folder: states, and files that somebody untrusted wrote."""

import os
import socket

import pytest

from orchestrator.launch import folder
from orchestrator.launch.folder import UntrustedFileError, read_file, run_state, tail
from orchestrator.ports import ExitRecord

from .conftest import make_run

RECORD = ExitRecord(step="train", returncode=0)


def test_states_without_processes(tmp_path):
    run_dir = make_run(tmp_path)
    assert run_state(run_dir) == "unclaimed"
    (run_dir / "lock").touch()
    assert run_state(run_dir) == "unclaimed"
    (run_dir / "claim").write_text("supervisor 123456789\n")
    assert run_state(run_dir) == "vanished"
    folder.write_record(run_dir / "exit.json", RECORD)
    assert run_state(run_dir) == "ended"
    assert folder.exit_record(run_dir) == RECORD


def test_a_claim_whose_writer_died_counts_as_vanished(tmp_path):
    run_dir = make_run(tmp_path)
    (run_dir / "claim").touch()
    assert run_state(run_dir) == "vanished"
    assert not folder.revoke(run_dir)
    assert folder.claim_pid(run_dir) is None


def test_a_folder_that_is_not_there(tmp_path):
    assert run_state(tmp_path / "none") == "unclaimed"
    assert folder.exit_record(tmp_path / "none") is None
    with pytest.raises(FileNotFoundError):
        folder.revoke(tmp_path / "none")


def test_read_file_takes_a_regular_file_up_to_its_limit(odd_path):
    run_dir = make_run(odd_path)
    (run_dir / "out" / "a.json").write_bytes(b"12345")
    assert read_file(run_dir / "out" / "a.json", 5) == b"12345"
    with pytest.raises(UntrustedFileError, match="at most 4 bytes"):
        read_file(run_dir / "out" / "a.json", 4)
    with pytest.raises(FileNotFoundError):
        read_file(run_dir / "out" / "b.json", 4)


def plant(kind, out, truth):
    """Make `out/planted` something that must not be read; return its path."""
    path = out / "planted"
    if kind == "link":
        path.symlink_to(truth)
    elif kind == "dangling link":
        path.symlink_to(out / "nothing")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            here = os.getcwd()
            os.chdir(out)
            try:
                server.bind("planted")
            finally:
                os.chdir(here)
    elif kind == "linked folder":
        path.symlink_to(truth.parent)
        return path / truth.name
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    return path


@pytest.mark.parametrize("kind", ["link", "dangling link", "fifo", "folder", "socket", "linked folder", "endless"])
def test_read_file_refuses(tmp_path, kind):
    run_dir = make_run(tmp_path)
    truth = tmp_path / "truth" / "W.npy"
    truth.parent.mkdir()
    truth.write_text("secret")
    path = plant(kind, run_dir / "out", truth)
    with pytest.raises(UntrustedFileError, match="planted"):
        read_file(path, 1000)
    with pytest.raises(UntrustedFileError, match="planted"):
        read_file(path, 1000, root=run_dir)


def test_read_file_refuses_a_link_far_above(tmp_path):
    run_dir = make_run(tmp_path)
    (tmp_path / "truth" / "deep").mkdir(parents=True)
    (tmp_path / "truth" / "deep" / "W").write_text("secret")
    (run_dir / "out" / "a").symlink_to(tmp_path / "truth")
    with pytest.raises(UntrustedFileError):
        read_file(run_dir / "out" / "a" / "deep" / "W", 100, root=run_dir)


def test_read_file_refuses_to_go_up(tmp_path):
    run_dir = make_run(tmp_path)
    with pytest.raises(UntrustedFileError, match="goes up"):
        read_file(run_dir / "out" / ".." / "run.yaml", 10**6, root=run_dir)


def test_tail(tmp_path):
    (tmp_path / "log").write_bytes(b"abc\xff" * 10)
    assert tail(tmp_path / "log", 4) == "abc\N{REPLACEMENT CHARACTER}"
    assert len(tail(tmp_path / "log")) == 40
    assert tail(tmp_path / "none") == ""
