"""What the page saves: the start of its list in the formats of `select`.

A page cannot write formats itself without a second implementation of each in JavaScript. So it
holds what `labeling.formats` writes, in pieces that belong to one recording each, compressed.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from egl_fast.files.addresses import Place, absolute, joined
from egl_fast.labeling.formats import FORMATS, Format, Record, Sending

_LABELS = {
    "csv": "CSV",
    "jsonl": "JSONL",
    "label-studio": "Label Studio",
    "lhotse": "Lhotse",
    "nemo": "NeMo",
}


@dataclass(frozen=True)
class Saving:
    """How the list can be saved.

    Attributes:
        folder: what relative audio paths start from; None where it is unknown.
        formats: names of ``FORMATS`` that are files.
        sending: how recordings are addressed, but for the folder.
    """

    folder: Place | None
    formats: tuple[str, ...] = ("csv", "jsonl")
    sending: Sending = field(default_factory=Sending)


def saved(records: Sequence[Record], scores: Sequence[float] | None, saving: Saving) -> list[Any]:
    """The list in each format.

    Args:
        records: with ``rank`` from 1, first to label first.
        scores: of these, what they are ranked by; None where that is unknown.
        saving: how.

    Returns:
        For each format ``label`` and ``file``, its name; ``packed``, a JSON list of the pieces, one
        per record and perhaps an end, as zlib and base64; and ``beside``, (name, text) of files
        that belong to it.

    Raises:
        ManifestError: a format has no room for a record; the message names it.
    """
    if saving.folder is not None:
        records = [_with_absolute_path(record, saving.folder) for record in records]
    sending = replace(saving.sending, folder=saving.folder or Path())
    return [_saved(FORMATS[name], records, scores, sending) for name in saving.formats]


def _saved(
    form: Format, records: Sequence[Record], scores: Sequence[float] | None, sending: Sending
) -> dict[str, Any]:
    if form.adds_score and scores is not None:
        records = [{**one, "score": score} for one, score in zip(records, scores, strict=True)]
    assert form.chunks is not None
    pieces = [chunk.decode("utf-8") for chunk in form.chunks(records, sending)]
    packed = zlib.compress(json.dumps(pieces).encode(), 9)
    file = f"picks{form.suffixes[0] if form.suffixes else f'.{form.name}.jsonl'}"
    return {
        "label": _LABELS[form.name],
        "file": file,
        "packed": base64.b64encode(packed).decode(),
        "beside": [
            (file + suffix, content.decode("utf-8"))
            for suffix, content in form.beside(records, sending).items()
        ],
    }


def _with_absolute_path(record: Record, folder: Place) -> Record:
    audio = record.get("audio_filepath")
    if not isinstance(audio, str) or not audio:
        return record
    return {**record, "audio_filepath": absolute(joined(folder, audio))}
