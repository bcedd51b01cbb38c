"""The most typical recording of each cluster, with as many clusters as picks; scores don't count.

Hacohen, Dekel and Weinshall, "Active Learning on a Budget: Opposite Strategies Suit High and Low
Budgets", ICML 2022 (TypiClust). Typical is what is near to its nearest neighbors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from egl_fast.embeddings.clusters import NUM_COMPONENTS, clusters
from egl_fast.embeddings.reduction import Reduction
from egl_fast.selection.candidates import Candidates

USES_SCORES = False

NUM_NEIGHBORS = 20
#: With more picks than this, clusters give several, one each in turn, as in the authors' code.
MAX_CLUSTERS = 500
#: In a smaller cluster nothing is typical: what is in one comes last, as in the authors' code.
MIN_SIZE = 5


def order(
    candidates: Candidates,
    scores: Sequence[float],
    costs: Sequence[float],
    *,
    num_picks: int,
    seed: int,
) -> Iterator[int]:
    """See ``Order``; scores and costs play no part."""
    embeddings = candidates.require_embeddings("batch typiclust")
    count = min(num_picks, MAX_CLUSTERS)

    def ordered() -> list[int]:
        numbers = clusters(embeddings, num_clusters=count, seed=seed)
        reduction = Reduction(embeddings, num_components=NUM_COMPONENTS, seed=seed)
        return typical_first(reduction(embeddings), numbers)

    yield from candidates.once(f"typiclust {count} {seed}", ordered)


def typical_first(coordinates: np.ndarray, numbers: np.ndarray) -> list[int]:
    """The most typical of each cluster, then the second of each, and so on.

    Args:
        coordinates: [n, c].
        numbers: [n] the clusters, numbered by falling size.
    """
    turn = np.empty(len(numbers), dtype=np.int64)
    is_small = np.empty(len(numbers), dtype=bool)
    for number in np.unique(numbers):
        members = np.flatnonzero(numbers == number)
        by_typicality = np.argsort(_distances(coordinates[members]), kind="stable")
        turn[members[by_typicality]] = np.arange(len(members))
        is_small[members] = len(members) < MIN_SIZE
    found: list[int] = np.lexsort((numbers, turn, is_small)).tolist()
    return found


def _distances(points: np.ndarray) -> np.ndarray:
    """[n] mean distance of each point to its nearest neighbors: the inverse of its typicality."""
    from sklearn.neighbors import NearestNeighbors

    count = min(NUM_NEIGHBORS, len(points) - 1)
    if count == 0:
        return np.zeros(1)
    distances, _ = NearestNeighbors(n_neighbors=count).fit(points).kneighbors()
    mean: np.ndarray = distances.mean(axis=1)
    return mean
