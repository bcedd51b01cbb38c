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
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from egl_fast.errors import AudioError, MissingExtraError, one_line
from egl_fast.files.addresses import Address, Place
from egl_fast.files.remote import Version, read_part, reading, version_of

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


def bytes_inside(path: Place) -> bytes | None:
    """A recording inside another file; None if the path names none.

    Raises:
        AudioError: the archive lacks it, is damaged, or is of a kind that cannot be read here.
        OSError: the archive cannot be read.
    """
    found = path.inside if isinstance(path, Address) else _split(os.fspath(path))
    if found is None:
        return None
    archive, inside = found
    version = version_of(archive)
    try:
        sign = _sign_of(version)
        if sign.startswith(_PARQUET):
            return _parquet_cell(version, *_cell(inside))
        if sign.startswith(_ARROW):
            column, row = _cell(inside)
            return _bytes_of(arrow_table(Path(archive))[column][row].as_py())
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


def _split(text: str) -> tuple[Path, str] | None:
    """An archive on the disk, and what of it is meant."""
    place = text.find(MEMBER)
    while place > 0 and not os.path.isfile(text[:place]):
        place = text.find(MEMBER, place + 1)
    return None if place <= 0 else (Path(text[:place]), text[place + len(MEMBER) :])


@lru_cache(maxsize=64)
def _sign_of(version: Version) -> bytes:
    return reading(version[0], lambda file: file.read(6))


def tar_members(archive: Place) -> dict[str, range]:
    """Where the files in a tar archive are. Raises ``tarfile.TarError``, ``OSError``."""
    return _tar_index(version_of(archive))


@lru_cache(maxsize=64)
def _tar_index(version: Version) -> dict[str, range]:
    def index(file: BinaryIO) -> dict[str, range]:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            return {
                member.name: range(member.offset_data, member.offset_data + member.size)
                for member in archive
                if member.isreg() and not member.issparse()  # whose size is not that in the archive
            }

    return reading(version[0], index, passing=(tarfile.TarError,))


def _tar_member(version: Version, name: str) -> bytes:
    return read_part(version[0], _tar_index(version)[name])


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


def _parquet_cell(version: Version, column: str, row: int) -> bytes:
    pyarrow_for(str(version[0]))
    with _ONE_AT_A_TIME:
        _, starts = _parquet_facts(version)
        group = max(i for i, start in enumerate(starts) if start <= row)
        cells = _parquet_group(version, group, column)
    return _bytes_of(cells[row - starts[group]].as_py())


@lru_cache(maxsize=64)
def _parquet_facts(version: Version) -> tuple[pyarrow.parquet.FileMetaData, list[int]]:
    """The metadata of a file, and the rows at which its groups start."""
    import pyarrow.parquet

    metadata = reading(version[0], lambda file: pyarrow.parquet.ParquetFile(file).metadata)
    starts = [0]
    for group in range(metadata.num_row_groups - 1):
        starts.append(starts[-1] + metadata.row_group(group).num_rows)
    return metadata, starts


@lru_cache(maxsize=2)
def _parquet_group(version: Version, group: int, column: str) -> pyarrow.ChunkedArray:
    import pyarrow.parquet

    metadata, _ = _parquet_facts(version)

    def rows(file: BinaryIO) -> pyarrow.Table:
        table = pyarrow.parquet.ParquetFile(file, metadata=metadata)
        return table.read_row_group(group, columns=[column])

    return reading(version[0], rows)[column]


def arrow_table(path: Path) -> pyarrow.Table:
    """A table that ``save_to_disk`` wrote, mapped into memory."""
    pyarrow_for(path)
    return _arrow_table(version_of(path))


@lru_cache(maxsize=64)
def _arrow_table(version: Version) -> pyarrow.Table:
    import pyarrow

    mapped = pyarrow.memory_map(os.fspath(version[0]))
    try:
        return pyarrow.ipc.open_stream(mapped).read_all()
    except pyarrow.ArrowInvalid:
        return pyarrow.ipc.open_file(mapped).read_all()


def pyarrow_for(path: str | Path) -> None:
    """Raise ``MissingExtraError`` if pyarrow is not installed, which a file needs."""
    if find_spec("pyarrow") is None:
        raise MissingExtraError(f"{path}: needs pyarrow: pip install 'egl-fast[datasets]'")
