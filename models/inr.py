"""Sinusoidal network of time and place (Sitzmann et al. 2020). Axis letters: ... points, D axes, C components."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
from torch import nn


class SirenShape(NamedTuple):
    """What a network is made of."""

    dimension: int
    """D, axes of a place."""
    components: int
    """C, numbers of the field."""
    hidden: int
    """Width of the hidden layers."""
    layers: int
    """Hidden layers after the first."""
    omega: float
    """Frequency of every layer."""
    omega_t: float = 0.0
    """Frequency of the time axis in the first layer; 0: omega."""
    t_period: float = 1.0
    xy_period: float = 1.0
    periodic: bool = False
    """Places enter as sines and cosines of one turn of the box; xy_period does not act."""
    gradient_mode: bool = False
    """The field is minus the gradient of a learned potential; needs C = D."""


class Siren(nn.Module):
    """f(t, x): sin(omega (W x + b)) layer by layer, the last layer linear.

    Weights start as published: U(+-1/n) in the first layer, U(+-sqrt(6/n)/omega) in all others, n inputs, so that
    omega W x has standard deviation 1 in every hidden layer. Biases start as torch's do and come on top.
    """

    def __init__(self, shape: SirenShape, precision: str = "float32") -> None:
        super().__init__()
        self.shape, self.narrow = shape, precision == "bfloat16"
        places = 2 * shape.dimension if shape.periodic else shape.dimension
        widths = [1 + places, *[shape.hidden] * (shape.layers + 1)]
        outputs = 1 if shape.gradient_mode else shape.components
        self.first = nn.Linear(widths[0], widths[1])
        self.hidden = nn.ModuleList(nn.Linear(n, m) for n, m in itertools.pairwise(widths[1:]))
        self.last = nn.Linear(shape.hidden, outputs)
        with torch.no_grad():
            self.first.weight.uniform_(-1 / widths[0], 1 / widths[0])
            for layer in (*self.hidden, self.last):
                bound = math.sqrt(6 / shape.hidden) / shape.omega
                layer.weight.uniform_(-bound, bound)
        scale = torch.full((widths[0],), shape.omega)
        scale[0] = shape.omega_t or shape.omega
        self.register_buffer("scale", scale, persistent=False)
        """omega of each input in the first layer."""

    def encode(self, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Return what the first layer sees of times (..., 1) and places (..., D), both scaled to [0, 1)."""
        place = x / self.shape.xy_period
        if self.shape.periodic:
            turn = 2 * math.pi * x
            place = torch.cat([torch.sin(turn), torch.cos(turn)], dim=-1)
        return torch.cat([t / self.shape.t_period, place], dim=-1)

    def network(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the last layer's values at encoded inputs."""
        omega = self.shape.omega
        h = torch.sin(nn.functional.linear(inputs * self.scale, self.first.weight, omega * self.first.bias))
        with torch.autocast(h.device.type, torch.bfloat16, enabled=self.narrow):
            for layer in self.hidden:
                h = torch.sin(omega * layer(h).to(h.dtype))
        return self.last(h)

    def forward(self, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Return the field (..., C) at times t (..., 1) and places x (..., D), both scaled to [0, 1)."""
        if not self.shape.gradient_mode:
            return self.network(self.encode(t, x))
        learning = torch.is_grad_enabled()
        with torch.enable_grad():
            x = x if x.requires_grad else x.detach().requires_grad_(True)
            potential = self.network(self.encode(t, x)).sum()
            return -torch.autograd.grad(potential, x, create_graph=learning)[0]

    def frequencies(self) -> torch.Tensor:
        """Return the first layer's frequencies (hidden, inputs), radians over the recording (first) or the box.

        The inputs of a periodic network are sines of 2 pi times the place: their steepest change counts.
        """
        weight = self.first.weight * self.scale
        turn = 2 * math.pi if self.shape.periodic else 1.0 / self.shape.xy_period
        scale = [1.0 / self.shape.t_period, *[turn] * (weight.shape[1] - 1)]
        return weight * torch.tensor(scale, device=weight.device)
