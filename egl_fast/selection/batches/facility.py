"""Everything has something like it in the set: facility location over embeddings.

Wei, Iyer and Bilmes, "Submodularity in Data Subset Selection and Active Learning", ICML 2015: the
set S maximizes sum_i w_i max_{j in S} s_ij, here with similarities s of each recording to its
nearest neighbors only and weights w from the scores, greedily per unit of cost.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

import numpy as np

from egl_fast.embeddings.reduction import Reduction
from egl_fast.selection.candidates import Candidates
from egl_fast.selection.weights import weights_of

NUM_COMPONENTS = 32
#: A recording's similarity to what is farther than its so many nearest neighbors counts as zero.
NUM_NEIGHBORS = 64


def order(
    candidates: Candidates,
    scores: Sequence[float],
    costs: Sequence[float],
    *,
    num_picks: int,
    seed: int,
) -> Iterator[int]:
    """See ``Order``; what covers nothing new comes last, by falling score.

    The gain of a recording only falls while the set grows, so the queue holds upper bounds, and
    only what comes to its top is computed again (Minoux's lazy evaluation).
    """
    embeddings = candidates.require_embeddings("batch facility")
    if len(candidates) < 2:
        yield from range(len(candidates))
        return
    distances, neighbors = candidates.once(
        f"neighbors {seed}", lambda: nearest(embeddings, seed=seed)
    )
    yield from greedy_cover(neighbors, similarities(distances), weights_of(scores), costs)


def nearest(embeddings: np.ndarray, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """[n, k] distances to the nearest neighbors of each recording, and who they are."""
    from sklearn.neighbors import NearestNeighbors

    coordinates = Reduction(embeddings, num_components=NUM_COMPONENTS, seed=seed)(embeddings)
    count = min(NUM_NEIGHBORS, len(embeddings) - 1)
    distances, neighbors = NearestNeighbors(n_neighbors=count).fit(coordinates).kneighbors()
    return distances, neighbors


def similarities(distances: np.ndarray) -> np.ndarray:
    """exp(-d^2 / s^2) of distances [n, k], s being the median distance to the last neighbor."""
    scale = float(np.median(distances[:, -1])) or 1.0
    return np.exp(-np.square(distances / scale))


def greedy_cover(
    neighbors: np.ndarray, similarity: np.ndarray, weights: np.ndarray, costs: Sequence[float]
) -> Iterator[int]:
    """Indices by falling gain per cost.

    Args:
        neighbors: [n, k] whom each recording is similar to, without itself.
        similarity: [n, k] in [0, 1]; to itself it is 1.
        weights: [n] of being covered, not negative.
        costs: [n], above zero.
    """
    from scipy.sparse import csr_array, identity

    count = len(weights)
    starts = np.arange(0, neighbors.size + 1, neighbors.shape[1])
    alike = csr_array((similarity.ravel(), neighbors.ravel(), starts), shape=(count, count))
    covers = csr_array(alike.T + identity(count))  # row j: whom j covers, and how well
    covered = np.zeros(count)

    def cover(index: int) -> tuple[np.ndarray, np.ndarray]:
        own = slice(covers.indptr[index], covers.indptr[index + 1])
        return covers.indices[own], covers.data[own]

    def gain(index: int) -> float:
        whom, how_well = cover(index)
        return float(weights[whom] @ np.maximum(0.0, how_well - covered[whom])) / costs[index]

    queue = [(-gain(index), index) for index in range(count)]
    heapq.heapify(queue)
    while queue:
        _, index = heapq.heappop(queue)
        now = gain(index)
        if queue and (-now, index) > queue[0]:
            heapq.heappush(queue, (-now, index))
            continue
        yield index
        whom, how_well = cover(index)
        covered[whom] = np.maximum(covered[whom], how_well)
