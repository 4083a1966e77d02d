"""Moves by the steps that the instruction lists; those by the range are in test_offline."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.contract import KeyRule, Step
from orchestrator.scientist.moves import FINE_STEPS, STEPS, key_moves
from orchestrator.scientist.offline import OfflineScientist
from tests.factory import Driver, contract

TWICE = (Step(op="*", value=2.0), Step(op="*", value=0.5))
MORE = (Step(op="*", value=1.5), Step(op="*", value=2.0))
L1 = "training.coeff_W_L1"


def by(value):
    return (Step(op="+", value=value), Step(op="+", value=-value))


def rule(kind, low, high, steps):
    return KeyRule(key="training.x", short="x", type=kind, level="free", low=low, high=high, steps=steps)


def moved(key, value, share=1.0):
    return [m.change.new for m in key_moves(key, {"training": {"x": value}}, share)]


OMEGA, RATE = rule("float", 1.0, 100.0, by(5.0)), rule("float", 1e-6, 1e-3, TWICE)
WIDTH, LENGTH = rule("int", 128, 1024, by(128.0)), rule("int", 50000, 2000000, MORE)
BATCH = rule("int", 1, 16, TWICE)


@pytest.mark.parametrize(
    ("key", "value", "whole", "half"),
    [
        (OMEGA, 10.0, [15.0, 5.0], [12.5, 7.5]),
        (OMEGA, 97.5, [100.0, 92.5], [100.0, 95.0]),
        (OMEGA, 3.0, [8.0, 1.0], [5.5, 1.0]),
        (OMEGA, 100.0, [95.0], [97.5]),
        (RATE, 1e-4, [2e-4, 5e-5], [1.4e-4, 7.1e-5]),
        (RATE, 6e-4, [1e-3, 3e-4], [1e-3, 4.2e-4]),
        (RATE, 1e-6, [2e-6], [1e-6 * 1.4]),
        (WIDTH, 384, [512, 256], [448, 320]),
        (WIDTH, 128, [256], [192]),
        (WIDTH, 1000, [1024, 872], [1024, 936]),
        (LENGTH, 500000, [750000, 333333, 1000000], [612372, 408248]),
        (LENGTH, 1900000, [2000000, 1266667], [2000000, 1551344]),
        (BATCH, 8, [16, 4], [11, 6]),
        (BATCH, 1, [2], [2]),
        (rule("float", 1.25e-4, 1.55e-3, TWICE), 1.5e-4, [3e-4, 1.25e-4], [2.1e-4, 1.25e-4]),
        (rule("float", 1.25e-4, 1.55e-3, TWICE), 1e-3, [1.55e-3, 5e-4], [1.55e-3, 7.1e-4]),
        (rule("int", 2, 5, by(1.0)), 3, [4, 2], [4, 2]),
        (rule("float", 0.0, 1e-2, TWICE), 0.0, [1e-3], [1e-3]),
        (rule("float", 0.0, 1e-2, by(1e-3)), 0.0, [1e-3], [5e-4]),
        (rule("float", None, None, by(8.0)), 4.0, [12.0], [8.0]),
        (rule("float", -10.0, 10.0, TWICE), -2.0, [-1.0, -4.0], [-1.4, -2.8]),
        (rule("float", 1e-6, 1e-1, TWICE[1:]), 1e-3, [2e-3, 5e-4], [1.4e-3, 7.1e-4]),
        (rule("float", None, None, by(0.1)), 0.2, [0.3, 0.1], [0.25, 0.15]),
        (rule("float", 0.0, 500.0, by(5.0)), 102.5, [107.5, 97.5], [105.0, 100.0]),
    ],
)
def test_listed_steps(key, value, whole, half):
    assert moved(key, value) == pytest.approx(whole, rel=1e-12)
    assert moved(key, value, 0.5) == pytest.approx(half, rel=1e-12)
    assert all(isinstance(v, int) for v in moved(key, value) if key.type == "int")


def test_a_list_of_values_goes_before_steps():
    assert moved(KeyRule(key="training.x", short="x", type="int", level="free", allowed=(8, 32), steps=TWICE), 8) == [
        32
    ]


@given(
    st.sampled_from(["int", "float"]),
    st.lists(
        st.one_of(
            st.floats(1e-3, 1e3).filter(lambda v: v != 1).map(lambda v: Step(op="*", value=v)),
            st.floats(-1e3, 1e3).filter(bool).map(lambda v: Step(op="+", value=v)),
        ),
        min_size=1,
        max_size=4,
    ),
    st.integers(-50, 50),
    st.sampled_from((*STEPS, *FINE_STEPS)),
)
def test_moves_stay_inside_and_go_where_they_say(kind, steps, value, share):
    key = rule(kind, -50, 50, tuple(steps))
    old = value if kind == "int" else float(value)
    found = key_moves(key, {"training": {"x": old}}, share)
    for move in found:
        new = move.change.new
        assert -50 <= new <= 50 and isinstance(new, int if kind == "int" else float)
        assert (new > old) == (move.direction == "up") and new != old
    assert len({m.change.new for m in found}) == len(found)


@pytest.mark.parametrize(
    ("low", "value", "share", "expected"),
    [(1e-4, 9e-3, 0.125, [1e-2, 7.8e-3]), (1e-4, 1e-2, 0.125, [8.7e-3]), (1e-4, 1.1e-4, 0.125, [1.3e-4, 1e-4]),
     (-1e-2, 0.0, 1.0, [1e-3]), (-1e-2, -1e-3, 1.0, [-3.2e-3, -3.2e-4])],
)  # fmt: skip
def test_moves_by_the_range_never_go_to_the_bound_behind_them(low, value, share, expected):
    assert moved(rule("float", low, 1e-2, ()), value, share) == expected


def with_steps(steps):
    keys = [k.model_copy(update={"steps": steps}) if k.key == L1 else k for k in contract().keys if k.key == L1]
    return contract(keys=tuple(keys), order=(L1,), replicate_every=0, n_iter_block=40)


def test_the_offline_scientist_takes_the_listed_steps():
    driver = Driver(with_steps(MORE))
    driver.explore(3, lambda c: c["training"]["coeff_W_L1"] * 1e4)
    tried = [n.config["training"]["coeff_W_L1"] for n in driver.state.nodes.values()]
    assert tried == [1e-5, 1.5e-5, 2.3e-5]


def test_it_comes_back_from_a_list_with_one_side():
    driver = Driver(with_steps(MORE))
    driver.explore(2, lambda c: 0.5 if c["training"]["coeff_W_L1"] == 1e-5 else 0.2)
    (change,) = OfflineScientist().propose(driver.state, 1).proposals[0].mutation.changes
    assert (change.old, change.new) == (1.5e-5, 6.7e-6)
