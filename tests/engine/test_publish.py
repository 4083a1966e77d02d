"""What a person wrote into a view is found, whatever its length and however much was changed."""

from orchestrator.engine.publish import added

LOG = [f"line {n % 7} of entry {n // 7}: R2=0.{n * 37 % 997:03d}" if n % 7 else "" for n in range(10_000)]


def test_new_lines_are_found_in_order():
    text = ["a", "", "b", "", "c"]
    assert added(text, text) == []
    assert added(text, ["new", "a", "", "b", "", "also new", "c", "last"]) == ["new", "also new", "last"]
    assert added(text, ["a", "", "B", "", "c"]) == ["B"]
    assert added(text, ["a", "c"]) == []
    assert added([], text) == text


def test_lines_that_are_frequent_in_a_long_log_are_not_taken_for_new():
    changed = ["first", *LOG[:5_000], "second", *LOG[5_000:9_000], "third"]
    assert added(LOG, changed) == ["first", "second", "third"]


def test_a_long_log_that_an_editor_reformatted_does_not_hold_the_engine_up():
    """Half a minute or more with `difflib.ndiff`: the limit of the suite would end it."""
    changed = [f"* {line}" for line in LOG]
    assert added(LOG, changed) == changed
