"""Scores as Parquet: the records of JSON Lines, in the same order, whatever they hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from egl_fast.cli.selection_options import ids_in
from egl_fast.data.parquet_records import is_written_here, record_lines, to_json_lines, to_parquet
from egl_fast.errors import ManifestError, MissingExtraError, SelectionError

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def converted(path: Path, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records as they are read again from the Parquet file that they are written to."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    to_parquet(path, len(records))
    with path.open("rb") as file:
        return [json.loads(line) for line in record_lines(file, "scores x")]


@pytest.mark.parametrize(
    "values",
    [
        [0.1, -0.0, 5e-324, 1.7976931348623157e308],
        [1, -7, 2**53],
        [2**53 + 1, 2**70, 0.5],
        [True, False, None],
        [True, 1],
        [1, 0.5, None],
        ["a", "\u2028 é\n\0", "", None],
        ["\ud800", "a", None],
        [["\ud800", None], "a"],
        [{"b": [1, {"a": None}], "a": 2.5}, []],
        [{}, None],
        [7, "7"],
        [None, None],
    ],
    ids=repr,
)
def test_values_come_back_as_they_were(tmp_path: Path, values: list[Any]) -> None:
    # Always there; missing at times; both missing and null.
    records = [{"id": str(n), "x": value} for n, value in enumerate(values)]
    for given in (records, [{"id": "-"}, *records], [*records, {"x": None}, {"id": "+"}]):
        found = converted(tmp_path / "x", given)
        assert found == given
        assert [list(record) for record in found] == [list(record) for record in given]
        if values != [1, 0.5, None]:  # floats, all of them
            assert json.dumps(found) == json.dumps(given)


def test_any_key_and_no_record_at_all(tmp_path: Path) -> None:
    given = [{"": 1, "\ud800": 2, "\\ud800": 3, "a.b": 4}]
    assert converted(tmp_path / "x", given) == given
    assert converted(tmp_path / "x", []) == []


def test_batches_of_rows_are_one_table_with_plain_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("egl_fast.data.parquet_records._ROWS", 2)
    given = [{"id": f"é{n}", "egl": n / 7, "tags": [n], "who": None} for n in range(5)]
    assert converted(tmp_path / "x", given) == given
    table = parquet.read_table(tmp_path / "x")
    assert [str(t) for t in table.schema.types] == ["string", "double", "string", "double"]
    assert table["egl"].to_pylist() == [record["egl"] for record in given]
    content = (tmp_path / "x").read_bytes()
    to_parquet(tmp_path / "x", 5)  # again, after a crash
    assert (tmp_path / "x").read_bytes() == content
    to_json_lines(tmp_path / "x", tmp_path / "y")
    to_parquet(tmp_path / "y", 5)
    assert (tmp_path / "y").read_bytes() == content


def test_tables_of_others_are_read_too_and_faults_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.parquet"
    parquet.write_table(pyarrow.table({"id": ["a", "b"], "egl": [None, float("nan")]}), path)
    assert not is_written_here(path)
    with path.open("rb") as file:
        lines = record_lines(file, "scores x")
        assert json.loads(next(lines)) == {"id": "a", "egl": None}
        with pytest.raises(ManifestError, match=r"^scores x, row 2: Out of range"):
            next(lines)
    path.write_bytes(path.read_bytes()[:-9])
    with path.open("rb") as file, pytest.raises(ManifestError, match=r"copy it again$"):
        list(record_lines(file, "scores x"))
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with path.open("rb") as file, pytest.raises(MissingExtraError, match="needs pyarrow: pip"):
        list(record_lines(file, "scores x"))


def test_recordings_of_scores_can_be_excluded(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    parquet.write_table(pyarrow.table({"id": ["a", "b"], "egl": [None, 1.0]}), path)
    assert list(ids_in(str(path))) == ["a", "b"]
    parquet.write_table(pyarrow.table({"egl": [None, 1.0]}), path)
    with pytest.raises(SelectionError, match=r"scores\.parquet: is not a scores file"):
        list(ids_in(str(path)))
