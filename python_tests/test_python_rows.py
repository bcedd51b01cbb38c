"""``Scorer.score_manifest`` on rows: DataFrames, generators, data sets of Hugging Face."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import soundfile
from recordings import random_checkpoint, scorer_of, waveform, write_recordings
from training_runs import CONFIG, trainer_of

import egl_fast
from egl_fast.data.manifest import read_manifest
from egl_fast.data.waveforms import load_waveform
from egl_fast.errors import AudioError, EglError, ManifestError, MissingExtraError
from egl_fast.records import ScoreRecord, to_json
from egl_fast.training.metrics import transcribe


@pytest.fixture(scope="module")
def scorer() -> egl_fast.Scorer:
    return scorer_of(random_checkpoint())


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    return write_recordings(folder, ["a", "b", "c"], [0.4, 0.5, 0.6])


@pytest.fixture(scope="module")
def expected(scorer: egl_fast.Scorer, manifest: Path) -> list[ScoreRecord]:
    return list(scorer.score_manifest(manifest, k=3))


def paths(manifest: Path) -> list[dict[str, Any]]:
    """Rows with the manifest's keys, and paths that are valid anywhere."""
    return [
        {**u.record, "id": u.id, "audio_filepath": str(u.audio_path)}
        for u in read_manifest(manifest)
    ]


def held(manifest: Path, form: Callable[[Path], Any]) -> list[dict[str, Any]]:
    """Rows with the recordings themselves."""
    rows = paths(manifest)
    return [
        {"id": row["id"], "nr": row["nr"], "audio": form(row["audio_filepath"])} for row in rows
    ]


def decoded(path: Path) -> dict[str, Any]:
    samples, rate_hz = soundfile.read(path, dtype="float32")
    return {"path": None, "array": samples, "sampling_rate": rate_hz}


class Decoder:
    """As data sets hold recordings that torchcodec decodes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def get_all_samples(self) -> Any:
        samples, rate_hz = soundfile.read(self.path, dtype="float32")
        return samples, rate_hz


def polars(rows: list[dict[str, Any]]) -> Any:
    return pytest.importorskip("polars").DataFrame(rows)


def pandas(rows: list[dict[str, Any]]) -> Any:
    return pytest.importorskip("pandas").DataFrame(rows)


SOURCES: dict[str, Callable[[Path], Any]] = {
    "list": paths,
    "generator": lambda m: (row for row in paths(m)),
    "polars": lambda m: polars(paths(m)),
    "pandas": lambda m: pandas(paths(m)),
    "audio paths": lambda m: held(m, str),
    "array": lambda m: held(m, decoded),
    "decoder": lambda m: held(m, Decoder),
    "bytes": lambda m: held(m, lambda p: {"path": None, "bytes": Path(p).read_bytes()}),
    "path alone": lambda m: held(m, lambda p: {"path": p, "bytes": None}),
    "pandas with bytes": lambda m: pandas(held(m, lambda p: {"bytes": Path(p).read_bytes()})),
}


@pytest.mark.parametrize("source", SOURCES)
def test_rows_of_any_kind_score_as_their_manifest(
    scorer: egl_fast.Scorer, manifest: Path, expected: list[ScoreRecord], source: str
) -> None:
    records = list(scorer.score_manifest(SOURCES[source](manifest), k=3))
    assert records == expected
    assert [record.manifest["nr"] for record in records] == [0, 1, 2]
    assert all("audio" not in record.manifest for record in records)
    json.dumps([to_json(record) for record in records])


def test_a_data_set_of_hugging_face(
    scorer: egl_fast.Scorer, manifest: Path, expected: list[ScoreRecord], tmp_path: Path
) -> None:
    datasets = pytest.importorskip("datasets")
    rows = held(manifest, str)
    made = datasets.Dataset.from_list(rows).cast_column("audio", datasets.Audio(decode=False))
    made.save_to_disk(tmp_path / "set")  # embeds the recordings
    read = datasets.load_from_disk(tmp_path / "set")
    records = list(scorer.score_manifest(read, k=3))
    assert records == expected
    assert list(scorer.score_manifest(read.to_iterable_dataset(), k=3)) == expected


def test_rows_are_taken_as_they_are_needed(scorer: egl_fast.Scorer, manifest: Path) -> None:
    taken = 0

    def endless() -> Iterator[dict[str, Any]]:
        nonlocal taken
        row = held(manifest, decoded)[0]
        while True:
            yield {**row, "id": str(taken)}
            taken += 1

    found = scorer.score_manifest(endless(), k=1)
    assert [next(found).id for _ in range(2)] == ["0", "1"]
    assert taken < 200


def test_missing_values_are_missing_keys(scorer: egl_fast.Scorer, manifest: Path) -> None:
    rows = paths(manifest)[:2]
    del rows[0]["text"], rows[1]["duration"]
    for frame in (polars(rows), pandas(rows)):
        first, second = scorer.score_manifest(frame, k=1)
        assert "text" not in first.manifest
        assert "duration" not in second.manifest


def test_segments_of_recordings_in_memory(scorer: egl_fast.Scorer, manifest: Path) -> None:
    cut = {"offset": 0.1, "duration": 0.2}
    [from_file] = scorer.score_manifest([{**paths(manifest)[2], **cut}], k=2)
    for form in (decoded, lambda path: {"bytes": Path(path).read_bytes()}):
        row = {**held(manifest, form)[2], **cut}
        assert list(scorer.score_manifest([row], k=2)) == [from_file]


@pytest.mark.parametrize(
    ("row", "kind", "message"),
    [
        ("a.wav", ManifestError, "row 0: expected a mapping"),
        ({"file": "a.wav"}, ManifestError, "row 0: needs 'audio_filepath'"),
        ({"audio": [0.0] * 4000}, AudioError, "row 0 in memory: comes without its rate"),
        ({"audio": {"bytes": b"none"}}, AudioError, "row 0 in memory: "),
        ({"audio": decoded, "offset": 9}, AudioError, "row 0 in memory: offset 9 s is beyond"),
    ],
)
def test_a_row_at_fault_is_named(
    scorer: egl_fast.Scorer, manifest: Path, row: Any, kind: type[EglError], message: str
) -> None:
    if isinstance(row, dict) and row.get("audio") is decoded:
        row = {**row, "audio": decoded(manifest.parent / "rec0.wav")}
    with pytest.raises(kind, match=message):
        list(scorer.score_manifest([row], k=1))


def test_ids_repeat_in_no_row(scorer: egl_fast.Scorer, manifest: Path) -> None:
    row = paths(manifest)[0]
    with pytest.raises(ManifestError, match=r"row 1: id 'rec0\.wav' is already that of row 0"):
        list(scorer.score_manifest(iter([row, row]), k=1))


def test_long_recordings_in_memory_are_refused(scorer: egl_fast.Scorer, manifest: Path) -> None:
    for form in (decoded, lambda path: {"bytes": Path(path).read_bytes()}):
        rows = held(manifest, form)
        found = scorer.score_manifest(rows, k=1, max_duration=0.45, on_error="skip")
        assert [record.id for record in found] == ["rec0.wav"]


def test_progress_counts_recordings(
    scorer: egl_fast.Scorer, manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tqdm")
    list(scorer.score_manifest(manifest, k=1, progress=True))
    assert "scoring: 3 recordings" in capsys.readouterr().err
    list(scorer.score_manifest(paths(manifest), k=1, progress=True))
    assert "3/3" in capsys.readouterr().err
    waves = [waveform(0.5), waveform(0.6)]
    scorer.score_waveforms(waves, sample_rate_hz=16000, k=1, progress=True)
    assert "2/2" in capsys.readouterr().err


def test_transcribing_and_training_show_bars(
    scorer: egl_fast.Scorer, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tqdm")
    utterances = read_manifest(manifest)
    list(transcribe(scorer.recognizer, utterances, batch_seconds=8, progress=True))
    assert "transcribing: 100%" in capsys.readouterr().err
    trainer = trainer_of(manifest, tmp_path / "run", replace(CONFIG, max_epochs=1))
    trainer.start()
    trainer.run(progress=True)
    assert "epoch 1, loss" in capsys.readouterr().err


def test_progress_without_tqdm_names_the_extra(
    scorer: egl_fast.Scorer, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(MissingExtraError, match=r"egl-fast\[notebook\]"):
        scorer.score_manifest(manifest, k=1, progress=True)


def test_bytes_are_decoded_as_files_are(manifest: Path) -> None:
    for utterance in read_manifest(manifest):
        flac = io.BytesIO()
        soundfile.write(flac, *soundfile.read(utterance.audio_path), format="FLAC")
        for content in (utterance.audio_path.read_bytes(), flac.getvalue()):
            found = load_waveform(replace(utterance, held=content), sample_rate_hz=16000)
            assert found.tolist() == load_waveform(utterance, sample_rate_hz=16000).tolist()
