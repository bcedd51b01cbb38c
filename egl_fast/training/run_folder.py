"""The folder of a training run: what it holds, and how a run is resumed from it.

    settings.json    what the run was started with
    metrics.jsonl    one line per finished epoch
    errors.jsonl     recordings that cannot be trained on, if there are any
    last.pt          training state, after an epoch or in the middle of one
    previous.pt      the state before that, in case last.pt is damaged
    model.pt         model file of the best epoch so far (see checkpoint.py)

Every file is replaced as a whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from egl_fast.checkpoint import (
    Checkpoint,
    load_checkpoint,
    read_torch,
    save_checkpoint,
    write_torch,
)
from egl_fast.data.jsonl import encoded_line
from egl_fast.errors import CheckpointError, OutputError, one_line
from egl_fast.files import atomic
from egl_fast.files.locking import sole_writer
from egl_fast.files.run_settings import changed_settings
from egl_fast.kinds import typed_from_mapping
from egl_fast.warning import warn


@dataclass(frozen=True)
class EpochMetrics:
    """One line of ``metrics.jsonl``.

    Attributes:
        epoch: from 1.
        train_loss: mean per utterance, in nats, over those whose text fits; None if none does.
        valid_loss: mean per utterance, in nats; None if the model rules a text out, which makes it
            infinite.
        valid_cer: character error rate of the validation set.
        valid_wer: word error rate of the validation set.
        learning_rate: of the epoch's last step.
        seconds: training and validation.
        num_misfits: training utterances left out of ``train_loss`` because, sped up, they have
            fewer frames than their text needs.
    """

    epoch: int
    train_loss: float | None
    valid_loss: float | None
    valid_cer: float
    valid_wer: float
    learning_rate: float
    seconds: float
    num_misfits: int = 0


@dataclass(kw_only=True)
class EpochSums:
    """Totals over the finished batches of an epoch.

    Attributes:
        num_batches: number of batches.
        loss_sum: of their utterances, in nats.
        num_utterances: those whose text fits.
        num_misfits: those whose text does not.
    """

    num_batches: int
    loss_sum: float
    num_utterances: int
    num_misfits: int = 0

    @property
    def mean_loss(self) -> float | None:
        """Per utterance, in nats; None if no text fits."""
        return self.loss_sum / self.num_utterances if self.num_utterances else None


@dataclass(kw_only=True)
class UnfinishedEpoch(EpochSums):
    """How far an epoch has come.

    Attributes:
        seconds: time spent on it.
        random_state: torch's, after its batches.
        cuda_random_state: of the GPU that trains, or None.
    """

    seconds: float
    random_state: Tensor
    cuda_random_state: Tensor | None


@dataclass(frozen=True)
class TrainingState:
    """Everything needed to continue training.

    Attributes:
        checkpoint: the model, as from ``checkpoint_content``.
        optimizer: its ``state_dict``.
        history: metrics of the finished epochs.
        unfinished: of the next epoch; None before its first batch.
    """

    checkpoint: dict[str, Any]
    optimizer: dict[str, Any]
    history: tuple[EpochMetrics, ...]
    unfinished: UnfinishedEpoch | None


class RunFolder:
    """The folder of one training run.

    All methods raise ``OutputError`` if the system refuses to write.

    Args:
        path: the folder, created if missing.
        settings: plain values that decide the weights; those of a resumed run must be the same.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.settings = settings
        self.settings_path = path / "settings.json"
        self.metrics_path = path / "metrics.jsonl"
        self.errors_path = path / "errors.jsonl"
        self.last_path = path / "last.pt"
        self.previous_path = path / "previous.pt"
        self.model_path = path / "model.pt"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Create the folder and lock out other runs; raises ``OutputError`` if it holds one."""
        atomic.make_folder(self.path)
        with sole_writer(self.path / ".lock", of=f"run folder {self.path}"):
            yield

    def start(self) -> None:
        """Begin a run; raises ``OutputError`` if the folder contains one already."""
        self.refuse_a_run()
        self._begin()

    def refuse_a_run(self) -> None:
        """Raise ``OutputError`` if the folder contains a run; it need not exist."""
        states = (self.last_path, self.previous_path, self.model_path)
        for path in (*states, self.metrics_path, self.errors_path, self.settings_path):
            if path.exists():
                raise OutputError(
                    f"run folder {self.path}: already contains a run ({path.name}); give --resume "
                    "to continue it, or another --run-dir"
                )

    def _begin(self) -> None:
        atomic.make_folder(self.path)
        atomic.write_json(self.settings_path, self.settings)
        self.write_metrics(())

    def resume(self) -> TrainingState | None:
        """The newest readable state; None, and a new run, if none was ever written.

        Raises:
            CheckpointError: every state is damaged.
            OutputError: the states belong to other settings, or only a model is left.
        """
        if not (self.last_path.exists() or self.previous_path.exists()):
            self._refuse_to_lose_a_model()
            self._begin()
            return None
        try:
            state = self._read(self.last_path)
        except CheckpointError as error:
            if not self.previous_path.exists():
                raise
            state = self._read(self.previous_path)
            epochs = len(state.history)
            warn(f"{error}; continuing from {self.previous_path}, after epoch {epochs}")
            # Otherwise, the next save would replace the good state with the damaged one.
            atomic.remove(self.last_path)
        self.write_metrics(state.history)
        return state

    def _refuse_to_lose_a_model(self) -> None:
        """Refuse a model without a state; only the first epoch's is written before its state."""
        if not self.model_path.exists():
            return
        try:
            killed_in_first_epoch = self.metrics_path.read_bytes() == b""
        except OSError:
            killed_in_first_epoch = False
        if not killed_in_first_epoch:
            raise OutputError(
                f"run folder {self.path}: contains a model, but no state to continue from; give "
                "another --run-dir"
            )

    def _read(self, path: Path) -> TrainingState:
        content = read_torch(path)
        try:
            recorded = content["settings"]
            found = changed_settings(recorded, self.settings)
        except (TypeError, KeyError, AttributeError):
            raise CheckpointError(
                f"run state {path}: is not a training state of egl-fast; give another --run-dir"
            ) from None
        if found:
            # Not a CheckpointError: the previous state would not fit either.
            raise OutputError(
                f"run folder {self.path}: was started with {'; '.join(found)}; resume with the "
                "same, or give another --run-dir"
            )
        try:
            unfinished = content["unfinished"]
            return TrainingState(
                checkpoint=content["checkpoint"],
                optimizer=content["optimizer"],
                history=tuple(
                    typed_from_mapping(EpochMetrics, metrics) for metrics in content["history"]
                ),
                unfinished=None
                if unfinished is None
                else typed_from_mapping(UnfinishedEpoch, unfinished),
            )
        except (TypeError, KeyError, ValueError) as error:
            raise CheckpointError(
                f"run state {path}: is damaged ({one_line(error)}); give another --run-dir"
            ) from None

    def save(self, state: TrainingState) -> None:
        """Write a training state, and keep the previous one."""
        if self.last_path.exists():
            self._keep_previous()
        unfinished = state.unfinished
        write_torch(
            self.last_path,
            {
                "checkpoint": state.checkpoint,
                "optimizer": state.optimizer,
                "history": [asdict(metrics) for metrics in state.history],
                "unfinished": None if unfinished is None else vars(unfinished),
                "settings": dict(self.settings),
            },
        )

    def _keep_previous(self) -> None:
        spare = self.previous_path.with_name(self.previous_path.name + atomic.PARTIAL)
        with atomic.as_output_error(self.previous_path):
            spare.unlink(missing_ok=True)
            try:
                os.link(self.last_path, spare)
                os.replace(spare, self.previous_path)
                # If both were names of one file, os.replace did nothing.
                spare.unlink(missing_ok=True)
            except OSError:  # a file system without hard links; other problems recur below
                atomic.write_bytes(self.previous_path, self.last_path.read_bytes())

    def save_model(self, checkpoint: Checkpoint) -> None:
        """Write the model file of the best epoch."""
        save_checkpoint(self.model_path, checkpoint)

    def refuse_without_model(self) -> None:
        """Raise ``CheckpointError`` if the best epoch's model is missing or damaged."""
        try:
            load_checkpoint(self.model_path)
        except CheckpointError as error:
            raise CheckpointError(
                f"run folder {self.path}: the model of its best epoch is lost ({error}); start "
                "over in another --run-dir"
            ) from None

    def write_errors(self, errors: Iterable[Mapping[str, str]]) -> None:
        """List what cannot be trained on; without any, there is no file."""
        lines = b"".join(map(encoded_line, errors))
        if lines:
            atomic.write_bytes(self.errors_path, lines)
        else:
            self.errors_path.unlink(missing_ok=True)

    def write_metrics(self, history: Sequence[EpochMetrics]) -> None:
        """Write the metrics of all finished epochs."""
        lines = b"".join(encoded_line(asdict(metrics)) for metrics in history)
        atomic.write_bytes(self.metrics_path, lines)
