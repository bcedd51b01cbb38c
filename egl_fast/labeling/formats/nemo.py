"""NeMo manifests: JSON Lines that always have a ``text``, without which some loaders fail."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from egl_fast.data.jsonl import encoded_line
from egl_fast.labeling.formats.format import Format, Record, Sending


def chunks(records: Sequence[Record], sending: Sending) -> Iterator[bytes]:
    """One line per record."""
    for record in records:
        yield encoded_line({**record, "text": record.get("text") or ""})


FORMAT = Format(
    name="nemo",
    also=(".json", ".jsonl"),
    description="a manifest for NVIDIA NeMo: the same with score, and an empty text where none is",
    chunks=chunks,
)
