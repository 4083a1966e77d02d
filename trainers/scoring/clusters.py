"""How well the learned embeddings tell the types of the neurons. Axis letters: N neurons, D embedding."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Types = NDArray[np.int64]
DISTANCE = 0.1
"""Largest gap inside a cluster of the recorded form, embeddings scaled to [0, 1]."""


def recorded_accuracy(a: Array, types: Types) -> float:
    """Return the fraction of neurons whose type is the median true type of their cluster (N, D), (N,).

    Single-linkage clusters at distance 0.1, embeddings scaled by their common smallest and largest value. The number
    of clusters is free, so many small clusters score well: read it beside the k-means form.

    Source: reference section 6.2. Cost: O(N^2).
    """
    from scipy.cluster.hierarchy import fclusterdata

    spread = float(a.max() - a.min())
    labels = fclusterdata((a - a.min()) / (spread or 1.0), DISTANCE, criterion="distance", method="single")
    told = np.empty(len(types))
    for label in np.unique(labels):
        told[labels == label] = np.median(types[labels == label])
    return float(np.mean(told == types))


def kmeans_accuracy(a: Array, types: Types) -> float:
    """Return the fraction of neurons in the right one of as many k-means clusters as there are types (N, D), (N,).

    Clusters are matched to types one to one so that most neurons agree. Chance is about one over the number of types.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.cluster import KMeans

    known, index = np.unique(types, return_inverse=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer distinct embeddings than types: an untrained model
        labels = KMeans(len(known), n_init=10, random_state=0).fit_predict(a)
    table = np.zeros((len(known), len(known)))
    np.add.at(table, (index, labels), 1)
    rows, columns = linear_sum_assignment(-table)
    return float(table[rows, columns].sum() / len(types))


def silhouette(a: Array, types: Types) -> float | None:
    """Return how well the true types are separate groups of embeddings, -1 to 1 (N, D), (N,); None if not defined.

    The mean over neurons of (b - w) / max(b, w): w is the mean distance to embeddings of the own type, b that to the
    nearest other type. 1 is a clear separation, 0 none. Not defined where all embeddings coincide, for one type, or
    when every neuron has a type of its own.

    Source: Rousseeuw 1987, as in scikit-learn. Cost: O(N^2).
    """
    from sklearn.metrics import silhouette_score

    if not 1 < len(np.unique(types)) < len(types) or not np.ptp(a, axis=0).any():
        return None
    return float(silhouette_score(a, types))
