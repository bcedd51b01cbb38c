"""Typicality: whether a recording lies where others lie, or alone.

Picks are not ruined by what the model finds hard, but by what is not speech of the domain: noise,
room tone, overlapping talkers, other languages. Such recordings lie apart in the space of
embeddings. A measure of distance to a few trusted recordings mistakes everything that is rare
among those for junk. The density among trusted recordings and pool together does not, as long as
it is measured over more neighbors than the largest heap of junk has members (Breunig et al., "LOF:
Identifying Density-Based Local Outliers", SIGMOD 2000). Nobody knows how large that heap is, so we
take the worst local outlier factor over several scales, as its authors advise.
docs/typicality.md has the measurements.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from egl_fast.embeddings.duplicates import copies
from egl_fast.embeddings.reduction import Reduction
from egl_fast.embeddings.spectrum import SIZE, without_spectrum
from egl_fast.hashing import hashed

#: Principal components in which distances are measured.
NUM_COMPONENTS = 8
#: The spectrum's share of the variance of an embedding.
SPECTRUM_SHARE = 0.25
#: Numbers of neighbors, as shares of all recordings among which density is measured.
SCALES = (0.06, 0.10, 0.15, 0.20)
MIN_NEIGHBORS = 10
#: Density is measured among at most this many recordings: trusted ones, up to half of them, and a
#: sample of the pool.
MAX_FITTED = 20_000
#: Recordings scored at once against those.
_BLOCK = 4096


@dataclass(frozen=True)
class Typicality:
    """How densely recordings are surrounded, relative to their neighbors.

    Minus the largest logarithm of the local outlier factor over all scales: about 0 for a recording
    that lies as densely as its neighbors do, -0.7 for one whose surroundings are half as dense.

    Attributes:
        pool: [n], of the recordings to be judged.
        trusted: [m], of those known to be of the domain, each judged without itself.
    """

    pool: npt.NDArray[np.float64]
    trusted: npt.NDArray[np.float64]

    def threshold(self, false_alarms: float) -> float:
        """The value below which this share of the trusted recordings lies.

        If the pool held nothing but recordings like the trusted ones, about that share of it would
        be below, too.
        """
        return float(np.quantile(self.trusted, false_alarms))


def typicality(trusted: npt.NDArray[Any], pool: npt.NDArray[Any], *, seed: int = 0) -> Typicality:
    """Typicality of a pool and of the trusted recordings themselves.

    Args:
        trusted: [m, d] embeddings of recordings known to be of the domain, with their spectra.
        pool: [n, d].
        seed: of the sample that stands for a pool of more than ``MAX_FITTED``.

    Raises:
        ValueError: there are fewer than 12 recordings in all.
    """
    num_pool = len(pool)
    if len(trusted) + num_pool < MIN_NEIGHBORS + 2:
        raise ValueError(
            f"typicality: expected at least {MIN_NEIGHBORS + 2} recordings, trusted ones and pool "
            f"together, got {len(trusted) + num_pool}"
        )
    trusted = trusted[_sample(trusted, MAX_FITTED // 2, seed)]
    sample = _sample(pool, MAX_FITTED - len(trusted), seed)
    fitted = np.concatenate([trusted, pool[sample]])
    # A recording's copies say nothing about how typical it is.
    original = copies(without_spectrum(fitted))
    distinct, position = np.unique(original, return_inverse=True)
    if len(distinct) < MIN_NEIGHBORS + 2:
        distinct = position = np.arange(len(fitted))
    reduction = Reduction(
        fitted[distinct],
        num_components=NUM_COMPONENTS,
        weights=weights(fitted.shape[1] - SIZE),
        seed=seed,
    )
    among, outside = least_typical(reduction(fitted[distinct]))
    inside = among[position]
    found = np.empty(num_pool)
    found[sample] = inside[len(trusted) :]
    rest = np.setdiff1d(np.arange(num_pool), sample, assume_unique=True)
    for start in range(0, len(rest), _BLOCK):
        block = rest[start : start + _BLOCK]
        found[block] = outside(reduction(pool[block]))
    return Typicality(found, inside[: len(trusted)])


def weights(num_seen: int) -> npt.NDArray[np.float64]:
    """Weights of the dimensions: of the model's part, and of the spectrum."""
    seen = np.full(num_seen, np.sqrt((1 - SPECTRUM_SHARE) / max(1, num_seen)))
    return np.concatenate([seen, np.full(SIZE, np.sqrt(SPECTRUM_SHARE / SIZE))])


def _sample(embeddings: npt.NDArray[Any], count: int, seed: int) -> npt.NDArray[np.int64]:
    """Positions of ``count`` rows, chosen by their content, so that their order does not matter."""
    if len(embeddings) <= count:
        return np.arange(len(embeddings))
    # The first eight bytes distinguish all rows but copies, which keep their order.
    starts = (hashed(seed, row.tobytes().hex())[:8] for row in embeddings)
    numbers = (int.from_bytes(start, "big") for start in starts)
    chances = np.fromiter(numbers, np.uint64, len(embeddings))
    return np.sort(np.argsort(chances, kind="stable")[:count])


def least_typical(coordinates: npt.NDArray[np.float64]) -> Any:
    """Typicality of recordings among themselves, and a function for others."""
    from sklearn.neighbors import LocalOutlierFactor

    count = len(coordinates)
    models = [
        LocalOutlierFactor(neighbors, novelty=True).fit(coordinates)
        for neighbors in {
            min(count - 1, max(MIN_NEIGHBORS, round(scale * count))) for scale in SCALES
        }
    ]
    inside = np.min([-np.log(-model.negative_outlier_factor_) for model in models], axis=0)

    def outside(others: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        factors = [-np.log(-model.score_samples(others)) for model in models]
        return np.asarray(np.min(factors, axis=0))

    return inside, outside
