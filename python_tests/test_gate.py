"""The gate: what is turned away, by share, threshold or calibration, and in which groups."""

from __future__ import annotations

import numpy as np
import pytest

from egl_fast.errors import SelectionError
from egl_fast.selection import Candidates
from egl_fast.selection.gate import FALSE_ALARMS, Gate, groups

POOL = Candidates(
    [{"id": str(i), "typicality": value} for i, value in enumerate([0.0, -3.0, -1.0])]
)
METADATA = {"typicality": {"thresholds": {f"{FALSE_ALARMS:g}": -0.5}}}


@pytest.mark.parametrize(
    ("drop", "minimum", "away"),
    [
        ("0%", None, []),
        ("34%", None, [1]),
        ("50%", None, [1, 2]),  # one and a half: halves go up, as in budgets
        ("auto", None, [1, 2]),
        (None, -1.0, [1]),
        (None, 1.0, [1, 2, 0]),
    ],
)
def test_the_least_typical_are_turned_away(
    drop: str | None, minimum: float | None, away: list[int]
) -> None:
    gate = Gate.of(drop, minimum, metadata=METADATA)
    assert gate is not None
    assert gate.turned_away(POOL) == away


def test_no_gate_unless_asked_for() -> None:
    assert Gate.of(None, None) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("10%", -1.0), "either drop_atypical or min_typicality"),
        (("100%", None), "expected a percentage below 100"),
        (("ten", None), "expected a percentage below 100"),
        (("auto", None), r"holds no calibrated threshold; score the pool with `egl-fast"),
    ],
)
def test_what_draws_no_line_is_refused(arguments: tuple[str, float], message: str) -> None:
    with pytest.raises(SelectionError, match=message):
        Gate.of(*arguments)


def test_groups_to_keep_need_a_gate() -> None:
    with pytest.raises(SelectionError, match="keep_group: there is no gate"):
        Gate.of(None, None, kept_groups=[1])


def test_scores_without_typicality_are_refused() -> None:
    gate = Gate.of("10%", None)
    assert gate is not None
    with pytest.raises(SelectionError, match="hold no typicality; score the pool with"):
        gate.turned_away(Candidates([{"id": "a"}]))
    with pytest.raises(SelectionError, match=r"record 2 \('b'\) holds no typicality"):
        gate.turned_away(Candidates([{"id": "a", "typicality": 0.0}, {"id": "b"}]))


def test_like_is_grouped_with_like_and_the_largest_group_is_the_first() -> None:
    random = np.random.default_rng(0)
    kinds = np.repeat([0, 1], [6, 12])
    embeddings = random.normal(size=(18, 4)) + 100.0 * kinds[:, None]
    found = groups(embeddings, range(18))
    assert {number for number, kind in zip(found, kinds, strict=True) if kind} & {
        number for number, kind in zip(found, kinds, strict=True) if not kind
    } == set()
    assert min(found) == 1
    assert groups(None, [0, 1]) == [1, 1]
