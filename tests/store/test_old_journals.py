"""A journal of every version stays readable: its seal holds, it folds, and its views are rendered."""

from pathlib import Path

import pytest

from orchestrator.engine.sealing import sealed_contract, state_of
from orchestrator.formats import analysis, memory, ucb_scores
from orchestrator.paths import Paths

JOURNALS = sorted((Path(__file__).parents[1] / "golden" / "journals").glob("*.jsonl"))


@pytest.mark.parametrize("journal", JOURNALS, ids=lambda p: p.stem)
def test_an_old_journal_is_read(tmp_path, journal):
    paths = Paths(source=tmp_path, out=tmp_path)
    paths.journal.write_bytes(journal.read_bytes())
    assert sealed_contract(paths).primary.name == "connectivity_R2"
    state = state_of(paths)
    assert len(state.done) == state.last_iteration == 4 and state.block == 2 and state.closing is None
    assert "## Iter 4:" in analysis.render(state) and "Current Block (Block 2)" in memory.render(state)
    assert "Node 4" in ucb_scores.render(state, 2)


def test_there_is_one():
    assert JOURNALS
