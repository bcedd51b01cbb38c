"""Training: that it learns, that it resumes exactly, and what it refuses."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recordings import random_checkpoint, waveform, write_clips

from egl_fast.checkpoint import load_checkpoint, read_torch
from egl_fast.data.manifest import read_manifest
from egl_fast.errors import CheckpointError, EglError, ModelError, OutputError
from egl_fast.training.augment import change_speed, seed_epoch, spec_augment, utterance_rng
from egl_fast.training.config import TrainingConfig
from egl_fast.training.examples import prepare_examples
from egl_fast.training.loop import Progress, Trainer
from egl_fast.training.run_folder import EpochMetrics
from egl_fast.training.schedule import rate_factor

CONFIG = TrainingConfig(max_epochs=3, patience=0, batch_seconds=1.5, learning_rate=3e-3)


class KilledError(Exception):
    """Stands for a process that ends in the middle of an epoch."""


def trainer_of(
    clips: Path, run_dir: Path, config: TrainingConfig = CONFIG, *, cell: str = "gru", **more: Any
) -> Trainer:
    checkpoint = random_checkpoint(cell=cell, dropout=0.2, seed=7)
    examples = prepare_examples(read_manifest(clips), checkpoint).examples
    return Trainer(checkpoint, config, train=examples, valid=examples, run_dir=run_dir, **more)


def facts(history: list[EpochMetrics]) -> list[dict[str, Any]]:
    """Metrics but for the time they took, which is no one's to promise."""
    return [{**asdict(metrics), "seconds": None} for metrics in history]


def assert_same_tensors(first: Any, second: Any) -> None:
    """Equal to the last bit, through dictionaries and lists."""
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first.keys() - {"seconds"}:
            assert_same_tensors(first[key], second[key])
    elif isinstance(first, list):
        for one, other in zip(first, second, strict=True):
            assert_same_tensors(one, other)
    else:
        assert first == second


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_few_clips_are_learnt_by_heart(clips: Path, tmp_path: Path, optimizer: str) -> None:
    config = replace(CONFIG, max_epochs=25, optimizer=optimizer, schedule="constant")
    trainer = trainer_of(clips, tmp_path / "run", config)
    trainer.start()
    best = trainer.run()
    assert best.valid_loss < 0.25 * trainer.history[0].train_loss
    # SGD at a constant rate hops about the optimum; where it stands depends on rounding.
    assert best.valid_cer <= (0.0 if optimizer == "adamw" else 0.25)
    assert load_checkpoint(trainer.folder.model_path).training["epoch"] == best.epoch


@pytest.mark.parametrize(
    "changes",
    [
        {"spec_augment": True, "speed_perturb": 0.1, "schedule": "plateau"},
        {"optimizer": "sgd", "learning_rate": 1e-3},
    ],
    ids=["augmented", "sgd"],
)
def test_a_killed_run_resumes_to_the_same_bits(
    clips: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    config = replace(CONFIG, **changes)
    whole = trainer_of(clips, tmp_path / "whole", config)
    whole.start()
    whole.run()

    def kill_in_epoch_2(epoch: int, batch: int, num_batches: int, loss: float) -> None:
        if (epoch, batch) == (2, 1):
            raise KilledError

    halved = trainer_of(clips, tmp_path / "halved", config)
    halved.start()
    with pytest.raises(KilledError):
        halved.run(Progress(on_batch=kill_in_epoch_2))
    resumed = trainer_of(clips, tmp_path / "halved", config)
    resumed.resume()
    assert len(resumed.history) == 1
    resumed.run()
    assert facts(resumed.history) == facts(whole.history)
    assert_same_tensors(read_torch(resumed.folder.last_path), read_torch(whole.folder.last_path))
    assert_same_tensors(read_torch(resumed.folder.model_path), read_torch(whole.folder.model_path))
    lines = [
        [json.loads(line) for line in (t.folder.path / "metrics.jsonl").read_text().splitlines()]
        for t in (resumed, whole)
    ]
    assert [len(series) for series in lines] == [3, 3]
    assert_same_tensors(*lines)


def stop_after_every_batch() -> Progress:
    return Progress(stop=lambda: True)


def test_a_run_that_is_stopped_after_every_batch_comes_to_the_same_bits(
    clips: Path, tmp_path: Path
) -> None:
    config = replace(CONFIG, spec_augment=True, speed_perturb=0.1, schedule="plateau")
    whole = trainer_of(clips, tmp_path / "whole", config)
    whole.start()
    whole.run()
    num_stops, seconds = 0, 0.0
    while True:
        trainer = trainer_of(clips, tmp_path / "stopped", config)
        trainer.resume()
        assert trainer.seconds >= seconds
        torch.manual_seed(num_stops)  # where dropout's draws stand is part of the state
        try:
            trainer.run(stop_after_every_batch())
            break
        except KeyboardInterrupt:
            num_stops, seconds = num_stops + 1, trainer.seconds
    assert num_stops > 2 * config.max_epochs, "an epoch is to have several batches"
    assert facts(trainer.history) == facts(whole.history)
    assert_same_tensors(read_torch(trainer.folder.last_path), read_torch(whole.folder.last_path))
    assert_same_tensors(read_torch(trainer.folder.model_path), read_torch(whole.folder.model_path))


def test_a_kill_costs_no_more_than_what_was_not_saved(clips: Path, tmp_path: Path) -> None:
    whole = trainer_of(clips, tmp_path / "whole")
    whole.start()
    whole.run()
    batches: list[tuple[int, int]] = []

    def kill_in_epoch_2(epoch: int, batch: int, num_batches: int, loss: float) -> None:
        batches.append((epoch, batch))
        if (epoch, batch) == (2, num_batches):
            raise KilledError

    killed = trainer_of(clips, tmp_path / "killed", save_seconds=0.0)
    killed.start()
    with pytest.raises(KilledError):
        killed.run(Progress(on_batch=kill_in_epoch_2))
    resumed = trainer_of(clips, tmp_path / "killed")
    resumed.resume()
    again: list[tuple[int, int]] = []
    resumed.run(
        Progress(on_batch=lambda epoch, batch, num_batches, loss: again.append((epoch, batch)))
    )
    assert again[0] == batches[-1], "all batches before it were saved"
    assert_same_tensors(read_torch(resumed.folder.last_path), read_torch(whole.folder.last_path))


@pytest.mark.parametrize("damage", ["cut short", "gone", "no state", "flipped"])
def test_a_damaged_state_falls_back_to_the_one_before(
    clips: Path, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole = trainer_of(clips, tmp_path / "run")
    whole.start()
    whole.run()
    expected = read_torch(whole.folder.last_path), read_torch(whole.folder.model_path)
    last = whole.folder.last_path
    content = last.read_bytes()
    if damage == "cut short":
        last.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        place = len(content) // 2
        last.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
    elif damage == "no state":
        torch.save({"settings": whole.settings}, last)
    else:
        last.unlink()
    resumed = trainer_of(clips, tmp_path / "run")
    resumed.resume()
    assert len(resumed.history) == 2
    assert "last.pt" in caplog.text
    assert "continuing from" in caplog.text
    assert "after epoch 2" in caplog.text
    before = read_torch(whole.folder.previous_path)
    with pytest.raises(KeyboardInterrupt):
        resumed.run(Progress(stop=lambda: True))
    # The good state is still the one to fall back on: the damaged one has not taken its place.
    assert_same_tensors(read_torch(whole.folder.previous_path), before)
    resumed = trainer_of(clips, tmp_path / "run")
    resumed.resume()
    resumed.run()
    assert_same_tensors(read_torch(last), expected[0])
    assert_same_tensors(read_torch(whole.folder.model_path), expected[1])


def test_two_damaged_states_are_one_line(clips: Path, tmp_path: Path) -> None:
    trainer = trainer_of(clips, tmp_path)
    trainer.start()
    trainer.run()
    for path in (trainer.folder.last_path, trainer.folder.previous_path):
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"previous\.pt: ") as caught:
        trainer_of(clips, tmp_path).resume()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"cut short"])
def test_a_lost_best_model_is_noticed_before_more_time_goes_into_the_run(
    clips: Path, tmp_path: Path, content: bytes | None
) -> None:
    trainer = trainer_of(clips, tmp_path)
    trainer.start()
    with pytest.raises(KeyboardInterrupt):
        trainer.run(Progress(stop=lambda: len(trainer.history) > 0))
    trainer.folder.model_path.unlink()
    if content is not None:
        trainer.folder.model_path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"best epoch is lost .*model\.pt.*start over"):
        trainer_of(clips, tmp_path).resume()


def test_a_failed_write_leaves_the_states_before(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(clips, tmp_path)
    trainer.start()
    with pytest.raises(KeyboardInterrupt):
        trainer.run(Progress(stop=lambda: len(trainer.history) > 0))
    before = trainer.folder.last_path.read_bytes()

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("egl_fast.files.atomic.os.fsync", full)
    resumed = trainer_of(clips, tmp_path)
    with pytest.raises(OutputError, match="No space left on device"):
        resumed.resume()
    monkeypatch.undo()
    assert trainer.folder.last_path.read_bytes() == before
    assert not list(tmp_path.glob("*.partial"))


def test_a_run_killed_in_its_first_epoch_starts_anew(clips: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, max_epochs=1)
    whole = trainer_of(clips, tmp_path / "whole", config)
    whole.start()
    whole.run()
    # The model is written before the state: the kill may come between the two.
    halved = tmp_path / "halved"
    halved.mkdir()
    (halved / "model.pt").write_bytes(whole.folder.model_path.read_bytes())
    (halved / "metrics.jsonl").touch()
    resumed = trainer_of(clips, halved, config)
    resumed.resume()
    resumed.run()
    assert facts(resumed.history) == facts(whole.history)


@pytest.mark.parametrize("lost", [("last.pt", "previous.pt"), ("last.pt", "metrics.jsonl")])
def test_a_model_without_a_state_is_not_trained_over(
    clips: Path, tmp_path: Path, lost: tuple[str, ...]
) -> None:
    best = one_epoch_run(clips, tmp_path).folder.model_path.read_bytes()
    for name in lost:
        (tmp_path / name).unlink(missing_ok=True)
    with pytest.raises(OutputError, match="contains a model, but no state to continue from; give"):
        trainer_of(clips, tmp_path).resume()
    assert (tmp_path / "model.pt").read_bytes() == best


def test_a_finished_run_has_nothing_to_resume(clips: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, max_epochs=1)
    first = trainer_of(clips, tmp_path, config)
    first.start()
    best = first.run()
    before = first.folder.last_path.read_bytes()
    second = trainer_of(clips, tmp_path, config)
    second.resume()
    assert second.run() == best
    assert second.folder.last_path.read_bytes() == before


def one_epoch_run(clips: Path, run_dir: Path) -> Trainer:
    trainer = trainer_of(clips, run_dir, replace(CONFIG, max_epochs=1), settings={"data": "a"})
    trainer.start()
    trainer.run()
    return trainer


def test_other_settings_are_refused_by_name(clips: Path, tmp_path: Path) -> None:
    one_epoch_run(clips, tmp_path)
    config = replace(CONFIG, max_epochs=1)
    other_rate = trainer_of(
        clips, tmp_path, replace(config, learning_rate=1.0), settings={"data": "a"}
    )
    other_data = trainer_of(clips, tmp_path, config, settings={"data": "b"})
    for trainer, name in (
        (other_rate, "--learning-rate 0.003 (now 1.0)"),
        (other_data, "--data a (now b)"),
    ):
        with pytest.raises(OutputError, match=re.escape(f"was started with {name}; resume")):
            trainer.resume()


def test_a_run_is_never_started_over_another(clips: Path, tmp_path: Path) -> None:
    before = one_epoch_run(clips, tmp_path).folder.last_path.read_bytes()
    with pytest.raises(OutputError, match="already contains a run"):
        trainer_of(clips, tmp_path).start()
    assert (tmp_path / "last.pt").read_bytes() == before


@pytest.mark.parametrize("content", [b"", {"settings": 3}, [1], {}])
def test_a_damaged_state_is_one_line(clips: Path, tmp_path: Path, content: Any) -> None:
    state = tmp_path / "last.pt"
    if isinstance(content, bytes):
        state.write_bytes(content)
    else:
        torch.save(content, state)
    with pytest.raises(CheckpointError, match=r"last\.pt: ") as caught:
        trainer_of(clips, tmp_path).resume()
    assert "\n" not in str(caught.value)


def metrics_of(losses: list[float]) -> list[EpochMetrics]:
    return [EpochMetrics(i + 1, 1.0, loss, 0.5, 1.0, 1e-3, 1.0) for i, loss in enumerate(losses)]


@pytest.mark.parametrize(
    ("losses", "patience", "best"),
    [([3.0, 1.0, 2.0, 2.0], 2, 2), ([3.0, 1.0, 1.0, 1.0], 2, 2), ([4.0] * 9, 0, 1)],
)
def test_training_stops_without_a_better_epoch(
    clips: Path, tmp_path: Path, losses: list[float], patience: int, best: int
) -> None:
    trainer = trainer_of(clips, tmp_path, replace(CONFIG, max_epochs=9, patience=patience))
    trainer.history = metrics_of(losses)
    assert trainer.run().epoch == best
    assert len(trainer.history) == len(losses)


def test_a_recent_best_epoch_keeps_training_alive(clips: Path, tmp_path: Path) -> None:
    trainer = trainer_of(clips, tmp_path, replace(CONFIG, max_epochs=4, patience=2))
    trainer.start()
    trainer.history = metrics_of([3.0, 1.0, 2.0])
    trainer.run()
    assert len(trainer.history) == 4


def test_the_monitored_metric_decides(clips: Path, tmp_path: Path) -> None:
    history = metrics_of([1.0, 2.0])
    history[1] = replace(history[1], valid_cer=0.1)
    for monitor, best in (("loss", 1), ("cer", 2)):
        trainer = trainer_of(clips, tmp_path, replace(CONFIG, max_epochs=2, monitor=monitor))
        trainer.history = list(history)
        assert trainer.run().epoch == best


def test_divergence_is_one_line(clips: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, optimizer="sgd", learning_rate=1e30, max_grad_norm=1e30)
    trainer = trainer_of(clips, tmp_path / "run", config)
    trainer.start()
    with pytest.raises(ModelError, match=r"training diverged in epoch .*lower --learning-rate"):
        trainer.run()


@pytest.mark.parametrize(
    ("text", "seconds", "fits"),
    [
        ("abcde", 0.11, True),  # 10 windows, 5 frames of logits
        ("abcdef", 0.11, False),
        ("aba", 0.07, True),  # 6 windows, 3 frames
        ("aab", 0.07, False),  # a blank must part the repeat
        ("", 0.02, True),
        ("", 0.019, False),  # no frame at all
    ],
)
def test_a_text_needs_a_frame_a_label_and_one_a_repeat(
    tmp_path: Path, text: str, seconds: float, fits: bool
) -> None:
    utterances = read_manifest(write_clips(tmp_path, ["fine", text], [1.0, seconds]))
    prepared = prepare_examples(utterances, random_checkpoint())
    assert [e.utterance.id for e in prepared.examples] == ["clip0.wav", "clip1.wav"][: 1 + fits]
    if not fits:
        ((left_out, error),) = prepared.left_out
        assert left_out.id == "clip1.wav"
        # Shorter than a window, there is nothing to make frames of.
        assert re.search(r"line 2\): its text needs|is too short", str(error))


def test_an_unknown_character_names_the_utterance(tmp_path: Path) -> None:
    utterances = read_manifest(write_clips(tmp_path, ["fine", "Größe"], [1.0, 1.0]))
    with pytest.raises(EglError, match=r"utterance 'clip1\.wav' \(line 2\): .*character 'G'"):
        prepare_examples(utterances, random_checkpoint())


def test_draws_belong_to_the_utterance_and_the_epoch() -> None:
    def draws(seed: int, epoch: int, identity: str) -> list[float]:
        return utterance_rng(seed, epoch, identity).uniform(size=4).tolist()

    expected = draws(1, 2, "a")
    torch.rand(3)
    np.random.default_rng(0).uniform()
    draws(1, 2, "b")
    assert draws(1, 2, "a") == expected
    for other in ((2, 2, "a"), (1, 3, "a"), (1, 2, "b"), (12, 0, "a")):
        assert draws(*other) != expected


def test_an_epochs_seed_covers_torch_and_numpy() -> None:
    results = []
    for seed, epoch in ((3, 4), (3, 5), (3, 4)):
        rng = seed_epoch(seed, epoch)
        results.append((torch.rand(2).tolist(), rng.uniform(size=2).tolist()))
    assert results[0] == results[2]
    assert results[0][0] != results[1][0]
    assert results[0][1] != results[1][1]


def test_masks_are_bands_and_spans_of_zeros_and_spare_the_original() -> None:
    features = torch.ones(50, 161)
    sizes = {"num_frequency_masks": 1, "num_time_masks": 1, "max_bins": 20, "max_frames": 30}
    seen = set()
    for number in range(50):
        masked = spec_augment(features, utterance_rng(0, number, "x"), **sizes)
        rows, columns = masked.sum(dim=1) == 0, masked.sum(dim=0) == 0
        # All that is masked is whole rows or whole columns, each in one piece.
        assert torch.equal(masked == 0, rows[:, None] | columns[None, :])
        for hits, longest in ((rows, 5), (columns, 20)):  # a tenth of 50 frames
            places = hits.nonzero().flatten()
            assert len(places) <= longest
            assert len(places) == 0 or places[-1] - places[0] + 1 == len(places)
        seen.add((int(rows.sum()), int(columns.sum())))
    assert features.min() == 1
    assert {count for count, _ in seen} == {0, 1, 2, 3, 4, 5}


def test_masks_fit_the_shortest_utterance() -> None:
    masked = spec_augment(torch.ones(1, 161), utterance_rng(0, 0, "x"))
    assert masked.shape == (1, 161)
    assert masked.max() == 1


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.1])
def test_speed_changes_the_length_and_the_pitch(factor: float) -> None:
    samples = waveform(1.0, pitch_hz=1000.0)
    changed = change_speed(samples, factor)
    assert changed.dtype == np.float32
    assert abs(changed.shape[0] - 16000 / factor) <= 1
    spectrum = np.abs(np.fft.rfft(changed))
    pitch_hz = spectrum.argmax() * 16000 / changed.shape[0]
    # The tone swells twice a second, which puts its peaks 2 Hz off; a bin is 1 Hz wide.
    assert abs(pitch_hz - 1000 * factor) < 8


def test_schedules_start_low_peak_after_the_warm_up_and_end_where_they_say() -> None:
    def factor(schedule: str, at: float, losses: tuple[float, ...] = ()) -> float:
        return rate_factor(schedule, at, warm_up_epochs=2, max_epochs=10, valid_losses=losses)

    for schedule in ("cosine", "plateau", "constant"):
        assert factor(schedule, 0.0) == pytest.approx(0.1)
        assert factor(schedule, 1.0) == pytest.approx(0.55)
        assert factor(schedule, 2.0) == pytest.approx(1.0)
    assert factor("cosine", 6.0) == pytest.approx(0.01 + 0.99 * 0.5)
    assert factor("cosine", 10.0) == pytest.approx(0.01)
    assert factor("constant", 9.9) == 1.0
    assert factor("plateau", 5.0, (3, 2, 1)) == 1.0
    assert factor("plateau", 5.0, (1, 2, 2)) == 0.5
    assert factor("plateau", 6.0, (1, 2, 2, 2)) == 0.5
    assert factor("plateau", 7.0, (1, 2, 2, 2, 2)) == 0.25
    assert factor("plateau", 7.0, (1, 2, 0.5, 2, 0.4)) == 1.0
    assert math.isclose(
        rate_factor("cosine", 0, warm_up_epochs=0, max_epochs=1, valid_losses=()), 1
    )
