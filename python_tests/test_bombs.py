"""Small files that claim or unfold to be large, and archives whose members point elsewhere."""

from __future__ import annotations

import gzip
import io
import tarfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from egl_fast.data import json_reading
from egl_fast.data.archives import tar_members
from egl_fast.data.audio import load_audio
from egl_fast.data.manifest import read_manifest, utterance_of
from egl_fast.data.vocabulary_file import read_vocabulary
from egl_fast.errors import AudioError, ManifestError
from egl_fast.labeling.formats import read_back

LINE = b'{"audio_filepath": "a.wav", "text": "%s"}\n'


def answers(path: Path) -> list[Any]:
    return list(read_back(str(path), from_name=""))


@pytest.mark.parametrize("read", [read_manifest, read_vocabulary, answers])
def test_what_gzip_unfolds_has_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Any
) -> None:
    monkeypatch.setattr(json_reading, "MOST_BYTES", 1000)
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(LINE % (b"a" * 2000)))
    with pytest.raises(ManifestError, match="more than 1,000 bytes"):
        read(path)


def test_many_lines_have_no_limit_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_reading, "MOST_BYTES", 100)
    path = tmp_path / "x.gz"
    lines = [b'{"audio_filepath": "%d.wav"}\n' % number for number in range(50)]
    path.write_bytes(gzip.compress(b"".join(lines)))
    assert len(read_manifest(path)) == 50


def member(name: str, kind: bytes = tarfile.REGTYPE, **fields: Any) -> bytes:
    info = tarfile.TarInfo(name)
    info.type = kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT)


def test_members_of_archives_are_read_and_never_written(tmp_path: Path) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    archive = folder / "x.tar"
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("../outside.wav"), io.BytesIO())
        tar.addfile(tarfile.TarInfo("/outside.wav"), io.BytesIO())
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            link = tarfile.TarInfo("link.wav")
            link.type, link.linkname = kind, "/etc/passwd"
            tar.addfile(link)
    archive.write_bytes(content.getvalue())
    assert set(tar_members(archive)) == {"../outside.wav", "/outside.wav"}  # names, not paths
    for name in ("../outside.wav", "/outside.wav", "link.wav"):
        with pytest.raises(AudioError):
            load_audio(
                utterance_of({"audio_filepath": f"x.tar::{name}"}, 1, folder, ""),
                sample_rate_hz=16000,
            )
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["inside", "x.tar"]


def test_sparse_members_are_not_filled_with_zeros(tmp_path: Path) -> None:
    header = bytearray(member("a.wav", tarfile.GNUTYPE_SPARSE))
    header[483:495] = b"77777777777\0"  # 8 GiB of zeros, which the archive does not hold
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    archive = tmp_path / "x.tar"
    archive.write_bytes(bytes(header) + bytes(1024))
    assert tar_members(archive) == {}


@pytest.mark.parametrize("suffix", [".flac", ".wav"])
def test_memory_follows_the_samples_not_the_header(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    soundfile.write(path, np.zeros(8000, np.float32), 8000)
    content = bytearray(path.read_bytes())
    if suffix == ".flac":
        content[21:26] = bytes([content[21] | 0x0F]) + b"\xff" * 4  # 2^36 - 1 samples
    else:
        content[40:44] = b"\xf0\xff\xff\xff"  # 4 GiB of them
    path.write_bytes(content)
    utterance = utterance_of({"audio_filepath": str(path)}, 1, Path(), "")
    tracemalloc.start()
    try:
        seconds = len(load_audio(utterance, sample_rate_hz=8000)) / 8000
    except AudioError:
        seconds = 0.0
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds <= 1.0
    assert most < 50e6
