import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core import editing
from orchestrator.errors import RefusedError

TEXT = "import torch\n\n\ndef f(x):\n    y = x + 1\n    return y\n\n\ndef g(x):\n    return x\n"


def refusal(call, *args):
    with pytest.raises(RefusedError) as caught:
        call(*args)
    return str(caught.value)


def test_view_numbers_the_lines():
    assert editing.view("a\nb\n") == "     1\ta\n     2\tb\n"
    assert editing.view(TEXT, (4, 5)) == "     4\tdef f(x):\n     5\t    y = x + 1\n"
    assert editing.view(TEXT, (10, -1)) == "    10\t    return x\n"
    assert editing.view("") == ""


@pytest.mark.parametrize("wrong", [(0, 3), (4, 3), (5, 11), (-1, -1), (11, -1)])
def test_a_range_that_is_not_there_is_told_the_number_of_lines(wrong):
    assert "the text has 10 lines" in refusal(editing.view, TEXT, wrong)


def test_one_match_is_replaced():
    assert editing.str_replace(TEXT, "y = x + 1", "y = x + 2") == TEXT.replace("x + 1", "x + 2")
    assert editing.str_replace(TEXT, "    y = x + 1\n", "") == TEXT.replace("    y = x + 1\n", "")


def test_no_match_shows_the_nearest_places_and_the_first_line_that_differs():
    told = refusal(editing.str_replace, TEXT, "def f(x):\n    y = x + 7\n", "")
    assert "Nearest places" in told and "line 4: def f(x):" in told and "line 9: def g(x):" in told
    assert "line 5 expected: '    y = x + 1'" in told and "line 5 got:      '    y = x + 7'" in told


def test_at_most_three_places_are_shown():
    told = refusal(editing.str_replace, "".join(f"value_{i} = {i}\n" for i in range(9)), "value_x = 7", "")
    assert told.count("  line ") == editing.NEAREST + 2


def test_a_leading_blank_line_of_old_does_not_hide_the_place():
    told = refusal(editing.str_replace, TEXT, "\n\ndef g(x):\n    return x + 3", "")
    assert "line 10 expected: '    return x'" in told


def test_nothing_similar_says_so():
    assert "No line is similar" in refusal(editing.str_replace, TEXT, "@@@@@@", "")
    assert "No line is similar" in refusal(editing.str_replace, TEXT, " \n ", "x")


def test_an_old_that_goes_on_after_the_end_is_told_so():
    assert "the text ends before line 11" in refusal(editing.str_replace, TEXT, "    return x\nmore = 1", "")


def test_a_difference_in_indentation_alone_is_named():
    told = refusal(editing.str_replace, TEXT, "y = x  +  1\n  return y", "")
    assert "Lines 5 to 6 differ from it only in indentation or blanks" in told and "line 5 expected" in told


def test_several_matches_are_numbered():
    told = refusal(editing.str_replace, TEXT, "return", "yield")
    assert "2 times, on lines 6, 10" in told
    assert "and 2 more" in refusal(editing.str_replace, "a\n" * 12, "a", "b")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("", "x", "`old` is empty"),
        ("y", "y", "are equal"),
        ("a\r\nb", "x", "carriage return"),
        ("y", "a\r\n", "carriage return"),
        ("y", "\0", "NUL"),
        ("y", "x" * 1_000_000, "too large"),
        ("y" * 1_000_000, "x", "too large"),
    ],
)
def test_arguments_are_checked_before_anything_is_compared(old, new, told):
    assert told in refusal(editing.str_replace, TEXT, old, new)


def test_insert_puts_whole_lines_after_a_line():
    assert editing.insert("a\nb\n", 0, "x") == "x\na\nb\n"
    assert editing.insert("a\nb\n", 1, "x\ny\n") == "a\nx\ny\nb\n"
    assert editing.insert("a\nb", 2, "x") == "a\nb\nx\n"
    assert editing.insert("a\n", 1, "\n") == "a\n\n"


def test_insert_says_how_many_lines_there_are():
    assert "the text has 10 lines" in refusal(editing.insert, TEXT, 11, "x")
    assert "the text has 10 lines" in refusal(editing.insert, TEXT, -1, "x")
    assert "is empty" in refusal(editing.insert, TEXT, 1, "")
    assert "NUL" in refusal(editing.insert, TEXT, 1, "\0")
    assert "carriage return" in refusal(editing.insert, TEXT, 1, "a\r")
    assert "too large" in refusal(editing.insert, TEXT, 1, "a\n" * 500_000)


def test_difference_is_a_unified_diff_of_lines_that_only_a_newline_ends():
    assert editing.difference("a\nb\n", "a\nc\n", "m/x.py") == (
        "--- a/m/x.py\n+++ b/m/x.py\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n"
    )
    assert editing.difference(TEXT, TEXT, "x.py") == ""
    assert editing.difference("a\n", "a", "x").endswith("-a\n+a\n\\ No newline at end of file\n")
    assert "+a\x0cb\n" in editing.difference("", "a\x0cb\n", "x")


def test_huge_texts_are_never_compared():
    for huge in ("x" * 1_000_000, "x\n" * 6000):
        assert "too large" in refusal(editing.size, TEXT, huge)
        assert "too large" in refusal(editing.difference, huge, TEXT, "x.py")
        assert "too large" in refusal(editing.str_replace, huge, "a", "b")


def test_size_counts_lines():
    assert editing.size(TEXT, TEXT) == (0, 0)
    assert editing.size("a\nb\nc\n", "a\nx\ny\nc\n") == (2, 1)
    assert editing.size("", "a\n") == (1, 0)


LINES = st.lists(st.sampled_from(["a", "b", "", "  c"]), max_size=8).map(lambda x: "".join(f"{i}\n" for i in x))


@given(LINES, LINES)
def test_what_was_added_and_removed_accounts_for_the_lengths(before, after):
    added, removed = editing.size(before, after)
    assert after.count("\n") - before.count("\n") == added - removed
    assert editing.least_change(before, after) <= added + removed


@given(LINES, st.integers(0, 8), LINES.filter(bool))
def test_what_is_inserted_is_removed_again(text, line, new):
    line = min(line, text.count("\n"))
    after = editing.insert(text, line, new)
    kept = after.split("\n")
    assert "\n".join(kept[:line] + kept[line + new.count("\n") :]) == text
