"""Manifests: what is read, and that every mistake gets one line that names its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from recordings import write_manifest

from egl_fast.data.manifest import read_manifest
from egl_fast.errors import ManifestError


def test_relative_paths_are_resolved_against_the_manifests_folder(tmp_path: Path) -> None:
    manifest = write_manifest(
        tmp_path / "m.jsonl", [{"audio_filepath": "a/b.wav"}, {"audio_filepath": "/c.wav"}]
    )
    first, second = read_manifest(manifest)
    assert first.audio_path == tmp_path / "a" / "b.wav"
    assert second.audio_path == Path("/c.wav")


def test_every_key_is_kept_as_it_was(tmp_path: Path) -> None:
    record = {"audio_filepath": "a.wav", "text": "hi", "snr": 3, "tags": ["x", {"y": None}], "Ü": 1}
    (utterance,) = read_manifest(write_manifest(tmp_path / "m.jsonl", [record]))
    assert utterance.record == record
    assert list(utterance.record) == list(record)


def test_fields_have_their_defaults(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "m.jsonl", [{"audio_filepath": "a.wav"}])
    (utterance,) = read_manifest(manifest)
    assert utterance.offset_seconds == 0.0
    assert utterance.duration_seconds is None
    assert utterance.text is None


def test_a_null_counts_as_a_missing_key(tmp_path: Path) -> None:
    record = {"audio_filepath": "a", "offset": None, "duration": None, "text": None, "id": None}
    (utterance,) = read_manifest(write_manifest(tmp_path / "m.jsonl", [record]))
    assert utterance.id == "a"
    assert utterance.duration_seconds is None


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"audio_filepath": "./x/a.wav"}, "./x/a.wav"),
        ({"audio_filepath": "a.wav", "offset": 1.50}, "a.wav@1.5"),
        ({"audio_filepath": "a.wav", "offset": 0}, "a.wav@0"),
        ({"audio_filepath": "a.wav", "offset": 2, "id": "mine"}, "mine"),
    ],
)
def test_the_default_id_is_the_path_as_written_with_the_offset(
    tmp_path: Path, record: dict[str, object], expected: str
) -> None:
    (utterance,) = read_manifest(write_manifest(tmp_path / "m.jsonl", [record]))
    assert utterance.id == expected


def test_segments_of_one_recording_are_utterances_of_their_own(tmp_path: Path) -> None:
    records = [{"audio_filepath": "a.wav", "offset": o, "duration": 1.5} for o in (0, 1.5, 3)]
    utterances = read_manifest(write_manifest(tmp_path / "m.jsonl", records))
    assert [u.offset_seconds for u in utterances] == [0.0, 1.5, 3.0]
    assert len({u.id for u in utterances}) == 3


def test_blank_lines_are_skipped_but_counted(tmp_path: Path) -> None:
    manifest = tmp_path / "m.jsonl"
    manifest.write_text('\n  \n{"audio_filepath": "a"}\r\n\n{"audio_filepath": "b"}')
    assert [u.line for u in read_manifest(manifest)] == [3, 5]


def test_a_line_separator_within_a_string_ends_no_line(tmp_path: Path) -> None:
    manifest = tmp_path / "m.jsonl"
    record = {"audio_filepath": "a", "text": "one\u2028two\x85three"}
    manifest.write_text(json.dumps(record, ensure_ascii=False), encoding="utf-8")
    (utterance,) = read_manifest(manifest)
    assert utterance.text == record["text"]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "not JSON"),
        ('{"audio_filepath": "a", "snr": -Infinity}', "-Infinity is not a number"),
        ('"a.wav"', "expected a JSON object, got str"),
        ("{}", "needs 'audio_filepath'"),
        ('{"audio_filepath": ""}', "needs 'audio_filepath'"),
        ('{"audio_filepath": 7}', "needs 'audio_filepath'"),
        ('{"audio_filepath": "a", "offset": -1}', "'offset' is -1"),
        ('{"audio_filepath": "a", "offset": "1"}', "'offset' is '1'"),
        ('{"audio_filepath": "a", "offset": true}', "'offset' is True"),
        ('{"audio_filepath": "a", "duration": -0.5}', "'duration' is -0.5"),
        ('{"audio_filepath": "a", "duration": 0}', "'duration' is 0"),
        ('{"audio_filepath": "a", "text": 3}', "'text' is 3"),
        ('{"audio_filepath": "a", "id": 3}', "'id' is 3"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    manifest = tmp_path / "m.jsonl"
    manifest.write_text('{"audio_filepath": "fine"}\n' + line + "\n")
    with pytest.raises(ManifestError) as caught:
        read_manifest(manifest)
    message = str(caught.value)
    assert message.startswith(f"manifest {manifest}, line 2: ")
    assert complaint in message
    assert "\n" not in message


def test_a_repeated_id_names_both_lines(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "m.jsonl", [{"audio_filepath": x} for x in "aba"])
    with pytest.raises(ManifestError, match=r"line 3: id 'a' is already that of line 1"):
        read_manifest(manifest)
    manifest.write_text(json.dumps([{"audio_filepath": x} for x in "aba"], indent=1))
    with pytest.raises(ManifestError, match=r"item 3: id 'a' is already that of item 1"):
        read_manifest(manifest)


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_a_manifest_without_utterances_is_refused(tmp_path: Path, content: bytes) -> None:
    manifest = tmp_path / "m.jsonl"
    manifest.write_bytes(content)
    with pytest.raises(ManifestError, match="contains no utterances"):
        read_manifest(manifest)


def test_a_file_that_is_missing_no_text_or_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such file"):
        read_manifest(tmp_path / "none.jsonl")
    binary = tmp_path / "binary.jsonl"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ManifestError, match="is UTF-16"):
        read_manifest(binary)
    with pytest.raises(ManifestError, match="a folder of recordings without any"):
        read_manifest(tmp_path)
