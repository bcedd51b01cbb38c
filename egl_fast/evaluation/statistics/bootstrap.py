"""Paired bootstrap over test utterances: every statistic on the same resampled test sets.

The utterances of the test set are resampled, the same ones for every training run, so that two runs
are compared on the same speech, and a run keeps its seed. A mean over seeds is then a statistic of
the resampled test set like any other. The intervals say how much a result depends on which
utterances the test set happens to hold, *given* the trained models. How much training runs differ
is another question: a handful of seeds is too few for a standard error, so the runs themselves are
shown.

A statistic's values are one array whose first axis is "the sample, then each resample"; any
function applied along that axis has its own interval.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: The most numbers that one block of resamples holds: 32 MiB.
_BLOCK_NUMBERS = 4 * 2**20


@dataclass(frozen=True)
class Interval:
    """A number on the sample, and the interval that its resamples span.

    An end is infinite if the statistic may lie beyond what can be measured.
    """

    estimate: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether all of the interval lies on one side of zero."""
        return self.low > 0 or self.high < 0


def bootstrap_ratios(
    numerators: Floats, denominators: Floats, *, replicates: int, seed: int
) -> Floats:
    """Ratios of sums over utterances, on the sample and on resamples of its utterances.

    Error rates are such ratios (errors over reference length); a mean has ones as denominators.

    Args:
        numerators: [P, n], a row for each of P quantities measured on the same n utterances.
        denominators: [n].
        replicates: B, how many resamples; 0 gives only the sample.
        seed: of the resampling. The same seed and n give the same resamples, so results of
            several calls may be subtracted from each other.

    Returns:
        [1 + B, P]: row 0 on the sample itself. A resample whose denominators sum to 0
        repeats row 0.

    Raises:
        ValueError: there is no utterance, shapes do not fit, or the denominators sum to 0.

    Example:
        >>> bootstrap_ratios(np.array([[1.0, 3.0]]), np.ones(2), replicates=0, seed=0)
        array([[2.]])
    """
    size = denominators.shape[0]
    if numerators.ndim != 2 or numerators.shape[1] != size or size == 0:
        raise ValueError(f"numerators: expected [P, {size}] with n > 0, got {numerators.shape}")
    total = denominators.sum()
    if not total > 0:
        raise ValueError("denominators: expected a sum above 0")
    result = np.empty((1 + replicates, numerators.shape[0]))
    result[0] = numerators.sum(axis=1) / total
    stacked = np.vstack([numerators, denominators]).T
    for start, counts in resampled_counts(size, replicates, seed):
        sums = counts @ stacked
        below = sums[:, -1:]
        values = np.divide(sums[:, :-1], below, out=np.tile(result[0], (len(sums), 1)),
                           where=below > 0)  # fmt: skip
        result[1 + start : 1 + start + len(sums)] = values
    return result


def resampled_counts(
    size: int, replicates: int, seed: int, *, rows: int = 1
) -> Iterator[tuple[int, Floats]]:
    """Resamples with replacement, a block at a time.

    Args:
        size: n, utterances in the sample.
        replicates: how many resamples in all.
        seed: the same seed, size and rows give the same resamples.
        rows: number of arrays as large as a block's counts that the caller needs; the more, the
            smaller the blocks.

    Yields:
        (number of the block's first resample, counts [b, n]: how often each utterance was drawn).
    """
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK_NUMBERS // (size * rows))
    for start in range(0, replicates, block):
        num = min(block, replicates - start)
        drawn = rng.integers(0, size, (num, size))
        drawn += np.arange(num)[:, None] * size
        counts = np.bincount(drawn.ravel(), minlength=num * size).reshape(num, size)
        yield start, counts.astype(np.float64)


def interval(values: Floats, *, level: float = 0.95) -> Interval:
    """The percentile interval of a statistic.

    Args:
        values: [1 + B], the statistic on the sample, then on B resamples. They may be infinite:
            quantiles are observed values, never means of two of them.
        level: share of the resamples inside the interval.

    Returns:
        Without resamples (B = 0) an interval from -inf to inf: nothing is known.
    """
    estimate = float(values[0])
    if len(values) == 1:
        return Interval(estimate, -np.inf, np.inf)
    tail = (1 - level) / 2
    low, high = np.quantile(values[1:], [tail, 1 - tail], method="inverted_cdf")
    return Interval(estimate, float(low), float(high))
