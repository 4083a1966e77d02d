"""What the journal takes over from a result that a foreign program may have written."""

import hashlib
import json

import pytest

from orchestrator.engine import evaluate, opening
from orchestrator.paths import RunPaths
from orchestrator.ports import ExitRecord
from tests import toy

DONE = ExitRecord(step="score", returncode=0)


@pytest.mark.parametrize(
    ("stated", "taken"),
    [(None, None), (0, 0), (2**50 - 1, 2**50 - 1), (2**50, None), (-1, None), (True, None), (1.0, None), ("1", None)],
)
def test_a_peak_memory_is_a_number_of_bytes_or_not_known(tmp_path, stated, taken):
    setup = opening.load(toy.make_home(tmp_path), "toy", opening.Wishes(profile="cpu"))
    run = RunPaths(tmp_path / "runs" / "0001-1")
    run.root.mkdir(parents=True)
    log = b"connectivity_R2: 0.5\n"
    run.analysis_log.write_bytes(log)
    metrics = {"connectivity_R2": {"value": 0.5, "reason": None, "version": 1}}
    result = {"metrics": metrics, "memory_bytes": stated, "analysis_log_sha256": hashlib.sha256(log).hexdigest()}
    run.result.write_text(json.dumps(result))
    found = evaluate.judge(setup, run, DONE)
    assert (found.outcome, found.memory_bytes) == ("ok", taken)
