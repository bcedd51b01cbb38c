"""Recordings and lists of recordings at URLs."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faulty_store
import pytest
from faulty_store import FaultyStore, failing
from recordings import utterance, write_manifest

from egl_fast.data.audio import load_audio
from egl_fast.data.manifest import Utterance, read_manifest
from egl_fast.data.streamed_manifest import stream_manifest
from egl_fast.errors import AudioError, ManifestError, MissingExtraError
from egl_fast.files import remote
from egl_fast.files.addresses import Address, disguised, is_url, joined, masked, place_of

SECRETS = ("user-7f", "pass-3a", "signed-91")
AT = "faulty://user-7f:pass-3a@b/"
QUERY = "?X-Signature=signed-91"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PAUSES", (0.0, 0.0))


@pytest.fixture
def store(recordings: Path) -> Iterator[type[FaultyStore]]:
    with faulty_store.store_of(recordings.parent) as found:
        yield found


def samples(one: Utterance) -> list[float]:
    return [float(x) for x in load_audio(one, sample_rate_hz=16000)]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://bucket/a.wav", "s3://bucket/a.wav"),
        ("s3://bucket/a@1.5.wav", "s3://bucket/a@1.5.wav"),
        ("http://host:8000/a@b.wav", "http://host:8000/a@b.wav"),
        ("s3://key:secret@bucket/a.wav", "s3://***@bucket/a.wav"),
        ("s3://key:se/cr+et@bucket/a.wav", "s3://***@bucket/a.wav"),
        ("https://host/a.wav?X-Amz-Signature=0b&x=1", "https://host/a.wav?***"),
        ("simplecache::https://u:p@host/a.wav", "simplecache::https://***@host/a.wav"),
        ("no s3://u:p@b/x: refused", "no s3://***@b/x: refused"),
        ("why? because=1", "why? because=1"),
        ("https://u:p@ss@host/x", "https://***@host/x"),
        ("https://h/a?se=10:30&sig=0b: no such file", "https://h/a?***: no such file"),
        ("zip://a?x=1::https://h/b?sig=2", "zip://a?***::https://h/b?***"),
    ],
)
def test_what_is_shown_of_a_url(url: str, shown: str) -> None:
    assert masked(url) == shown


def test_what_a_user_types_means_the_same_after_its_secrets_are_hidden() -> None:
    first, second = "s3://u:one@b/x?s=1", "s3://u:two@b/x?s=1"
    shown = [disguised(first), disguised(second), disguised(first)]
    assert shown[0] == shown[2] == "s3://***@b/x?***"
    assert [place_of(one) for one in shown[:2]] == [Address(first), Address(second)]
    assert disguised(f"calls={first}") == f"calls={shown[0]}"
    assert disguised("a/b.jsonl") == "a/b.jsonl"


@pytest.mark.parametrize(
    ("folder", "path", "leads_to"),
    [
        ("s3://b/d/pool.jsonl", "a.wav", "s3://b/d/a.wav"),
        ("s3://b/d/pool.jsonl", "../e//a.wav", "s3://b/e/a.wav"),
        ("s3://b/d/pool.jsonl", "gs://c/a.wav", "gs://c/a.wav"),
        ("https://h/d/pool.jsonl?sig=1", "a.tar::m.wav", "https://h/d/a.tar?sig=1::m.wav"),
        ("memory://pool.jsonl", "a.wav", "memory://a.wav"),
        ("zip://d/pool.jsonl::s3://b/x.zip", "a.wav", "zip://d/a.wav::s3://b/x.zip"),
    ],
)
def test_a_relative_path_starts_from_the_url_of_its_manifest(
    folder: str, path: str, leads_to: str
) -> None:
    assert joined(Address(folder).parent, path) == Address(leads_to)


def test_a_path_and_a_file_url_are_on_the_disk() -> None:
    assert joined(Address("s3://b/d/"), "/x/a.wav") == Path("/x/a.wav")
    assert joined(Path("d"), "file:///x/a.wav") == Path("/x/a.wav")
    assert not any(map(is_url, ("file:///x", "a/b://c", "hf:model")))


def test_recordings_of_a_manifest_at_a_url(recordings: Path, store: type[FaultyStore]) -> None:
    local, far = read_manifest(recordings), read_manifest(disguised(f"{AT}all.jsonl{QUERY}"))
    assert [one.record for one in far] == [one.record for one in local]
    assert [samples(one) for one in far] == [samples(one) for one in local]
    streamed = stream_manifest(disguised(f"{AT}all.jsonl{QUERY}"))
    assert list(streamed) == far
    assert streamed.sha256 == stream_manifest(recordings).sha256
    assert not any(secret in repr(far) for secret in SECRETS)


def test_recordings_at_urls_in_a_manifest_on_the_disk(
    recordings: Path, tmp_path: Path, store: type[FaultyStore]
) -> None:
    lines = [{"audio_filepath": f"{AT}rec{n}.wav{QUERY}"} for n in range(4)]
    path = write_manifest(tmp_path / "far.jsonl", lines)
    for found in (read_manifest(path), list(stream_manifest(path))):
        assert [samples(one) for one in found] == [
            samples(one) for one in read_manifest(recordings)
        ]
        assert [one.id for one in found] == [f"faulty://***@b/rec{n}.wav?***" for n in range(4)]
        assert not any(secret in repr(found) for secret in SECRETS)


@pytest.mark.parametrize("kind", ["list", "table", "two", "prefix"])
def test_other_lists_at_urls(
    kind: str, recordings: Path, tmp_path: Path, store: type[FaultyStore]
) -> None:
    files = {
        "list": f"rec0.wav\n{AT}rec1.wav{QUERY}\n",
        "table": "path,text\nrec0.wav,ab\nrec1.wav,no\n",
        "two": '{"audio_filepath": "rec0.wav"}\n',
    }
    store().pipe_file("b/some", files.get(kind, files["two"]).encode())
    store().pipe_file("b/other", b'{"audio_filepath": "rec1.wav"}\n')
    names = [disguised(f"{AT}some{QUERY}")]
    if kind in ("two", "prefix"):
        names.append(disguised(f"{AT}other{QUERY}"))
    if kind == "prefix":
        names[0] = f"a={names[0]}"
    expected = [samples(one) for one in read_manifest(recordings)[:2]]
    for found in (read_manifest(*names), list(stream_manifest(*names))):
        assert [samples(one) for one in found] == expected
        assert not any(secret in repr(found) for secret in SECRETS)


def test_recordings_in_archives_at_urls(
    recordings: Path, store: type[FaultyStore], tmp_path: Path
) -> None:
    pytest.importorskip("pyarrow")
    import pyarrow
    import pyarrow.parquet

    waves = [(recordings.parent / f"rec{n}.wav").read_bytes() for n in range(4)]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for number, wave in enumerate(waves):
            member = tarfile.TarInfo(f"rec{number}.wav")
            member.size = len(wave)
            archive.addfile(member, io.BytesIO(wave))
    store().pipe_file("b/audio_0.tar", packed.getvalue())
    lines = [{"audio_filepath": f"rec{n}.wav", "shard_id": 0, "duration": 1} for n in range(4)]
    store().pipe_file("b/tarred.json", "\n".join(map(json.dumps, lines)).encode())
    table = io.BytesIO()
    cells = [{"bytes": wave, "path": None} for wave in waves]
    pyarrow.parquet.write_table(pyarrow.table({"audio": cells}), table, row_group_size=2)
    store().pipe_file("b/pool.parquet", table.getvalue())
    local = read_manifest(recordings)
    for name in ("tarred.json", "pool.parquet"):
        far = list(stream_manifest(disguised(f"{AT}{name}{QUERY}")))
        # Another end of segments than that of a recording makes no difference.
        assert [samples(one) for one in far] == [samples(one) for one in local]
        assert not any(secret in repr(far) for secret in SECRETS)
        with pytest.raises(AudioError, match=r"contains no 'x.wav'|contains no 'audio/9'"):
            inside = "x.wav" if name == "tarred.json" else "audio/9"
            archive_at = "audio_0.tar" if name == "tarred.json" else name
            load_audio(
                utterance(Path("x"), audio_path=Address(f"{AT}{archive_at}::{inside}")),
                sample_rate_hz=16000,
            )


TRANSIENT = [
    ConnectionError("reset"),
    TimeoutError("slow"),
    OSError("503: slow down"),
    RuntimeError("x"),
]


@pytest.mark.parametrize("error", TRANSIENT, ids=str)
@pytest.mark.parametrize("operation", ["read", "info"])
def test_a_store_that_fails_twice_makes_no_difference(
    error: Exception, operation: str, recordings: Path, store: type[FaultyStore]
) -> None:
    expected = [samples(one) for one in read_manifest(recordings)]
    store.fault = failing(operation, error=error, times=2)
    assert [samples(one) for one in read_manifest(f"{AT}all.jsonl")] == expected


def test_a_read_that_ends_early_is_repeated(recordings: Path, store: type[FaultyStore]) -> None:
    store.fault = staticmethod(
        lambda name, path, count: 1000 if (name, count) == ("read", 1) else None
    )
    far = read_manifest(f"{AT}all.jsonl")
    assert [samples(one) for one in far] == [samples(one) for one in read_manifest(recordings)]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConnectionError("pass-3a reset"), r"cannot be read \(\*\*\* reset\)"),
        (
            OSError(f"GET {AT}x{QUERY} token=abc"),
            r"cannot be read \(GET faulty://\*\*\*@b/x\?\*\*\* token=\*\*\*\)",
        ),
        (PermissionError("no"), r"cannot be read \(the store refuses access: no\)"),
        (FileNotFoundError("b/x"), r"cannot be read \(no such file\)"),
        (1000, r"cannot be read \(1,000 bytes came instead of 16,044\)"),
    ],
    ids=str,
)
def test_a_store_that_fails_for_good(
    error: Exception | int, said: str, store: type[FaultyStore]
) -> None:
    if isinstance(error, int):
        store.fault = staticmethod(lambda name, path, count: 1000)
    else:
        store.fault = failing("read", error=error)
    one = utterance(Path("x"), audio_path=Address(f"{AT}rec0.wav{QUERY}"))
    with pytest.raises(AudioError, match=rf"^audio faulty://\*\*\*@b/rec0.wav\?\*\*\*: {said}$"):
        load_audio(one, sample_rate_hz=16000)


def test_what_is_wrong_with_a_manifest_at_a_url(store: type[FaultyStore]) -> None:
    for url, said in [
        (
            f"{AT}none.jsonl{QUERY}",
            r"manifest faulty://\*\*\*@b/none.jsonl\?\*\*\*: no such file; give",
        ),
        (
            "nowhere://b/x",
            r"manifest nowhere://b/x: cannot be read \(.*nowhere:// is unknown to fsspec",
        ),
        ("s3://***@b/x", "its credentials were left out where it was written down"),
    ]:
        with pytest.raises(ManifestError, match=said):
            read_manifest(url)


def test_a_store_whose_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def missing(*_: Any, **__: Any) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(MissingExtraError, match=r"s3://b/x: s3:// needs .*pip install s3fs"):
        read_manifest("s3://b/x")


@pytest.mark.parametrize("path", ["/dev/zero", "/etc"])
def test_no_chain_leads_to_what_is_no_file(path: str) -> None:
    one = utterance(Path("x"), audio_path=Address(f"simplecache::file://{path}"))
    with pytest.raises(AudioError, match="no such file"):
        load_audio(one, sample_rate_hz=16000)


def test_a_file_that_is_too_large_to_be_read_whole(
    monkeypatch: pytest.MonkeyPatch, store: type[FaultyStore]
) -> None:
    monkeypatch.setattr(remote, "MOST_BYTES", 16_000)
    one = utterance(Path("x"), audio_path=Address(f"{AT}rec0.wav"))
    with pytest.raises(AudioError, match="has 16,044 bytes, too many to be read at once; cut it"):
        load_audio(one, sample_rate_hz=16000)
    assert not any(name == "read" for name, _ in store.calls)


def test_a_manifest_at_a_url_takes_no_more_memory_a_line(store: type[FaultyStore]) -> None:
    lines = "".join(f'{{"audio_filepath": "{n}.wav"}}\n' for n in range(6400))
    store().pipe_file("b/long.jsonl", lines.encode())
    manifest = stream_manifest(f"{AT}long.jsonl")
    windows = manifest._windows
    held = sum(len(x) * x.itemsize for x in (windows.starts, windows.checksums, windows.lines))
    assert held <= 16 * len(manifest)
    assert manifest[6399].audio_path == Address(f"{AT}6399.wav")
