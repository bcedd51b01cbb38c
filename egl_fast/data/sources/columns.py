"""What tables of recordings call their columns, and what a manifest calls them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

from egl_fast.data.sources.source import Entry, located, without_suffix
from egl_fast.errors import ManifestError
from egl_fast.files.addresses import Place

#: Our key -> names of the column that holds it; the first that a table has counts.
_NAMES: Final = {
    "audio_filepath": (
        "audio_filepath", "file_name", "wav", "path", "audio", "audio_path", "filepath", "file",
        "filename",
    ),
    "id": ("id", "ID", "utt_id", "utterance_id"),
    "text": (
        "text", "transcription", "transcript", "sentence", "normalized_text", "wrd", "words",
    ),
    "speaker": ("speaker", "spk_id", "speaker_id", "client_id"),
    "duration": ("duration",),
    "offset": ("offset",),
}  # fmt: skip
_SECONDS = ("duration", "offset")

#: SpeechBrain replaces $data_root and the like when it reads a table.
_PLACEHOLDER = "$"


def audio_column(names: Iterable[str]) -> str | None:
    """The column that holds paths of recordings; None if no name says so."""
    there = set(names)
    return next((name for name in _NAMES["audio_filepath"] if name in there), None)


def entry_of(row: Mapping[str, Any], folder: Place, where: str) -> Entry:
    """A row of a table as an utterance: its columns under our names, then all others.

    An empty cell is a missing one, except for texts. Raises ``ManifestError`` if there is no path,
    or a duration or offset is not a number.
    """
    record: dict[str, Any] = {}
    used = set()
    for key, names in _NAMES.items():
        name = next((name for name in names if name in row), None)
        if name is None:
            continue
        used.add(name)
        value = row[name]
        if value is None or (value == "" and key != "text"):
            continue
        record[key] = _seconds(value, name, where) if key in _SECONDS else str(value)
    audio = record.get("audio_filepath")
    if audio is None:
        raise ManifestError(f"{where}: names no recording; fill in its path, or remove the line")
    if audio.startswith(_PLACEHOLDER):
        raise ManifestError(
            f"{where}: the path {audio!r} starts with a placeholder; replace it with the folder: "
            f"sed 's|{audio.partition('/')[0]}|/FOLDER|'"
        )
    record["audio_filepath"] = located(audio, folder)
    record.setdefault("id", without_suffix(audio))
    others = {name: value for name, value in row.items() if name not in used}
    return Entry({**record, **{k: v for k, v in others.items() if k not in record}}, folder, where)


def _seconds(value: Any, name: str, where: str) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not math.isfinite(seconds):
        raise ManifestError(f"{where}: '{name}' is {value!r}, not a number of seconds")
    return seconds
