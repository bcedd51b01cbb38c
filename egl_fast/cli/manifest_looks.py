"""What ``egl-fast manifest`` has found out about recordings, kept until it is done."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO

from egl_fast.cli.console import say
from egl_fast.data.jsonl import encoded_line
from egl_fast.errors import OutputError
from egl_fast.files import atomic
from egl_fast.files.addresses import Address
from egl_fast.files.remote import version_of

if TYPE_CHECKING:
    from egl_fast.data.manifest import Utterance

#: Between the path of an archive and the name of a recording in it.
_MEMBER = "::"


@dataclass(frozen=True)
class Look:
    """What a recording's file says.

    Attributes:
        segments: offset and duration of what is to be listed, in seconds.
        whole_seconds: length of the whole recording; None if unknown.
    """

    segments: list[tuple[float, float]]
    whole_seconds: float | None


class Looks:
    """Looks of an earlier run that was interrupted, and those of this one, in ``OUT.journal``.

    A look counts for as long as the file has the same size and time. So the same command, given
    again, continues where it was.

    Args:
        out: the manifest; None: standard output, and nothing is kept.
        segment_seconds: what recordings are cut to.
    """

    def __init__(self, out: Path | None, segment_seconds: float | None) -> None:
        self._path = None if out is None else out.with_name(f"{out.name}.journal")
        self._segment_seconds = segment_seconds
        self._known: dict[str, Look] = {}
        self._num_kept = 0
        self._file: BinaryIO | None = None

    def __enter__(self) -> Looks:
        if self._path is not None:
            with atomic.as_output_error(self._path):
                if self._path.exists():
                    self._known = dict(
                        filter(None, map(_read, self._path.read_bytes().split(b"\n")))
                    )
                self._file = open(self._path, "ab", opener=_without_links)
        if self._known:
            say(f"{len(self._known)} recordings are known from a run that was interrupted")
        return self

    def known(self, utterance: Utterance) -> Look | None:
        """An earlier look at an utterance whose file has not changed since."""
        return self._known.get(self._key(utterance)) if self._known else None

    def keep(self, utterance: Utterance, look: Look) -> None:
        """Keep a look in case this run is interrupted."""
        if self._file is None or self.known(utterance) is not None:
            return
        with atomic.as_output_error(self._path):
            line = {"of": self._key(utterance), "cut": look.segments, "whole": look.whole_seconds}
            # After a line end, for a kill may have left half a line.
            self._file.write(b"\n" + encoded_line(line))
            self._file.flush()
        self._num_kept += 1

    def _key(self, utterance: Utterance) -> str:
        path = os.fspath(utterance.audio_path)
        file = utterance.audio_path
        if isinstance(file, Address):
            file = file if file.inside is None else file.inside[0]
        else:
            file = Path(path.partition(_MEMBER)[0])
        state: list[object] = []
        with suppress(OSError, ValueError):
            state += version_of(file)[1:]
        piece = [utterance.offset_seconds, utterance.duration_seconds, self._segment_seconds]
        return json.dumps([path, *state, *piece])

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is None or self._path is None:
            return
        is_kept = kind is not None and bool(self._known or self._num_kept)
        try:
            with atomic.as_output_error(self._path):
                self._file.close()
            if not is_kept:
                atomic.remove(self._path)
        except OutputError:
            if kind is None:  # otherwise, the error that came first matters more
                raise
        if kind is not None and issubclass(kind, KeyboardInterrupt) and is_kept:
            say("what was found out about recordings is kept; the same command continues")


def _without_links(path: str, flags: int) -> int:
    """As ``open`` does it, but what a link points to is not written."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def _read(line: bytes) -> tuple[str, Look] | None:
    try:
        found = json.loads(line)
        pieces = [(float(offset), float(seconds)) for offset, seconds in found["cut"]]
        return str(found["of"]), Look(pieces, found["whole"])
    except (ValueError, KeyError, TypeError):  # the last line before a kill
        return None
