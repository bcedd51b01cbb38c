"""The forms of a scores file: what `score` writes, and the tables of `simulate`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from egl_fast.data.json_reading import decoded_lines, json_lines, json_object, rereadable
from egl_fast.data.parquet_records import is_parquet, is_written_here, record_lines
from egl_fast.errors import ManifestError, one_line
from egl_fast.scores import REMEDY

if TYPE_CHECKING:
    import polars as pl

Record = dict[str, Any]
_T = TypeVar("_T")

#: Bytes between two reports of progress.
_STEP = 2**20


def read_records(
    path: Path, advance: Callable[[int], None] | None = None
) -> Iterator[tuple[str, Record]]:
    """All records of a scores file, in its order; its content decides how it is read, not its name.

    Args:
        path: the file.
        advance: told now and then how many more bytes have been read.

    Yields:
        What to call the record's place in an error, and the record; that of a table of `simulate`
        without its hypotheses, which are large.

    Raises:
        ManifestError: the file cannot be read; the message names the line.
    """
    advance = advance or (lambda more: None)
    if _is_table(path):
        rows = _frame(path).drop("hypotheses", strict=False).iter_rows(named=True)
        for number, record in enumerate(rows, start=1):
            yield f"scores {path}, row {number}", record
        advance(path.stat().st_size)
        return
    with _lines(path, advance) as lines:
        for _, where, record in json_lines(lines, f"scores {path}", remedy=REMEDY):
            yield where, record


def records_at(
    path: Path, places: Collection[int], total: int, make: Callable[[int, Record], _T] | None = None
) -> list[_T]:
    """Some records, whole, read again from the file.

    Args:
        path: the file.
        places: positions in the order of ``read_records``.
        total: how many records there were.
        make: given a place and its record, what to keep of it, because thousands of records with
            their hypotheses may not fit in memory; None: all of it.

    Raises:
        ManifestError: the file has changed since.
    """
    wanted, found = set(places), dict[int, _T]()
    with suppress(ManifestError):
        for place, record in _some(path, wanted, total):
            if isinstance(record.get("id"), str):
                found[place] = cast(_T, record) if make is None else make(place, record)
    if len(found) < len(wanted):
        raise ManifestError(f"scores {path}: changed while it was being read")
    return [found[place] for place in places]


def _some(path: Path, places: set[int], total: int) -> Iterator[tuple[int, Record]]:
    if _is_table(path):
        frame = _frame(path)
        if frame.height == total:
            yield from zip(sorted(places), frame[sorted(places)].iter_rows(named=True), strict=True)
        return
    with _lines(path) as lines:
        written = islice(decoded_lines(lines, f"scores {path}"), max(places, default=-1) + 1)
        for place, (_, text, where) in enumerate(written):
            if place in places:
                yield place, json_object(text, where)


def _is_table(path: Path) -> bool:
    """Whether a file is Parquet, but not from `score`."""
    try:
        return is_parquet(path) and not is_written_here(path)
    except OSError:  # Reading it will say what is wrong.
        return False


@contextmanager
def _lines(
    path: Path, advance: Callable[[int], None] = lambda more: None
) -> Iterator[Iterator[bytes]]:
    def counted(lines: Iterable[bytes]) -> Iterator[bytes]:
        unsaid = 0
        for line in lines:
            yield line
            unsaid += len(line)
            if unsaid > _STEP:
                advance(unsaid)
                unsaid = 0
        advance(unsaid)

    source = f"scores {path}"
    with rereadable(path, source) as file:
        lines = record_lines(file, source)
        if not is_parquet(path):
            yield counted(lines)
            return
        yield lines
        advance(path.stat().st_size)


def _frame(path: Path) -> pl.DataFrame:
    import polars as pl

    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ManifestError(f"scores {path}: cannot be read ({one_line(error)})") from None
