"""The records of a scores file, together with what is kept beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, eq=False, repr=False)
class Scores(Sequence[dict[str, Any]]):
    """A sequence of records. It cannot be reordered, which would leave its embeddings behind.

    Attributes:
        records: n objects of a scores file, in its order.
        metadata: what ``SCORES.meta.json`` holds; empty if there is no such file.
        embeddings: [n, d], one row for each record; None if the pool was scored without
            ``--typicality``.
    """

    records: Sequence[dict[str, Any]]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    embeddings: npt.NDArray[np.floating] | None = None

    def __len__(self) -> int:
        return len(self.records)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Scores: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | Scores:
        """One record, or some of them with their embeddings."""
        if not isinstance(index, slice):
            return self.records[index]
        embeddings = None if self.embeddings is None else self.embeddings[index]
        return Scores(self.records[index], self.metadata, embeddings)

    def __repr__(self) -> str:
        return f"Scores({len(self):,} records)"
