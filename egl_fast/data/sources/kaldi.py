"""Kaldi data folders: ``wav.scp``, and ``segments``, ``text``, ``utt2spk`` if they are there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from egl_fast.data.sources.source import Entry, Kind, Line, Source, lines_of, located
from egl_fast.errors import ManifestError
from egl_fast.files.addresses import Place
from egl_fast.files.remote import is_file

_LIST: Final = "wav.scp"

#: Our key -> the file that holds it, by utterance.
_FILES: Final = {"text": "text", "speaker": "utt2spk", "language": "utt2lang"}

#: A place in an archive of Kaldi's: a.ark:1234.
_IN_ARCHIVE = re.compile(r"\.ark:\d+(\[.*\])?$")


def _entries(source: Source) -> Iterator[Entry]:
    folder = source.path if source.is_folder else source.path.parent
    columns = {key: _Column(folder / name) for key, name in _FILES.items()}
    last = ""
    for utterance, record, where in _utterances(folder):
        _refuse_unsorted(utterance, last, where)
        last = utterance
        for key, column in columns.items():
            value = column.of(utterance)
            # A line with nothing after the id is an empty text.
            if value or (key == "text" and value is not None):
                record[key] = value
        yield Entry(record, folder, where)


def _utterances(folder: Place) -> Iterator[tuple[str, dict[str, Any], str]]:
    recordings = ((key, _audio(value, folder, where), where)
                  for key, value, where in _pairs(folder / _LIST))  # fmt: skip
    if not is_file(folder / "segments"):
        for key, audio, where in recordings:
            yield key, {"audio_filepath": audio, "id": key}, where
        return
    # Segments are sorted by their own ids, not those of recordings.
    paths = {key: audio for key, audio, _ in recordings}
    for key, value, where in _pairs(folder / "segments"):
        try:
            recording, start, end = value.split()
            offset, stop = float(start), float(end)
        except ValueError:
            raise ManifestError(
                f"{where}: expected an utterance, its recording, start and end in seconds"
            ) from None
        if recording not in paths:
            raise ManifestError(f"{where}: recording {recording!r} is not in {folder / _LIST}")
        record = {"audio_filepath": paths[recording], "id": key, "offset": offset}
        # An end of -1 is the recording's.
        if stop != -1:
            if not 0 <= offset < stop:
                raise ManifestError(f"{where}: the segment ends at {end}, before it starts")
            record["duration"] = round(stop - offset, 6)
        yield key, record, where


def _audio(value: str, folder: Place, where: str) -> str:
    if value.endswith("|") or value.startswith("|"):
        raise ManifestError(
            f"{where}: is a pipe ({value}), which is not run; write the path of the recording "
            "itself: flac, mp3, sph and others are read as they are"
        )
    if value == "-" or _IN_ARCHIVE.search(value):
        raise ManifestError(
            f"{where}: {value} is no file of its own; extract it with Kaldi's wav-copy, and write "
            "its path"
        )
    return located(value, folder)


def _pairs(path: Place) -> Iterator[tuple[str, str, str]]:
    for line in lines_of(path):
        key, value = _pair(line)
        if not value:
            raise ManifestError(f"{line.where}: has nothing after {key!r}; complete the line")
        yield key, value, line.where


def _pair(line: Line) -> tuple[str, str]:
    key, _, value = line.text.strip(" \t").replace("\t", " ", 1).partition(" ")
    return key, value.strip()


class _Column:
    """A file with a line per utterance, read side by side with the list of them.

    Kaldi sorts all its files alike, so a line that was passed need not be kept.
    """

    def __init__(self, path: Place) -> None:
        self._lines = lines_of(path) if is_file(path) else iter(())
        self._key, self._value = "", ""
        self._ended = False

    def of(self, utterance: str) -> str | None:
        """The value of an utterance; None if it has none."""
        wanted = utterance.encode()
        while not self._ended and self._key.encode() < wanted:
            self._advance()
        return self._value if self._key == utterance and not self._ended else None

    def _advance(self) -> None:
        line = next(self._lines, None)
        if line is None:
            self._ended = True
            return
        key, self._value = _pair(line)
        _refuse_unsorted(key, self._key, line.where)
        self._key = key


def _refuse_unsorted(key: str, last: str, where: str) -> None:
    if key.encode() <= last.encode():
        raise ManifestError(
            f"{where}: {key!r} comes after {last!r}; sort the folder: utils/fix_data_dir.sh, or "
            "LC_ALL=C sort -u each file"
        )


KIND = Kind(
    "a Kaldi data folder", lambda source: source.has(_LIST) or source.path.name == _LIST, _entries
)
