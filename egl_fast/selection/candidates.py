"""Scored utterances, as strategies see them."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from egl_fast.errors import SelectionError
from egl_fast.records import ScoreRecord
from egl_fast.selection.columns import Columns

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_T = TypeVar("_T")

_OF_RECORDS = {field.name for field in fields(ScoreRecord)}

#: A record of this process, or an object read from a scores file.
Scored: TypeAlias = ScoreRecord | Mapping[str, Any]


@dataclass(frozen=True)
class Candidates:
    """Utterances to choose from.

    Attributes:
        records: what is known of each; ``Columns`` where a million would not fit in memory.
        embeddings: [n, d], see ``egl_fast.embeddings``; None where none were kept.
    """

    records: Sequence[Scored]
    embeddings: npt.NDArray[np.floating] | None = None

    def __len__(self) -> int:
        return len(self.records)

    def once(self, name: str, make: Callable[[], _T]) -> _T:
        """Something that depends on the candidates alone, made when it is first asked for."""
        kept: dict[str, _T] = self.__dict__.setdefault("_kept", {})
        if name not in kept:
            kept[name] = make()
        return kept[name]

    def part(self, indices: Sequence[int]) -> Candidates:
        """Some of the utterances, in the order of the indices."""
        records = self.records
        return Candidates(
            records.part(indices)
            if isinstance(records, Columns)
            else [records[index] for index in indices],
            None if self.embeddings is None else self.embeddings[list(indices)],
        )

    def numbers(self, key: str) -> list[float]:
        """The value of a key in every record.

        Raises:
            SelectionError: a record has no finite number there; the message names it.
        """
        if isinstance(self.records, Columns):
            column = self.records.column(key)
            if isinstance(column, array) and all(map(math.isfinite, column)):
                return column.tolist()
        return [self.number(index, key) for index in range(len(self))]

    def number(self, index: int, key: str) -> float:
        """The value of a key in one record.

        Raises:
            SelectionError: it is not a finite number.
        """
        value = self.value(index, key)
        if value is None:
            raise SelectionError(
                f"{self.name(index)} holds no {key}; score the pool again, all in one run"
            )
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not -math.inf < value < math.inf:
            raise SelectionError(
                f"{self.name(index)}: its {key} is {value!r}, not a finite number; "
                "score the pool again"
            )
        number: float = value
        return number

    def values(self, key: str) -> Iterator[Any]:
        """What every record holds under a key; None where it holds nothing."""
        if isinstance(self.records, Columns):
            return iter(self.records.column(key))
        return (self.value(index, key) for index in range(len(self)))

    def value(self, index: int, key: str) -> Any:
        """What a record holds under a key; None where it holds nothing."""
        if isinstance(self.records, Columns):
            return self.records.column(key)[index]
        record = self.records[index]
        if isinstance(record, Mapping):
            return record.get(key)
        return getattr(record, key) if key in _OF_RECORDS else record.manifest.get(key)

    def name(self, index: int) -> str:
        """What to call a record in a message."""
        identity = self.value(index, "id")
        return f"record {index + 1}" + ("" if identity is None else f" ({identity!r})")

    def require_embeddings(self, wanted_by: str) -> npt.NDArray[np.floating]:
        """The embeddings.

        Raises:
            SelectionError: none were kept.
        """
        if self.embeddings is None:
            raise SelectionError(
                f"{wanted_by}: needs the embeddings of the pool, which `egl-fast score "
                "--typicality --out` keeps beside the scores; select from that file, which a pipe "
                "or a list of records cannot replace"
            )
        return self.embeddings
