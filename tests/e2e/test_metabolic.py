"""The whole service on the two metabolic systems, small: what people find, and what a training cannot reach."""

import json

import pytest

from orchestrator.launch import sandbox
from tests import real

pytestmark = pytest.mark.science
CEILINGS = {
    "metabolism_homeostasis": "rate_constants_R2",
    "metabolism_stoichiometry": "stoichiometry_R2",
}


@pytest.fixture(scope="module", params=sorted(real.METABOLIC))
def explored(request, tmp_path_factory):
    """A home after one iteration of an exploration."""
    home = real.make_metabolic(tmp_path_factory.mktemp(request.param), request.param)
    done = real.run(home, "explore", request.param, "--iterations", "1", timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return home, request.param


def test_the_preflight_stands_in_the_memory_and_in_every_log(explored):
    home, name = explored
    (file,) = (real.out(home) / "data").glob("*/preflight.json")
    preflight = json.loads(file.read_text())
    assert preflight["ok"]
    memory = (real.out(home) / "memory.md").read_text()
    head = memory[: memory.index("## Knowledge Base")]
    primary = "joint_score" if name == "metabolism_homeostasis" else "stoichiometry_R2"
    for side in ("oracle (true parameters)", "null (untrained)", "ceiling (data-limited)"):
        value = preflight[side.split()[0]][primary]
        assert f"- {side}: {primary} {value:.4g}" in head, head
    assert preflight["oracle"][primary] > 0.99
    log = (real.out(home) / "runs" / "0001-1" / "analysis.log").read_text()
    assert CEILINGS[name] in log and "ceiling" in log


@pytest.mark.parametrize("level", ["bwrap", "landlock"])
def test_training_cannot_open_the_truth(explored, tmp_path, level):
    if why := sandbox.why_not(level):
        pytest.skip(f"{level} does not work on this machine: {why}")
    said = real.probe(explored[0], tmp_path / "probe", level)
    assert "FOUND []" in said and "KEYS []" in said, said
    assert "IMPORTED" not in said, said


def test_the_probe_would_tell(explored, tmp_path):
    """Without a sandbox it opens the truth: the test above can fail."""
    assert "S.npy" in real.probe(explored[0], tmp_path / "probe", "none").split("FOUND")[1]
