"""Manifests that are too long to be in memory: checked once, then read again window by window."""

from __future__ import annotations

import os
import tempfile
import weakref
import zlib
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, overload

from egl_fast.data.json_reading import copying, json_object
from egl_fast.data.manifest import ManifestReading, Utterance, utterance_of
from egl_fast.data.sources.kinds import recognized
from egl_fast.errors import ManifestError, one_line
from egl_fast.files.addresses import Place, masked

#: Where a relative path starts that is none.
_HERE: Place = Path()

#: Utterances that are read together.
_WINDOW = 64


def stream_manifest(*sources: str | Path) -> StreamedManifest:
    """A manifest, or other sources as ``read_manifest`` takes them, completely checked.

    A plain file is read where it is; of anything else, and of several, there is a temporary copy.

    Raises:
        ManifestError: see ``read_manifest``.
    """
    with recognized(sources) as found:
        windows = _Windows()
        reading = ManifestReading(found, windows.add)
        source = reading.manifest
        names = ", ".join(masked(str(one)) for one in sources)
        name, folder = f"manifest {names}", _HERE
        if source is not None:
            name, folder = f"manifest {source.name}", source.folder
        is_plain = source is not None and not source.is_packed and not source.is_array
        if is_plain and source is not None and source.file is not None:
            file: BinaryIO = os.fdopen(os.dup(source.file.fileno()), "rb")
        else:
            with copying(name):
                file = windows.copy = tempfile.TemporaryFile()  # noqa: SIM115 (the manifest closes it)
        manifest = StreamedManifest(file, windows, name, folder)
        with copying(name):
            try:
                for utterance in reading:
                    windows.count(utterance)
                windows.end()
            except OSError:
                with suppress(OSError):  # of what is still buffered
                    manifest.close()
                raise
        manifest.sha256 = reading.sha256
        return manifest


class StreamedManifest(Sequence[Utterance]):
    """The utterances of a manifest, in order, read from the disk each time they are asked for.

    In memory are 20 bytes per 64 lines.

    Attributes:
        sha256: see ``Manifest``.

    Raises:
        ManifestError: the file has changed since it was checked.
    """

    def __init__(self, file: BinaryIO, windows: _Windows, name: str, folder: Place) -> None:
        self.sha256 = ""
        self._file, self._windows, self._name, self._folder = file, windows, name, folder
        self.close = weakref.finalize(self, file.close)

    def __len__(self) -> int:
        return self._windows.num_utterances

    def __iter__(self) -> Iterator[Utterance]:
        for number in range(len(self._windows.starts) - 1):
            yield from self._window(number)

    @overload
    def __getitem__(self, index: int) -> Utterance: ...
    @overload
    def __getitem__(self, index: slice) -> list[Utterance]: ...
    def __getitem__(self, index: int | slice) -> Utterance | list[Utterance]:
        """One utterance, or a list of some, for which their windows are read."""
        places = range(len(self))[index]
        if isinstance(places, int):
            return self._window(places // _WINDOW)[places % _WINDOW]
        found: list[Utterance] = []
        window: list[Utterance] = []
        read = -1
        for place in places:
            if place // _WINDOW != read:
                read = place // _WINDOW
                window = self._window(read)
            found.append(window[place % _WINDOW])
        return found

    def _window(self, number: int) -> list[Utterance]:
        windows = self._windows
        start, end = windows.starts[number : number + 2]
        try:
            content = os.pread(self._file.fileno(), end - start, start)
        except OSError as error:
            raise ManifestError(f"{self._name}: cannot be read ({one_line(error)})") from None
        if len(content) < end - start or zlib.crc32(content) != windows.checksums[number]:
            raise ManifestError(
                f"{self._name}: was changed while it was in use; put the old one back, or start "
                "over with the new one"
            )
        found = []
        for line_number, line in enumerate(content.split(b"\n"), start=windows.lines[number]):
            text = line.decode("utf-8").removeprefix("\ufeff")
            if text.strip():
                where = f"{self._name}, line {line_number}"
                found.append(
                    utterance_of(json_object(text, where), line_number, self._folder, where)
                )
        return found


class _Windows:
    """Where each window of utterances is in a file: offset, checksum, and line number."""

    def __init__(self) -> None:
        self.num_utterances = 0
        self.starts, self.checksums, self.lines = array("Q"), array("I"), array("Q")
        #: Where lines are copied to; None if they stay where they are.
        self.copy: BinaryIO | None = None
        self._line = b""
        self._offset = 0  # of that line
        self._checksum = 0  # of the window up to that line

    def add(self, line: bytes) -> None:
        """The next line."""
        if self.copy is not None:
            self.copy.write(line)
        self._checksum = zlib.crc32(self._line, self._checksum)
        self._offset += len(self._line)
        self._line = line

    def count(self, utterance: Utterance) -> None:
        """What the line that was added last holds."""
        if self.num_utterances % _WINDOW == 0:
            self._close_window()
            self.lines.append(utterance.line)
        self.num_utterances += 1

    def end(self) -> None:
        """There are no more lines."""
        self.add(b"")
        self._close_window()
        if self.copy is not None:
            self.copy.flush()

    def _close_window(self) -> None:
        if self.starts:
            self.checksums.append(self._checksum)
        self.starts.append(self._offset)
        self._checksum = 0
