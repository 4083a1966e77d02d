"""Where runs go: spread evenly, never more than fit with a known peak, second tries alone and always in their turn."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.events import RunReserved
from orchestrator.engine import placing
from orchestrator.engine.placing import Placed, place
from orchestrator.ports import Gpu
from tests.factory import Driver

GB = 10**9
NEED = int((4 * GB - placing.CONTEXT_BYTES) / placing.MARGIN)
"""A peak with which a run counts as 4 GB."""


def gpu(name, room=24, total=None):
    return Gpu(name=name, uuid=f"GPU-{name}", total_bytes=(total or room) * GB, free_bytes=room * GB)


def runs(devices):
    return [Placed(device=name) for name in devices]


A, B = gpu("0"), gpu("1")


def test_without_gpus_all_start_at_once_on_the_cpu():
    assert place([], runs(["", ""]), [False, True], 10**15) == ["", ""]


def test_the_fewest_runs_first_then_the_most_memory():
    assert place([A, gpu("1", 30)], [], [False] * 4, None) == ["1", "0", "1", "0"]
    assert place([A, B], runs("001"), [False], None) == ["1"]


def test_before_a_peak_is_known_the_slots_are_filled():
    assert place([A], [], [False] * 8, None) == ["0"] * 8


def test_a_known_peak_bounds_the_number():
    assert place([A, gpu("1", 9)], [], [False] * 10, NEED) == ["0", "1", "0", "1", "0", "0", "0", "0", None, None]
    assert place([A], runs("00000"), [False] * 2, NEED) == ["0", None]


def test_what_other_programs_use_does_not_count_as_room():
    assert place([gpu("0", room=9, total=24)], [], [False] * 3, NEED) == ["0", "0", None]


def test_unknown_memory_bounds_nothing():
    assert place([Gpu(name="MIG-1", uuid="MIG-1")], [], [False] * 3, NEED) == ["MIG-1"] * 3


def test_a_gpu_that_is_too_small_is_left_out_unless_all_are():
    assert place([gpu("0", 3), gpu("1", 9)], [], [False] * 3, NEED) == ["1", "1", None]
    assert place([gpu("0", 2), gpu("1", 3)], [], [False] * 2, NEED) == ["1", None]
    assert place([gpu("0", 2)], runs("0"), [False], NEED) == [None]


def test_a_second_try_waits_until_it_is_alone_and_stays_alone():
    assert place([A], runs("0"), [True], None) == [None]
    assert place([A], [], [True, False], None) == ["0", None]
    assert place([A], [Placed(device="0", alone=True)], [False], None) == [None]
    assert place([A, B], [Placed(device="0", alone=True)], [False, False], None) == ["1", "1"]


def test_nothing_new_is_put_where_a_second_try_waits():
    """The younger ordinary runs would else take each place that becomes free, and it would wait for ever."""
    assert place([A], runs("0"), [False, True], None) == [None, None]
    assert place([A, B], runs("0011"), [True, False], None) == [None, "1"]
    assert place([A, B], runs("011"), [True, False], None) == [None, "1"]
    assert place([A, B], runs("00"), [True, False], None) == ["1", "0"]


def test_second_tries_take_turns():
    assert place([A], [], [True, True], None) == ["0", None]
    assert place([A, B], runs("0"), [True, True, False], None) == ["1", None, None]


def test_a_second_try_gets_a_gpu_with_as_much_memory_as_any():
    big, alike, small = gpu("0", 24), gpu("1", 23), gpu("2", 8)
    assert place([small, big, alike], runs("0"), [True], None) == ["1"]
    assert place([small, big], runs("0"), [True], None) == [None]
    assert place([small, gpu("3", 7)], [], [True], None) == ["2"]


def test_runs_on_gpus_that_are_not_ours_do_not_count():
    assert place([A], runs(["7", "MIG-1"]), [False], None) == ["0"]


@settings(deadline=None)
@given(
    rooms=st.lists(st.integers(1, 30), min_size=1, max_size=3),
    waiting=st.lists(st.booleans(), min_size=1, max_size=8),
    peak=st.one_of(st.none(), st.integers(0, 20 * GB)),
    ends=st.lists(st.integers(0, 7), min_size=60, max_size=60),
)
def test_every_run_gets_its_turn_in_any_order_of_ends(rooms, waiting, peak, ends):
    gpus = [gpu(str(n), room) for n, room in enumerate(rooms)]
    todo, flying, ends = list(waiting), [], itertools.cycle(ends)
    for _ in range(3 * len(waiting) + 3):
        found = place(gpus, flying, todo, peak)
        assert flying or any(device is not None for device in found) or not todo
        for alone, device in zip(todo, found, strict=True):
            if device is not None:
                assert not any(run.device == device and (alone or run.alone) for run in flying)
                flying.append(Placed(device=device, alone=alone))
        todo = [alone for alone, device in zip(todo, found, strict=True) if device is None]
        for g in gpus:
            here = sum(run.device == g.name for run in flying)
            assert peak is None or here <= 1 or here * (placing.MARGIN * peak + placing.CONTEXT_BYTES) <= g.free_bytes
        if flying:
            flying.pop(next(ends) % len(flying))
    assert not todo


# From the journal


@pytest.fixture
def driver():
    found = Driver()
    found.turn(1)
    return found


def reserve(driver, iteration, attempt, device="0"):
    driver.add(RunReserved(iteration=iteration, attempt=attempt, session=1, device=device))


def test_a_run_that_follows_out_of_memory_is_a_second_try(driver):
    it = driver.state.iterations[1]
    assert not placing.after_out_of_memory(it)
    driver.end(1, outcome="out_of_memory")
    assert placing.after_out_of_memory(it) and placing.device_for(driver.state, [A], it) == "0"
    reserve(driver, 1, 2)
    assert placing.in_flight(driver.state) == [Placed(device="0", alone=True)]
    assert placing.beside(driver.state, "0") == 1 and placing.beside(driver.state, "1") == 0


def test_a_second_try_that_was_lost_is_still_one(driver):
    it = driver.state.iterations[1]
    driver.end(1, outcome="out_of_memory")
    driver.end(1, outcome="killed", lost=True)
    assert placing.after_out_of_memory(it)


def test_a_killed_run_is_no_second_try(driver):
    it = driver.state.iterations[1]
    driver.end(1, outcome="killed")
    assert not placing.after_out_of_memory(it)


def test_the_greatest_peak_of_finished_runs_counts(driver):
    it = driver.state.iterations[1]
    assert placing.peak_bytes(driver.state, it) is None
    driver.end(1, 0.5, memory_bytes=7 * GB)
    driver.turn(1)
    driver.end(2, 0.5, memory_bytes=5 * GB)
    driver.turn(1)
    driver.end(3, 0.5)
    assert placing.peak_bytes(driver.state, it) == 7 * GB
