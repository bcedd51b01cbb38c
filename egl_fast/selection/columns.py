"""Records of which only a few keys are kept, each as a column."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

#: Records that are held at once while columns are filled.
_BLOCK = 1024


class Columns(Sequence[Mapping[str, Any]]):
    """Records whose keys are kept as columns once somebody asks for them.

    Args:
        read: gives all records, from the start at each call.
        keys: what to keep from the first reading on; another key costs another reading.
        others: keys that are read along with it, since whoever asks for it may ask for these.
    """

    def __init__(
        self,
        read: Callable[[], Iterable[Mapping[str, Any]]],
        keys: Iterable[str],
        *,
        others: Iterable[str] = (),
    ) -> None:
        self._read, self._others = read, tuple(others)
        self._columns: dict[str, Sequence[Any]] = {}
        self._length = self._keep(keys)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        """The record at a place, as far as it is kept."""
        return {key: column[index] for key, column in self._columns.items()}

    def column(self, key: str) -> Sequence[Any]:
        """What every record holds under a key; None where it holds nothing.

        Returns:
            [n]; an ``array`` if all are of type ``float``.
        """
        if key not in self._columns:
            self._keep([key, *self._others])
        return self._columns[key]

    def part(self, indices: Sequence[int]) -> Columns:
        """Some of the records."""
        return _Part(self, indices)

    def _keep(self, keys: Iterable[str]) -> int:
        columns = {key: _Column() for key in keys if key not in self._columns}
        records, length = iter(self._read()), 0
        while block := list(islice(records, _BLOCK)):
            length += len(block)
            for key, column in columns.items():
                column.extend([record.get(key) for record in block])
        self._columns |= {key: column.values for key, column in columns.items()}
        return length


class _Part(Columns):
    """Some records of others, their columns taken when they are asked for."""

    def __init__(self, whole: Columns, indices: Sequence[int]) -> None:
        self._whole, self._indices = whole, indices
        super().__init__(lambda: (), ())

    def _keep(self, keys: Iterable[str]) -> int:
        for key in keys:
            column = self._whole.column(key)
            some = [column[index] for index in self._indices]
            self._columns[key] = array("d", some) if isinstance(column, array) else some
        return len(self._indices)


class _Column:
    """Values of any kind, in eight bytes each as long as all are floats."""

    def __init__(self) -> None:
        self.values: array[float] | list[Any] = array("d")

    def extend(self, values: list[Any]) -> None:
        if isinstance(self.values, array) and set(map(type, values)) != {float}:
            self.values = self.values.tolist()
        self.values.extend(values)
