"""Recordings that are there more than once: the same audio, perhaps in another file format."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from egl_fast.embeddings.reduction import Reduction

#: Principal components that distances are taken in.
NUM_COMPONENTS = 32
#: Copies are nearer to each other than so much of what lies between a recording and others.
NEARNESS = 0.2
#: The neighbor that tells what usually lies between: copies of one recording are fewer.
_NEIGHBOR = 10


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
    nearest = NearestNeighbors(n_neighbors=min(_NEIGHBOR, count - 1)).fit(coordinates)
    usual = float(np.median(nearest.kneighbors()[0][:, -1]))
    graph = nearest.radius_neighbors_graph(radius=NEARNESS * usual, mode="connectivity")
    _, component = connected_components(graph, directed=False)
    _, first = np.unique(component, return_index=True)
    found: npt.NDArray[np.int64] = first[component]
    return found
