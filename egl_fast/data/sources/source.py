"""A source of recordings as a user names it: a folder, a file, or standard input."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, BinaryIO, NamedTuple

from egl_fast.data.json_array import first_of_array
from egl_fast.data.json_reading import (
    GZIP,
    decoded_lines,
    from_start,
    holds_array,
    rereadable,
    text_lines,
)
from egl_fast.data.strict_json import json_value
from egl_fast.files.addresses import Address, Place, is_absolute, is_url, masked, place_of

#: What recognizing a kind may look at.
_HEAD_BYTES = 2**16

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
    folder: Place
    where: str


class Line(NamedTuple):
    """A line of text, without its end, and what to call it in an error."""

    text: str
    where: str


class Source:
    """What a user named, opened once: it may be a pipe, of which a copy is kept.

    Args:
        given: a path or URL, or "-" for standard input, whose relative paths start from the current
            folder.

    Attributes:
        path: of the folder or file.
        folder: where relative paths in it start.
        name: what to call it in an error.
        is_folder: whether it is one.

    Raises:
        ManifestError: it does not exist, or cannot be read.
    """

    def __init__(self, given: str | Place) -> None:
        self.path: Place = place_of(given)
        self.is_standard_input = str(given) == "-"
        self.name = _STANDARD_INPUT if self.is_standard_input else masked(str(given))
        self.is_folder = not self.is_standard_input and os.path.isdir(self.path)
        self.folder: Place = self.path if self.is_folder else self.path.parent
        #: Its content; None of a folder.
        self.file: BinaryIO | None = None
        self._start = b""
        if not self.is_folder:
            self.file = rereadable(self.path, f"manifest {self.name}")
            self._start = self.file.read(_HEAD_BYTES)

    @property
    def is_packed(self) -> bool:
        """Whether its content is gzipped."""
        return self._start.startswith(GZIP)

    @cached_property
    def head(self) -> bytes:
        """The first bytes of a file, decompressed; none of a folder."""
        if not self.is_packed:
            return self._start
        found, rest = b"", self._start
        with suppress(zlib.error):
            while rest.startswith(GZIP) and len(found) < _HEAD_BYTES:  # member by member
                member = zlib.decompressobj(wbits=31)
                found += member.decompress(rest, _HEAD_BYTES)
                rest = member.unused_data
        return found

    @cached_property
    def is_array(self) -> bool:
        """Whether its content is an array of JSON objects."""
        return self.file is not None and holds_array(self.raw_lines())

    @property
    def _text(self) -> str:
        """The beginning of a text, without byte order marks; garbage for other files."""
        text = self.head.decode("utf-8", "ignore").removeprefix("\ufeff")
        return text.replace("\n\ufeff", "\n")

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
            value = first_of_array(text) if self.is_array else json_value(self.first_line)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    def has(self, *names: str) -> bool:
        """Whether it is a folder that holds all of these files."""
        return self.is_folder and all(os.path.isfile(self.path / name) for name in names)

    def lines(self) -> Iterator[Line]:
        """The lines of a file that are not blank, one at a time."""
        return _decoded(self.raw_lines(), self.name)

    def raw_lines(self, name: str | None = None) -> Iterator[bytes]:
        """All lines of a file as they are, decompressed; ``name`` is for errors."""
        assert self.file is not None, "a folder has no content"
        return text_lines(from_start(self.file), name or self.name)

    def __enter__(self) -> Source:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        if self.file is not None:
            self.file.close()


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
    companions: Callable[[Source], Iterable[Place]] = lambda source: ()


def lines_of(path: Place) -> Iterator[Line]:
    """The lines of a text file that are not blank, gzipped or not. Raises ``ManifestError``."""
    with rereadable(path, str(path)) as file:
        yield from _decoded(text_lines(file, str(path)), str(path))


def _decoded(lines: Iterable[bytes], name: str) -> Iterator[Line]:
    return (Line(text.removesuffix("\r"), where) for _, text, where in decoded_lines(lines, name))


def located(audio: str, folder: Place) -> str:
    """A path of a source that may count from its folder or, as toolkits do, the current one."""
    if isinstance(folder, Address) or is_absolute(audio):
        return audio
    if os.path.exists(folder / audio) or not os.path.exists(audio):
        return audio
    return os.path.abspath(audio)


def without_suffix(path: str) -> str:
    """A path as an id: ``./a/b.wav`` is ``a/b``."""
    if is_url(path):
        return os.path.splitext(masked(path).partition("?")[0])[0]
    return os.path.splitext(os.path.normpath(path))[0]
