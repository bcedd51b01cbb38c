"""Kinds of recordings in a pool, found by k-means over embeddings."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from egl_fast.embeddings.reduction import Reduction

#: Principal components in which distances are measured.
NUM_COMPONENTS = 32


def default_num_clusters(num_recordings: int) -> int:
    """The rule of thumb sqrt(n / 2): 22 clusters for 1,000 recordings, 700 for a million."""
    return max(1, round(math.sqrt(num_recordings / 2)))


def clusters(
    embeddings: npt.NDArray[Any], *, num_clusters: int | None = None, seed: int = 0
) -> npt.NDArray[np.int64]:
    """The cluster of each recording.

    Args:
        embeddings: [n, d].
        num_clusters: how many; None: ``default_num_clusters``. Never more than n.
        seed: of the centers that k-means starts from.

    Returns:
        [n], numbered from 0, the largest cluster first.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    count = min(len(embeddings), num_clusters or default_num_clusters(len(embeddings)))
    coordinates = Reduction(embeddings, num_components=NUM_COMPONENTS, seed=seed)(embeddings)
    with warnings.catch_warnings():
        # Among copies there are fewer distinct points than clusters, and so fewer clusters.
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = KMeans(count, n_init=4, random_state=seed).fit(coordinates).labels_
    sizes = np.bincount(found, minlength=count)
    rank = np.empty(count, dtype=np.int64)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(count)
    numbered: npt.NDArray[np.int64] = rank[found]
    return numbered
