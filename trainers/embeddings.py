"""Groups of learned embeddings, found without the truth. Axis letters: N neurons, D embedding, K clusters."""

from __future__ import annotations

import math
from typing import Any

import torch

STARTS, ROUNDS = 10, 100
"""Starts of k-means, of which the best counts, and the most rounds of each; it stops once nothing moves."""
MOST_COMPARED = 2000
"""Neurons that the silhouette looks at, evenly spaced (its cost is their square)."""


def replacement_step(training: Any, total: int) -> float:
    """Return the gradient steps after which embeddings are replaced, of `total`; `inf` for never."""
    if training.embedding_replacement == "none" or training.training_single_type:
        return math.inf
    return max(1, int(training.embedding_replacement_at * total))


@torch.no_grad()
def replace_embeddings_(a: torch.Tensor, clusters: int, most: int) -> torch.Tensor:
    """Replace each neuron's embedding by the median of its cluster, in place; return the cluster of each (N,).

    Args:
        a: embeddings (N, D).
        clusters: K, or 0 for the K from 2 to `most` with the largest silhouette.
        most: see `clusters`.

    Source: reference section 3.3.6 (`replace_embedding`). Deviations: k-means in place of UMAP and linkage; lin_phi is
    not fitted to the median functions at once, the gradient steps that follow do it.
    """
    points = a.detach().double().cpu()
    counts = [clusters] if clusters > 0 else range(2, most + 1)
    found = [k_means(points, min(k, len(points))) for k in counts]
    labels = found[0] if len(found) == 1 else max(found, key=lambda labels: silhouette(points, labels))
    for label in labels.unique():
        members = (labels == label).to(a.device)
        a[members] = a[members].median(dim=0).values
    return labels


def k_means(points: torch.Tensor, clusters: int) -> torch.Tensor:
    """Return the cluster of each point (N, D) -> (N,); the same points give the same clusters.

    Source: Arthur and Vassilvitskii 2007 (k-means++), the best of `STARTS` by the sum of squares.
    """
    generator = torch.Generator().manual_seed(clusters)  # never the global state: the training's own draws stay
    tries = [_k_means_once(points, clusters, generator) for _ in range(STARTS)]
    return min(tries, key=lambda found: found[1])[0]


def _k_means_once(points: torch.Tensor, clusters: int, generator: torch.Generator) -> tuple[torch.Tensor, float]:
    centres = points[torch.randint(len(points), (1,), generator=generator)]
    while len(centres) < clusters:
        away = torch.cdist(points, centres).min(1).values.square() + 1e-300  # all points may be the same
        centres = torch.cat([centres, points[torch.multinomial(away / away.sum(), 1, generator=generator)]])
    labels = torch.cdist(points, centres).argmin(1)
    for _ in range(ROUNDS):
        kept = [points[labels == k].mean(0) if (labels == k).any() else centres[k] for k in range(clusters)]
        centres = torch.stack(kept)
        moved = torch.cdist(points, centres).argmin(1)
        if torch.equal(moved, labels):
            break
        labels = moved
    return labels, float(torch.cdist(points, centres).min(1).values.square().sum())


def silhouette(points: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the mean silhouette of clusters, -1 to 1; a point alone in its cluster counts 0.

    Source: Rousseeuw 1987 (Journal of Computational and Applied Mathematics 20).
    """
    every = -(-len(points) // MOST_COMPARED)
    points, labels = points[::every], labels[::every]
    kinds = labels.unique()
    if len(kinds) < 2:
        return -1.0
    member = (labels[:, None] == kinds).double()
    sums, sizes = torch.cdist(points, points) @ member, member.sum(0)
    own = member.bool()
    within = sums[own] / (sizes.expand_as(sums)[own] - 1).clamp(min=1)
    nearest = (sums / sizes).masked_fill(own, torch.inf).min(1).values
    value = (nearest - within) / torch.maximum(nearest, within).clamp(min=1e-300)
    return float(value.masked_fill(sizes.expand_as(sums)[own] == 1, 0.0).mean())
