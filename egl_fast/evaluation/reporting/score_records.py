"""The two forms of a scores file: JSON Lines from `score`, Parquet from `simulate`."""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from egl_fast.data.json_reading import json_object, open_lines
from egl_fast.errors import ManifestError, one_line

if TYPE_CHECKING:
    import polars as pl

Record = dict[str, Any]

_PARQUET = b"PAR1"
#: Bytes between two reports of progress.
_STEP = 2**20


class ScoreRecords(Protocol):
    """Records that are read once in order, and then again one by one."""

    def read(self, advance: Callable[[int], None] | None) -> Iterator[tuple[str, Record]]:
        """All records in the file's order.

        Args:
            advance: told now and then how many more bytes have been read.

        Yields:
            What to call the place in an error, and its record.

        Raises:
            ManifestError: the file cannot be read; the message names the line.
        """

    def at(self, indices: Iterable[int]) -> list[Record]:
        """Whole records, read again from the file.

        Args:
            indices: positions in the order of ``read``, which has been gone through.

        Raises:
            ManifestError: the file has changed since.
        """


def score_records(path: Path) -> ScoreRecords:
    """The records of a scores file; what it holds decides how it is read, not its name."""
    try:
        with open(path, "rb") as file:
            is_parquet = file.read(len(_PARQUET)) == _PARQUET
    except OSError:  # which reading it will explain
        is_parquet = False
    return _Parquet(path) if is_parquet else _JsonLines(path)


class _JsonLines:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.starts = array("q")

    def read(self, advance: Callable[[int], None] | None) -> Iterator[tuple[str, Record]]:
        source = f"scores {self.path}"
        try:
            with open_lines(self.path, source) as file:
                start = said = 0
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        self.starts.append(start)
                        where = f"{source}, line {number}"
                        yield where, json_object(line.removeprefix(b"\xef\xbb\xbf"), where)
                    start += len(line)
                    if advance is not None and start - said > _STEP:
                        advance(start - said)
                        said = start
                if advance is not None:
                    advance(start - said)
        except (OSError, EOFError, zlib.error) as error:
            raise ManifestError(f"{source}: cannot be read ({one_line(error)})") from None

    def at(self, indices: Iterable[int]) -> list[Record]:
        source = f"scores {self.path}"
        found = []
        with open_lines(self.path, source) as file:
            for index in indices:
                file.seek(self.starts[index])
                try:
                    record = json_object(file.readline(), source)
                except ManifestError:
                    record = {}
                if not isinstance(record.get("id"), str):
                    raise _changed(self.path)
                found.append(record)
        return found


class _Parquet:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.num_rows = 0

    def read(self, advance: Callable[[int], None] | None) -> Iterator[tuple[str, Record]]:
        frame = self._frame()
        self.num_rows = frame.height
        # Hypotheses are large, and wanted only for the few records that are shown.
        rows = frame.drop("hypotheses", strict=False).iter_rows(named=True)
        for number, record in enumerate(rows, start=1):
            yield f"scores {self.path}, row {number}", record
        if advance is not None:
            advance(self.path.stat().st_size)

    def at(self, indices: Iterable[int]) -> list[Record]:
        frame = self._frame()
        if frame.height != self.num_rows or "id" not in frame.columns:
            raise _changed(self.path)
        return frame[list(indices)].to_dicts()

    def _frame(self) -> pl.DataFrame:
        import polars as pl

        try:
            return pl.read_parquet(self.path)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise ManifestError(f"scores {self.path}: cannot be read ({one_line(error)})") from None


def _changed(path: Path) -> ManifestError:
    return ManifestError(f"scores {path}: changed while it was being read")
