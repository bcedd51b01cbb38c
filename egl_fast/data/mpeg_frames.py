"""MPEG audio (MP3 and its older layers), frame by frame.

An MP3's only header is a table that some encoders put into a silent first frame (Xing, Info, VBRI):
it gives the number of frames that follow. Without it, decoders guess the length from the size of
the first frame; if it is wrong, they stop early. Here, every frame is counted.

Source: ISO/IEC 11172-3 and 13818-3, section 2.4.2.3 (frame header).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from egl_fast.data.file_bytes import FileBytes

#: kbit/s by (is version 1, layer); index 0 is the free rate, whose frames do not tell their length.
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

#: How many more frames there may be than a table says: encoders disagree on whether the first
#: frame counts, and add silence.
_ALLOWED_EXTRA_FRAMES = 3

#: How many frames of one format in a row prove that they are frames.
_FRAMES_IN_A_ROW = 3

_TABLE_BYTES = 64


class _Header(NamedTuple):
    version: int
    layer: int
    rate_hz: int
    is_mono: bool
    num_bytes: int

    @property
    def format(self) -> tuple[int, int, int, bool]:
        """What the frames of one stream have in common."""
        return self[:4]

    @property
    def seconds(self) -> float:
        samples = 384 if self.layer == 1 else 576 if self.layer == 3 and self.version != 3 else 1152
        return samples / self.rate_hz


@lru_cache(maxsize=4096)
def _parsed(header: bytes) -> _Header | None:
    """A frame's header from four bytes; None if they do not start a frame of known length."""
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
        spans: the byte ranges of its frames.
        seconds: its length if no table gives it, or a wrong one, which is then left out.
    """

    spans: tuple[range, ...]
    seconds: float | None


def _frame(source: FileBytes, offset: int) -> _Header | None:
    """The header of a frame, if all of the frame is there."""
    header = _parsed(source.at(offset, 4))
    return header if header is not None and offset + header.num_bytes <= source.size else None


def _frames_start(source: FileBytes, offset: int) -> bool:
    """Whether several frames of one format start here, or as many as there is room for."""
    header = first = _frame(source, offset)
    for _ in range(_FRAMES_IN_A_ROW):
        if first is None or header is None or header.format != first.format:
            return False
        offset += header.num_bytes
        if offset + 4 > source.size or source.at(offset, 3) in (b"TAG", b"ID3", b"APE"):
            return True
        header = _parsed(source.at(offset, 4))  # the last frame may be cut off
    return True


class _Run:
    """Frames of one stream, as they are found."""

    def __init__(self, header: _Header, offset: int, promised: int | None) -> None:
        self.format = header.format
        self.frame_seconds = header.seconds
        self.promised = promised
        self.table_end = None if promised is None else offset + header.num_bytes
        self.spans: list[range] = []
        self.num_frames = 0

    @property
    def num_with_sound(self) -> int:
        return self.num_frames - (self.promised is not None)

    def add(self, offset: int, header: _Header) -> None:
        stop = offset + header.num_bytes
        if self.spans and self.spans[-1].stop == offset:
            self.spans[-1] = range(self.spans[-1].start, stop)
        else:
            self.spans.append(range(offset, stop))
        self.num_frames += 1

    def stream(self) -> MpegStream:
        if (
            self.promised is not None
            and self.num_with_sound <= self.promised + _ALLOWED_EXTRA_FRAMES
        ):
            return MpegStream(tuple(self.spans), None)
        if self.table_end is not None:
            self.spans[0] = range(self.table_end, self.spans[0].stop)
        return MpegStream(tuple(self.spans), self.num_with_sound * self.frame_seconds)


def mpeg_parts(source: FileBytes, offset: int) -> Iterator[MpegStream]:
    """The streams of an MPEG audio file, without tags and junk; none of any other file.

    A new stream begins with each table of frames, and where rate, layer, or channels change.
    """
    run: _Run | None = None
    while offset + 4 <= source.size:
        header = _frame(source, offset)
        changes = header is None or run is None or header.format != run.format
        if changes and not _frames_start(source, offset):
            skipped = skip_tag(source, offset)
            if (run is None or run.num_with_sound == 0) and skipped == offset:
                return  # not MPEG audio, or of a free bit rate
            offset = skipped if skipped > offset else source.find(b"\xff", offset + 1)
            continue
        assert header is not None
        promised = _promised_frames(source.at(offset, _TABLE_BYTES), header)
        if run is None or changes or promised is not None:
            if run is not None and run.num_with_sound > 0:
                yield run.stream()
            run = _Run(header, offset, promised)
        run.add(offset, header)
        offset += header.num_bytes
    if run is not None:
        yield run.stream()


def _promised_frames(frame: bytes, header: _Header) -> int | None:
    """The number of frames in a frame's table; None without a table, 0 if it lacks the number."""
    if header.layer != 3:
        return None
    side_info_bytes = (32, 17) if header.version == 3 else (17, 9)  # stereo, mono
    for checksum_bytes in (0, 2):
        offset = 4 + side_info_bytes[header.is_mono] + checksum_bytes
        if frame[offset : offset + 4] in (b"Xing", b"Info"):
            flags, promised = frame[offset + 4 : offset + 8], frame[offset + 8 : offset + 12]
            has_number = int.from_bytes(flags, "big") & 1 and len(promised) == 4
            return int.from_bytes(promised, "big") if has_number else 0
    if frame[36:40] == b"VBRI":
        return int.from_bytes(frame[50:54], "big")
    return None


def skip_tag(source: FileBytes, offset: int) -> int:
    """Where a tag (ID3, APE) that starts at an offset ends; the same offset if there is none."""
    while True:
        head = source.at(offset, 32)
        if head[:3] == b"ID3" and len(head) >= 10 and max(head[6:10]) < 128:
            length = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
            offset += 10 + length + (10 if head[5] & 0x10 else 0)
        elif head[:3] == b"TAG":
            offset += 128
        elif head[:8] == b"APETAGEX" and len(head) == 32:
            length = int.from_bytes(head[12:16], "little")
            # The size counts what follows the header, or what precedes the footer and includes it.
            offset += 32 + (length if head[23] & 0x20 else 0)
        else:
            return offset
