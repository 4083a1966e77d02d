"""Neural signal model: what each neuron sends, how it adds up, and how a neuron relaxes by itself.

Axis letters: B batch, N neurons, D embedding, G grid points.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from models.mlp import MLP
from models.utils import off_diagonal

CONNECTIVITY = ("W", "W_L", "W_R")
"""Names of the parameters that make up the connectivity."""


class FixedTanh(nn.Module):
    """lin_edge without learned weights, e(u_j) = tanh(u_j): the form that makes the data, its gain left to W.

    Shapes:
        input (..., 1 + D), activity first -> output (..., 1).
    """

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return tanh of the activity; the embedding is not looked at."""
        return torch.tanh(features[..., :1])


class SignalPropagation(nn.Module):
    r"""Rate of change of every neuron's activity.

    .. math::
        \frac{du_i}{dt} = \phi(u_i, a_i) + \sum_{j \neq i} W_{ij}\, e(u_j, a_j)

    with phi = `lin_phi` and e = `lin_edge`. Row i of `W` is the target, column j the source. What a neuron sends
    depends on the sender alone, so `lin_edge` is evaluated once a neuron and multiplied by `W`: the same sum as one
    evaluation per edge, N - 1 times cheaper (`models.signal_message_passing` is that slow path, tested equal).

    Attributes:
        W: connectivity (N, N); starts as randn with std `W_init_scale` and diagonal 0. With `W_rank` r > 0 it is the
            product W_L @ W_R of two learned factors (N, r) and (r, N): readable by this name, not a parameter.
        a: embeddings (N, D), start at ones; a buffer that never changes when all neurons are of one type.
        lin_edge: MLP (u_j, a_j) -> what j sends, or `FixedTanh`.
        lin_phi: MLP (u_i, a_i) -> self term.

    Args:
        n_neurons: N.
        embedding_dim: D.
        edge: `hidden_dim`, `n_layers` of lin_edge.
        phi: `hidden_dim`, `n_layers` of lin_phi.
        activation: name in `models.mlp.ACTIVATIONS`.
        single_type: keep `a` at ones.
        lin_edge_mode: `mlp`, or `tanh` for the fixed function.
        W_init_scale: standard deviation of W's first values; 0 starts at zeros.
        W_rank: 0 for a full W, or the number r of columns of W_L. Only W_L carries the scale, so that a start at 0
            still has a gradient; W_R starts as randn.
        W_zero_diagonal: mask the diagonal, so that it never acts; false lets it be learned like any other entry.

    Shapes:
        u (B, N) or (N,) -> du/dt of the same shape. Units: u per unit of time.

    Source: seed document 002, "GNN Architecture"; seed document 004, "Low-rank factorization"; reference section 3.2.
    Deviations: none in the equation; W_L @ W_R starts with the standard deviation of the full W, not sqrt(r) times it.
    """

    def __init__(
        self,
        n_neurons: int,
        embedding_dim: int = 2,
        edge: tuple[int, int] = (64, 3),
        phi: tuple[int, int] = (64, 3),
        activation: str = "relu",
        single_type: bool = True,
        lin_edge_mode: str = "mlp",
        W_init_scale: float = 1.0,
        W_rank: int = 0,
        W_zero_diagonal: bool = True,
    ) -> None:
        super().__init__()
        if W_rank > 0:
            self.W_L = nn.Parameter(W_init_scale * torch.randn(n_neurons, W_rank) / math.sqrt(W_rank))
            self.W_R = nn.Parameter(torch.randn(W_rank, n_neurons))
        else:
            self.W = nn.Parameter(W_init_scale * torch.randn(n_neurons, n_neurons).fill_diagonal_(0.0))
        ones = torch.ones(n_neurons, embedding_dim)
        if single_type:
            self.register_buffer("a", ones)
        else:
            self.a = nn.Parameter(ones)
        mask = off_diagonal(n_neurons) if W_zero_diagonal else torch.ones(n_neurons, n_neurons)
        self.register_buffer("mask", mask, persistent=False)
        if lin_edge_mode == "tanh":
            self.lin_edge = FixedTanh()
        else:
            self.lin_edge = MLP(1 + embedding_dim, 1, edge[1], edge[0], activation)
        self.lin_phi = MLP(1 + embedding_dim, 1, phi[1], phi[0], activation)

    def __getattr__(self, name: str) -> Any:
        """Return a parameter, buffer or module; `W` of a low-rank model is the product of its factors."""
        if name == "W" and "W_L" in self._parameters:
            return self.W_L @ self.W_R
        return super().__getattr__(name)

    def connectivity(self) -> torch.Tensor:
        """Return the connectivity that acts (N, N): `W`, its diagonal masked unless `W_zero_diagonal` is false."""
        return self.W * self.mask

    def features(self, u: torch.Tensor) -> torch.Tensor:
        """Return the input of both MLPs, (..., N) -> (..., N, 1 + D)."""
        return torch.cat([u.unsqueeze(-1), self.a.expand(*u.shape, -1)], dim=-1)

    def sent(self, u: torch.Tensor) -> torch.Tensor:
        """Return lin_edge(u_j, a_j), what each neuron sends, (..., N) -> (..., N)."""
        return self.lin_edge(self.features(u)).squeeze(-1)

    def self_term(self, u: torch.Tensor) -> torch.Tensor:
        """Return lin_phi(u_i, a_i), (..., N) -> (..., N)."""
        return self.lin_phi(self.features(u)).squeeze(-1)

    def rate(self, u: torch.Tensor, W: torch.Tensor, sent: torch.Tensor | None = None) -> torch.Tensor:
        """Return du/dt under the connectivity `W`; `sent` is what each neuron sends, where that is known already."""
        return self.self_term(u) + (self.sent(u) if sent is None else sent) @ W.T

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """Return du/dt."""
        return self.rate(u, self.connectivity())

    @torch.no_grad()
    def curves(self, grid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return lin_edge and lin_phi of every neuron on a grid of activities, (G,) -> two (N, G)."""
        u = grid[:, None].expand(-1, self.a.shape[0])
        return self.sent(u).T, self.self_term(u).T
