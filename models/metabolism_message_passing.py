"""Both metabolic models as message passing over bipartite edges metabolite -> reaction -> metabolite.

One evaluation of the substrate function an edge: the reference that the fast paths of `models.metabolism` and
`models.stoichiometry` are tested against. Importing torch-geometric takes seconds, so nothing on the training path
imports this module. Axis letters: M metabolites, R reactions, E_sub substrate edges, E_all all edges.
"""

from __future__ import annotations

import torch
from torch import nn
from torch_geometric.nn import MessagePassing

from models.homeostasis import HomeostasisPropagation
from models.metabolism import Graph
from models.stoichiometry import TAKEN_MIN, StoichiometryPropagation


class _Sum(MessagePassing):
    """What targets of bipartite edges receive: messages (E, D) as they are, aggregated."""

    def __init__(self, aggr: str = "add") -> None:
        super().__init__(aggr=aggr, flow="source_to_target", node_dim=0)

    def forward(self, edge_index: torch.Tensor, size: tuple[int, int], sent: torch.Tensor) -> torch.Tensor:
        """Return (targets, D) from messages (E, D) along edges (2, E)."""
        return self.propagate(edge_index, sent=sent, size=size)

    def message(self, sent: torch.Tensor) -> torch.Tensor:
        """Return what each edge carries."""
        return sent


class MetabolismMessagePassing(nn.Module):
    r"""Same equation and same parameters as the fast model, edge by edge.

    .. math::
        \frac{dc_i}{dt} = \mathrm{node}(c_i, a_i) + \sum_{(j, i) \in E} s_{ij}\, v_j(\{c_m, |s_{mj}|\}_{m \in sub(j)})

    Args:
        model: a fast model; its parameters are used, not copied.
        graph: the graph that it was made with.

    Shapes:
        c (M,), concentration -> dc/dt (M,), concentration per unit of time.
    """

    def __init__(self, model: HomeostasisPropagation | StoichiometryPropagation, graph: Graph) -> None:
        super().__init__()
        self.model, self.graph = model, graph
        self.add, self.multiply, self.least = _Sum("add"), _Sum("mul"), _Sum("min")
        self.to_reaction = torch.stack([graph.met_sub, graph.rxn_sub])
        self.to_metabolite = torch.stack([graph.rxn_all, graph.met_all])
        self.size = (graph.n_metabolites, graph.n_reactions)

    def forward(self, c: torch.Tensor) -> torch.Tensor:
        """Return dc/dt."""
        model, (n_met, n_rxn) = self.model, self.size
        s = model.sto_all if isinstance(model, HomeostasisPropagation) else model.s()
        v = self._products(c) if isinstance(model, HomeostasisPropagation) else self._sums(c, s)
        sent = (s * v[self.graph.rxn_all])[:, None]
        return self.add(self.to_metabolite, (n_rxn, n_met), sent)[:, 0] + model.homeostasis(c[None])[0]

    def _products(self, c: torch.Tensor) -> torch.Tensor:
        """Return mass-action rates (R,): the product of what the substrates send."""
        assert self.graph.order is not None and isinstance(self.model, HomeostasisPropagation)
        sent = self.model.f(c[self.graph.met_sub], self.graph.order)[:, None]
        product = self.multiply(self.to_reaction, self.size, sent)[:, 0]
        if self.model.legacy_softplus:
            product = nn.functional.softplus(product)
        named = torch.bincount(self.graph.rxn_sub, minlength=self.size[1]) > 0
        return 10.0**self.model.log_k * named * product

    def _sums(self, c: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """Return rates (R,) of the sum of what the substrates send, limited where the model limits them."""
        model, graph, (n_met, n_rxn) = self.model, self.graph, self.size
        assert isinstance(model, StoichiometryPropagation)
        order = s[model.sub_to_all].abs()
        h = self.add(self.to_reaction, self.size, model.f(c[graph.met_sub], order))
        v = model.k() * model.shape_of(h)
        if not model.flux_limit:
            return v
        taking = (order * v[graph.rxn_sub] * model.delta_t)[:, None]
        taken = self.add(self.to_reaction.flip(0), (n_rxn, n_met), taking)[:, 0]
        allowed = (c / taken.clamp(min=TAKEN_MIN)).clamp(0.0, 1.0)
        scale = self.least(self.to_reaction, self.size, allowed[graph.met_sub][:, None])[:, 0]
        named = torch.bincount(graph.rxn_sub, minlength=n_rxn) > 0
        return v * torch.where(named, scale, torch.ones_like(scale))
