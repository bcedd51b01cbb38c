"""MPEG audio (MP3 and its older layers) frame by frame.

An MP3 has no header but a table that some encoders put into a first frame without sound, called
Xing, Info or VBRI: how many frames follow. Without it decoders guess the length from the size of
the first frame, and where it is wrong, they stop too early. Here every frame is counted.

Source: ISO/IEC 11172-3 and 13818-3, section 2.4.2.3 (frame header).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import BinaryIO, NamedTuple

#: kbit/s by (is version 1, layer); index 0 stands for a free rate, whose frames tell no length.
_KBITS = {
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}

#: Hz by the two bits of the version; 1 is reserved.
_RATES_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}

#: A count of frames that is off by this much at most is taken for right: encoders disagree on
#: whether the first frame counts, and add silence of their own.
_ALLOWED_EXTRA_FRAMES = 3

#: Frames in a row, of one format, that make it certain that these are frames.
_FRAMES_IN_A_ROW = 3

_WINDOW = 2**20
_TABLE_BYTES = 64


class _Header(NamedTuple):
    """Of one frame."""

    version: int
    layer: int
    rate_hz: int
    is_mono: bool
    num_bytes: int

    @property
    def format(self) -> tuple[int, int, int, bool]:
        """What frames that belong together have in common."""
        return self[:4]

    @property
    def seconds(self) -> float:
        """How long it sounds."""
        samples = 384 if self.layer == 1 else 576 if self.layer == 3 and self.version != 3 else 1152
        return samples / self.rate_hz


@lru_cache(maxsize=4096)
def _parsed(header: bytes) -> _Header | None:
    """A frame's four bytes, or None where they start no frame of known length."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    bit_rate, rate = header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or layer == 4 or rate == 3 or bit_rate in (0, 15) or header[3] & 3 == 2:
        return None
    rate_hz = _RATES_HZ[version][rate]
    bits = 1000 * _KBITS[version == 3, layer][bit_rate]
    padding = header[2] >> 1 & 1
    if layer == 1:
        num_bytes = 4 * (12 * bits // rate_hz + padding)
    else:
        halves = 72 if layer == 3 and version != 3 else 144
        num_bytes = halves * bits // rate_hz + padding
    return _Header(version, layer, rate_hz, header[3] >> 6 == 3, num_bytes)


class MpegStream(NamedTuple):
    """One stream of frames.

    Attributes:
        spans: the bytes of its frames.
        seconds: how long it is, if no table tells, or a wrong one: then the table is left out.
    """

    spans: tuple[range, ...]
    seconds: float | None


class _Window:
    """Random access to a few bytes of a file, most of it forward."""

    def __init__(self, file: BinaryIO, stop: int) -> None:
        self._file, self.stop = file, stop
        self._start, self._bytes = 0, b""

    def at(self, place: int, length: int) -> bytes:
        inside = place - self._start
        if not 0 <= inside <= len(self._bytes) - length:
            self._file.seek(place)
            self._start, self._bytes = place, self._file.read(_WINDOW)
            inside = 0
        return self._bytes[inside : inside + length]

    def frame(self, place: int) -> _Header | None:
        """The header of a frame that is all there."""
        header = _parsed(self.at(place, 4))
        return header if header is not None and place + header.num_bytes <= self.stop else None

    def row(self, place: int) -> bool:
        """Whether frames of one format follow each other from here on, to the end if need be."""
        first = self.frame(place)
        header = first
        for _ in range(_FRAMES_IN_A_ROW):
            if first is None or header is None or header.format != first.format:
                return False
            place += header.num_bytes
            if place + 4 > self.stop or self.at(place, 3) in (b"TAG", b"ID3", b"APE"):
                return True
            # The last one may be cut off.
            header = _parsed(self.at(place, 4))
        return True


class _Run:
    """Frames of one stream, as they are found."""

    def __init__(self, header: _Header, place: int, promised: int | None) -> None:
        self.format = header.format
        self.frame_seconds = header.seconds
        self.promised = promised
        self.table_end = None if promised is None else place + header.num_bytes
        self.spans: list[range] = []
        self.num_frames = 0

    def add(self, place: int, header: _Header) -> None:
        stop = place + header.num_bytes
        if self.spans and self.spans[-1].stop == place:
            self.spans[-1] = range(self.spans[-1].start, stop)
        else:
            self.spans.append(range(place, stop))
        self.num_frames += 1

    def stream(self) -> MpegStream:
        """What was found."""
        found = self.num_frames - (self.promised is not None)
        if self.promised is not None and found <= self.promised + _ALLOWED_EXTRA_FRAMES:
            return MpegStream(tuple(self.spans), None)
        spans = list(self.spans)
        if self.table_end is not None:
            spans[0] = range(self.table_end, spans[0].stop)
        return MpegStream(tuple(spans), found * self.frame_seconds)


def mpeg_parts(file: BinaryIO, start: int, size: int) -> Iterator[MpegStream]:
    """The streams of an MPEG audio file, without tags and junk; none for any other file.

    A new one begins with each table of frames, and where rate, layer or channels change.
    """
    window = _Window(file, size)
    run: _Run | None = None
    place = start
    while place + 4 <= size:
        header = window.frame(place)
        changes = header is None or run is None or header.format != run.format
        if changes and not window.row(place):
            skipped = skip_tag(file, place)
            no_frames = run is None or run.num_frames == (run.promised is not None)
            if no_frames and skipped == place:
                return  # no MPEG audio, or of a free bit rate
            place = skipped if skipped > place else _next_sync(window, place + 1)
            continue
        assert header is not None
        promised = _promised_frames(window.at(place, _TABLE_BYTES), header)
        if run is None or changes or promised is not None:
            if run is not None and run.num_frames > (run.promised is not None):
                yield run.stream()
            run = _Run(header, place, promised)
        run.add(place, header)
        place += header.num_bytes
    if run is not None:
        yield run.stream()


def _next_sync(window: _Window, place: int) -> int:
    while place < window.stop:
        found = window.at(place, min(_WINDOW // 2, window.stop - place)).find(b"\xff")
        if found >= 0:
            return place + found
        place += _WINDOW // 2
    return window.stop


def _side_info_bytes(header: _Header) -> int:
    if header.version == 3:
        return 17 if header.is_mono else 32
    return 9 if header.is_mono else 17


def _promised_frames(frame: bytes, header: _Header) -> int | None:
    """How many frames the table in a frame promises, or None where the frame holds no table.

    A table without that number promises none.
    """
    if header.layer != 3:
        return None
    for place in (4 + _side_info_bytes(header) + 2 * c for c in range(2)):
        if frame[place : place + 4] in (b"Xing", b"Info"):
            flags, promised = struct.unpack_from(">II", frame, place + 4)
            return promised if flags & 1 else 0
    if frame[36:40] == b"VBRI":
        return int.from_bytes(frame[50:54], "big")
    return None


def skip_tag(file: BinaryIO, place: int) -> int:
    """Where a tag ends that starts there (ID3, APE), or the same place where none does."""
    while True:
        file.seek(place)
        head = file.read(32)
        if head[:3] == b"ID3" and len(head) >= 10 and max(head[6:10]) < 128:
            length = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
            place += 10 + length + (10 if head[5] & 0x10 else 0)
        elif head[:3] == b"TAG":
            place += 128
        elif head[:8] == b"APETAGEX" and len(head) == 32:
            length = int.from_bytes(head[12:16], "little")
            # The size counts what follows the header, or what comes before the footer and it.
            place += 32 + (length if head[23] & 0x20 else 0)
        else:
            return place
