"""Utterances from what Python callers have instead of a manifest file: rows of any kind.

A row is a mapping with a manifest's keys. In place of ``audio_filepath`` it may have ``audio``, as
data sets of Hugging Face do: the recording itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeAlias

from egl_fast.data.manifest import Utterance, utterance_of
from egl_fast.data.streamed_manifest import stream_manifest
from egl_fast.dataframes import Table, is_table, rows_of
from egl_fast.errors import ManifestError

#: The path of a manifest, a DataFrame of pandas or polars, or rows one by one.
Pool: TypeAlias = str | Path | Table | Iterable[Mapping[str, Any]]


def utterances_in(pool: Pool) -> Iterable[Utterance]:
    """The utterances of a manifest file or of rows; those of rows as they are asked for.

    Args:
        pool: a path; or rows with ``audio_filepath`` (relative paths start from the current folder)
            or ``audio``: a path, or a recording in memory in any form that ``mono_waveform`` takes,
            or, as in data sets that are not decoded, ``{"bytes": ..., "path": ...}``. The ``id`` of
            a row without one is its path, or else its number from 0. In a DataFrame, missing values
            count as missing keys.

    Raises:
        ManifestError: see ``read_manifest``, and likewise for a row, then when it is reached.
    """
    if isinstance(pool, (str, PathLike)):
        return stream_manifest(pool)
    if isinstance(pool, Mapping):
        raise ManifestError("pool: expected rows, got one mapping; put it in a list")
    rows: Iterable[Any] = rows_of(pool) if is_table(pool) else iter(pool)  # type: ignore[arg-type]
    return _utterances(rows)


def known_length(pool: Pool) -> int | None:
    """How many utterances there are; None if that is seen only at the end."""
    return len(pool) if isinstance(pool, Sized) and not isinstance(pool, str) else None


def _utterances(rows: Iterable[Any]) -> Iterator[Utterance]:
    first_row: dict[str, int] = {}
    for number, row in enumerate(rows):
        where = f"row {number}"
        utterance = _utterance(row, number, where)
        if utterance.id in first_row:
            raise ManifestError(
                f"{where}: id {utterance.id!r} is already that of row {first_row[utterance.id]}; "
                "give each row its own id"
            )
        first_row[utterance.id] = number
        yield utterance


def _utterance(row: Any, number: int, where: str) -> Utterance:
    if not isinstance(row, Mapping):
        raise ManifestError(
            f"{where}: expected a mapping with 'audio_filepath' or 'audio', got a "
            f"{type(row).__name__}"
        )
    record = dict(row)
    if record.get("audio_filepath") is not None or record.get("audio") is None:
        return utterance_of(record, number, Path(), where)
    audio = record.pop("audio")
    path = audio if isinstance(audio, (str, PathLike)) else None
    if isinstance(audio, Mapping):
        path = audio.get("path")
        if audio.get("array") is None:
            audio = audio.get("bytes")
    if path:
        record["audio_filepath"] = fspath(path)
    elif record.get("id") is None:
        record["id"] = str(number)
    held = None if audio is path or audio is None else audio
    if held is None:
        return utterance_of(record, number, Path(), where)
    named = {"audio_filepath": f"{where} in memory", **record}
    return replace(utterance_of(named, number, Path(), where), record=record, held=held)
