"""``egl-fast train``, ``evaluate`` and ``transcribe`` as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import lines_of, start, the_line
from conftest import Run
from recordings import write_manifest, write_recordings

from egl_fast.checkpoint import load_checkpoint


def assert_refused(result: tuple[int, str, str], *parts: str) -> None:
    """Check that the one line of a refused command holds these parts."""
    line = the_line(*result)
    for part in parts:
        assert part in line


def test_a_warm_start_begins_where_the_model_ended(
    run: Run, recordings: Path, tiny_model: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    status, out, err = run(
        *("train", "--train", recordings, "--valid", recordings, "--run-dir", run_dir),
        *("--init", tiny_model, "--max-epochs", 1, "--learning-rate", 1e-12),
    )
    assert (status, out) == (0, ""), err
    assert "best: epoch 1" in err
    trained = load_checkpoint(run_dir / "model.pt").model.output.weight
    initial = load_checkpoint(tiny_model).model.output.weight
    assert (trained - initial).abs().max() < 1e-6
    settings = json.loads((run_dir / "settings.json").read_text())
    assert settings["init"] == load_checkpoint(tiny_model).sha256


def test_evaluation_agrees_with_itself(
    run: Run, recordings: Path, tiny_model: Path, tmp_path: Path
) -> None:
    out_path = tmp_path / "out.jsonl"
    status, out, err = run(
        *("evaluate", "--model", tiny_model, "--data", recordings, "--out", out_path, "--json"),
        *("--by", "text"),
    )
    assert status == 0, err
    assert "4 utterances" in err
    summary, records = json.loads(out), lines_of(out_path.read_text())
    assert [record["nr"] for record in records] == [0, 1, 2, 3]
    assert [record["id"] for record in records] == [f"rec{n}.wav" for n in range(4)]
    assert list(records[0]) == [
        *("audio_filepath", "duration", "text", "nr", "id", "loss"),
        *("pred_text", "char_edits", "chars", "word_edits", "words"),
    ]
    for rates, part in (
        (summary, records),
        (summary["by"]["ab"], records[0::2]),
        (summary["by"]["no"], records[1::2]),
    ):
        assert rates["utterances"] == len(part)
        assert rates["loss"] == pytest.approx(sum(r["loss"] for r in part) / len(part))
        for rate, edits, length in (("cer", "char_edits", "chars"), ("wer", "word_edits", "words")):
            expected = sum(r[edits] for r in part) / sum(r[length] for r in part)
            assert rates[rate] == pytest.approx(expected)


def test_the_table_can_be_read(run: Run, recordings: Path, tiny_model: Path) -> None:
    _, plain, _ = run("evaluate", "--model", tiny_model, "--data", recordings)
    _, grouped, _ = run("evaluate", "--model", tiny_model, "--data", recordings, "--by", "nr")
    header, row = plain.splitlines()
    assert header.split() == ["utterances", "CTC", "loss", "CER", "WER"]
    assert row.split()[0] == "4"
    lines = grouped.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        *(["0", "1"], ["1", "1"], ["2", "1"], ["3", "1"]),
        ["all", "4"],
    ]
    assert lines[-1].split()[1:] == row.split()
    assert len({len(line) for line in lines}) == 1


def test_a_text_too_long_for_its_audio_is_counted_apart(
    run: Run, tiny_model: Path, tmp_path: Path
) -> None:
    recordings = write_recordings(tmp_path, ["ab" * 40, "ab"], [0.3, 0.3])
    out_path = tmp_path / "out.jsonl"
    status, out, _ = run(
        "evaluate", "--model", tiny_model, "--data", recordings, "--out", out_path, "--json"
    )
    records = lines_of(out_path.read_text())
    assert status == 0
    assert records[0]["loss"] is None
    assert json.loads(out)["loss"] == records[1]["loss"]
    assert json.loads(out)["infinite_losses"] == 1
    _, table, _ = run("evaluate", "--model", tiny_model, "--data", recordings)
    assert "1 of 2 texts need more frames than their audio has" in table


def test_transcripts_are_those_of_the_evaluation(
    run: Run, recordings: Path, tiny_model: Path, tmp_path: Path
) -> None:
    status, out, err = run("transcribe", "--model", tiny_model, "--data", recordings)
    assert status == 0, err
    to_stdout = lines_of(out)
    assert list(to_stdout[0]) == ["audio_filepath", "duration", "text", "nr", "id", "pred_text"]
    for path in ("a.jsonl", "b.jsonl"):
        command = "transcribe" if path == "a.jsonl" else "evaluate"
        status, _, err = run(
            command, "--model", tiny_model, "--data", recordings, "--out", tmp_path / path
        )
        assert status == 0, err
    assert lines_of((tmp_path / "a.jsonl").read_text()) == to_stdout
    evaluated = lines_of((tmp_path / "b.jsonl").read_text())
    assert [r["pred_text"] for r in evaluated] == [r["pred_text"] for r in to_stdout]
    assert not list(tmp_path.glob("*.partial"))


def test_any_text_and_key_is_carried_through_transcription(
    run: Run, recordings: Path, tiny_model: Path
) -> None:
    record = {"audio_filepath": "rec0.wav", "text": "Größe 7", "pred_text": "old", "x": [None]}
    manifest = write_manifest(recordings.parent / "other.jsonl", [record])
    status, out, err = run("transcribe", "--model", tiny_model, "--data", manifest)
    assert status == 0, err
    (written,) = lines_of(out)
    assert written.pop("pred_text") != "old"
    assert written.pop("duration") == pytest.approx(0.5)
    assert written.pop("id") == "rec0.wav"
    record.pop("pred_text")
    assert written == record


@pytest.mark.parametrize("command", ["evaluate", "transcribe"])
def test_nothing_is_overwritten_unasked(
    run: Run, recordings: Path, tiny_model: Path, tmp_path: Path, command: str
) -> None:
    out_path = tmp_path / "out.jsonl"
    out_path.write_text("precious")
    arguments = (command, "--model", tiny_model, "--data", recordings, "--out", out_path)
    assert_refused(run(*arguments), str(out_path), "--overwrite")
    assert out_path.read_text() == "precious"
    assert run(*arguments, "--overwrite")[0] == 0
    assert len(lines_of(out_path.read_text())) == 4


@pytest.mark.parametrize("command", ["evaluate", "transcribe"])
def test_bad_input_of_evaluate_and_transcribe_is_one_line(
    run: Run, recordings: Path, tiny_model: Path, tmp_path: Path, command: str
) -> None:
    def call(
        model: Path = tiny_model, data: Path = recordings, *more: object
    ) -> tuple[int, str, str]:
        return run(command, "--model", model, "--data", data, *more)

    missing = tmp_path / "missing"
    assert_refused(call(data=missing), f"manifest {missing}: no such file")
    assert_refused(call(model=missing), f"model {missing}: no such file")
    assert_refused(call(model=recordings), f"model {recordings}: is not an egl-fast checkpoint")
    assert_refused(call(data=tiny_model), f"manifest {tiny_model}: is a zip archive")
    out_path = missing / "out.jsonl"
    assert_refused(
        call(tiny_model, recordings, "--out", out_path), f"folder {missing} does not exist"
    )
    assert_refused(call(tiny_model, recordings, "--batch-seconds", 0), "--batch-seconds")
    assert_refused(call(tiny_model, recordings, "--frobnicate"), "--frobnicate")
    assert_refused(run(command, "--model", tiny_model), "--data")


def test_evaluation_needs_texts_the_model_can_write(
    run: Run, recordings: Path, tiny_model: Path
) -> None:
    for record, complaint in (
        ({"audio_filepath": "rec1.wav"}, "has no 'text'"),
        ({"audio_filepath": "rec1.wav", "text": "Größe"}, "character 'G' is not"),
    ):
        lines = [{"audio_filepath": "rec0.wav", "text": "ab"}, record]
        manifest = write_manifest(recordings.parent / "texts.jsonl", lines)
        result = run("evaluate", "--model", tiny_model, "--data", manifest)
        assert_refused(result, f"manifest {manifest}: ", "(line 2)", complaint)


def test_grouping_by_an_unknown_key_is_refused(
    run: Run, recordings: Path, tiny_model: Path
) -> None:
    result = run("evaluate", "--model", tiny_model, "--data", recordings, "--by", "korpus")
    assert_refused(result, "'korpus'")


def test_the_table_and_the_records_do_not_share_an_output(
    run: Run, recordings: Path, tiny_model: Path
) -> None:
    result = run("evaluate", "--model", tiny_model, "--data", recordings, "--out", "-")
    assert_refused(result, "--out -")


def test_training_input_is_checked_before_anything_is_made(
    run: Run, recordings: Path, tmp_path: Path
) -> None:
    bad = write_manifest(recordings.parent / "bad.jsonl", [{"audio_filepath": "rec0.wav"}])
    run_dir = tmp_path / "run"
    for train, complaint in ((tmp_path / "none", "no such file"), (bad, "has no 'text'")):
        result = run("train", "--train", train, "--valid", recordings, "--run-dir", run_dir)
        assert_refused(result, complaint)
    assert not run_dir.exists()
    run_dir.mkdir()
    (run_dir / "last.pt").write_bytes(b"an earlier run")
    assert_refused(
        run(
            "train",
            "--train",
            recordings,
            "--valid",
            recordings,
            "--run-dir",
            run_dir,
            "--preset",
            "tiny",
        ),
        *(str(run_dir), "give --resume"),
    )


def test_a_reader_that_has_seen_enough_is_no_error(recordings: Path, tiny_model: Path) -> None:
    process = start("transcribe", "--model", tiny_model, "--data", recordings)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 0, err
    assert "Traceback" not in err
    assert "BrokenPipe" not in err


def test_evaluation_of_silence_says_so(run: Run, recordings: Path, tiny_model: Path) -> None:
    lines = [{**line, "text": ""} for line in lines_of(recordings.read_text())]
    silent = write_manifest(recordings.with_name("silent.jsonl"), lines)
    status, _, err = run("evaluate", "--model", tiny_model, "--data", silent)
    assert status == 0
    assert "warning: all texts are empty" in err


def test_groups_of_values_that_look_alike_are_kept_apart(
    run: Run, recordings: Path, tiny_model: Path
) -> None:
    values: list[Any] = ["1", 1, None, ["x", {"b": 1, "a": 2}]]
    lines = [{**r, "x": v} for r, v in zip(lines_of(recordings.read_text()), values, strict=True)]
    path = write_manifest(
        recordings.with_name("by.jsonl"), [*lines, {**lines[0], "id": "n", "x": "a"}]
    )
    _, out, _ = run("evaluate", "--model", tiny_model, "--data", path, "--by", "x", "--json")
    found = {name: rates["utterances"] for name, rates in json.loads(out)["by"].items()}
    assert found == {'"1"': 1, "1": 1, "null": 1, '["x", {"a": 2, "b": 1}]': 1, "a": 1}
