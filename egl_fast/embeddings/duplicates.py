"""Recordings that occur more than once: the same audio, perhaps in another file format."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from egl_fast.embeddings.reduction import Reduction

#: Principal components in which distances are measured.
NUM_COMPONENTS = 32
#: Copies are closer than this share of the usual distance between a recording and its neighbors.
NEARNESS = 0.2
#: Copies of the same file differ by rounding: by less than this share of the root-mean-square
#: distance of recordings from their mean.
SAME_FILE = 1e-3
#: The neighbor at the usual distance; a recording has fewer copies than this.
_NEIGHBOR = 10
#: Recordings from which the median distance is estimated.
_ENOUGH = 2000


def copies(embeddings: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """A number for each recording; recordings with the same number are copies of each other.

    Args:
        embeddings: [n, d].

    Returns:
        [n], the index of the first copy.
    """
    from scipy.sparse.csgraph import connected_components
    from sklearn.neighbors import NearestNeighbors

    count = len(embeddings)
    if count < 3:
        return np.arange(count)
    coordinates = Reduction(embeddings, num_components=NUM_COMPONENTS)(embeddings)

    def nearer_than(radius: float, points: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        graph = NearestNeighbors(radius=radius).fit(points).radius_neighbors_graph()
        _, component = connected_components(graph, directed=False)
        _, first = np.unique(component, return_index=True)
        return np.asarray(first[component])

    # If a file occurs many times, its own copies would be the usual neighbors.
    size = float(np.sqrt(np.square(coordinates).sum(1).mean()))
    same_file = nearer_than(SAME_FILE * size, coordinates)
    distinct = np.unique(same_file)
    if len(distinct) < 3:
        return same_file
    points = coordinates[distinct]
    some = points[:: max(1, len(points) // _ENOUGH)]
    nearest = NearestNeighbors(n_neighbors=min(_NEIGHBOR + 1, len(points))).fit(points)
    usual = float(np.median(nearest.kneighbors(some)[0][:, -1]))  # the first is the point itself
    original = distinct[nearer_than(NEARNESS * usual, points)]
    found: npt.NDArray[np.int64] = original[np.searchsorted(distinct, same_file)]
    return found
