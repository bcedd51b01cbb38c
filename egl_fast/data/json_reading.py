"""Reading JSON Lines: manifests, scores files, and what runs leave behind.

gzip, byte order marks, and one array of all objects are fine; any other file is named for what it
is, with a remedy. Lines are read one at a time; an array is read as a whole.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import BufferedReader, BytesIO, RawIOBase
from itertools import chain
from typing import IO, Any, BinaryIO

from egl_fast.data.json_array import is_array
from egl_fast.data.strict_json import MAX_DEPTH, json_value
from egl_fast.errors import ManifestError, one_line
from egl_fast.files.addresses import Address, Place, place_of
from egl_fast.files.remote import spooled
from egl_fast.files.signatures import RECORDING, SOUND, TABLE, signature_of

#: What one line, or a file that is read whole, may have, decompressed: gzip can make a gigabyte of
#: a megabyte.
MOST_BYTES = 2**30

#: Of a reader in Python, which is slow to call.
_BUFFER_BYTES = 2**18

#: How gzipped files begin.
GZIP = b"\x1f\x8b"
#: What of a file's start tells that it is no text.
_START_BYTES = 4096
_ONE_PER_LINE = "write one JSON object per line"
_TEXT = "give a file of UTF-8 text"
_NO_MANIFEST = "name a manifest that lists it, one JSON object per line"

_RECORDINGS = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".sph")
#: A byte order mark, or a brace without one.
_UTF_16 = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff", b"{\0", b"\0{", b"\0\0\0{")


def json_object(line: str | bytes, where: str) -> dict[str, Any]:
    """The object on one line; raises ``ManifestError``, starting with ``where`` (file and line)."""
    try:
        value = json_value(line, max_depth=MAX_DEPTH)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ManifestError(f"{where}: not JSON ({one_line(error)}); {_ONE_PER_LINE}") from None
    except ValueError as error:
        raise ManifestError(f"{where}: {error}") from None
    if not isinstance(value, dict):
        raise ManifestError(f"{where}: expected a JSON object, got {type(value).__name__}")
    return value


def read_file(path: str | Place, source: str) -> bytes:
    """A file's content. Raises ``ManifestError``, which calls the file ``source``."""
    with _opened(path, source) as file:
        return file.read()


def open_file(path: str | Place, source: str) -> BinaryIO:
    """A file, open for reading; of one in a store, a temporary copy.

    Raises ``ManifestError``, which calls the file ``source``.
    """
    place = place_of(path)
    try:
        return spooled(place) if isinstance(place, Address) else open(place, "rb")
    except FileNotFoundError:
        raise ManifestError(f"{source}: no such file; give one that exists") from None
    except IsADirectoryError:
        raise ManifestError(f"{source}: is a folder; name a file in it") from None
    except (OSError, ValueError) as error:
        raise ManifestError(f"{source}: cannot be read ({one_line(error)})") from None


@contextmanager
def _opened(path: str | Place, source: str) -> Iterator[BinaryIO]:
    try:
        with open_file(path, source) as file:
            yield file
    except (OSError, ValueError) as error:
        raise ManifestError(f"{source}: cannot be read ({one_line(error)})") from None


def decompressed(content: bytes, source: str) -> bytes:
    """What a file contains, gzipped or not; its name does not matter. Raises ``ManifestError``."""
    if not content.startswith(GZIP):
        return content
    with _gzip_errors(source), gzip.GzipFile(fileobj=BytesIO(content)) as file:
        found = file.read(MOST_BYTES + 1)
    if len(found) > MOST_BYTES:
        raise ManifestError(f"{source}: has more than {MOST_BYTES:,} bytes once decompressed")
    return found


@contextmanager
def _gzip_errors(source: str) -> Iterator[None]:
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ManifestError(
            f"{source}: is gzipped, but damaged or cut short ({one_line(error)}); copy it again"
        ) from None


def text_of(content: bytes, source: str) -> str:
    """UTF-8 bytes as text. Raises ``ManifestError`` if they are anything else."""
    refuse_binary(content, source)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _no_utf_8(f"{source}, line {line}", error) from None


def _no_utf_8(where: str, error: UnicodeDecodeError) -> ManifestError:
    return ManifestError(
        f"{where}: cannot be read as UTF-8 text ({one_line(error)}); "
        "convert it: iconv -t utf-8 -f ENCODING"
    )


def refuse_binary(start: bytes, source: str) -> None:
    """Raise ``ManifestError`` if a file, by its first bytes, is not UTF-8 text."""
    if start.startswith(_UTF_16):
        raise ManifestError(
            f"{source}: is UTF-16 or UTF-32 text; convert it: iconv -f utf-16 -t utf-8"
        )
    found = signature_of(start)
    if found is not None:
        what, remedy = found.name, _TEXT
        if found.group == SOUND:
            what, remedy = RECORDING, _NO_MANIFEST
        elif found.group == TABLE:
            remedy = "export it as JSON Lines"
        elif found.name.startswith("compressed"):
            remedy = "decompress it, or use gzip"
        raise ManifestError(f"{source}: is {what}, cannot be read as text; {remedy}")
    if b"\0" in start[:_START_BYTES]:
        if start.partition(b"\0")[0].lower().endswith(tuple(map(str.encode, _RECORDINGS))):
            raise ManifestError(
                f"{source}: is a list of paths that end in NUL, as `find -print0` writes it; give "
                "one path per line: find -print"
            )
        raise ManifestError(f"{source}: is binary, cannot be read as text; {_TEXT}")


def json_lines(
    lines: Iterable[bytes], source: str, *, remedy: str = _ONE_PER_LINE
) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """The objects of JSON Lines, without blank lines, or those of one array.

    Args:
        lines: of UTF-8, as ``text_lines`` gives them.
        source: what to call the file in an error.
        remedy: what to do about a text that is something else.

    Yields:
        Line number from 1, or place in the array; what to call it in an error; and its object.

    Raises:
        ManifestError: a line is not a JSON object. If it is the first, the message says what the
            file seems to be instead.
    """
    decoded = decoded_lines(lines, source)
    is_first = True
    for number, text, where in decoded:
        try:
            found = json_object(text, where)
        except ManifestError:
            kind = None
            if is_first:
                whole = "\n".join([text, *(rest for _, rest, _ in decoded)])
                kind = _other_kind(whole.lstrip("\ufeff \t\r\n"), remedy)
            if kind is None:
                raise
            raise ManifestError(f"{source}: {kind}") from None
        yield number, where, found
        is_first = False


def decoded_lines(lines: Iterable[bytes], source: str) -> Iterator[tuple[int, str, str]]:
    """Lines of UTF-8 that are not blank, without their ends; of an array, its objects.

    Yields:
        Line number from 1, or place in the array; the text; and what to call it in an error.

    Raises:
        ManifestError: a line is not UTF-8, or the array is damaged.
    """
    array, numbered = _array_or_lines(lines, source)
    unit = "line"
    if array is not None:
        numbered, unit = enumerate(_items(array, source), start=1), "item"
    for number, line in numbered:
        yield number, line, f"{source}, {unit} {number}"


def holds_array(lines: Iterable[bytes]) -> bool:
    """Whether ``decoded_lines`` takes a file for an array."""
    with suppress(ManifestError):
        return _array_or_lines(lines, "")[0] is not None
    return False


def _array_or_lines(
    lines: Iterable[bytes], source: str
) -> tuple[str | None, Iterator[tuple[int, str]]]:
    """The text of an array of objects, None of anything else; and all lines."""
    numbered = _numbered(lines, source)
    first = next(numbered, None)
    if first is None:
        return None, numbered
    if not first[1].lstrip().startswith("["):
        return None, chain([first], numbered)
    known = [first, *numbered]
    text = "\n".join(line for _, line in known)
    return text if is_array(text) else None, iter(known)


def _numbered(lines: Iterable[bytes], source: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(lines, start=1):
        try:
            # Joined files have byte order marks in the middle.
            text = line.decode("utf-8").removeprefix("\ufeff").removesuffix("\n")
        except UnicodeDecodeError as error:
            raise _no_utf_8(f"{source}, line {number}", error) from None
        if text.strip():
            yield number, text


def _items(array: str, source: str) -> list[str]:
    try:
        items = json_value(array)
    except ValueError as error:
        raise ManifestError(f"{source}: not JSON ({one_line(error)}); write it again") from None
    return [json.dumps(item, ensure_ascii=False) for item in items]


def text_lines(file: IO[bytes], source: str) -> Iterator[bytes]:
    """The lines of a text file with their ends, gzipped or not, one at a time.

    Args:
        file: open at its start, with ``peek``.
        source: what to call the file in an error.

    Raises:
        ManifestError: it is no text, is damaged, or cannot be read.
    """
    try:
        with _gzip_errors(source):
            # Iterating splits at line feeds only: JSON strings may contain U+2028 and the like.
            unpacked: Any = file
            if unpacked.peek(len(GZIP)).startswith(GZIP):
                unpacked = gzip.GzipFile(fileobj=file)
            refuse_binary(unpacked.peek(_START_BYTES), source)
            while line := unpacked.readline(MOST_BYTES + 1):
                if len(line) > MOST_BYTES:
                    raise ManifestError(
                        f"{source}: has a line of more than {MOST_BYTES:,} bytes; {_ONE_PER_LINE}"
                    )
                yield line
    except OSError as error:
        raise ManifestError(f"{source}: cannot be read ({one_line(error)})") from None


@contextmanager
def open_lines(path: str | Place, source: str) -> Iterator[Iterator[bytes]]:
    """The lines of a text file, or of standard input ("-"); see ``text_lines``."""
    with rereadable(path, source) as file:
        yield text_lines(file, source)


def rereadable(path: str | Place, source: str) -> BinaryIO:
    """A file, or standard input ("-"), that can be read again: of a stream, a temporary copy.

    Raises ``ManifestError``, which calls the file ``source``.
    """
    if str(path) == "-":
        return _copied(sys.stdin.buffer, source)
    file = open_file(path, source)
    if file.seekable():
        return file
    with file:
        return _copied(file, source)


def _copied(stream: BinaryIO, source: str) -> BinaryIO:
    with copying(source), ExitStack() as stack:
        copy = stack.enter_context(tempfile.TemporaryFile())
        shutil.copyfileobj(stream, copy)
        copy.seek(0)  # which writes out what is buffered, too
        stack.pop_all()  # its reader closes it
    return copy


@contextmanager
def copying(source: str) -> Iterator[None]:
    """Turn errors of reading a stream and writing its temporary copy into ``ManifestError``."""
    try:
        yield
    except OSError as error:
        raise ManifestError(
            f"{source}: cannot be copied to a temporary file ({one_line(error)}); set TMPDIR to a "
            "folder with room, or give a plain file"
        ) from None


def from_start(file: BinaryIO) -> BufferedReader:
    """Another reader of an open file, with a place of its own, at the start."""
    return BufferedReader(_Reader(file.fileno()), _BUFFER_BYTES)


class _Reader(RawIOBase):
    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._place = descriptor, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        starts = {os.SEEK_SET: 0, os.SEEK_CUR: self._place}
        start = starts[whence] if whence in starts else os.fstat(self._descriptor).st_size
        self._place = start + offset
        return self._place

    def readinto(self, buffer: Any) -> int:
        found = os.pread(self._descriptor, len(buffer), self._place)
        buffer[: len(found)] = found
        self._place += len(found)
        return len(found)


def _other_kind(text: str, remedy: str) -> str | None:
    """What a text is if its first line is not a JSON object, and the remedy; None if unknown."""
    first, _, rest = text.partition("\n")
    try:
        whole = json_value(text)
    except ValueError:
        whole = None
    if isinstance(whole, list):
        return "is one JSON array, but not of objects; write one object per recording"
    if isinstance(whole, dict):
        return "is one JSON object over several lines; write it on one: jq -c . FILE"
    if first.startswith(("{", "[")):
        if "\r{" in first:
            return "ends its lines with carriage returns; convert it: tr '\\r' '\\n'"
        if first.strip() in ("{", "["):
            return f"contains JSON over several lines; {_ONE_PER_LINE}: jq -c . FILE"
        return None
    if first.startswith("<"):
        return f"is HTML or XML; {remedy}"
    if first.startswith(("- ", "---", "# ")):
        return f"is not JSON Lines, but looks like YAML; {remedy}"
    second = rest.partition("\n")[0]
    for name, separator in (("TSV", "\t"), ("CSV", ","), ("CSV", ";")):
        columns = first.count(separator)
        if columns and ("audio" in first.lower() or second.count(separator) == columns):
            return f"is not JSON Lines, but looks like {name}; {remedy}"
    words = first.split(None, 1)
    if len(words) == 1 and first.rstrip().lower().endswith(_RECORDINGS):
        return f"is not JSON Lines, but a list of recordings; {remedy}"
    if len(words) == 2 and first[0].isalnum():
        return f"is not JSON Lines, but looks like Kaldi's (an id, then the rest); {remedy}"
    return None
