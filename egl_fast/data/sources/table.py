"""Tables with a header: CSV and TSV of SpeechBrain, Hugging Face and others, Common Voice's."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from egl_fast.data.json_reading import json_object
from egl_fast.data.sources.columns import audio_column, entry_of
from egl_fast.data.sources.source import Entry, Kind, Source
from egl_fast.errors import ManifestError, one_line

_SEPARATORS = ("\t", ",", ";", "|")

#: What a header is made of, but neither prose nor paths.
_COLUMN_NAME = re.compile(r"[A-Za-z_]\w*(?: \w+)*")

#: What a table without quotes has a backslash before.
_ESCAPED = re.compile(r'\\(["\\])')

#: What the Hugging Face "audiofolder" reads beside recordings.
_METADATA = ("metadata.csv", "metadata.jsonl")


def _header(source: Source) -> tuple[list[str], str]:
    line = source.first_line
    separator = max(_SEPARATORS, key=line.count)
    try:
        names = next(csv.reader([line], delimiter=separator), [])
    except csv.Error:
        names = []
    return [name.strip() for name in names], separator


def _is_table(source: Source) -> bool:
    names, _ = _header(source)
    # A header whose columns have other names is told so, not that it is no JSON.
    return audio_column(names) is not None or (
        len(names) > 1 and all(map(_COLUMN_NAME.fullmatch, names))
    )


def _refuse_columns(source: Source) -> None:
    names, _ = _header(source)
    if audio_column(names) is None:
        raise ManifestError(
            f"{source.name}, line 1: a table needs a column with the recordings' paths, called "
            f"audio_filepath or path, among others; it has {', '.join(names)}"
        )
    if len(set(names)) < len(names):
        raise ManifestError(f"{source.name}, line 1: two columns have the same name; rename one")


def _rows(source: Source, *, quoted: bool = True) -> Iterator[tuple[dict[str, Any], str]]:
    names, separator = _header(source)
    where = source.name
    lines = source.lines()

    def texts() -> Iterator[str]:
        nonlocal where
        for line in lines:
            where = line.where
            yield f"{line.text}\n"

    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    rows = csv.reader(texts(), delimiter=separator, quoting=quoting, strict=quoted)
    try:
        next(rows)
        for row in rows:
            if len(row) != len(names):
                raise ManifestError(
                    f"{where}: has {len(row)} columns, the header {len(names)}; quote what "
                    f"contains {separator!r}"
                )
            yield dict(zip(names, row, strict=True)), where
    except csv.Error as error:
        raise ManifestError(f"{where}: cannot be read as a table ({one_line(error)})") from None


def _entries(source: Source) -> Iterator[Entry]:
    _refuse_columns(source)
    for row, where in _rows(source):
        _refuse_samples(row, where)
        yield entry_of(row, source.folder, where)


def _refuse_samples(row: Mapping[str, str], where: str) -> None:
    """SpeechBrain's ``start`` and ``stop`` count samples, at a rate that the table does not say."""
    if {"ID", "wav", "start"} <= row.keys() and row["start"].strip() not in ("", "0"):
        raise ManifestError(
            f"{where}: 'start' counts samples; replace 'start' and 'stop' with 'offset' and "
            "'duration' in seconds"
        )


def _is_common_voice(source: Source) -> bool:
    names, separator = _header(source)
    return separator == "\t" and {"client_id", "path", "sentence"} <= set(names)


def _common_voice(source: Source) -> Iterator[Entry]:
    # Quotation marks in its sentences are only characters. Releases up to 2025 may have a
    # backslash before them, and before backslashes.
    for escaped, where in _rows(source, quoted=False):
        row = {key: _ESCAPED.sub(r"\1", value) for key, value in escaped.items()}
        name = row["path"]
        row = {key: value for key, value in row.items() if value != "" or key == "sentence"}
        if name and "/" not in name:
            row["path"] = f"clips/{name}"
            row["id"] = name.rpartition(".")[0] or name
        yield entry_of(row, source.folder, where)


def _is_metadata(source: Source) -> bool:
    return "file_name" in source.first_object


def _metadata(source: Source) -> Iterator[Entry]:
    for line, where in source.lines():
        yield entry_of(json_object(line, where), source.folder, where)


def _is_described_folder(source: Source) -> bool:
    return any(source.has(name) for name in _METADATA)


def _described_folder(source: Source) -> Iterator[Entry]:
    name = next(name for name in _METADATA if source.has(name))
    with Source(source.path / name) as beside:
        yield from (_metadata if name.endswith(".jsonl") else _entries)(beside)


TABLE = Kind("a CSV or TSV table with a column of paths", _is_table, _entries)
COMMON_VOICE = Kind("a Common Voice table", _is_common_voice, _common_voice)
METADATA = Kind("a metadata.jsonl", _is_metadata, _metadata)
DESCRIBED_FOLDER = Kind("a folder with its metadata", _is_described_folder, _described_folder)
