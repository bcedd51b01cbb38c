"""The folder of a training run: what is kept in it, and how it is found again.

    settings.json    what the run was started with
    metrics.jsonl    one line per finished epoch
    errors.jsonl     recordings that cannot be trained on, if there are any
    last.pt          training state: after an epoch, or in the middle of one
    previous.pt      the state before that, should last.pt be damaged
    model.pt         model file of the best epoch so far (see checkpoint.py)

Every file is replaced as a whole.
"""

from __future__ import annotations

import logging
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

_log = logging.getLogger("egl_fast")


@dataclass(frozen=True)
class EpochMetrics:
    """One line of ``metrics.jsonl``.

    Attributes:
        epoch: from 1.
        train_loss: mean per utterance, in nats, over those whose text fits; None where none does.
        valid_loss: likewise; None where the model rules a text out, which makes it infinite.
        valid_cer: of the validation set.
        valid_wer: likewise.
        learning_rate: of the epoch's last step.
        seconds: training and validation.
        num_misfits: training utterances left out of ``train_loss``: played back faster, they have
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


@dataclass(frozen=True)
class UnfinishedEpoch:
    """How far an epoch has come.

    Attributes:
        num_batches: that are done.
        loss_sum: of their utterances, in nats.
        num_utterances: in them, those that fit.
        num_misfits: in them, those that do not.
        seconds: they took.
        random_state: torch's, after them.
        cuda_random_state: of the GPU that trains, or None.
    """

    num_batches: int
    loss_sum: float
    num_utterances: int
    seconds: float
    random_state: Tensor
    cuda_random_state: Tensor | None
    num_misfits: int = 0


@dataclass(frozen=True)
class TrainingState:
    """All that training goes on from.

    Attributes:
        checkpoint: the model, as ``checkpoint_content`` gives it.
        optimizer: its ``state_dict``.
        history: metrics of the finished epochs.
        unfinished: of the next epoch, or None before its first batch.
    """

    checkpoint: dict[str, Any]
    optimizer: dict[str, Any]
    history: tuple[EpochMetrics, ...]
    unfinished: UnfinishedEpoch | None


class RunFolder:
    """The folder of one training run.

    Args:
        path: the folder, made if missing.
        settings: plain values that decide the weights; those of a resumed run must equal them.
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
        """Make the folder, and keep other runs from it.

        Raises:
            OutputError: another run is in it, or it cannot be made.
        """
        atomic.make_folder(self.path)
        with sole_writer(self.path / ".lock", of=f"run folder {self.path}"):
            yield

    def start(self) -> None:
        """Begin a run.

        Raises:
            OutputError: the folder holds one already, or cannot be written.
        """
        self.refuse_a_run()
        self._begin()

    def refuse_a_run(self) -> None:
        """Make sure that the folder holds no run, and need not be there at all.

        Raises:
            OutputError: it holds one.
        """
        states = (self.last_path, self.previous_path, self.model_path)
        for path in (*states, self.metrics_path, self.errors_path, self.settings_path):
            if path.exists():
                raise OutputError(
                    f"run folder {self.path}: holds a run already; give --resume to go on with "
                    f"it ({path.name} is there), or another --run-dir"
                )

    def _begin(self) -> None:
        atomic.make_folder(self.path)
        atomic.write_json(self.settings_path, self.settings)
        self.write_metrics(())

    def resume(self) -> TrainingState | None:
        """The newest state that can be read; None, and a beginning, where none was ever written.

        Raises:
            CheckpointError: every state is damaged, or they belong to other settings; or the best
                model is gone.
            OutputError: the folder cannot be written.
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
            _log.warning("%s; going on from %s, after epoch %d", error, self.previous_path, epochs)
            # Or the next state would have the damaged one take the good one's place.
            atomic.remove(self.last_path)
        self.write_metrics(state.history)
        return state

    def _refuse_to_lose_a_model(self) -> None:
        """Without a state, a model may be there only of a first epoch: it is written before."""
        if not self.model_path.exists():
            return
        try:
            killed_in_first_epoch = self.metrics_path.read_bytes() == b""
        except OSError:
            killed_in_first_epoch = False
        if not killed_in_first_epoch:
            raise OutputError(
                f"run folder {self.path}: holds a model, but no state to go on from; give another "
                "--run-dir"
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
            # No CheckpointError: the state before this one would not fit, either.
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
        """Write a training state, and keep the one before.

        Raises:
            OutputError: it cannot be written; the states before are still there.
        """
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
                # It is still there where both were names of one file.
                spare.unlink(missing_ok=True)
            except OSError:  # a file system without hard links; what else is wrong comes up again
                atomic.write_bytes(self.previous_path, self.last_path.read_bytes())

    def save_model(self, checkpoint: Checkpoint) -> None:
        """Write the model file of the best epoch.

        Raises:
            OutputError: it cannot be written.
        """
        save_checkpoint(self.model_path, checkpoint)

    def refuse_without_model(self) -> None:
        """Make sure that the best epoch's model is there, before more time goes into the run.

        Raises:
            CheckpointError: it is missing or damaged.
        """
        try:
            load_checkpoint(self.model_path)
        except CheckpointError as error:
            raise CheckpointError(
                f"run folder {self.path}: the model of its best epoch is lost ({error}); start "
                "over in another --run-dir"
            ) from None

    def write_errors(self, errors: Iterable[Mapping[str, str]]) -> None:
        """List what cannot be trained on; where there is nothing, there is no file.

        Raises:
            OutputError: the list cannot be written.
        """
        lines = b"".join(map(encoded_line, errors))
        if lines:
            atomic.write_bytes(self.errors_path, lines)
        else:
            self.errors_path.unlink(missing_ok=True)

    def write_metrics(self, history: Sequence[EpochMetrics]) -> None:
        """Write the metrics of all finished epochs.

        Raises:
            OutputError: they cannot be written.
        """
        lines = b"".join(encoded_line(asdict(metrics)) for metrics in history)
        atomic.write_bytes(self.metrics_path, lines)
