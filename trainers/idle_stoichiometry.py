"""Which keys of system `stoichiometry` cannot act in a config, and why; held to what training does by a test."""

from __future__ import annotations

from trainers.settings_stoichiometry import StoichiometryConfig, StoichiometryModel, StoichiometryTraining

__all__ = ["idle_keys"]

_OF_S = ("S_init", "S_init_scale", "learning_rate_S_start", "gauge_parameter", "learning_rate_gauge", "gauge_start",
         "constrain_sign", "coeff_S_L1", "first_coeff_L1", "n_epochs_init", "coeff_S_integer", "S_integer_start",
         "coeff_S_floor", "S_floor_start", "S_floor_ramp", "S_floor_share", "coeff_mass_conservation",
         "S_refit_every", "S_refit_until")  # fmt: skip


def idle_keys(config: StoichiometryConfig) -> dict[str, str]:
    """Return the keys that cannot act in this config, each with its reason: changing one alone changes nothing."""
    t, model, idle = config.training, config.graph_model, {}
    for rules in (_penalties, _rates, _frames):
        idle |= rules(t, model)
    if t.freeze_stoichiometry:
        idle |= dict.fromkeys(_OF_S, "freeze_stoichiometry is true: S is given")
    named = {f"training.{name}": reason for name, reason in idle.items()}
    if not model.node_func:
        without = dict.fromkeys(("hidden_dim_node", "n_layers_node", "embedding_dim"), "node_func is false")
        named |= {f"graph_model.{name}": reason for name, reason in without.items()}
    return named


def _penalties(t: StoichiometryTraining, _: StoichiometryModel) -> dict[str, str]:
    idle: dict[str, str] = {}
    if t.n_epochs <= t.n_epochs_init:
        idle["coeff_S_L1"] = f"acts from epoch n_epochs_init={t.n_epochs_init} on; this run has n_epochs={t.n_epochs}"
    if t.n_epochs_init == 0:
        idle["first_coeff_L1"] = "n_epochs_init is 0"
    if t.first_coeff_L1 == t.coeff_S_L1:
        idle["n_epochs_init"] = "both phases have the same L1"
    if t.S_refit_every == 0:
        idle["S_refit_until"] = "S_refit_every is 0"
    if t.coeff_S_integer == 0:
        idle["S_integer_start"] = "coeff_S_integer is 0"
    if t.coeff_S_floor == 0:
        idle |= dict.fromkeys(("S_floor_start", "S_floor_ramp", "S_floor_share"), "coeff_S_floor is 0")
    return idle


def _rates(t: StoichiometryTraining, model: StoichiometryModel) -> dict[str, str]:
    idle: dict[str, str] = {}
    if not model.node_func:
        idle["learning_rate_embedding_start"] = "node_func is false: there are no embeddings"
    if not t.gauge_parameter:
        idle |= dict.fromkeys(("learning_rate_gauge", "gauge_start"), "gauge_parameter is false")
    if t.lr_scheduler == "none":
        idle |= dict.fromkeys(("lr_scheduler_final", "lr_scheduler_drops"), "lr_scheduler is none")
    elif t.lr_scheduler == "cosine":
        idle["lr_scheduler_drops"] = "lr_scheduler is cosine"
    return idle


def _frames(t: StoichiometryTraining, _: StoichiometryModel) -> dict[str, str]:
    idle: dict[str, str] = {}
    if t.frame_sampling == "uniform":
        idle["log_time_period"] = "frame_sampling is uniform"
    if not t.recurrent_training:
        idle |= dict.fromkeys(("time_step", "noise_recurrent_level"), "recurrent_training is false")
    return idle
