"""What a person gets for bad input: one clear message, an exit code, and nothing lost."""

import subprocess
import sys
import time

import pytest

from orchestrator.core.events import Alarm, RunEnded
from orchestrator.store import journal
from tests import toy


def bodies(home, kind):
    return [e.body for e in journal.read(toy.out(home) / "journal.jsonl") if isinstance(e.body, kind)]


def refused(home, told, *words, code=2):
    done = toy.run(home, "explore", "toy", "--iterations", "1", *words)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    for part in told if isinstance(told, list) else [told]:
        assert part in done.stderr, done.stderr


def test_unknown_exploration_lists_the_known(tmp_path):
    home = toy.make_home(tmp_path)
    done = toy.run(home, "explore", "tyo")
    assert done.returncode == 2 and "unknown exploration 'tyo'; known: toy" in done.stderr


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("  batch_size: 8\n", "  batch_size: [8\n", ["config.yaml:", "line "]),
        ("  batch_size: 8\n", "  batch_size: 8\n  batch_sise: 16\n", ["batch_sise", "batch_size"]),
        (
            "learning_rate_W_start: 3.0E-3",
            "learning_rate_W_start: 3.0",
            ["learning_rate_W_start", "config.yaml:9", "expected >= 0 and <= 1, found 3.0"],
        ),
        ("batch_size: 8", "batch_size: eight", ["batch_size", "int"]),
        ("ucb_c: 1.414", "ucb_c: 9", ["ucb_c"]),
        ("  n_iter_block: 12\n", "", ["n_iter_block"]),
    ],
)
def test_a_bad_config_names_the_key_and_what_is_valid(tmp_path, old, new, told):
    assert old in toy.CONFIG
    home = toy.make_home(tmp_path, config=toy.CONFIG.replace(old, new))
    refused(home, told)
    assert not toy.out(home).exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# range: 1E-4 to 1E-2", "# range: small to large"),
        ("# range: 1E-4 to 1E-2", "# range: 1E-4 to"),
        ("# range: 1E-4 to 1E-2", "# range: 1E-2 to 1E-4"),
        ("connectivity_R2 > 0.9", "connectivity_R2 is high"),
    ],
)
def test_an_instruction_that_cannot_be_read_with_certainty_stops_and_names_its_line(tmp_path, old, new):
    home = toy.make_home(tmp_path, instruction=toy.INSTRUCTION.replace(old, new))
    line = next(i for i, text in enumerate(toy.INSTRUCTION.splitlines(), start=1) if old in text)
    refused(home, f"instructions/toy.md:{line}")


def test_files_that_are_no_text_files_are_named(tmp_path):
    home = toy.make_home(tmp_path)
    path = home / "explorations" / "toy" / "config.yaml"
    path.unlink()
    refused(home, "config.yaml: expected a file that can be read")
    path.mkdir()
    refused(home, "config.yaml: expected a file that can be read")
    path.rmdir()
    path.write_bytes(b"a: \xff\n")
    refused(home, "config.yaml: expected UTF-8 text, found byte 0xff at 3")


def test_yaml_1_2_numbers_are_numbers(tmp_path):
    home = toy.make_home(tmp_path)
    assert "learning_rate_start: 1e-4\n" in toy.CONFIG
    assert toy.run(home, "explore", "toy", "--iterations", "1").returncode == 0
    assert "lr=1E-4" in (toy.out(home) / "analysis.md").read_text()


def test_a_folder_that_cannot_be_written(tmp_path):
    home = toy.make_home(tmp_path)
    (tmp_path / "file").write_text("not a folder")
    refused(home, ["cannot write", "ROOT="], "--root", str(tmp_path / "file"))
    if sys.platform == "linux":
        refused(home, ["cannot write", "ROOT="], "--root", "/sys/kernel")  # read-only for everybody, root too


def test_a_full_disk_stops_with_a_sentence_and_goes_on_when_there_is_room(tmp_path):
    home = toy.make_home(tmp_path)
    code = (
        "import errno, sys\n"
        "from orchestrator import cli\n"
        "from orchestrator.store.journal import Journal\n"
        "append = Journal.append\n"
        "def full(self, body):\n"
        "    if len(self.events) == 8:\n"
        "        raise OSError(errno.ENOSPC, 'No space left on device', str(self.path))\n"
        "    return append(self, body)\n"
        "Journal.append = full\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    words = [sys.executable, "-c", code, "--home", str(home), "explore", "toy", "--iterations", "3"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=40, env=toy.environment(), check=False)
    assert done.returncode == 3 and "the disk is full" in done.stderr and "what is finished is kept" in done.stderr
    assert toy.run(home, "explore", "toy", "--iterations", "3").returncode == 0
    assert len({e.iteration for e in bodies(home, RunEnded) if e.outcome == "ok"}) == 3


def test_a_second_engine_is_refused_and_the_first_goes_on(tmp_path):
    home = toy.make_home(tmp_path, "--epochs", "80", "--epoch-s", "0.1")
    first = toy.start(home, "explore", "toy", "--iterations", "1")
    try:
        toy.wait_for(lambda: (toy.out(home) / "runs" / "0001-1" / "claim").exists())
        refused(home, "another engine (pid", code=3)
        status = toy.run(home, "status", "toy")
        assert status.returncode == 0 and "in flight: iter 1" in status.stdout
    finally:
        output, _ = first.communicate(timeout=40)
    assert first.returncode == 0, output


FAULTS = {
    "nan": ("diverged", "NaN"),
    "exit1": ("crashed", "exit code 1"),
    "import_error": ("crashed", "ModuleNotFoundError"),
    "flood": ("crashed", "it printed more than stdout.log may hold"),
    "hang": ("timed_out", "no new byte in out/progress.jsonl or stdout.log for 1 s"),
    "oom": ("out_of_memory", "memory"),
    "no_result": ("rejected", "result.json cannot be read"),
    "nothing": ("rejected", "analysis.log cannot be read"),
    "torn_result": ("rejected", "result.json cannot be read"),
    "missing_metric": ("rejected", "no connectivity_R2 among the metrics"),
    "disagree": ("rejected", "in analysis.log and"),
    "score_exit1": ("crashed", "score ended with exit code 1"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failed_run_is_a_node_with_its_reason_and_the_night_goes_on(tmp_path, fault):
    faults = "2=oom" if fault == "oom" else f"2={fault}"
    home = toy.make_home(
        tmp_path, "--faults", faults, exploration=toy.EXPLORATION.replace("silence_s: 4", "silence_s: 1")
    )
    done = toy.run(home, "explore", "toy", "--iterations", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    outcome, told = FAULTS[fault]
    ends = bodies(home, RunEnded)
    failed = [e for e in ends if e.iteration == 2]
    assert {e.outcome for e in failed} == {outcome} and told in failed[-1].sentence, failed[-1].sentence
    assert len(failed) == (2 if outcome == "out_of_memory" else 1)
    assert [e.outcome for e in ends if e.iteration != 2] == ["ok", "ok"]
    assert f"Outcome: {outcome}" in (toy.out(home) / "analysis.md").read_text()
    assert (
        f"Node 2: UCB=none, parent=1, visits=1, R2=none ({outcome})" in (toy.out(home) / "ucb_scores.txt").read_text()
    )
    assert (toy.out(home) / "runs" / "0002-1" / "stdout.log").stat().st_size < 20 * 2**20


@pytest.mark.parametrize(
    ("fault", "entry", "score"),
    [
        ("negative", "connectivity_R2=-0.5200", "R2=-0.520"),
        ("inf", "connectivity_R2=N/A (inf)", "R2=none (inf)"),
        ("nan_metric", "connectivity_R2=N/A (nan)", "R2=none (nan)"),
        ("na", "connectivity_R2=N/A (no neuron was active)", "R2=none (no neuron was active)"),
        ("tiny", "connectivity_R2=9.8000e-05", "R2=0.000"),
    ],
)
def test_unusual_metrics_have_their_own_outcome(tmp_path, fault, entry, score):
    home = toy.make_home(tmp_path, "--faults", f"1={fault}")
    done = toy.run(home, "explore", "toy", "--iterations", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert entry in (toy.out(home) / "analysis.md").read_text()
    assert score in (toy.out(home) / "ucb_scores.txt").read_text()


def test_the_same_crash_three_times_stops_with_its_cause_and_goes_on_when_mended(tmp_path):
    home = toy.make_home(tmp_path, "--faults", "2=import_error 3=import_error 4=import_error")
    done = toy.run(home, "explore", "toy", "--iterations", "6")
    assert done.returncode == 3
    assert "iterations 2, 3, 4 over different configs ended alike" in done.stdout
    assert "ModuleNotFoundError" in done.stdout
    assert len(bodies(home, Alarm)) == 1
    again = toy.run(home, "explore", "toy", "--iterations", "6")
    assert again.returncode == 0, again.stdout + again.stderr
    assert [e.iteration for e in bodies(home, RunEnded)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("preflight", "told"),
    [
        ({"oracle": {"connectivity_R2": 0.49}}, "the true parameters score 0.49 on connectivity_R2 instead of 1"),
        ({"guard": {"ok": False, "sentence": "du/dt does not follow from W"}}, "du/dt does not follow from W"),
        ({"ok": False, "reason": "the activity is constant"}, "the activity is constant"),
    ],
)
def test_a_regime_that_fails_its_preflight_is_not_explored(tmp_path, preflight, told):
    home = toy.make_home(tmp_path, preflight=preflight)
    done = toy.run(home, "explore", "toy", "--iterations", "2")
    assert done.returncode == 3 and told in done.stdout
    assert not bodies(home, RunEnded)


def test_a_journal_with_a_torn_last_line_goes_on(tmp_path):
    home = toy.make_home(tmp_path)
    assert toy.run(home, "explore", "toy", "--iterations", "2").returncode == 0
    path = toy.out(home) / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    assert toy.run(home, "explore", "toy", "--iterations", "2").returncode == 0
    assert len({e.iteration for e in bodies(home, RunEnded)}) == 2
    path.write_bytes(whole.replace(b'"turn"', b'"trun"', 1))
    done = toy.run(home, "explore", "toy", "--iterations", "3")
    assert done.returncode == 3 and "line " in done.stderr and "not a journal event" in done.stderr


def test_a_contract_edited_after_sealing_is_refused(tmp_path):
    home = toy.make_home(tmp_path)
    assert toy.run(home, "explore", "toy", "--iterations", "1").returncode == 0
    path = toy.out(home) / "contract.yaml"
    before = path.read_bytes()
    path.write_text(path.read_text().replace("ucb_c: 1.414", "ucb_c: 2.0"))
    refused(home, "was changed after it was sealed", code=3)
    path.unlink()
    assert toy.run(home, "explore", "toy", "--iterations", "2").returncode == 0
    assert path.read_bytes() == before


def test_interrupt_stops_cleanly_with_a_checkpoint_and_resume_continues(tmp_path):
    import signal

    home = toy.make_home(tmp_path, "--epochs", "30", "--epoch-s", "0.1")
    engine = toy.start(home, "explore", "toy", "--iterations", "1")
    toy.wait_for(lambda: list((toy.out(home) / "runs").glob("0001-1/out/checkpoint.*")))
    engine.send_signal(signal.SIGINT)
    output, _ = engine.communicate(timeout=20)
    assert engine.returncode == 130, output
    toy.wait_for(lambda: not toy.processes_of(home))
    (ended,) = bodies(home, RunEnded)
    assert ended.outcome == "killed" and ended.lost
    started = time.monotonic()
    assert toy.run(home, "resume", "toy").returncode == 0
    assert time.monotonic() - started < 20
    assert [e.outcome for e in bodies(home, RunEnded)] == ["killed", "ok"]
