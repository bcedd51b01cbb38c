"""Readings from a curve of a loss or an error rate over the amount labeled.

Curves are piecewise linear between the measured points. ``x`` [Q] rises strictly; ``y`` [..., Q]
may hold many curves (resamples, seeds) over the same ``x``; less is better.
"""

from __future__ import annotations

import numpy as np

from egl_fast.evaluation.statistics.bootstrap import Floats


def interpolate(x: Floats, y: Floats, at: float) -> Floats:
    """The curve's height at one place.

    Args:
        x: [Q], rising strictly.
        y: [..., Q].
        at: where; NaN outside the measured points.

    Returns:
        [...]

    Example:
        >>> float(interpolate(np.array([0.0, 1.0]), np.array([3.0, 1.0]), 0.25))
        2.5
    """
    _check(x, y)
    if not x[0] <= at <= x[-1]:
        return np.full(y.shape[:-1], np.nan)
    if len(x) == 1:
        return np.array(y[..., 0])
    right = int(np.clip(np.searchsorted(x, at), 1, len(x) - 1))
    share = (at - x[right - 1]) / (x[right] - x[right - 1])
    return np.asarray(y[..., right - 1] * (1 - share) + y[..., right] * share)


def mean_height(x: Floats, y: Floats) -> Floats:
    """The area under the curve divided by its width: the metric, averaged over the budgets.

    Args:
        x: [Q], at least two points.
        y: [..., Q].

    Returns:
        [...]

    Example:
        >>> float(mean_height(np.array([0.0, 1.0, 3.0]), np.array([4.0, 2.0, 2.0])))
        2.3333333333333335
    """
    _check(x, y)
    if len(x) < 2:
        raise ValueError("x: an area needs at least two points")
    areas = (y[..., 1:] + y[..., :-1]) / 2 * np.diff(x)
    return np.asarray(areas.sum(axis=-1) / (x[-1] - x[0]))


def budget_to_reach(x: Floats, y: Floats, target: Floats) -> Floats:
    """How much must be labeled for a curve to come down to a target.

    Args:
        x: [Q], how much was labeled.
        y: [..., Q], what that led to.
        target: [...], the height to reach.

    Returns:
        [...]: the smallest budget at which the curve is at or below the target; -inf where it
        starts below it, +inf where it never gets there. Of several crossings the first counts.

    Example:
        >>> curve = np.array([10.0, 8.0, 7.0])
        >>> float(budget_to_reach(np.array([0.0, 20.0, 40.0]), curve, np.array(7.5)))
        30.0
    """
    _check(x, y)
    reached = y <= target[..., None]
    first = reached.argmax(axis=-1)
    left = np.maximum(first - 1, 0)
    above = np.take_along_axis(y, left[..., None], axis=-1)[..., 0]
    below = np.take_along_axis(y, first[..., None], axis=-1)[..., 0]
    drop = np.where(first > left, above - below, 1.0)
    share = np.where(first > left, (above - target) / drop, 0.0)
    crossing = x[left] + share * (x[first] - x[left])
    starts_below = reached[..., 0] & (y[..., 0] < target)
    result = np.where(reached.any(axis=-1), crossing, np.inf)
    return np.where(starts_below, -np.inf, result)


def _check(x: Floats, y: Floats) -> None:
    if x.ndim != 1 or len(x) == 0 or y.shape[-1:] != x.shape:
        raise ValueError(f"y: expected [..., {len(x)}] over x, got {y.shape}")
    if not (np.diff(x) > 0).all():
        raise ValueError("x: expected rising values")
