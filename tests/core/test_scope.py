import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core import scope
from orchestrator.core.contract import Scope
from orchestrator.errors import RefusedError
from tests.core import hostile_code as corpus

ROOT = Path(__file__).parents[2]
TRAINER, MODEL = (ROOT / corpus.SIGNAL).read_text(), (ROOT / corpus.MODEL).read_text()
MLP = (ROOT / "models/mlp.py").read_text()
SCOPES = (
    Scope(path=corpus.SIGNAL, function="data_train_signal", permission="edit"),
    Scope(path=corpus.MODEL, permission="edit"),
)


def refusal(path, before, after, scopes=SCOPES, **limits):
    with pytest.raises(RefusedError) as caught:
        scope.check(scopes, path, before, after, **limits)
    return str(caught.value)


def named(cases):
    return [pytest.param(*case[1:], id=case[0]) for case in cases]


@pytest.mark.parametrize(("edit", "told"), named(corpus.OUTSIDE + corpus.TEXT))
def test_text_around_the_function_and_odd_texts_are_refused(edit, told):
    assert told in refusal(corpus.SIGNAL, TRAINER, edit(TRAINER))


@pytest.mark.parametrize(("code", "told"), named(corpus.REACHES))
def test_code_that_reaches_out_is_refused_with_its_line(code, told):
    message = refusal(corpus.SIGNAL, TRAINER, corpus.inside(code)(TRAINER))
    assert told in message
    line = int(re.match(rf"{corpus.SIGNAL} line (\d+): `.*` is refused: ", message).group(1))
    assert 0 < line - TRAINER[: TRAINER.index(corpus.ANCHOR)].count("\n") - 1 <= code.count("\n") + 1


@pytest.mark.parametrize(("edit", "told"), named(corpus.WHOLE))
def test_a_whole_file_keeps_its_surface(edit, told):
    assert told in refusal(corpus.MODEL, MODEL, edit(MODEL))


@pytest.mark.parametrize(("code", "told"), named(corpus.METHODS))
def test_methods_reach_no_further(code, told):
    assert told in refusal(corpus.MODEL, MODEL, corpus.method(code)(MODEL))


@pytest.mark.parametrize("edit", named(corpus.PASSING))
def test_edits_of_training_pass(edit):
    after = edit(TRAINER)
    (found,) = scope.check(SCOPES, corpus.SIGNAL, TRAINER, after)
    assert (found.path, found.unit) == (corpus.SIGNAL, "data_train_signal")
    assert after.count("\n") - TRAINER.count("\n") == found.added - found.removed
    assert scope.changed(corpus.SIGNAL, TRAINER, after) == (found,)
    assert scope.check(SCOPES, corpus.SIGNAL, after, TRAINER)[0].added == found.removed


@pytest.mark.parametrize("edit", named(corpus.PASSING_WHOLE))
def test_edits_of_a_model_pass(edit):
    assert scope.check(SCOPES, corpus.MODEL, MODEL, edit(MODEL))


def test_an_activation_may_be_added_to_a_table():
    after = MLP.replace('"tanh": nn.Tanh,', '"tanh": nn.Tanh,\n    "silu": nn.SiLU,')
    (found,) = scope.check((Scope(path="models/mlp.py", permission="edit"),), "models/mlp.py", MLP, after)
    assert (found.unit, found.added, found.removed) == ("(module)", 1, 0)


@pytest.mark.parametrize(
    "path",
    [
        "trainers/../trainers/signal.py", "/srv/trainers/signal.py", "trainers/signa1.py", "./trainers/signal.py",
        "trainers/\u0455ignal.py", "trainers//signal.py", "models/mlp.py", "", "trainers\\signal.py",
        "Trainers/signal.py",
    ],
)  # fmt: skip
def test_other_paths_are_refused_with_what_may_be_edited(path):
    told = refusal(path, TRAINER, corpus.PASSING[0][1](TRAINER))
    assert "trainers/signal.py: function data_train_signal, models/signal.py" in told


def test_a_path_that_is_nearly_right_is_told_so():
    assert "Write `trainers/signal.py` exactly so" in refusal("./trainers/signal.py", TRAINER, TRAINER)
    assert "What may be edited: nothing" in refusal(corpus.SIGNAL, TRAINER, TRAINER, scopes=())


def test_refusals_give_the_line_of_the_new_text():
    after = corpus.inside("\n\nx = 1\ntorch.save(1, 'x')")(TRAINER)
    number = after.split("\n").index("    torch.save(1, 'x')") + 1
    assert f"trainers/signal.py line {number}: `.save`" in refusal(corpus.SIGNAL, TRAINER, after)


def test_one_refusal_names_several_problems():
    told = refusal(corpus.SIGNAL, TRAINER, corpus.inside("\n".join(f"x{i} = open('a{i}')" for i in range(8)))(TRAINER))
    assert told.count("builtin `open`") == 5 and "and 3 more lines" in told


def test_two_functions_of_a_file_may_be_in_scope():
    both = (*SCOPES, Scope(path=corpus.SIGNAL, function="useful_threads", permission="edit"))
    one = TRAINER.replace("return threads if", "return 2 * threads if")
    assert scope.check(both, corpus.SIGNAL, TRAINER, one)[0].unit == "useful_threads"
    two = corpus.PASSING[0][1](one)
    assert "one change at a time" in refusal(corpus.SIGNAL, TRAINER, two, both)
    edits = scope.check(both, corpus.SIGNAL, TRAINER, two, most=None)
    assert [e.unit for e in edits] == ["data_train_signal", "useful_threads"]


def test_an_existing_use_stays_and_one_more_is_refused():
    before = "import os\n\n\ndef f(x):\n    os.environ.setdefault('A', '1')\n    return x\n"
    rule = (Scope(path="m.py", function="f", permission="edit"),)
    assert scope.check(rule, "m.py", before, before.replace("return x", "return 2 * x"))
    assert "(os)" in refusal("m.py", before, before.replace("'1'", "'2'"), rule)
    assert "(os)" in refusal("m.py", before, before.replace("return x", "return os.getpid()"), rule)


def test_a_file_that_lost_its_function_before_says_when():
    assert "before the edit there is no function" in refusal(
        corpus.SIGNAL, "x = 1\n", "def data_train_signal():\n    pass\n"
    )


def test_a_trick_with_a_continued_line_changes_nothing_outside():
    after = TRAINER.replace("    return model\n\n", "    return model \\\n\n")
    assert "changes no code" in refusal(corpus.SIGNAL, TRAINER, after)


def test_the_edit_after_the_last_statement_belongs_to_the_function():
    after = TRAINER.replace("    return model\n\n\n", "    return model\n    # the end\n\n")
    assert "changes no code" in refusal(corpus.SIGNAL, TRAINER, after)
    assert "byte for byte" in refusal(
        corpus.SIGNAL, TRAINER, TRAINER.replace("return model\n", "return model\n# end\n")
    )


@pytest.mark.parametrize("text", [TRAINER, MODEL, MLP])
@given(data=st.data())
@settings(max_examples=5, deadline=None)
def test_layout_changes_no_code(text, data):
    path = corpus.MODEL if text is not TRAINER else corpus.SIGNAL
    lines = text.split("\n")
    start = lines.index(next(line for line in lines if line.startswith(("def data_train", "class "))))
    stop = lines.index("    return model") if text is TRAINER else len(lines) - 1
    number = data.draw(st.integers(start + 1, stop))
    added = data.draw(st.sampled_from(["", "        # a remark", "    ", "    # Δ"]))
    after = "\n".join([*lines[:number], added, *lines[number:]])
    assert "changes no code" in refusal(path, text, after)
    assert scope.changed(path, text, after) == ()


@given(st.sampled_from([TRAINER, MODEL, MLP]), st.sampled_from([corpus.MODEL, corpus.SIGNAL]))
@settings(max_examples=3, deadline=None)
def test_a_text_is_no_edit_of_itself(text, path):
    whole = tuple(Scope(path=p, permission="edit") for p in (corpus.MODEL, corpus.SIGNAL))
    assert "changes no code" in refusal(path, text, text, whole)


@given(st.sampled_from([edit for _, edit in corpus.PASSING]), st.integers(1, 999), st.booleans())
@settings(max_examples=5, deadline=None)
def test_the_sha_of_an_edit_knows_nothing_of_the_rest_of_the_file(edit, number, remark):
    other = TRAINER.replace("DELTA_PARTS = 150", f"DELTA_PARTS = {number}").replace("import os\n", "import os\n\n\n")
    other += f"\n\ndef more():\n    return {number}\n"
    other = other.replace(corpus.ANCHOR, "    # said otherwise\n" + corpus.ANCHOR) if remark else other
    here, there = (scope.check(SCOPES, corpus.SIGNAL, text, edit(text)) for text in (TRAINER, other))
    assert [e.sha for e in here] == [e.sha for e in there]


def test_the_sha_tells_what_became_of_what():
    shas = {scope.check(SCOPES, corpus.SIGNAL, TRAINER, edit(TRAINER))[0].sha for _, edit in corpus.PASSING}
    assert len(shas) == len(corpus.PASSING)
    other = TRAINER.replace("data.xnorm / DELTA_PARTS", "data.xnorm * DELTA_PARTS")
    after = corpus.PASSING[0][1](TRAINER)
    assert scope.changed("x", other, after)[0].sha != scope.changed("x", TRAINER, after)[0].sha


def test_a_gone_and_a_new_unit_are_listed():
    before, after = "def f():\n    return 1\n", "class C:\n    x = 1\n\n    def g(self):\n        return 2\n"
    found = {e.unit: (e.added, e.removed) for e in scope.changed("m.py", before, after)}
    assert found["C.g"] == (2, 0) and found["f"] == (0, 2) and found["C"][1] == 0


def test_nothing_costly_is_done_with_a_huge_text(monkeypatch):
    monkeypatch.setattr("difflib.SequenceMatcher.get_opcodes", lambda self: pytest.fail("difflib saw it"))
    for huge in ("x = 1\n" * 2_000_000, "x" * 5_000_000 + "\n", "\n" * 60_000, TRAINER + "x = 1\n" * 2000):
        assert "too large" in refusal(corpus.SIGNAL, TRAINER, huge)
