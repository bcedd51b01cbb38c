"""The writer of results: strict JSON, no unasked overwriting, and nothing half written."""

from __future__ import annotations

import errno
import io
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from egl_fast.data.jsonl import JsonlWriter
from egl_fast.errors import OutputError
from egl_fast.scoring.run.resumable_scores import ResumableScores

RECORD = {"id": "a", "text": "grün \u2028 日本", "score": 0.1, "none": None, "list": [1, True]}


def write_one_and(then: Callable[[], object], path: Path, record: dict[str, Any]) -> None:
    """Write a record and do something else before leaving the writer."""
    with JsonlWriter(path) as writer:
        writer.write(record)
        then()


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with JsonlWriter(path) as writer:
        writer.write(RECORD)
        writer.write({})
    first, second, rest = path.read_text(encoding="utf-8").split("\n")
    assert json.loads(first) == RECORD
    assert "grün" in first
    assert (second, rest) == ("{}", "")
    assert writer.num_records == 2


def test_half_a_surrogate_pair_is_escaped(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with JsonlWriter(path) as writer:
        writer.write({"text": "\ud800"})
    assert json.loads(path.read_text(encoding="utf-8")) == {"text": "\ud800"}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_lacks_are_refused(tmp_path: Path, value: float) -> None:
    with JsonlWriter(tmp_path / "out.jsonl") as writer:
        writer.write({"x": 1})
        with pytest.raises(ValueError, match="not JSON compliant"):
            writer.write({"x": value})
    assert (tmp_path / "out.jsonl").read_text() == '{"x": 1}\n'


def test_the_file_has_its_name_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with JsonlWriter(path) as writer:
        writer.write(RECORD)
        writer.flush()
        assert not path.exists()
        assert writer.partial_path == tmp_path / "out.jsonl.partial"
        assert json.loads(writer.partial_path.read_text(encoding="utf-8")) == RECORD
    assert [p.name for p in tmp_path.iterdir()] == ["out.jsonl"]


@pytest.mark.parametrize("interruption", [RuntimeError, KeyboardInterrupt])
def test_an_interruption_keeps_what_was_finished(
    tmp_path: Path, interruption: type[BaseException]
) -> None:
    def interrupt() -> None:
        raise interruption

    with pytest.raises(interruption):
        write_one_and(interrupt, tmp_path / "out.jsonl", RECORD)
    assert [p.name for p in tmp_path.iterdir()] == ["out.jsonl.partial"]
    assert json.loads((tmp_path / "out.jsonl.partial").read_text(encoding="utf-8")) == RECORD


def test_an_interruption_before_the_first_record_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), JsonlWriter(tmp_path / "out.jsonl"):
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_making_a_writer_creates_nothing(tmp_path: Path) -> None:
    JsonlWriter(tmp_path / "out.jsonl")
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("precious")
    with pytest.raises(OutputError, match=r"already exists; give --overwrite"):
        JsonlWriter(path)
    assert path.read_text() == "precious"
    with JsonlWriter(path, overwrite=True) as writer:
        writer.write({"x": 1})
        assert path.read_text() == "precious"
    assert path.read_text() == '{"x": 1}\n'


def test_a_file_created_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with pytest.raises(OutputError, match="already exists"):
        write_one_and(lambda: path.write_text("precious"), path, {"x": 1})
    assert path.read_text() == "precious"
    assert (tmp_path / "out.jsonl.partial").read_text() == '{"x": 1}\n'


def test_an_impossible_place_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"its folder .*none does not exist"):
        JsonlWriter(tmp_path / "none" / "out.jsonl")
    with pytest.raises(OutputError, match="is a folder"):
        JsonlWriter(tmp_path, overwrite=True)


@pytest.mark.parametrize("target", [None, "-"])
def test_without_a_file_records_go_to_standard_output(
    target: str | None, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    print("before")
    with JsonlWriter(target) as writer:
        writer.write({"text": "ü"})
    assert writer.partial_path is None
    assert capsysbinary.readouterr().out == b'before\n{"text": "\xc3\xbc"}\n'


def test_what_was_printed_before_comes_out_before(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(screen, write_through=False))
    print("before")
    with JsonlWriter(None) as writer:
        writer.write({"x": 1})
    assert screen.getvalue() == b'before\n{"x": 1}\n'


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    path = tmp_path / "out.jsonl"
    with pytest.raises(OutputError, match=r"cannot be written .*No space left"):
        write_one_and(lambda: None, path, RECORD)
    assert not path.exists()


@pytest.mark.parametrize(
    "name",
    [
        *("x.csv", "x.tsv", "x.json", "x.parquet", "x.jsonl.gz", "x.xlsx", "x.TXT", "x.srt"),
        *("x.pt", "x.wav", "x.html", "x.yaml", "x.sqlite"),
    ],
)
@pytest.mark.parametrize("make", [JsonlWriter, ResumableScores])
def test_names_of_other_formats_are_refused(
    tmp_path: Path, name: str, make: Callable[..., object]
) -> None:
    if make is ResumableScores and name == "x.parquet":
        pytest.skip("scores may be Parquet")
    with pytest.raises(OutputError, match=r"is named like .*; name it x\.jsonl$"):
        make(str(tmp_path / name), overwrite=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["x.jsonl", "x", "x.ndjson", "x.v2", "x.tmp", ".hidden"])
@pytest.mark.parametrize("make", [JsonlWriter, ResumableScores])
def test_names_without_another_format_are_taken(
    tmp_path: Path, name: str, make: Callable[..., object]
) -> None:
    make(str(tmp_path / name))
    assert not list(tmp_path.iterdir()), "nothing is created before the first record"


def test_a_list_of_failures_is_there_only_if_there_are_any(tmp_path: Path) -> None:
    path = tmp_path / "x.errors.jsonl"
    with JsonlWriter(path, only_if_any=True):
        pass
    assert not list(tmp_path.iterdir())
    with JsonlWriter(path, only_if_any=True) as writer:
        writer.write({"id": "a"})
    assert path.read_text() == '{"id": "a"}\n'
    with pytest.raises(RuntimeError), JsonlWriter(path, overwrite=True, only_if_any=True):
        raise RuntimeError
    assert path.exists(), "a run that failed takes nothing away"
    with JsonlWriter(path, overwrite=True, only_if_any=True):
        pass
    assert not list(tmp_path.iterdir())
