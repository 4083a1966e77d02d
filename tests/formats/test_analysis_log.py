import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.records import Metric
from orchestrator.formats.analysis_log import parse, read_value

EXAMPLE = """spectral radius: 1.029
--- activity ---
  effective rank (90% var): 8
  effective rank (99% var): 12   <-- Extract this value for eff_rank
training_time_min: 0.6
test_R2: -0.5
connectivity_R2: 9.8e-05
final_loss: 6.5509e+03
cluster_accuracy: n/a (one neuron type)
kinograph_R2: nan
slope = -inf
a line of prose
"""


def test_the_example_of_the_instructions():
    metrics, unread = parse(EXAMPLE)
    assert metrics["effective rank (99% var)"].value == 12
    assert metrics["test_R2"].value == -0.5
    assert metrics["connectivity_R2"].value == 9.8e-05
    assert metrics["final_loss"].value == 6550.9
    assert metrics["cluster_accuracy"] == Metric(value=None, reason="one neuron type")
    assert metrics["kinograph_R2"].reason == "nan" and metrics["slope"].reason == "-inf"
    assert unread == ["a line of prose"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2.903E+02", 290.3),
        ("18.4min", 18.4),
        ("~1.065", 1.065),
        ("0.95.", 0.95),
        (".5", 0.5),
        ("-3", -3),
        ("1e-4", 1e-4),
    ],
)
def test_numbers_of_real_logs(text, value):
    assert read_value(text) == Metric(value=value)


@pytest.mark.parametrize("text", ["", "abc", "1.2.3", "12 of 13", "1e", "--5"])
def test_what_is_no_number(text):
    assert read_value(text) is None


def test_overflow_is_infinite_with_its_sign():
    assert read_value("-1e999") == Metric(value=None, reason="-inf")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_round_trips(value):
    assert read_value(repr(value)) == Metric(value=value)


def test_a_key_that_is_said_twice_differently_is_reported():
    metrics, unread = parse("a: 1\na: 1\na: 2\n")
    assert metrics["a"].value == 1 and unread == ["a: 2"]
