"""A source of recordings as a user names it: a folder, a file, or standard input."""

from __future__ import annotations

import gzip
import io
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from egl_fast.data.json_array import first_of_array, is_array
from egl_fast.data.json_reading import json_value, lines_of_array, open_file, refuse_binary
from egl_fast.errors import ManifestError, one_line

#: What recognizing a kind may look at.
_HEAD_BYTES = 2**16

_GZIP = b"\x1f\x8b"

#: What `-` is called in errors.
_STANDARD_INPUT = "standard input"


class Entry(NamedTuple):
    """One utterance of a source, in our words.

    Attributes:
        record: what a line of a manifest says of it, ``id`` included.
        folder: where a relative ``audio_filepath`` starts.
        where: what to call its place in the source in an error.
    """

    record: dict[str, Any]
    folder: Path
    where: str


class Line(NamedTuple):
    """A line of text, without its end, and what to call it in an error."""

    text: str
    where: str


class Source:
    """What a user named, opened once: it may be a pipe.

    Args:
        given: a path, or "-" for standard input, whose relative paths start from the current
            folder.

    Attributes:
        path: of the folder or file.
        folder: where relative paths in it start.
        name: what to call it in an error.
        is_folder: whether it is one.

    Raises:
        ManifestError: it does not exist, or cannot be read.
    """

    def __init__(self, given: str | Path) -> None:
        self.path = Path(given)
        self.is_standard_input = str(given) == "-"
        self.name = _STANDARD_INPUT if self.is_standard_input else str(given)
        self.is_folder = not self.is_standard_input and self.path.is_dir()
        self.folder = self.path if self.is_folder else self.path.parent
        self._file: BinaryIO | None = None
        self._start = b""
        if not self.is_folder:
            self._file = self._opened()
            self._start = self._file.read(_HEAD_BYTES)

    def _opened(self) -> BinaryIO:
        if self.is_standard_input:
            return sys.stdin.buffer
        return open_file(self.path, f"manifest {self.path}")

    @cached_property
    def head(self) -> bytes:
        """The first bytes of a file, decompressed; none of a folder."""
        if not self._start.startswith(_GZIP):
            return self._start
        try:
            return zlib.decompressobj(wbits=31).decompress(self._start, _HEAD_BYTES)
        except zlib.error:
            return b""

    @property
    def _text(self) -> str:
        """The beginning of a text; garbage for other files."""
        return self.head.decode("utf-8-sig", "ignore")

    @cached_property
    def first_line(self) -> str:
        """The first line of a text that is not empty, without its end; "" for other files."""
        # Not splitlines(): JSON strings may contain U+2028 and the like.
        return next((line.rstrip("\r") for line in self._text.split("\n") if line.strip()), "")

    @cached_property
    def first_object(self) -> dict[str, Any]:
        """The JSON object on the first line or in an array; an empty one if there is none."""
        text = self._text
        try:
            value = first_of_array(text) if is_array(text) else json_value(self.first_line)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    def has(self, *names: str) -> bool:
        """Whether it is a folder that holds all of these files."""
        return self.is_folder and all((self.path / name).is_file() for name in names)

    def content(self) -> bytes:
        """All bytes of the file, as they are; may be called once."""
        with self._rest() as file:
            return file.read()

    def lines(self) -> Iterator[Line]:
        """The lines of a file that are not blank, one at a time; may be called once."""
        with self._rest() as file:
            yield from _lines(file, self.name)

    def _rest(self) -> BinaryIO:
        assert self._file is not None, "a folder has no content"
        return io.BufferedReader(_Replayed(self._start, self._file))

    def __enter__(self) -> Source:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        if self._file is not None and not self.is_standard_input:
            self._file.close()


@dataclass(frozen=True)
class Kind:
    """One kind of source.

    Attributes:
        name: what people call it.
        recognizes: whether a source is one, from its name or its first bytes.
        entries: its utterances, one at a time.
        companions: other files that it reads by itself. Named beside it, they are not read twice.
    """

    name: str
    recognizes: Callable[[Source], bool]
    entries: Callable[[Source], Iterator[Entry]]
    companions: Callable[[Source], Iterable[Path]] = lambda source: ()


def lines_of(path: Path) -> Iterator[Line]:
    """The lines of a text file that are not blank, gzipped or not. Raises ``ManifestError``."""
    with open_file(path, str(path)) as file:
        yield from _lines(file, str(path))


def _lines(file: BinaryIO, name: str) -> Iterator[Line]:
    assert isinstance(file, io.BufferedReader)
    start = file.peek(len(_GZIP))
    is_packed = start.startswith(_GZIP)
    if not is_packed:
        refuse_binary(start, name)
    content = io.BufferedReader(gzip.GzipFile(fileobj=file)) if is_packed else file
    text: Iterable[bytes] = content
    number, unit = 0, "line"
    try:
        if is_array(content.peek(_HEAD_BYTES).decode("utf-8-sig", "ignore")):
            whole = content.read().decode("utf-8-sig")
            text, unit = lines_of_array(whole, name).encode().split(b"\n"), "item"
        for number, line in enumerate(text, start=1):
            decoded = line.decode("utf-8").removeprefix("\ufeff").rstrip("\r\n")
            if decoded.strip():
                yield Line(decoded, f"{name}, {unit} {number}")
    except UnicodeDecodeError as error:
        raise ManifestError(
            f"{name}, line {number}: cannot be read as UTF-8 text ({one_line(error)}); "
            "convert it: iconv -t utf-8 -f ENCODING"
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise ManifestError(
            f"{name}: cannot be read after line {number} ({one_line(error)}); copy it again"
        ) from None


def located(audio: str, folder: Path) -> str:
    """A path of a source that may count from its folder or, as toolkits do, the current one."""
    if os.path.isabs(audio) or (folder / audio).exists() or not os.path.exists(audio):
        return audio
    return os.path.abspath(audio)


def without_suffix(path: str) -> str:
    """A path as an id: ``./a/b.wav`` is ``a/b``."""
    return os.path.splitext(os.path.normpath(path))[0]


class _Replayed(io.RawIOBase):
    """A file of which the start has been read already."""

    def __init__(self, start: bytes, rest: BinaryIO) -> None:
        self._start, self._rest = start, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found = self._start[: len(buffer)] or self._rest.read(len(buffer))
        self._start = self._start[len(buffer) :]
        buffer[: len(found)] = found
        return len(found)
