"""Picks in the formats of other tools: what is written comes back, here and in their libraries."""

from __future__ import annotations

import csv
import gzip
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from commands import in_this_process

from egl_fast.cli.main import cli
from egl_fast.data.audio import load_audio
from egl_fast.data.manifest import read_manifest
from egl_fast.labeling.formats import FORMATS, read_back
from egl_fast.records import Hypothesis, ScoreRecord, to_json

STRANGE = [
    "with space", "größe/ñ", 'double "quotes"', "it's", "a,b;c\tand tab", "=1+1", "'=1+1", "-x@y",
    "100% #1 a&b?c+d", "中文 🎤", "line\nbreak", "<b>&amp;</b>", "..\\up", "@SUM(1)", " padded ",
]  # fmt: skip
#: Endings of outputs, by format.
OUTPUTS = {
    "jsonl": "picks.jsonl",
    "csv": "picks.csv",
    "label-studio": "picks.json",
    "lhotse": "picks.cuts.jsonl",
    "nemo": "picks_nemo.json",
    "hf": "picks_hf",
}


def score_line(number: int, identity: str, folder: Path) -> dict[str, Any]:
    name = f"wav/{number} ü'q,#.wav"
    (folder / "wav").mkdir(exist_ok=True)
    soundfile.write(folder / name, np.zeros(1600, np.float32), 16000)
    texts = [f"=heard {number}", f'"second" {number}', ""]
    record = ScoreRecord(
        id=identity,
        duration=0.1,
        num_frames=5,
        pred_text=texts[0],
        num_hypotheses=3,
        beam_mass=0.9,
        egl=float(number % 7),
        egl_stderr=0.0,
        egl_normalized=1.0,
        egl_unsquared=None,
        egl_full=None,
        egl_full_stderr=None,
        entropy=0.1,
        pctc=0.01 * number,
        random=0.5,
        hypotheses=tuple(Hypothesis(text, (1,), -1.0 - i, 2.0) for i, text in enumerate(texts)),
    )
    manifest: dict[str, Any] = {"audio_filepath": name, "speaker": f"-s{number}", "take": number}
    if number % 2:
        manifest["tags"] = ["a", {"b": None}]
    return to_json(record, manifest)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 64 recordings, and their scores.jsonl."""
    folder = tmp_path_factory.mktemp("pöol dir")
    ids = [*STRANGE, *(f"plain/{number}" for number in range(64 - len(STRANGE)))]
    lines = [score_line(number, identity, folder) for number, identity in enumerate(ids)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "scores.jsonl").write_text(text, encoding="utf-8")
    return folder


def select(pool: Path, *arguments: object) -> Result:
    given = ["select", str(pool / "scores.jsonl"), "--budget", "100%", "--strategy", "pctc/second"]
    return CliRunner().invoke(cli, [*given, *map(str, arguments)], catch_exceptions=True)


def written(pool: Path, folder: Path, name: str, *more: object) -> Path:
    if name == "hf":
        pytest.importorskip("pyarrow")
    out = folder / OUTPUTS[name]
    format_option = [] if FORMATS[name].suffixes else ["--format", name]
    done = select(pool, "--out", out, *format_option, *more)
    assert done.exit_code == 0, (done.output, done.exception)
    return out


def expected(pool: Path) -> list[dict[str, Any]]:
    text = (pool / "scores.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    return sorted(lines, key=lambda line: -line["pctc"])


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_written_is_read_back(pool: Path, tmp_path: Path, name: str) -> None:
    out = written(pool, tmp_path, name)
    back = list(read_back(str(out), from_name="transcription"))
    lines = expected(pool)
    assert [one.id for one in back] == [line["id"] for line in lines]
    assert not any(one.text or one.is_answer for one in back)
    for rank, (one, line) in enumerate(zip(back, lines, strict=True), start=1):
        record = {key: one.record[key] for key in ("rank", "speaker", "take", "pred_text")}
        if name == "csv":
            record |= {key: int(record[key]) for key in ("rank", "take")}
        wanted = {"rank": rank, **{key: line[key] for key in ("speaker", "take", "pred_text")}}
        assert record == wanted
        assert one.record["duration"] == 0.1
        audio = tmp_path / one.record["audio_filepath"]
        assert audio.resolve() == (pool / line["audio_filepath"]).resolve()
        tags = one.record.get("tags")
        assert (json.loads(tags) if isinstance(tags, str) else tags) == line.get("tags")
        if name != "jsonl":
            assert float(one.record["score"]) == line["pctc"] / 0.1


@pytest.mark.parametrize("name", FORMATS)
def test_picks_of_any_format_can_be_excluded(pool: Path, tmp_path: Path, name: str) -> None:
    out = written(pool, tmp_path, name)
    done = select(pool, "--exclude", out)
    assert "every utterance is excluded" in str(done.exception)


def test_json_lines_are_as_they_were(pool: Path, tmp_path: Path) -> None:
    out = written(pool, tmp_path, "jsonl")
    first = json.loads(out.read_text(encoding="utf-8").splitlines()[0])
    line = {**expected(pool)[0], "rank": 1}
    assert {**first, "audio_filepath": line["audio_filepath"]} == line


@pytest.mark.parametrize("name", ["jsonl", "csv", "label-studio", "lhotse"])
def test_gz_packs_any_file(pool: Path, tmp_path: Path, name: str) -> None:
    plain = written(pool, tmp_path, name)
    packed = tmp_path / f"{plain.name}.gz"
    assert select(pool, "--out", packed).exit_code == 0
    assert gzip.decompress(packed.read_bytes()) == plain.read_bytes()
    back = [list(read_back(str(path), from_name="transcription")) for path in (plain, packed)]
    assert [one.record for one in back[0]] == [one.record for one in back[1]]


def test_nemo_manifests_are_manifests_with_a_text(pool: Path, tmp_path: Path) -> None:
    utterances = read_manifest(written(pool, tmp_path, "nemo"))
    assert {utterance.text for utterance in utterances} == {""}
    assert all(utterance.audio_path.is_file() for utterance in utterances)


def test_no_cell_of_a_table_is_a_formula(pool: Path, tmp_path: Path) -> None:
    out = written(pool, tmp_path, "csv")
    text = out.read_text(encoding="utf-8-sig")
    rows = list(csv.reader(text.splitlines(keepends=True)))
    assert rows[0][:4] == ["rank", "id", "text", "pred_text"]
    # Numbers may be negative.
    cells = [
        cell for row in rows for cell in row if not cell.lstrip("-").replace(".", "").isdigit()
    ]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert out.read_bytes().startswith(b"\xef\xbb\xbf")  # or Excel takes it for Latin-1


def test_label_studio_gets_addresses_it_can_open(pool: Path, tmp_path: Path) -> None:
    out = written(pool, tmp_path, "label-studio", "--audio-root", pool)
    tasks = json.loads(out.read_text(encoding="utf-8"))
    for task, line in zip(tasks, expected(pool), strict=True):
        prefix, _, path = task["data"]["audio"].partition("?d=")
        assert prefix == "/data/local-files/"
        assert not {"#", "&", "?", " ", "+"}.intersection(path)
        assert unquote(path) == line["audio_filepath"]
    scores = [task["predictions"][0]["score"] for task in tasks]
    assert scores == sorted(scores)
    assert 0 == scores[0] < scores[1] < scores[-1] < 1


def test_label_studio_gets_keys_of_a_bucket_as_they_are(pool: Path, tmp_path: Path) -> None:
    out = written(pool, tmp_path, "label-studio", "--audio-root", pool, "--audio-url", "s3://b")
    task = json.loads(out.read_text(encoding="utf-8"))[0]
    assert task["data"]["audio"] == f"s3://b/{expected(pool)[0]['audio_filepath']}"


def test_label_studio_offers_no_more_than_there_are_keys_for(tmp_path: Path) -> None:
    line = score_line(0, "a", tmp_path)
    line["hypotheses"] = [{"text": f"heard {rank}"} for rank in range(100)]
    (tmp_path / "scores.jsonl").write_text(json.dumps(line) + "\n")
    [task] = json.loads(written(tmp_path, tmp_path, "label-studio").read_text())
    assert task["data"]["nbest"] == [{"value": f"heard {rank}"} for rank in range(10)]


def test_segments_say_what_to_transcribe(tmp_path: Path) -> None:
    line = {**score_line(0, "a", tmp_path), "offset": 1.5}
    (tmp_path / "scores.jsonl").write_text(json.dumps(line) + "\n")
    out = written(tmp_path, tmp_path, "label-studio")
    [task] = json.loads(out.read_text())
    assert task["data"]["segment"] == "transcribe 1.50 to 1.60 s only"
    assert "$segment" in Path(f"{out}.labeling.xml").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--format", "csv", "--to-name", "x"), "--to-name does nothing without --format label"),
        (("--format", "csv", "--table"), "--format does nothing beside --table and --show"),
        (("--format", "label-studio"), "--format label-studio needs --out"),
        (("--out", "{}/p.json", "--audio-root", "/usr"), "'plain/48': its recording is not in"),
        (("--out", "{}/p.json", "--from-name", "speaker"), "'plain/48': has a key 'speaker'"),
        (("--out", "{}/p.xlsx"), "is named like a spreadsheet"),
        (("--out", "{}", "--format", "hf", "--overwrite"), "is not a dataset to replace"),
    ],
)
def test_what_cannot_be_written_is_said(
    pool: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    if "hf" in arguments:
        pytest.importorskip("pyarrow")
    done = select(pool, *(argument.format(tmp_path) for argument in arguments))
    assert message in f"{done.output} {done.exception}"
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten_unasked(pool: Path, tmp_path: Path) -> None:
    written(pool, tmp_path, "label-studio")
    (tmp_path / "picks.json").unlink()
    (tmp_path / "picks.json.meta.json").unlink()
    assert "picks.json.labeling.xml: already exists" in str(
        select(pool, "--out", tmp_path / "picks.json").exception
    )


# With the libraries themselves.


def test_lhotse_without_ffmpeg_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("egl_fast.labeling.formats.lhotse.pyav_is_installed", lambda: False)
    audio = Path(__file__).parent / "audio" / "tone.m4a"
    score = {"id": "a", "audio_filepath": str(audio), "duration": 0.4, "pctc": 1.0}
    (tmp_path / "scores.jsonl").write_text(json.dumps(score))
    out = tmp_path / "picks.cuts.jsonl"
    assert in_this_process("select", tmp_path / "scores.jsonl", "--budget", 1, "--out", out) == 2
    assert "pip install 'egl-fast[av]', or choose another --format" in capfd.readouterr().err
    assert not out.exists()


def test_lhotse_gets_recordings_that_only_ffmpeg_reads(tmp_path: Path) -> None:
    pytest.importorskip("av")
    lhotse = pytest.importorskip("lhotse")
    audio = Path(__file__).parent / "audio" / "tone.m4a"
    score = {"id": 'a "b"/ü', "audio_filepath": str(audio), "duration": 0.4, "pctc": 1.0}
    (tmp_path / "scores.jsonl").write_text(json.dumps(score))
    out = tmp_path / "picks.cuts.jsonl"
    assert in_this_process("select", tmp_path / "scores.jsonl", "--budget", 1, "--out", out) == 0
    [cut] = lhotse.CutSet.from_file(out)
    lhotse.qa.validate(cut)
    [source] = read_manifest(out)
    wave = load_audio(source, sample_rate_hz=cut.sampling_rate)
    assert (source.id, source.audio_path) == (score["id"], audio)
    assert len(wave) == round(cut.duration * cut.sampling_rate)
    whole = load_audio(replace(source, duration_seconds=None), sample_rate_hz=cut.sampling_rate)
    assert len(whole) == cut.recording.num_samples


def test_lhotse_reads_the_cuts(pool: Path, tmp_path: Path) -> None:
    lhotse = pytest.importorskip("lhotse")
    for name in ("picks.cuts.jsonl", "picks.cuts.jsonl.gz"):
        assert select(pool, "--out", tmp_path / name).exit_code == 0
        cuts = list(lhotse.CutSet.from_file(tmp_path / name))
        for rank, (cut, line) in enumerate(zip(cuts, expected(pool), strict=True), start=1):
            lhotse.qa.validate(cut)
            assert (cut.id, cut.rank, cut.speaker) == (line["id"], rank, line["speaker"])
            assert cut.pred_text == line["pred_text"]
            assert cut.load_audio().shape == (1, 1600)
        assert lhotse.CutSet.from_cuts(cuts).to_file(tmp_path / "again.jsonl") is None
        again = list(read_back(str(tmp_path / "again.jsonl"), from_name=""))
        assert [one.id for one in again] == [line["id"] for line in expected(pool)]


def test_datasets_loads_the_folder(pool: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    dataset = datasets.load_from_disk(str(written(pool, tmp_path, "hf")))
    assert isinstance(dataset.features["audio"], datasets.Audio)
    rows = list(dataset.cast_column("audio", datasets.Audio(decode=False)))
    for rank, (row, line) in enumerate(zip(rows, expected(pool), strict=True), start=1):
        assert (row["id"], row["rank"], row["take"]) == (line["id"], rank, line["take"])
        assert row["audio"]["bytes"] == (pool / line["audio_filepath"]).read_bytes()
    again = written(pool, tmp_path, "hf", "--overwrite")
    assert len(datasets.load_from_disk(str(again))) == 64


def test_label_studio_accepts_tasks_predictions_and_configuration(
    pool: Path, tmp_path: Path
) -> None:
    sdk = pytest.importorskip("label_studio_sdk.label_interface")
    for names in ([], ["--from-name", "tr & <1>", "--to-name", 'au"dio', "--overwrite"]):
        out = written(pool, tmp_path, "label-studio", *names)
        interface = sdk.LabelInterface(Path(f"{out}.labeling.xml").read_text(encoding="utf-8"))
        interface.validate()
        for task in json.loads(out.read_text(encoding="utf-8")):
            assert interface.validate_task({"data": task["data"]})
            assert interface.validate_prediction(task["predictions"][0], return_errors=True) == []


@pytest.mark.parametrize(
    ("name", "ending", "fits"),
    [
        ("csv", ".csv", True),
        ("csv", ".txt", True),
        ("csv", ".jsonl", False),
        ("csv", ".xlsx", False),
        ("csv", ".csv.gz", True),
        ("jsonl", ".csv", False),
        ("jsonl", ".json", False),
        ("jsonl", "", True),
        ("nemo", ".json", True),
        ("nemo", ".jsonl", True),
        ("label-studio", ".jsonl.gz", False),
        ("lhotse", ".jsonl.gz", True),
        ("lhotse", ".json", False),
        ("hf", ".parquet", False),
        ("hf", ".v2", True),
    ],
)
def test_a_name_that_promises_another_format_is_refused(
    pool: Path, tmp_path: Path, name: str, ending: str, fits: bool
) -> None:
    assert FORMATS[name].fits(tmp_path / f"picks{ending}") == fits
    if not fits:
        done = select(pool, "--out", tmp_path / f"picks{ending}", "--format", name)
        assert f"is not what --format {name} writes" in str(done.exception)
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["csv", "label-studio", "lhotse"])
def test_picks_in_other_formats_are_no_scores(pool: Path, tmp_path: Path, name: str) -> None:
    out = written(pool, tmp_path, name)
    for given in (["report", "--scores", out, "--no-audio"], ["select", out, "--budget", "1"]):
        message = str(CliRunner().invoke(cli, list(map(str, given))).exception)
        assert (
            "give what `egl-fast score` wrote, or" in message or "is it a scores file?" in message
        )
        assert "\n" not in message


@pytest.mark.parametrize("name", ["csv", "label-studio", "hf"])
@pytest.mark.parametrize("at", range(6))
def test_an_interrupted_selection_leaves_files_of_one_run(
    pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, at: int
) -> None:
    if name == "hf":
        pytest.importorskip("pyarrow")
    # Of the parent's lines, so that there is something to list beside the picks.
    lines = [{**line, "typicality": line["take"]} for line in expected(pool)]
    scores = tmp_path / "scores.jsonl"
    scores.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    out = tmp_path / OUTPUTS[name]
    given = ["select", scores, "--out", out, "--overwrite", "--format", name, "--pool",
             pool / "scores.jsonl", "--drop-atypical", "10%", "--quiet"]  # fmt: skip
    assert in_this_process(*given, "--budget", "10") == 0
    _fail_at_rename(monkeypatch, at)
    status = in_this_process(*given, "--budget", "20")
    monkeypatch.undo()
    picks = list(read_back(str(out), from_name="transcription")) if out.exists() else []
    metadata = json.loads(out.with_name(f"{out.name}.meta.json").read_text())
    assert len(picks) in (0, metadata["num_picks"])
    assert (status == 0) == (len(picks) == 20)


def _fail_at_rename(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Interrupt the process before it gives a file its name, after so many that have theirs."""
    rename, done = os.replace, [0]

    def replace(*paths: Any) -> None:
        if done[0] == at:
            raise KeyboardInterrupt
        done[0] += 1
        rename(*paths)

    monkeypatch.setattr(os, "replace", replace)
