"""Shares of groups: every start of the order is fair, whatever the budget."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egl_fast.selection.shares import in_shares

POOLS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.integers(0, 5), st.integers(1, 9)), max_size=40
)


@given(POOLS)
def test_the_order_has_everyone_once_and_falls_within_a_group(
    pool: list[tuple[str, int, int]],
) -> None:
    groups, scores, costs = ([item[i] for item in pool] for i in range(3))
    order = list(in_shares(groups, scores, costs))
    assert sorted(order) == list(range(len(pool)))
    for group in set(groups):
        own = [index for index in order if groups[index] == group]
        assert own == sorted(own, key=lambda index: (-scores[index], index))


@given(POOLS.filter(len), st.integers(1, 40))
def test_any_start_spends_what_the_shares_say_to_within_one_recording(
    pool: list[tuple[str, int, int]], length: int
) -> None:
    """Brute force over what is spent: no group is ahead of another by more than a recording."""
    groups, scores, costs = ([item[i] for item in pool] for i in range(3))
    order = list(in_shares(groups, scores, costs))[:length]
    total, spent, counts = Counter[str](), Counter[str](), Counter(groups)
    taken = Counter(groups[index] for index in order)
    for index, group in enumerate(groups):
        total[group] += costs[index]
        spent[group] += costs[index] if index in order else 0
    largest = max(costs)
    for ahead in taken:
        for behind in total:
            if taken[behind] < counts[behind]:  # it still could have had more
                level_ahead = (spent[ahead] - largest) / math.sqrt(total[ahead])
                level_behind = (spent[behind] + largest) / math.sqrt(total[behind])
                assert level_ahead <= level_behind


def test_shares_follow_the_weight() -> None:
    groups = ["large"] * 100 + ["small"] * 25
    order = list(in_shares(groups, [0.0] * 125, [1.0] * 125))
    assert Counter(groups[index] for index in order[:30]) == {"large": 20, "small": 10}
    order = list(in_shares(groups, [0.0] * 125, [1.0] * 125, weight=lambda cost: cost))
    assert Counter(groups[index] for index in order[:30]) == {"large": 24, "small": 6}
    order = list(in_shares(groups, [0.0] * 125, [1.0] * 125, weight=lambda _: 1.0))
    assert Counter(groups[index] for index in order[:30]) == {"large": 15, "small": 15}


@pytest.mark.parametrize("groups", [[], ["only"]])
def test_pools_of_none_and_one(groups: list[str]) -> None:
    assert list(in_shares(groups, [1.0] * len(groups), [1.0] * len(groups))) == [
        *range(len(groups))
    ]
