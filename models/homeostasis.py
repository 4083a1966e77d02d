"""The learned metabolic network with given stoichiometry.

Axis letters: B batch, M metabolites, R reactions, E edges, P substrates of a reaction (the most there are).
"""

from __future__ import annotations

import torch
from torch import nn

from models.metabolism import EMBEDDING_INIT, LOG_K_CENTER, S_INIT, Graph, function, padded


class HomeostasisPropagation(nn.Module):
    r"""Mass-action reactions and a homeostatic term of each metabolite.

    .. math::
        \frac{dc_i}{dt} = \mathrm{node}(c_i, a_i) + \sum_j S_{ij}\, 10^{\log k_j} \prod_{m \in sub(j)} f(c_m, |s_{mj}|)

    `substrate_func` is f and `node_func` the homeostatic term; f is made positive by its absolute value. A reaction
    without substrate edges has rate 0. f depends on metabolite and order only, so it is evaluated once for each pair
    that occurs and gathered.

    Args:
        graph: with `order` and `sto`.
        sub: width and layers of substrate_func.
        node: width and layers of node_func, whose last layer starts at 0.
        activation: a key of `models.mlp.ACTIVATIONS`.
        embedding_dim: length of a.
        log_k_init_width: width of the uniform distribution of the first log_k around `LOG_K_CENTER`.
        embedding_init_scale: standard deviation of the first a.
        freeze_stoichiometry: S is a buffer with the given values; otherwise a parameter that starts at 0.1 randn.
        legacy_softplus: rates are k softplus(prod f).

    Shapes:
        c (B, M), concentration -> dc/dt (B, M), concentration per unit of time.

    Source: reference sections 2.1.3 and 2.2, without the softplus.
    """

    def __init__(
        self,
        graph: Graph,
        sub: tuple[int, int],
        node: tuple[int, int],
        activation: str = "tanh",
        embedding_dim: int = 2,
        log_k_init_width: float = 3.0,
        embedding_init_scale: float = EMBEDDING_INIT,
        freeze_stoichiometry: bool = True,
        legacy_softplus: bool = False,
    ) -> None:
        super().__init__()
        assert graph.order is not None and graph.sto is not None
        n_met, n_rxn = graph.n_metabolites, graph.n_reactions
        self.shape, self.legacy_softplus = (n_met, n_rxn), legacy_softplus
        half = log_k_init_width / 2
        self.log_k = nn.Parameter(torch.empty(n_rxn).uniform_(LOG_K_CENTER - half, LOG_K_CENTER + half))
        self.a = nn.Parameter(embedding_init_scale * torch.randn(n_met, embedding_dim))
        self.substrate_func = function(2, sub, activation)
        self.node_func = function(1 + embedding_dim, node, activation)
        nn.init.zeros_(self.node_func[-1].weight)
        nn.init.zeros_(self.node_func[-1].bias)
        if freeze_stoichiometry:
            self.register_buffer("sto_all", graph.sto.clone())
        else:
            self.sto_all = nn.Parameter(S_INIT * torch.randn(len(graph.sto)))
        pairs, index = torch.unique(torch.stack([graph.met_sub, graph.order.long()]), dim=1, return_inverse=True)
        self.register_buffer("pair_met", pairs[0], persistent=False)
        self.register_buffer("pair_order", pairs[1].to(graph.order.dtype), persistent=False)
        self.register_buffer("slots", padded(index, graph.rxn_sub, n_rxn, fill=pairs.shape[1]), persistent=False)
        self.register_buffer("active", torch.bincount(graph.rxn_sub, minlength=n_rxn) > 0, persistent=False)
        self.register_buffer("n_sub", torch.bincount(graph.rxn_sub, minlength=n_rxn), persistent=False)
        self.register_buffer("all_index", graph.met_all * n_rxn + graph.rxn_all, persistent=False)

    def f(self, c: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
        """Return |substrate_func([c, order])| of equal shapes."""
        return self.substrate_func(torch.stack([c, order.expand_as(c)], dim=-1))[..., 0].abs()

    def S(self) -> torch.Tensor:
        """Return the dense net stoichiometry (M, R)."""
        n_met, n_rxn = self.shape
        flat = torch.zeros(n_met * n_rxn, dtype=self.sto_all.dtype, device=self.sto_all.device)
        return flat.index_put((self.all_index,), self.sto_all).view(n_met, n_rxn)

    def rates(self, c: torch.Tensor) -> torch.Tensor:
        """Return v (B, R) at concentrations (B, M)."""
        sent = self.f(c[:, self.pair_met], self.pair_order)
        sent = torch.cat([sent, torch.ones_like(sent[:, :1])], dim=1)  # what pads reactions of fewer substrates
        product = sent[:, self.slots[:, 0]]
        for slot in self.slots.T[1:]:
            product = product * sent[:, slot]
        if self.legacy_softplus:
            product = nn.functional.softplus(product)
        return 10.0**self.log_k * self.active * product

    def homeostasis(self, c: torch.Tensor, a: torch.Tensor | None = None) -> torch.Tensor:
        """Return node_func([c, a]) (B, M) at concentrations (B, M)."""
        a = self.a if a is None else a
        return self.node_func(torch.cat([c[..., None], a.expand(*c.shape, a.shape[-1])], dim=-1))[..., 0]

    def reactions(self, c: torch.Tensor) -> torch.Tensor:
        """Return what reactions change (B, M)."""
        return self.rates(c) @ self.S().T

    def forward(self, c: torch.Tensor) -> torch.Tensor:
        """Return dc/dt."""
        return self.reactions(c) + self.homeostasis(c)

    @torch.no_grad()
    def fix_gauge_(self) -> None:
        """Scale substrate_func to f(1, 1) = 1 and move log_k so that every rate stays what it is.

        f -> f / alpha and log_k -> log_k + n_sub log10(alpha): a direction in which no data can tell models apart.
        Not done where f(1, 1) is nearly 0 (or the rates have the legacy softplus, which has no such direction).
        """
        alpha = self.f(*torch.ones(2, 1, device=self.log_k.device))
        if self.legacy_softplus or float(alpha) < 1e-3:
            return
        last = self.substrate_func[-1]
        last.weight.div_(alpha)
        last.bias.div_(alpha)
        self.log_k.add_(self.n_sub * torch.log10(alpha))
