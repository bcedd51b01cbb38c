"""Kaldi data folders as sources."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from source_speech import NAMES, RATE_HZ, Speech, check, samples_of, speech

from egl_fast.data.audio import load_audio
from egl_fast.data.manifest import read_manifest
from egl_fast.errors import ManifestError

__all__ = ["speech"]  # a fixture


def kaldi(speech: Speech, folder: Path, **more: str) -> Path:
    """Its ids have no spaces, and its files are sorted as bytes."""
    folder.mkdir(exist_ok=True)
    ids = {name.replace(" ", "_"): name for name in NAMES}
    order = sorted(ids, key=str.encode)
    files = {
        "wav.scp": [f"{key} {speech.path(ids[key])}" for key in order],
        "text": [f"{key} {speech.texts[ids[key]]}" for key in order],
        "utt2spk": [f"{key} speaker{key.count('/')}" for key in order],
    }
    for name, lines in files.items():
        (folder / name).write_text("".join(f"{x}\n" for x in lines), encoding="utf-8")
    for name, content in more.items():
        (folder / name.replace("_", ".")).write_text(content, encoding="utf-8")
    return folder


KALDI_IDS = [name.replace(" ", "_") for name in NAMES]


def test_kaldi_data(speech: Speech, tmp_path: Path) -> None:
    utterances = read_manifest(kaldi(speech, tmp_path))
    check(utterances, texts=speech.texts, ids=KALDI_IDS)
    assert {u.record["speaker"] for u in utterances} == {"speaker0", "speaker1", "speaker2"}
    check(read_manifest(tmp_path / "wav.scp"), texts=speech.texts, ids=KALDI_IDS)


def test_what_lhotse_exports_for_kaldi(speech: Speech, tmp_path: Path) -> None:
    """Lhotse writes the folder; Kaldi itself is not a package."""
    lhotse = pytest.importorskip("lhotse")
    from lhotse.kaldi import export_to_kaldi

    recordings = [
        lhotse.Recording.from_file(speech.path(name), recording_id=key)
        for name, key in zip(NAMES, KALDI_IDS, strict=True)
    ]
    supervisions = [
        lhotse.SupervisionSegment(
            id=key, recording_id=key, start=0.0, duration=recording.duration,
            text=speech.texts[name], speaker=f"speaker{key.count('/')}", language="ü",
        )
        for name, key, recording in zip(NAMES, KALDI_IDS, recordings, strict=True)
    ]  # fmt: skip
    export_to_kaldi(
        lhotse.RecordingSet.from_recordings(recordings),
        lhotse.SupervisionSet.from_segments(supervisions),
        tmp_path,
    )
    utterances = read_manifest(tmp_path)
    check(utterances, texts=speech.texts, ids=KALDI_IDS)
    said = {(u.record["speaker"], u.record["language"]) for u in utterances}
    assert said == {(f"speaker{number}", "ü") for number in range(3)}


def test_kaldi_segments(speech: Speech, tmp_path: Path) -> None:
    kaldi(
        speech,
        tmp_path,
        segments="s1 plain3 0.005 0.015\ns2 plain3 0.01 -1\n",
        text="s2 two words\n",
        utt2spk="s1 a\ns2 b\n",
    )
    one, two = read_manifest(tmp_path)
    assert (one.id, one.offset_seconds, one.duration_seconds, one.text) == ("s1", 0.005, 0.01, None)
    assert (two.id, two.offset_seconds, two.duration_seconds) == ("s2", 0.01, None)
    assert (two.text, two.record["speaker"]) == ("two words", "b")
    whole = samples_of(3)
    np.testing.assert_array_equal(load_audio(one, sample_rate_hz=RATE_HZ), whole[80:240])
    np.testing.assert_array_equal(load_audio(two, sample_rate_hz=RATE_HZ), whole[160:])


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"wav_scp": "u sph2pipe -f wav a.sph |\n"}, "line 1: is a pipe (sph2pipe -f wav a.sph |)"),
        ({"wav_scp": "u a.ark:17\n"}, "extract it with Kaldi's wav-copy"),
        ({"wav_scp": "u\n"}, "has nothing after 'u'"),
        ({"wav_scp": "b b.wav\na a.wav\n"}, "'a' comes after 'b'; sort the folder"),
        ({"text": "b x\na y\n"}, "text, line 2: 'a' comes after 'b'; sort the folder"),
        ({"segments": "s r 0 1\n"}, "segments, line 1: recording 'r' is not in"),
        ({"segments": "s plain0 1 0.5\n"}, "ends at 0.5, before it starts"),
        ({"segments": "s plain0 1\n"}, "expected an utterance, its recording, start and end"),
    ],
)
def test_what_kaldi_data_cannot_say(
    speech: Speech, tmp_path: Path, files: dict[str, str], complaint: str
) -> None:
    with pytest.raises(ManifestError) as caught:
        read_manifest(kaldi(speech, tmp_path, **files))
    assert complaint in str(caught.value)
