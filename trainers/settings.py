"""Configuration keys of every system: type, default, hard range, unit, aliases, and when a key acts.

The one place that defines a key. `python -m trainers schema` writes `trainers/schema.json` from it for the engine,
which validates configs without torch. A key that nothing reads must not be added here (but `recurrent_parameters`).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ValidationError, model_validator

from trainers.errors import RefusedError
from trainers.sections import Section, extra_of, fields, key
from trainers.settings_homeostasis import HomeostasisConfig
from trainers.settings_inr import InrConfig
from trainers.settings_stoichiometry import StoichiometryConfig
from trainers.yaml_io import load_yaml

__all__ = ["SYSTEMS", "Reader", "Section", "SignalConfig", "load_yaml", "n_iterations", "read_config"]


class Simulation(Section):
    """The system that is simulated, or the recording that is used instead; its keys name the data set."""

    connectivity_type: Literal["chaotic", "low_rank", "Lorentz"] = key(
        "chaotic",
        "How W is drawn: chaotic is W_ij ~ N(0, 1/n_neurons), low_rank a product U V of rank connectivity_rank and the "
        "same variance, Lorentz a Cauchy distribution cut at 25 and divided by n_neurons^0.7.",
    )
    connectivity_rank: int = key(
        1, "Rank r of W before its diagonal is set to 0.", ge=1, le=10000, acts_when="connectivity_type is low_rank"
    )
    connectivity_filling_factor: float = key(
        1.0, "Probability that an entry of W is kept; the others are exactly 0.", gt=0.0, le=1.0, aliases=("filling",)
    )
    Dale_law: bool = key(False, "Every column of W (what one neuron sends) has one sign.")
    Dale_law_factor: float = key(
        0.5, "Fraction of neurons that excite, the first ones.", ge=0.0, le=1.0, acts_when="Dale_law is true"
    )
    legacy_sparse_transpose: bool = key(
        False,
        "Repeat the defect of the recorded simulator: an entry of W acts only where the transposed entry is kept too, "
        "while W is saved as drawn; every result carries a mark.",
        acts_when="connectivity_filling_factor < 1",
    )
    params: list[list[float]] = key(
        [[1.0, 0.0, 7.0, 0.0, 1.0, 0.0]],
        "One row [a, b, g, s, w, h] a neuron type: du_i/dt = -a u_i + b + s tanh(u_i) + g sum_j W_ij phi((u_j - h)/w).",
        unit="a: 1/time; b: u/time; g, s: u/time; w, h: u",
    )
    phi: Literal["tanh"] = key("tanh", "Transfer function phi of a sending neuron.")
    n_neurons: int = key(100, "Number of neurons.", unit="neurons", ge=2, le=10000)
    n_neuron_types: int = key(
        1, "Number of neuron types (rows of params), in blocks of equal size.", unit="types", ge=1, le=1000
    )
    n_frames: int = key(10000, "Frames kept; training gets the first 90 %.", unit="frames", ge=50, le=1000000)
    delta_t: float = key(
        0.01, "Step of the forward Euler integration; of a recording the time between frames.", unit="time", gt=0.0,
        le=1000.0,
    )  # fmt: skip
    start_frame: int = key(-100, "First frame that is integrated; frames below 0 are dropped.", unit="frames",
                           le=0, ge=-100000)  # fmt: skip
    noise_model_level: float = key(
        0.0,
        "Process noise: standard deviation of what every Euler step adds to u. The stored du/dt stays without it, and "
        "so does the second trajectory.",
        unit="u", ge=0.0, le=100.0,
    )  # fmt: skip
    seed: int = key(42, "Draws W and both initial states. Another value is another system.", ge=0, le=2**31 - 1)
    activity_file: str = key(
        "",
        "Your own recording instead of a simulation: a .npy or .npz file or a zarr array, one row a frame, one column "
        "a neuron; a relative path starts at the exploration's folder. State n_neurons, n_frames and delta_t, too; of "
        "the other keys of this section none acts. Metrics that need a truth are absent.",
    )
    activity_name: str = key(
        "", "Name of the array in an .npz file or a zarr group that holds several.", acts_when="activity_file is set"
    )

    @model_validator(mode="after")
    def _recorded_or_simulated(self) -> Self:
        if self.activity_name and not self.activity_file:
            raise ValueError("activity_name: names an array of activity_file, which is not set; set it or drop this")
        if self.activity_file and (self.noise_model_level > 0.0 or self.legacy_sparse_transpose):
            raise ValueError("noise_model_level and legacy_sparse_transpose act on simulations; drop them here")
        return self

    @model_validator(mode="after")
    def _one_row_a_type(self) -> Self:
        if any(len(row) != 6 for row in self.params):
            raise ValueError("params: expected rows of 6 numbers [a, b, g, s, w, h]")
        if any(row[4] <= 0.0 for row in self.params):
            raise ValueError("params: w, the fifth number of a row, must be > 0")
        if "params" in self.model_fields_set and len(self.params) != self.n_neuron_types:  # a training is not told them
            raise ValueError(f"params: expected {self.n_neuron_types} row(s), one a type, found {len(self.params)}")
        if self.n_neuron_types > self.n_neurons:
            raise ValueError(f"n_neuron_types: expected at most n_neurons = {self.n_neurons}")
        return self

    @model_validator(mode="after")
    def _connectivity_fits(self) -> Self:
        if self.connectivity_type == "low_rank" and self.connectivity_rank > self.n_neurons:
            raise ValueError(f"connectivity_rank: expected at most n_neurons = {self.n_neurons}")
        if self.legacy_sparse_transpose and self.connectivity_filling_factor == 1.0:
            raise ValueError("legacy_sparse_transpose: changes nothing at connectivity_filling_factor 1; drop it")
        return self


Activation = Literal["relu", "leaky_relu", "tanh", "sigmoid", "soft_relu"]


class GraphModel(Section):
    """The learned model."""

    signal_model_name: Literal["PDE_N4"] = key(
        "PDE_N4", "What a neuron sends depends on the sender alone: lin_edge(u_j, a_j)."
    )
    input_size: int = key(3, "Inputs of lin_edge: u_j and the embedding, so 1 + embedding_dim.", ge=2, le=17)
    output_size: Literal[1] = key(1, "Outputs of both MLPs.")
    hidden_dim: int = key(64, "Width of lin_edge.", ge=1, le=4096)
    n_layers: int = key(3, "Linear layers of lin_edge.", unit="layers", ge=2, le=16)
    embedding_dim: int = key(2, "Length of a neuron's embedding a.", ge=1, le=16)
    input_size_update: int = key(3, "Inputs of lin_phi: u_i and the embedding, so 1 + embedding_dim.", ge=2, le=17)
    n_layers_update: int = key(3, "Linear layers of lin_phi.", unit="layers", ge=2, le=16)
    hidden_dim_update: int = key(64, "Width of lin_phi.", ge=1, le=4096)
    MLP_activation: Activation = key("relu", "Activation of both MLPs.")
    lin_edge_mode: Literal["mlp", "tanh"] = key(
        "mlp",
        "lin_edge is a learned MLP, or tanh(u_j) without learned weights: the form behind the data, gain left to W.",
    )
    W_rank: int = key(
        0, "0: W is learned entry by entry; r > 0: W = W_L @ W_R with learned factors of r columns and r rows.",
        ge=0, le=10000,
    )  # fmt: skip
    W_zero_diagonal: bool = key(
        True, "The diagonal of W is 0 and never acts; False: it starts at 0 and is learned like any other entry."
    )

    @model_validator(mode="after")
    def _inputs_fit(self) -> Self:
        for name in ("input_size", "input_size_update"):
            if getattr(self, name) != 1 + self.embedding_dim:
                raise ValueError(
                    f"{name}: expected 1 + embedding_dim = {1 + self.embedding_dim}, found {getattr(self, name)}"
                )
        return self


_PHASE_1 = "phase 1: epoch < n_epochs_init"
_PHASE_2 = "phase 2: n_epochs > n_epochs_init"
_ROLLOUT = "recurrent_training or neural_ODE_training is true"
_ODE = "neural_ODE_training is true"
_SCHEDULE = "lr_scheduler is not none"
_REPLACES = "embedding_replacement is not none, training_single_type is false"


class SignalTraining(Section):
    """How the model is trained."""

    seed: int = key(42, "Initial weights and order of frames. Another value is a replicate.", ge=0, le=2**31 - 1)
    n_epochs: int = key(2, "Epochs (claude.n_epochs overrides it in an exploration).", unit="epochs", ge=1, le=1000)
    data_augmentation_loop: int = key(
        40,
        "Budget: an epoch has int(n_frames * data_augmentation_loop // batch_size * 0.2) gradient steps.",
        aliases=("aug",), ge=1, le=100000,
    )  # fmt: skip
    batch_size: int = key(8, "Frames a gradient step.", unit="frames", aliases=("batch",), ge=1, le=1024)
    W_init_scale: float = key(
        1.0, "Standard deviation of W's first values; 0 starts at zeros. The true scale, 1/sqrt(n_neurons), is 0.1 at "
        "100 neurons and 0.0707 at 200.",
        ge=0.0, le=10.0,
    )  # fmt: skip
    learning_rate_W_start: float = key(
        3e-3, "Rate for W (for both factors when W_rank > 0).", aliases=("lr_W", "learning_rate_W"), gt=0.0, le=1.0
    )
    optimizer_W: Literal["adam", "sgd"] = key("adam", "Optimizer of W; everything else has Adam.")
    momentum_W: float = key(0.9, "Momentum of sgd.", ge=0.0, le=0.999, acts_when="optimizer_W is sgd")
    grad_clip_W: float = key(
        0.0, "Largest 2-norm of W's gradient, which is scaled down to it (factors together when W_rank > 0); 0 is off.",
        ge=0.0, le=1e6,
    )  # fmt: skip
    lr_scheduler: Literal["none", "cosine", "step"] = key(
        "none",
        "Rates over the whole training, gradient step by gradient step: constant, half a cosine, or equal drops.",
    )
    lr_scheduler_scope: Literal["W", "all"] = key("W", "Which rates follow the schedule.", acts_when=_SCHEDULE)
    lr_scheduler_final: float = key(
        0.01, "Last rate as a fraction of the first.", aliases=("lr_final",), gt=0.0, le=0.9, acts_when=_SCHEDULE
    )
    lr_scheduler_drops: int = key(
        3, "How often the rate drops, by the same factor each time, after stretches of equal length.", unit="drops",
        ge=1, le=100, acts_when="lr_scheduler is step",
    )  # fmt: skip
    learning_rate_start: float = key(
        1e-4, "Adam's rate for lin_edge and lin_phi.", aliases=("lr", "learning_rate"), gt=0.0, le=1.0
    )
    learning_rate_embedding_start: float = key(
        2.5e-4, "Adam's rate for the embeddings a.", aliases=("lr_emb", "lr_embedding"), gt=0.0, le=1.0,
        acts_when="training_single_type is false",
    )  # fmt: skip
    coeff_W_L1: float = key(
        0.0, "Phase 2: coefficient of the sum of |W_ij|, added once a step.", aliases=("L1", "W_L1"), ge=0.0, le=1e3,
        acts_when=_PHASE_2,
    )  # fmt: skip
    first_coeff_L1: float = key(
        0.0, "Phase 1: coefficient of the sum of |W_ij|.", aliases=("first_L1",), ge=0.0, le=1e3, acts_when=_PHASE_1
    )
    coeff_W_proximal: float = key(
        0.0, "Phase 2: after each gradient step every entry of W moves towards 0 by this times W's present rate, and "
        "stops at exactly 0 (proximal L1; not with W_rank > 0).",
        aliases=("proximal_L1",), ge=0.0, le=1e3, acts_when=_PHASE_2 + ", W_rank is 0",
    )  # fmt: skip
    coeff_W_small: float = key(
        0.0, "Phase 2: coefficient of the sum of min(|W_ij|, W_small_threshold), which pulls only small entries to 0.",
        ge=0.0, le=1e3, acts_when=_PHASE_2,
    )  # fmt: skip
    W_small_threshold: float = key(
        0.05, "Entries of W below this count as small.", gt=0.0, le=10.0, acts_when=_PHASE_2 + ", coeff_W_small > 0"
    )
    coeff_W_group_lasso: float = key(
        0.0, "Phase 2: coefficient of the sum over senders of the 2-norm of their column of W.",
        aliases=("group_lasso",), ge=0.0, le=1e3, acts_when=_PHASE_2,
    )  # fmt: skip
    n_epochs_init: int = key(
        2, "Epochs of phase 1; 0 starts in phase 2.", unit="epochs", aliases=("n_ep_init",), ge=0, le=1000
    )
    coeff_edge_diff: float = key(
        0.0,
        "Phase 1: coefficient of the penalty on a falling lin_edge, the norm over neurons of "
        "relu(lin_edge(u) - lin_edge(u + delta)), delta = 1.5 std(u) / 150, summed over the frames of a step "
        "(loss mse: the mean of its square).",
        aliases=("edge_diff",), ge=0.0, le=1e9, acts_when=_PHASE_1 + ", lin_edge_mode is mlp",
    )  # fmt: skip
    coeff_edge_diff_phase2: float = key(
        0.0, "Phase 2: coefficient of the same penalty.", aliases=("edge_diff_phase2",), ge=0.0, le=1e9,
        acts_when=_PHASE_2 + ", lin_edge_mode is mlp",
    )  # fmt: skip
    recurrent_training: bool = key(
        False,
        "Train on the state time_step frames ahead, reached by Euler steps of the model's own predictions, "
        "in place of du/dt of one frame.",
        aliases=("recurrent",),
    )
    time_step: int = key(
        1, "Frames of a rollout; a step costs about time_step times more. 1 without noise is the single step.",
        unit="frames", ge=1, le=64, acts_when=_ROLLOUT,
    )  # fmt: skip
    noise_recurrent_level: float = key(
        0.0, "Standard deviation of the noise added to u at every step of a rollout.", unit="u",
        aliases=("noise_recurrent",), ge=0.0, le=1.0, acts_when="recurrent_training is true",
    )  # fmt: skip
    recurrent_training_start_epoch: int = key(
        0, "Epoch at which recurrent or neural ODE training begins; single steps before.", unit="epochs", ge=0, le=1000,
        acts_when=_ROLLOUT,
    )  # fmt: skip
    recurrent_intermediate: float = key(
        0.0, "Coefficient of the mean loss of the states at the earlier frames of a rollout, each as the loss of the "
        "last (residual over its own horizon); 0 looks at the last frame alone.",
        aliases=("intermediate_supervision",), ge=0.0, le=1e3, acts_when=_ROLLOUT + ", time_step > 1",
    )  # fmt: skip
    recurrent_curriculum: bool = key(
        False, "Rollouts of 1, 2, 4, ... and last time_step frames, each for an equal stretch of the gradient steps "
        "that have rollouts.",
        aliases=("curriculum",), acts_when=_ROLLOUT + ", time_step > 1",
    )  # fmt: skip
    recurrent_checkpointing: bool = key(
        False, "Keep one state a frame of a rollout and evaluate the rest again in the backward pass: the same "
        "gradients, less memory, more time. Not for the adjoint of a neural ODE, which keeps no steps.",
        aliases=("gradient_checkpointing",), acts_when=_ROLLOUT + ", not with ode_adjoint",
    )  # fmt: skip
    recurrent_parameters: list[float] = key(
        [0.0, 0.0], "Accepted because recorded configs have it. It acts on nothing.", acts_when="never"
    )
    neural_ODE_training: bool = key(
        False, "As recurrent_training, with an ODE solver in place of Euler steps. Not both.", aliases=("neural_ODE",)
    )
    ode_method: Literal["dopri5", "rk4", "euler", "midpoint", "heun3"] = key(
        "dopri5", "Solver; all but the adaptive dopri5 take one step a frame. The data are Euler steps of delta_t.",
        acts_when=_ODE,
    )  # fmt: skip
    ode_rtol: float = key(1e-4, "Relative tolerance.", gt=0.0, le=0.1, acts_when="ode_method is dopri5")
    ode_atol: float = key(1e-5, "Absolute tolerance.", unit="u", gt=0.0, le=1.0, acts_when="ode_method is dopri5")
    ode_adjoint: bool = key(
        True, "Gradient by the adjoint ODE (memory does not grow with the solver steps), or through the steps.",
        acts_when=_ODE,
    )  # fmt: skip
    ode_state_clamp: float = key(
        10.0, "The model sees u within this many standard deviations of u from 0, which stops a blow-up.",
        unit="standard deviations of u", gt=0.0, le=1e6, acts_when=_ODE,
    )  # fmt: skip
    training_single_type: bool = key(True, "All neurons are one type: embeddings stay at ones.",
                                     aliases=("single_type",))  # fmt: skip
    embedding_replacement: Literal["none", "kmeans"] = key(
        "none",
        "kmeans: once in the training, each embedding becomes the median of its k-means cluster (of the learned "
        "embeddings alone) and stays fixed from then on, so that the rest of the training has few types.",
        acts_when="training_single_type is false",
    )
    embedding_replacement_at: float = key(
        0.5, "When embeddings are replaced, as a fraction of all gradient steps.", gt=0.0, le=0.99,
        acts_when=_REPLACES,
    )  # fmt: skip
    embedding_clusters: int = key(
        0, "Clusters; 0: as many, from 2 to embedding_clusters_max, as have the largest silhouette.", unit="clusters",
        ge=0, le=1000, acts_when=_REPLACES,
    )  # fmt: skip
    embedding_clusters_max: int = key(
        8, "Most clusters that are tried.", unit="clusters", ge=2, le=100,
        acts_when=_REPLACES + ", embedding_clusters is 0",
    )  # fmt: skip
    normalise_du: bool = key(
        False, "Divide residuals by the standard deviation of du/dt over the training frames: losses, and coefficients "
        "beside them, then mean the same on every data set. final_loss keeps the unit of du/dt.",
        aliases=("normalize_du",),
    )  # fmt: skip
    precision: Literal["float32", "bfloat16"] = key(
        "float32",
        "Matrix products of lin_edge, lin_phi and W in training; states, losses and weights stay float32. bfloat16 is "
        "faster where the processor has it.",
    )
    compile: Literal["none", "default", "reduce-overhead"] = key(
        "none",
        "torch.compile of the right-hand side, a minute at the start; reduce-overhead also captures CUDA graphs on "
        "a GPU. Needs a C++ compiler (on a GPU triton). On a CPU the steps are slower, half as fast as without.",
    )
    loss: Literal["norm", "mse"] = key(
        "norm", "Prediction loss of du/dt: norm is the 2-norm over a whole step (B * N numbers), mse their mean square."
    )

    @model_validator(mode="after")
    def _one_kind_of_rollout(self) -> Self:
        if self.recurrent_training and self.neural_ODE_training:
            raise ValueError("recurrent_training and neural_ODE_training are both true; set one of them to false")
        return self


class SignalConfig(Section):
    """Effective config of a run of system `signal`."""

    simulation: Simulation = Simulation()
    graph_model: GraphModel = GraphModel()
    training: SignalTraining = SignalTraining()

    generator_version: ClassVar[int] = 2
    """Raised whenever the same simulation section gives other data."""
    cost: ClassVar[tuple[str, ...]] = (
        "simulation.n_frames", "training.n_epochs", "training.data_augmentation_loop", "training.time_step"
    )  # fmt: skip
    """Keys whose product is the work of a training (frames seen; a larger batch takes fewer, longer steps)."""
    cost_per: ClassVar[tuple[str, ...]] = ()
    """Keys by which that product is divided."""
    budget: ClassVar[str] = "training.data_augmentation_loop"
    """The one of `cost` that scales the work and nothing else."""
    time_limit: ClassVar[str] = ""
    """Key of the longest training in minutes, which the training keeps by itself; "" where there is none."""
    exclusive: ClassVar[tuple[tuple[str, ...], ...]] = (
        ("training.recurrent_training", "training.neural_ODE_training"),
    )
    """Groups of keys of which at most one may be true."""


SYSTEMS: dict[str, Any] = {
    "signal": SignalConfig,
    "homeostasis": HomeostasisConfig,
    "stoichiometry": StoichiometryConfig,
    "inr": InrConfig,
}
"""The config of each system; what programs a system has: trainers/systems.py."""


def n_iterations(n_frames: int, data_augmentation_loop: int, batch_size: int) -> int:
    """Return the gradient steps of an epoch, int(n_frames * data_augmentation_loop // batch_size * 0.2), at least 1.

    Source: reference section 3.3.1. `n_frames` is simulation.n_frames, although training holds the first 90 %.
    """
    return max(1, int(n_frames * data_augmentation_loop // batch_size * 0.2))


def read_config(system: str, sections: Mapping[str, Any]) -> Any:
    """Return a validated config.

    Raises:
        RefusedError: no such system, an unknown section or key (with the nearest valid ones), or a bad value.
    """
    if system not in SYSTEMS:
        raise RefusedError(f"unknown system {system!r}; systems: {', '.join(SYSTEMS)}")
    try:
        return SYSTEMS[system].model_validate(dict(sections))
    except ValidationError as error:
        faults = [_sentence(SYSTEMS[system], fault) for fault in error.errors()]
        raise RefusedError(f"config of system {system}: {'; '.join(faults)}") from error


def _sentence(config: type[BaseModel], fault: Any) -> str:
    where = ".".join(str(part) for part in fault["loc"])
    if fault["type"] != "extra_forbidden":
        found = f", found {fault['input']!r}" if isinstance(fault["input"], str | int | float) else ""
        message = str(fault["msg"]).removeprefix("Value error, ")
        return f"{where}: {message}{found}"
    spellings = {name: f"{s}.{k}" for s, k, field in fields(config) for name in (k, *extra_of(field)["aliases"])}
    spellings |= {s: s for s in config.model_fields}
    close = difflib.get_close_matches(str(fault["loc"][-1]), list(spellings), n=6, cutoff=0.4)
    near = list(dict.fromkeys(spellings[c] for c in close))[:3]
    valid = near or sorted(config.model_fields)
    return f"unknown key {where}; {'nearest valid keys' if near else 'valid sections'}: {', '.join(valid)}"


class Reader:
    """A config that remembers which keys were read: `config.training.batch_size` adds `training.batch_size`."""

    def __init__(self, config: BaseModel, prefix: str = "", read: set[str] | None = None) -> None:
        self._config, self._prefix = config, prefix
        self.keys_read: set[str] = set() if read is None else read

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._config, name)
        if isinstance(value, BaseModel):
            return Reader(value, f"{name}.", self.keys_read)
        self.keys_read.add(self._prefix + name)
        return value
