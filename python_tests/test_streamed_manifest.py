"""Manifests read window by window: the same utterances as when read at once, and nothing else."""

from __future__ import annotations

import gzip
import json
import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from egl_fast.data import unique_ids
from egl_fast.data.manifest import Utterance, read_manifest, read_manifest_and_hash
from egl_fast.data.streamed_manifest import StreamedManifest, stream_manifest
from egl_fast.data.unique_ids import without_repeats
from egl_fast.errors import ManifestError
from egl_fast.scoring.run.shards import WHOLE, Shard

COUNT = 150  # three windows, the last one short


def text(count: int = COUNT) -> bytes:
    lines = []
    for n in range(count):
        record = {"audio_filepath": f"é {n}.wav", "offset": n / 2, "x": {"y": [n, None]}}
        lines.append(json.dumps(record, ensure_ascii=n % 2 == 0) + ("\r\n" if n % 5 == 0 else "\n"))
        if n % 40 == 0:
            lines.append(" \n")
    return ("\n\ufeff" + "".join(lines)).removesuffix("\n").encode()


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "m.jsonl"
    path.write_bytes(text())
    return path


@pytest.mark.parametrize("kind", ["plain", "gzipped", "pipe", "stdin", "list", "two"])
def test_what_streams_is_what_is_read_at_once(
    plain: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tmp_path / "m.gz"
    packed.write_bytes(gzip.compress(text()))
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"{n}.wav\n" for n in range(COUNT)))
    sources: dict[str, list[str | Path]] = {
        "plain": [plain],
        "gzipped": [packed],
        "pipe": [tmp_path / "pipe"],
        "stdin": ["-"],
        "list": [listed],
        "two": [f"a={plain}", f"b={packed}"],
    }
    given = sources[kind]
    expected = read_manifest_and_hash(*([plain] if kind == "pipe" else given)) if (
        kind != "stdin"
    ) else None  # fmt: skip
    feeder = None
    if kind == "pipe":
        os.mkfifo(given[0])
        feeder = threading.Thread(target=Path(given[0]).write_bytes, args=(text(),))
        feeder.start()
    if kind == "stdin":
        monkeypatch.chdir(tmp_path)
        contents = [plain.open("rb"), plain.open("rb")]
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=contents[0]))
        expected = read_manifest_and_hash("-")
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=contents[1]))
    found = stream_manifest(*given)
    if feeder is not None:
        feeder.join()
    if kind == "stdin":
        for file in contents:
            file.close()
    assert expected is not None
    assert len(found) == len(expected.utterances)
    assert list(found) == expected.utterances == list(found)
    assert found.sha256 == expected.sha256
    assert found[-1] == expected.utterances[-1]
    assert found[60:70] == expected.utterances[60:70]


def test_parts_of_a_streamed_pool_are_those_of_a_list(plain: Path) -> None:
    listed, streamed = read_manifest(plain), stream_manifest(plain)
    for limit in (None, 1, 64, 100, 1000):
        first = WHOLE.of(streamed, limit=limit)
        assert list(first) == listed[:limit]
        for number in (1, 2):
            part = Shard(number, 2).of(first)
            assert list(part) == list(Shard(number, 2).of(listed[:limit]))
            assert len(part) == len(list(part))
            assert [part[n] for n in range(len(part))] == list(part)
            for some in (slice(10, 70), slice(60, None), slice(-5, None), slice(None, None, -3)):
                assert part[some] == list(part)[some]


def test_a_part_reads_each_of_its_windows_once(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    window = StreamedManifest._window

    def counted(manifest: StreamedManifest, number: int) -> list[Utterance]:
        read.append(number)
        return window(manifest, number)

    monkeypatch.setattr(StreamedManifest, "_window", counted)
    assert len(list(Shard(1, 2).of(WHOLE.of(stream_manifest(plain))))) == 86
    assert read == [0, 2]


def test_a_manifest_that_is_changed_in_use_is_noticed(plain: Path) -> None:
    found = stream_manifest(plain)
    changed = text().replace("é 70.wav".encode(), "é 07.wav".encode()).replace(
        b"\\u00e9 70.wav", b"\\u00e9 07.wav"
    )  # fmt: skip
    assert changed != text()
    plain.write_bytes(changed)
    assert len(found[:64]) == 64
    with pytest.raises(ManifestError, match="was changed while it was in use"):
        list(found)


def test_a_manifest_that_is_replaced_in_use_is_read_as_it_was(plain: Path, tmp_path: Path) -> None:
    found, expected = stream_manifest(plain), read_manifest(plain)
    other = tmp_path / "other"
    other.write_bytes(text(3))
    other.replace(plain)
    assert list(found) == expected


@pytest.mark.parametrize("places", [(0, 2), (3, 1500), (1498, 1499), (0, 2999)])
def test_repeats_are_found_wherever_they_are(tmp_path: Path, places: tuple[int, int]) -> None:
    records = [{"audio_filepath": f"{n}.wav"} for n in range(3000)]
    records[places[1]] = records[places[0]]
    path = tmp_path / "m.jsonl"
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    first, again = (place + 1 for place in places)
    with pytest.raises(
        ManifestError, match=rf"line {again}: id .* is already that of line {first};"
    ):
        stream_manifest(path)


def test_different_ids_with_the_same_hash_are_no_repeats(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second look must not disturb the first pass, either."""
    monkeypatch.setattr(unique_ids, "hash", lambda identity: len(identity), raising=False)
    monkeypatch.setattr(unique_ids, "_FIRST_LOOK", 4)
    assert list(stream_manifest(plain)) == read_manifest(plain)
    assert len(read_manifest(plain)) == COUNT


def test_ids_are_passed_on_one_at_a_time() -> None:
    found = without_repeats(
        lambda: ((str(n), n) for n in range(10**9)), lambda *_: AssertionError()
    )
    assert [next(found) for _ in range(2000)] == list(range(2000))


def test_a_gzipped_manifest_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.gz"
    path.write_bytes(gzip.compress(text())[:-9])
    with pytest.raises(ManifestError, match="gzipped, but damaged or cut short"):
        stream_manifest(path)
