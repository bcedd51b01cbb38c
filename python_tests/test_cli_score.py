"""``egl-fast score`` and ``egl-fast check`` as a user meets them."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from commands import egl_fast, lines_of, refused, start
from recordings import SAMPLE_RATE_HZ, waveform, write_manifest

from egl_fast.cli.options import Size
from egl_fast.records import ScoreRecord

#: Fields of a line that need no option, in order.
FIELDS = [
    f.name
    for f in dataclasses.fields(ScoreRecord)
    if f.compare and f.default is dataclasses.MISSING
]


def test_a_broken_recording_goes_into_the_errors_file(
    tiny_model: Path, recordings: Path, tmp_path: Path
) -> None:
    records = lines_of(recordings.read_text())
    for record in records:
        record |= {"speaker": "a\u2028b <script>", "egl": "an old score"}
    records[1:1] = [{"audio_filepath": "gone.wav"}]
    records.append({"audio_filepath": "rec1.wav", "offset": 0.2, "duration": 0.3})
    pool = write_manifest(tmp_path / "pool.jsonl", records)
    out = tmp_path / "scores.jsonl"

    result = egl_fast("score", "--model", tiny_model, "--pool", pool, "--k", 7, "--out", out)

    assert result.returncode == 3, result.stderr
    assert result.stdout == ""
    scored = lines_of(out.read_text(encoding="utf-8"))
    kept = ["rec0.wav", "rec1.wav", "rec2.wav", "rec3.wav", "rec1.wav@0.2"]
    assert [record["id"] for record in scored] == kept
    for record in scored:
        assert set(FIELDS) <= set(record)
        assert isinstance(record["egl"], float)
        assert record["egl_full"] is None
        assert record["num_hypotheses"] == 7
        assert record["egl_normalized"] == pytest.approx(
            record["egl"] / record["beam_mass"], rel=1e-12
        )
        assert all(math.isfinite(v) for v in record.values() if isinstance(v, float))
    assert [record["nr"] for record in scored[:4]] == [0, 1, 2, 3]
    assert scored[0]["speaker"] == "a\u2028b <script>"
    assert scored[-1]["duration"] == pytest.approx(0.3)
    errors = lines_of((tmp_path / "scores.jsonl.errors.jsonl").read_text())
    assert [error["id"] for error in errors] == ["gone.wav"]
    meta = json.loads((tmp_path / "scores.jsonl.meta.json").read_text())
    assert meta["k"] == 7
    assert meta["method"] == "exact"
    assert meta["beam_width"] >= 7
    assert (meta["num_scored"], meta["num_failed"]) == (5, 1)
    assert len(meta["model_sha256"]) == 64
    assert meta["vocabulary"][0] == "<blank>"
    assert meta["wall_seconds"] > 0
    assert not list(tmp_path.glob("*.partial"))


def test_standard_output_holds_records_alone(tiny_model: Path, recordings: Path) -> None:
    result = egl_fast(
        "score", "--model", tiny_model, "--pool", recordings, "--k", 3, "--per-hypothesis"
    )
    assert result.returncode == 0, result.stderr
    records = lines_of(result.stdout)
    assert len(records) == 4
    for record in records:
        # The manifest's keys come first, and keep their place where both have a key.
        assert list(record)[:4] == ["audio_filepath", "duration", "text", "nr"]
        assert list(record)[4:] == [f for f in FIELDS if f != "duration"] + ["hypotheses"]
        hypotheses = record["hypotheses"]
        assert len(hypotheses) == 3
        assert set(hypotheses[0]) == {"text", "labels", "log_prob", "sq_grad_norm"}
        probabilities = [math.exp(h["log_prob"]) for h in hypotheses]
        assert probabilities == sorted(probabilities, reverse=True)
        expected = sum(
            p * h["sq_grad_norm"] for p, h in zip(probabilities, hypotheses, strict=True)
        )
        assert record["egl"] == pytest.approx(expected, rel=1e-9)
        assert all(0 not in h["labels"] for h in hypotheses)
    assert "scored 4 of 4" in result.stderr


@pytest.mark.parametrize("method", ["exact", "lowrank", "probe"])
def test_every_method_scores_all_labelings_too(
    tiny_model: Path, recordings: Path, tmp_path: Path, method: str
) -> None:
    out = tmp_path / "scores.jsonl"
    result = egl_fast(
        *("score", "--model", tiny_model, "--pool", recordings, "--k", 40, "--out", out),
        *("--method", method, *(("--tolerance", 0.2) if method == "lowrank" else ())),
        *("--full", "--full-samples", 6),
    )
    assert result.returncode == 0, result.stderr
    for record in lines_of(out.read_text(encoding="utf-8")):
        assert (record["egl_stderr"] == 0.0) == (method == "exact")
        assert record["egl_full"] >= record["egl"] - 1e-9
        assert record["egl_full_stderr"] > 0.0
        assert (record["egl_unsquared"] is None) == (method != "exact")
    meta = json.loads((tmp_path / "scores.jsonl.meta.json").read_text())
    assert meta["method"] == method
    assert meta["tolerance"] == (0.2 if method == "lowrank" else None)
    assert meta["probes"] == (4 if method == "probe" else None)
    assert meta["full_samples"] == 6


@pytest.mark.parametrize(
    ("option", "value"), [("--tolerance", 1), ("--probes", 1), ("--full-samples", 0)]
)
def test_an_estimator_out_of_range_is_refused(
    tiny_model: Path, recordings: Path, option: str, value: int
) -> None:
    result = egl_fast(
        "score", "--model", tiny_model, "--pool", recordings, "--method", "lowrank", option, value
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert option in result.stderr
    assert "Traceback" not in result.stderr


def test_scores_are_those_of_the_library(tiny_model: Path, recordings: Path) -> None:
    import egl_fast as library

    result = egl_fast("score", "--model", tiny_model, "--pool", recordings, "--k", 5, "--seed", 3)
    scorer = library.Scorer.from_checkpoint(tiny_model)
    records = list(scorer.score_manifest(recordings, k=5, seed=3))
    for line, record in zip(lines_of(result.stdout), records, strict=True):
        assert isinstance(record, ScoreRecord)
        assert (line["id"], line["random"]) == (record.id, record.random)
        assert line["egl"] == pytest.approx(record.egl, rel=1e-5)


def test_parameters_can_be_picked(tiny_model: Path, recordings: Path) -> None:
    def egl(*arguments: object) -> list[float]:
        result = egl_fast(
            "score", "--model", tiny_model, "--pool", recordings, "--k", 3, *arguments
        )
        assert result.returncode == 0, result.stderr
        return [record["egl"] for record in lines_of(result.stdout)]

    whole, last, others = egl(), egl("--params", "output.*"), egl("--params", "[!o]*")
    for a, b, c in zip(whole, last, others, strict=True):
        assert 0 < b < a
        assert a == pytest.approx(b + c, rel=1e-5)


def test_low_mass_is_warned_of(tiny_model: Path, recordings: Path) -> None:
    # With random weights, three labelings hold hardly any probability.
    result = egl_fast("score", "--model", tiny_model, "--pool", recordings, "--k", 3)
    assert "`egl` then follows that mass" in result.stderr
    assert "egl_normalized" in result.stderr


def test_a_pattern_that_matches_no_parameter_is_refused(tiny_model: Path, recordings: Path) -> None:
    arguments = ("score", "--model", tiny_model, "--pool", recordings, "--params", "decoder.*")
    assert "matches no trainable parameter" in refused(*arguments)


def test_values_that_an_option_does_not_take_are_named(tiny_model: Path, recordings: Path) -> None:
    for arguments, said in [
        (("--k", "10", "--beam-width", "9"), "beam-width"),
        (("--device", "tpu"), "--device"),
        (("--memory", "2"), "'2': expected a size such as 512MiB or 2GiB"),
        (("--memory", "0GiB"), "expected a size"),
        (("--batch-seconds", "0"), "--batch-seconds"),
    ]:
        result = egl_fast("score", "--model", tiny_model, "--pool", recordings, *arguments)
        assert result.returncode == 2
        assert "Traceback" not in result.stderr
        assert said in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("written", "expected"),
    [("2GiB", 2**31), ("512MiB", 2**29), ("1.5 GB", 1_500_000_000), ("64k", 64_000)],
)
def test_sizes_of_memory_have_units(written: str, expected: int) -> None:
    assert Size().convert(written, None, None) == expected


def test_less_memory_is_more_passes_and_the_same_scores(
    tiny_model: Path, recordings: Path, tmp_path: Path
) -> None:
    def scores(memory: str) -> list[dict[str, Any]]:
        out = tmp_path / f"{memory}.jsonl"
        arguments = ("--model", tiny_model, "--pool", recordings, "--k", 12, "--out", out)
        egl_fast("score", *arguments, "--memory", memory)
        meta = json.loads(Path(f"{out}.meta.json").read_text())
        assert meta["memory_bytes"] == Size().convert(memory, None, None)
        return lines_of(out.read_text(encoding="utf-8"))

    for one, other in zip(scores("2GiB"), scores("1KiB"), strict=True):
        assert one["egl"] == pytest.approx(other["egl"], rel=1e-4)
        assert one["egl_unsquared"] == pytest.approx(other["egl_unsquared"], rel=1e-4)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_is_refused(tiny_model: Path, recordings: Path) -> None:
    for device in ("cuda", "cuda:1"):
        line = refused("score", "--model", tiny_model, "--pool", recordings, "--device", device)
        assert f"device {device}: " in line
        assert "`egl-fast doctor` says more" in line
        assert "`--device cpu` needs no GPU" in line
    for command in ("evaluate", "transcribe"):
        arguments = ("--model", tiny_model, "--data", recordings, "--device", "cuda")
        assert "`egl-fast doctor`" in refused(command, *arguments)
    assert "`egl-fast doctor`" in refused("check", "--model", tiny_model, "--device", "cuda")


def test_nothing_is_overwritten(tiny_model: Path, recordings: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.jsonl"
    out.write_text("precious")
    arguments = ("score", "--model", tiny_model, "--pool", recordings, "--k", 2, "--out", out)
    assert "already exists; give --overwrite" in refused(*arguments)
    assert out.read_text() == "precious"
    assert egl_fast(*arguments, "--overwrite").returncode == 0
    assert len(lines_of(out.read_text())) == 4


def test_a_reader_that_closes_the_pipe_is_no_failure(tiny_model: Path, recordings: Path) -> None:
    process = start("score", "--model", tiny_model, "--pool", recordings, "--k", 2)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 0, err
    assert "Traceback" not in err
    assert "Exception" not in err


def test_long_recordings_are_refused_on_request(
    tiny_model: Path, recordings: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scores.jsonl"
    result = egl_fast(
        "score", "--model", tiny_model, "--pool", recordings, "--k", 2, "--out", out,
        "--max-duration", "0.6",
    )  # fmt: skip
    assert result.returncode == 3
    [first, second] = lines_of((tmp_path / "scores.jsonl.errors.jsonl").read_text())
    assert "longer than the 0.6 s allowed" in first["error"]
    assert (first["id"], second["id"]) == ("rec1.wav", "rec2.wav")


def test_other_formats_and_rates_score_alike(tiny_model: Path, tmp_path: Path) -> None:
    samples = waveform(0.6)
    soundfile.write(tmp_path / "mono.wav", samples, SAMPLE_RATE_HZ, "FLOAT")
    soundfile.write(
        tmp_path / "stereo.wav", np.stack([samples, samples], 1), SAMPLE_RATE_HZ, "FLOAT"
    )
    soundfile.write(tmp_path / "high.flac", waveform(0.6, rate_hz=48000), 48000)
    names = ["mono.wav", "stereo.wav", "high.flac"]
    pool = write_manifest(tmp_path / "p.jsonl", [{"audio_filepath": name} for name in names])
    result = egl_fast("score", "--model", tiny_model, "--pool", pool, "--k", 2)
    assert result.returncode == 0, result.stderr
    mono, stereo, high = lines_of(result.stdout)
    assert mono["egl"] == pytest.approx(stereo["egl"], rel=1e-5)
    assert high["num_frames"] == mono["num_frames"]


@pytest.mark.parametrize("suffix", [".partial", ".meta.json", ".errors.jsonl"])
def test_leftovers_of_another_run_are_kept(
    tiny_model: Path, recordings: Path, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / "scores.jsonl"
    (tmp_path / f"scores.jsonl{suffix}").write_text("precious")
    arguments = ("score", "--model", tiny_model, "--pool", recordings, "--k", 2, "--out", out)
    assert f"scores.jsonl{suffix}: is left over from another run" in refused(*arguments)
    assert (tmp_path / f"scores.jsonl{suffix}").read_text() == "precious"
    assert not out.exists()
    assert egl_fast(*arguments, "--overwrite").returncode == 0


def test_a_dash_is_standard_output(tiny_model: Path, recordings: Path, tmp_path: Path) -> None:
    result = egl_fast(
        "score", "--model", tiny_model, "--pool", recordings, "--k", 2, "--out", "-", cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert len(lines_of(result.stdout)) == 4
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("-")]
