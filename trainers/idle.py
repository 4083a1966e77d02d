"""Which keys cannot act in a config, and why. `tests/trainers/test_keys.py` holds this list to what training does."""

from __future__ import annotations

from trainers.rollout import FIXED_STEP
from trainers.settings import GraphModel, SignalConfig, SignalTraining, Simulation

__all__ = ["idle_keys"]

_SPARSITY = ("coeff_W_L1", "coeff_W_proximal", "coeff_W_small", "W_small_threshold", "coeff_W_group_lasso")
_DEPTH_KEYS = ("recurrent_intermediate", "recurrent_curriculum")
_ODE_KEYS = ("ode_method", "ode_rtol", "ode_atol", "ode_adjoint", "ode_state_clamp")


def idle_keys(config: SignalConfig) -> dict[str, str]:
    """Return the keys that cannot act in this config, each with its reason: changing one alone changes nothing."""
    training, model = config.training, config.graph_model
    idle = {f"training.{name}": reason for rules in (_phases, _optimization, _embeddings, _rollouts)
            for name, reason in rules(training, model).items()}  # fmt: skip
    if model.lin_edge_mode == "tanh":
        fixed = "lin_edge_mode is tanh: lin_edge has nothing to learn"
        idle |= {f"graph_model.{name}": fixed for name in ("hidden_dim", "n_layers")}
        idle |= {f"training.{name}": fixed for name in ("coeff_edge_diff", "coeff_edge_diff_phase2")}
    return idle | _simulated(config.simulation)


def _simulated(s: Simulation) -> dict[str, str]:
    idle: dict[str, str] = {}
    if s.connectivity_type != "low_rank" and "connectivity_rank" in s.model_fields_set:
        idle["simulation.connectivity_rank"] = f"connectivity_type is {s.connectivity_type}"
    if not s.Dale_law and "Dale_law_factor" in s.model_fields_set:
        idle["simulation.Dale_law_factor"] = "Dale_law is false"
    return idle


def _phases(t: SignalTraining, g: GraphModel) -> dict[str, str]:
    idle: dict[str, str] = {}
    if t.coeff_W_small == 0:
        idle["W_small_threshold"] = "coeff_W_small is 0"
    if g.W_rank > 0:
        idle["coeff_W_proximal"] = f"W_rank={g.W_rank}: a product of factors has no entries to set to 0"
    if t.n_epochs <= t.n_epochs_init:
        ended = (
            f"acts in phase 2 only, which starts at epoch n_epochs_init={t.n_epochs_init}; "
            f"this run ends after n_epochs={t.n_epochs}"
        )
        idle |= dict.fromkeys((*_SPARSITY, "coeff_edge_diff_phase2"), ended)
    if t.n_epochs_init == 0:
        idle |= dict.fromkeys(
            ("first_coeff_L1", "coeff_edge_diff"), "acts in phase 1 only, and n_epochs_init=0 leaves none"
        )
    same_penalty = t.coeff_edge_diff == t.coeff_edge_diff_phase2 or g.lin_edge_mode == "tanh"
    only_phase_2 = (t.coeff_W_small, t.coeff_W_group_lasso, 0.0 if g.W_rank > 0 else t.coeff_W_proximal)
    if same_penalty and t.first_coeff_L1 == t.coeff_W_L1 and not any(only_phase_2):
        idle["n_epochs_init"] = "both phases have the same coefficients"
    return idle


def _optimization(t: SignalTraining, _: GraphModel) -> dict[str, str]:
    idle: dict[str, str] = {}
    if t.optimizer_W == "adam":
        idle["momentum_W"] = "optimizer_W is adam"
    if t.lr_scheduler == "none":
        names = ("lr_scheduler_scope", "lr_scheduler_final", "lr_scheduler_drops")
        idle |= dict.fromkeys(names, "lr_scheduler is none: the rates are constant")
    elif t.lr_scheduler == "cosine":
        idle["lr_scheduler_drops"] = "lr_scheduler is cosine"
    return idle


def _embeddings(t: SignalTraining, _: GraphModel) -> dict[str, str]:
    when = ("embedding_replacement_at", "embedding_clusters", "embedding_clusters_max")
    if t.training_single_type:
        single = "training_single_type is true: the embeddings are not trained"
        return dict.fromkeys(("learning_rate_embedding_start", "embedding_replacement", *when), single)
    if t.embedding_replacement == "none":
        return dict.fromkeys(when, "embedding_replacement is none")
    return {"embedding_clusters_max": f"embedding_clusters={t.embedding_clusters}"} if t.embedding_clusters else {}


def _rollouts(t: SignalTraining, _: GraphModel) -> dict[str, str]:
    idle = {"recurrent_parameters": "acts on nothing; recorded configs have it"}
    if not t.recurrent_training:
        idle["noise_recurrent_level"] = "recurrent_training is false"
    if not t.neural_ODE_training:
        idle |= dict.fromkeys(_ODE_KEYS, "neural_ODE_training is false")
    elif t.ode_method in FIXED_STEP:
        idle |= dict.fromkeys(("ode_rtol", "ode_atol"), f"ode_method {t.ode_method} takes one step a frame")
    if t.neural_ODE_training and t.ode_adjoint:
        idle["recurrent_checkpointing"] = "ode_adjoint is true: no steps are kept for the backward pass"
    if t.time_step == 1:
        idle |= dict.fromkeys(_DEPTH_KEYS, "time_step=1: a rollout of one frame has no earlier ones")
    if not (t.recurrent_training or t.neural_ODE_training):
        neither = "recurrent_training and neural_ODE_training are false"
        rollout = ("time_step", "recurrent_training_start_epoch", "recurrent_checkpointing", *_DEPTH_KEYS)
        idle |= dict.fromkeys(rollout, neither)
    if t.recurrent_training_start_epoch >= t.n_epochs:
        late = (
            f"recurrent training begins at epoch {t.recurrent_training_start_epoch} (recurrent_training_start_epoch) "
            f"and this run ends after n_epochs={t.n_epochs}"
        )
        modes = ("recurrent_training", "neural_ODE_training", "time_step", "noise_recurrent_level",
                 "recurrent_checkpointing", *_DEPTH_KEYS, *_ODE_KEYS)  # fmt: skip
        idle |= dict.fromkeys(modes, late)
    return idle
