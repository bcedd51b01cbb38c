"""Recordings that are missing, broken or shorter than their manifest says: named, never counted."""

from __future__ import annotations

import itertools
import json
import math
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
import torch.nn.functional as F
from commands import lines_of
from conftest import Run
from recordings import SAMPLE_RATE_HZ, random_checkpoint, waveform, write_clips, write_manifest

from egl_fast.checkpoint import load_checkpoint, read_torch, save_checkpoint
from egl_fast.data.loading import load_spectrogram
from egl_fast.data.manifest import read_manifest
from egl_fast.errors import AudioError, ManifestError, ModelError
from egl_fast.evaluation.simulation.execution import _transcripts
from egl_fast.evaluation.simulation.sets import Member
from egl_fast.training import batches, metrics
from egl_fast.training.config import TrainingConfig
from egl_fast.training.examples import Example, examples_of_length, prepare_examples
from egl_fast.training.loop import Progress, Trainer
from egl_fast.training.run_folder import EpochMetrics
from egl_fast.training.schedule import rate_factor
from egl_fast.vocabulary import ENGLISH_CHARACTERS

CONFIG = TrainingConfig(max_epochs=2, patience=0, batch_seconds=1.5, learning_rate=3e-3)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Five recordings: fine, missing, broken, fine, and 0.2 s for a text of 60 characters."""
    manifest = write_clips(tmp_path, ["ab", "no", "ab", "no", "ab" * 30], [0.5, 0.5, 0.4, 0.6, 0.2])
    (tmp_path / "clip1.wav").unlink()
    (tmp_path / "clip2.wav").write_bytes(b"RIFF broken")
    return manifest


def one_line_each(errors: list[dict[str, Any]]) -> None:
    assert all(list(entry) == ["id", "error"] and "\n" not in entry["error"] for entry in errors)


@pytest.mark.parametrize("command", ["transcribe", "evaluate"])
def test_the_others_go_on(
    run: Run, mixed: Path, tiny_model: Path, tmp_path: Path, command: str
) -> None:
    out_path = tmp_path / "out.jsonl"
    arguments = (command, "--model", tiny_model, "--data", mixed)
    status, _, err = run(*arguments, "--out", out_path)
    assert status == 3, err
    assert [r["id"] for r in lines_of(out_path.read_text())] == [f"clip{n}.wav" for n in (0, 3, 4)]
    errors_path = tmp_path / "out.jsonl.errors.jsonl"
    errors = lines_of(errors_path.read_text())
    one_line_each(errors)
    assert [entry["id"] for entry in errors] == ["clip1.wav", "clip2.wav"]
    assert "no such file" in errors[0]["error"]
    assert f"2 could not be {command.removesuffix('e')}ed: see {errors_path}" in err
    assert not list(tmp_path.glob("*.partial"))
    # Nothing of an earlier run is overwritten unasked, nor left where it is not true any more.
    out_path.unlink()
    assert str(errors_path) in run(*arguments, "--out", out_path)[2]
    fine = write_manifest(tmp_path / "fine.jsonl", [json.loads(mixed.read_text().split("\n")[0])])
    status, _, err = run(
        command, "--model", tiny_model, "--data", fine, "--out", out_path, "--overwrite"
    )
    assert status == 0, err
    assert not errors_path.exists()


def test_without_out_failures_are_lines_on_standard_error(
    run: Run, mixed: Path, tiny_model: Path
) -> None:
    status, out, err = run("transcribe", "--model", tiny_model, "--data", mixed)
    assert status == 3
    assert [r["id"] for r in lines_of(out)] == [f"clip{n}.wav" for n in (0, 3, 4)]
    assert [line[:9] for line in err.splitlines() if ".wav: audio" in line] == [
        "clip1.wav",
        "clip2.wav",
    ]


def test_rates_say_how_many_they_leave_out(run: Run, mixed: Path, tiny_model: Path) -> None:
    arguments = ("evaluate", "--model", tiny_model, "--data", mixed, "--by", "text")
    status, out, _ = run(*arguments, "--json")
    found = json.loads(out)
    assert status == 3
    assert (found["utterances"], found["left_out"], found["infinite_losses"]) == (3, 2, 1)
    assert (found["by"]["no"]["utterances"], found["by"]["no"]["left_out"]) == (1, 1)
    assert "2 of 5 recordings could not be evaluated" in run(*arguments)[1]


def test_rates_of_nothing_are_null(run: Run, mixed: Path, tiny_model: Path) -> None:
    line = json.loads(mixed.read_text().split("\n")[1])
    gone = write_manifest(mixed.parent / "gone.jsonl", [line])
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
    run: Run, clips: Path, tmp_path: Path, command: str
) -> None:
    checkpoint = random_checkpoint()
    with torch.no_grad():
        # A model file holds no NaN, but one of these adds up to infinity.
        checkpoint.model.output.weight[3:5] = torch.tensor([[3e38], [-3e38]])
    save_checkpoint(tmp_path / "loud.pt", checkpoint)
    status, _, err = run(command, "--model", tmp_path / "loud.pt", "--data", clips)
    assert status == 3
    assert err.count("the model's logits are NaN or infinite") == 4
    assert err.index("'clip0.wav'") < err.index("'clip3.wav'"), "in the manifest's order"


def train(run: Run, manifest: Path, *more: object, valid: Path | None = None) -> Any:
    return run(
        *("train", "--train", manifest, "--valid", valid or manifest, "--preset", "tiny"),
        *("--run-dir", manifest.parent / "run", "--max-epochs", 1, *more),
    )


def test_training_leaves_out_what_it_cannot_use(run: Run, mixed: Path, tmp_path: Path) -> None:
    status, out, err = train(run, mixed, "--json", "--cell", "rnn_tanh")
    assert status == 3, err
    errors = lines_of((tmp_path / "run" / "errors.jsonl").read_text())
    one_line_each(errors)
    assert [entry["id"] for entry in errors] == 2 * ["clip1.wav", "clip2.wav", "clip4.wav"]
    assert (
        "its text needs 60 frames, the audio (0.20 s, of 0.2 s in the manifest)"
        in errors[2]["error"]
    )
    assert "warning: 6 of 10 recordings cannot be used and are left out: see" in err
    assert "on 2 utterances" in err
    assert json.loads(out)["valid_loss"] > 0
    # The same again is the same set; another set is another run.
    assert train(run, mixed, "--resume", "--cell", "rnn_tanh")[0] == 3
    soundfile.write(tmp_path / "clip1.wav", waveform(0.5), SAMPLE_RATE_HZ)
    status, _, err = train(run, mixed, "--resume", "--cell", "rnn_tanh")
    assert status == 2
    assert "was started with other recordings that could be read" in err
    errors_before = (tmp_path / "run" / "errors.jsonl").read_bytes()
    assert len(errors_before.splitlines()) == 6, "nothing of the run has changed"


def test_training_on_nothing_is_refused(run: Run, mixed: Path, tmp_path: Path) -> None:
    gone = write_manifest(tmp_path / "gone.jsonl", [json.loads(mixed.read_text().split("\n")[1])])
    status, _, err = train(run, mixed, valid=gone)
    assert status == 2
    (line,) = err.splitlines()
    assert f"manifest {gone}: none of its recordings can be used, the first ('clip1.wav')" in line
    assert "no such file" in line
    assert not (tmp_path / "run").exists()


def test_the_audio_counts_not_what_the_manifest_says_of_it(
    run: Run, clips: Path, tmp_path: Path
) -> None:
    lines = lines_of(clips.read_text())
    short = [{**line, "duration": 30.0} for line in lines]
    exact = write_manifest(tmp_path / "exact.jsonl", [{**x, "duration": None} for x in lines])
    wrong = write_manifest(tmp_path / "wrong.jsonl", short)
    checkpoint = random_checkpoint()
    found = [prepare_examples(read_manifest(p), checkpoint).examples for p in (wrong, exact)]
    assert [e.seconds for e in found[0]] == [e.seconds for e in found[1]] == [0.5, 0.8, 0.65, 0.45]
    status, _, err = train(run, wrong, "--cell", "rnn_tanh")
    assert status == 0, err
    # Of both manifests, which are one.
    assert "warning: 8 durations in the manifest are longer than their audio (first 'clip0.wav': "
    assert "30 s, but there are 0.50); the true length counts" in err


@pytest.mark.parametrize("duration", [0.6, 0.4, None, 0.5])
def test_other_durations_are_not_worth_a_word(
    run: Run, clips: Path, tiny_model: Path, tmp_path: Path, duration: float | None
) -> None:
    line = {**lines_of(clips.read_text())[0], "duration": duration}
    path = write_manifest(tmp_path / "one.jsonl", [line])
    status, out, err = run("transcribe", "--model", tiny_model, "--data", path)
    assert status == 0
    assert lines_of(out)[0]["duration"] == min(duration or 1, 0.5)
    assert "warning" not in err


@pytest.mark.parametrize("command", ["transcribe", "evaluate", "score"])
def test_every_command_says_that_audio_is_missing(
    run: Run, clips: Path, tiny_model: Path, tmp_path: Path, command: str
) -> None:
    line = {**lines_of(clips.read_text())[0], "duration": 5.0}
    path = write_manifest(tmp_path / "one.jsonl", [line])
    which = ("--pool", path, "--k", 2) if command == "score" else ("--data", path)
    status, _, err = run(command, "--model", tiny_model, *which)
    assert status == 0
    assert "'clip0.wav': 5 s, but there are 0.50" in err


def examples_of(clips: Path) -> list[Example]:
    return prepare_examples(read_manifest(clips), random_checkpoint()).examples


def trainer_of(examples: list[Example], run_dir: Path, config: TrainingConfig = CONFIG) -> Trainer:
    checkpoint = random_checkpoint(cell="rnn_tanh", dropout=0.2, seed=7)
    return Trainer(checkpoint, config, train=examples, valid=examples, run_dir=run_dir)


@pytest.mark.parametrize("where", ["training", "validation"])
def test_a_recording_that_is_lost_in_the_middle_costs_nothing(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    examples = examples_of(clips)
    whole = trainer_of(examples, tmp_path / "whole")
    whole.start()
    whole.run()

    cut = trainer_of(examples, tmp_path / "cut")
    cut.start()
    module: Any = batches if where == "training" else metrics
    name = "load_audio" if where == "training" else "load_spectrogram"
    load, hidden = getattr(module, name), clips.with_name("hidden.wav")
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
    with pytest.raises(AudioError, match=r"clip\d\.wav: no such file; .*the state is saved"):
        cut.run(progress)
    monkeypatch.setattr(module, name, load)
    os.rename(hidden, lost[0])
    resumed = trainer_of(examples, tmp_path / "cut")
    resumed.resume()
    assert len(resumed.history) == 1
    assert resumed.unfinished is not None
    assert resumed.unfinished.num_batches == steps[-1]
    resumed.run()
    states = [read_torch(t.folder.last_path)["checkpoint"]["state_dict"] for t in (whole, resumed)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert [replace(m, seconds=0) for m in resumed.history] == [
        replace(m, seconds=0) for m in whole.history
    ]


def test_texts_that_do_not_fit_are_no_part_of_the_mean(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 0.45 s are 22 frames of logits; half as many fit no text of 15 characters.
    texts = ["ab", "no", "ab", "abcdefghijklmno"]
    write_clips(tmp_path, texts, [0.5, 0.8, 0.65, 0.45])
    config = replace(CONFIG, max_epochs=1, speed_perturb=0.5, learning_rate=1e-12)
    trainer = trainer_of(examples_of(clips), tmp_path / "run", config)
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


def test_a_length_that_was_wrong_is_found_out_while_training(clips: Path, tmp_path: Path) -> None:
    write_clips(tmp_path, ["ab" * 30, "no", "ab", "no"], [0.2, 0.8, 0.65, 0.45])
    utterances = read_manifest(clips)
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
        with pytest.raises(ManifestError, match=r"'clip0\.wav' .* needs 60 frames"):
            trainer.run()


def test_a_loss_that_is_infinite_never_wins_and_is_null(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(examples_of(clips), tmp_path / "run", replace(CONFIG, max_epochs=3))
    trainer.start()
    calls = []

    def ruled_out(rows: Any, labels: Any) -> float:
        calls.append(1)
        # In the first epoch one text is ruled out, and the others are free; later all cost 5.
        return (math.inf if len(calls) == 1 else 0.0) if len(calls) <= 4 else 5.0

    monkeypatch.setattr(metrics, "_ctc_loss", ruled_out)
    best = trainer.run()
    assert best.epoch == 2
    assert [m.valid_loss for m in trainer.history] == [None, 5.0, 5.0]
    lines = lines_of(trainer.folder.metrics_path.read_text())
    assert [line["valid_loss"] for line in lines] == [None, 5.0, 5.0]


def test_no_loss_is_no_improvement_to_a_schedule() -> None:
    def factor(*losses: float | None) -> float:
        return rate_factor("plateau", 9, warm_up_epochs=1, max_epochs=99, valid_losses=losses)

    assert factor(3.0, None, None) == 0.5
    assert factor(None, 3.0, 2.0) == 1.0
    assert asdict(EpochMetrics(1, None, None, 1.0, 1.0, 1e-3, 1.0))["train_loss"] is None


def test_a_recording_of_one_frame_survives_faster_playback(tmp_path: Path) -> None:
    manifest = write_clips(tmp_path, ["", "ab"], [0.0205, 0.5])
    config = replace(CONFIG, max_epochs=3, speed_perturb=0.5)
    trainer = trainer_of(examples_of(manifest), tmp_path / "run", config)
    trainer.start()
    trainer.run()
    assert len(trainer.history) == 3


@pytest.mark.parametrize("which", ["train", "valid"])
def test_texts_that_say_nothing_at_all_are_refused(
    run: Run, clips: Path, tmp_path: Path, which: str
) -> None:
    silent = write_manifest(
        tmp_path / "silent.jsonl", [{**line, "text": " "} for line in lines_of(clips.read_text())]
    )
    pair = (silent, clips) if which == "train" else (clips, silent)
    status, _, err = train(run, pair[0], valid=pair[1])
    assert status == 2
    assert f"manifest {silent}: every 'text' is empty" in err
    assert not (tmp_path / "run").exists()


def test_evaluation_of_silence_says_so(run: Run, clips: Path, tiny_model: Path) -> None:
    lines = [{**line, "text": ""} for line in lines_of(clips.read_text())]
    silent = write_manifest(clips.with_name("silent.jsonl"), lines)
    status, _, err = run("evaluate", "--model", tiny_model, "--data", silent)
    assert status == 0
    assert "warning: all texts are empty" in err


def test_what_is_trained_and_validated_on_is_said(run: Run, clips: Path, tmp_path: Path) -> None:
    lines = lines_of(clips.read_text())
    valid = write_manifest(tmp_path / "valid.jsonl", [{**lines[2], "id": "other"}, *lines[3:]])
    first = write_manifest(tmp_path / "first.jsonl", lines[:3])
    _, _, err = train(run, first, "--cell", "rnn_tanh", valid=valid)
    assert "1 of 2 utterances of --valid are also in --train (the first: 'other')" in err


class TestTextsOutsideTheVocabulary:
    """Refused with a way out, which works for evaluation and resumption, too."""

    @pytest.fixture
    def upper(self, clips: Path) -> Path:
        lines = [{**line, "text": line["text"].upper()} for line in lines_of(clips.read_text())]
        return write_manifest(clips, lines)

    def test_the_refusal_counts_and_names_both_ways_out(self, run: Run, upper: Path) -> None:
        status, _, err = train(run, upper)
        (line,) = err.splitlines()
        assert status == 2
        assert "4 of 4 texts cannot be used, the first of utterance 'clip0.wav' (line 1)" in line
        assert "--lowercase" in line
        assert "--vocabulary FILE" in line

    def test_a_model_of_its_own_alphabet_needs_other_remedies(
        self, run: Run, upper: Path, tiny_model: Path
    ) -> None:
        _, _, err = train_init(run, upper, tiny_model)
        assert "--lowercase" in err
        assert "--vocabulary" not in err
        _, _, err = run("evaluate", "--model", tiny_model, "--data", upper)
        assert "normalize the transcript" in err

    def test_lowercase(self, run: Run, upper: Path, tmp_path: Path) -> None:
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
    def test_a_vocabulary_of_ones_own(
        self, run: Run, upper: Path, tmp_path: Path, content: str
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
    def test_a_vocabulary_that_cannot_be_used(
        self, run: Run, upper: Path, tmp_path: Path, content: str, complaint: str
    ) -> None:
        path = tmp_path / "letters"
        path.write_text(content)
        status, _, err = train(run, upper, "--vocabulary", path)
        assert status == 2
        assert f"vocabulary {path}" in err
        assert complaint in err

    def test_the_default_is_what_it_was(self) -> None:
        assert ENGLISH_CHARACTERS[:3] == ("<blank>", " ", "'")


def train_init(run: Run, manifest: Path, model: Path) -> Any:
    return run(
        *("train", "--train", manifest, "--valid", manifest, "--init", model),
        *("--run-dir", manifest.parent / "run"),
    )


def train_lower(run: Run, upper: Path, folder: Path) -> str:
    """What is said of going on without --lowercase with texts that are lower case by themselves."""
    lines = [{**line, "text": line["text"].lower()} for line in lines_of(upper.read_text())]
    lower = write_manifest(folder / "clips_lower.jsonl", lines)
    return str(train(run, lower, "--cell", "rnn_tanh", "--resume")[2])


def test_groups_of_values_that_look_alike_are_kept_apart(
    run: Run, clips: Path, tiny_model: Path
) -> None:
    values: list[Any] = ["1", 1, None, ["x", {"b": 1, "a": 2}]]
    lines = [{**r, "x": v} for r, v in zip(lines_of(clips.read_text()), values, strict=True)]
    path = write_manifest(clips.with_name("by.jsonl"), [*lines, {**lines[0], "id": "n", "x": "a"}])
    _, out, _ = run("evaluate", "--model", tiny_model, "--data", path, "--by", "x", "--json")
    found = {name: rates["utterances"] for name, rates in json.loads(out)["by"].items()}
    assert found == {'"1"': 1, "1": 1, "null": 1, '["x", {"a": 2, "b": 1}]': 1, "a": 1}


def test_lengths_are_those_of_the_spectrogram(clips: Path) -> None:
    checkpoint = random_checkpoint()
    for example in examples_of(clips):
        assert example.seconds == load_spectrogram(example.utterance, checkpoint.features).seconds


def test_check_takes_the_first_that_can_be_read(run: Run, mixed: Path, tiny_model: Path) -> None:
    arguments = ("check", "--model", tiny_model, "--pool", mixed, "--utterances", 2, "--k", 1)
    status, out, err = run(*arguments, "--json")
    assert status == 0, err
    assert json.loads(out)["passed"]
    assert "warning: skipped clip1.wav" in err
    assert "clip2.wav" in err
    gone = write_manifest(mixed.parent / "gone.jsonl", [lines_of(mixed.read_text())[1]])
    status, _, err = run("check", "--model", tiny_model, "--pool", gone)
    assert status == 2
    assert "none of its recordings can be read" in err


def test_a_simulation_does_not_count_hours_that_are_not_there(clips: Path) -> None:
    utterances = read_manifest(clips)
    checkpoint = random_checkpoint()
    set_of_clips = tuple(Member(u, u.duration_seconds or 0.0, "") for u in utterances)
    assert len(_transcripts(checkpoint, set_of_clips, 2.0)) == 4
    wrong = replace(set_of_clips[2], utterance=replace(utterances[2], duration_seconds=30.0))
    with pytest.raises(ManifestError, match=r"'clip2\.wav': 0\.65 s were decoded of the 30 s"):
        _transcripts(checkpoint, (*set_of_clips[:2], wrong), 2.0)


def test_divergence_that_validation_finds_is_called_that(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(examples_of(clips), tmp_path / "run")
    trainer.start()
    train_epoch = trainer._train_epoch

    def diverging(*arguments: Any) -> Any:
        found = train_epoch(*arguments)
        with torch.no_grad():
            trainer.checkpoint.model.output.bias[0] = math.nan
        return found

    monkeypatch.setattr(trainer, "_train_epoch", diverging)
    with pytest.raises(ModelError, match=r"diverged in epoch 1: utterance .*lower --learning-rate"):
        trainer.run()
    assert not trainer.folder.model_path.exists()
