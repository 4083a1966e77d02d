"""A contract with keys that change between blocks only, and blocks played by hand."""

from orchestrator.core import block_keys
from orchestrator.core.contract import KeyRule
from orchestrator.core.records import Metric
from tests.factory import START, Driver, contract

LR = "training.learning_rate_W_start"
STEP, RECURRENT, ODE, METHOD = (
    f"training.{name}" for name in ("time_step", "recurrent_training", "neural_ODE_training", "ode_method")
)
BUDGET = "training.data_augmentation_loop"
VALUES = (1, 4, 16)
RULES = (
    KeyRule(key=STEP, short="time_step", type="int", level="block", low=1, high=64, allowed=VALUES, start=1,
            source="test:20"),
    KeyRule(key=RECURRENT, short="recurrent", type="bool", level="block", allowed=(True, False), start=True),
    KeyRule(key=ODE, short="neural_ODE", type="bool", level="block", start=False),
    KeyRule(key=METHOD, short="ode_method", type="str", level="block", allowed=("dopri5", "rk4"), start="dopri5"),
    KeyRule(key=BUDGET, short="aug", type="int", level="frozen", low=1, high=100, start=5, source="test:21"),
)  # fmt: skip


def rules(**changes):
    """Return the contract; `changes` as `tests.factory.contract` takes them."""
    training = START["training"] | {rule.key.partition(".")[2]: rule.start for rule in RULES}
    fields = {
        "keys": (*contract().keys, *RULES),
        "start": START | {"training": training},
        "n_iter_block": 2,
        "compare": STEP,
        "exclusive": ((RECURRENT, ODE),),
        "budget": BUDGET,
        "cost": (BUDGET, STEP),
        "replicate_every": 0,
        "log_config": (STEP, LR, "training.batch_size"),
        "log_activity": (("eff_rank", "effective_rank_99"), ("spectral_radius", "spectral_radius")),
    }
    return contract(**(fields | changes))


METRICS = {"effective_rank_99": 12.0, "training_time_min": 3.0, "test_R2": 0.5}


def driver(**changes):
    """Return a driver over these rules."""
    return Driver(rules(**changes))


def block(made, *values, metrics=None):
    """Let the offline scientist propose a block (ending the one before), with these results; None is a crash."""
    for value in values:
        iteration = made.turn().proposals[0].iteration
        found = METRICS if metrics is None else metrics
        if value is None:
            made.end(iteration, outcome="crashed")
        else:
            figures = {"connectivity_R2": value} | found
            made.end(iteration, metrics={name: Metric(value=v) for name, v in figures.items()})


def values(made):
    """Return the value of time_step in each block that has begun."""
    return [made.state.value_in(b, STEP) for b in block_keys.begun(made.state)]
