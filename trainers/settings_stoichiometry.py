"""Configuration keys of system `stoichiometry`: S, k and both rate functions are learned from dc/dt."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from trainers.sections import Section, key
from trainers.settings_metabolism import Metabolism

_LEARNED_S = "freeze_stoichiometry is false"
_ROLLOUT = "recurrent_training is true"
_SCHEDULE = "lr_scheduler is not none"
_NODE = "node_func is true"
_GAUGE = _LEARNED_S + ", gauge_parameter is true"


class StoichiometryModel(Section):
    """The learned model."""

    hidden_dim: int = key(32, "Width of substrate_func and rate_func.", ge=1, le=4096)
    output_size: int = key(16, "Numbers that a substrate sends to its reaction: outputs of substrate_func, inputs of "
                           "rate_func.", aliases=("message_dim",), ge=1, le=1024)  # fmt: skip
    n_layers: int = key(3, "Linear layers of each of the two.", unit="layers", ge=2, le=16)
    MLP_activation: Literal["tanh", "relu", "leaky_relu", "soft_relu"] = key("tanh", "Activation of every MLP.")
    flux_limit: bool = key(
        False, "The learned model, too, takes no more of a substrate in a step than there is: one factor a reaction. "
        "Data with simulation.flux_limit cannot be fitted without it (most reactions are limited most of the time).",
    )  # fmt: skip
    node_func: bool = key(
        False, "Add node_func([c_i, a_i]) to dc_i/dt, a term of each metabolite with a learned embedding a_i, which "
        "starts at 0."
    )  # fmt: skip
    hidden_dim_node: int = key(64, "Width of node_func.", ge=1, le=4096, acts_when=_NODE)
    n_layers_node: int = key(3, "Linear layers of node_func.", unit="layers", ge=2, le=16, acts_when=_NODE)
    embedding_dim: int = key(2, "Length of a metabolite's embedding a.", ge=1, le=16, acts_when=_NODE)


class StoichiometryTraining(Section):
    """How the model is trained. Every option that the seed document does not name is off at its default."""

    seed: int = key(42, "Initial weights and order of frames. Another value is a replicate.", ge=0, le=2**31 - 1)
    n_epochs: int = key(1, "Epochs (claude.n_epochs overrides it in an exploration).", unit="epochs", ge=1, le=1000)
    data_augmentation_loop: int = key(
        1000,
        "Budget: an epoch has int(n_frames * data_augmentation_loop // batch_size * 0.2) gradient steps.",
        aliases=("aug",), ge=1, le=100000,
    )  # fmt: skip
    batch_size: int = key(8, "Frames a gradient step.", unit="frames", aliases=("batch",), ge=1, le=1024)
    batch_size_functions: int = key(
        0, "Frames a gradient step from functions_start on, where a step costs more; 0: batch_size. The number of "
        "steps follows from batch_size.",
        unit="frames", ge=0, le=1024,
    )  # fmt: skip
    n_runs: int = key(1, "Trajectories of the data that are trained on; all of them where they are fewer.",
                      unit="runs", ge=1, le=1000)  # fmt: skip
    frame_sampling: Literal["uniform", "log_time"] = key(
        "uniform", "How frames are drawn: all alike, or uniform in log(time + 10 frames), because what happens soon "
        "after the start is the richest and is over soon."
    )  # fmt: skip
    log_time_period: int = key(
        0, "Frames after which that time starts again (the perturbation's period); 0: it never does.", unit="frames",
        ge=0, le=1000000, acts_when="frame_sampling is log_time",
    )  # fmt: skip
    S_init: Literal["randn", "graph_sign"] = key(
        "randn", "S starts from S_init_scale times randn, or times U(0.5, 2) with the signs that the graph tells "
        "(substrates -, the others +).", acts_when=_LEARNED_S,
    )  # fmt: skip
    S_init_scale: float = key(0.1, "Scale of the first S.", ge=0.0, le=10.0, acts_when=_LEARNED_S)
    log_k_init_center: float = key(-0.5, "log_k starts uniform in an interval around this.", unit="log10(k)",
                                   ge=-10.0, le=5.0)  # fmt: skip
    log_k_init_width: float = key(3.0, "Width of that interval.", unit="log10(k)", ge=0.0, le=10.0)
    functions_start: float = key(
        0.0, "Fraction of the gradient steps before which every rate is k softplus(0) and the functions wait; the last "
        "layer of rate_func then starts at 0.",
        ge=0.0, le=0.95,
    )  # fmt: skip
    learning_rate_start: float = key(
        1e-3, "Adam's rate for what has none of its own: the MLPs.", aliases=("lr", "learning_rate"), gt=0.0, le=1.0
    )
    learning_rate_embedding_start: float = key(
        1e-4, "Adam's rate for the embeddings a.", aliases=("lr_embedding", "lr_emb", "learning_rate_embedding"),
        gt=0.0, le=1.0, acts_when=_NODE,
    )  # fmt: skip
    learning_rate_S_start: float = key(
        1e-3, "Adam's rate for S; 0: learning_rate_start.", aliases=("lr_S",), ge=0.0, le=1.0, acts_when=_LEARNED_S
    )
    learning_rate_k: float = key(0.0, "Adam's rate for log_k; 0: learning_rate_start.", aliases=("lr_k",),
                                 ge=0.0, le=1.0)  # fmt: skip
    gauge_parameter: bool = key(
        False, "Learn a scale of each reaction, too: S_ij e^g_j with k_j e^-g_j, folded into both after every step. It "
        "moves along the direction in which flat rates cannot tell S from k.",
        acts_when=_LEARNED_S,
    )  # fmt: skip
    learning_rate_gauge: float = key(0.0, "Adam's rate for that scale; 0: learning_rate_start.", aliases=("lr_gauge",),
                                     ge=0.0, le=1.0, acts_when=_GAUGE)  # fmt: skip
    gauge_start: float = key(0.0, "Fraction of the gradient steps from which that scale is learned.", ge=0.0, le=0.95,
                             acts_when=_GAUGE)  # fmt: skip
    adam_beta2: float = key(0.999, "Adam's memory of squared gradients.", ge=0.5, le=0.99999)
    lr_warmup: float = key(0.0, "Fraction of the gradient steps over which all rates rise from 0.", ge=0.0, le=0.5)
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
    S_refit_every: float = key(
        0.0, "At each such fraction of the gradient steps S is solved by least squares of dc/dt and mass balance (its "
        "coefficient) at the rates as they are then; the sum of |S| of each reaction is kept. Given the rates, "
        "dc/dt is linear in S, so this leaves wrong signs that gradient steps do not leave. 0: never.",
        ge=0.0, le=0.5, acts_when=_LEARNED_S,
    )  # fmt: skip
    S_refit_until: float = key(0.7, "Fraction of the gradient steps up to which that is done.", ge=0.0, le=0.95,
                               acts_when="S_refit_every > 0")  # fmt: skip
    freeze_stoichiometry: bool = key(
        False, "S stays at its true values, which training is then told (simulation.stoichiometry_given)."
    )
    constrain_sign: bool = key(
        False, "After every step entries of S whose sign contradicts the graph become 1e-3 with the right one: signs "
        "are then given, not learned.",
        acts_when=_LEARNED_S,
    )  # fmt: skip
    coeff_S_L1: float = key(0.0, "Coefficient of the sum of |S| from epoch n_epochs_init on.", ge=0.0, le=1e3,
                            acts_when=_LEARNED_S + ", n_epochs > n_epochs_init")  # fmt: skip
    n_epochs_init: int = key(0, "Epochs that have first_coeff_L1 instead.", unit="epochs", aliases=("n_ep_init",),
                             ge=0, le=1000, acts_when=_LEARNED_S)  # fmt: skip
    first_coeff_L1: float = key(0.0, "Coefficient of the sum of |S| in those epochs.", aliases=("first_L1",),
                                ge=0.0, le=1e3, acts_when=_LEARNED_S + ", n_epochs_init > 0")  # fmt: skip
    coeff_S_integer: float = key(
        0.0, "Coefficient of the mean of sin^2(pi S), 0 at whole numbers (and at 0).", ge=0.0, le=1e6,
        acts_when=_LEARNED_S,
    )  # fmt: skip
    S_integer_start: float = key(0.0, "Fraction of the gradient steps from which that penalty acts.", ge=0.0, le=0.95,
                                 acts_when="coeff_S_integer > 0")  # fmt: skip
    coeff_S_floor: float = key(
        0.0, "Coefficient of the mean of relu(1 - |S|)^2: an entry of a reaction is 1 at least. Decoy edges, "
        "whose entries are 0, need S_floor_share beside it.",
        ge=0.0, le=1e6, acts_when=_LEARNED_S,
    )  # fmt: skip
    S_floor_start: float = key(0.0, "Fraction of the gradient steps from which that penalty acts.", ge=0.0, le=0.95,
                               acts_when="coeff_S_floor > 0")  # fmt: skip
    S_floor_ramp: float = key(0.0, "Fraction of the gradient steps over which it rises to its coefficient.",
                              ge=0.0, le=1.0, acts_when="coeff_S_floor > 0")  # fmt: skip
    S_floor_share: float = key(
        0.0, "Entries below this share of the largest of their reaction are left out of that penalty: pulled up, what "
        "is near 0 would take the rest of its column along.",
        ge=0.0, le=0.9, acts_when="coeff_S_floor > 0",
    )  # fmt: skip
    coeff_mass_conservation: float = key(
        0.0, "Coefficient of the mean over reactions of (sum_i S_ij)^2.", aliases=("coeff_mass",), ge=0.0, le=1e6,
        acts_when=_LEARNED_S,
    )  # fmt: skip
    coeff_MLP_sub_diff: float = key(
        0.0, "Coefficient of the penalty on a falling substrate_func(c, 1): the 2-norm over 100 concentrations and the "
        "numbers of a message (loss mse: the mean of squares).",
        aliases=("sub_diff",), ge=0.0, le=1e6,
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
        "none", "Divide residuals by the standard deviation of dc/dt over frames as they are drawn: of all of it, or "
        "of each metabolite."
    )  # fmt: skip
    loss: Literal["norm", "mse"] = key(
        "norm", "Prediction loss of dc/dt: norm is the sum over the frames of a step of the 2-norm over metabolites, "
        "mse the mean square.",
    )  # fmt: skip


class StoichiometryConfig(Section):
    """Effective config of a run of system `stoichiometry`."""

    simulation: Metabolism = Metabolism()
    graph_model: StoichiometryModel = StoichiometryModel()
    training: StoichiometryTraining = StoichiometryTraining()

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
        if s.use_mass_action or s.cycle_fraction > 0:
            raise ValueError("simulation: system stoichiometry needs use_mass_action: false and cycle_fraction: 0; "
                             "cycles with mass action are system homeostasis")  # fmt: skip
        if s.stoichiometry_given != t.freeze_stoichiometry:
            raise ValueError("freeze_stoichiometry and simulation.stoichiometry_given: expected both true (training is "
                             "told S and keeps it) or both false (it learns S)")  # fmt: skip
        if t.time_step >= s.n_frames // 4:
            raise ValueError("time_step: expected less than a quarter of simulation.n_frames")
        return self
