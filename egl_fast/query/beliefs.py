"""How far off each estimate may be, and how likely each recording belongs to the exact set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from egl_fast.query.looks import ROWS

Floats = npt.NDArray[np.float64]

#: Versions of the set that are drawn.
WORLDS = 200
#: Errors have heavy tails: of looks at real speech, half are off by less than 0.54 of their spread,
#: and 2% by more than 3 times that. Student's t with 3 degrees of freedom, times 0.7, fits
#: that. The factor is 0.8, because a query ends where estimates happen to look settled
#: (docs/query.md).
_DEGREES, _SCALE = 3, 0.8
#: Smallest and largest ratio of estimate to truth that is considered possible.
_LEAST, _MOST = 0.1, 10.0
#: Weight of the average error bar of a look's kind, relative to the look's own.
_PRIOR_WEIGHT = 2.0


def spreads(values: Floats, stderrs: Floats, levels: npt.NDArray[np.int64]) -> Floats:
    """[n] relative standard error of each estimate.

    A look of a few probes says little about its own error: they may agree by chance. So its
    error bar is averaged, as a variance, with the mean over all looks of its kind. If these are
    few, that mean leans on the coarser kind: on its variance, scaled as if errors fell with the
    root of the number of rows; they fall faster.

    Args:
        values: [n] estimates, at least 0.
        stderrs: [n] as reported; 0 if exact.
        levels: [n] index into ``ROWS``.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        own = np.square(stderrs / values)
    found = np.zeros(len(values))
    looser = None
    for level in np.unique(levels).tolist():
        there = (levels == level) & np.isfinite(own)
        total, count = float(own[there].sum()), int(there.sum())
        if looser is not None:
            before, variance = looser
            total += _PRIOR_WEIGHT * variance * ROWS[before] / ROWS[level]
            count += int(_PRIOR_WEIGHT)
        mean = total / max(count, 1)
        looser = (level, mean)
        # What reports exactly zero was computed from all its directions.
        uncertain = there & (own > 0)
        found[uncertain] = (own[uncertain] + _PRIOR_WEIGHT * mean) / (1 + _PRIOR_WEIGHT)
    return np.sqrt(found)


@dataclass(frozen=True)
class Beliefs:
    """What is known about the set.

    Attributes:
        picks: indices of the set by the estimates, in the order of transcription.
        probabilities: [n] that a recording belongs to the exact set.
        overlap: expected share of the picks that belongs to it.
        likely_overlap: a share that is reached in 95 of 100 cases.
    """

    picks: list[int]
    probabilities: Floats
    overlap: float
    likely_overlap: float


def believe(
    choose: Callable[[Sequence[float]], list[int]],
    scores: Floats,
    spreads: Floats,
    *,
    seed: int,
) -> Beliefs:
    """What errors of the estimates could do to the set, for any way to choose it.

    Draws possible true scores, given the estimates, and chooses a set from each draw.

    Args:
        choose: from scores [n] to the indices of a set.
        scores: [n] estimates.
        spreads: [n] their relative standard errors.
        seed: of the draws.
    """
    picks = choose(scores.tolist())
    random = np.random.Generator(np.random.Philox(seed % 2**64))
    counts = np.zeros(len(scores))
    chosen = set(picks)
    overlaps = []
    for _ in range(WORLDS if spreads.any() else 1):
        # Errors are symmetric around the truth, so truths are not symmetric around an estimate:
        # an estimate of half the truth is as likely as one of one and a half times the truth.
        errors = spreads * _SCALE * random.standard_t(_DEGREES, len(scores))
        drawn = scores / (1 + errors).clip(_LEAST, _MOST)
        world = choose(drawn.tolist())
        counts[world] += 1
        overlaps.append(len(chosen.intersection(world)) / max(len(picks), len(world)))
    return Beliefs(
        picks,
        counts / len(overlaps),
        float(np.mean(overlaps)),
        float(np.quantile(overlaps, 0.05, method="lower")),
    )
