"""The parts of a torch file: uncompressed members of a zip archive.

A zip archive can lie: its directory can claim enormous sizes, point several members at the same
bytes, or name a member twice. ``torch.save`` does none of that, and neither compresses nor
encrypts, so the members of an honest file fit into it side by side. All other files are refused.
"""

from __future__ import annotations

import io
import sys
import zipfile
from typing import Any, Final

from egl_fast.display import shown
from egl_fast.errors import one_line
from egl_fast.torch_file.pickled import plain_content

#: A model has about fifty members, a training state three times as many.
MAX_MEMBERS: Final = 10_000

#: Every entry of a zip archive's directory begins with this.
_ENTRY: Final = b"PK\x01\x02"

_INDEX: Final = "data.pkl"


class NotAnArchiveError(ValueError):
    """The bytes are not a zip archive, or not a complete one."""


class NotATorchFileError(ValueError):
    """The archive was not written by ``torch.save``; ``names`` are its members'."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(names)
        self.names = names

    def __str__(self) -> str:
        return "has no index"


def torch_content(content: bytes) -> Any:
    """What ``torch.save`` put into a file, from the bytes of all of it.

    Returns:
        Plain values and dense CPU tensors, as described for ``plain_content``.

    Raises:
        NotAnArchiveError: it is not an archive, or an incomplete one.
        NotATorchFileError: it is another kind of archive.
        ValueError: it is damaged, or not as written by ``torch.save``; the message says how.
    """
    # The directory may claim any number of entries, so they are counted before it is read.
    if content.count(_ENTRY) > MAX_MEMBERS:
        raise ValueError(f"has more than {MAX_MEMBERS:,} parts")
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except Exception:  # A damaged directory can fail in any way.
        raise NotAnArchiveError("is not a zip archive") from None
    with archive:
        names = archive.namelist()
        below = {name.partition("/")[2] for name in names}
        if _INDEX not in below or "constants.pkl" in below:
            raise NotATorchFileError(names)
        members = _members(archive, len(content))

        def read(name: str) -> bytes:
            if name not in members:
                raise ValueError(f"lacks its part {shown(name)}")
            try:
                return archive.read(members[name])
            except Exception as error:  # So can a damaged member.
                raise ValueError(f"part {shown(name)}: {one_line(error)}") from None

        if "byteorder" in members and read("byteorder") != sys.byteorder.encode():
            raise ValueError(f"was written on a machine that is not {sys.byteorder}-endian")
        for name in members:
            if not name.startswith("data/"):  # members that the index reads itself
                read(name)  # for its checksum
        return plain_content(read(_INDEX), lambda key: read(f"data/{key}"))


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """The members by their names below the archive's only folder."""
    members: dict[str, zipfile.ZipInfo] = {}
    root = archive.namelist()[0].partition("/")[0]
    for info in archive.infolist():
        folder, _, name = info.filename.partition("/")
        if folder != root or folder in ("", ".", ".."):
            raise ValueError(f"has a part outside its folder ({shown(info.filename)})")
        if info.flag_bits & 0x1:
            raise ValueError(f"is encrypted (part {shown(info.filename)})")
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise ValueError(f"is compressed (part {shown(info.filename)})")
        if name in members:
            raise ValueError(f"has its part {shown(name)} twice")
        size -= info.file_size
        if size < 0:
            raise ValueError("has parts that overlap, or are larger than the file")
        members[name] = info
    return members
