"""Prepared patches at a start: what the code at the opening does not take is said, with the reason."""

import pytest

from orchestrator.core.contract import Scope
from orchestrator.engine import prepared
from orchestrator.errors import InstructionError
from orchestrator.formats.code_permission import read_patch
from orchestrator.vcs import git
from tests import code_toy
from tests.factory import contract

SCOPES = (Scope(path="trainers/signal.py", function="data_train_signal", permission="ONLY"),)


def notes(folder, **texts):
    (folder / "source" / "trainers").mkdir(parents=True)
    (folder / "source" / "models").mkdir()
    (folder / "source" / "trainers" / "signal.py").write_text(code_toy.SIGNAL)
    (folder / "out").mkdir()
    _, tree = git.commit_code(folder / "out", folder / "source", "exploration/toy", "code in use")
    patches = tuple(read_patch(name, text) for name, text in texts.items())
    made = contract(code="on", unsandboxed=True, scopes=SCOPES, patches=patches)
    return list(prepared.notes(folder / "out", made, tree))


def test_a_patch_that_the_code_does_not_take_is_named_with_its_reason(tmp_path):
    elsewhere = code_toy.BETTER.replace("for epoch in range", "for other in range")
    found = notes(tmp_path, good=code_toy.BETTER, stale=elsewhere, outside=code_toy.OUTSIDE)
    assert len(found) == 2 and all("\n" not in line for line in found)
    assert found[0].startswith("note: stale is passed over") and "does not apply" in found[0]
    assert found[1].startswith("note: outside is passed over") and "SCALE = 2.0" in found[1]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (code_toy.BETTER.partition("\n\n")[2], "expected a header line `Change: <one line>`"),
        ("Change: a\nHypothesis: b\n", "expected a unified diff"),
        ("", "expected a unified diff"),
    ],
)
def test_a_file_that_is_no_patch_says_what_it_lacks(text, told):
    with pytest.raises(InstructionError, match=told):
        read_patch("01.patch", text)
