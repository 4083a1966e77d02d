"""A contract with a time target, whose budget key is `data_augmentation_loop`; runs take what they are told."""

from orchestrator.core.contract import KeyRule
from orchestrator.core.records import Metric
from tests import factory

LOOP, LR, STEP, RECURRENT = (
    f"training.{n}" for n in ("data_augmentation_loop", "learning_rate_W_start", "time_step", "recurrent_training")
)
START = {
    "simulation": {"n_neurons": 10, "n_frames": 100, "seed": 42},
    "training": {
        "learning_rate_W_start": 3e-3, "batch_size": 8, "coeff_W_L1": 1e-5, "seed": 7, "n_epochs": 2,
        "data_augmentation_loop": 40, "time_step": 1, "recurrent_training": False,
    },
    "claude": {"n_epochs": 2, "data_augmentation_loop": 40, "n_iter_block": 6, "ucb_c": 1.414},
}  # fmt: skip
NEITHER = "recurrent_training is false"
IDLE_STEP = {STEP: NEITHER}


def contract(target=1.5, low=1, high=160, **changes):
    """Return the contract of `tests.factory` with a budget key and a target."""
    budget = KeyRule(key=LOOP, short="data_augmentation_loop", type="int", level="free", low=low, high=high, start=40,
                     exempt=True)  # fmt: skip
    modes = (
        KeyRule(key=STEP, short="time_step", type="int", level="free", allowed=(1, 4, 16), start=1),
        KeyRule(key=RECURRENT, short="recurrent_training", type="bool", level="free", start=False),
    )
    fields = {
        "keys": (*factory.contract().keys, budget, *modes),
        "start": START,
        "cost": ("simulation.n_frames", "training.n_epochs", LOOP, STEP),
        "budget": LOOP,
        "time_target_min": target,
    }
    return factory.contract(**(fields | changes))


def driver(**changes):
    """Return an empty journal under that contract."""
    return factory.Driver(contract(**changes))


def took(minutes, value=0.5):
    """Return the metrics of a run that trained for some minutes."""
    return {"connectivity_R2": Metric(value=value), "training_time_min": Metric(value=minutes)}
