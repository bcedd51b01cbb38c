"""Folders, lists, and single recordings as sources, and several sources together."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import soundfile
from recordings import write_manifest
from source_speech import NAMES, RATE_HZ, Speech, check, samples_of, speech
from test_sources_kaldi import KALDI_IDS, kaldi

from egl_fast.data.audio import load_audio
from egl_fast.data.manifest import read_manifest, read_manifest_and_hash
from egl_fast.errors import ManifestError

__all__ = ["speech"]  # a fixture


def test_a_folder_is_read_with_all_its_folders(speech: Speech) -> None:
    check(read_manifest(speech.folder), texts=None)


def test_what_is_no_recording_is_passed_over(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", samples_of(0), RATE_HZ)
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "._a.wav").write_bytes(b"what macOS leaves behind")
    (tmp_path / "utf16").write_bytes("a".encode("utf-16"))
    (tmp_path / "b").write_bytes((tmp_path / "a.wav").read_bytes())
    (tmp_path / "loop").symlink_to(tmp_path)
    assert [u.id for u in read_manifest(tmp_path)] == ["a", "b"]


def test_ids_that_differ_only_in_their_suffix_keep_it(tmp_path: Path) -> None:
    for name in ("x.wav", "x.flac", "y.wav"):
        soundfile.write(tmp_path / name, samples_of(0), RATE_HZ)
    assert [u.id for u in read_manifest(tmp_path)] == ["x.flac", "x.wav", "y"]


def test_names_that_are_no_text_are_still_opened(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", samples_of(3), RATE_HZ)
    (tmp_path / "x.wav").rename(tmp_path / "\udcff.wav")
    (utterance,) = read_manifest(tmp_path)
    assert len(load_audio(utterance, sample_rate_hz=RATE_HZ)) == len(samples_of(3))


@pytest.mark.parametrize("packed", [False, True])
def test_a_list_has_one_path_per_line(speech: Speech, tmp_path: Path, packed: bool) -> None:
    lines = "".join(f"{speech.path(name)}\n" for name in NAMES).encode()
    path = tmp_path / "list"
    path.write_bytes(gzip.compress(lines) if packed else lines)
    check(read_manifest(path), texts=None, ids=[str(speech.folder / name) for name in NAMES])


def test_paths_count_from_the_list_or_else_the_current_folder(
    speech: Speech, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(speech.folder)
    for path in (speech.folder / "list.txt", tmp_path / "elsewhere" / "list.txt"):
        path.write_text("".join(f"./{name}.wav\n" for name in NAMES), encoding="utf-8")
        check(read_manifest(path), texts=None)
    (speech.folder / "list.txt").unlink()


def test_a_recording_is_a_source(speech: Speech) -> None:
    (utterance,) = read_manifest(speech.path("plain0"))
    assert utterance.id == str(speech.folder / "plain0")


def test_several_sources_follow_each_other(speech: Speech, tmp_path: Path) -> None:
    kaldi(speech, tmp_path / "kaldi")
    one = write_manifest(tmp_path / "one.jsonl", [{"audio_filepath": "../x.wav", "offset": 1}])
    utterances = read_manifest(one, speech.folder, f"k={tmp_path / 'kaldi'}")
    assert utterances[0].id == "../x.wav@1"
    assert utterances[0].record["audio_filepath"] == str(tmp_path.parent / "x.wav")
    check(utterances[1:65], texts=None)
    check(utterances[65:], texts=speech.texts, ids=[f"k/{name}" for name in KALDI_IDS])


def test_equal_ids_are_refused(speech: Speech, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"id 'a/b b/.*put a name before one of them: NAME="):
        read_manifest(speech.folder, speech.folder / "." / ".." / speech.folder.name)
    path = tmp_path / "list.txt"
    path.write_text("a.wav\na.flac\n")
    with pytest.raises(ManifestError, match=r"line 2: id 'a' .*; give each its own id"):
        read_manifest(path)


def test_the_hash_is_of_what_was_read(speech: Speech, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text(f"{speech.path('plain0')}\n")
    first = read_manifest_and_hash(path).sha256
    assert read_manifest_and_hash(path).sha256 == first
    path.write_text(f"{speech.path('plain1')}\n")
    assert read_manifest_and_hash(path).sha256 != first
