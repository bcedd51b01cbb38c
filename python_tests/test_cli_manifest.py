"""`egl-fast manifest`, and what it reads given to other commands."""

from __future__ import annotations

import gzip
import io
import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from commands import lines_of, one_line_each, the_line
from conftest import Run
from recordings import waveform, write_manifest

from egl_fast.cli.failures import Failures
from egl_fast.data import audio
from egl_fast.data.audio import load_audio
from egl_fast.data.manifest import Utterance, read_manifest
from egl_fast.data.pauses import cut


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two recordings that can be read, and two that cannot."""
    folder = tmp_path / "speech"
    (folder / "deep er").mkdir(parents=True)
    soundfile.write(folder / "a.wav", waveform(0.5), 16000)
    soundfile.write(folder / "deep er" / "ü.flac", waveform(0.4, rate_hz=8000), 8000)
    (folder / "broken.wav").write_bytes(b"RIFF broken")
    soundfile.write(folder / "empty.wav", np.zeros(0), 16000)
    return folder


def test_lengths_are_filled_in_and_failures_listed(run: Run, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "pool.jsonl"
    status, printed, err = run("manifest", folder, "--out", out)
    assert (status, printed) == (3, ""), err
    assert lines_of(out.read_text()) == [
        {"id": "a", "audio_filepath": "speech/a.wav", "duration": 0.5},
        {"id": "deep er/ü", "audio_filepath": "speech/deep er/ü.flac", "duration": 0.4},
    ]
    errors = lines_of((tmp_path / "pool.jsonl.errors.jsonl").read_text())
    one_line_each(errors)
    assert [error["id"] for error in errors] == ["broken", "empty"]
    assert "2 recordings, 0.00 h" in err
    assert "2 could not be read" in err
    assert f"{folder}: a folder of recordings" in err
    assert [u.id for u in read_manifest(out)] == ["a", "deep er/ü"]
    # The same from another folder, where the recordings are not below: paths are absolute.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    run("manifest", folder, "--out", elsewhere / "pool.jsonl")
    paths = [r["audio_filepath"] for r in lines_of((elsewhere / "pool.jsonl").read_text())]
    assert paths == [str(folder / "a.wav"), str(folder / "deep er" / "ü.flac")]
    assert "already exists" in the_line(*run("manifest", folder, "--out", out))


def test_what_the_source_says_is_kept_and_checked(run: Run, folder: Path) -> None:
    given = [
        {"audio_filepath": "a.wav", "offset": 0.1, "text": "ja", "speaker": "s", "id": "1"},
        {"audio_filepath": "a.wav", "offset": 0.1, "duration": 0.2, "id": "2"},
        {"audio_filepath": "a.wav", "duration": 3, "id": "3"},
        {"audio_filepath": "a.wav", "offset": 0.6, "id": "4"},
    ]
    status, printed, err = run("manifest", write_manifest(folder / "x.jsonl", given))
    one, two, three = lines_of(printed)
    assert status == 3
    assert "4: audio" in err
    assert "offset 0.6 s is beyond the end (0.5 s)" in err
    assert "1 duration in the manifest is longer than its audio ('3': 3 s" in err
    assert one == {
        "id": "1", "audio_filepath": str(folder / "a.wav"), "offset": 0.1, "duration": 0.4,
        "text": "ja", "speaker": "s",
    }  # fmt: skip
    assert (two["duration"], three["duration"]) == (0.2, 3)


@pytest.mark.parametrize("packed", [False, True])
def test_standard_input_is_a_source(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    lines = b"a.wav\ndeep er/\xc3\xbc.flac\n"
    given = io.BytesIO(gzip.compress(lines) if packed else lines)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=given))
    monkeypatch.chdir(folder)
    status, printed, err = run("manifest", "-")
    assert status == 0, err
    assert [r["audio_filepath"] for r in lines_of(printed)] == ["a.wav", "deep er/ü.flac"]


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        ([], "Missing argument"),
        (["none"], "none: no such file; give one that exists"),
        (["nothing"], "nothing: a folder of recordings without any recording"),
        (["speech", "./speech"], "put a name before one of them: NAME=./speech"),
        (["pipe"], "line 1: is a pipe (cat x |), which is not run"),
        (["prose.txt"], "prose.txt"),
    ],
)
def test_what_cannot_be_a_source_gets_one_line(
    run: Run,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    names: list[str],
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nothing").mkdir()
    Path("pipe").mkdir()
    Path("pipe/wav.scp").write_text("a cat x |\n")
    Path("prose.txt").write_text("Call me Ishmael.\n")
    assert complaint in the_line(*run("manifest", *names, "--out", "out.jsonl"))
    assert not Path("out.jsonl").exists()


@pytest.mark.usefixtures("restored_threads")
def test_other_commands_take_the_same_sources(
    run: Run, folder: Path, tiny_model: Path, tmp_path: Path
) -> None:
    scores = tmp_path / "scores.jsonl"
    more = write_manifest(tmp_path / "more.jsonl", [{"audio_filepath": "speech/a.wav"}])
    score = ("score", "--model", tiny_model, "--k", 2, "--out", scores, "--resume")
    status, _, err = run(*score, "--pool", folder, "--pool", more)
    assert status == 3, err
    records = lines_of(scores.read_text())
    assert [r["id"] for r in records] == ["a", "deep er/ü", "speech/a.wav"]
    assert records[0]["audio_filepath"] == str(folder / "a.wav")
    assert records[0]["egl"] == records[2]["egl"]
    meta = json.loads((tmp_path / "scores.jsonl.meta.json").read_text())
    assert meta["pool"] == [str(folder), str(more)]
    assert "already complete" in run(*score, "--pool", folder, "--pool", more)[2]
    # Another recording makes it another pool.
    shutil.copy(folder / "a.wav", folder / "b.wav")
    assert "another manifest" in run(*score, "--pool", folder, "--pool", more)[2]
    # The picks are found from wherever they are written.
    (tmp_path / "other").mkdir()
    picks = tmp_path / "other" / "picks.jsonl"
    status, _, err = run("select", scores, "--budget", "100%", "--out", picks)
    assert status == 0, err
    for utterance in read_manifest(picks):
        load_audio(utterance, sample_rate_hz=16000)


# Cutting at pauses.


def test_cuts_are_in_the_longest_pauses() -> None:
    speech = np.ones(100, np.float32)
    speech[22:24] = speech[30:36] = speech[50:53] = speech[62:66] = 0
    # In the middle of the longest pause between 20 and 40, then between 53 and 73.
    assert cut(speech, 40) == [33, 64]


@pytest.mark.parametrize("seed", range(20))
def test_no_piece_is_longer_than_asked(seed: int) -> None:
    random = np.random.default_rng(seed)
    speech = np.repeat(random.random(60), random.integers(1, 40, 60)).astype(np.float32)
    most = int(random.integers(20, 200))
    cuts = cut(speech, most)
    lengths = np.diff([0, *cuts, len(speech)])
    assert lengths.max() <= most
    assert (lengths[:-1] >= most // 2).all()
    assert len(cuts) == 0 or lengths[-1] >= most // 4


def loudness(wave: npt.NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(wave**2)))


def test_long_recordings_are_cut_at_pauses(run: Run, examples: Path, tmp_path: Path) -> None:
    for module in ("onnxruntime", "silero_vad"):
        pytest.importorskip(module)
    # Eight utterances with a second of silence after each: where speech stops, it is quiet.
    waves = []
    for utterance in read_manifest(examples / "test.jsonl")[:8]:
        waves += [load_audio(utterance, sample_rate_hz=16000), np.zeros(16000, np.float32)]
    whole = np.concatenate(waves)
    soundfile.write(tmp_path / "long.flac", whole, 16000)
    given = [{"audio_filepath": "long.flac", "text": "all of it", "speaker": "s", "offset": 0.1}]
    manifest = write_manifest(tmp_path / "given.jsonl", given)
    status, printed, err = run("manifest", manifest, "--segment", 5)
    assert status == 0, err
    records = lines_of(printed)
    assert "1 texts are left out" in err
    assert {tuple(r) for r in records} == {
        ("id", "audio_filepath", "offset", "duration", "speaker")
    }
    assert max(r["duration"] for r in records) <= 5
    assert records[0]["offset"] == 0.1
    assert math.isclose(sum(r["duration"] for r in records), len(whole) / 16000 - 0.1, abs_tol=1e-3)
    for record in records[1:]:
        place = round(record["offset"] * 16000)
        assert loudness(whole[place - 800 : place + 800]) < loudness(whole) / 5
        assert record["id"] == f"long.flac@0.1@{record['offset']:.2f}"


# Interruption.


def test_an_interrupted_run_continues(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(8):
        soundfile.write(folder / f"b{number}.wav", waveform(0.1 + number / 10), 16000)
    out, whole = tmp_path / "pool.jsonl", tmp_path / "whole.jsonl"
    assert run("manifest", folder, "--out", whole)[0] == 3
    opened: list[str] = []
    original = audio.header_seconds

    def header_seconds(utterance: Utterance) -> float | None:
        opened.append(utterance.id)
        return original(utterance)

    def interrupt(*failure: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as changed:
        # "broken", the tenth by name.
        changed.setattr(Failures, "add", interrupt)
        status, _, err = run("manifest", folder, "--out", out)
    assert status == 130
    assert "the same command continues" in err
    assert not out.exists()
    with (tmp_path / "pool.jsonl.journal").open("ab") as journal:
        journal.write(b'{"of": "half of a li')  # as after a kill
    soundfile.write(folder / "b1.wav", waveform(0.7), 16000)
    monkeypatch.setattr(audio, "header_seconds", header_seconds)
    status, _, err = run("manifest", folder, "--out", out)
    assert status == 3
    assert "9 recordings are known from a run that was interrupted" in err
    assert sorted(opened) == ["b1", "broken", "deep er/ü", "empty"]
    expected = lines_of(whole.read_text())
    expected[2]["duration"] = 0.7
    assert lines_of(out.read_text()) == expected
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {
        name + end for name in ("pool.jsonl", "whole.jsonl") for end in ("", ".errors.jsonl")
    }
