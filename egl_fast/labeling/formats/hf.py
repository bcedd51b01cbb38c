"""A dataset of Hugging Face, as a folder for ``datasets.load_from_disk``, with the audio in it.

A column has one type, so a key whose values are lists, objects, or of several types becomes JSON.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from egl_fast.display import json_text
from egl_fast.errors import ManifestError, one_line
from egl_fast.labeling.formats.format import (
    Delivered,
    Format,
    Record,
    Sending,
    audio_path,
)

_PLAIN = (bool, int, float, str)


def save(records: Sequence[Record], sending: Sending, folder: Path) -> None:
    """Write the dataset. Raises ``ManifestError`` if a key cannot be a column."""
    import datasets
    import pyarrow

    paths = [audio_path(record, sending.folder) for record in records]
    names = dict.fromkeys(key for record in records for key in record)
    columns = {name: _column([record.get(name) for record in records]) for name in names}
    columns["audio"] = [{"bytes": None, "path": path} for path in paths]
    datasets.disable_progress_bars()
    try:
        table = pyarrow.table(columns)
        features = datasets.Features.from_arrow_schema(table.schema)
        # By way of the table: to encode even a path, `datasets` wants torchcodec.
        features["audio"] = datasets.Audio()
        dataset = datasets.Dataset(
            datasets.table.InMemoryTable(table.cast(features.arrow_schema)),
            info=datasets.DatasetInfo(features=features),
            fingerprint="egl-fast",  # of nothing: it would be computed by pickling the table
        )
        dataset.save_to_disk(str(folder))  # which reads the recordings
    except (FileNotFoundError, ValueError, TypeError, OverflowError) as error:
        raise ManifestError(f"--format hf: {one_line(error)}; choose another format") from None


def _column(values: list[Any]) -> list[Any]:
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) <= 1 and kinds.issubset(_PLAIN):
        return values
    if kinds == {int, float}:
        return [None if value is None else float(value) for value in values]
    return [None if value is None else json_text(value) for value in values]


def read(folder: Path) -> Iterator[Delivered]:
    """The rows of a dataset that ``save`` wrote; others need a column ``id``."""
    import datasets

    try:
        dataset = datasets.load_from_disk(str(folder))
    except (OSError, ValueError) as error:
        raise ManifestError(f"{folder}: is not a dataset ({one_line(error)})") from None
    if not isinstance(dataset, datasets.Dataset) or "id" not in dataset.column_names:
        raise ManifestError(f"{folder}: expected one dataset with a column 'id'; name its folder")
    if "audio" in dataset.column_names:
        dataset = dataset.remove_columns("audio")
    for number, row in enumerate(dataset):
        record = {name: value for name, value in row.items() if value is not None}
        yield Delivered(record["id"], record.get("text"), record, f"{folder}, row {number}")


FORMAT = Format(
    name="hf",
    description="a folder with the audio, for datasets.load_from_disk of Hugging Face",
    save=save,
    needs_folder=True,
)
