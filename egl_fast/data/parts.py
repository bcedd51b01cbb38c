"""The parts of an audio file: byte ranges that each hold one complete stream.

Most files have one part. ``cat a.mp3 b.mp3`` makes a file of two, and decoders stop after the
first. Other files were written before their length was known, and give it as 0 or as the largest
number that fits. A part has a header with the correct length, so that decoders read to the end.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import BinaryIO

from egl_fast.data.file_bytes import FileBytes
from egl_fast.data.mpeg_frames import mpeg_parts, skip_tag
from egl_fast.data.pieces import Pieces

#: This many bytes do not repeat by chance.
_SIGN_BYTES = 16

_FLAC = b"fLaC"

#: How a FLAC stream starts: sign, then a block of type 0 and 34 bytes, which may be the last.
_FLAC_STARTS = (b"fLaC\0\0\0\x22", b"fLaC\x80\0\0\x22")

#: Sign, block header, four block and frame sizes; then rate, channels, width, and, in 36 bits, the
#: number of samples.
_FLAC_RATE_AT = 18
_FLAC_HEADER_BYTES = 42

#: The start of Sony Wave64's first name.
_W64_START = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb"

#: A WAV's codes for MPEG audio: layers 1 and 2, and layer 3.
_MPEG_CODECS = (0x50, 0x55)

#: The largest 32-bit size means that the size is elsewhere, or unknown.
_LARGEST = 0xFFFFFFFF


@dataclass(frozen=True)
class Part:
    """What a decoder gets to see.

    Attributes:
        pieces: byte ranges of the file, and headers that replace its own.
        promised_frames: number of frames according to the replaced header; 0 if there is none.
        seconds: its length, if known although its header lacks it. A decoder that guesses the
            length from the number of bytes must then be told a large number.
    """

    pieces: Pieces
    promised_frames: int = 0
    seconds: float | None = None


@dataclass(frozen=True)
class Recording:
    """An open file; equal to another if a glance at both shows no difference.

    Attributes:
        file: open for reading.
        num_bytes: its size.
        identity: distinguishes it from others of that size.
    """

    file: BinaryIO = field(compare=False)
    num_bytes: int
    identity: tuple[int, ...]


# Segments of one long recording tend to follow each other, and finding the parts may mean reading
# all of it.
@lru_cache(maxsize=64)
def parts_of(recording: Recording) -> tuple[Part, ...]:
    """The parts of a file, in order: at least one. Raises OSError if it cannot be read."""
    source = FileBytes(recording.file, recording.num_bytes)
    start = skip_tag(source, 0)
    head = source.at(start, 12)
    found: Iterator[Part]
    if head[:4] == _FLAC:
        found = _flac_parts(source, start)
    elif head[:4] == b"OggS":
        found = _ogg_parts(source, start)
    elif head[:4] in (b"RIFF", b"RF64") and head[8:] == b"WAVE":
        found = _wav_parts(source, start)
    elif head[:4] == b".snd":
        found = _joined_parts(source, start, _au_size)
    elif head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC"):
        found = _joined_parts(source, start, _aiff_size)
    elif head == _W64_START:
        found = _joined_parts(source, start, _w64_size)
    elif head[:4] == b"caff":
        found = _caf_parts(source, start)
    else:
        found = (Part(spans, seconds=s) for spans, s in mpeg_parts(source, start))
    return tuple(found) or (Part((range(source.size),)),)


def _flac_parts(source: FileBytes, start: int) -> Iterator[Part]:
    starts = sorted(offset for sign in _FLAC_STARTS for offset in source.find_all(sign, start))
    for first, stop in zip(starts, [*starts[1:], source.size], strict=True):
        header = bytearray(source.at(first, _FLAC_HEADER_BYTES))
        fields = int.from_bytes(header[_FLAC_RATE_AT : _FLAC_RATE_AT + 8], "big")
        promised = fields % 2**36
        # 0 means unknown, and makes the decoder continue to the end.
        unknown = fields - promised
        header[_FLAC_RATE_AT : _FLAC_RATE_AT + 8] = unknown.to_bytes(8, "big")
        yield Part((bytes(header), range(first + len(header), stop)), promised)


def _ogg_parts(source: FileBytes, start: int) -> Iterator[Part]:
    first, in_headers = start, True
    for offset, is_first_page in _ogg_pages(source, start):
        # Streams that run side by side all begin before any of them continues.
        if is_first_page and not in_headers:
            yield Part((range(first, offset),))
            first = offset
        in_headers = is_first_page
    yield Part((range(first, source.size),))


def _ogg_pages(source: FileBytes, offset: int) -> Iterator[tuple[int, bool]]:
    """Where pages start, and whether each begins a stream."""
    while offset < source.size:
        head = source.at(offset, 27)
        if head[:4] != b"OggS" or len(head) < 27:
            offset = source.find(b"OggS\0", offset + 1)
            continue
        yield offset, bool(head[5] & 2)
        segments = source.at(offset + 27, head[26])
        offset += 27 + len(segments) + sum(segments)


def ogg_is_cut_short(recording: Recording) -> bool:
    """Whether the last page is incomplete; nothing else in an Ogg file tells its length."""
    recording.file.seek(max(0, recording.num_bytes - 2**16))
    end = recording.file.read()
    page = end[max(0, end.rfind(b"OggS\0")) :]
    if len(page) <= 26:
        return True
    segments = page[27:][: page[26]]
    return len(page) < 27 + page[26] + sum(segments)


def _wav_parts(source: FileBytes, start: int) -> Iterator[Part]:
    while start < source.size:
        start, parts = _wav(source, start)
        yield from parts


def _wav(source: FileBytes, start: int) -> tuple[int, list[Part]]:
    """Where a WAV ends, and its parts."""
    size = source.size
    offset, codec, size_64 = start + 12, 0, 0
    stop, data, format_chunk = size, range(size, size), range(0)
    whole: Pieces = ()
    while offset + 8 <= size and not whole:
        name, length = _chunk(source, offset)
        content = offset + 8
        if name in (b"RIFF", b"RF64") and source.at(content, 4) == b"WAVE":
            stop = offset
            break
        if not _is_chunk_name(name):
            break
        if name == b"ds64":
            size_64 = int.from_bytes(source.at(content + 8, 8), "little")
        if name == b"fmt ":
            codec = int.from_bytes(source.at(content, 2), "little")
            format_chunk = range(offset, content + length + length % 2)
        if name == b"data":
            length = size_64 if length == _LARGEST else length
            if len(data) > 0 and length > 0:
                raise ValueError(
                    "it has two chunks of samples, and decoders read only one; convert it with "
                    "ffmpeg"
                )
            unknown = length == 0 and size > content and not _are_chunks(source, content)
            if unknown or content + length > size:
                stop = _next_wav(source, content)
            data = range(content, stop if unknown else min(content + length, stop))
            if unknown:
                whole = _sized_wav(source.at(format_chunk.start, len(format_chunk)), data)
        offset = content + length + length % 2
    if codec in _MPEG_CODECS:
        mpeg = mpeg_parts(FileBytes(source.file, data.stop), data.start)
        streams = [Part(spans, seconds=s) for spans, s in mpeg]
        if streams:
            return stop, streams
    return stop, [Part(whole or (range(start, stop),))]


def _next_wav(source: FileBytes, start: int) -> int:
    """Where another WAV begins after one of unknown size."""
    for offset in source.find_all(b"WAVEfmt ", start + 8):
        if source.at(offset - 8, 4) in (b"RIFF", b"RF64"):
            return offset - 8
    return source.size


def _chunk(source: FileBytes, offset: int) -> tuple[bytes, int]:
    name, length = struct.unpack("<4sI", source.at(offset, 8).ljust(8, b"\0"))
    return name, length


def _is_chunk_name(name: bytes) -> bool:
    return all(32 <= byte < 127 for byte in name)


def _are_chunks(source: FileBytes, start: int) -> bool:
    """Whether the rest of a file consists of chunks."""
    while start + 8 <= source.size:
        name, length = _chunk(source, start)
        if not _is_chunk_name(name):
            return False
        start += 8 + length + length % 2
    return start in (source.size, source.size + 1)


def _sized_wav(format_chunk: bytes, samples: range) -> Pieces:
    """A WAV with the correct number of samples."""
    whole = 4 + len(format_chunk) + 8 + len(samples)
    if whole < _LARGEST:
        riff = struct.pack("<4sI4s", b"RIFF", whole, b"WAVE")
        return (riff + format_chunk + struct.pack("<4sI", b"data", len(samples)), samples)
    # RF64 has 64-bit sizes.
    riff = struct.pack("<4sI4s", b"RF64", _LARGEST, b"WAVE")
    sizes = struct.pack("<4sIQQQI", b"ds64", 28, whole + 36, len(samples), 0, 0)
    return (riff + sizes + format_chunk + struct.pack("<4sI", b"data", _LARGEST), samples)


def _joined_parts(source: FileBytes, start: int, size_of: Callable[[bytes], int]) -> Iterator[Part]:
    """Files one after another, each of which tells its size in its first 24 bytes."""
    while start < source.size:
        head = source.at(start, 24).ljust(24, b"\0")
        stop = start + size_of(head)
        if not start < stop < source.size or source.at(stop, 4) != head[:4]:
            stop = source.size
        yield Part((range(start, stop),))
        start = stop


def _au_size(head: bytes) -> int:
    _, offset, length = struct.unpack_from(">4sII", head)
    return int(offset + length)


def _aiff_size(head: bytes) -> int:
    length = int.from_bytes(head[4:8], "big")
    return 8 + length + length % 2


def _w64_size(head: bytes) -> int:
    length = int.from_bytes(head[16:24], "little")
    return length + -length % 8


def _caf_parts(source: FileBytes, start: int) -> Iterator[Part]:
    """A size of -1 means that the last one's samples extend to the file's end."""
    offset, size = start + 8, source.size
    while offset + 12 <= size:
        name, length = struct.unpack(">4sq", source.at(offset, 12))
        if name == b"caff":
            yield Part((range(start, offset),))
            start, offset = offset, offset + 8
            continue
        if name == b"data" and length == -1:
            head = source.at(start, offset + 4 - start) + struct.pack(">q", size - offset - 12)
            yield Part((head, range(offset + 12, size)))
            return
        if length < 0:
            break
        offset += 12 + length
    yield Part((range(start, size),))


def starts_again(recording: Recording) -> bool:
    """Whether the start of a file occurs in it a second time, as in two joined files."""
    source = FileBytes(recording.file, recording.num_bytes)
    return source.find(source.at(0, _SIGN_BYTES), 1) < source.size
