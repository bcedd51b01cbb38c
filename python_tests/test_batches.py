"""Sets instead of lists: against brute force on small pools, and on pools of known kinds."""

from __future__ import annotations

from collections import Counter
from itertools import islice, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from egl_fast.errors import SelectionError
from egl_fast.selection import Candidates
from egl_fast.selection.batches import described, order_by
from egl_fast.selection.batches.facility import greedy_cover
from egl_fast.selection.batches.kmeans_plusplus import d2_sampling
from egl_fast.selection.batches.typiclust import typical_first
from egl_fast.selection.cost import Cost
from egl_fast.selection.ranking import Selection
from egl_fast.selection.weights import weights_of

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
    order = order_by(name)(candidates, scores, [1.0] * len(kinds), num_picks=30, seed=0)
    assert set(Counter(kinds[i] for i in islice(order, 30))) == {0, 1, 2}


@pytest.mark.parametrize("name", described())
def test_the_order_has_everyone_once_and_is_the_same_each_time(name: str) -> None:
    candidates, _ = pool(12, 7, 3)
    scores, costs = [float(i % 5) for i in range(22)], [1.0 + i % 3 for i in range(22)]
    orders = [
        list(order_by(name)(candidates, scores, costs, num_picks=5, seed=1)) for _ in range(2)
    ]
    assert orders[0] == orders[1]
    assert sorted(orders[0]) == list(range(22))


@pytest.mark.parametrize("name", described())
def test_without_embeddings_there_is_no_set(name: str) -> None:
    candidates = Candidates([{"id": "a"}, {"id": "b"}])
    with pytest.raises(SelectionError, match=f"batch {name}: needs the embeddings"):
        list(order_by(name)(candidates, [1.0, 2.0], [1.0, 1.0], num_picks=1, seed=0))


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(SelectionError, match="batch 'best': unknown; take one of clusters"):
        order_by("best")


def test_weights_are_scores_and_never_negative() -> None:
    assert weights_of([1.0, 2.0, 3.0]).tolist() == [0.5, 1.0, 1.5]
    assert weights_of([-1.0, 1.0]).tolist() == [0.0, 2.0]
    assert weights_of([0.0, 0.0]).tolist() == [1.0, 1.0]


def plain_d2_sampling(points: np.ndarray, weights: np.ndarray, patience: np.ndarray) -> list[int]:
    """All rates after each pick: the events of a race whose first one wins."""
    picks: list[int] = []
    summed = np.zeros(len(points))
    gaps = np.full(len(points), 1e9)  # far from everything, at first
    while (weights * gaps).any():
        rates = weights * gaps
        waits = [
            (own - so_far) / rate if rate else np.inf
            for own, so_far, rate in zip(patience, summed, rates, strict=True)
        ]
        index = int(np.argmin(waits))
        summed += rates * waits[index]
        picks.append(index)
        gaps = np.minimum(gaps, np.square(points - points[index]).sum(1))
    return picks


@given(st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_lazy_d2_sampling_is_the_plain_one(count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    # Whole numbers: exact in single precision, and some points are copies or weigh nothing.
    points = random.integers(0, 6, (count, 2)).astype(np.float64)
    weights = random.integers(0, 4, count).astype(np.float64)
    patience = random.exponential(size=count)
    lazily = list(d2_sampling(points, weights, patience))
    assert lazily == plain_d2_sampling(points, weights, patience)


def test_d2_sampling_draws_with_the_probabilities_of_kmeans_plusplus() -> None:
    points, weights = np.array([[0.0], [1.0], [3.0], [7.0]]), np.array([1.0, 2.0, 1.0, 0.5])

    def probability(sequence: tuple[int, ...]) -> float:
        found = 1.0
        picked: list[int] = []
        for index in sequence:
            nearest = np.square(points - points[picked].T).min(1) if picked else np.ones(4)
            rates = weights * nearest
            found *= rates[index] / rates.sum()
            picked.append(index)
        return found

    total = 3000
    random = np.random.default_rng(0)
    counts = Counter(
        tuple(islice(d2_sampling(points, weights, random.exponential(size=4)), 3))
        for _ in range(total)
    )
    expected = {one: total * probability(one) for one in permutations(range(4), 3)}
    assert sum(expected.values()) == pytest.approx(total)
    statistic = sum((counts[one] - mean) ** 2 / mean for one, mean in expected.items())
    # Chi-square with 23 degrees of freedom is above 60 once in 30,000 times; the seed is fixed.
    assert statistic < 60


def test_a_draw_changes_little_with_the_scores() -> None:
    candidates, kinds = pool(60, 60)
    scores = np.linspace(1.0, 2.0, len(kinds))
    picks = [
        set(
            islice(
                order_by("kmeans_plusplus")(candidates, own, [1.0] * 120, num_picks=30, seed=0), 30
            )
        )
        for own in (scores.tolist(), (scores * np.tile([1.0, 1.01], 60)).tolist())
    ]
    assert len(picks[0] & picks[1]) >= 24


@given(st.integers(1, 40), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_the_most_typical_of_each_cluster_come_first(
    count: int, num_clusters: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    points = random.normal(size=(count, 3))
    drawn = random.integers(0, num_clusters, count).tolist()
    by_size = [number for number, _ in Counter(drawn).most_common()]
    numbers = np.array([by_size.index(number) for number in drawn])

    def distance(index: int) -> float:
        others = [i for i in range(count) if numbers[i] == numbers[index] and i != index]
        nearest = sorted(float(np.linalg.norm(points[i] - points[index])) for i in others)[:20]
        return float(np.mean(nearest)) if nearest else 0.0

    left = {
        number: sorted(np.flatnonzero(numbers == number).tolist(), key=distance)
        for number in range(len(by_size))
    }
    expected = []
    for small in (False, True):
        turns = [left[n] for n in left if (len(left[n]) < 5) == small]
        for turn in range(count):
            expected += [members[turn] for members in turns if turn < len(members)]
    assert typical_first(points, numbers) == expected


@pytest.mark.parametrize(
    ("budget", "cost", "clusters"),
    [("10%", None, 4), (6, None, 6), ("12s", None, 6), ("9", Cost.parse("1.5"), 6)],
)
def test_there_are_as_many_clusters_as_picks(
    budget: str | int, cost: Cost | None, clusters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    embeddings = np.random.default_rng(0).normal(size=(40, 8))
    seconds = [1.0, 3.0] * 20
    records = [{"id": str(i), "duration": own, "egl": 1.0} for i, own in enumerate(seconds)]
    asked = []

    def counted(embeddings: np.ndarray, *, num_clusters: int, seed: int) -> np.ndarray:
        asked.append(num_clusters)
        return np.zeros(len(embeddings), dtype=np.int64)

    monkeypatch.setattr("egl_fast.selection.batches.typiclust.clusters", counted)
    candidates = Candidates(records, embeddings)
    Selection(budget, batch="typiclust", cost=cost).choose(candidates)
    assert asked == [clusters]
