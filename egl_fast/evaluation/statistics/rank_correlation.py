"""Spearman's rank correlation, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from egl_fast.evaluation.statistics.bootstrap import Floats, resampled_counts

#: Above this many utterances, intervals come from a formula: ranking them again in each of a
#: thousand resamples would take minutes, for a result known to three digits anyway.
MAX_BOOTSTRAP_SIZE = 20_000


@dataclass(frozen=True)
class RankCorrelations:
    """Spearman's correlation [M, M] of every pair of M rankings, and the ends of its intervals."""

    estimate: Floats
    low: Floats
    high: Floats


def midranks(values: Floats, counts: Floats | None = None) -> Floats:
    """Ranks from 1, smallest first; equal values share the mean of their ranks.

    Args:
        values: [N].
        counts: [..., N], how often each value occurs, if not once; for many samples at once.

    Returns:
        [..., N]. Where a count is 0 the rank means nothing.

    Example:
        >>> midranks(np.array([3.0, 1.0, 3.0]))
        array([2.5, 1. , 2.5])
    """
    weights = np.ones(len(values)) if counts is None else counts
    order = np.argsort(values, kind="stable")
    ascending = values[order]
    opens_group = np.concatenate([[True], ascending[1:] != ascending[:-1]])
    group = np.cumsum(opens_group) - 1
    sizes = np.add.reduceat(weights[..., order], np.flatnonzero(opens_group), axis=-1)
    before = np.cumsum(sizes, axis=-1) - sizes
    ranks = np.empty(weights.shape)
    ranks[..., order] = (before + (sizes + 1) / 2)[..., group]
    return ranks


def spearman(
    rows: Floats, *, replicates: int = 1000, seed: int = 0, level: float = 0.95
) -> RankCorrelations:
    """Rank correlations of all pairs of rows, with intervals over utterances.

    Intervals are percentiles over resampled utterances, ranked again each time; for more than
    ``MAX_BOOTSTRAP_SIZE`` utterances they are Bonett and Wright's (Psychometrika 65, 2000):
    Fisher's z with standard error sqrt((1 + rho^2 / 2) / (N - 3)).

    Args:
        rows: [M, N], M scores of the same N utterances.
        replicates: how many resamples.
        seed: of the resampling.
        level: share of the resamples inside an interval.

    Returns:
        NaN where a row is constant, and so ranks nothing. With fewer than four utterances,
        intervals span -1 to 1.

    Example:
        >>> print(f"{spearman(np.array([[1.0, 2, 3, 5], [1, 9, 4, 16]])).estimate[0, 1]:.2f}")
        0.80
    """
    size = rows.shape[1]
    estimate = _correlations(np.stack([midranks(row) for row in rows]), np.ones(size))
    if size < 4:
        return RankCorrelations(estimate, np.full_like(estimate, -1.0), np.full_like(estimate, 1.0))
    if size > MAX_BOOTSTRAP_SIZE or replicates == 0:
        return _bonett_wright(estimate, size, level)
    blocks = [
        _correlations(np.stack([midranks(row, counts) for row in rows], axis=1), counts)
        for _, counts in resampled_counts(size, replicates, seed, rows=len(rows))
    ]
    tail = (1 - level) / 2
    # A resample may contain only equal values; then the sample replaces it.
    values = np.concatenate(blocks)
    low, high = np.quantile(np.where(np.isnan(values), estimate, values), [tail, 1 - tail], axis=0)
    return RankCorrelations(estimate, low, high)


def _correlations(ranks: Floats, counts: Floats) -> Floats:
    """Pearson's correlation [..., M, M] of rows [..., M, N], weighted by counts [..., N]."""
    weights = counts[..., None, :]
    total = weights.sum(axis=-1, keepdims=True)
    centered = ranks - (ranks * weights).sum(axis=-1, keepdims=True) / total
    products = (centered * weights) @ np.swapaxes(centered, -1, -2)
    lengths = np.sqrt(np.diagonal(products, axis1=-2, axis2=-1))
    scale = lengths[..., :, None] * lengths[..., None, :]
    correlation = np.full(products.shape, np.nan)
    np.divide(products, scale, out=correlation, where=scale > 0)
    return np.clip(correlation, -1.0, 1.0)


def _bonett_wright(estimate: Floats, size: int, level: float) -> RankCorrelations:
    width = NormalDist().inv_cdf((1 + level) / 2) * np.sqrt((1 + estimate**2 / 2) / (size - 3))
    with np.errstate(divide="ignore"):  # A correlation of 1 is infinite in z, and back to 1 below.
        z = np.arctanh(estimate)
    return RankCorrelations(estimate, np.tanh(z - width), np.tanh(z + width))
