"""Recordings and texts that training cannot use: left out, or refused."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch.nn.functional as F
from commands import lines_of, one_line_each
from conftest import Run
from recordings import SAMPLE_RATE_HZ, random_checkpoint, waveform, write_manifest, write_recordings
from run_states import state_in
from training_runs import CONFIG, train, trainer_of

from egl_fast.data.manifest import read_manifest
from egl_fast.errors import (
    AudioError,
    EglError,
    ManifestError,
)
from egl_fast.recognizers import recognizer
from egl_fast.training import batches
from egl_fast.training.examples import examples_of_length, prepare_examples
from egl_fast.training.loop import Progress, Trainer


@pytest.mark.parametrize(
    ("text", "seconds", "fits"),
    [
        ("abcde", 0.11, True),  # 10 windows, 5 frames of logits
        ("abcdef", 0.11, False),
        ("aba", 0.07, True),  # 6 windows, 3 frames
        ("aab", 0.07, False),  # a blank must separate the repeated label
        ("", 0.02, True),
        ("", 0.019, False),  # no frame at all
    ],
)
def test_a_text_needs_a_frame_a_label_and_one_a_repeat(
    tmp_path: Path, text: str, seconds: float, fits: bool
) -> None:
    utterances = read_manifest(write_recordings(tmp_path, ["fine", text], [1.0, seconds]))
    prepared = prepare_examples(utterances, random_checkpoint())
    assert [e.utterance.id for e in prepared.examples] == ["rec0.wav", "rec1.wav"][: 1 + fits]
    if not fits:
        ((left_out, error),) = prepared.left_out
        assert left_out.id == "rec1.wav"
        # Audio shorter than a window has no frames at all.
        assert re.search(r"line 2\): its text needs|is too short", str(error))


def test_an_unknown_character_names_the_utterance(tmp_path: Path) -> None:
    utterances = read_manifest(write_recordings(tmp_path, ["fine", "Größe"], [1.0, 1.0]))
    with pytest.raises(EglError, match=r"utterance 'rec1\.wav' \(line 2\): .*character 'G'"):
        prepare_examples(utterances, random_checkpoint())


def test_training_leaves_out_what_it_cannot_use(
    run: Run, partly_unreadable: Path, tmp_path: Path
) -> None:
    status, out, err = train(run, partly_unreadable, "--json", "--cell", "rnn_tanh")
    assert status == 3, err
    errors = lines_of((tmp_path / "run" / "errors.jsonl").read_text())
    one_line_each(errors)
    assert [entry["id"] for entry in errors] == 2 * ["rec1.wav", "rec2.wav", "rec4.wav"]
    assert (
        "its text needs 60 frames, the audio (0.20 s, of 0.2 s in the manifest)"
        in errors[2]["error"]
    )
    assert "warning: 6 of 10 recordings cannot be used and are left out: see" in err
    assert "on 2 utterances" in err
    assert json.loads(out)["valid_loss"] > 0
    # The same recordings can be resumed; another set of them is another run.
    assert train(run, partly_unreadable, "--resume", "--cell", "rnn_tanh")[0] == 3
    soundfile.write(tmp_path / "rec1.wav", waveform(0.5), SAMPLE_RATE_HZ)
    status, _, err = train(run, partly_unreadable, "--resume", "--cell", "rnn_tanh")
    assert status == 2
    assert "was started with other recordings that could be read" in err
    errors_before = (tmp_path / "run" / "errors.jsonl").read_bytes()
    assert len(errors_before.splitlines()) == 6, "nothing of the run has changed"


def test_training_on_nothing_is_refused(run: Run, partly_unreadable: Path, tmp_path: Path) -> None:
    gone = write_manifest(
        tmp_path / "gone.jsonl", [json.loads(partly_unreadable.read_text().split("\n")[1])]
    )
    status, _, err = train(run, partly_unreadable, valid=gone)
    assert status == 2
    (line,) = err.splitlines()
    assert f"manifest {gone}: none of its recordings can be used, the first ('rec1.wav')" in line
    assert "no such file" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("where", ["training", "validation"])
def test_a_recording_that_is_lost_in_the_middle_costs_nothing(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    config = replace(CONFIG, max_epochs=2)
    whole = trainer_of(recordings, tmp_path / "whole", config, cell="rnn_tanh")
    whole.start()
    whole.run()

    cut = trainer_of(recordings, tmp_path / "cut", config, cell="rnn_tanh")
    cut.start()
    module: Any = batches if where == "training" else recognizer
    name = "load_audio" if where == "training" else "load_waveform"
    load, hidden = getattr(module, name), recordings.with_name("hidden.wav")
    epochs: list[int] = []
    steps: list[int] = []
    lost: list[Path] = []
    asked = itertools.count(1)

    def failing(utterance: Any, *more: Any, **named: Any) -> Any:
        if epochs and next(asked) == 4:  # the last of the second epoch, not in its first batch
            lost.append(utterance.audio_path)
            os.rename(lost[0], hidden)
        return load(utterance, *more, **named)

    monkeypatch.setattr(module, name, failing)
    progress = Progress(
        on_batch=lambda epoch, batch, num_batches, loss: steps.append(batch),
        on_epoch=lambda metrics, best: epochs.append(metrics.epoch),
    )
    with pytest.raises(AudioError, match=r"rec\d\.wav: no such file; .*the state is saved"):
        cut.run(progress)
    monkeypatch.setattr(module, name, load)
    os.rename(hidden, lost[0])
    resumed = trainer_of(recordings, tmp_path / "cut", config, cell="rnn_tanh")
    resumed.resume()
    assert len(resumed.history) == 1
    assert resumed.unfinished is not None
    assert resumed.unfinished.num_batches == steps[-1]
    resumed.run()
    states = [state_in(t.folder.last_path) for t in (whole, resumed)]
    assert states[0] == states[1]


def test_texts_that_do_not_fit_are_left_out_of_the_mean(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 0.45 s make 22 frames of logits; half as many do not fit a text of 15 characters.
    texts = ["ab", "no", "ab", "abcdefghijklmno"]
    write_recordings(tmp_path, texts, [0.5, 0.8, 0.65, 0.45])
    config = replace(CONFIG, max_epochs=1, speed_perturb=0.5, learning_rate=1e-12)
    trainer = trainer_of(recordings, tmp_path / "run", config, cell="rnn_tanh")
    monkeypatch.setattr(batches, "change_speed", lambda waveform, factor: waveform[::2].copy())
    model = random_checkpoint(cell="rnn_tanh", dropout=0.0, seed=7).model.train()
    trainer.checkpoint.model = model
    trainer.start()
    seen: list[float] = []
    real = F.ctc_loss

    def watched(*arguments: Any, **named: Any) -> Any:
        each = real(*arguments, **{**named, "reduction": "none", "zero_infinity": False})
        seen.extend(each.tolist())
        return real(*arguments, **named)

    monkeypatch.setattr(F, "ctc_loss", watched)
    trainer.run()
    (epoch,) = trainer.history
    finite = [loss for loss in seen[:4] if math.isfinite(loss)]
    assert len(finite) == 3
    assert epoch.num_misfits == 1
    # Sums of four float32 losses below 1,000.
    assert epoch.train_loss == pytest.approx(sum(finite) / 3, rel=1e-6)
    (line,) = lines_of(trainer.folder.metrics_path.read_text())
    assert line["num_misfits"] == 1


def test_a_wrong_length_is_noticed_while_training(recordings: Path, tmp_path: Path) -> None:
    write_recordings(tmp_path, ["ab" * 30, "no", "ab", "no"], [0.2, 0.8, 0.65, 0.45])
    utterances = read_manifest(recordings)
    believed = examples_of_length(utterances, [5.0, 0.8, 0.65, 0.45], random_checkpoint())
    right = believed[1:]
    for train_on, valid_on in ((believed, right), (right, believed)):
        trainer = Trainer(
            random_checkpoint(),
            CONFIG,
            train=train_on,
            valid=valid_on,
            run_dir=tmp_path / f"run{len(train_on)}",
        )
        trainer.start()
        with pytest.raises(ManifestError, match=r"'rec0\.wav' .* needs 60 frames"):
            trainer.run()


def test_a_recording_of_one_frame_survives_faster_playback(tmp_path: Path) -> None:
    manifest = write_recordings(tmp_path, ["", "ab"], [0.0205, 0.5])
    config = replace(CONFIG, max_epochs=3, speed_perturb=0.5)
    trainer = trainer_of(manifest, tmp_path / "run", config, cell="rnn_tanh")
    trainer.start()
    trainer.run()
    assert len(trainer.history) == 3


def test_several_manifests_are_as_good_as_one(run: Run, recordings: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in recordings.read_text().splitlines()]
    for line in lines:
        line |= {"id": line["audio_filepath"]}
        line["audio_filepath"] = str(recordings.parent / line["audio_filepath"])
    first = write_manifest(tmp_path / "first.jsonl", lines[:2])
    second = write_manifest(tmp_path / "second.jsonl", lines[2:])
    joined = write_manifest(tmp_path / "joined.jsonl", lines)
    found = []
    for name, parts in {"one": [joined], "two": [first, second]}.items():
        given = [argument for part in parts for argument in ("--train", part)]
        folder = tmp_path / name
        run("train", *given, "--valid", joined, "--preset", "tiny", "--run-dir", folder,
            "--max-epochs", 1)  # fmt: skip
        [epoch] = lines_of((folder / "metrics.jsonl").read_text())
        found.append({**epoch, "seconds": None})
    assert found[0] == found[1]
    other = [{**lines[0], "text": "other"}]
    again = write_manifest(tmp_path / "again.jsonl", other)
    status, _, stderr = run(
        *("train", "--train", first, "--train", again, "--valid", joined),
        *("--run-dir", tmp_path / "no"),
    )
    assert status == 2
    assert re.search(r"again.jsonl, line 1: id .* is already in .*first.jsonl", stderr)


@pytest.mark.parametrize("which", ["train", "valid"])
def test_only_empty_texts_are_refused(
    run: Run, recordings: Path, tmp_path: Path, which: str
) -> None:
    silent = write_manifest(
        tmp_path / "silent.jsonl",
        [{**line, "text": " "} for line in lines_of(recordings.read_text())],
    )
    pair = (silent, recordings) if which == "train" else (recordings, silent)
    status, _, err = train(run, pair[0], valid=pair[1])
    assert status == 2
    assert f"manifest {silent}: every 'text' is empty" in err
    assert not (tmp_path / "run").exists()


def test_overlap_of_training_and_validation_is_reported(
    run: Run, recordings: Path, tmp_path: Path
) -> None:
    lines = lines_of(recordings.read_text())
    valid = write_manifest(tmp_path / "valid.jsonl", [{**lines[2], "id": "other"}, *lines[3:]])
    first = write_manifest(tmp_path / "first.jsonl", lines[:3])
    _, _, err = train(run, first, "--cell", "rnn_tanh", valid=valid)
    assert "1 of 2 utterances of --valid are also in --train (the first: 'other')" in err
