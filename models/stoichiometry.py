"""The learned metabolic network whose stoichiometry is learned.

Axis letters: B batch, M metabolites, R reactions, E edges, E_s substrate edges, P substrates of a reaction (at most),
D numbers of a message. Inside, the batch stands last: rows are gathered and added, which is what costs.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from models.metabolism import EMBEDDING_INIT, Graph, function, padded

SIGN_FLOOR = 1e-3
"""Size of an entry of S that is put back to the sign of the graph."""
SPREAD = (0.5, 2.0)
"""Sizes of the first S with the signs of the graph, in units of its scale."""
TAKEN_MIN = 1e-12
REFIT_RIDGE = 1e-6
"""Weight of the present S in a refit, in units of the mean square of a row's rates."""
REFIT_GROWTH = 1e3
"""Most by which a refit may scale a reaction."""


class StoichiometryPropagation(nn.Module):
    r"""Reactions of learned stoichiometry on a known support.

    .. math::
        \frac{dc_i}{dt} = \sum_{e: met(e) = i} s_e\, v_{rxn(e)}, \qquad
        v_j = 10^{\log k_j}\, \mathrm{softplus}\Big(\mathrm{rate}\big(\sum_{e \in sub(j)}
        \mathrm{substrate}([c_{met(e)}, |s_e|])\big)\Big)

    With `flux_limit` each substrate allows the fraction c / (what all reactions take of it in a step) of its reactions,
    1 at most, and a reaction has the smallest fraction of its substrates. With `node_func` each metabolite has a term
    node_func([c, a]) on top.

    Args:
        graph: support; with `sto` where S is given.
        size: width and linear layers of substrate_func and rate_func.
        message: D.
        activation: a key of `models.mlp.ACTIVATIONS`.
        delta_t: of the Euler steps, which the flux limit refers to.
        flux_limit: limit the rates.
        node: None, or width and layers of node_func and the length of a.
        sto_init: `randn` or `graph_sign`, and the scale.
        log_k_init: centre and width of the uniform distribution of the first log_k.
        freeze: S is a buffer with the values of `graph.sto`.
        gauge: learn a scale of each reaction, see `fold_gauge_`.
        flat_start: the last layer of rate_func starts at 0.

    Shapes:
        c (B, M), concentration -> dc/dt (B, M), concentration per unit of time.

    Source: seed document 000, "Metabolic Network Architecture"; reference sections 1.1.3 and 1.2. Deviation: the flux
    limit inside the learned model, which the recorded one lacks.
    """

    def __init__(
        self,
        graph: Graph,
        size: tuple[int, int] = (32, 3),
        message: int = 16,
        activation: str = "tanh",
        delta_t: float = 1.0,
        flux_limit: bool = False,
        node: tuple[int, int, int] | None = None,
        sto_init: tuple[str, float] = ("randn", 0.1),
        log_k_init: tuple[float, float] = (-0.5, 3.0),
        freeze: bool = False,
        gauge: bool = False,
        flat_start: bool = False,
    ) -> None:
        super().__init__()
        n_met, n_rxn = graph.n_metabolites, graph.n_reactions
        self.shape, self.delta_t, self.flux_limit = (n_met, n_rxn), delta_t, flux_limit
        self._support(graph)
        center, half = log_k_init[0], log_k_init[1] / 2
        self.log_k = nn.Parameter(torch.empty(n_rxn).uniform_(center - half, center + half))
        if freeze:
            assert graph.sto is not None
            self.register_buffer("sto_all", graph.sto.clone())
        else:
            self.sto_all = nn.Parameter(self._first(*sto_init))
        self.substrate_func = function(2, size, activation, message)
        self.rate_func = function(message, size, activation)
        if flat_start:
            nn.init.zeros_(self.rate_func[-1].weight)
            nn.init.zeros_(self.rate_func[-1].bias)
        self.gauge = nn.Parameter(torch.zeros(n_rxn)) if gauge and not freeze else None
        self.node_func: nn.Sequential | None = None
        if node is not None:
            self.a = nn.Parameter(EMBEDDING_INIT * torch.randn(n_met, node[2]))
            self.node_func = function(1 + node[2], node[:2], activation)
            nn.init.zeros_(self.node_func[-1].weight)
            nn.init.zeros_(self.node_func[-1].bias)

    def _support(self, graph: Graph) -> None:
        """Keep the graph as buffers: met_sub, rxn_sub, met_all, rxn_all, sub_to_all, and what follows from them."""
        n_met, n_rxn = self.shape
        places = {pair: e for e, pair in enumerate(zip(graph.met_all.tolist(), graph.rxn_all.tolist(), strict=True))}
        pairs = zip(graph.met_sub.tolist(), graph.rxn_sub.tolist(), strict=True)
        sub_to_all = torch.tensor([places[pair] for pair in pairs], dtype=torch.long)
        sign = torch.ones(len(graph.met_all))
        sign[sub_to_all] = -1.0
        held = {
            "met_sub": graph.met_sub, "rxn_sub": graph.rxn_sub, "met_all": graph.met_all, "rxn_all": graph.rxn_all,
            "sub_to_all": sub_to_all, "sign": sign, "all_index": graph.met_all * n_rxn + graph.rxn_all,
            "sub_index": graph.met_sub * n_rxn + graph.rxn_sub,
            "slots": padded(graph.met_sub, graph.rxn_sub, n_rxn, fill=n_met),
        }  # fmt: skip
        for name, tensor in held.items():
            self.register_buffer(name, tensor, persistent=False)

    def _first(self, kind: str, scale: float) -> torch.Tensor:
        """Return the first S on its edges (E,)."""
        if kind == "graph_sign":
            return scale * self.sign * torch.empty(len(self.sign)).uniform_(*SPREAD)
        return scale * torch.randn(len(self.sign))

    # --- stoichiometry ---------------------------------------------------------------------------------------------

    def s(self) -> torch.Tensor:
        """Return S on its edges (E,), the gauge included."""
        return self.sto_all if self.gauge is None else self.sto_all * torch.exp(self.gauge)[self.rxn_all]

    def k(self) -> torch.Tensor:
        """Return the rate constants (R,), the gauge included."""
        k = 10.0**self.log_k
        return k if self.gauge is None else k * torch.exp(-self.gauge)

    def _dense(self, index: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        n_met, n_rxn = self.shape
        flat = torch.zeros(n_met * n_rxn, dtype=values.dtype, device=values.device)
        return flat.index_put((index,), values).view(n_met, n_rxn)

    def S(self) -> torch.Tensor:
        """Return the dense net stoichiometry (M, R)."""
        return self._dense(self.all_index, self.s())

    @torch.no_grad()
    def fold_gauge_(self) -> None:
        """Move the learned scale of each reaction into S and log_k, which changes no product S_ij k_j."""
        if self.gauge is not None and isinstance(self.sto_all, nn.Parameter):
            self.sto_all.mul_(torch.exp(self.gauge)[self.rxn_all])
            self.log_k.sub_(self.gauge / math.log(10.0))
            self.gauge.zero_()

    @torch.no_grad()
    def constrain_sign_(self) -> None:
        """Give entries of S whose sign contradicts the graph the size `SIGN_FLOOR` and the right sign."""
        self.sto_all.copy_(self.sign * (self.sto_all * self.sign).clamp(min=SIGN_FLOOR))

    @torch.no_grad()
    def refit_(self, c: torch.Tensor, dc: torch.Tensor, unit: torch.Tensor, mass: float, flat: bool = False) -> None:
        """Replace S by the least squares of dc/dt (B, M) on the present rates at concentrations (B, M).

        Given the rates, dc/dt is linear in S: no entry is kept on the wrong side of 0 by a slope there, as in gradient
        steps. What is minimised is the mean of squared residuals over `unit` (M,) or (), plus `mass` times the mean
        over reactions of (sum_i S_ij)^2, plus a ridge around the present S. Each reaction then gets its old sum of |S|
        back, and k the factor. The gauge must be folded.
        """
        v, unit = self.rates(c, flat).double(), unit.double().expand(self.shape[0])
        residual = (dc - self.homeostasis(c)).double() - v @ self.S().T.double()
        gram = (self.rxn_all[:, None] == self.rxn_all).double() * (mass / self.shape[1])
        right = -gram @ self.sto_all.double()
        for met in range(self.shape[0]):
            edges = (self.met_all == met).nonzero()[:, 0]
            x = v[:, self.rxn_all[edges]] / unit[met]
            own = x.T @ x / dc.numel()
            own.diagonal().add_(REFIT_RIDGE * own.diagonal().mean().clamp(min=TAKEN_MIN))
            gram[edges[:, None], edges] += own
            right[edges] += x.T @ residual[:, met] / unit[met] / dc.numel()
        size = self._sizes()
        self.sto_all.add_(torch.linalg.solve(gram, right).to(self.sto_all.dtype))
        grown = (self._sizes() / size).nan_to_num(1.0).clamp(1 / REFIT_GROWTH, REFIT_GROWTH)  # no edges: 0 / 0
        self.sto_all.div_(grown[self.rxn_all])
        self.log_k.add_(torch.log10(grown))

    def _sizes(self) -> torch.Tensor:
        """Return the sum of |S| of each reaction (R,)."""
        zeros = torch.zeros(self.shape[1], device=self.sto_all.device)
        return zeros.index_add(0, self.rxn_all, self.sto_all.detach().abs())

    # --- rates -----------------------------------------------------------------------------------------------------

    def f(self, c: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
        """Return the messages substrate_func([c, order]) (..., D) of equal shapes."""
        return self.substrate_func(torch.stack([c, order.expand_as(c)], dim=-1))

    def shape_of(self, h: torch.Tensor) -> torch.Tensor:
        """Return softplus(rate_func(h)) of summed messages (..., D): a rate without its constant."""
        return nn.functional.softplus(self.rate_func(h)[..., 0])

    def shapes(self, c: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """Return the rates without their constants (R, B) at concentrations (M, B)."""
        at = c.index_select(0, self.met_sub)
        sent = self.f(at, s[self.sub_to_all].abs()[:, None])
        h = torch.zeros(self.shape[1], *sent.shape[1:], dtype=sent.dtype, device=sent.device)
        return self.shape_of(h.index_add(0, self.rxn_sub, sent))

    def limited(self, c: torch.Tensor, v: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """Return rates (R, B) that take no more of a substrate in a step than there is at concentrations (M, B)."""
        taken = self._dense(self.sub_index, s[self.sub_to_all].abs() * self.delta_t) @ v
        allowed = (c / taken.clamp(min=TAKEN_MIN)).clamp(0.0, 1.0)
        allowed = torch.cat([allowed, torch.ones_like(allowed[:1])])  # what pads reactions of fewer substrates
        per_slot = allowed.index_select(0, self.slots.flatten()).view(*self.slots.shape, -1)
        return v * per_slot.amin(dim=1)

    def rates(self, c: torch.Tensor, flat: bool = False) -> torch.Tensor:
        """Return v (B, R) at concentrations (B, M); `flat`: the functions are left out, rates are k softplus(0)."""
        c, s = c.T, self.s()
        shape = torch.full((self.shape[1], c.shape[1]), math.log(2.0), device=c.device, dtype=c.dtype)
        v = self.k()[:, None] * (shape if flat else self.shapes(c, s))
        return (self.limited(c, v, s) if self.flux_limit else v).T

    def homeostasis(self, c: torch.Tensor) -> torch.Tensor:
        """Return node_func([c, a]) (B, M) at concentrations (B, M); 0 without it."""
        if self.node_func is None:
            return torch.zeros_like(c)
        a = self.a.expand(*c.shape, self.a.shape[-1])
        return self.node_func(torch.cat([c[..., None], a], dim=-1))[..., 0]

    def forward(self, c: torch.Tensor, flat: bool = False) -> torch.Tensor:
        """Return dc/dt; `flat` as in `rates`."""
        reactions = self.rates(c, flat) @ self.S().T
        return reactions if self.node_func is None else reactions + self.homeostasis(c)
