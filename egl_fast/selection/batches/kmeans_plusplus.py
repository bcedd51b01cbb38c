"""Far from what is picked already, and high in score: k-means++ seeding over embeddings.

Arthur and Vassilvitskii, "k-means++: The Advantages of Careful Seeding", SODA 2007: each pick is
drawn with a probability proportional to its squared distance to the nearest pick so far. Here the
distance counts times the score, per unit of cost; BADGE (Ash et al., "Deep Batch Active Learning by
Diverse, Uncertain Gradient Lower Bounds", ICLR 2020) has the score in the length of what it
samples.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

import numpy as np

from egl_fast.embeddings.reduction import Reduction
from egl_fast.records import random_score
from egl_fast.selection.candidates import Candidates
from egl_fast.selection.weights import weights_of

NUM_COMPONENTS = 32


def order(
    candidates: Candidates,
    scores: Sequence[float],
    costs: Sequence[float],
    *,
    num_picks: int,
    seed: int,
) -> Iterator[int]:
    """See ``Order``; what has no weight, or is a copy of a pick, comes last, by falling score.

    What is random depends on the seed and the ids alone, so that picks change little if scores do.
    """
    embeddings = candidates.require_embeddings("batch kmeans_plusplus")
    reduction = Reduction(embeddings, num_components=NUM_COMPONENTS, seed=seed)
    uniform = [random_score(seed, f"k-means++ {name}") for name in candidates.values("id")]
    weights = weights_of(scores) / np.asarray(costs)
    drawn = []
    for index in d2_sampling(reduction(embeddings), weights, -np.log1p(-np.array(uniform))):
        drawn.append(index)
        yield index
    left = np.setdiff1d(np.arange(len(candidates)), drawn).tolist()
    yield from sorted(left, key=lambda index: -scores[index])


def d2_sampling(
    coordinates: np.ndarray, weights: np.ndarray, patience: np.ndarray
) -> Iterator[int]:
    """Draws without replacement, each proportional to weight times squared distance to the nearest.

    If events arrive at each point at that rate, the first comes to a point with that probability.
    A point's rate falls as picks come near it, and its event comes once the rate, summed up over
    time, reaches its patience. So one random number for each point does for all draws. And because
    rates only fall, events only move to later times: the queue holds times that are too early, and
    only what comes to its top is computed again, as in ``facility``.

    Args:
        coordinates: [n, c].
        weights: [n], not negative. The first draw is proportional to them alone.
        patience: [n], from the standard exponential distribution.

    Yields:
        Indices, until no point is left whose weight and distance are above zero.
    """
    points = coordinates.astype(np.float32)
    squares = np.einsum("ij,ij->i", points, points)
    # A distance that no two points have: at first, all are equally far from what is picked.
    gaps = np.full(len(points), 4.0 * squares.max() + 1.0)
    summed = np.zeros(len(points))
    seen = np.zeros(len(points), dtype=np.int64)  # picks whose distance is in the gap
    picked = np.empty_like(points)
    lengths = np.empty_like(squares)
    times = np.zeros(len(points) + 1)  # of the start, then of each pick
    num_picks = 0

    def event(index: int) -> float:
        new = slice(seen[index], num_picks)
        if new.start < new.stop:
            products = picked[new] @ points[index]
            found = np.maximum(0.0, lengths[new] - 2 * products + squares[index])
            path = np.minimum.accumulate(np.append(gaps[index], found))
            since = np.diff(times[new.start : new.stop + 1])
            summed[index] += weights[index] * float(since @ path[:-1])
            gaps[index], seen[index] = path[-1], num_picks
        rate = weights[index] * gaps[index]
        left = max(0.0, patience[index] - summed[index])
        return times[num_picks] + left / rate if rate > 0 else np.inf

    queue = [(event(index), index) for index in range(len(points))]
    heapq.heapify(queue)
    while queue:
        known, index = heapq.heappop(queue)
        now = event(index)
        if now > known and queue and (now, index) > queue[0]:
            heapq.heappush(queue, (now, index))
            continue
        if not np.isfinite(now):
            return
        yield index
        picked[num_picks], lengths[num_picks] = points[index], squares[index]
        num_picks += 1
        times[num_picks] = now
