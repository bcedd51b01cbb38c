"""Batches of utterances of similar length."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from egl_fast.data.batching import length_batches

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
