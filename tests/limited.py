"""A contract with a time limit of 60 minutes, whose budget key `inr_total_steps` is explored like any other."""

from orchestrator.core.contract import KeyRule
from orchestrator.core.records import Change, Mutation
from tests import factory

STEPS, WIDTH, LIMIT, LR = (
    "inr.inr_total_steps", "inr.hidden_dim_inr", "training.max_minutes", "training.learning_rate_W_start"
)  # fmt: skip
START = factory.START | {
    "inr": {"inr_total_steps": 500_000, "hidden_dim_inr": 256},
    "training": factory.START["training"] | {"max_minutes": 60.0},
}


def contract(level="free", low=50_000, high=2_000_000, **changes):
    """Return the contract of `tests.factory` with a width, a budget key of some level, and a frozen limit."""
    own = (
        KeyRule(key=WIDTH, short="hidden_dim_inr", type="int", level="free", low=128, high=1024, start=256),
        KeyRule(key=STEPS, short="inr_total_steps", type="int", level=level, low=low, high=high, start=500_000),
        KeyRule(key=LIMIT, short="max_minutes", type="float", level="frozen", start=60.0),
    )
    fields = {
        "keys": (*own, *factory.contract().keys), "start": START, "cost": (STEPS, WIDTH), "budget": STEPS,
        "time_limit": LIMIT, "order": (WIDTH, STEPS, LR),
    }  # fmt: skip
    return factory.contract(**(fields | changes))


def driver(minutes=None, **changes):
    """Return a journal under that contract, with a baseline that trained for some minutes if they are given."""
    found = factory.Driver(contract(**changes))
    if minutes is not None:
        found.put(0.5, metrics={"training_time_min": minutes})
    return found


def step(*changes, fitted=False, second=None):
    """Return a mutation of (key, old, new) changes."""
    made = tuple(Change(key=k, old=old, new=new) for k, old, new in changes)
    return Mutation(kind="config", changes=made, fitted=fitted, second_parent=second)
