"""What is made of nvidia-smi's answer, by a real program that gives all kinds of them."""

import subprocess

import pytest

from orchestrator.engine import devices
from orchestrator.ports import Gpu
from tests import toy
from tests.gpus import ROWS, fake

MIB = 2**20
FIRST = Gpu(name="0", uuid="GPU-aaaaaaaa-0001", total_bytes=24576 * MIB, free_bytes=24000 * MIB)
SECOND = Gpu(name="1", uuid="GPU-bbbbbbbb-0002", total_bytes=24576 * MIB, free_bytes=23000 * MIB)
MIG = "MIG-cccccccc-0003"


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """Return a function that puts an nvidia-smi in place; CUDA_VISIBLE_DEVICES is not set."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return lambda *rows, script="": monkeypatch.setenv("PATH", fake(tmp_path / "bin", *rows, script=script))


def test_all_gpus_with_their_memory(smi):
    smi(*ROWS)
    assert devices.gpus() == [FIRST, SECOND]
    assert devices.device_kind() == "cuda"


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        ("", []),
        ("1", [SECOND]),
        ("1,0", [SECOND, FIRST]),
        (" 0 , 1 ", [FIRST, SECOND]),
        ("GPU-bbbbbbbb-0002,GPU-aaaa", [SECOND, FIRST]),
        ("0,GPU-aaaaaaaa-0001", [FIRST]),
        ("7", []),
        ("-1", []),
        ("0,-1,1", [FIRST]),
        ("NoDevFiles", []),
        (MIG, [Gpu(name=MIG, uuid=MIG)]),
        (f"{MIG},1", [Gpu(name=MIG, uuid=MIG), SECOND]),
    ],
)
def test_cuda_visible_devices_is_honoured(smi, monkeypatch, visible, found):
    smi(*ROWS)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices.gpus() == found
    assert devices.device_kind() == ("cuda" if found else "cpu")


def test_a_uuid_is_used_under_the_name_that_children_get(smi, monkeypatch):
    """Whatever name was given, one GPU has one name, so that runs of two sessions count as beside each other."""
    smi(*ROWS)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-bbbb")
    assert [gpu.name for gpu in devices.gpus()] == ["1"]


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        (("No devices were found",), []),
        (("",), []),
        (("0, GPU-aaaaaaaa-0001, [N/A], [N/A]",), [Gpu(name="0", uuid="GPU-aaaaaaaa-0001")]),
        (("0, [N/A], 10, [Not Supported]",), [Gpu(name="0", uuid="index-0", total_bytes=10 * MIB)]),
        (("warning: infoROM is corrupted", ROWS[1]), [SECOND]),
        (("0", "x, GPU-a, 1, 1", "0, GPU-a, 1"), []),
    ],
)
def test_odd_answers(smi, rows, found):
    smi(*rows)
    assert devices.gpus() == found


@pytest.mark.parametrize(
    "script", ["import os; os.write(1, bytes(range(256)) * 99)", "raise SystemExit(9)", "import os; os.abort()"]
)
def test_a_program_that_fails_is_a_machine_without_gpus(smi, script):
    smi(script=script)
    assert devices.gpus() == []


def test_no_program_or_one_that_cannot_run(smi, tmp_path, monkeypatch):
    smi(*ROWS)
    (tmp_path / "bin" / "nvidia-smi").write_text("#!/no/such/interpreter\n")
    assert devices.gpus() == []
    monkeypatch.setenv("PATH", str(tmp_path))
    assert devices.gpus() == []


def test_a_program_that_hangs_is_killed_with_what_it_started(smi, tmp_path, monkeypatch):
    name = str(tmp_path / "stays")
    smi(
        script="import subprocess, sys\n"
        f"subprocess.run([sys.executable, '-c', 'import time; time.sleep(99)', {name!r}])"
    )
    monkeypatch.setattr(devices, "PATIENCE_S", 1.0)
    assert devices.gpus() == []
    toy.wait_for(lambda: not toy.processes_of(name), 5.0)


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_a_program_that_cannot_be_killed_is_left_behind(smi, monkeypatch):
    """As in the kernel's uninterruptible sleep, for which a deaf process group stands here."""
    smi(script="import time; time.sleep(2)")
    monkeypatch.setattr(devices, "PATIENCE_S", 0.2)
    monkeypatch.setattr(devices.os, "killpg", lambda pid, number: None)
    assert devices.gpus() == []
    toy.wait_for(lambda: subprocess._cleanup() or not subprocess._active)
