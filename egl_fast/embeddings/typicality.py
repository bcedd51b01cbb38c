"""Typicality: whether a recording lies where others lie, or alone.

What wrecks a pick is not what the model finds hard, but what is not speech of the domain: noise,
room tone, overlapping talkers, other languages. They lie apart in the space of embeddings. Distance
to a few trusted recordings takes for junk what those hold little of; density among trusted
recordings and pool together does not, as long as the neighbors that it is measured by outnumber
the largest heap of junk (Breunig et al., "LOF: Identifying Density-Based Local Outliers", 2000).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from egl_fast.embeddings.reduction import Reduction

NUM_COMPONENTS = 32
#: Neighbors as a share of all recordings.
NEIGHBOR_SHARE = 0.1
MIN_NEIGHBORS = 20


def typicality(
    trusted: npt.NDArray[Any], pool: npt.NDArray[Any], *, num_neighbors: int | None = None
) -> npt.NDArray[np.float64]:
    """How densely each recording of the pool is surrounded, relative to its neighbors.

    Args:
        trusted: [m, d] embeddings of recordings known to be of the domain.
        pool: [n, d].
        num_neighbors: that density is measured by; None: a tenth of all recordings.

    Returns:
        [n], minus the logarithm of the local outlier factor: about 0 for a recording that lies as
        densely as its neighbors do, -0.7 for one whose surroundings are half as dense.
    """
    from sklearn.neighbors import LocalOutlierFactor

    together = np.concatenate([trusted, pool])
    count = num_neighbors or max(MIN_NEIGHBORS, round(NEIGHBOR_SHARE * len(together)))
    coordinates = Reduction(together, num_components=NUM_COMPONENTS)(together)
    model = LocalOutlierFactor(min(count, len(together) - 1)).fit(coordinates)
    return -np.log(-model.negative_outlier_factor_[len(trusted) :])
