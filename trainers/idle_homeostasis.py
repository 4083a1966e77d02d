"""Which keys of system `homeostasis` cannot act in a config, and why; held to what training does by a test."""

from __future__ import annotations

from trainers.settings_homeostasis import HomeostasisConfig

__all__ = ["idle_keys"]

_OF_S = ("learning_rate_S_start", "coeff_S_L1", "coeff_S_integer", "coeff_mass_conservation")


def idle_keys(config: HomeostasisConfig) -> dict[str, str]:
    """Return the keys that cannot act in this config, each with its reason: changing one alone changes nothing."""
    t, idle = config.training, {}
    if t.freeze_stoichiometry:
        idle |= dict.fromkeys(_OF_S, "freeze_stoichiometry is true: S is given")
    if t.coeff_k_floor == 0:
        idle["k_floor_threshold"] = "coeff_k_floor is 0"
    if not t.recurrent_training:
        idle |= dict.fromkeys(("time_step", "noise_recurrent_level"), "recurrent_training is false")
    else:
        idle["coeff_homeostasis_residual"] = "recurrent_training is true: there is no residual of single frames"
    if t.lr_scheduler == "none":
        idle |= dict.fromkeys(("lr_scheduler_final", "lr_scheduler_drops"), "lr_scheduler is none")
    elif t.lr_scheduler == "cosine":
        idle["lr_scheduler_drops"] = "lr_scheduler is cosine"
    if t.embedding_replacement == "none":
        when = ("embedding_replacement_at", "embedding_clusters_max")
        idle |= dict.fromkeys(when, "embedding_replacement is none")
    rates = [t.learning_rate_k, t.learning_rate_embedding, t.learning_rate_node, t.learning_rate_sub]
    if t.freeze_stoichiometry is False:
        rates.append(t.learning_rate_S_start)
    if all(rates):
        idle["learning_rate_start"] = "every learned quantity has a rate of its own"
    if config.graph_model.legacy_softplus:
        idle["fix_gauge"] = "legacy_softplus is true: the rates have no gauge"
    return {f"training.{name}": reason for name, reason in idle.items()}
