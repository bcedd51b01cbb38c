"""Sets of recordings whose sketches [m, m] together teach the most, chosen greedily by cost.

A sketch is M_x = E_y[phi_y phi_y^T], as in ``aimed.py``; what is known of the m directions before
anything is picked counts as ridge * I.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

import numpy as np


def ridge_of(sketches: np.ndarray) -> float:
    """As much in every direction as an average recording teaches in the mean of them."""
    return float(np.trace(sketches, axis1=1, axis2=2).mean() / sketches.shape[1])


def log_det_order(sketches: np.ndarray, costs: Sequence[float], ridge: float) -> Iterator[int]:
    """By falling gain in log det(ridge * I + sum of the sketches) per cost.

    The gain of a recording only falls while the set grows, so the queue holds upper bounds, and
    only what comes to its top is computed again (Minoux's lazy evaluation).

    Args:
        sketches: [n, m, m], positive semidefinite.
        costs: [n], above zero.
        ridge: above zero.
    """
    total = ridge * np.eye(sketches.shape[1])
    before = np.linalg.slogdet(total)[1]
    gains = (np.linalg.slogdet(total + sketches)[1] - before) / np.asarray(costs)
    queue = [(-float(gain), index) for index, gain in enumerate(gains)]
    heapq.heapify(queue)
    while queue:
        _, index = queue[0]
        gain = (np.linalg.slogdet(total + sketches[index])[1] - before) / costs[index]
        heapq.heapreplace(queue, (-float(gain), index))
        if queue[0][1] == index:
            heapq.heappop(queue)
            total += sketches[index]
            before = np.linalg.slogdet(total)[1]
            yield index


def bait(
    sketches: np.ndarray,
    wanted: np.ndarray,
    costs: Sequence[float],
    ridge: float,
    budget: float,
) -> list[int]:
    """A set with a small tr((ridge * I + sum of the sketches)^-1 wanted), forward and backward.

    As in Ash, Goel, Krishnamurthy and Kakade, "Gone Fishing: Neural Active Learning with Fisher
    Embeddings", NeurIPS 2021: recordings are added greedily until they cost twice the budget, then
    taken away greedily until they are within it; here both per cost.

    Args:
        sketches: [n, m, m], positive semidefinite.
        wanted: [m, m], for instance the sum of all sketches.
        costs: [n], above zero.
        ridge: above zero.
        budget: in the unit of the costs.
    """
    cost = np.asarray(costs)
    total = ridge * np.eye(sketches.shape[1])

    def left(totals: np.ndarray) -> np.ndarray:
        solved = np.linalg.solve(totals, np.broadcast_to(wanted, totals.shape))
        return np.asarray(np.trace(solved, axis1=-2, axis2=-1))

    chosen: list[int] = []
    others = list(range(len(sketches)))
    while others and cost[chosen].sum() < 2 * budget:
        gains = (left(total[None])[0] - left(total + sketches[others])) / cost[others]
        best = others.pop(int(gains.argmax()))
        chosen.append(best)
        total = total + sketches[best]
    while cost[chosen].sum() > budget:
        losses = (left(total - sketches[chosen]) - left(total[None])[0]) / cost[chosen]
        total = total - sketches[chosen.pop(int(losses.argmin()))]
    return chosen


def spread_order(points: np.ndarray, seed: int) -> Iterator[int]:
    """The centers of k-means++, one after the other (BADGE, Ash et al., ICLR 2020).

    The first is the longest; the next are drawn with probability proportional to the squared
    distance to the nearest that is there.

    Args:
        points: [n, d].
        seed: of the draws.
    """
    random = np.random.default_rng(seed)
    points = points.astype(np.float64)
    place = int(np.square(points).sum(1).argmax())
    nearest = np.full(len(points), np.inf)
    for _ in range(len(points)):
        yield place
        nearest = np.minimum(nearest, np.square(points - points[place]).sum(1))
        nearest[place] = 0.0
        if not nearest.any():
            break
        place = int(random.choice(len(points), p=nearest / nearest.sum()))
