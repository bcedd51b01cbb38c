"""Sets instead of lists: against brute force on small pools, and on pools of known kinds."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from egl_fast.errors import SelectionError
from egl_fast.selection import Candidates
from egl_fast.selection.batches import described, order_by
from egl_fast.selection.batches.facility import greedy_cover, weights_of

CASES = st.integers(2, 9).flatmap(
    lambda n: st.tuples(
        st.lists(
            st.lists(st.floats(0, 1, width=16), min_size=n, max_size=n), min_size=n, max_size=n
        ),
        st.lists(st.floats(0, 4, width=16), min_size=n, max_size=n),
        st.lists(st.sampled_from([0.5, 1.0, 2.0]), min_size=n, max_size=n),
    )
)


@given(CASES)
def test_the_lazy_greedy_cover_is_the_plain_one(
    case: tuple[list[list[float]], list[float], list[float]],
) -> None:
    alike, weights, costs = (np.array(part) for part in case)
    count = len(weights)
    np.fill_diagonal(alike, 1.0)
    neighbors = np.array([[j for j in range(count) if j != i] for i in range(count)])
    lazily = list(
        greedy_cover(neighbors, np.take_along_axis(alike, neighbors, 1), weights, costs.tolist())
    )
    covered = np.zeros(count)
    left = set(range(count))
    for index in lazily:  # each choice is one that the plain greedy algorithm could make
        gains = {j: float(weights @ np.maximum(0, alike[:, j] - covered)) / costs[j] for j in left}
        assert gains[index] >= max(gains.values()) - 1e-9
        covered = np.maximum(covered, alike[:, index])
        left.remove(index)
    assert not left


def pool(*sizes: int) -> tuple[Candidates, list[int]]:
    """Kinds of recordings, so many of each, far apart; and the kind of each recording."""
    random = np.random.default_rng(0)
    kinds = [kind for kind, size in enumerate(sizes) for _ in range(size)]
    centers = random.normal(size=(len(sizes), 20)) * 20
    embeddings = np.stack([centers[kind] + random.normal(size=20) for kind in kinds])
    records = [{"id": str(i), "duration": 1.0} for i in range(len(kinds))]
    return Candidates(records, embeddings), kinds


@pytest.mark.parametrize("name", described())
def test_a_set_has_every_kind_though_scores_prefer_one(name: str) -> None:
    candidates, kinds = pool(100, 30, 20)
    scores = [10.0 if kind == 0 else 1.0 for kind in kinds]
    order = order_by(name)(candidates, scores, [1.0] * len(kinds), seed=0)
    assert set(Counter(kinds[i] for i in islice(order, 30))) == {0, 1, 2}


@pytest.mark.parametrize("name", described())
def test_the_order_has_everyone_once_and_is_the_same_each_time(name: str) -> None:
    candidates, _ = pool(12, 7, 3)
    scores, costs = [float(i % 5) for i in range(22)], [1.0 + i % 3 for i in range(22)]
    orders = [list(order_by(name)(candidates, scores, costs, seed=1)) for _ in range(2)]
    assert orders[0] == orders[1]
    assert sorted(orders[0]) == list(range(22))


@pytest.mark.parametrize("name", described())
def test_without_embeddings_there_is_no_set(name: str) -> None:
    candidates = Candidates([{"id": "a"}, {"id": "b"}])
    with pytest.raises(SelectionError, match=f"batch {name}: needs the embeddings"):
        list(order_by(name)(candidates, [1.0, 2.0], [1.0, 1.0], seed=0))


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(SelectionError, match="batch 'best': unknown; take one of clusters"):
        order_by("best")


def test_weights_are_scores_and_never_negative() -> None:
    assert weights_of([1.0, 2.0, 3.0]).tolist() == [0.5, 1.0, 1.5]
    assert weights_of([-1.0, 1.0]).tolist() == [0.0, 2.0]
    assert weights_of([0.0, 0.0]).tolist() == [1.0, 1.0]
