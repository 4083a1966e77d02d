"""Keys of system `inr` that a config makes idle."""

from __future__ import annotations

from trainers.settings_inr import InrConfig


def idle_keys(config: InrConfig) -> dict[str, str]:
    """Return `section.name` -> reason of every key that does nothing in a training of this config."""
    idle = {}
    if config.inr.n_layers_inr == 0:
        idle["inr.inr_precision"] = "n_layers_inr is 0: there is no hidden layer"
    if config.inr.inr_periodic:
        idle["inr.inr_xy_period"] = "inr_periodic is true"
    return idle
