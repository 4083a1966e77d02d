"""The `Slot:` line of an entry: with several slots, so that nobody compares the wall times of unequal runs."""

import pytest

from orchestrator.core.events import RunEnded, RunReserved, Turned
from orchestrator.formats import entry
from orchestrator.scientist.offline import OfflineScientist
from tests.factory import Driver


def rendered(fields, device="", in_flight=None):
    """Return the entry of a run whose proposal has the fields."""
    made = Driver()
    turn = OfflineScientist().propose(made.state, 1)
    (proposal,) = turn.proposals
    made.add(Turned(turn=turn.model_copy(update={"proposals": (proposal.model_copy(update=fields),)})))
    for attempt, where in ((1, "9"), (2, device)):
        made.add(RunReserved(iteration=1, attempt=attempt, session=1, slot=fields.get("slot", 0), device=where))
        made.add(RunEnded(iteration=1, attempt=attempt, session=1, outcome="ok" if attempt == 2 else "killed",
                          in_flight=in_flight if attempt == 2 else 7.0))  # fmt: skip
    return entry.render(made.state, made.state.iterations[1]).splitlines()


@pytest.mark.parametrize(
    ("fields", "device", "in_flight", "line"),
    [
        ({"slot": 1, "role": "exploit-second"}, "", 1.94, "Slot: 1 (exploit-second), 1.9 runs in flight"),
        ({"slot": 0, "role": "explore"}, "1", 1.0, "Slot: 0 (explore), GPU 1, 1.0 runs in flight"),
        ({"slot": 2, "role": "control", "filler": True}, "", None, "Slot: 2 (control, fills an idle slot)"),
    ],
)
def test_an_entry_says_slot_device_and_company(fields, device, in_flight, line):
    found = rendered(fields, device, in_flight)
    assert found.index(line) == 3 and found[2].startswith("Mode/Strategy: ")
    assert [x for x in found if x != line] == rendered({})


def test_with_one_slot_nothing_is_said():
    assert not any("Slot" in x or "in flight" in x for x in rendered({}, "1", 1.0))
