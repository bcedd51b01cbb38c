"""JSON Lines: a manifest, as every other command reads it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from egl_fast.data.identity import identity_of
from egl_fast.data.jsonl import encoded_line
from egl_fast.errors import ManifestError
from egl_fast.labeling.formats.format import Delivered, Format, Record, Sending


def chunks(records: Sequence[Record], sending: Sending) -> Iterator[bytes]:
    """One line per record."""
    return map(encoded_line, records)


def delivered(record: Record, where: str) -> Delivered:
    """A line of a manifest."""
    text = record.get("text")
    if text is not None and not isinstance(text, str):
        raise ManifestError(f"{where}: 'text' is {text!r}, not a string")
    return Delivered(identity_of(record, where), text, record, where)


FORMAT = Format(
    name="jsonl",
    description="the lines of the scores file, with a rank: a manifest",
    suffixes=(".jsonl",),
    chunks=chunks,
    adds_score=False,
)
