"""Training learns, knows its best epoch, and stops when it should."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import lines_of
from training_runs import CONFIG, trainer_of

from egl_fast.checkpoint import load_checkpoint
from egl_fast.errors import (
    ModelError,
)
from egl_fast.training import metrics
from egl_fast.training.run_folder import EpochMetrics


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_few_recordings_are_learned_by_heart(
    recordings: Path, tmp_path: Path, optimizer: str
) -> None:
    config = replace(CONFIG, max_epochs=25, optimizer=optimizer, schedule="constant")
    trainer = trainer_of(recordings, tmp_path / "run", config)
    trainer.start()
    best = trainer.run()
    assert best.valid_loss < 0.25 * trainer.history[0].train_loss
    # SGD at a constant rate jumps around the optimum; where it ends depends on rounding.
    assert best.valid_cer <= (0.0 if optimizer == "adamw" else 0.25)
    assert load_checkpoint(trainer.folder.model_path).training["epoch"] == best.epoch


def metrics_of(losses: list[float]) -> list[EpochMetrics]:
    return [EpochMetrics(i + 1, 1.0, loss, 0.5, 1.0, 1e-3, 1.0) for i, loss in enumerate(losses)]


@pytest.mark.parametrize(
    ("losses", "patience", "best"),
    [([3.0, 1.0, 2.0, 2.0], 2, 2), ([3.0, 1.0, 1.0, 1.0], 2, 2), ([4.0] * 9, 0, 1)],
)
def test_training_stops_without_a_better_epoch(
    recordings: Path, tmp_path: Path, losses: list[float], patience: int, best: int
) -> None:
    trainer = trainer_of(recordings, tmp_path, replace(CONFIG, max_epochs=9, patience=patience))
    trainer.history = metrics_of(losses)
    assert trainer.run().epoch == best
    assert len(trainer.history) == len(losses)


def test_a_recent_best_epoch_keeps_training_alive(recordings: Path, tmp_path: Path) -> None:
    trainer = trainer_of(recordings, tmp_path, replace(CONFIG, max_epochs=4, patience=2))
    trainer.start()
    trainer.history = metrics_of([3.0, 1.0, 2.0])
    trainer.run()
    assert len(trainer.history) == 4


def test_the_monitored_metric_decides(recordings: Path, tmp_path: Path) -> None:
    history = metrics_of([1.0, 2.0])
    history[1] = replace(history[1], valid_cer=0.1)
    for monitor, best in (("loss", 1), ("cer", 2)):
        trainer = trainer_of(recordings, tmp_path, replace(CONFIG, max_epochs=2, monitor=monitor))
        trainer.history = list(history)
        assert trainer.run().epoch == best


def test_divergence_is_one_line(recordings: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, optimizer="sgd", learning_rate=1e30, max_grad_norm=1e30)
    trainer = trainer_of(recordings, tmp_path / "run", config)
    trainer.start()
    with pytest.raises(ModelError, match=r"training diverged in epoch .*lower --learning-rate"):
        trainer.run()


def test_a_loss_that_is_infinite_never_wins_and_is_null(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(recordings, tmp_path / "run", cell="rnn_tanh")
    trainer.start()
    calls = []

    def ruled_out(rows: Any, labels: Any, **named: Any) -> float:
        calls.append(1)
        # In the first epoch one loss is infinite and the others are 0; later all are 5.
        return (math.inf if len(calls) == 1 else 0.0) if len(calls) <= 4 else 5.0

    monkeypatch.setattr(metrics, "_ctc_loss", ruled_out)
    best = trainer.run()
    assert best.epoch == 2
    assert [m.valid_loss for m in trainer.history] == [None, 5.0, 5.0]
    lines = lines_of(trainer.folder.metrics_path.read_text())
    assert [line["valid_loss"] for line in lines] == [None, 5.0, 5.0]


def test_divergence_found_by_validation_is_called_divergence(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(recordings, tmp_path / "run", cell="rnn_tanh")
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
