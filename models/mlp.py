"""Multi-layer perceptron used for every learned function of one or a few scalars."""

from __future__ import annotations

import itertools

import torch
from torch import nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "soft_relu": nn.Softplus,
}
"""Names of `graph_model.MLP_activation`."""


class MLP(nn.Module):
    """Stack of linear layers with one activation between them.

    The first layer keeps torch's default initialisation; every later one, the last included, starts from weights
    N(0, 0.1^2) and bias 0, so that an untrained network returns values near 0.

    Args:
        input_size: width of the input, dimensionless.
        output_size: width of the output.
        n_layers: number of linear layers, at least 2.
        hidden_dim: width between them.
        activation: a key of `ACTIVATIONS`.

    Shapes:
        input (..., input_size) -> output (..., output_size).

    Source: reference section 3.2.1.
    """

    def __init__(
        self, input_size: int, output_size: int, n_layers: int, hidden_dim: int, activation: str = "relu"
    ) -> None:
        super().__init__()
        if n_layers < 2:
            raise ValueError(f"an MLP has at least 2 linear layers, got n_layers={n_layers}")
        if activation not in ACTIVATIONS:
            raise ValueError(f"unknown activation {activation!r}; valid: {', '.join(ACTIVATIONS)}")
        widths = [input_size] + [hidden_dim] * (n_layers - 1) + [output_size]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.activation = ACTIVATIONS[activation]()
        for layer in self.layers[1:]:
            nn.init.normal_(layer.weight, std=0.1)
            nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output for each row of `x`."""
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)
