"""What a format of picks is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from egl_fast.data.jsonl import promised_by
from egl_fast.display import shown
from egl_fast.errors import ManifestError
from egl_fast.files.addresses import Place, joined

#: One pick: the manifest's keys, its scores, ``rank``, and ``score``, which it was ranked by.
Record: TypeAlias = dict[str, Any]

#: How Label Studio addresses files on its own disk.
LOCAL_FILES = "/data/local-files/?d="


@dataclass(frozen=True)
class Sending:
    """How picks are addressed to the tool that gets them.

    Attributes:
        folder: what relative audio paths of the picks start from.
        audio_url: what the tool puts before a path, see ``LOCAL_FILES``.
        audio_root: folder that ``audio_url`` stands for.
        from_name: Label Studio's name for the control that holds the transcript.
        to_name: its name for the audio.
    """

    folder: Place = Path()
    audio_url: str = LOCAL_FILES
    audio_root: Path = Path("/")
    from_name: str = "transcription"
    to_name: str = "audio"


@dataclass(frozen=True)
class Format:
    """A format that picks can be written in.

    Attributes:
        name: of ``--format``.
        description: one line for the help.
        suffixes: of files that are in this format unless ``--format`` says otherwise.
        also: further endings that files in this format may have.
        chunks: the bytes of a file, a piece per record and perhaps an end, so that with the same
            end the first pieces are a file, too; None for a folder.
        save: makes a folder; None for a file.
        beside: further files by what is added to the output's name.
        needs_folder: whether it holds absolute audio paths, and so has to know what relative ones
            start from.
        adds_score: whether records have ``score``.
    """

    name: str
    description: str
    suffixes: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    chunks: Callable[[Sequence[Record], Sending], Iterator[bytes]] | None = None
    save: Callable[[Sequence[Record], Sending, Path], None] | None = None
    beside: Callable[[Sequence[Record], Sending], Mapping[str, bytes]] = lambda records, sending: {}
    needs_folder: bool = False
    adds_score: bool = True

    def fits(self, path: Path) -> bool:
        """Whether a name does not promise another format, such as ``picks.csv`` for JSON Lines."""
        if self.chunks is not None and path.suffix.lower() == ".gz":
            path = path.with_suffix("")
        return promised_by(path) in (None, "text") or path.name.lower().endswith(
            (*self.suffixes, *self.also)
        )


@dataclass(frozen=True)
class Delivered:
    """One recording in a file that came back, or in one that was sent.

    Attributes:
        id: of the recording.
        text: the transcript; None if there is none yet.
        record: all other keys that the file holds.
        where: file and line, for messages.
        is_answer: whether a person has submitted it, or skipped the recording: an empty text then
            means that nothing is said, and not that nobody has looked.
        skipped: whether a person declined to transcribe it.
    """

    id: str
    text: str | None
    record: Record
    where: str
    is_answer: bool = False
    skipped: bool = False

    def check(self) -> None:
        """Raise ``TypeError`` or ``ValueError`` if texts or seconds are something else.

        Tables have seconds as text.
        """
        if not isinstance(self.id, str):
            raise TypeError(f"id is {shown(self.id)}, not a string")
        if not isinstance(self.text, (str, type(None))):
            raise TypeError(f"text is {shown(self.text)}, not a string")
        for key in ("offset", "duration"):
            float(self.record.get(key) or 0.0)


def audio_path(record: Record, folder: Place) -> Place:
    """The absolute path, or URL, of a pick's recording. Raises ``ManifestError`` if it has none."""
    audio = record.get("audio_filepath")
    if not isinstance(audio, str) or not audio:
        raise ManifestError(f"record {record['id']!r}: has no 'audio_filepath'")
    place = joined(folder, audio)
    return Path(os.path.abspath(place)) if isinstance(place, Path) else place
