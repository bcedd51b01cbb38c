"""Strategies: by key, by module, by a user's file, and per second."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from egl_fast.errors import SelectionError
from egl_fast.selection import Candidates, select
from egl_fast.selection.strategies import described, scores_by

POOL = [
    {"id": "a", "duration": 2.0, "egl": 4.0, "beam_mass": 0.5},
    {"id": "b", "duration": 4.0, "egl": 6.0, "beam_mass": 0.0},
    {"id": "c", "duration": 1.0, "egl": 3.0, "beam_mass": 1.0},
]


def test_every_strategy_has_one_line_of_description() -> None:
    assert {"egl", "longest", "shortest", "least_mass"} <= set(described())
    assert all(line and "\n" not in line for line in described().values())


@pytest.mark.parametrize(
    ("strategy", "order"),
    [
        ("egl", [1, 0, 2]),
        ("egl/second", [2, 0, 1]),
        ("longest", [1, 0, 2]),
        ("shortest", [2, 0, 1]),
        ("least_mass", [1, 0, 2]),
    ],
)
def test_a_strategy_orders_the_pool(strategy: str, order: list[int]) -> None:
    assert select(POOL, budget=3, strategy=strategy) == order


def test_a_mass_that_underflowed_is_still_a_number() -> None:
    assert all(map(math.isfinite, scores_by("least_mass", Candidates(POOL))))


def own(folder: Path, body: str) -> str:
    path = folder / "mine.py"
    path.write_text(f"def score(candidates):\n    {body}\n")
    return f"{path}:score"


def test_a_file_of_ones_own_is_a_strategy(tmp_path: Path) -> None:
    name = own(tmp_path, "return [-x for x in candidates.numbers('egl')]")
    assert select(POOL, budget=3, strategy=name) == [2, 0, 1]


def test_a_file_of_ones_own_goes_per_second(tmp_path: Path) -> None:
    name = own(tmp_path, "return candidates.numbers('egl')")
    assert select(POOL, budget=3, strategy=f"{name}/second") == [2, 0, 1]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return [1.0]", "returned 1 scores for 3 utterances"),
        ("return [1.0, float('nan'), 2.0]", r"gives record 2 \('b'\) nan"),
        ("return ['x', 'y', 'z']", "does not return numbers"),
        ("return None", "does not return numbers"),
        ("return '123'", "does not return numbers"),
        ("return (x.egl for x in candidates.records)", "AttributeError"),
        ("import sys; sys.exit(7)", "SystemExit: 7"),
        ("return 1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_function_that_returns_no_scores_is_refused(
    tmp_path: Path, body: str, message: str
) -> None:
    with pytest.raises(SelectionError, match=message):
        scores_by(own(tmp_path, body), Candidates(POOL))


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ("nonsense", "unknown; take one of egl, "),
        ("missing.py:score", "there is no file missing.py"),
        ("egl/minute", "after the slash, give second"),
        ("entropy", "this file holds no entropy; rank by what it holds: egl"),
    ],
)
def test_what_is_no_strategy_is_refused(strategy: str, message: str) -> None:
    with pytest.raises(SelectionError, match=message):
        scores_by(strategy, Candidates(POOL))


def test_a_file_that_fails_or_lacks_the_function_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise RuntimeError('no')\n")
    with pytest.raises(SelectionError, match=r"fails: RuntimeError: no"):
        scores_by(f"{broken}:score", Candidates(POOL))
    with pytest.raises(SelectionError, match="has no function 'other'"):
        scores_by(own(tmp_path, "return []").replace(":score", ":other"), Candidates(POOL))


def test_without_a_duration_there_is_no_score_per_second() -> None:
    with pytest.raises(SelectionError, match=r"record 1 \('a'\): its duration is 0"):
        scores_by("egl/second", Candidates([{"id": "a", "duration": 0.0, "egl": 1.0}]))
