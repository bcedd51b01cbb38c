"""NeMo-style manifests: one JSON object a line, one utterance each."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egl_fast.errors import ManifestError


@dataclass(frozen=True)
class Utterance:
    """One line of a manifest.

    Attributes:
        id: the line's ``id``, or else its ``audio_filepath`` as written, plus ``@offset`` where
            there is one.
        audio_path: the recording; relative paths are resolved against the manifest's folder.
        offset_seconds: where the utterance starts in the recording.
        duration_seconds: how long it is, or None for all that is left.
        text: what was said, or None where that is unknown.
        record: the line as it was read, every key included.
        line: line number in the manifest, from 1.
    """

    id: str
    audio_path: Path
    offset_seconds: float
    duration_seconds: float | None
    text: str | None
    record: dict[str, Any]
    line: int


def read_manifest(path: str | Path) -> list[Utterance]:
    """All utterances of a manifest, in its order; blank lines are skipped.

    Args:
        path: a UTF-8 file with one JSON object a line. ``audio_filepath`` is required;
            ``offset`` and ``duration`` (seconds), ``text`` and ``id`` are optional; other keys
            are kept in ``Utterance.record``.

    Raises:
        ManifestError: the file is missing or empty; a line is not a JSON object, lacks
            ``audio_filepath``, holds a value of the wrong kind, or repeats an id.
    """
    path = Path(path)
    try:
        content = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ManifestError(f"manifest {path}: no such file; give the path of a manifest") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"manifest {path}: cannot be read as UTF-8 text ({error})") from None
    utterances: list[Utterance] = []
    first_line: dict[str, int] = {}
    # Only a line feed ends a line: JSON strings may hold U+2028 and its like.
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"manifest {path}, line {number}"
        utterance = _parse_line(line, number, path.parent, where)
        if utterance.id in first_line:
            raise ManifestError(
                f"{where}: id {utterance.id!r} is already on line {first_line[utterance.id]}; "
                "give each line an id of its own"
            )
        first_line[utterance.id] = number
        utterances.append(utterance)
    if not utterances:
        raise ManifestError(f"manifest {path}: holds no utterance; write one JSON object a line")
    return utterances


def manifest_sha256(path: str | Path, utterances: Sequence[Utterance]) -> str:
    """What tells one manifest from another, in hexadecimal.

    Args:
        path: the manifest. Of a pipe, which cannot be read again, its records count instead.
        utterances: what ``read_manifest`` found in it.
    """
    if os.path.isfile(path):
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    records = json.dumps([utterance.record for utterance in utterances])
    return hashlib.sha256(records.encode()).hexdigest()


def _parse_line(line: str, number: int, folder: Path, where: str) -> Utterance:
    try:
        record = json.loads(line, parse_constant=_no_number, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{where}: not JSON ({error}); write one JSON object a line") from None
    if not isinstance(record, dict):
        raise ManifestError(f"{where}: expected a JSON object, got {type(record).__name__}")
    audio = record.get("audio_filepath")
    if not isinstance(audio, str) or not audio:
        raise ManifestError(f"{where}: needs 'audio_filepath', a path as a string")
    offset = _seconds(record, "offset", where)
    duration = _seconds(record, "duration", where)
    if duration == 0.0:
        raise ManifestError(f"{where}: 'duration' is 0; leave it out to take the whole recording")
    text = record.get("text")
    if text is not None and not isinstance(text, str):
        raise ManifestError(f"{where}: 'text' is {text!r}, not a string")
    identity = record.get("id")
    if identity is None:
        identity = audio if offset is None else f"{audio}@{record['offset']}"
    elif not isinstance(identity, str):
        raise ManifestError(f"{where}: 'id' is {identity!r}, not a string")
    return Utterance(identity, folder / audio, offset or 0.0, duration, text, record, number)


def _no_number(literal: str) -> float:
    # Python reads NaN and Infinity, which JSON lacks; results that carry them would be unreadable.
    raise ValueError(f"{literal} is no number")


def _finite(literal: str) -> float:
    value = float(literal)
    if math.isinf(value):
        raise ValueError(f"{literal} is out of range")
    return value


def _seconds(record: dict[str, Any], key: str, where: str) -> float | None:
    value = record.get(key)
    if value is None:
        return None
    # bool is an int to Python.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
        raise ManifestError(f"{where}: '{key}' is {value!r}, not a number of seconds")
    return float(value)
