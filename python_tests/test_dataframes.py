"""``to_dataframe``: a row for each record, in either library, and back into ``select``."""

from __future__ import annotations

import builtins
import importlib.util
from typing import Any

import pytest

import egl_fast
from egl_fast.dataframes import rows_of
from egl_fast.errors import MissingExtraError
from egl_fast.records import Hypothesis, ScoreRecord, to_json

MANIFESTS: list[dict[str, Any]] = [
    {"speaker": "a", "take": 1, "mixed": 1, "tags": ["x"], "lone": "\ud800"},
    {"speaker": "b", "take": 2**60, "mixed": "one", "tags": ["y", "z"]},
    {"speaker": None, "take": 3, "mixed": {"a": 0.5}},
]


def records() -> list[ScoreRecord]:
    hypotheses = (Hypothesis("hi", (8, 9), -0.5, 2.0), Hypothesis("", (), -2.0, 9.0, 0.5))
    return [
        ScoreRecord(
            f"u{n}", 0.5 + n, 25, "hi", 2, 0.5, 3.0 * n, 0.0, 6.0, None, None, None, 0.1, 0.02, 0.7,
            hypotheses=hypotheses if n else (), manifest=manifest,
        )
        for n, manifest in enumerate(MANIFESTS)
    ]  # fmt: skip


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_row_for_each_record(library: Any) -> None:
    pytest.importorskip(library)
    frame: Any = egl_fast.to_dataframe(records(), library=library)
    assert type(frame).__module__.startswith(library)
    lines = [to_json(record) for record in records()]
    assert list(frame.columns) == list(dict.fromkeys(key for line in lines for key in line))
    rows = list(rows_of(frame))
    for row, line in zip(rows, lines, strict=True):
        for key in ("speaker", "take", "egl", "pred_text", "egl_full"):
            assert row.get(key) == line.get(key)
    assert [h["labels"] for h in rows[1]["hypotheses"]] == [[8, 9], []]
    assert rows[0]["lone"] == "\\ud800"
    of_lines: Any = egl_fast.to_dataframe(iter(lines), library=library)
    assert of_lines.equals(frame)
    assert egl_fast.select(rows, budget=1, strategy="egl") == [2]


def test_values_of_several_kinds_are_text_in_polars() -> None:
    polars = pytest.importorskip("polars")
    frame = egl_fast.to_dataframe(records(), library="polars")
    assert frame["mixed"].to_list() == ["1", "one", '{"a": 0.5}']
    assert frame["tags"].to_list() == ['["x"]', '["y", "z"]', None]
    assert frame["lone"].to_list() == ["\\ud800", None, None]
    assert frame["egl_full"].dtype == polars.Float64


def test_the_library_is_the_one_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    there: set[str] = set()
    hidden = {"pandas", "polars"}
    monkeypatch.setattr(
        "egl_fast.dataframes.find_spec",
        lambda name: found(name) if name not in hidden or name in there else None,
    )
    with pytest.raises(MissingExtraError, match=r"pandas or polars.*egl-fast\[notebook\]"):
        egl_fast.to_dataframe(records())
    for library in ("polars", "pandas"):  # pandas, where both are
        pytest.importorskip(library)
        there.add(library)
        assert type(egl_fast.to_dataframe(records())).__module__.startswith(library)
    with pytest.raises(ValueError, match="library: expected one of pandas, polars, got 'dask'"):
        egl_fast.to_dataframe(records(), library="dask")  # type: ignore[call-overload]


def test_neither_library_is_imported_without_need(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = builtins.__import__

    def watched(name: str, *rest: Any, **more: Any) -> Any:
        assert name not in ("pandas", "polars")
        return plain(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", watched)
    assert egl_fast.select(records(), budget=1, strategy="egl") == [2]
