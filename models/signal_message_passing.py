"""The neural signal model as message passing over an edge list: one evaluation of lin_edge an edge.

Slow (N - 1 times the work of the dense path) and exact: the reference that the dense path is tested against, and the
form needed once a message depends on both ends. Importing torch-geometric takes seconds, so nothing on the training
path imports this module.
"""

from __future__ import annotations

import torch
from torch_geometric.nn import MessagePassing

from models.signal import SignalPropagation


class SignalMessagePassing(MessagePassing):
    r"""Same equation and same parameters as `SignalPropagation`, over edges j -> i.

    .. math::
        \frac{du_i}{dt} = \phi(u_i, a_i) + \sum_{(j, i) \in E} W_{ij}\, e(u_j, a_j)

    Args:
        model: the dense model; its parameters are used, not copied.

    Shapes:
        u (N,), edge_index (2, E) with row 0 the source j and row 1 the target i -> du/dt (N,).
    """

    def __init__(self, model: SignalPropagation) -> None:
        super().__init__(aggr="add", flow="source_to_target", node_dim=0)
        self.model = model

    def forward(self, u: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        """Return du/dt."""
        features = self.model.features(u)
        source, target = edge_index
        message = self.propagate(edge_index, x=features, weight=self.model.connectivity()[target, source])
        return (self.model.lin_phi(features) + message).squeeze(-1)

    def message(self, x_j: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return what each edge carries (E, 1); `x_j` holds the features of its source."""
        return weight[:, None] * self.model.lin_edge(x_j)


def complete_graph(n_neurons: int, self_loops: bool = False) -> torch.Tensor:
    """Return the edges of all ordered pairs, (2, E): source, target.

    E is N * (N - 1), or N^2 with the self-loops that a model with a free diagonal needs.
    """
    wanted = torch.ones(n_neurons, n_neurons) if self_loops else 1 - torch.eye(n_neurons)
    target, source = wanted.nonzero().T
    return torch.stack([source, target])
