"""Pieces of a file, and bytes between them, read as if they were one file."""

from __future__ import annotations

import io
from bisect import bisect_right
from itertools import accumulate
from typing import BinaryIO, TypeAlias

#: Literal bytes, and byte ranges of a file.
Pieces: TypeAlias = tuple["bytes | range", ...]

#: An ID3v1 tag is the last 128 bytes of a file.
_TAG_BYTES = 128


class PieceReader:
    """What soundfile needs of a file object.

    It is called from C, where an exception would be printed and taken for the end of the file: a
    failing read ends the file, and leaves its error in ``error``.

    Args:
        file: the file that ranges refer to.
        pieces: what to read, in order.
        claimed_bytes: the size to claim to decoders that stop early in small files. Reading still
            ends after the pieces, except that the last bytes of the claimed size, where decoders
            look for a tag, are zeros.
    """

    def __init__(self, file: BinaryIO, pieces: Pieces, claimed_bytes: int = 0) -> None:
        self.error: OSError | None = None
        self._file = file
        self._pieces = pieces
        self._starts = [0, *accumulate(len(piece) for piece in pieces)]
        self._claimed_end = max(claimed_bytes, self._starts[-1])
        self._position = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As for any file."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._claimed_end}[whence]
        # As in any file, an offset before the start is refused, and the position does not change.
        if base + offset >= 0:
            self._position = base + offset
        return self._position

    def tell(self) -> int:
        """As for any file."""
        return self._position

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; fewer only at the end."""
        if self._position >= self._claimed_end - _TAG_BYTES > self._starts[-1]:
            return bytes(min(size, self._claimed_end - self._position))
        parts = []
        while size > 0 and self._position < self._starts[-1]:
            part = self._read_of_one_piece(size)
            if not part:
                break
            parts.append(part)
            self._position += len(part)
            size -= len(part)
        return b"".join(parts)

    def _read_of_one_piece(self, size: int) -> bytes:
        number = bisect_right(self._starts, self._position) - 1
        inside = self._position - self._starts[number]
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
        """Never called, but soundfile requires it."""
        raise NotImplementedError
