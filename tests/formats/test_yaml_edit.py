import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import InstructionError
from orchestrator.formats import yaml_edit

TEXT = """\
# header
training:
  learning_rate_W_start: 3.0E-3 # range: 1E-4 to 1E-2
  seed:
    137 # on its own line
  batch_size: 8
  single: True   # flag
  loss: norm
  empty:
  pair: [0, 0]
claude: {ucb_c: 1.414, n_epochs: 2}
"""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4), ("1E-4", 1e-4), ("5E-3", 5e-3), ("-.5", -0.5), ("1.", 1.0), (".inf", math.inf),
        ("10", 10), ("010", 10), ("0x1F", 31), ("0o17", 15), ("-3", -3),
        ("true", True), ("False", False), ("yes", "yes"), ("on", "on"), ("no", "no"), ("2026-11-20", "2026-11-20"),
        ("12:30:45", "12:30:45"), ("1_000", "1_000"), ("~", None), ("", None), ("1e", "1e"), ("e5", "e5"),
    ],
)  # fmt: skip
def test_load_reads_yaml_1_2_scalars(text, value):
    found = yaml_edit.load(f"x: {text}", "f")["x"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["f.yaml", "empty"]),
        ("# only a comment\n", ["empty"]),
        ("a: 1\nb: 2\na: 3\n", ["f.yaml:3:1", "'a' stands twice"]),
        ("a:\n\tb: 1\n", ["f.yaml:2:1", "spaces, never tabs"]),
        ("a: [1\n", ["f.yaml:2:1"]),
        ("- 1\n", ["f.yaml:1", "key: value"]),
        ("a: &x 1\nb: *x\n", ["f.yaml:2:4", "write the value out"]),
        ("1: 2\n", ["f.yaml:1:1", "key must be text"]),
        ("a: !!python/object:os.system x\n", ["f.yaml:1:4"]),
        ("a: \x01\n", ["f.yaml"]),
        ("a: 1\n---\nb: 2\n", ["f.yaml"]),
        ("[" * 2000, ["f.yaml"]),
    ],
)
def test_bad_yaml_names_its_place(text, parts):
    with pytest.raises(InstructionError) as error:
        yaml_edit.load(text, "f.yaml")
    assert all(part in str(error.value) for part in parts)


def test_read_gives_lines():
    doc = yaml_edit.read(TEXT, "config.yaml")
    assert doc.where("training.seed") == "config.yaml:4"
    assert doc.where("claude.n_epochs") == "config.yaml:11"
    assert doc.where("training.nothing") == "config.yaml"


def test_splice_changes_one_value_only():
    new = yaml_edit.splice(
        TEXT,
        {"training.learning_rate_W_start": 5e-4, "training.seed": 1, "training.single": False, "claude.ucb_c": 2.0},
    )
    expected = (
        TEXT.replace("3.0E-3 #", "5.0E-4 #").replace("137", "1").replace("True ", "False ").replace("1.414", "2.0")
    )
    assert new == expected


def test_splice_fills_an_empty_value_and_a_list():
    new = yaml_edit.splice(TEXT, {"training.empty": "yes", "training.pair": [1, 2.5]})
    assert '  empty: "yes"\n' in new
    assert "  pair: [1, 2.5]\n" in new


def test_splice_without_a_change_keeps_the_text():
    assert yaml_edit.splice(TEXT, {"training.learning_rate_W_start": 0.003, "training.loss": "norm"}) == TEXT


def test_splice_tells_int_from_float_and_bool():
    assert "batch_size: 8.0" in yaml_edit.splice(TEXT, {"training.batch_size": 8.0})
    assert "n_epochs: True" in yaml_edit.splice(TEXT, {"claude.n_epochs": True})


def test_splice_keeps_crlf():
    text = TEXT.replace("\n", "\r\n")
    assert yaml_edit.splice(text, {"training.batch_size": 16}) == text.replace(": 8", ": 16")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"training.nothing": 1}, "no key training.nothing"),
        ({"training": 1}, "not one value"),
        ({"training.batch_size": math.nan}, "finite"),
        ({"training.batch_size": {"a": 1}}, "no single value"),
    ],
)
def test_splice_refuses(values, message):
    with pytest.raises(InstructionError, match=message):
        yaml_edit.splice(TEXT, values)


def test_splice_refuses_a_block_text():
    with pytest.raises(InstructionError, match="not one value"):
        yaml_edit.splice("a: |\n  text\n", {"a": "b"})


scalars = st.one_of(
    st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=20), st.none()
)
texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=20)
names = st.sampled_from(
    ["training.learning_rate_W_start", "training.seed", "training.batch_size", "training.single", "training.empty",
     "training.loss", "training.pair", "claude.ucb_c", "claude.n_epochs"]
)  # fmt: skip


OLD = {
    "learning_rate_W_start": "3.0E-3", "seed": "137", "batch_size": "8", "single": "True", "empty": "", "loss": "norm",
    "pair": "[0, 0]", "ucb_c": "1.414", "n_epochs": "2",
}  # fmt: skip


@given(names, scalars | st.lists(st.integers() | texts, max_size=3), st.sampled_from(["\n", "\r\n"]))
def test_splice_round_trips_and_keeps_every_other_byte(name, value, newline):
    text = TEXT.replace("\n", newline)
    new = yaml_edit.splice(text, {name: value})
    section, key = name.split(".")
    found = yaml_edit.load(new, "new")[section][key]
    assert found == value
    assert type(found) is type(value)
    old = yaml_edit.load(text, "old")
    old[section][key] = value
    assert yaml_edit.load(new, "new") == old
    before = text[: text.index(f"{key}:") + len(key) + 1]
    after = text[len(before) :].removeprefix(newline + "   ") if key == "seed" else text[len(before) :]
    rest = after[len(f" {OLD[key]}") if OLD[key] else 0 :]
    assert new.startswith(before)
    assert new.endswith(rest)


@given(st.dictionaries(texts.filter(bool), scalars | st.lists(scalars, max_size=3), max_size=5))
def test_dump_round_trips(section):
    config = {"section": section}
    assert yaml_edit.load(yaml_edit.dump(config), "dumped") == config


def test_diff():
    a, b = {"s": {"x": 1, "y": [1], "z": True}}, {"s": {"x": 1.0, "y": [1]}, "t": {"w": None}}
    assert [(c.key, c.old, c.new) for c in yaml_edit.diff(a, b)] == [
        ("s.x", 1, 1.0), ("s.z", True, None), ("t.w", None, None)
    ]  # fmt: skip
    assert yaml_edit.diff(a, a) == ()
