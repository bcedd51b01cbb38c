"""Reduces embeddings to a few coordinates in which distances are meaningful."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Coordinates = npt.NDArray[np.float64]


class Reduction:
    """Standardized dimensions, then principal components.

    Standardization keeps the few dimensions with large values from deciding alone; the components
    drop directions in which all recordings are alike, which would only add noise to distances.

    Args:
        embeddings: [n, d], what to fit to.
        num_components: c; fewer if n or d is smaller.
        weights: [d], factors of the standardized dimensions; None for 1.
        seed: of the randomized decomposition.
    """

    def __init__(
        self,
        embeddings: npt.NDArray[Any],
        *,
        num_components: int,
        weights: npt.NDArray[np.float64] | None = None,
        seed: int = 0,
    ) -> None:
        from sklearn.decomposition import PCA
        from sklearn.preprocessing import StandardScaler

        embeddings = np.asarray(embeddings, dtype=np.float64)
        self._scaler = StandardScaler().fit(embeddings)
        self._weights = 1.0 if weights is None else weights
        most = min(num_components, len(embeddings), embeddings.shape[1])
        self._components = PCA(most, svd_solver="auto", random_state=seed)
        with np.errstate(divide="ignore", invalid="ignore"):  # all recordings are the same
            self._components.fit(self._scaled(embeddings))

    def __call__(self, embeddings: npt.NDArray[Any]) -> Coordinates:
        """Coordinates [n, c] of embeddings [n, d]."""
        scaled = self._scaled(np.asarray(embeddings, dtype=np.float64))
        return np.asarray(self._components.transform(scaled))

    def _scaled(self, embeddings: npt.NDArray[np.float64]) -> Coordinates:
        return np.asarray(self._scaler.transform(embeddings) * self._weights)
