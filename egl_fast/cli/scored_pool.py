"""The scores file that ``select`` chooses from: read for a few keys, then for what is picked."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

from egl_fast.data.json_reading import (
    decoded_lines,
    from_start,
    json_lines,
    json_object,
    rereadable,
    text_lines,
)
from egl_fast.data.manifest import seconds_of
from egl_fast.data.unique_ids import without_repeats
from egl_fast.errors import ManifestError
from egl_fast.records import STRATEGIES
from egl_fast.selection.columns import Columns

Record = dict[str, Any]


class ScoredPool:
    """A scores file, or standard input ("-"), that is read as often as needed.

    Raises ``ManifestError`` if it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._source = "scores from standard input" if path == "-" else f"scores {path}"
        self._file = rereadable(path, self._source)

    def __enter__(self) -> ScoredPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[Record]:
        """All records in order, without blank lines.

        Raises:
            ManifestError: there is none, or a line is not a record of an utterance of its own.
        """

        def named() -> Iterator[tuple[str, tuple[int, str, Record]]]:
            for number, where, record in json_lines(self._lines(), self._source):
                _refuse_other_records(record, where)
                yield record["id"], (number, where, record)

        def repeated(
            identity: str, first: tuple[int, str, Record], again: tuple[int, str, Record]
        ) -> ManifestError:
            return ManifestError(
                f"{again[1]}: id {identity!r} is already on line {first[0]}; "
                "a recording need be transcribed only once: remove one of the lines"
            )

        is_empty = True
        for _, _, record in without_repeats(named, repeated):
            is_empty = False
            yield record
        if is_empty:
            raise ManifestError(
                f"{self._source}: contains no records; write it with `egl-fast score`"
            )

    def columns(self, keys: Iterable[str]) -> Columns:
        """The records as far as they are needed: these keys, and any other at a second reading."""
        return Columns(lambda: self, keys, others=STRATEGIES)

    def records_at(self, places: Collection[int], ids: Sequence[str]) -> list[Record]:
        """Some records, whole.

        Args:
            places: where, in the order of the file.
            ids: of all records.

        Raises:
            ManifestError: the file has changed since it was read.
        """
        wanted, last = set(places), max(places, default=-1)
        found: dict[int, Record] = {}
        with suppress(ManifestError):
            for place, (_, text, where) in enumerate(decoded_lines(self._lines(), self._source)):
                if place > last:
                    break
                if place in wanted:
                    record = json_object(text, where)
                    if record.get("id") != ids[place]:
                        break
                    # Each line has its own copy of every key.
                    found[place] = {sys.intern(key): value for key, value in record.items()}
        if len(found) < len(wanted):
            raise ManifestError(f"{self._source}: changed while it was being read")
        return [found[place] for place in places]

    def _lines(self) -> Iterator[bytes]:
        return text_lines(from_start(self._file), self._source)


def _refuse_other_records(record: Record, where: str) -> None:
    if not isinstance(record.get("id"), str):
        raise ManifestError(
            f"{where}: has no 'id'; is this a scores file written by `egl-fast score`?"
        )
    seconds_of(record, "duration", where)
