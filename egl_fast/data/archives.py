"""Recordings inside other files: ``shard.tar::a/b.wav``, ``data.parquet::audio/17``.

A path of that form counts only where no file has it as its name. Members of tar archives are named;
rows of Parquet and Arrow tables are COLUMN/ROW, counted from 0.
"""

from __future__ import annotations

import os
import tarfile
import threading
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from egl_fast.errors import AudioError, MissingExtraError, one_line

if TYPE_CHECKING:
    import pyarrow
    import pyarrow.parquet

#: Between the path of an archive and what is inside.
MEMBER: Final = "::"

#: How files begin.
_PARQUET: Final = b"PAR1"
_ARROW: Final = (b"ARROW1", b"\xff\xff\xff\xff")

#: A group of rows of Parquet is decoded as a whole: once, not by each thread.
_ONE_AT_A_TIME = threading.Lock()


def bytes_inside(path: Path) -> bytes | None:
    """A recording inside another file; None if the path names none.

    Raises:
        AudioError: the archive lacks it, is damaged, or is of a kind that cannot be read here.
        OSError: the archive cannot be read.
    """
    text = os.fspath(path)
    place = text.find(MEMBER)
    while place > 0 and not os.path.isfile(text[:place]):
        place = text.find(MEMBER, place + 1)
    if place <= 0:
        return None
    archive, inside = Path(text[:place]), text[place + len(MEMBER) :]
    with open(archive, "rb") as file:
        status, sign = os.fstat(file.fileno()), file.read(6)
    version = (os.fspath(archive), status.st_mtime_ns, status.st_size)
    try:
        if sign.startswith(_PARQUET):
            return _parquet_cell(version, *_cell(inside))
        if sign.startswith(_ARROW):
            column, row = _cell(inside)
            return _bytes_of(arrow_table(archive)[column][row].as_py())
        return _tar_member(version, inside)
    except (KeyError, IndexError):
        raise AudioError(
            f"audio {archive}: contains no {inside!r}; make the manifest again"
        ) from None
    except tarfile.TarError as error:
        raise AudioError(
            f"audio {archive}: cannot be read as a tar archive ({one_line(error)}); if it is "
            "compressed, decompress it"
        ) from None


def tar_members(archive: Path) -> dict[str, range]:
    """Where the files in a tar archive are. Raises ``tarfile.TarError``, ``OSError``."""
    status = archive.stat()
    return _tar_index((os.fspath(archive), status.st_mtime_ns, status.st_size))


#: Path, time of modification, size.
_Version = tuple[str, int, int]


@lru_cache(maxsize=64)
def _tar_index(version: _Version) -> dict[str, range]:
    with tarfile.open(version[0], "r:") as archive:
        return {
            member.name: range(member.offset_data, member.offset_data + member.size)
            for member in archive
            if member.isreg() and not member.issparse()  # whose size is not that in the archive
        }


def _tar_member(version: _Version, name: str) -> bytes:
    place = _tar_index(version)[name]
    with open(version[0], "rb") as file:
        file.seek(place.start)
        return file.read(len(place))


def _cell(inside: str) -> tuple[str, int]:
    column, _, row = inside.rpartition("/")
    if not row.isdecimal() or len(row) > 18:
        raise KeyError(inside)
    return column, int(row)


def _bytes_of(value: Any) -> bytes:
    content = value["bytes"] if isinstance(value, dict) else value
    if not isinstance(content, bytes):
        raise KeyError("no bytes")
    return content


def _parquet_cell(version: _Version, column: str, row: int) -> bytes:
    pyarrow_for(version[0])
    with _ONE_AT_A_TIME:
        _, starts = _parquet_file(version)
        group = max(i for i, start in enumerate(starts) if start <= row)
        cells = _parquet_group(version, group, column)
    return _bytes_of(cells[row - starts[group]].as_py())


@lru_cache(maxsize=64)
def _parquet_file(version: _Version) -> tuple[pyarrow.parquet.ParquetFile, list[int]]:
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(version[0])
    starts = [0]
    for group in range(file.num_row_groups - 1):
        starts.append(starts[-1] + file.metadata.row_group(group).num_rows)
    return file, starts


@lru_cache(maxsize=2)
def _parquet_group(version: _Version, group: int, column: str) -> pyarrow.ChunkedArray:
    return _parquet_file(version)[0].read_row_group(group, columns=[column])[column]


def arrow_table(path: Path) -> pyarrow.Table:
    """A table that ``save_to_disk`` wrote, mapped into memory."""
    pyarrow_for(path)
    status = path.stat()
    return _arrow_table((os.fspath(path), status.st_mtime_ns, status.st_size))


@lru_cache(maxsize=64)
def _arrow_table(version: _Version) -> pyarrow.Table:
    import pyarrow

    mapped = pyarrow.memory_map(version[0])
    try:
        return pyarrow.ipc.open_stream(mapped).read_all()
    except pyarrow.ArrowInvalid:
        return pyarrow.ipc.open_file(mapped).read_all()


def pyarrow_for(path: str | Path) -> None:
    """Raise ``MissingExtraError`` if pyarrow is not installed, which a file needs."""
    if find_spec("pyarrow") is None:
        raise MissingExtraError(f"{path}: needs pyarrow: pip install 'egl-fast[datasets]'")
