"""Rank against rank: where a pool's utterances stand by one strategy and by another.

Ranks are normalized as in the paper's Fig. 2: 0 the least, 1 the most informative utterance. Up to
``MAX_POINTS`` utterances are shown as points. A larger pool is shown as counts over a grid, one
for each pair of strategies, with a sample of its utterances to look at, so the page does not grow
with the pool.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from egl_fast.evaluation.statistics.bootstrap import Floats, Interval
from egl_fast.evaluation.statistics.rank_correlation import RankCorrelations, midranks, spearman

Integers = npt.NDArray[np.int64]

MAX_POINTS = 2500
SAMPLE_SIZE = 1500
GRID_SIZE = 32


@dataclass(frozen=True)
class Ranking:
    """A pool ranked by several strategies.

    Attributes:
        strategies: [M] names.
        ranks: [M, N] normalized ranks, 1 = most informative.
        shown: positions of the utterances that are shown one by one, ascending: all of a small
            pool, a sample of a large one.
        correlations: Spearman's, of every pair.
    """

    strategies: tuple[str, ...]
    ranks: Floats
    shown: Integers
    correlations: RankCorrelations

    @property
    def is_sampled(self) -> bool:
        """Whether only some of the utterances are shown one by one."""
        return len(self.shown) < int(self.ranks.shape[1])

    def between(self, one: str, other: str) -> Interval:
        """The correlation of two of the strategies; NaN where one ranks nothing."""
        at = self.strategies.index(one), self.strategies.index(other)
        found = self.correlations
        return Interval(*(float(table[at]) for table in (found.estimate, found.low, found.high)))

    def grids(self) -> Iterator[tuple[str, str, Integers]]:
        """For each pair of strategies, how many utterances of a sampled pool fall into each cell.

        Yields:
            (first, second, counts [GRID_SIZE, GRID_SIZE]): rows by the first's rank, ascending.
        """
        if not self.is_sampled:
            return
        cells = np.minimum((self.ranks * GRID_SIZE).astype(np.int64), GRID_SIZE - 1)
        for one, other in combinations(range(len(self.strategies)), 2):
            flat = np.bincount(cells[one] * GRID_SIZE + cells[other], minlength=GRID_SIZE**2)
            counts = flat.reshape(GRID_SIZE, GRID_SIZE)
            yield self.strategies[one], self.strategies[other], counts


def rank_pool(scores: Mapping[str, Floats], *, replicates: int = 1000) -> Ranking:
    """Normalized ranks and their correlations.

    Args:
        scores: each strategy's score of the N utterances [N], higher = more informative.
        replicates: resamples for the intervals of the correlations.

    Example:
        >>> rank_pool({"egl": np.array([5.0, 1.0, 9.0])}, replicates=0).ranks
        array([[0.5, 0. , 1. ]])
    """
    rows = np.stack(list(scores.values()))
    size = rows.shape[1]
    ranks = (np.stack([midranks(row) for row in rows]) - 1) / max(1, size - 1)
    shown = np.arange(size)
    if size > MAX_POINTS:
        shown = np.sort(np.random.default_rng(0).choice(size, SAMPLE_SIZE, replace=False))
    return Ranking(tuple(scores), ranks, shown, spearman(rows, replicates=replicates))


def estimates(rankings: Sequence[Ranking], one: str, other: str) -> list[float]:
    """The correlations of two strategies in those of several rankings that hold both."""
    having = [ranking for ranking in rankings if {one, other} <= set(ranking.strategies)]
    return [ranking.between(one, other).estimate for ranking in having]
