"""Selection: budgets, ties, order, and messages that name the remedy."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egl_fast.errors import SelectionError
from egl_fast.records import STRATEGIES, ScoreRecord
from egl_fast.selection import low_mass_warning, select


def a_pool(scores, duration=1.0):
    return [{"id": f"u{i}", "egl": egl, "duration": duration} for i, egl in enumerate(scores)]


# Few distinct values, so that ties are common; durations as decimals, as a file writes them.
pools = st.lists(
    st.tuples(st.integers(0, 5), st.integers(1, 9999)).map(
        lambda pair: {"egl": float(pair[0]), "duration": pair[1] / 1000}
    ),
    min_size=1,
    max_size=30,
)


@pytest.mark.parametrize(
    ("num_records", "budget", "count"),
    [
        (3, "20%", 1),  # 0.6
        (5, "10%", 1),  # 0.5: halves up
        (15, "10%", 2),  # 1.5
        (25, "10%", 3),  # 2.5: up, not to even
        (24, "10%", 2),  # 2.4
        (4, "12.5%", 1),  # 0.5
        (200, "0.25%", 1),  # 0.5, also by 200 * 0.25 / 100 in floats
        (1000, "0.15%", 2),  # 1.5: 0.15 has no exact float
        (7, "100%", 7),
        (7, " 100 % ", 7),
        (7, "3", 3),
        (7, 3, 3),
        (7, 7, 7),
    ],
)
def test_counts_are_rounded_halves_up(num_records, budget, count):
    assert len(select(a_pool([0.0] * num_records), budget=budget)) == count


@given(pools, st.integers(1, 10000))
def test_a_percentage_is_rounded_halves_up(pool, hundredths):
    exact = Fraction(len(pool) * hundredths, 10000)
    expected = int(exact) + (exact - int(exact) >= Fraction(1, 2))
    budget = f"{hundredths // 100}.{hundredths % 100:02}%"
    if expected == 0:
        with pytest.raises(SelectionError, match="less than half a record"):
            select(pool, budget=budget)
    else:
        assert len(select(pool, budget=budget)) == expected


@given(pools)
def test_rank_order_is_by_score_and_ties_keep_the_input_order(pool):
    chosen = select(pool, budget="100%")
    assert sorted(chosen) == list(range(len(pool)))
    keys = [(-pool[index]["egl"], index) for index in chosen]
    assert keys == sorted(keys)


@given(pools, st.data())
def test_a_smaller_budget_gives_a_prefix(pool, data):
    ranking = select(pool, budget=len(pool))
    count = data.draw(st.integers(1, len(pool)))
    assert select(pool, budget=count) == ranking[:count]
    milliseconds = data.draw(st.integers(1, 300_000))
    try:
        chosen = select(pool, budget=f"{milliseconds // 1000}.{milliseconds % 1000:03}s")
    except SelectionError:
        chosen = []
    assert chosen == ranking[: len(chosen)]


@given(pools, st.integers(1, 300_000))
def test_hours_never_overflow_and_stop_only_where_the_next_would(pool, milliseconds):
    budget = f"{milliseconds // 1000}.{milliseconds % 1000:03}s"
    ranking = select(pool, budget="100%")
    spent = [round(1000 * pool[index]["duration"]) for index in ranking]
    try:
        chosen = select(pool, budget=budget)
    except SelectionError:
        chosen = []
    assert sum(spent[: len(chosen)]) <= milliseconds
    if len(chosen) < len(pool):
        assert sum(spent[: len(chosen) + 1]) > milliseconds


def test_a_time_has_units():
    pool = a_pool([0.0] * 10, duration=900.0)
    assert [len(select(pool, budget=b)) for b in ("0.5h", "30m", "1800s", "1799.9s")] == [
        2,
        2,
        2,
        1,
    ]
    assert len(select(pool, budget="999h")) == 10


def test_decimal_durations_fill_a_decimal_budget_exactly():
    # In binary, ten times 0.1 is not 1 and three times 0.1 is more than 0.3.
    assert len(select(a_pool([0.0] * 12, duration=0.1), budget="1s")) == 10
    assert len(select(a_pool([0.0] * 12, duration=0.1), budget="0.3s")) == 3


def test_the_first_that_does_not_fit_ends_the_selection():
    pool = [
        {"egl": 3.0, "duration": 2.0},
        {"egl": 2.0, "duration": 9.0},
        {"egl": 1.0, "duration": 1.0},
    ]
    assert select(pool, budget="5s") == [0]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_ranks_by_its_own_field_highest_first(strategy):
    pool = [dict.fromkeys(STRATEGIES, 5.0) for _ in range(3)]
    pool[1][strategy] = 7.0
    pool[2][strategy] = -7.0
    assert select(pool, budget=3, strategy=strategy) == [1, 0, 2]


@pytest.mark.parametrize("missing", [(), ("pctc",), ("pctc", "egl_full")])
def test_the_default_is_the_best_of_what_all_records_hold(missing):
    numbers = {"pctc": [1.0, 2.0, 3.0], "egl_full": [2.0, 3.0, 1.0], "egl": [3.0, 2.0, 1.0]}
    held = [name for name in numbers if name not in missing]
    pool = [{name: numbers[name][place] for name in numbers} for place in range(3)]
    for name in missing:
        pool[1][name] = None  # one record without it is enough
    best = max(range(3), key=lambda place: numbers[held[0]][place])
    assert select(pool, budget=1) == [best]


def test_score_records_and_mappings_are_ranked_alike():
    records = [
        ScoreRecord(f"u{i}", 2.0, 100, "", 1, 1.0, egl, 0.0, egl, None, None, None, 0.0, 0.0, 0.0)
        for i, egl in enumerate([1.0, 3.0, 2.0])
    ]
    assert select(records, budget="100%", strategy="egl") == [1, 2, 0]
    assert select(records, budget="4s", strategy="egl") == [1, 2]
    assert low_mass_warning(records) is None
    with pytest.raises(
        SelectionError,
        match="holds no egl_full, which `score --full` adds; rank by what it holds: egl, ",
    ):
        select(records, budget=1, strategy="egl_full")


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ("0", "above zero"),
        (0, "above zero"),
        ("0%", "above zero"),
        ("0.0h", "above zero"),
        ("-5", "above zero"),
        (-5, "above zero"),
        ("-20%", "above zero"),
        ("100.1%", "at most 100%"),
        ("4", "at most 3"),
        (4, "at most 3"),
        ("10%", "less than half a record"),
        ("0.5s", "alone takes 1.0 s; give a larger budget"),
        ("2.5", "not a whole number"),
        (0.2, "not a whole number"),
        ("", "expected a percentage"),
        ("lots", "expected a percentage"),
        ("20 percent", "expected a percentage"),
        ("1e3", "expected a percentage"),
        ("nan", "expected a percentage"),
        ("\u0661\u0660%", "expected a percentage"),
        (True, "expected a percentage"),
        (None, "expected a percentage"),
        ("9" * 5000, "expected a percentage"),
    ],
)
def test_bad_budgets_get_one_line_with_the_remedy(budget, message):
    with pytest.raises(SelectionError) as caught:
        select(a_pool([1.0, 2.0, 3.0]), budget=budget)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_strategy_is_told_the_known_ones():
    with pytest.raises(SelectionError) as caught:
        select(a_pool([1.0]), budget=1, strategy="entorpy")
    assert all(name in str(caught.value) for name in STRATEGIES)


def test_an_empty_pool_is_an_error():
    with pytest.raises(SelectionError, match="no record"):
        select([], budget="20%")


@pytest.mark.parametrize("value", [None, math.nan, math.inf, "7", True, [7]])
def test_a_score_that_is_no_number_names_its_record(value):
    pool = [*a_pool([1.0]), {"id": "odd\none", "egl": value, "duration": 1.0}]
    with pytest.raises(SelectionError, match=r"^record 2 \('odd\\none'\)") as caught:
        select(pool, budget=1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("duration", [None, -1.0, math.nan, "1"])
def test_a_duration_that_is_no_length_names_its_record(duration):
    pool = [{"id": "u0", "egl": 1.0, "duration": duration}]
    assert select(pool, budget=1) == [0]
    with pytest.raises(SelectionError, match=r"^record 1 \('u0'\)"):
        select(pool, budget="1h")


def test_low_mass_is_warned_of_by_the_median():
    def masses(*values):
        return [{"beam_mass": value} for value in values]

    assert low_mass_warning(masses(0.5, 0.5)) is None
    assert low_mass_warning(masses(0.01, 0.5, 0.9)) is None
    assert low_mass_warning(masses(0.01, 0.49)) is not None
    assert low_mass_warning([]) is None
    assert low_mass_warning([{"egl": 1.0}]) is None
    warning = low_mass_warning(iter(masses(0.9, 0.006, 0.001)))
    assert "0.006" in warning
    assert "`egl_normalized`" in warning
    assert "\n" not in warning


def test_a_budget_of_time_needs_durations():
    with pytest.raises(SelectionError, match=r"record 1 \('u0'\): its duration is 0; .* number"):
        select(a_pool([1.0, 2.0], duration=0.0)[:1], budget="1h")
