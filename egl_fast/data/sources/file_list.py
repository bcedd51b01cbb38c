"""Recordings by name: one path per line, or a recording itself."""

from __future__ import annotations

import os
from collections.abc import Iterator

from egl_fast.data.sources.folder import RECORDINGS, starts_as_sound
from egl_fast.data.sources.source import Entry, Kind, Source, located, without_suffix
from egl_fast.files.addresses import is_url


def _is_list(source: Source) -> bool:
    line = source.first_line.strip()
    if not line or line.startswith(("{", "[")):
        return False
    if is_url(line):
        return len(line.split()) == 1
    # Not Path.is_file(), which raises an error if the line is too long for a path.
    if os.path.isfile(source.folder / line) or os.path.isfile(line):
        return True
    # Without such a file, words may be other things than a path: Kaldi's, YAML.
    return len(line.split()) == 1 and os.path.splitext(line)[1].lower() in RECORDINGS


def _listed(source: Source) -> Iterator[Entry]:
    for line, where in source.lines():
        audio = line.strip()
        record = {"audio_filepath": located(audio, source.folder), "id": without_suffix(audio)}
        yield Entry(record, source.folder, where)


def _is_recording(source: Source) -> bool:
    if source.is_folder or source.is_standard_input:
        return False
    return source.path.suffix.lower() in RECORDINGS or starts_as_sound(source.head[:512])


def _itself(source: Source) -> Iterator[Entry]:
    path = source.path
    record = {"audio_filepath": path.name, "id": without_suffix(str(path))}
    yield Entry(record, source.folder, str(path))


LIST = Kind("a list of recordings, one path per line", _is_list, _listed)
RECORDING = Kind("a recording", _is_recording, _itself)
