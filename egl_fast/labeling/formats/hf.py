"""A dataset of Hugging Face, as a folder for ``datasets.load_from_disk``, with the audio in it.

The folder holds an Arrow stream and two small JSON files, so pyarrow is enough to write it. A
column has one type: a key whose values are lists, objects, or of several types becomes JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from egl_fast.data.archives import pyarrow_for
from egl_fast.data.strict_json import json_value
from egl_fast.display import json_text
from egl_fast.errors import ManifestError, one_line
from egl_fast.files.remote import reading
from egl_fast.labeling.formats.format import (
    Delivered,
    Format,
    Record,
    Sending,
    audio_path,
)

#: Recordings whose bytes are in memory together.
_BATCH = 16
#: What a column of Python values is called by Arrow and by `datasets`.
_DTYPES = {bool: "bool", int: "int64", float: "float64", str: "string"}


def save(records: Sequence[Record], sending: Sending, folder: Path) -> None:
    """Write the dataset. Raises ``ManifestError`` if a recording cannot be read."""
    import pyarrow

    names = dict.fromkeys(key for record in records for key in record if key != "audio")
    dtypes = {name: _dtype([record.get(name) for record in records]) for name in names}
    audio = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    schema = pyarrow.schema(
        [(name, pyarrow.type_for_alias(dtype or "string")) for name, dtype in dtypes.items()]
        + [("audio", audio)]
    )
    folder.mkdir()
    rest = iter(records)
    stream = "data-00000-of-00001.arrow"
    with (
        pyarrow.OSFile(str(folder / stream), "wb") as file,
        pyarrow.ipc.new_stream(file, schema) as writer,
    ):
        while batch := list(islice(rest, _BATCH)):
            rows = [
                {name: _cell(record.get(name), dtype) for name, dtype in dtypes.items()}
                | {"audio": _recording(record, sending)}
                for record in batch
            ]
            writer.write_batch(pyarrow.RecordBatch.from_pylist(rows, schema=schema))
    features: dict[str, Any] = {
        name: {"dtype": dtype or "string", "_type": "Value"} for name, dtype in dtypes.items()
    }
    features["audio"] = {"_type": "Audio"}
    info = {"features": features, "description": "", "citation": "", "homepage": "", "license": ""}
    state: dict[str, Any] = {
        "_data_files": [{"filename": stream}],
        "_fingerprint": "egl-fast",
        **dict.fromkeys(("_format_columns", "_format_type", "_split")),
        "_format_kwargs": {},
        "_output_all_columns": False,
    }
    (folder / "dataset_info.json").write_text(json.dumps(info, indent=2), encoding="utf-8")
    (folder / "state.json").write_text(json.dumps(state, indent=2), encoding="utf-8")


def _dtype(values: list[Any]) -> str | None:
    """Of a column; None: texts that are JSON."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        return "float64"
    big = any(isinstance(value, int) and not -(2**63) <= value < 2**63 for value in values)
    return _DTYPES.get(kinds.pop()) if len(kinds) == 1 and not big else None


def _cell(value: Any, dtype: str | None) -> Any:
    if value is None or (isinstance(value, str) and dtype == "string"):
        return value
    if dtype is None:
        return json_text(value)
    return float(value) if dtype == "float64" else value


def _recording(record: Record, sending: Sending) -> dict[str, Any]:
    path = audio_path(record, sending.folder)
    try:
        return {"bytes": reading(path, lambda file: file.read()), "path": path.name}
    except OSError as error:
        raise ManifestError(
            f"record {record['id']!r}: --format hf holds the recordings, and this one cannot be "
            f"read ({one_line(error)}); choose another format"
        ) from None


def read(folder: Path) -> Iterator[Delivered]:
    """The rows of a dataset with a column ``id``, from ``save`` or ``save_to_disk``."""
    pyarrow_for(folder)
    import pyarrow

    try:
        state = json_value((folder / "state.json").read_bytes())
        for name in (file["filename"] for file in state["_data_files"]):
            with pyarrow.OSFile(str(folder / name)) as file:
                for batch in pyarrow.ipc.open_stream(file):
                    kept = [column for column in batch.schema.names if column != "audio"]
                    for row in batch.select(kept).to_pylist():
                        record = {key: value for key, value in row.items() if value is not None}
                        yield Delivered(record["id"], record.get("text"), record, str(folder))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ManifestError(
            f"{folder}: expected what save_to_disk of Hugging Face writes, with a column 'id' "
            f"({type(error).__name__}: {one_line(error)})"
        ) from None


FORMAT = Format(
    name="hf",
    description="a folder with the audio, for datasets.load_from_disk of Hugging Face",
    save=save,
    needs_folder=True,
)
