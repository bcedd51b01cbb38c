"""Lhotse's recordings, supervisions, and cuts as sources."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recordings import write_manifest
from source_speech import NAMES, RATE_HZ, Speech, check, samples_of, speech

from egl_fast.data.audio import load_audio
from egl_fast.data.manifest import read_manifest
from egl_fast.errors import ManifestError

__all__ = ["speech"]  # a fixture


@pytest.fixture
def lhotse_sets(speech: Speech) -> tuple[Any, Any, Any]:
    lhotse = pytest.importorskip("lhotse")
    recordings = [lhotse.Recording.from_file(speech.path(n), recording_id=n) for n in NAMES]
    supervisions = [
        lhotse.SupervisionSegment(
            id=n, recording_id=n, start=0, duration=r.duration, text=speech.texts[n],
            speaker="me", custom={"corpus": "x"},
        )
        for n, r in zip(NAMES, recordings, strict=True)
    ]  # fmt: skip
    sets = (
        lhotse.RecordingSet.from_recordings(recordings),
        lhotse.SupervisionSet.from_segments(supervisions),
    )
    cuts = lhotse.CutSet.from_manifests(recordings=sets[0], supervisions=sets[1])
    return (*sets, lhotse.CutSet.from_cuts(c.with_id(c.supervisions[0].id) for c in cuts))


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
def test_lhotse(lhotse_sets: Any, speech: Speech, tmp_path: Path, suffix: str) -> None:
    recordings, supervisions, cuts = lhotse_sets
    paths = [tmp_path / f"x_{n}_dev.{suffix}" for n in ("recordings", "supervisions", "cuts")]
    for path, found in zip(paths, (recordings, supervisions, cuts), strict=True):
        found.to_file(path)
    check(read_manifest(paths[0]), texts=None)
    # Recordings beside their supervisions are not read twice.
    for sources in (paths[1:2], paths[:2], paths[2:]):
        utterances = read_manifest(*sources)
        check(utterances, texts=speech.texts)
        assert {(u.record["speaker"], u.record["corpus"]) for u in utterances} == {("me", "x")}


def test_pieces_of_lhotse_are_segments(lhotse_sets: Any, tmp_path: Path) -> None:
    piece = lhotse_sets[2]["plain3"].truncate(offset=0.005, duration=0.01, preserve_id=True)
    type(lhotse_sets[2]).from_cuts([piece]).to_file(tmp_path / "cuts.jsonl")
    (utterance,) = read_manifest(tmp_path / "cuts.jsonl")
    found = load_audio(utterance, sample_rate_hz=RATE_HZ)
    np.testing.assert_array_equal(found, samples_of(3)[80:240])


@pytest.mark.parametrize(
    ("how", "complaint"),
    [
        (lambda cut: cut.pad(duration=9), "line 1: is a MixedCut, not a piece of one recording"),
        (lambda cut: cut.perturb_speed(1.1), "is changed when Lhotse loads it (Speed)"),
    ],
)
def test_what_lhotse_makes_of_recordings_is_refused(
    lhotse_sets: Any, tmp_path: Path, how: Callable[[Any], Any], complaint: str
) -> None:
    path = tmp_path / "cuts.jsonl"
    cuts = lhotse_sets[2]
    type(cuts).from_cuts([how(cuts["plain3"])]).to_file(path)
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ({"type": "MonoCut", "recording": {"sources": 3}}, "is not what Lhotse writes"),
        ({"type": "MonoCut", "features": {}}, "is a cut of features"),
        ({"sources": [], "sampling_rate": 1, "id": "a", "duration": 1}, "is not one file"),
        ({"sources": None, "sampling_rate": 1}, "is not what Lhotse writes"),
        ({"recording_id": "a", "start": 0, "duration": 1}, "their recordings are not beside it"),
        (
            {"sources": [{"type": "command", "source": "rm x"}], "sampling_rate": 1, "id": "a"},
            "is not one file (its sources: command)",
        ),
        (
            {"type": "MonoCut", "channel": 1, "id": "c", "start": 0, "duration": 1,
             "recording": {"sources": [{"type": "file", "channels": [0, 1], "source": "a.wav"}]}},
            "is channel 1 of a recording with 2",
        ),
    ],
)  # fmt: skip
def test_what_lhotse_knows_and_we_do_not_is_refused(
    tmp_path: Path, line: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ManifestError) as caught:
        read_manifest(write_manifest(tmp_path / "x.jsonl", [line]))
    assert complaint in str(caught.value)
