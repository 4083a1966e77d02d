"""Neural signal model: what each neuron sends, how it adds up, and how a neuron relaxes by itself.

Axis letters: B batch, N neurons, D embedding, G grid points.
"""

from __future__ import annotations

import torch
from torch import nn

from models.mlp import MLP
from models.utils import off_diagonal


class SignalPropagation(nn.Module):
    r"""Rate of change of every neuron's activity.

    .. math::
        \frac{du_i}{dt} = \phi(u_i, a_i) + \sum_{j \neq i} W_{ij}\, e(u_j, a_j)

    with phi = `lin_phi` and e = `lin_edge`. Row i of `W` is the target, column j the source. What a neuron sends
    depends on the sender alone, so `lin_edge` is evaluated once a neuron and multiplied by `W`: the same sum as one
    evaluation per edge, N - 1 times cheaper (`models.signal_message_passing` is that slow path, tested equal).

    Attributes:
        W: connectivity (N, N); starts as randn with std 1 and diagonal 0. The diagonal is masked and never acts.
        a: embeddings (N, D), start at ones; a buffer that never changes when all neurons are of one type.
        lin_edge: MLP (u_j, a_j) -> what j sends.
        lin_phi: MLP (u_i, a_i) -> self term.

    Args:
        n_neurons: N.
        embedding_dim: D.
        edge: `hidden_dim`, `n_layers` of lin_edge.
        phi: `hidden_dim`, `n_layers` of lin_phi.
        activation: name in `models.mlp.ACTIVATIONS`.
        single_type: keep `a` at ones.

    Shapes:
        u (B, N) or (N,) -> du/dt of the same shape. Units: u per unit of time.

    Source: seed document 002, "GNN Architecture"; reference section 3.2. Deviation: none in the mathematics.
    """

    def __init__(
        self,
        n_neurons: int,
        embedding_dim: int = 2,
        edge: tuple[int, int] = (64, 3),
        phi: tuple[int, int] = (64, 3),
        activation: str = "relu",
        single_type: bool = True,
    ) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(n_neurons, n_neurons).fill_diagonal_(0.0))
        ones = torch.ones(n_neurons, embedding_dim)
        if single_type:
            self.register_buffer("a", ones)
        else:
            self.a = nn.Parameter(ones)
        self.register_buffer("mask", off_diagonal(n_neurons), persistent=False)
        self.lin_edge = MLP(1 + embedding_dim, 1, edge[1], edge[0], activation)
        self.lin_phi = MLP(1 + embedding_dim, 1, phi[1], phi[0], activation)

    def connectivity(self) -> torch.Tensor:
        """Return the connectivity that acts: `W` with its diagonal masked (N, N)."""
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

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """Return du/dt."""
        return self.self_term(u) + self.sent(u) @ self.connectivity().T

    @torch.no_grad()
    def curves(self, grid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return lin_edge and lin_phi of every neuron on a grid of activities, (G,) -> two (N, G)."""
        u = grid[:, None].expand(-1, self.W.shape[0])
        return self.sent(u).T, self.self_term(u).T
