"""The learning rate over the course of training, as a fraction of its peak."""

from __future__ import annotations

import math
from collections.abc import Sequence

SCHEDULES = ("cosine", "plateau", "constant")

_WARM_UP_FLOOR = 0.1
_COSINE_FLOOR = 0.01


def rate_factor(
    schedule: str,
    progress_epochs: float,
    *,
    warm_up_epochs: float,
    max_epochs: int,
    valid_losses: Sequence[float | None],
) -> float:
    """The learning rate's factor at a point of training; a function of its arguments alone.

    All schedules rise linearly during the warm-up. Then ``cosine`` falls along half a cosine to 1%
    at ``max_epochs``, ``plateau`` halves after every two epochs without a new best validation loss,
    and ``constant`` stays.

    Args:
        schedule: one of ``SCHEDULES``.
        progress_epochs: epochs completed, fraction included.
        warm_up_epochs: length of the warm-up.
        max_epochs: where ``cosine`` ends.
        valid_losses: validation loss after each epoch; None stands for infinity.

    Example:
        >>> rate_factor("constant", 3.0, warm_up_epochs=1, max_epochs=9, valid_losses=[])
        1.0
    """
    if progress_epochs < warm_up_epochs:
        return _WARM_UP_FLOOR + (1 - _WARM_UP_FLOOR) * progress_epochs / warm_up_epochs
    if schedule == "cosine":
        span = max(max_epochs - warm_up_epochs, 1e-9)
        done = min(1.0, (progress_epochs - warm_up_epochs) / span)
        return _COSINE_FLOOR + (1 - _COSINE_FLOOR) * 0.5 * (1 + math.cos(math.pi * done))
    if schedule == "plateau":
        return 0.5 ** _halvings(valid_losses)
    return 1.0


def _halvings(valid_losses: Sequence[float | None]) -> int:
    best, stale, halvings = math.inf, 0, 0
    for loss in valid_losses:
        best, stale = (loss, 0) if loss is not None and loss < best else (best, stale + 1)
        if stale == 2:
            halvings, stale = halvings + 1, 0
    return halvings
