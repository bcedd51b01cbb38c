"""NeMo-style manifests: one JSON object per line, one utterance each."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from egl_fast.data.identity import identity_of
from egl_fast.data.json_reading import json_lines
from egl_fast.data.jsonl import encoded_line
from egl_fast.data.sources.kinds import Recognized, entries, recognized
from egl_fast.data.sources.source import Entry, Source
from egl_fast.data.unique_ids import without_repeats
from egl_fast.display import printable
from egl_fast.errors import ManifestError
from egl_fast.files.addresses import Address, Place, is_url, joined, unmasked


@dataclass(frozen=True)
class Utterance:
    """One line of a manifest.

    Attributes:
        id: the line's ``id``, or else its ``audio_filepath`` as written, plus ``@offset`` if it has
            one.
        audio_path: the recording; relative paths start from the manifest's folder, or its URL's.
        offset_seconds: where the utterance starts in the recording.
        duration_seconds: how long it is; None: to the end.
        text: what was said; None if unknown.
        record: the line as it was read, with all its keys; of a URL in it, without credentials.
        line: line number in the manifest, or place in its array or among several sources, from 1.
        place: what to call that in a message, if it is not a line: which source, and where in it.
        held: the recording itself, of callers that have it in memory: bytes as in a file, or
            samples as ``mono_waveform`` takes them. None: it is at ``audio_path``.
    """

    id: str
    audio_path: Place
    offset_seconds: float
    duration_seconds: float | None
    text: str | None
    record: dict[str, Any]
    line: int
    place: str = field(default="", repr=False, compare=False)
    held: Any = field(default=None, repr=False, compare=False)

    @property
    def where(self) -> str:
        """What to call its place in a message."""
        return self.place or f"line {self.line}"

    @property
    def name(self) -> str:
        """What to call it in a message."""
        return f"utterance {self.id!r} ({self.where})"


class Manifest(NamedTuple):
    """A manifest and its identity.

    Attributes:
        utterances: its lines, in order.
        sha256: hash of its text, in hexadecimal; the same for a file, its gzipped copy, and a pipe.
    """

    utterances: list[Utterance]
    sha256: str


def read_manifest(*sources: str | Path) -> list[Utterance]:
    """All utterances of a manifest, or of other sources, in order.

    Args:
        sources: a UTF-8 file with one JSON object per line, gzipped or not. ``audio_filepath`` is
            required; ``offset`` and ``duration`` (seconds), ``text``, and ``id`` are optional;
            other keys are kept in ``Utterance.record``. Or whatever `egl-fast manifest` reads, one
            or several; records then have an absolute ``audio_filepath`` and an ``id``.

    Raises:
        ManifestError: a source is missing, empty, or something else; a line is not a JSON object,
            lacks ``audio_filepath``, has a value of the wrong kind, or repeats an id.
    """
    return read_manifest_and_hash(*sources).utterances


def read_manifest_and_hash(*sources: str | Path) -> Manifest:
    """A manifest and its hash from a single reading: the file may change, or be a pipe."""
    with recognized(sources) as found:
        reading = ManifestReading(found)
        utterances = list(reading)
        return Manifest(utterances, reading.sha256)


class ManifestReading:
    """One pass over sources that gives their utterances and, at its end, their hash.

    Args:
        found: the sources, opened.
        keep: called with each line before its utterance is given: for a manifest, all
            its lines as they are, blank ones included; for others, and for an array, a line for
            each utterance.
    """

    def __init__(
        self, found: Sequence[Recognized], keep: Callable[[bytes], None] = lambda line: None
    ) -> None:
        self._found = found
        self._keep = keep
        self._digest = hashlib.sha256()
        #: The manifest that is read; None if the sources are others.
        self.manifest = found[0].source if len(found) == 1 and found[0].is_manifest else None

    @property
    def sha256(self) -> str:
        """Of what was read so far, in hexadecimal."""
        return self._digest.hexdigest()

    def __iter__(self) -> Iterator[Utterance]:
        """The utterances, checked. Raises ``ManifestError``; see ``read_manifest``."""
        return self._entries() if self.manifest is None else self._lines(self.manifest)

    def _entries(self) -> Iterator[Utterance]:
        for number, entry in enumerate(entries(self._found), start=1):
            self._digest.update(encoded_line(entry.record))
            utterance = utterance_from(entry, number)
            audio = {"audio_filepath": unmasked(utterance.audio_path)}  # with its credentials
            self._keep(encoded_line(utterance.record | audio))
            yield utterance

    def _lines(self, file: Source) -> Iterator[Utterance]:
        source = f"manifest {file.name}"
        is_first_pass = True

        def noted(lines: Iterable[bytes]) -> Iterator[bytes]:
            for line in lines:
                self._digest.update(line)
                if not file.is_array:
                    self._keep(line)
                yield line

        def named() -> Iterator[tuple[str, Utterance]]:
            nonlocal is_first_pass
            lines = file.raw_lines(source)
            is_kept = is_first_pass and file.is_array
            lines, is_first_pass = noted(lines) if is_first_pass else lines, False
            for number, where, record in json_lines(lines, source):
                place = where.removeprefix(f"{source}, ") if file.is_array else ""
                utterance = utterance_of(record, number, file.folder, where, place)
                if is_kept:
                    self._keep(encoded_line(record))
                yield utterance.id, utterance

        def repeated(identity: str, first: Utterance, again: Utterance) -> ManifestError:
            return ManifestError(
                f"{source}, {again.where}: id {identity!r} is already that of {first.where}; give "
                "each its own id"
            )

        is_empty = True
        for utterance in without_repeats(named, repeated):
            is_empty = False
            yield utterance
        if is_empty:
            raise ManifestError(f"{source}: contains no utterances; write one JSON object per line")


def utterance_from(entry: Entry, number: int) -> Utterance:
    """An entry of a source, its audio found from any folder. Raises ``ManifestError``."""
    place = joined(entry.folder, entry.record["audio_filepath"])
    audio = place.url if isinstance(place, Address) else os.path.abspath(place)
    record = {**entry.record, "audio_filepath": audio}
    return utterance_of(record, number, entry.folder, entry.where, entry.where)


def utterance_of(
    record: dict[str, Any], number: int, folder: Place, where: str, place: str = ""
) -> Utterance:
    """One utterance.

    Args:
        record: its line.
        number: of the line.
        folder: where relative paths start.
        where: what to call the line in errors.
        place: see ``Utterance``.

    Raises:
        ManifestError: see ``read_manifest``.
    """
    audio = record.get("audio_filepath")
    if not isinstance(audio, str) or not audio:
        raise ManifestError(f"{where}: needs 'audio_filepath', a path as a string")
    offset = _seconds(record, "offset", where)
    duration = _seconds(record, "duration", where)
    if duration == 0.0:
        raise ManifestError(f"{where}: 'duration' is 0; omit it to use the whole recording")
    text = record.get("text")
    if text is not None and not isinstance(text, str):
        raise ManifestError(f"{where}: 'text' is {text!r}, not a string")
    identity = identity_of(record, where)
    found = joined(folder, audio)
    if is_url(audio):
        record = {**record, "audio_filepath": str(found)}
    return Utterance(identity, found, offset or 0.0, duration, text, record, number, place)


def _seconds(record: dict[str, Any], key: str, where: str) -> float | None:
    return None if record.get(key) is None else seconds_of(record, key, where)


def seconds_of(record: Mapping[str, Any], key: str, where: str) -> float:
    """A key's value in seconds; raises ``ManifestError`` if no audio could be that long."""
    value = record.get(key)
    # In Python, bool is an int.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
        raise ManifestError(f"{where}: '{key}' is {value!r}, not a number of seconds")
    return float(value)


def recording_name(path: Place) -> str:
    """What a recording is called in errors: one line, control characters escaped."""
    return f"audio {printable(str(path))}"
