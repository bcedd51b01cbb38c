"""Training that was stopped or killed resumes to the same bits, or says why it cannot."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import lines_of
from run_states import state_in, timeless
from training_runs import CONFIG, trainer_of

from egl_fast.errors import CheckpointError, OutputError
from egl_fast.training.loop import Progress, Trainer
from egl_fast.training.run_folder import EpochMetrics
from egl_fast.warning import EglWarning


class KilledError(Exception):
    """Stands in for a process that ends in the middle of an epoch."""


def facts(history: list[EpochMetrics]) -> Any:
    """Metrics without the time they took."""
    return timeless([asdict(metrics) for metrics in history])


@pytest.mark.parametrize(
    "changes",
    [
        {"spec_augment": True, "speed_perturb": 0.1, "schedule": "plateau"},
        {"optimizer": "sgd", "learning_rate": 1e-3},
    ],
    ids=["augmented", "sgd"],
)
def test_a_killed_run_resumes_to_the_same_bits(
    recordings: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    config = replace(CONFIG, **changes)
    whole = trainer_of(recordings, tmp_path / "whole", config)
    whole.start()
    whole.run()

    def kill_in_epoch_2(epoch: int, batch: int, num_batches: int, loss: float) -> None:
        if (epoch, batch) == (2, 1):
            raise KilledError

    halved = trainer_of(recordings, tmp_path / "halved", config)
    halved.start()
    with pytest.raises(KilledError):
        halved.run(Progress(on_batch=kill_in_epoch_2))
    resumed = trainer_of(recordings, tmp_path / "halved", config)
    resumed.resume()
    assert len(resumed.history) == 1
    resumed.run()
    assert facts(resumed.history) == facts(whole.history)
    assert state_in(resumed.folder.last_path) == state_in(whole.folder.last_path)
    assert state_in(resumed.folder.model_path) == state_in(whole.folder.model_path)
    lines = [lines_of(t.folder.metrics_path.read_text()) for t in (resumed, whole)]
    assert [len(series) for series in lines] == [3, 3]
    assert timeless(lines[0]) == timeless(lines[1])


def stop_after_every_batch() -> Progress:
    return Progress(stop=lambda: True)


def test_a_run_that_is_stopped_after_every_batch_comes_to_the_same_bits(
    recordings: Path, tmp_path: Path
) -> None:
    config = replace(CONFIG, spec_augment=True, speed_perturb=0.1, schedule="plateau")
    whole = trainer_of(recordings, tmp_path / "whole", config)
    whole.start()
    whole.run()
    num_stops, seconds = 0, 0.0
    while True:
        trainer = trainer_of(recordings, tmp_path / "stopped", config)
        trainer.resume()
        assert trainer.seconds >= seconds
        torch.manual_seed(num_stops)  # the state of dropout's random generator is saved too
        try:
            trainer.run(stop_after_every_batch())
            break
        except KeyboardInterrupt:
            num_stops, seconds = num_stops + 1, trainer.seconds
    assert num_stops > 2 * config.max_epochs, "an epoch is to have several batches"
    assert facts(trainer.history) == facts(whole.history)
    assert state_in(trainer.folder.last_path) == state_in(whole.folder.last_path)
    assert state_in(trainer.folder.model_path) == state_in(whole.folder.model_path)


def test_a_kill_costs_no_more_than_what_was_not_saved(recordings: Path, tmp_path: Path) -> None:
    whole = trainer_of(recordings, tmp_path / "whole")
    whole.start()
    whole.run()
    batches: list[tuple[int, int]] = []

    def kill_in_epoch_2(epoch: int, batch: int, num_batches: int, loss: float) -> None:
        batches.append((epoch, batch))
        if (epoch, batch) == (2, num_batches):
            raise KilledError

    killed = trainer_of(recordings, tmp_path / "killed", save_seconds=0.0)
    killed.start()
    with pytest.raises(KilledError):
        killed.run(Progress(on_batch=kill_in_epoch_2))
    resumed = trainer_of(recordings, tmp_path / "killed")
    resumed.resume()
    again: list[tuple[int, int]] = []
    resumed.run(
        Progress(on_batch=lambda epoch, batch, num_batches, loss: again.append((epoch, batch)))
    )
    assert again[0] == batches[-1], "all batches before it were saved"
    assert state_in(resumed.folder.last_path) == state_in(whole.folder.last_path)


@pytest.mark.parametrize("damage", ["cut short", "gone", "no state", "flipped"])
def test_a_damaged_state_falls_back_to_the_one_before(
    recordings: Path, tmp_path: Path, damage: str
) -> None:
    whole = trainer_of(recordings, tmp_path / "run")
    whole.start()
    whole.run()
    expected = state_in(whole.folder.last_path), state_in(whole.folder.model_path)
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
    resumed = trainer_of(recordings, tmp_path / "run")
    with pytest.warns(EglWarning, match=r"last\.pt: .*continuing from .*after epoch 2"):
        resumed.resume()
    assert len(resumed.history) == 2
    before = state_in(whole.folder.previous_path)
    with pytest.raises(KeyboardInterrupt):
        resumed.run(Progress(stop=lambda: True))
    # The good state is still there to fall back on: the damaged one has not replaced it.
    assert state_in(whole.folder.previous_path) == before
    resumed = trainer_of(recordings, tmp_path / "run")
    resumed.resume()
    resumed.run()
    assert state_in(last) == expected[0]
    assert state_in(whole.folder.model_path) == expected[1]


def test_two_damaged_states_are_one_line(recordings: Path, tmp_path: Path) -> None:
    trainer = trainer_of(recordings, tmp_path)
    trainer.start()
    trainer.run()
    for path in (trainer.folder.last_path, trainer.folder.previous_path):
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"previous\.pt: ") as caught:
        trainer_of(recordings, tmp_path).resume()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"cut short"])
def test_a_lost_best_model_is_noticed_before_training_continues(
    recordings: Path, tmp_path: Path, content: bytes | None
) -> None:
    trainer = trainer_of(recordings, tmp_path)
    trainer.start()
    with pytest.raises(KeyboardInterrupt):
        trainer.run(Progress(stop=lambda: len(trainer.history) > 0))
    trainer.folder.model_path.unlink()
    if content is not None:
        trainer.folder.model_path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"best epoch is lost .*model\.pt.*start over"):
        trainer_of(recordings, tmp_path).resume()


def test_a_failed_write_leaves_the_states_before(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(recordings, tmp_path)
    trainer.start()
    with pytest.raises(KeyboardInterrupt):
        trainer.run(Progress(stop=lambda: len(trainer.history) > 0))
    before = trainer.folder.last_path.read_bytes()

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("egl_fast.files.atomic.os.fsync", full)
    resumed = trainer_of(recordings, tmp_path)
    with pytest.raises(OutputError, match="No space left on device"):
        resumed.resume()
    monkeypatch.undo()
    assert trainer.folder.last_path.read_bytes() == before
    assert not list(tmp_path.glob("*.partial"))


def test_a_run_killed_in_its_first_epoch_starts_over(recordings: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, max_epochs=1)
    whole = trainer_of(recordings, tmp_path / "whole", config)
    whole.start()
    whole.run()
    # The model is written before the state; a kill may come between the two.
    halved = tmp_path / "halved"
    halved.mkdir()
    (halved / "model.pt").write_bytes(whole.folder.model_path.read_bytes())
    (halved / "metrics.jsonl").touch()
    resumed = trainer_of(recordings, halved, config)
    resumed.resume()
    resumed.run()
    assert facts(resumed.history) == facts(whole.history)


@pytest.mark.parametrize("lost", [("last.pt", "previous.pt"), ("last.pt", "metrics.jsonl")])
def test_a_model_without_a_state_is_not_trained_over(
    recordings: Path, tmp_path: Path, lost: tuple[str, ...]
) -> None:
    best = one_epoch_run(recordings, tmp_path).folder.model_path.read_bytes()
    for name in lost:
        (tmp_path / name).unlink(missing_ok=True)
    with pytest.raises(OutputError, match="contains a model, but no state to continue from; give"):
        trainer_of(recordings, tmp_path).resume()
    assert (tmp_path / "model.pt").read_bytes() == best


def test_a_finished_run_has_nothing_to_resume(recordings: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, max_epochs=1)
    first = trainer_of(recordings, tmp_path, config)
    first.start()
    best = first.run()
    before = first.folder.last_path.read_bytes()
    second = trainer_of(recordings, tmp_path, config)
    second.resume()
    assert second.run() == best
    assert second.folder.last_path.read_bytes() == before


def one_epoch_run(recordings: Path, run_dir: Path) -> Trainer:
    trainer = trainer_of(recordings, run_dir, replace(CONFIG, max_epochs=1), settings={"data": "a"})
    trainer.start()
    trainer.run()
    return trainer


def test_other_settings_are_refused_by_name(recordings: Path, tmp_path: Path) -> None:
    one_epoch_run(recordings, tmp_path)
    config = replace(CONFIG, max_epochs=1)
    other_rate = trainer_of(
        recordings, tmp_path, replace(config, learning_rate=1.0), settings={"data": "a"}
    )
    other_data = trainer_of(recordings, tmp_path, config, settings={"data": "b"})
    for trainer, name in (
        (other_rate, "--learning-rate 0.003 (now 1.0)"),
        (other_data, "--data a (now b)"),
    ):
        with pytest.raises(OutputError, match=re.escape(f"was started with {name}; resume")):
            trainer.resume()


def test_a_run_is_never_started_over_another(recordings: Path, tmp_path: Path) -> None:
    before = one_epoch_run(recordings, tmp_path).folder.last_path.read_bytes()
    with pytest.raises(OutputError, match="already contains a run"):
        trainer_of(recordings, tmp_path).start()
    assert (tmp_path / "last.pt").read_bytes() == before


@pytest.mark.parametrize("content", [b"", {"settings": 3}, [1], {}])
def test_a_damaged_state_is_one_line(recordings: Path, tmp_path: Path, content: Any) -> None:
    state = tmp_path / "last.pt"
    if isinstance(content, bytes):
        state.write_bytes(content)
    else:
        torch.save(content, state)
    with pytest.raises(CheckpointError, match=r"last\.pt: ") as caught:
        trainer_of(recordings, tmp_path).resume()
    assert "\n" not in str(caught.value)
