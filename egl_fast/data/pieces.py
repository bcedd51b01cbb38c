"""Pieces of a file, and bytes that stand between them, read as if they were a file."""

from __future__ import annotations

import io
from bisect import bisect_right
from itertools import accumulate
from typing import BinaryIO, TypeAlias

#: Bytes as they are, and ranges of a file's bytes.
Pieces: TypeAlias = tuple["bytes | range", ...]

#: An ID3v1 tag is the last 128 bytes of a file.
_TAG_BYTES = 128


class PieceReader:
    """What soundfile asks of a file object.

    It is called from C, where an exception would be printed and taken for the file's end: a read
    that fails ends the file, and leaves its error in ``error``.

    Args:
        file: the file that ranges are of.
        pieces: what to read, in order.
        claimed_bytes: say that there are so many bytes, to a decoder that stops early if it takes
            the file for short. Reading still ends where the pieces end, but for the very last bytes
            claimed, where a decoder looks for a tag and finds zeros.
    """

    def __init__(self, file: BinaryIO, pieces: Pieces, claimed_bytes: int = 0) -> None:
        self.error: OSError | None = None
        self._file = file
        self._pieces = pieces
        self._starts = [0, *accumulate(len(piece) for piece in pieces)]
        self._claimed_end = max(claimed_bytes, self._starts[-1])
        self._place = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As of any file."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._claimed_end}[whence]
        # As with a system's files, a place before the start is refused, and nothing moves.
        if base + offset >= 0:
            self._place = base + offset
        return self._place

    def tell(self) -> int:
        """As of any file."""
        return self._place

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; fewer at the end only."""
        if self._place >= self._claimed_end - _TAG_BYTES > self._starts[-1]:
            return bytes(min(size, self._claimed_end - self._place))
        parts = []
        while size > 0 and self._place < self._starts[-1]:
            part = self._read_of_one_piece(size)
            if not part:
                break
            parts.append(part)
            self._place += len(part)
            size -= len(part)
        return b"".join(parts)

    def _read_of_one_piece(self, size: int) -> bytes:
        number = bisect_right(self._starts, self._place) - 1
        inside = self._place - self._starts[number]
        piece = self._pieces[number][inside : inside + size]
        if isinstance(piece, bytes):
            return piece
        try:
            self._file.seek(piece.start)
            return self._file.read(len(piece))
        except OSError as error:
            self.error = error
            return b""

    def write(self, data: bytes) -> int:
        """Never called: the file is open for reading. soundfile looks for it."""
        raise NotImplementedError
