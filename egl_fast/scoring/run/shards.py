"""Parts of a pool for runs side by side, whose scores are those of a single run to the bit.

Batches are formed within windows of the manifest, so a part of whole windows is scored as it would
be among the others. Windows are dealt out in turn: a manifest that is sorted by length, or by
anything else, gives parts of about the same work.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

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

    def of(self, pool: Sequence[_T]) -> list[_T]:
        """Its part of a pool, in order; may be empty.

        Example:
            >>> [len(Shard(number, 3).of(range(200))) for number in (1, 2, 3)]
            [72, 64, 64]
        """
        starts = range((self.number - 1) * WINDOW, len(pool), self.count * WINDOW)
        return [one for start in starts for one in pool[start : start + WINDOW]]
