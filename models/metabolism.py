"""What the metabolic models share: the bipartite graph, and MLPs of a few scalars.

Axis letters: R reactions, E edges, P substrates of a reaction (the most there are).
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import nn

from models.mlp import ACTIVATIONS

LOG_K_CENTER = -0.5
"""log_k starts around this: U(-2, 1) at the documented width of 3."""
EMBEDDING_INIT, S_INIT = 0.1, 0.1
"""Standard deviations of the first embeddings and, where it is learned, of the first S."""


class Graph(NamedTuple):
    """The bipartite graph: substrate edges (metabolite -> reaction) and all edges, on which S has values."""

    met_sub: torch.Tensor
    rxn_sub: torch.Tensor
    met_all: torch.Tensor
    rxn_all: torch.Tensor
    n_metabolites: int
    n_reactions: int
    order: torch.Tensor | None = None
    """Reactant orders (E_sub,), where they are given."""
    sto: torch.Tensor | None = None
    """Net stoichiometric coefficients (E_all,), where they are given."""


def function(inputs: int, size: tuple[int, int], activation: str, outputs: int = 1) -> nn.Sequential:
    """Return an MLP inputs -> width -> ... -> outputs, torch's default initialisation; `size`: width, linear layers."""
    width, n_layers = size
    widths = [inputs] + [width] * (n_layers - 1) + [outputs]
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])


def padded(index: torch.Tensor, rxn: torch.Tensor, n_reactions: int, fill: int) -> torch.Tensor:
    """Return the entries of `index` (E,) reaction by reaction (R, P), `fill` where a reaction has fewer than P."""
    counts = torch.bincount(rxn, minlength=n_reactions)
    found = torch.full((n_reactions, max(1, int(counts.max()))), fill, dtype=torch.long)
    place = torch.zeros(n_reactions, dtype=torch.long)
    for e, reaction in enumerate(rxn.tolist()):
        found[reaction, place[reaction]] = index[e]
        place[reaction] += 1
    return found
