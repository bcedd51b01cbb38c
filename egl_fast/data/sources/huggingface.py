"""Hugging Face datasets: Parquet files, and what ``save_to_disk`` writes, with audio inside."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from egl_fast.data.archives import MEMBER, arrow_table, pyarrow_for
from egl_fast.data.json_reading import from_start, open_file
from egl_fast.data.sources.columns import audio_column, entry_of
from egl_fast.data.sources.source import Entry, Kind, Source, without_suffix
from egl_fast.data.strict_json import json_value
from egl_fast.errors import ManifestError, one_line
from egl_fast.files.addresses import Address, Place

if TYPE_CHECKING:
    import pyarrow

#: Rows that are looked at together; those of audio are not read.
_ROWS = 1000


def _is_parquet(source: Source) -> bool:
    return source.head.startswith(b"PAR1")


def _parquet(source: Source) -> Iterator[Entry]:
    assert source.file is not None
    return _of_parquet(source.path, source.folder, source.file)


def _parquet_files(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.parquet"), *folder.glob("data/*.parquet")])


def _parquet_folder(source: Source) -> Iterator[Entry]:
    for path in _parquet_files(Path(source.path)):
        with open_file(path, str(path)) as file:
            yield from _of_parquet(path, source.path, file)


def _of_parquet(path: Place, folder: Place, file_of_rows: BinaryIO) -> Iterator[Entry]:
    pyarrow_for(str(path))
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(from_start(file_of_rows)) as file:
            audio = _audio_of(file.schema_arrow, path)
            # Of the audio, only its name: the bytes of a million recordings do not fit in memory.
            columns = [name for name in file.schema_arrow.names if name != audio.name]
            if not audio.is_binary:
                columns.append(f"{audio.name}.path" if audio.is_struct else audio.name)
            row = 0
            stem = without_suffix(_from(folder, path))
            for group in range(file.num_row_groups):
                is_inside = not audio.is_path and _holds_bytes(
                    file.metadata.row_group(group), audio.name
                )
                for batch in file.iter_batches(_ROWS, row_groups=[group], columns=columns):
                    for values in batch.to_pylist():
                        cell = _Cell(path, row, audio.name, is_inside)
                        yield _entry(values, cell, folder, f"{stem}/{row}")
                        row += 1
    except (pyarrow.ArrowException, OSError) as error:
        raise ManifestError(
            f"{path}: cannot be read as Parquet ({one_line(error)}); copy it again"
        ) from None


def _from(folder: Place, path: Place) -> str:
    """A file of a folder, as a path that starts there."""
    return path.name if isinstance(path, Address) else os.path.relpath(path, folder)


def _holds_bytes(group: pyarrow.parquet.RowGroupMetaData, audio: str) -> bool:
    """Whether a group of rows holds its recordings, or only their paths."""
    for number in range(group.num_columns):
        column = group.column(number)
        if column.path_in_schema in (audio, f"{audio}.bytes"):
            facts = column.statistics
            return facts is None or bool(facts.null_count < group.num_rows)
    return False


def _saved_files(folder: Path) -> list[tuple[str | None, Path]]:
    """The files of a saved dataset in order, each with its split, if there are splits."""
    splits = folder / "dataset_dict.json"
    found = []
    for split in json_value(splits.read_bytes())["splits"] if splits.is_file() else [None]:
        place = folder / (split or "")
        state = json_value((place / "state.json").read_bytes())
        found += [(split, place / one["filename"]) for one in state["_data_files"]]
    return found


def _saved(source: Source) -> Iterator[Entry]:
    try:
        files = _saved_files(Path(source.path))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ManifestError(
            f"{source.name}: is not a complete dataset ({type(error).__name__}: {error}); save it "
            "again: dataset.save_to_disk(FOLDER)"
        ) from None
    counts: Counter[str | None] = Counter()
    for split, path in files:
        table = _table(path)
        audio = _audio_of(table.schema, path)
        cells = table[audio.name]
        row = 0
        for batch in table.drop_columns([audio.name]).to_batches(_ROWS):
            for values in batch.to_pylist():
                own = cells[row]
                is_inside = own["bytes"].is_valid if audio.is_struct else audio.is_binary
                if not audio.is_binary:
                    name = own["path"] if audio.is_struct else own
                    values[audio.name] = name.as_py()
                if split is not None:
                    values = {"split": split, **values}
                # Without the file's name: how many there are is up to whoever saves it.
                identity = f"{split or Path(source.path).resolve().name}/{counts[split]}"
                cell = _Cell(path, row, audio.name, is_inside)
                yield _entry(values, cell, source.path, identity)
                row += 1
                counts[split] += 1


def _table(path: Path) -> pyarrow.Table:
    pyarrow_for(path)
    import pyarrow

    try:
        return arrow_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise ManifestError(
            f"{path}: cannot be read as an Arrow file ({one_line(error)}); copy it again"
        ) from None


class _Cell(NamedTuple):
    """A recording of a table, or its path."""

    path: Place
    row: int
    column: str
    is_inside: bool


class _Audio:
    """The column of a table that holds recordings, or their paths."""

    def __init__(self, field: pyarrow.Field) -> None:
        self.name: str = field.name
        self.is_struct, self.is_binary = _is_struct(field), _is_binary(field)
        self.is_path = not (self.is_struct or self.is_binary)


def _is_struct(field: pyarrow.Field) -> bool:
    """Whether it is what Hugging Face makes of audio (and of images)."""
    import pyarrow.types as types

    if not types.is_struct(field.type):
        return False
    return {"bytes", "path"} <= {
        field.type.field(number).name for number in range(field.type.num_fields)
    }


def _is_binary(field: pyarrow.Field) -> bool:
    import pyarrow.types as types

    return bool(types.is_binary(field.type) or types.is_large_binary(field.type))


def _audio_of(schema: pyarrow.Schema, path: Place) -> _Audio:
    paths = audio_column(schema.names)
    found = (
        [field for field in schema if field.name == "audio"]
        or [field for field in schema if _is_struct(field)]
        or [field for field in schema if field.name == paths]
        or [field for field in schema if _is_binary(field)]
    )
    if len(found) != 1:
        names = ", ".join(field.name for field in found or schema)
        what = "several columns of audio" if found else "no column of audio among"
        raise ManifestError(
            f"{path}: has {what} ({names}); name the one to read 'audio': "
            "dataset.rename_column(NAME, 'audio')"
        )
    return _Audio(found[0])


def _entry(values: dict[str, Any], cell: _Cell, folder: Place, identity: str) -> Entry:
    where = f"{cell.path}, row {cell.row}"
    own = values.pop(cell.column, None)
    name = own.get("path") if isinstance(own, dict) else own
    plain = {key: _plain(value) for key, value in values.items() if not isinstance(value, bytes)}
    if not cell.is_inside:
        return entry_of({**plain, "audio_filepath": name}, folder, where)
    # Names of recordings that are inside need not be unique.
    if not any(key in plain for key in ("id", "ID")):
        plain["id"] = identity
    if name is not None:
        plain["audio_name"] = name
    place = f"{_from(folder, cell.path)}{MEMBER}{cell.column}/{cell.row}"
    return entry_of({**plain, "audio_filepath": place}, folder, where)


def _plain(value: Any) -> Any:
    """A value as JSON can hold it: dates and the like as text, and no NaN."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(inside) for key, inside in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inside) for inside in value]
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)


PARQUET = Kind("a Parquet file", _is_parquet, _parquet)
PARQUET_FOLDER = Kind(
    "a folder of Parquet files",
    lambda source: source.is_folder and bool(_parquet_files(Path(source.path))),
    _parquet_folder,
)
SAVED = Kind(
    "a dataset that save_to_disk wrote",
    lambda source: source.has("state.json", "dataset_info.json") or source.has("dataset_dict.json"),
    _saved,
)
