"""Training that ends or meets a full disk at any disk operation resumes to the same bits."""

from __future__ import annotations

import errno
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from recorded_disk import POWER, RecordedDisk, no_syncing, restore
from recordings import random_checkpoint, write_recordings
from run_states import state_in, timeless

from egl_fast.data.manifest import Utterance, read_manifest
from egl_fast.errors import OutputError
from egl_fast.training.config import TrainingConfig
from egl_fast.training.examples import prepare_examples
from egl_fast.training.loop import Progress, Trainer

CONFIG = TrainingConfig(max_epochs=2, patience=0, batch_seconds=0.7, learning_rate=3e-3)


@pytest.fixture(scope="module")
def utterances(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    folder = tmp_path_factory.mktemp("recordings")
    return read_manifest(write_recordings(folder, ["ab", "no", "ab"], [0.3, 0.3, 0.4]))


def trainer_of(utterances: list[Utterance], run_dir: Path) -> Trainer:
    """A trainer that saves its state after every batch."""
    checkpoint = random_checkpoint(cell="rnn_tanh", dropout=0.2, seed=7)
    torch.manual_seed(7)
    examples = prepare_examples(utterances, checkpoint).examples
    return Trainer(
        checkpoint, CONFIG, train=examples, valid=examples[:1], run_dir=run_dir, save_seconds=0
    )


def train(utterances: list[Utterance], run_dir: Path) -> None:
    """Start or resume, and finish."""
    trainer = trainer_of(utterances, run_dir)
    with trainer.folder.locked():
        trainer.resume()
        trainer.run()


def result(run_dir: Path) -> dict[str, Any]:
    """Everything in the folder except times."""
    found: dict[str, Any] = {path.name: state_in(path) for path in run_dir.glob("*.pt")}
    metrics = (run_dir / "metrics.jsonl").read_text()
    found["metrics.jsonl"] = [timeless(json.loads(line)) for line in metrics.splitlines()]
    found["settings.json"] = (run_dir / "settings.json").read_bytes()
    assert {path.name for path in run_dir.iterdir()} == set(found), "nothing else is left over"
    del found["previous.pt"]  # after a power cut it may be of any epoch before
    return found


@pytest.fixture(scope="module")
def recorded(
    utterances: list[Utterance], tmp_path_factory: pytest.TempPathFactory
) -> tuple[RecordedDisk, dict[str, Any]]:
    """An undisturbed run: its steps and its result."""
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    run_dir.mkdir()
    disk = RecordedDisk(run_dir)
    with disk.recording():
        train(utterances, run_dir)
    return disk, result(run_dir)


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("power", POWER)
def test_every_crash_point(
    utterances: list[Utterance],
    recorded: tuple[RecordedDisk, dict[str, Any]],
    tmp_path: Path,
    power: str,
    every: int,
) -> None:
    disk, expected = recorded
    states = list(disk.states(power))
    assert len(states) > 10
    with no_syncing():
        for number, tree in enumerate(states[::every]):
            run_dir = tmp_path / str(number)
            restore(run_dir, tree)
            train(utterances, run_dir)
            assert result(run_dir) == expected
    # What a crash leaves is never mistaken for damage: there was no warning, an error in tests.


def failures(num_steps: int) -> Iterator[tuple[int, int]]:
    """Steps and how they fail."""
    errors = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
    rng = random.Random(0)
    return ((step, rng.choice(errors)) for step in range(1, num_steps + 1))


@pytest.mark.parametrize("every", [9, pytest.param(1, marks=pytest.mark.slow)])
def test_every_failing_step(
    utterances: list[Utterance],
    recorded: tuple[RecordedDisk, dict[str, Any]],
    tmp_path: Path,
    every: int,
) -> None:
    disk, expected = recorded
    for step, error in list(failures(disk.steps))[::every]:
        run_dir = tmp_path / str(step)
        run_dir.mkdir()
        failing = RecordedDisk(run_dir, fail_from=step, error=error)
        with pytest.raises(OutputError) as caught, failing.recording():
            train(utterances, run_dir)
        line = str(caught.value)
        assert "\n" not in line
        assert str(run_dir) in line
        assert "cannot be " in line
        assert ("make room" in line) == (error in (errno.ENOSPC, errno.EDQUOT)), line
        with no_syncing():
            train(utterances, run_dir)
        assert result(run_dir) == expected, f"step {step}"


def test_a_folder_removed_while_training_is_one_line(
    utterances: list[Utterance], tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    trainer = trainer_of(utterances, run_dir)

    def on_batch(epoch: int, batch: int, num_batches: int, loss: float | None) -> None:
        shutil.rmtree(run_dir, ignore_errors=True)

    line = rf"{run_dir}.*cannot be written .*No such file"
    with pytest.raises(OutputError, match=line), trainer.folder.locked():
        trainer.resume()
        trainer.run(Progress(on_batch))
    assert not run_dir.exists()
    with no_syncing():
        train(utterances, run_dir)
