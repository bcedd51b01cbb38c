"""Weights from scores, for criteria that add them up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def weights_of(scores: Sequence[float]) -> np.ndarray:
    """Scores over their mean; moved up to zero where one is negative, all ones if all are zero."""
    moved = np.asarray(scores, dtype=np.float64) - min(0.0, *scores)
    return moved / moved.mean() if moved.any() else np.ones_like(moved)
