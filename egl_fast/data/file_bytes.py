"""Random access to the bytes of a file; small steps forward cost no system call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

_WINDOW_BYTES = 2**18


class FileBytes:
    """Bytes of a file, read a window at a time.

    Not memory-mapped: where a disk fails, a map would kill the process, and a read raises OSError.

    Args:
        file: open for reading.
        size: where searches end.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size = file, size
        self._start, self._window = 0, b""

    def at(self, offset: int, length: int) -> bytes:
        """Bytes from an offset on; fewer at the file's end."""
        inside = self._load(offset, length)
        return self._window[inside : inside + length]

    def find(self, sign: bytes, start: int) -> int:
        """Where a few bytes come next; ``size`` if they do not."""
        while start < self.size:
            length = min(_WINDOW_BYTES // 2, self.size - start)
            inside = self._load(start, length)
            found = self._window.find(sign, inside, inside + length)
            if found >= 0:
                return self._start + found
            start += max(1, length - len(sign) + 1)
        return self.size

    def find_all(self, sign: bytes, start: int) -> Iterator[int]:
        """Every offset of a few bytes."""
        while (start := self.find(sign, start)) < self.size:
            yield start
            start += len(sign)

    def _load(self, offset: int, length: int) -> int:
        """Bring bytes into the window; returns where in it they begin."""
        inside = offset - self._start
        if not 0 <= inside <= len(self._window) - length:
            self.file.seek(offset)
            self._start, self._window = offset, self.file.read(max(length, _WINDOW_BYTES))
            inside = 0
        return inside
