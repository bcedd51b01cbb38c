"""Missing or broken recordings are named, left out, and counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from commands import lines_of, one_line_each
from conftest import Run
from recordings import random_checkpoint, write_manifest

from egl_fast.checkpoint import save_checkpoint


@pytest.mark.parametrize("command", ["transcribe", "evaluate"])
def test_unusable_recordings_do_not_stop_the_others(
    run: Run, partly_unreadable: Path, tiny_model: Path, tmp_path: Path, command: str
) -> None:
    out_path = tmp_path / "out.jsonl"
    arguments = (command, "--model", tiny_model, "--data", partly_unreadable)
    status, _, err = run(*arguments, "--out", out_path)
    assert status == 3, err
    assert [r["id"] for r in lines_of(out_path.read_text())] == [f"rec{n}.wav" for n in (0, 3, 4)]
    errors_path = tmp_path / "out.jsonl.errors.jsonl"
    errors = lines_of(errors_path.read_text())
    one_line_each(errors)
    assert [entry["id"] for entry in errors] == ["rec1.wav", "rec2.wav"]
    assert "no such file" in errors[0]["error"]
    assert f"2 could not be {command.removesuffix('e')}ed: see {errors_path}" in err
    assert not list(tmp_path.glob("*.partial"))
    # Errors of an earlier run are not overwritten unasked, nor left once they are outdated.
    out_path.unlink()
    assert str(errors_path) in run(*arguments, "--out", out_path)[2]
    fine = write_manifest(
        tmp_path / "fine.jsonl", [json.loads(partly_unreadable.read_text().split("\n")[0])]
    )
    status, _, err = run(
        command, "--model", tiny_model, "--data", fine, "--out", out_path, "--overwrite"
    )
    assert status == 0, err
    assert not errors_path.exists()


def test_without_out_failures_are_lines_on_standard_error(
    run: Run, partly_unreadable: Path, tiny_model: Path
) -> None:
    status, out, err = run("transcribe", "--model", tiny_model, "--data", partly_unreadable)
    assert status == 3
    assert [r["id"] for r in lines_of(out)] == [f"rec{n}.wav" for n in (0, 3, 4)]
    assert [line.split(":")[0] for line in err.splitlines() if ".wav: audio" in line] == [
        "rec1.wav",
        "rec2.wav",
    ]


def test_rates_say_how_many_they_leave_out(
    run: Run, partly_unreadable: Path, tiny_model: Path
) -> None:
    arguments = ("evaluate", "--model", tiny_model, "--data", partly_unreadable, "--by", "text")
    status, out, _ = run(*arguments, "--json")
    found = json.loads(out)
    assert status == 3
    assert (found["utterances"], found["left_out"], found["infinite_losses"]) == (3, 2, 1)
    assert (found["by"]["no"]["utterances"], found["by"]["no"]["left_out"]) == (1, 1)
    assert "2 of 5 recordings could not be evaluated" in run(*arguments)[1]


def test_rates_of_nothing_are_null(run: Run, partly_unreadable: Path, tiny_model: Path) -> None:
    line = json.loads(partly_unreadable.read_text().split("\n")[1])
    gone = write_manifest(partly_unreadable.parent / "gone.jsonl", [line])
    status, out, _ = run("evaluate", "--model", tiny_model, "--data", gone, "--json")
    assert status == 3
    assert json.loads(out) == {
        "utterances": 0, "left_out": 1, "loss": None, "infinite_losses": 0, "cer": None, "wer": None
    }  # fmt: skip
    status, out, _ = run("evaluate", "--model", tiny_model, "--data", gone)
    assert "nan" not in out
    assert out.splitlines()[1].split() == ["0", "-", "-", "-"]


@pytest.mark.parametrize("command", ["evaluate", "transcribe"])
def test_logits_that_are_nan_name_the_utterance(
    run: Run, recordings: Path, tmp_path: Path, command: str
) -> None:
    checkpoint = random_checkpoint()
    with torch.no_grad():
        # A model file holds no NaN, but one of these adds up to infinity.
        checkpoint.model.output.weight[3:5] = torch.tensor([[3e38], [-3e38]])
    save_checkpoint(tmp_path / "loud.pt", checkpoint)
    status, _, err = run(command, "--model", tmp_path / "loud.pt", "--data", recordings)
    assert status == 3
    assert err.count("the model's logits are NaN or infinite") == 4
    assert err.index("'rec0.wav'") < err.index("'rec3.wav'"), "in the manifest's order"
