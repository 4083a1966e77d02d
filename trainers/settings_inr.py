"""Configuration keys of system `inr`: an implicit neural representation of a field that moving points carry."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from trainers.sections import Section, key

MODES_MAX = 20
"""Correlation lengths of the signal that a box may have."""
_SIMULATED = "points_file is not set"
_OWN = "points_file is set"
_FRAMES = "inr_batch_points is 0"


class Points(Section):
    """The cells that are simulated, or the recording that is used instead; its keys name the data set.

    The constants of the simulation were fixed before anything was trained on it; trainers/prepare/cells.py has the
    equations.
    """

    n_cells: int = key(1000, "Number of cells (points) of a frame.", unit="cells", ge=10, le=1000000)
    n_frames: int = key(9997, "Number of frames.", unit="frames", ge=50, le=1000000)
    dimension: int = key(3, "Number of axes of a position.", ge=2, le=3)
    delta_t: float = key(0.002, "Time between two frames.", unit="time", gt=0.0, le=1e6)
    box: list[float] = key(
        [2.0], "Side of the periodic box: one number, or one an axis; [] is a recording without a periodic box, whose "
        "positions are scaled by their extent.",
        unit="length",
    )  # fmt: skip
    substeps: int = key(1, "Euler steps of a frame.", ge=1, le=1000, acts_when=_SIMULATED)
    speed: float = key(0.5, "Speed of a cell that no other one pushes.", unit="length/time", gt=0.0, le=100.0,
                       acts_when=_SIMULATED)  # fmt: skip
    signal_length: float = key(
        0.6, "Correlation length l of the signal that polarities follow: its correlation falls as exp(-r^2/(2 l^2)).",
        unit="length", gt=0.0, le=1000.0, acts_when=_SIMULATED,
    )  # fmt: skip
    signal_time: float = key(
        2.0, "Correlation time tau of the signal: its correlation falls as (1 + s/tau) exp(-s/tau).", unit="time",
        gt=0.0, le=1000.0, acts_when=_SIMULATED,
    )  # fmt: skip
    alignment: float = key(10.0, "Rate at which a polarity turns towards a signal of size 1.", unit="1/time", ge=0.0,
                           le=1000.0, acts_when=_SIMULATED)  # fmt: skip
    rotational_diffusion: float = key(0.02, "Rotational diffusion of the polarity.", unit="1/time", ge=0.0, le=1000.0,
                                      acts_when=_SIMULATED)  # fmt: skip
    pair_stiffness: float = key(
        250.0, "Cells nearer than pair_range part at this rate times their overlap.", unit="1/time", ge=0.0, le=10000.0,
        acts_when=_SIMULATED,
    )  # fmt: skip
    pair_range: float = key(0.1, "Distance at which the soft pair force begins.", unit="length", gt=0.0, le=1000.0,
                            acts_when=_SIMULATED + ", pair_stiffness > 0")  # fmt: skip
    seed: int = key(42, "Draws the signal, the cells and what is withheld. Another value is another recording.",
                    ge=0, le=2**31 - 1)  # fmt: skip
    points_file: str = key(
        "",
        "Your own recording instead of a simulation: an .npz file or a zarr group with positions (frames, cells, "
        "dimension); a relative path starts at the exploration's folder. State n_frames, n_cells, dimension, delta_t "
        "and box, too.",
    )
    positions_name: str = key("positions", "Name of the array of positions.", acts_when=_OWN)
    field_name: str = key(
        "", "Name of the array of the field (frames, cells, ...), whose further axes are its components; empty: the "
        "velocity, differences of positions over delta_t.",
        acts_when=_OWN,
    )  # fmt: skip
    box_name: str = key("", "Name of an array with the side(s) of the box, which must be those of `box`; empty: not "
                        "compared.", acts_when=_OWN)  # fmt: skip

    @model_validator(mode="after")
    def _box_fits(self) -> Self:
        if len(self.box) not in (0, 1, self.dimension) or any(not 0.0 < side <= 1e9 for side in self.box):
            raise ValueError(
                f"box: expected one positive number, one an axis ({self.dimension}), or [] for none, found {self.box}"
            )
        return self

    @model_validator(mode="after")
    def _simulated_or_recorded(self) -> Self:
        if not self.points_file and "seed" in self.model_fields_set:  # a training is told neither
            named = [n for n in ("positions_name", "field_name", "box_name") if n in self.model_fields_set]
            if named and any(getattr(self, n) not in ("", "positions") for n in named):
                raise ValueError(f"{named[0]}: names an array of points_file, which is not set; set it or drop this")
            if len(self.box) != 1:
                raise ValueError(f"box: a simulation has one side for all axes, found {self.box}")
            if self.box[0] < 2 * self.pair_range or self.box[0] < self.signal_length:
                raise ValueError("box: expected at least twice pair_range, and signal_length")
            self._check_steps()
            if self.pair_stiffness * self.delta_t / self.substeps > 0.5:
                raise ValueError(
                    f"substeps: a step of {self.delta_t / self.substeps:g} is too long for pair_stiffness "
                    f"{self.pair_stiffness:g} (their product may be 0.5); raise substeps or lower delta_t"
                )
        return self

    def _check_steps(self) -> None:
        """Raise ValueError where Euler steps are too long, or the signal has more modes than can be summed."""
        step, side = self.delta_t / self.substeps, self.box[0]
        told = {"alignment": (self.alignment * step, 0.5), "signal_time": (step / self.signal_time, 0.05),
                "speed": (self.speed * self.delta_t / side, 0.25)}  # fmt: skip
        for name, (found, most) in told.items():
            if found > most:
                raise ValueError(f"{name}: a step of {step:g} is too long for it ({found:.3g}, at most {most:g}); "
                                 "raise substeps or lower delta_t")  # fmt: skip
        if side / self.signal_length > MODES_MAX:
            raise ValueError(f"signal_length: expected at least box / {MODES_MAX} = {side / MODES_MAX:g}, found "
                             f"{self.signal_length:g}: the signal would have too many modes")  # fmt: skip


class Inr(Section):
    """The network, and how it is trained."""

    inr_field_name: str = key("velocity", "Field that is learned: simulation.field_name, or velocity where that is "
                              "empty or has one component an axis.")  # fmt: skip
    inr_type: Literal["siren"] = key("siren", "Kind of network.")
    inr_gradient_mode: bool = key(
        False, "The field is minus the gradient of a learned potential (as many components as axes)."
    )
    omega_inr: float = key(10.0, "Frequency omega of every layer: sin(omega (W x + b)).", aliases=("omega",), gt=0.0,
                           le=1000.0)  # fmt: skip
    inr_learning_rate: float = key(1e-4, "Adam's rate at the start.", aliases=("lr", "learning_rate"), gt=0.0, le=1.0)
    hidden_dim_inr: int = key(384, "Width of the hidden layers.", aliases=("hidden_dim",), ge=1, le=8192)
    n_layers_inr: int = key(3, "Hidden layers after the first.", unit="layers", aliases=("n_layers",), ge=0, le=16)
    inr_total_steps: int = key(500000, "Gradient steps.", unit="steps", aliases=("total_steps", "steps"), ge=1,
                               le=100000000)  # fmt: skip
    inr_batch_size: int = key(8, "Frames of a gradient step, each with all its cells.", unit="frames",
                              aliases=("batch", "batch_size"), ge=1, le=4096)  # fmt: skip
    inr_xy_period: float = key(1.0, "Positions, scaled to the box, are divided by it.", aliases=("xy_period",), gt=0.0,
                               le=1000.0, acts_when="inr_periodic is false")  # fmt: skip
    inr_t_period: float = key(1.0, "Time, scaled to the recording, is divided by it.", aliases=("t_period",), gt=0.0,
                              le=1000.0)  # fmt: skip
    inr_omega_t: float = key(
        0.0, "Frequency of the time axis in the first layer; 0: omega_inr, as for the other axes.",
        aliases=("omega_t",), ge=0.0, le=10000.0,
    )  # fmt: skip
    inr_periodic: bool = key(
        False, "Positions enter as sines and cosines of one turn of the box, so that the field is periodic.",
        acts_when="box is not []",
    )  # fmt: skip
    inr_whiten: bool = key(False, "Components are scaled to mean 0 and standard deviation 1 for training.")
    inr_random_points: bool = key(
        False, "A step sees as many points as inr_batch_size frames have, drawn from all frames, in place of whole "
        "frames.",
    )  # fmt: skip
    inr_lr_scheduler: Literal["cosine", "none"] = key("cosine", "Rate over the whole training: half a cosine to a "
                                                      "hundredth, or constant.")  # fmt: skip
    inr_grad_clip: float = key(1.0, "Largest 2-norm of the gradient, which is scaled down to it; 0 is off.", ge=0.0,
                               le=1e6)  # fmt: skip
    inr_precision: Literal["float32", "bfloat16"] = key(
        "float32", "Matrix products of the hidden layers; the first and the last layer stay float32."
    )
    inr_compile: Literal["none", "default", "reduce-overhead"] = key(
        "none", "torch.compile of a gradient step's forward and backward pass; reduce-overhead also captures CUDA "
        "graphs. Needs a C++ compiler (on a GPU triton).",
    )  # fmt: skip


class InrTraining(Section):
    """What belongs to a run, not to the network."""

    seed: int = key(42, "Initial weights and order of points. Another value is a replicate.", ge=0, le=2**31 - 1)
    max_minutes: float = key(
        60.0, "Longest training. A config that its first 40 steps show to take more than 1.25 times as long is "
        "refused; a training that passes it stops, and is scored.",
        unit="min", gt=0.0, le=100000.0,
    )  # fmt: skip


class InrConfig(Section):
    """Effective config of a run of system `inr`."""

    simulation: Points = Points()
    inr: Inr = Inr()
    training: InrTraining = InrTraining()

    generator_version: ClassVar[int] = 1
    cost: ClassVar[tuple[str, ...]] = (
        "simulation.n_cells", "inr.inr_total_steps", "inr.inr_batch_size", "inr.hidden_dim_inr", "inr.n_layers_inr"
    )  # fmt: skip
    """Their product is nearly the work of a training whose time goes into its hidden layers."""
    cost_per: ClassVar[tuple[str, ...]] = ()
    budget: ClassVar[str] = "inr.inr_total_steps"
    time_limit: ClassVar[str] = "training.max_minutes"
    """Minutes that a training may take."""
    exclusive: ClassVar[tuple[tuple[str, ...], ...]] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        s, learned = self.simulation, self.inr
        names = {"velocity", s.field_name or "velocity"}
        told = "points_file" in s.model_fields_set or "field_name" in s.model_fields_set  # a training is not told them
        if learned.inr_field_name not in names and told:
            told_names = " or ".join(sorted(names))
            raise ValueError(f"inr_field_name: the data have the field {told_names}, found {learned.inr_field_name!r}")
        if learned.inr_gradient_mode and (learned.inr_whiten or learned.inr_compile != "none" or len(set(s.box)) > 1):
            raise ValueError("inr_gradient_mode: does not go with inr_whiten, inr_compile or a box of several sides; "
                             "set it to false, or those off")  # fmt: skip
        if learned.inr_periodic and not s.box:
            raise ValueError("inr_periodic: the recording has no periodic box (simulation.box is []); set it to false")
        return self
