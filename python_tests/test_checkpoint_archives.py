"""Zip archives that lie about their parts are refused, and no more is read than the file has."""

from __future__ import annotations

import builtins
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch_archives as made
from recordings import random_checkpoint
from torch_archives import refusal, zipped

from egl_fast.checkpoint import checkpoint_content, load_checkpoint
from egl_fast.features import MAX_OVERLAP, MAX_WINDOW_SAMPLES, FeatureConfig
from egl_fast.torch_file.archive import MAX_MEMBERS
from egl_fast.torch_file.pickled import MAX_PROGRAM_BYTES, MAX_STEPS


def patched(archive: bytes, sign: bytes, place: int, value: bytes, *, every: bool = True) -> bytes:
    """An archive with other bytes at an offset from each (or the first) signature."""
    changed, found = bytearray(archive), archive.find(sign)
    while found >= 0:
        changed[found + place : found + place + len(value)] = value
        found = archive.find(sign, found + 4) if every else -1
    return bytes(changed)


LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"


def overlapping(members: dict[str, bytes]) -> bytes:
    """An archive whose directory names the same 100 kB 5,000 times."""
    archive = made.archive_of({"data.pkl": bytes(100_000), **members})
    start = archive.find(CENTRAL)
    length = archive.find(CENTRAL, start + 4) - start
    entry = archive[start : start + length]
    names = [f"data/{n:03d}".encode() for n in range(5000)]
    entries = b"".join(entry.replace(b"data.pkl", name[:8].ljust(8, b"_")) for name in names)
    directory = entry + entries
    end = END + struct.pack("<4H2LH", 0, 0, 5001, 5001, len(directory), start, 0)
    return archive[:start] + directory + end


ARCHIVES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "10 MB of zeros in 10 kB": (
        lambda a: zipped({f"archive/{n}": m for n, m in
                          {**made.members_of(a), "data/0": bytes(10**7)}.items()}),
        "is compressed (part 'archive/"),
    "compressed by bzip2": (
        lambda a: zipped({f"archive/{n}": m for n, m in made.members_of(a).items()},
                         method=zipfile.ZIP_BZIP2), "is compressed"),
    "compressed by nothing known": (
        lambda a: patched(a, CENTRAL, 10, struct.pack("<H", 99)), "is compressed"),
    "encrypted": (lambda a: patched(a, CENTRAL, 8, b"\x01\x08"), "is encrypted"),
    "sizes of 4 GB": (
        lambda a: patched(a, CENTRAL, 20, struct.pack("<LL", 2**32 - 2, 2**32 - 2)),
        "overlap, or are larger than the file"),
    "sizes of 4 EB": (
        lambda a: patched(a, CENTRAL, 20, 8 * b"\xff"), "is not an egl-fast checkpoint"),
    "a size and another": (lambda a: patched(a, CENTRAL, 24, b"\x01\x00\x00\x00"), "is compressed"),
    "another checksum": (lambda a: patched(a, CENTRAL, 16, b"abcd"), "Bad CRC-32"),
    "a place far away": (lambda a: patched(a, CENTRAL, 42, b"\xff\xff\xff\x7f"), "part '"),
    "names that are no text": (
        lambda a: patched(a, CENTRAL, 46, b"\xff\xfe"), "is not an egl-fast checkpoint"),
    "a name twice": (
        lambda a: made.archive_of(made.members_of(a)).replace(b"data/10", b"data/11"),
        "has its part 'data/11' twice"),
    "absolute names": (
        lambda a: made.archive_of(made.members_of(a), root=""), "has a part outside its folder"),
    "names that climb": (
        lambda a: made.archive_of(made.members_of(a), root=".."), "has a part outside its folder"),
    "a name that climbs": (
        lambda a: a.replace(b"archive/data/0", b"../hive/data/0"), "outside its folder ('../h"),
    "one place for all": (lambda a: overlapping(made.members_of(a)), "overlap"),
    "too many parts": (
        lambda a: made.archive_of({f"data/{n}": b"" for n in range(MAX_MEMBERS + 1)}),
        "has more than 10,000 parts"),
    "another byte order": (
        lambda a: made.archive_of({**made.members_of(a), "byteorder": b"big"}), "-endian"),
    "a directory of a million entries": (
        lambda a: made.archive_of(made.members_of(a))[:-22] + END
        + struct.pack("<4H2LH", 0, 0, 65535, 65535, 2**31, 0, 0),
        "is not an egl-fast checkpoint"),
}  # fmt: skip


@pytest.mark.parametrize("what", ARCHIVES)
def test_archives_that_lie_are_refused(
    tmp_path: Path, model_content: dict[str, Any], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, cause = ARCHIVES[what]
    path = made.changed(tmp_path, change(made.saved(model_content)))
    size = path.stat().st_size
    read = []
    really_read = zipfile.ZipFile.read

    def counting(self: zipfile.ZipFile, name: Any, pwd: bytes | None = None) -> bytes:
        value = really_read(self, name, pwd)
        read.append(len(value))
        return value

    monkeypatch.setattr(zipfile.ZipFile, "read", counting)
    assert cause in refusal(path)
    assert sum(read) <= size


def test_a_file_is_read_once(
    tmp_path: Path, model_content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made.changed(tmp_path, made.saved(model_content))
    opened = []
    really_open = builtins.open

    def counting(file: Any, *arguments: Any, **options: Any) -> Any:
        if file == path:
            opened.append(file)
        return really_open(file, *arguments, **options)

    monkeypatch.setattr(builtins, "open", counting)
    load_checkpoint(path)
    assert len(opened) == 1


@pytest.mark.parametrize("start", [b"", b"PK\x03\x04"])
def test_a_terabyte_of_nothing_is_not_read(tmp_path: Path, start: bytes) -> None:
    path = tmp_path / "huge.pt"
    with open(path, "wb") as file:
        file.write(start)
        file.truncate(10**12)
    assert "is not an egl-fast checkpoint but" in refusal(path)


def test_the_limits_leave_room_for_what_is_written() -> None:
    members = made.members_of(made.saved(checkpoint_content(random_checkpoint())))
    assert 100 * len(members["data.pkl"]) < MAX_PROGRAM_BYTES
    assert 100 * len(members) < MAX_MEMBERS
    vocabulary = [f"{n}" for n in range(2**16)]
    assert len(made.members_of(made.saved(vocabulary))["data.pkl"]) < MAX_PROGRAM_BYTES
    assert 4 * len(vocabulary) < MAX_STEPS
    assert FeatureConfig().window_samples * 100 < MAX_WINDOW_SAMPLES
    assert MAX_OVERLAP > 10
