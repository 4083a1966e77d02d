"""What every launcher promises. Local starts real supervisors and toy children; scripted only writes files."""

import json

import pytest

from orchestrator.launch import folder
from orchestrator.paths import RunPaths
from orchestrator.ports import LaunchSpec
from tests.toy import wait_for

from .conftest import Bench, make_run, read_json, toy_spec


def test_a_run_ends_well(bench, tmp_path):
    run_dir = make_run(tmp_path)
    assert bench.launcher.state(run_dir) == "unclaimed"
    assert bench.launcher.exit_record(run_dir) is None
    record = bench.run(run_dir)
    assert (record.step, record.returncode, record.reason) == ("score", 0, None)
    assert set(record.seconds) == {"train", "score"}
    assert record.sentence
    result = read_json(run_dir / "result.json")
    assert result["metrics"]["connectivity_R2"]["value"] > 0.9
    assert "connectivity_R2" in (run_dir / "analysis.log").read_text()
    assert LaunchSpec.model_validate_json((run_dir / "launch.json").read_text()) == toy_spec(run_dir)


def test_odd_paths(bench, odd_path):
    record = bench.run(make_run(odd_path, '0003-1 it\'s "odd"\nand two lines'))
    assert (record.step, record.returncode) == ("score", 0)


@pytest.mark.parametrize(
    "fault, step, code",
    [("exit1", "train", 1), ("import_error", "train", 1), ("nan", "train", 10), ("score_exit1", "score", 1)],
)
def test_a_failing_step_is_the_last(bench, tmp_path, fault, step, code):
    run_dir = make_run(tmp_path)
    record = bench.run(run_dir, fault)
    assert (record.step, record.returncode, record.reason) == (step, code, None)
    assert not (run_dir / "result.json").exists()
    if fault == "import_error":
        assert "ModuleNotFoundError" in folder.tail(run_dir / "stdout.log")
    if fault == "nan":
        assert read_json(run_dir / "out" / "failure.json")["kind"] == "diverged"


@pytest.mark.parametrize(
    "fault, reason, limits",
    [
        ("slow", "wall", {"wall_s": 0.4, "options": ("--epoch-s", "5")}),
        ("hang", "silence", {"silence_s": 0.4}),
        ("flood", "output", {}),
    ],
)
def test_limits(bench, tmp_path, fault, reason, limits):
    run_dir = make_run(tmp_path)
    record = bench.run(run_dir, fault, **limits)
    assert (record.step, record.reason) == ("train", reason)
    assert record.returncode != 0
    assert not (run_dir / "result.json").exists()


@pytest.mark.parametrize("hard", [False, True])
def test_cancel(bench, tmp_path, hard):
    run_dir = make_run(tmp_path)
    bench.submit(run_dir, "until_cancelled", options=("--epoch-s", "5"))
    if bench.kind == "local":
        wait_for((run_dir / "out" / "progress.jsonl").exists)
    assert bench.launcher.state(run_dir) == "running"
    bench.launcher.cancel(run_dir, hard=hard)
    record = bench.end(run_dir)
    assert (record.step, record.returncode, record.reason) == ("train", -9 if hard else 12, "cancelled")


def test_cancel_of_what_does_not_run_does_nothing(bench, tmp_path):
    run_dir = make_run(tmp_path)
    bench.launcher.cancel(run_dir)
    assert bench.launcher.state(run_dir) == "unclaimed"
    record = bench.run(run_dir)
    bench.launcher.cancel(run_dir)
    bench.launcher.cancel(run_dir, hard=True)
    assert bench.launcher.exit_record(run_dir) == record


def test_double_submit_is_an_error(bench, tmp_path):
    run_dir = make_run(tmp_path)
    bench.submit(run_dir, "until_cancelled")
    launch = (run_dir / "launch.json").read_text()
    with pytest.raises(FileExistsError, match="claimed"):
        bench.submit(run_dir, "exit1")
    assert (run_dir / "launch.json").read_text() == launch
    assert bench.launcher.state(run_dir) == "running"
    bench.launcher.cancel(run_dir, hard=True)
    bench.end(run_dir)
    with pytest.raises(FileExistsError, match="claimed"):
        bench.submit(run_dir)


def test_revoke_before_claim(bench, tmp_path):
    run_dir = make_run(tmp_path)
    assert bench.launcher.revoke(run_dir)
    assert bench.launcher.state(run_dir) == "revoked"
    assert not bench.launcher.revoke(run_dir)
    with pytest.raises(FileExistsError, match="revoked"):
        bench.submit(run_dir)
    assert bench.launcher.state(run_dir) == "revoked"


def test_revoke_after_claim(bench, tmp_path):
    run_dir = make_run(tmp_path)
    bench.submit(run_dir, "until_cancelled")
    assert not bench.launcher.revoke(run_dir)
    assert bench.launcher.state(run_dir) == "running"
    bench.launcher.cancel(run_dir, hard=True)
    bench.end(run_dir)
    assert not bench.launcher.revoke(run_dir)


def test_any_launcher_adopts_any_folder(bench, tmp_path):
    run_dir = make_run(tmp_path)
    bench.submit(run_dir, "until_cancelled")
    other = bench.another()
    assert other.state(run_dir) == "running"
    bench.launcher.cancel(run_dir, hard=True)
    wait_for(lambda: other.state(run_dir) == "ended")
    assert other.exit_record(run_dir).reason == "cancelled"


def test_a_killed_child_is_an_end(bench, tmp_path):
    run_dir = make_run(tmp_path)
    bench.submit(run_dir, "until_killed", options=("--epoch-s", "5"))
    bench.kill(run_dir, "child")
    record = bench.end(run_dir)
    assert (record.step, record.returncode, record.reason) == ("train", -9, None)


def test_a_killed_supervisor_leaves_a_vanished_run(bench, tmp_path):
    run_dir = make_run(tmp_path)
    bench.submit(run_dir, "until_killed", options=("--epoch-s", "5"))
    bench.kill(run_dir, "supervisor")
    wait_for(lambda: bench.launcher.state(run_dir) == "vanished")
    assert bench.launcher.exit_record(run_dir) is None
    assert not bench.launcher.revoke(run_dir)  # it had been claimed
    bench.launcher.cancel(run_dir, hard=True)  # nothing is there to be stopped
    assert bench.launcher.state(run_dir) == "vanished"


def test_two_runs_at_once(bench, tmp_path):
    first, second = make_run(tmp_path, "0001-1"), make_run(tmp_path, "0002-1")
    bench.submit(first, "until_cancelled")
    bench.submit(second, "ok")
    assert bench.end(second).returncode == 0
    assert bench.launcher.state(first) == "running"
    bench.launcher.cancel(first, hard=True)
    assert bench.end(first).reason == "cancelled"


def test_two_runs_on_two_devices(bench, tmp_path):
    """Each run has the device of its own order, and both are under way together."""
    found = {name: make_run(tmp_path, f"000{name}-1") for name in ("1", "0")}
    for name, run_dir in found.items():
        bench.submit(run_dir, "until_cancelled", device=name, options=("--epoch-s", "5"))
    if bench.kind == "local":
        wait_for(lambda: all((run_dir / "out" / "progress.jsonl").exists() for run_dir in found.values()))
        assert {name: (run_dir / "out" / "device.txt").read_text() for name, run_dir in found.items()} == {
            name: name for name in found
        }
    for name, run_dir in found.items():
        assert bench.launcher.state(run_dir) == "running"
        launch = LaunchSpec.model_validate_json((run_dir / "launch.json").read_text())
        assert launch.steps[0].env["CUDA_VISIBLE_DEVICES"] == name
        bench.launcher.cancel(run_dir, hard=True)
        assert bench.end(run_dir).reason == "cancelled"


def test_an_unreadable_exit_record_is_none(bench, tmp_path):
    run_dir = make_run(tmp_path)
    RunPaths(run_dir).exit.write_text(json.dumps({"contract": 2}))
    assert bench.launcher.exit_record(run_dir) is None


def test_files_by_script(tmp_path):
    """What a real run writes when it goes wrong in its own way, a scripted one can leave too."""
    scripted = Bench("scripted")
    run_dir = make_run(tmp_path, "inf")
    scripted.run(run_dir, "inf")
    assert read_json(run_dir / "result.json")["metrics"]["connectivity_R2"]["reason"] == "inf"
    assert "connectivity_R2: inf" in (run_dir / "analysis.log").read_text()
    run_dir = make_run(tmp_path, "none")
    scripted.run(run_dir, "no_result")
    assert not (run_dir / "result.json").exists()
    run_dir = make_run(tmp_path, "gone")
    scripted.submit(run_dir, "until_cancelled")
    scripted.launcher.vanish(run_dir)
    assert scripted.launcher.state(run_dir) == "vanished"


def test_the_local_launcher_never_signals_this_process(tmp_path):
    """A scripted run is held by the engine's own process; a local launcher that adopts its folder leaves it alone."""
    scripted, run_dir = Bench("scripted"), make_run(tmp_path)
    scripted.submit(run_dir, "until_cancelled")
    Bench("local").launcher.cancel(run_dir, hard=True)
    assert scripted.launcher.state(run_dir) == "running"
    scripted.launcher.cancel(run_dir)
    assert scripted.launcher.state(run_dir) == "ended"
