"""The parts of an audio file: byte ranges that each hold one complete stream.

Most files are one part. ``cat a.mp3 b.mp3`` makes a file of two, and decoders stop after the first.
Other files carry a length that was unknown when it was written: 0, or the largest number that fits.
A part replaces such a header by one that holds the truth, so that decoders read to the end.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import BinaryIO

from egl_fast.data.mpeg_frames import mpeg_parts, skip_tag
from egl_fast.data.pieces import Pieces

#: Bytes that are searched at a time.
_WINDOW = 2**20

#: So many bytes do not come twice by chance.
_SIGN_BYTES = 16

_FLAC = b"fLaC"

#: What a FLAC stream starts with: sign, then a block of type 0 and 34 bytes, which may be the last.
_FLAC_STARTS = (b"fLaC\0\0\0\x22", b"fLaC\x80\0\0\x22")

#: Sign, block header, four block and frame sizes; then rate, channels, width and, in 36 bits, the
#: number of samples.
_FLAC_RATE_AT = 18
_FLAC_HEADER_BYTES = 42

#: The start of Sony Wave64's first name.
_W64_START = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb"

#: What a WAV calls MPEG audio: layers 1 and 2, and 3.
_MPEG_CODECS = (0x50, 0x55)

#: The largest size that 32 bits hold stands for one that is elsewhere, or unknown.
_LARGEST = 0xFFFFFFFF


@dataclass(frozen=True)
class Part:
    """What a decoder is shown.

    Attributes:
        pieces: of the file, and headers to put in place of its own.
        promised_frames: how many frames the header promised that was replaced; 0: none.
        seconds: how long it is, where that is known and its header does not tell. A decoder that
            guesses from the number of bytes must be told of many.
    """

    pieces: Pieces
    promised_frames: int = 0
    seconds: float | None = None


@dataclass(frozen=True)
class Recording:
    """An open file, equal to another of the same content as far as can be told at a glance.

    Attributes:
        file: open for reading.
        num_bytes: its size.
        identity: what tells it from others of that size.
    """

    file: BinaryIO = field(compare=False)
    num_bytes: int
    identity: tuple[int, ...]


# Segments of one long recording tend to follow each other, and finding parts takes a look at all
# of its bytes.
@lru_cache(maxsize=64)
def parts_of(recording: Recording) -> tuple[Part, ...]:
    """The parts of a file, in order: at least one.

    Raises:
        OSError: the file cannot be read.
    """
    file, size = recording.file, recording.num_bytes
    start = skip_tag(file, 0)
    file.seek(start)
    head = file.read(12)
    found: Iterator[Part]
    if head[:4] == _FLAC:
        found = _flac_parts(file, start, size)
    elif head[:4] == b"OggS":
        found = _ogg_parts(file, start, size)
    elif head[:4] in (b"RIFF", b"RF64") and head[8:] == b"WAVE":
        found = _wav_parts(file, start, size)
    elif head[:4] == b".snd":
        found = _joined_parts(file, start, size, _au_size)
    elif head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC"):
        found = _joined_parts(file, start, size, _aiff_size)
    elif head == _W64_START:
        found = _joined_parts(file, start, size, _w64_size)
    elif head[:4] == b"caff":
        found = _caf_parts(file, start, size)
    else:
        found = (Part(spans, seconds=s) for spans, s in mpeg_parts(file, start, size))
    return tuple(found) or (Part((range(size),)),)


def _flac_parts(file: BinaryIO, start: int, size: int) -> Iterator[Part]:
    starts = sorted(place for sign in _FLAC_STARTS for place in _places(file, sign, start, size))
    for first, stop in zip(starts, [*starts[1:], size], strict=True):
        file.seek(first)
        header = bytearray(file.read(_FLAC_HEADER_BYTES))
        fields = int.from_bytes(header[_FLAC_RATE_AT : _FLAC_RATE_AT + 8], "big")
        promised = fields % 2**36
        # 0 stands for unknown, and makes the decoder go on to the end.
        unknown = fields - promised
        header[_FLAC_RATE_AT : _FLAC_RATE_AT + 8] = unknown.to_bytes(8, "big")
        yield Part((bytes(header), range(first + len(header), stop)), promised)


def _places(file: BinaryIO, sign: bytes, start: int, stop: int) -> Iterator[int]:
    """Every place of a few bytes in a file."""
    overlap = len(sign) - 1
    while start < stop:
        file.seek(start)
        window = file.read(_WINDOW + overlap)
        place = window.find(sign)
        while place >= 0:
            yield start + place
            place = window.find(sign, place + len(sign))
        start += _WINDOW


def _ogg_parts(file: BinaryIO, start: int, size: int) -> Iterator[Part]:
    first, in_headers = start, True
    for place, is_first_page in _ogg_pages(file, start, size):
        # Streams that run side by side all begin before any of them goes on.
        if is_first_page and not in_headers:
            yield Part((range(first, place),))
            first = place
        in_headers = is_first_page
    yield Part((range(first, size),))


def _ogg_pages(file: BinaryIO, start: int, size: int) -> Iterator[tuple[int, bool]]:
    """Where the pages start, and whether each begins a stream."""
    place = start
    while place < size:
        file.seek(place)
        head = file.read(27)
        if head[:4] != b"OggS" or len(head) < 27:
            place = next(_places(file, b"OggS\0", place + 1, size), size)
            continue
        yield place, bool(head[5] & 2)
        segments = file.read(head[26])
        place += 27 + len(segments) + sum(segments)


def ogg_is_cut_short(recording: Recording) -> bool:
    """Whether the last page is not all there; nothing else in an Ogg file tells of its length."""
    file, size = recording.file, recording.num_bytes
    start = max(0, size - 2**16)
    file.seek(start)
    end = file.read()
    page = end[max(0, end.rfind(b"OggS\0")) :]
    if len(page) <= 26:
        return True
    segments = page[27:][: page[26]]
    return len(page) < 27 + page[26] + sum(segments)


def _wav_parts(file: BinaryIO, start: int, size: int) -> Iterator[Part]:
    while start < size:
        start, parts = _wav(file, start, size)
        yield from parts


def _wav(file: BinaryIO, start: int, size: int) -> tuple[int, list[Part]]:
    """Where a WAV ends, and what to read of it."""
    place, codec, size_64 = start + 12, 0, 0
    stop, data = size, range(size, size)
    whole: Pieces = ()
    while place + 8 <= size and not whole:
        name, length = _chunk(file, place)
        content = place + 8
        if name in (b"RIFF", b"RF64") and _bytes_at(file, content, 4) == b"WAVE":
            stop = place
            break
        if not _is_chunk_name(name):
            break
        if name == b"ds64":
            size_64 = int.from_bytes(_bytes_at(file, content + 8, 8), "little")
        if name == b"fmt ":
            codec = int.from_bytes(_bytes_at(file, content, 2), "little")
        if name == b"data":
            length = size_64 if length == _LARGEST else length
            if len(data) > 0 and length > 0:
                raise ValueError(
                    "it has two chunks of samples, of which decoders read one; convert it by ffmpeg"
                )
            unknown = length == 0 and size > content and not _are_chunks(file, content, size)
            if unknown or content + length > size:
                stop = _next_wav(file, content, size)
            data = range(content, stop if unknown else min(content + length, stop))
            if unknown:
                whole = _sized_wav(_bytes_at(file, start + 12, place - start - 12), data)
        place = content + length + length % 2
    if codec in _MPEG_CODECS:
        streams = [Part(spans, seconds=s) for spans, s in mpeg_parts(file, data.start, data.stop)]
        if streams:
            return stop, streams
    return stop, [Part(whole or (range(start, stop),))]


def _next_wav(file: BinaryIO, start: int, size: int) -> int:
    """Where another WAV begins, behind one of unknown size."""
    for place in _places(file, b"WAVEfmt ", start + 8, size):
        if _bytes_at(file, place - 8, 4) in (b"RIFF", b"RF64"):
            return place - 8
    return size


def _chunk(file: BinaryIO, place: int) -> tuple[bytes, int]:
    file.seek(place)
    name, length = struct.unpack("<4sI", file.read(8).ljust(8, b"\0"))
    return name, length


def _is_chunk_name(name: bytes) -> bool:
    return all(32 <= byte < 127 for byte in name)


def _are_chunks(file: BinaryIO, start: int, size: int) -> bool:
    """Whether a range is filled with chunks and nothing else."""
    while start + 8 <= size:
        name, length = _chunk(file, start)
        if not _is_chunk_name(name):
            return False
        start += 8 + length + length % 2
    return start in (size, size + 1)


def _sized_wav(chunks: bytes, samples: range) -> Pieces:
    """A WAV of the format that its first chunks tell, with the size of its samples."""
    kept = b""
    place = 0
    while place + 8 <= len(chunks):
        length = struct.unpack_from("<I", chunks, place + 4)[0]
        stop = place + 8 + length + length % 2
        if chunks[place : place + 4] == b"fmt ":
            kept = chunks[place:stop]
        place = stop
    whole = 4 + len(kept) + 8 + len(samples)
    if whole < _LARGEST:
        riff = struct.pack("<4sI4s", b"RIFF", whole, b"WAVE")
        return (riff + kept + struct.pack("<4sI", b"data", len(samples)), samples)
    # RF64 has sizes of 64 bits.
    riff = struct.pack("<4sI4s", b"RF64", _LARGEST, b"WAVE")
    sizes = struct.pack("<4sIQQQI", b"ds64", 28, whole + 36, len(samples), 0, 0)
    return (riff + sizes + kept + struct.pack("<4sI", b"data", _LARGEST), samples)


def _joined_parts(
    file: BinaryIO, start: int, size: int, end_of: Callable[[bytes], int]
) -> Iterator[Part]:
    """Files that follow each other, each of which tells its size at its start.

    Args:
        file: open for reading.
        start: where the first begins.
        size: where the last ends.
        end_of: a file's size by its first 24 bytes.
    """
    while start < size:
        file.seek(start)
        head = file.read(24).ljust(24, b"\0")
        stop = start + end_of(head)
        if not start < stop < size or _bytes_at(file, stop, 4) != head[:4]:
            stop = size
        yield Part((range(start, stop),))
        start = stop


def _bytes_at(file: BinaryIO, place: int, length: int) -> bytes:
    file.seek(place)
    return file.read(length)


def _au_size(head: bytes) -> int:
    _, offset, length = struct.unpack_from(">4sII", head)
    return int(offset + length)


def _aiff_size(head: bytes) -> int:
    length = int.from_bytes(head[4:8], "big")
    return 8 + length + length % 2


def _w64_size(head: bytes) -> int:
    length = int.from_bytes(head[16:24], "little")
    return length + -length % 8


def _caf_parts(file: BinaryIO, start: int, size: int) -> Iterator[Part]:
    """The samples of the last one may go on to the end, which is said by a size of -1."""
    place = start + 8
    while place + 12 <= size:
        file.seek(place)
        name, length = struct.unpack(">4sq", file.read(12))
        if name == b"caff":
            yield Part((range(start, place),))
            start, place = place, place + 8
            continue
        if name == b"data" and length == -1:
            file.seek(start)
            head = file.read(place + 4 - start) + struct.pack(">q", size - place - 12)
            yield Part((head, range(place + 12, size)))
            return
        if length < 0:
            break
        place += 12 + length
    yield Part((range(start, size),))


def starts_again(recording: Recording) -> bool:
    """Whether what a file starts with is in it a second time, as if it were two, joined."""
    recording.file.seek(0)
    sign = recording.file.read(_SIGN_BYTES)
    return any(_places(recording.file, sign, 1, recording.num_bytes))
