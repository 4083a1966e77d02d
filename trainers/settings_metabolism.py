"""Configuration keys of the simulated metabolic networks, which both metabolic systems have."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from trainers.sections import Section, key

_RANDOM = "cycle_fraction < 1"
_CYCLES = "cycle_fraction > 0"
_PULSES = "perturbation_every > 0"


class Metabolism(Section):
    """The network that is simulated and what training is told of it; its keys name the data set."""

    n_metabolites: int = key(100, "Number of metabolites.", unit="metabolites", ge=6, le=10000)
    n_metabolite_types: int = key(
        1, "Number of metabolite types (entries of homeostatic_lambda), in blocks of equal size.", unit="types",
        ge=1, le=100,
    )  # fmt: skip
    n_reactions: int = key(256, "Number of reactions.", unit="reactions", ge=1, le=100000)
    max_metabolites_per_reaction: int = key(
        4, "A random reaction has 1 to this minus 1 substrates, and as many products.", unit="metabolites",
        ge=2, le=100, acts_when=_RANDOM,
    )  # fmt: skip
    cycle_fraction: float = key(
        0.0, "Fraction of the reactions that form autocatalytic cycles A + B -> 2 B, B + C -> 2 C, ...; those that do "
        "not fill a cycle stay empty.",
        ge=0.0, le=1.0,
    )  # fmt: skip
    cycle_length: int = key(4, "Metabolites of a cycle.", unit="metabolites", ge=3, le=100, acts_when=_CYCLES)
    use_mass_action: bool = key(
        False, "Rates are k prod c^order; otherwise k softplus(rate_func(sum substrate_func([c, order]))) with random "
        "MLPs.",
    )  # fmt: skip
    log_k_min: float = key(-3.0, "Smallest log10 of a rate constant.", unit="log10(k)", ge=-10.0, le=5.0)
    log_k_max: float = key(-1.0, "Largest log10 of a rate constant.", unit="log10(k)", ge=-10.0, le=5.0)
    flux_limit: bool = key(True, "No reaction takes more of a substrate in a step than there is.")
    homeostatic_lambda: list[float] = key([0.0], "Homeostatic rate of each type.", unit="1/time")
    homeostatic_baseline: list[float] = key([5.0], "Concentration to which each type returns.", unit="concentration")
    circadian_amplitude: float = key(0.0, "Relative amplitude of a sine that moves the baselines.", ge=0.0, le=1.0)
    circadian_period: float = key(
        1440.0, "Period of that sine.", unit="time", gt=0.0, acts_when="circadian_amplitude > 0"
    )
    c_min: float = key(2.5, "Smallest initial concentration.", unit="concentration", ge=0.0, le=1e4)
    c_max: float = key(7.5, "Largest initial concentration.", unit="concentration", ge=0.0, le=1e4)
    n_runs: int = key(
        1, "Trajectories from initial states of their own; training.n_runs says how many of them are used.",
        unit="runs", ge=1, le=1000,
    )  # fmt: skip
    perturbation_every: int = key(
        0, "Frames between two pulses, each of which multiplies some concentrations by exp(N(0, strength^2)); 0: none.",
        unit="frames", ge=0, le=1000000,
    )  # fmt: skip
    perturbation_part: float = key(0.1, "Part of the metabolites that a pulse hits.", gt=0.0, le=1.0, acts_when=_PULSES)
    perturbation_strength: float = key(0.5, "Standard deviation of log concentration in a pulse.", gt=0.0, le=3.0,
                                       acts_when=_PULSES)  # fmt: skip
    n_frames: int = key(2880, "Frames of a trajectory; training gets the first 90 %.", unit="frames", ge=50, le=1000000)
    delta_t: float = key(1.0, "Step of the forward Euler integration.", unit="time", gt=0.0, le=1000.0)
    stoichiometry_given: bool = key(
        False, "Training is told S and the reactant orders; otherwise only who takes part in which reaction."
    )
    decoy_edges: bool = key(
        False, "The graph that training is told has one false product edge for every true edge, which are to be told "
        "apart from the true ones.",
        acts_when="stoichiometry_given is false",
    )  # fmt: skip
    shuffled_control: bool = key(
        False, "dc/dt of the training frames is shuffled in time, a control from which nothing can be learned; every "
        "result carries a mark.",
    )  # fmt: skip
    seed: int = key(42, "Draws the network and its initial states. Another value is another system.",
                    ge=0, le=2**31 - 1)  # fmt: skip

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name in ("homeostatic_lambda", "homeostatic_baseline"):
            values = getattr(self, name)
            if name in self.model_fields_set and len(values) != self.n_metabolite_types:  # a training is not told them
                raise ValueError(f"{name}: expected {self.n_metabolite_types} number(s), one a type, found {values}")
            if any(not 0.0 <= v <= 1e4 for v in values):
                raise ValueError(f"{name}: expected numbers from 0 to 10000, found {values}")
        for low, high in (("log_k_min", "log_k_max"), ("c_min", "c_max")):
            if getattr(self, low) >= getattr(self, high):
                raise ValueError(f"{low}: expected less than {high} = {getattr(self, high)}")
        if self.cycle_length > self.n_metabolites:
            raise ValueError(f"cycle_length: expected at most n_metabolites = {self.n_metabolites}")
        if 2 * (self.max_metabolites_per_reaction - 1) > self.n_metabolites:
            raise ValueError("max_metabolites_per_reaction: twice this minus 2 must not exceed n_metabolites")
        if self.cycle_fraction * self.n_reactions < self.cycle_length and int(self.cycle_fraction) == 1:
            raise ValueError(f"n_reactions: expected at least cycle_length = {self.cycle_length}, one cycle")
        if self.decoy_edges and self.stoichiometry_given:
            raise ValueError("decoy_edges: S is given, so a false edge shows by its 0; set one of them to false")
        return self
