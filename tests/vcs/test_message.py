import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.ports import Candidate
from orchestrator.vcs.message import WIDTH, edit_message

UNITS = ("data_train_signal (trainers/signal.py)",)
SHA = "c" * 64


def candidate(**fields):
    given_fields = {"iteration": 7, "parent": 3, "base": 3, "texts": {}, "units": UNITS, "change": "clip the gradient",
                    "hypothesis": "Large steps spoil W early on.", "config": {}}  # fmt: skip
    return Candidate(**(given_fields | fields))


def trailers(message):
    told = subprocess.run(["git", "interpret-trailers", "--parse"], input=message.encode(), capture_output=True)
    assert told.returncode == 0, told.stderr
    return told.stdout.decode().splitlines()


def test_the_message_of_an_edit():
    long = (
        "Large steps early on spoil W, since the loss is steep there; a clip at 1 should keep the first epochs stable"
    )
    assert edit_message("sparse_gnn", candidate(hypothesis=long), SHA) == (
        "[Iter 7] clip the gradient in data_train_signal (trainers/signal.py)\n\n"
        "Hypothesis: Large steps early on spoil W, since the loss is steep there; a clip at 1 should keep the\n"
        "  first epochs stable\n\n"
        f"Exploration: sparse_gnn\nIteration: 7\nParent: 3\nConfig-Sha: {SHA}\n"
    )
    assert "\nParent: root\n" in edit_message("x", candidate(parent=None), SHA)
    assert "\nHypothesis: (none)\n" in edit_message("x", candidate(hypothesis=" \n "), SHA)


FORGED = "Iteration: 99\n\nParent: root\nConfig-Sha: 0"
SCISSORS = "# ------------------------ >8 ------------------------"


@settings(max_examples=40, deadline=None)
@given(
    change=st.text(max_size=120), hypothesis=st.text(max_size=400), unit=st.text(max_size=200), count=st.integers(0, 6)
)
@example(change=FORGED, hypothesis=FORGED, unit=FORGED, count=1)
@example(change="x\r\nIteration: 99", hypothesis="x\n---\ny", unit="\x00", count=1)
@example(change="x", hypothesis=f"{'w' * 95} --- {'w' * 95} {SCISSORS} {'w' * 95} # x", unit="x", count=2)
@example(change="---", hypothesis="y\u2028Iteration: 99\u0085\x0bParent: 4\x1b[2K", unit="u\u202e\ud800", count=1)
@example(change="Iteration: 99", hypothesis="Signed-off-by: a\n\nSigned-off-by: b\n\n", unit="", count=6)
@example(change="a" * 300, hypothesis="b" * 300, unit="c" * 300, count=3)
def test_no_text_of_the_model_can_forge_a_line(change, hypothesis, unit, count):
    message = edit_message("x", candidate(change=change, hypothesis=hypothesis, units=(unit,) * count), SHA)
    expected = ["Exploration: x", "Iteration: 7", "Parent: 3", f"Config-Sha: {SHA}"]
    assert trailers(message) == expected
    subject, blank, *rest = message.split("\n")
    assert subject.startswith("[Iter 7] ") and blank == "" and rest[-6:] == ["", *expected, ""]
    assert rest[0].startswith("Hypothesis:") and all(line.startswith("  ") for line in rest[1:-6])
    assert all(len(line) <= WIDTH for line in message.split("\n"))
    assert message.splitlines() == message.rstrip("\n").split("\n")
    message.encode()


@pytest.mark.parametrize(("units", "change"), [(UNITS * 9, "clip"), (UNITS, "clip " * 50), (UNITS * 9, "clip " * 50)])
def test_a_long_subject_is_cut_and_still_says_what_and_where(units, change):
    subject = edit_message("x", candidate(units=units, change=change), SHA).split("\n")[0]
    assert len(subject) <= WIDTH and "…" in subject
    assert subject.startswith("[Iter 7] clip") and " in data_train_signal (trainers/signal.py)" in subject
