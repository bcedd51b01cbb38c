"""Parts of a pool for parallel runs, whose scores equal those of a single run to the bit.

Batches are formed within windows of the manifest, so a part made of whole windows is scored as it
would be in the whole pool. Windows are dealt out in turn, so that a manifest sorted by length, or
by anything else, gives parts with about the same amount of work.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar, overload

from egl_fast.scoring.run.outcome import WINDOW

_T = TypeVar("_T")


@dataclass(frozen=True)
class Shard:
    """One of ``count`` parts of a pool, numbered from 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From ``I/N``; raises ``ValueError`` if it is something else."""
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise ValueError(f"expected I/N with I from 1 to N, such as 3/8, got {text!r}")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def of(self, pool: Sequence[_T], *, limit: int | None = None) -> Part[_T]:
        """Its part of a pool, in order; may be empty.

        Args:
            pool: any sequence, of which slices are taken when their turn comes.
            limit: how many of the pool are divided, from its start; None: all.

        Example:
            >>> [len(Shard(number, 3).of(range(200))) for number in (1, 2, 3)]
            [72, 64, 64]
        """
        return Part(pool, self, len(pool) if limit is None else min(limit, len(pool)))


#: All of a pool.
WHOLE = Shard(1, 1)


class Part(Sequence[_T]):
    """Windows of a pool that belong to a shard, read on request."""

    def __init__(self, pool: Sequence[_T], shard: Shard, size: int) -> None:
        self._pool, self._size = pool, size
        self._starts = range((shard.number - 1) * WINDOW, size, shard.count * WINDOW)

    def __len__(self) -> int:
        if not self._starts:
            return 0
        return (len(self._starts) - 1) * WINDOW + min(WINDOW, self._size - self._starts[-1])

    def __iter__(self) -> Iterator[_T]:
        for start in self._starts:
            yield from self._pool[start : min(start + WINDOW, self._size)]

    @overload
    def __getitem__(self, index: int) -> _T: ...
    @overload
    def __getitem__(self, index: slice) -> list[_T]: ...
    def __getitem__(self, index: int | slice) -> _T | list[_T]:
        """One, or a list of some."""
        places = range(len(self))[index]
        if isinstance(places, int):
            return self._pool[self._in_pool(places)]
        if places.step != 1:
            return [self[place] for place in places]
        found: list[_T] = []
        place = places.start
        while place < places.stop:  # window by window: a pool may read a whole one for each request
            count = min(WINDOW - place % WINDOW, places.stop - place)
            start = self._in_pool(place)
            found += self._pool[start : start + count]
            place += count
        return found

    def _in_pool(self, place: int) -> int:
        return self._starts[place // WINDOW] + place % WINDOW
