"""NeMo's tarred manifests as sources."""

from __future__ import annotations

import gzip
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from recordings import write_manifest
from source_speech import NAMES, RATE_HZ, Speech, samples_of, speech

from egl_fast.data.audio import load_audio
from egl_fast.data.manifest import read_manifest
from egl_fast.errors import AudioError, ManifestError

__all__ = ["speech"]  # a fixture


@pytest.fixture
def tarred(speech: Speech, tmp_path: Path) -> Path:
    """As NeMo's convert_to_tarred_audio_dataset.py writes it, with two shards."""
    lines = []
    for shard in (0, 1):
        with tarfile.open(tmp_path / f"audio_{shard}.tar", "w") as archive:
            for number, name in enumerate(NAMES):
                if number % 2 == shard:
                    member = f"{name}.wav".replace("/", "_")
                    archive.add(speech.path(name), arcname=member)
                    lines.append(
                        {"audio_filepath": member, "duration": 0.02, "text": speech.texts[name],
                         "shard_id": shard, "id": name}
                    )  # fmt: skip
    lines[1] = {**lines[1], "audio_filepath": lines[0]["audio_filepath"][:-4] + "-sub1.wav"}
    write_manifest(tmp_path / "tarred_audio_manifest.json", lines)
    return tmp_path


def test_a_manifest_of_nemo(speech: Speech, tmp_path: Path) -> None:
    """By NeMo's own writer and reader if it is installed, which takes dozens of packages; else
    by json, as that writes it.
    """
    path = tmp_path / "train_manifest.json"
    lines = [
        {"audio_filepath": str(speech.path(n)), "duration": 0.02, "text": speech.texts[n], "x": n}
        for n in NAMES
    ]
    try:
        from nemo.collections.asr.parts.utils import manifest_utils
    except ImportError:
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    else:
        manifest_utils.write_manifest(path, lines, ensure_ascii=False)
        assert manifest_utils.read_manifest(path) == lines
    utterances = read_manifest(path)
    assert [u.id for u in utterances] == [str(speech.path(name)) for name in NAMES]
    assert [u.text for u in utterances] == list(speech.texts.values())
    assert [u.record["x"] for u in utterances] == NAMES


def test_a_tarred_manifest_of_nemo(tarred: Path) -> None:
    for source in (tarred, tarred / "tarred_audio_manifest.json"):
        utterances = read_manifest(source)
        assert len(utterances) == len(NAMES)
        for place, utterance in enumerate(utterances):
            number = NAMES.index(utterance.id) if place != 1 else NAMES.index(utterances[0].id)
            found = load_audio(utterance, sample_rate_hz=RATE_HZ)
            np.testing.assert_array_equal(found, samples_of(number)[: len(found)])


def test_a_shard_that_is_missing_is_named(tarred: Path) -> None:
    (tarred / "audio_1.tar").unlink()
    with pytest.raises(ManifestError, match=r"line 33: there is no .*audio_1\.tar, which should"):
        read_manifest(tarred)


@pytest.mark.parametrize(
    ("inside", "complaint"),
    [
        ("none.wav", "contains no 'none.wav'; make the manifest again"),
        ("", "contains no ''"),
    ],
)
def test_a_member_that_is_missing_is_named(tarred: Path, inside: str, complaint: str) -> None:
    path = write_manifest(tarred / "m.jsonl", [{"audio_filepath": f"audio_0.tar::{inside}"}])
    (utterance,) = read_manifest(path)
    with pytest.raises(AudioError, match=complaint):
        load_audio(utterance, sample_rate_hz=RATE_HZ)


def test_a_compressed_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(gzip.compress(bytes(1024)))
    path = write_manifest(tmp_path / "m.jsonl", [{"audio_filepath": "a.tar::x"}])
    (utterance,) = read_manifest(path)
    with pytest.raises(AudioError, match="if it is compressed, decompress it"):
        load_audio(utterance, sample_rate_hz=RATE_HZ)
