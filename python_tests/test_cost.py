"""Costs: so much each, per second and per word, and budgets in their currency."""

from __future__ import annotations

from fractions import Fraction

import pytest

from egl_fast.errors import SelectionError
from egl_fast.selection import Candidates, within_budget
from egl_fast.selection.cost import Cost

POOL = Candidates(
    [
        {"id": "a", "duration": 0.1, "pred_text": "one two"},
        {"id": "b", "duration": 0.2, "pred_text": ""},
    ]
)


@pytest.mark.parametrize(
    ("text", "costs"),
    [
        ("0.5", ["1/2", "1/2"]),
        ("0.5 + 0.02*seconds", ["251/500", "63/125"]),
        ("seconds * 1", None),
        ("2*words+1", ["5", "1"]),
        ("0.1*seconds + 1*words", ["201/100", "1/50"]),
        ("", None),
        ("0", None),
        ("-1", None),
        ("1*words + 2*words", None),
        ("1 + 1", None),
        ("1*hours", None),
        ("__import__('os')", None),
    ],
)
def test_a_price_list(text: str, costs: list[str] | None) -> None:
    if costs is None:
        with pytest.raises(SelectionError, match="cost "):
            Cost.parse(text)
        return
    cost = Cost.parse(text)
    assert [cost.of(POOL, index) for index in range(2)] == [Fraction(value) for value in costs]


def test_a_budget_without_a_unit_is_money() -> None:
    cost = Cost.parse("0.5 + 0.02*seconds")
    exactly = "1.006"  # 251/500 + 63/125, to the decimal
    assert within_budget(POOL, [0, 1], budget=exactly, cost=cost) == [0, 1]
    assert within_budget(POOL, [0, 1], budget="1.005", cost=cost) == [0]
    with pytest.raises(SelectionError, match=r"alone takes 0\.502; give a larger budget"):
        within_budget(POOL, [0, 1], budget="0.5", cost=cost)


def test_other_budgets_mean_what_they_mean_without_a_cost() -> None:
    cost = Cost.parse("100")
    assert within_budget(POOL, [1, 0], budget="50%", cost=cost) == [1]
    assert within_budget(POOL, [0, 1], budget="0.1s", cost=cost) == [0]


def test_an_unknown_duration_or_text_has_no_cost() -> None:
    pool = Candidates([{"id": "a"}])
    with pytest.raises(SelectionError, match=r"record 1 \('a'\) holds no duration"):
        Cost.parse("1*seconds").of(pool, 0)
    with pytest.raises(SelectionError, match="holds no pred_text"):
        Cost.parse("1*words").of(pool, 0)
