"""Texts outside the vocabulary are refused; the remedies work for evaluation and resumption too."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import lines_of
from conftest import Run
from recordings import utterance, write_manifest
from training_runs import train

from egl_fast.checkpoint import load_checkpoint
from egl_fast.errors import ManifestError
from egl_fast.recognizers.classes import Classes
from egl_fast.training.texts import all_labels
from egl_fast.vocabulary import ENGLISH_CHARACTERS


@pytest.fixture
def upper(recordings: Path) -> Path:
    lines = [{**line, "text": line["text"].upper()} for line in lines_of(recordings.read_text())]
    return write_manifest(recordings, lines)


def test_the_refusal_counts_and_names_both_ways_out(run: Run, upper: Path) -> None:
    status, _, err = train(run, upper)
    (line,) = err.splitlines()
    assert status == 2
    assert "4 of 4 texts cannot be used, the first of utterance 'rec0.wav' (line 1)" in line
    assert "--lowercase" in line
    assert "--vocabulary FILE" in line


def test_a_model_of_its_own_alphabet_needs_other_remedies(
    run: Run, upper: Path, tiny_model: Path
) -> None:
    _, _, err = train_init(run, upper, tiny_model)
    assert "--lowercase" in err
    assert "--vocabulary" not in err
    _, _, err = run("evaluate", "--model", tiny_model, "--data", upper)
    assert "normalize the transcript" in err


def test_lowercase_holds_for_resumption_and_evaluation(
    run: Run, upper: Path, tmp_path: Path
) -> None:
    status, _, err = train(run, upper, "--lowercase", "--cell", "rnn_tanh")
    assert status == 0, err
    model = tmp_path / "run" / "model.pt"
    assert load_checkpoint(model).training["lowercase"] is True
    assert "--lowercase True (now False)" in train_lower(run, upper, tmp_path)
    status, _, err = train(run, upper, "--lowercase", "--cell", "rnn_tanh", "--resume")
    assert status == 0, err
    out = tmp_path / "out.jsonl"
    status, table, _ = run("evaluate", "--model", model, "--data", upper, "--out", out)
    assert status == 0
    records = lines_of(out.read_text())
    assert records[0]["text"] == "AB", "the manifest's own"
    # The oracle: the same texts written in lower case to begin with.
    lower = write_manifest(
        tmp_path / "lower.jsonl", [{**r, "text": r["text"].lower()} for r in records]
    )
    assert run("evaluate", "--model", model, "--data", lower)[1] == table


@pytest.mark.parametrize(
    "content",
    ["A\nB\n<space>\nN\nO\n", "A\r\nB\r\n \r\nN\r\nO", '["A", "B", " ", "N", "O"]'],
    ids=["lines", "CRLF and a bare space", "JSON"],
)
def test_a_vocabulary_of_ones_own_is_trained_and_evaluated(
    run: Run, upper: Path, tmp_path: Path, content: str
) -> None:
    path = tmp_path / "letters"
    path.write_bytes(content.encode())
    status, _, err = train(run, upper, "--vocabulary", path, "--cell", "rnn_tanh")
    assert status == 0, err
    checkpoint = load_checkpoint(tmp_path / "run" / "model.pt")
    assert checkpoint.vocabulary == ("<blank>", "A", "B", " ", "N", "O")
    status, out, _ = run(
        "evaluate", "--model", tmp_path / "run" / "model.pt", "--data", upper, "--json"
    )
    assert status == 0
    assert json.loads(out)["infinite_losses"] == 0
    path.write_text("A\nB\n<space>\nO\nN\n")
    _, _, err = train(run, upper, "--vocabulary", path, "--cell", "rnn_tanh", "--resume")
    assert "another --vocabulary" in err


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("a\nbc\n", "line 2: 'bc' is not a single character; give one"),
        ("<blank>\na\n", "line 1: '<blank>' is not a single character; omit the blank"),
        ("a\nb\na\n", "line 3: 'a' is already line 1"),
        (" \n<space>\n", "line 2: ' ' is already line 1"),
        ("\n\n", "lists no characters"),
        ('["a", 1]', "is not a list of strings"),
        ('["a", ', "not JSON"),
        ('["a", "bc"]', "entry 2: 'bc'"),
    ],
)
def test_a_vocabulary_that_cannot_be_used_is_named(
    run: Run, upper: Path, tmp_path: Path, content: str, complaint: str
) -> None:
    path = tmp_path / "letters"
    path.write_text(content)
    status, _, err = train(run, upper, "--vocabulary", path)
    assert status == 2
    assert f"vocabulary {path}" in err
    assert complaint in err


def test_the_default_is_what_it_was() -> None:
    assert ENGLISH_CHARACTERS[:3] == ("<blank>", " ", "'")


def train_init(run: Run, manifest: Path, model: Path) -> Any:
    return run(
        *("train", "--train", manifest, "--valid", manifest, "--init", model),
        *("--run-dir", manifest.parent / "run"),
    )


def train_lower(run: Run, upper: Path, folder: Path) -> str:
    """The message when resuming without --lowercase on texts that are lower case already."""
    lines = [{**line, "text": line["text"].lower()} for line in lines_of(upper.read_text())]
    lower = write_manifest(folder / "lower_case.jsonl", lines)
    return str(train(run, lower, "--cell", "rnn_tanh", "--resume")[2])


def test_all_characters_that_cannot_be_written_are_counted() -> None:
    classes = Classes.of(["<blank>", "a", "b"], 0)
    texts = {"one": "aA!", "two": "b!", "three": "ab"}
    given = [replace(utterance(Path(f"{i}.wav")), id=i, text=text) for i, text in texts.items()]
    with pytest.raises(ManifestError) as caught:
        all_labels(given, classes)
    message = str(caught.value)
    assert message.startswith("2 of 3 texts cannot be used, the first of utterance 'one'")
    assert (
        "; not in the vocabulary, by texts: '!' in 2 (such as 'one', line 1), 'A' in 1" in message
    )
    assert message.endswith("; normalize the transcript to the vocabulary's characters")


@pytest.mark.parametrize(
    ("texts", "remedy"),
    [
        (["AB", "b"], "--lowercase converts the capitals, --skip-unwritable leaves out this rec"),
        (["a 4", "7"], "write numbers as words, --skip-unwritable leaves out these 2 recordings"),
        (["é", "ab"], "normalize the transcripts to the model's characters, --skip-unwritable"),
        (
            ["A4", "é"],
            "--lowercase converts the capitals, write numbers as words, normalize the tr",
        ),
    ],
)
def test_remedies_fit_the_characters(
    run: Run, recordings: Path, tiny_model: Path, texts: list[str], remedy: str
) -> None:
    lines = lines_of(recordings.read_text())[: len(texts)]
    write_manifest(recordings, [{**a, "text": text} for a, text in zip(lines, texts, strict=True)])
    _, _, err = train_init(run, recordings, tiny_model)
    assert f"; {remedy}" in err


def test_of_several_manifests_the_one_at_fault_is_named(
    run: Run, recordings: Path, tmp_path: Path
) -> None:
    *first, last = lines_of(recordings.read_text())
    one = write_manifest(tmp_path / "one.jsonl", first)
    two = write_manifest(tmp_path / "two.jsonl", [{**last, "text": "a4"}])
    given = ("train", "--train", one, "--train", two, "--valid", recordings, "--run-dir", "run")
    status, _, err = run(*given)
    assert status == 2
    assert f"({two}, line 1): text 'a4': character '4'" in err


def test_texts_that_cannot_be_written_are_left_out_when_asked(
    run: Run, recordings: Path, tmp_path: Path
) -> None:
    first, *rest = lines_of(recordings.read_text())
    partly = write_manifest(recordings, [{**first, "text": "a4"}, *rest])
    skip = ("--skip-unwritable", "--cell", "rnn_tanh")
    status, _, err = train(run, partly, *skip)
    assert status == 3, err
    assert "warning: 2 of 8 recordings cannot be used and are left out" in err
    [error, _] = lines_of((tmp_path / "run" / "errors.jsonl").read_text())
    assert error["id"] == "rec0.wav"
    assert error["error"].endswith("character '4' is not in the model's vocabulary")
    assert train(run, partly, *skip, "--resume")[0] == 3
    write_manifest(recordings, [{**first, "text": "4"}])
    status, _, err = train(run, partly, *skip)
    assert status == 2
    assert "character '4'" in err
