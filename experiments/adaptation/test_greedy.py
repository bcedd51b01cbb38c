"""Lazy and batched choices are those of a plain loop: ``pytest experiments/adaptation``."""

from __future__ import annotations

import numpy as np
import pytest
from greedy import bait, log_det_order, ridge_of, spread_order


def problem(seed: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Sketches of unequal size and direction, costs, ridge."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(9, 2, 3)) * random.uniform(0.2, 3, size=(9, 1, 1))
    sketches = rows.transpose(0, 2, 1) @ rows
    return sketches, random.uniform(1, 4, 9), ridge_of(sketches)


def log_det(sketches: np.ndarray, some: list[int], ridge: float) -> float:
    return float(np.log(np.linalg.det(ridge * np.eye(3) + sketches[some].sum(0))))


def left(sketches: np.ndarray, some: list[int], ridge: float) -> float:
    inverse = np.linalg.inv(ridge * np.eye(3) + sketches[some].sum(0))
    return float(np.trace(inverse @ sketches.sum(0)))


@pytest.mark.parametrize("seed", range(5))
def test_log_det_is_greedy(seed: int) -> None:
    sketches, costs, ridge = problem(seed)
    chosen: list[int] = []
    for index in log_det_order(sketches, costs, ridge):
        now = log_det(sketches, chosen, ridge)
        gains = {
            i: (log_det(sketches, [*chosen, i], ridge) - now) / costs[i]
            for i in range(9)
            if i not in chosen
        }
        assert index == max(gains, key=gains.__getitem__)
        chosen.append(index)
    assert len(chosen) == 9


@pytest.mark.parametrize("seed", range(5))
def test_bait_is_greedy_forward_and_backward(seed: int) -> None:
    sketches, costs, ridge = problem(seed)
    budget = 0.3 * costs.sum()
    chosen: list[int] = []
    while costs[chosen].sum() < 2 * budget:
        tried = {
            i: (left(sketches, [*chosen, i], ridge) - left(sketches, chosen, ridge)) / costs[i]
            for i in range(9)
            if i not in chosen
        }
        chosen.append(min(tried, key=tried.__getitem__))
    while costs[chosen].sum() > budget:
        tried = {
            i: (left(sketches, [j for j in chosen if j != i], ridge)) / costs[i]
            - left(sketches, chosen, ridge) / costs[i]
            for i in chosen
        }
        chosen.remove(min(tried, key=tried.__getitem__))
    assert bait(sketches, sketches.sum(0), costs, ridge, budget) == chosen


def test_spread_starts_with_the_longest_and_takes_no_copy() -> None:
    points = np.array([[0.0, 1], [5, 0], [5, 0], [0, 1], [0, -2]])
    order = list(spread_order(points, 0))
    assert order[0] in (1, 2)
    assert len(order) == 3
    assert len(np.unique(points[order], axis=0)) == 3
