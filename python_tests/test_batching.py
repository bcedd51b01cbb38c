"""Batches of like length, and work done ahead of its use."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egl_fast.data.batching import length_batches
from egl_fast.data.prefetch import prefetch

lengths = st.lists(st.floats(min_value=0.01, max_value=30.0), max_size=40)
bounds = st.floats(min_value=0.5, max_value=100.0)


@given(lengths, bounds)
def test_every_index_is_in_exactly_one_batch(seconds: list[float], bound: float) -> None:
    batches = length_batches(seconds, batch_seconds=bound)
    assert sorted(index for batch in batches for index in batch) == list(range(len(seconds)))
    assert all(batches)


@given(lengths, bounds)
def test_padded_audio_stays_in_bounds_but_for_single_utterances(
    seconds: list[float], bound: float
) -> None:
    for batch in length_batches(seconds, batch_seconds=bound):
        longest = max(seconds[index] for index in batch)
        assert len(batch) == 1 or longest * len(batch) <= bound


@given(lengths, bounds)
def test_order_is_by_length_and_then_by_index(seconds: list[float], bound: float) -> None:
    order = [index for batch in length_batches(seconds, batch_seconds=bound) for index in batch]
    assert order == sorted(order, key=lambda index: (seconds[index], index))


@given(lengths, bounds)
def test_no_batch_could_have_taken_the_next_utterance(seconds: list[float], bound: float) -> None:
    batches = length_batches(seconds, batch_seconds=bound)
    for batch, following in pairwise(batches):
        assert seconds[following[0]] * (len(batch) + 1) > bound


@given(st.lists(st.integers(), max_size=60), st.integers(1, 8), st.integers(1, 4))
def test_results_come_in_the_order_of_the_items(
    items: list[int], ahead: int, num_threads: int
) -> None:
    results = prefetch(lambda x: 3 * x, items, ahead=ahead, num_threads=num_threads)
    assert list(results) == [3 * x for x in items]


def test_an_exception_surfaces_where_its_result_would_have() -> None:
    results = prefetch(lambda x: 6 // x, [1, 2, 3, 0, 6])
    assert [next(results) for _ in range(3)] == [6, 3, 2]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_items_are_drawn_no_further_ahead_than_asked() -> None:
    drawn = []

    def items() -> Iterator[int]:
        for x in range(100):
            drawn.append(x)
            yield x

    results = prefetch(lambda x: x, items(), ahead=3)
    assert next(results) == 0
    assert next(results) == 1
    # Two results are out, three more may wait.
    assert len(drawn) <= 5
    results.close()


def test_leaving_early_ends_the_threads() -> None:
    results = prefetch(lambda x: x, range(1000), ahead=8)
    next(results)
    results.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("egl-prefetch")]
