"""Durations in a manifest: the audio decides, and missing audio is reported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from commands import lines_of
from conftest import Run
from recordings import random_checkpoint, write_manifest
from training_runs import train

from egl_fast.data.loading import load_spectrogram
from egl_fast.data.manifest import read_manifest
from egl_fast.errors import ManifestError
from egl_fast.evaluation.simulation.execution import _transcripts
from egl_fast.evaluation.simulation.sets import Member
from egl_fast.training.examples import prepare_examples


def test_the_audio_decides_not_the_manifest(run: Run, recordings: Path, tmp_path: Path) -> None:
    lines = lines_of(recordings.read_text())
    short = [{**line, "duration": 30.0} for line in lines]
    exact = write_manifest(tmp_path / "exact.jsonl", [{**x, "duration": None} for x in lines])
    wrong = write_manifest(tmp_path / "wrong.jsonl", short)
    checkpoint = random_checkpoint()
    found = [prepare_examples(read_manifest(p), checkpoint).examples for p in (wrong, exact)]
    assert [e.seconds for e in found[0]] == [e.seconds for e in found[1]] == [0.5, 0.8, 0.65, 0.45]
    status, _, err = train(run, wrong, "--cell", "rnn_tanh")
    assert status == 0, err
    # In the two manifests, which are the same file.
    assert "warning: 8 durations in the manifest are longer than their audio (first 'rec0.wav': "
    assert "30 s, but there are 0.50); the true length counts" in err


@pytest.mark.parametrize("duration", [0.6, 0.4, None, 0.5])
def test_durations_that_are_right_or_too_short_give_no_warning(
    run: Run, recordings: Path, tiny_model: Path, tmp_path: Path, duration: float | None
) -> None:
    line = {**lines_of(recordings.read_text())[0], "duration": duration}
    path = write_manifest(tmp_path / "one.jsonl", [line])
    status, out, err = run("transcribe", "--model", tiny_model, "--data", path)
    assert status == 0
    assert lines_of(out)[0]["duration"] == min(duration or 1, 0.5)
    assert "warning" not in err


@pytest.mark.parametrize("command", ["transcribe", "evaluate", "score"])
def test_every_command_says_that_audio_is_missing(
    run: Run, recordings: Path, tiny_model: Path, tmp_path: Path, command: str
) -> None:
    line = {**lines_of(recordings.read_text())[0], "duration": 5.0}
    path = write_manifest(tmp_path / "one.jsonl", [line])
    which = ("--pool", path, "--k", 2) if command == "score" else ("--data", path)
    status, _, err = run(command, "--model", tiny_model, *which)
    assert status == 0
    assert "'rec0.wav': 5 s, but there are 0.50" in err


def test_lengths_are_those_of_the_spectrogram(recordings: Path) -> None:
    checkpoint = random_checkpoint()
    for example in prepare_examples(read_manifest(recordings), checkpoint).examples:
        assert example.seconds == load_spectrogram(example.utterance, checkpoint.features).seconds


def test_a_simulation_refuses_durations_longer_than_the_audio(recordings: Path) -> None:
    utterances = read_manifest(recordings)
    checkpoint = random_checkpoint()
    set_of_recordings = tuple(Member(u, u.duration_seconds or 0.0, "") for u in utterances)
    assert len(_transcripts(checkpoint, set_of_recordings, 2.0)) == 4
    wrong = replace(set_of_recordings[2], utterance=replace(utterances[2], duration_seconds=30.0))
    with pytest.raises(ManifestError, match=r"'rec2\.wav': 0\.65 s were decoded of the 30 s"):
        _transcripts(checkpoint, (*set_of_recordings[:2], wrong), 2.0)
