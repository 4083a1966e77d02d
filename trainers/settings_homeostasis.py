"""Configuration keys of system `homeostasis`: S is given; k, MLP_sub, MLP_node and embeddings are learned."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from trainers.sections import Section, key
from trainers.settings_metabolism import Metabolism

_LEARNED_S = "freeze_stoichiometry is false"
_ROLLOUT = "recurrent_training is true"
_SCHEDULE = "lr_scheduler is not none"
_REPLACES = "embedding_replacement is kmeans"
TYPES_MAX = 4
"""Types of metabolites for which metrics are named."""


class HomeostasisModel(Section):
    """The learned model."""

    hidden_dim_sub: int = key(64, "Width of MLP_sub.", ge=1, le=4096)
    n_layers_sub: int = key(3, "Linear layers of MLP_sub.", unit="layers", ge=2, le=16)
    hidden_dim_node: int = key(64, "Width of MLP_node.", ge=1, le=4096)
    n_layers_node: int = key(3, "Linear layers of MLP_node.", unit="layers", ge=2, le=16)
    embedding_dim: int = key(2, "Length of a metabolite's embedding a.", ge=1, le=16)
    MLP_activation: Literal["tanh", "relu", "leaky_relu", "soft_relu"] = key(
        "tanh", "Activation of both MLPs. What they learn over concentrations from 0 to 100 is nearly straight: relu "
        "can be exactly straight, tanh cannot.",
    )  # fmt: skip
    legacy_softplus: bool = key(
        False, "Repeat a defect of the recorded model: v = k softplus(prod MLP_sub), which cannot express mass action "
        "(it is never below 0.69 k); every estimate with it is marked by the key.",
    )  # fmt: skip


class HomeostasisTraining(Section):
    """How the model is trained."""

    seed: int = key(42, "Initial weights and order of frames. Another value is a replicate.", ge=0, le=2**31 - 1)
    n_epochs: int = key(1, "Epochs (claude.n_epochs overrides it in an exploration).", unit="epochs", ge=1, le=1000)
    data_augmentation_loop: int = key(
        2000,
        "Budget: an epoch has int(n_frames * data_augmentation_loop // batch_size * 0.2) gradient steps.",
        aliases=("aug",), ge=1, le=100000,
    )  # fmt: skip
    batch_size: int = key(8, "Frames a gradient step.", unit="frames", aliases=("batch",), ge=1, le=1024)
    n_runs: int = key(1, "Trajectories of the data that are trained on, at most simulation.n_runs.", unit="runs",
                      ge=1, le=1000)  # fmt: skip
    log_k_init_width: float = key(
        3.0, "log_k starts uniform in an interval of this width around -0.5. Where only a sum or a difference of rate "
        "constants shows in the data, training keeps what the start has.",
        unit="log10(k)", ge=0.0, le=10.0,
    )  # fmt: skip
    learning_rate_start: float = key(
        1e-3, "Adam's rate for what has none of its own.", aliases=("lr", "learning_rate"), gt=0.0, le=1.0
    )
    learning_rate_k: float = key(5e-3, "Adam's rate for log_k; 0: learning_rate_start.", aliases=("lr_k",),
                                 ge=0.0, le=1.0)  # fmt: skip
    learning_rate_embedding: float = key(
        1e-4, "Adam's rate for the embeddings a; 0: learning_rate_start.",
        aliases=("lr_embedding", "lr_emb", "learning_rate_embedding_start"), ge=0.0, le=1.0,
    )  # fmt: skip
    learning_rate_node: float = key(1e-4, "Adam's rate for MLP_node; 0: learning_rate_start.", aliases=("lr_node",),
                                    ge=0.0, le=1.0)  # fmt: skip
    learning_rate_sub: float = key(5e-3, "Adam's rate for MLP_sub; 0: learning_rate_start.", aliases=("lr_sub",),
                                   ge=0.0, le=1.0)  # fmt: skip
    lr_scheduler: Literal["none", "cosine", "step"] = key(
        "none", "All rates over the whole training: constant, half a cosine, or equal drops."
    )
    lr_scheduler_final: float = key(
        0.01, "Last rate as a fraction of the first.", aliases=("lr_final",), gt=0.0, le=0.9, acts_when=_SCHEDULE
    )
    lr_scheduler_drops: int = key(
        3, "How often the rate drops, by the same factor each time.", unit="drops", ge=1, le=100,
        acts_when="lr_scheduler is step",
    )  # fmt: skip
    freeze_stoichiometry: bool = key(
        True, "S stays at its given values; otherwise it starts from 0.1 randn and is learned on the given support."
    )
    learning_rate_S_start: float = key(
        0.0, "Adam's rate for S; 0: learning_rate_start.", aliases=("lr_S",), ge=0.0, le=1.0, acts_when=_LEARNED_S
    )
    coeff_S_L1: float = key(0.0, "Coefficient of the sum of |S|.", ge=0.0, le=1e3, acts_when=_LEARNED_S)
    coeff_S_integer: float = key(
        0.0, "Coefficient of the mean of sin^2(pi S), 0 at whole numbers.", ge=0.0, le=1e6, acts_when=_LEARNED_S
    )
    coeff_mass_conservation: float = key(
        0.0, "Coefficient of the mean over reactions of (sum_i S_ij)^2.", aliases=("coeff_mass",), ge=0.0, le=1e6,
        acts_when=_LEARNED_S,
    )  # fmt: skip
    coeff_MLP_sub_diff: float = key(
        6.0, "Coefficient of the penalty on a falling MLP_sub: the 2-norm over 100 concentrations of what it falls to "
        "the next one (loss mse: the mean of squares).",
        aliases=("sub_diff",), ge=0.0, le=1e6,
    )  # fmt: skip
    coeff_MLP_node_L1: float = key(
        1.0, "Coefficient of the mean |MLP_node| over the step: it keeps MLP_node from taking over reactions, and "
        "suppresses the homeostasis that is to be recovered.",
        aliases=("node_L1",), ge=0.0, le=1e6,
    )  # fmt: skip
    embedding_init_scale: float = key(0.1, "Standard deviation of the first embeddings.", ge=0.0, le=10.0)
    coeff_embedding_L2: float = key(
        0.0, "Coefficient of the mean square of the embeddings, until they are replaced: it takes away differences "
        "that MLP_node does not use.",
        aliases=("embedding_L2",), ge=0.0, le=1e6,
    )  # fmt: skip
    embedding_replacement: Literal["none", "kmeans"] = key(
        "none",
        "kmeans: once in the training, each embedding becomes the median of its k-means cluster (of the learned "
        "embeddings alone, as many clusters as have the largest silhouette) and stays fixed from then on.",
    )
    embedding_replacement_at: float = key(
        0.5, "When embeddings are replaced, as a fraction of all gradient steps.", gt=0.0, le=0.99,
        acts_when=_REPLACES,
    )  # fmt: skip
    embedding_clusters_max: int = key(
        8, "Most clusters that are tried.", unit="clusters", ge=2, le=100, acts_when=_REPLACES
    )
    coeff_MLP_sub_norm: float = key(
        1.0, "Coefficient of (MLP_sub(c=1, |s|=1) - 1)^2.", aliases=("sub_norm",), ge=0.0, le=1e6
    )
    coeff_k_floor: float = key(
        1.0, "Coefficient of sum relu(k_floor_threshold - log_k)^2.", aliases=("k_floor",), ge=0.0, le=1e6
    )
    k_floor_threshold: float = key(-2.0, "Where that penalty begins.", unit="log10(k)", ge=-10.0, le=5.0,
                                   acts_when="coeff_k_floor > 0")  # fmt: skip
    coeff_k_spread: float = key(
        0.0, "Coefficient of the variance of log_k: it pulls a rate constant that the data do not determine to the "
        "mean of all.",
        aliases=("k_spread",), ge=0.0, le=1e6,
    )  # fmt: skip
    fix_gauge: bool = key(
        False, "Every 100 steps scale MLP_sub so that MLP_sub(1, 1) = 1 and move log_k so that every rate stays what "
        "it is.",
    )  # fmt: skip
    homeostasis_start: float = key(
        0.0, "MLP_node and the embeddings take part from this fraction of the gradient steps on: reactions first.",
        ge=0.0, le=0.95,
    )  # fmt: skip
    coeff_homeostasis_residual: float = key(
        0.0, "Coefficient of a second loss that only MLP_node and the embeddings see: what the reactions leave "
        "unexplained, scaled to size 1.",
        aliases=("homeo_residual",), ge=0.0, le=1e6,
    )  # fmt: skip
    recurrent_training: bool = key(
        False, "Train on the concentrations time_step frames ahead, reached by Euler steps of the model's own "
        "predictions, in place of dc/dt of one frame.",
        aliases=("recurrent",),
    )  # fmt: skip
    time_step: int = key(1, "Frames of a rollout.", unit="frames", ge=1, le=64, acts_when=_ROLLOUT)
    noise_recurrent_level: float = key(
        0.0, "Standard deviation of the noise added to c at every step of a rollout.", unit="concentration",
        ge=0.0, le=1.0, acts_when=_ROLLOUT,
    )  # fmt: skip
    normalise_dc: Literal["none", "overall", "metabolite"] = key(
        "none", "Divide residuals by the standard deviation of dc/dt: of all of it, or of each metabolite."
    )
    loss: Literal["norm", "mse"] = key(
        "norm", "Prediction loss of dc/dt: norm is the sum over the frames of a step of the 2-norm over metabolites, "
        "mse the mean square.",
    )  # fmt: skip


class HomeostasisConfig(Section):
    """Effective config of a run of system `homeostasis`."""

    simulation: Metabolism = Metabolism(
        stoichiometry_given=True, cycle_fraction=1.0, cycle_length=3, use_mass_action=True, flux_limit=False
    )
    graph_model: HomeostasisModel = HomeostasisModel()
    training: HomeostasisTraining = HomeostasisTraining()

    generator_version: ClassVar[int] = 1
    cost: ClassVar[tuple[str, ...]] = (
        "simulation.n_frames", "training.n_epochs", "training.data_augmentation_loop", "training.time_step"
    )  # fmt: skip
    cost_per: ClassVar[tuple[str, ...]] = ("training.batch_size",)
    """A step is mostly fixed work: 100 metabolites are small, so frames are nearly free beside each other."""
    budget: ClassVar[str] = "training.data_augmentation_loop"
    time_limit: ClassVar[str] = ""
    exclusive: ClassVar[tuple[tuple[str, ...], ...]] = ()

    @model_validator(mode="after")
    def _learnable(self) -> Self:
        s, t = self.simulation, self.training
        if not s.use_mass_action or not s.stoichiometry_given:
            raise ValueError("simulation: system homeostasis needs use_mass_action: true and stoichiometry_given: true")
        if s.n_metabolite_types > TYPES_MAX:
            raise ValueError(f"n_metabolite_types: expected at most {TYPES_MAX}, found {s.n_metabolite_types}")
        if t.n_runs > s.n_runs:
            raise ValueError(f"n_runs: training asks for {t.n_runs}, simulation.n_runs has {s.n_runs}")
        if t.time_step >= s.n_frames // 4:
            raise ValueError("time_step: expected less than a quarter of simulation.n_frames")
        return self
