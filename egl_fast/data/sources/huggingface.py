"""Hugging Face datasets: Parquet files, and what ``save_to_disk`` writes, with audio inside."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from egl_fast.data.archives import MEMBER, arrow_table, pyarrow_for
from egl_fast.data.sources.columns import audio_column, entry_of
from egl_fast.data.sources.source import Entry, Kind, Source, without_suffix
from egl_fast.errors import ManifestError

if TYPE_CHECKING:
    import pyarrow

#: Rows that are looked at together; those of audio are not read.
_ROWS = 1000


def _is_parquet(source: Source) -> bool:
    return source.head.startswith(b"PAR1")


def _parquet(source: Source) -> Iterator[Entry]:
    return _of_parquet(source.path, source.folder)


def _parquet_files(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.parquet"), *folder.glob("data/*.parquet")])


def _parquet_folder(source: Source) -> Iterator[Entry]:
    for path in _parquet_files(source.path):
        yield from _of_parquet(path, source.path)


def _of_parquet(path: Path, folder: Path) -> Iterator[Entry]:
    pyarrow_for(path)
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            audio = _audio_of(file.schema_arrow, path)
            # Of the audio, only where it is: bytes of a million recordings do not fit in memory.
            names = [name for name in file.schema_arrow.names if name != audio.name]
            inside = f"{audio.name}.path" if audio.is_struct else audio.name
            columns = [*names, *([] if audio.is_binary else [inside])]
            row = 0
            for batch in file.iter_batches(_ROWS, columns=columns):
                for values in batch.to_pylist():
                    yield _entry(values, audio, path, folder, row)
                    row += 1
    except (pyarrow.ArrowException, OSError) as error:
        raise ManifestError(f"{path}: cannot be read as Parquet ({error}); copy it again") from None


def _saved_files(folder: Path) -> list[tuple[str | None, Path]]:
    """The files of a saved dataset in order, each with its split, if there are splits."""
    splits = folder / "dataset_dict.json"
    found = []
    for split in json.loads(splits.read_bytes())["splits"] if splits.is_file() else [None]:
        place = folder / (split or "")
        state = json.loads((place / "state.json").read_bytes())
        found += [(split, place / one["filename"]) for one in state["_data_files"]]
    return found


def _saved(source: Source) -> Iterator[Entry]:
    try:
        files = _saved_files(source.path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ManifestError(
            f"{source.name}: is not a complete dataset ({type(error).__name__}: {error}); save it "
            "again: dataset.save_to_disk(FOLDER)"
        ) from None
    for split, path in files:
        pyarrow_for(path)
        table = arrow_table(path)
        audio = _audio_of(table.schema, path)
        others = table.drop_columns([audio.name])
        row = 0
        for batch in others.to_batches(_ROWS):
            for values in batch.to_pylist():
                if audio.is_struct:
                    values[audio.name] = {"path": table[audio.name][row]["path"].as_py()}
                added = {} if split is None else {"split": split}
                yield _entry({**added, **values}, audio, path, source.path, row)
                row += 1


class _Audio:
    """The column of a table that holds recordings, or their paths."""

    def __init__(self, field: pyarrow.Field) -> None:
        import pyarrow.types as types

        self.name: str = field.name
        self.is_struct = types.is_struct(field.type)
        self.is_binary = _is_binary(field)


def _is_binary(field: pyarrow.Field) -> bool:
    import pyarrow.types as types

    return bool(types.is_binary(field.type) or types.is_large_binary(field.type))


def _holds_sound(field: pyarrow.Field) -> bool:
    import pyarrow.types as types

    if not types.is_struct(field.type):
        return _is_binary(field)
    names = {field.type.field(i).name for i in range(field.type.num_fields)}
    return {"bytes", "path"} <= names


def _audio_of(schema: pyarrow.Schema, path: Path) -> _Audio:
    found = [field for field in schema if _holds_sound(field)]
    found = [field for field in found if field.name == "audio"] or found
    if not found:
        paths = audio_column(schema.names)
        found = [] if paths is None else [schema.field(paths)]
    if len(found) != 1:
        names = ", ".join(field.name for field in found or schema)
        what = "several columns of audio" if found else "no column of audio among"
        raise ManifestError(
            f"{path}: has {what} ({names}); name the one to read 'audio': "
            "dataset.rename_column(NAME, 'audio')"
        )
    return _Audio(found[0])


def _entry(values: dict[str, Any], audio: _Audio, path: Path, folder: Path, row: int) -> Entry:
    where = f"{path}, row {row}"
    own = values.pop(audio.name, None)
    name = own.get("path") if isinstance(own, dict) else own
    plain = {key: _plain(value) for key, value in values.items() if not isinstance(value, bytes)}
    place = str(path.relative_to(folder))
    if audio.is_struct or audio.is_binary:
        # Paths of recordings that are inside need not be unique, or any.
        named = {} if name is None else {"audio_name": name}
        described = {**named, **plain, "audio_filepath": f"{place}{MEMBER}{audio.name}/{row}"}
        if not any(key in plain for key in ("id", "ID")):
            described["id"] = f"{without_suffix(place)}/{row}"
        return entry_of(described, folder, where)
    return entry_of({**plain, "audio_filepath": name}, folder, where)


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
    lambda source: source.is_folder and bool(_parquet_files(source.path)),
    _parquet_folder,
)
SAVED = Kind(
    "a dataset that save_to_disk wrote",
    lambda source: source.has("state.json", "dataset_info.json") or source.has("dataset_dict.json"),
    _saved,
)
