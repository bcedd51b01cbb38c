"""The training loop: epochs of batches, validation, states to go on from.

Every random draw is a function of the seed, the epoch and the utterance, but for dropout, whose
generator is part of the state. So a run that was killed goes through the same numbers as one that
was not. What is kept where: ``run_folder``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from egl_fast.checkpoint import Checkpoint, checkpoint_content, plain_values
from egl_fast.compute.precision import matmul_precision
from egl_fast.data.batching import length_batches
from egl_fast.errors import AudioError, ModelError
from egl_fast.recurrent import scanned_recurrence
from egl_fast.training.augment import SpecAugment, seed_epoch
from egl_fast.training.batches import Batch, training_batches
from egl_fast.training.config import TrainingConfig
from egl_fast.training.examples import Example, refuse_misfit
from egl_fast.training.metrics import error_rates, transcribe
from egl_fast.training.run_folder import EpochMetrics, RunFolder, TrainingState, UnfinishedEpoch
from egl_fast.training.saved_state import load_state
from egl_fast.training.schedule import rate_factor
from egl_fast.training.texts import frames_needed

#: How often the state is saved within an epoch: what a kill can cost.
SAVE_SECONDS = 600.0


@dataclass
class Progress:
    """What the loop tells its caller while it runs, and asks: whether to stop after a batch."""

    on_batch: Callable[[int, int, int, float | None], None] = field(
        default=lambda epoch, batch, num_batches, loss: None
    )
    on_epoch: Callable[[EpochMetrics, bool], None] = field(default=lambda metrics, best: None)
    stop: Callable[[], bool] = field(default=lambda: False)


@dataclass
class _Sums:
    """What an epoch has come to so far."""

    num_batches: int = 0
    loss: float = 0.0
    num_utterances: int = 0
    num_misfits: int = 0

    @property
    def mean_loss(self) -> float | None:
        return self.loss / self.num_utterances if self.num_utterances else None


class Trainer:
    """Trains a model in a run folder.

    Args:
        checkpoint: the model to start from, its features and vocabulary. Trained in place.
        config: how to train.
        train: what to train on, at least one.
        valid: what to validate on, at least one.
        run_dir: folder of the run, made if missing.
        settings: what to record and compare on resumption, beside ``config``.
        save_seconds: how often the state is saved within an epoch.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        config: TrainingConfig,
        *,
        train: Sequence[Example],
        valid: Sequence[Example],
        run_dir: Path,
        settings: dict[str, Any] | None = None,
        save_seconds: float = SAVE_SECONDS,
    ) -> None:
        self.checkpoint = checkpoint
        self.config = config
        self.train_examples = list(train)
        self.valid_examples = list(valid)
        # Plain, so that they compare equal to what a resumed run reads back.
        self.settings = plain_values({**(settings or {}), "training": asdict(config)})
        self.folder = RunFolder(run_dir, self.settings)
        self.save_seconds = save_seconds
        self.optimizer = _make_optimizer(checkpoint.model, config)
        self.history: list[EpochMetrics] = []
        self.unfinished: UnfinishedEpoch | None = None
        self._saved_at = time.monotonic()

    @property
    def seconds(self) -> float:
        """What went into the run so far."""
        unfinished = 0.0 if self.unfinished is None else self.unfinished.seconds
        return sum(metrics.seconds for metrics in self.history) + unfinished

    def start(self) -> None:
        """Begin a run.

        Raises:
            OutputError: the folder holds a run already, or cannot be written.
        """
        self.folder.start()

    def resume(self) -> None:
        """Go back to the last state that was saved; a run that had none starts over.

        Raises:
            CheckpointError: every state is damaged, or the best model is lost.
            OutputError: they belong to other settings, or the folder cannot be written.
        """
        state = self.folder.resume()
        if state is None:
            return
        load_state(state, self.checkpoint, self.optimizer, self.folder.last_path)
        self.history = list(state.history)
        self.unfinished = state.unfinished
        if self.history:
            self.folder.refuse_without_model()

    def run(self, progress: Progress | None = None) -> EpochMetrics:
        """Train until the last epoch, or until validation stops improving.

        Returns:
            The metrics of the best epoch, whose model is in ``model.pt``.

        Raises:
            ModelError: the loss is not finite.
            AudioError: a recording cannot be read any more; the state is saved.
            ManifestError: a text needs more frames than its audio has.
            KeyboardInterrupt: ``progress.stop`` said so; the state is saved.
        """
        progress = progress or Progress()
        while not self._finished():
            epoch = len(self.history) + 1
            started = time.monotonic()
            if self.unfinished is not None:
                started -= self.unfinished.seconds
            with (
                scanned_recurrence(self.checkpoint.model),
                matmul_precision("float32", self._device),
            ):
                sums, rate = self._train_epoch(epoch, progress, started)
            metrics = self._validate(epoch, sums, rate, started)
            self.history.append(metrics)
            self.unfinished = None
            best = self._best() is metrics
            if best:
                self.checkpoint.training = {**self.settings, **asdict(metrics)}
                self.folder.save_model(self.checkpoint)
            self._save()
            self.folder.write_metrics(self.history)
            progress.on_epoch(metrics, best)
            if progress.stop() and not self._finished():
                raise KeyboardInterrupt
        return self._best()

    @property
    def _device(self) -> torch.device:
        return next(self.checkpoint.model.parameters()).device

    def _monitored(self, metrics: EpochMetrics) -> float:
        found = metrics.valid_cer if self.config.monitor == "cer" else metrics.valid_loss
        return math.inf if found is None else found

    def _best(self) -> EpochMetrics:
        return min(self.history, key=self._monitored)

    def _finished(self) -> bool:
        epochs = len(self.history)
        if epochs == 0 or epochs >= self.config.max_epochs:
            return epochs > 0
        return 0 < self.config.patience <= epochs - self._best().epoch

    def _train_epoch(self, epoch: int, progress: Progress, started: float) -> tuple[_Sums, float]:
        rng = seed_epoch(self.config.seed, epoch)
        # Jitter decides who shares a batch, so that batches differ between epochs.
        jitter = 1 + 0.1 * rng.uniform(-1, 1, len(self.train_examples))
        seconds = [e.seconds * j for e, j in zip(self.train_examples, jitter, strict=True)]
        plan = length_batches(seconds, batch_seconds=self.config.batch_seconds)
        if epoch > 1:  # The first epoch runs from short to long (Amodei et al., 2016, sec. 3.2).
            plan = [plan[i] for i in rng.permutation(len(plan))]
        model = self.checkpoint.model.train()
        sums = _Sums()
        if (before := self.unfinished) is not None:
            sums = _Sums(
                before.num_batches, before.loss_sum, before.num_utterances, before.num_misfits
            )
            self._restore_random_state(before)
        # Also where no batch is left to be done: it is part of the next state.
        rate = self._use_rate(epoch, max(0, sums.num_batches - 1), len(plan))
        batches = training_batches(
            [[self.train_examples[i] for i in batch] for batch in plan[sums.num_batches :]],
            self.checkpoint.features,
            epoch=epoch,
            seed=self.config.seed,
            speed_perturb=self.config.speed_perturb,
            spec_augment=SpecAugment() if self.config.spec_augment else None,
            device=self._device,
        )
        for number in range(sums.num_batches, len(plan)):
            try:
                batch = next(batches)
            except AudioError as error:
                self._save(sums, time.monotonic() - started)
                raise _lost(error) from None
            rate = self._use_rate(epoch, number, len(plan))
            logits, num_frames = model(batch.features, batch.lengths)
            num_misfits = self._num_misfits(batch, num_frames)
            # A text without enough frames counts nothing.
            loss = F.ctc_loss(
                logits.log_softmax(2).transpose(0, 1),
                batch.labels,
                num_frames,
                batch.label_lengths,
                reduction="sum",
                zero_infinity=True,
            )
            # zero_infinity hides a loss that is infinite; where logits are finite, only a text
            # without enough frames has one.
            if not (math.isfinite(loss.item()) and logits.isfinite().all()):
                raise ModelError(
                    f"training diverged in epoch {epoch}: the loss is {loss.item()}; "
                    "lower --learning-rate"
                )
            self.optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss / len(batch.examples))
            torch.nn.utils.clip_grad_norm_(model.parameters(), self.config.max_grad_norm)
            self.optimizer.step()
            sums.num_batches = number + 1
            sums.loss += loss.item()
            sums.num_utterances += len(batch.examples) - num_misfits
            sums.num_misfits += num_misfits
            progress.on_batch(epoch, number + 1, len(plan), sums.mean_loss)
            stop = progress.stop()
            if stop or time.monotonic() - self._saved_at >= self.save_seconds:
                self._save(sums, time.monotonic() - started)
            if stop:
                raise KeyboardInterrupt
        model.eval()
        return sums, rate

    def _num_misfits(self, batch: Batch, num_frames: Tensor) -> int:
        """How many texts of a batch have no alignment.

        Faster playback can take too many frames from a recording; nothing else may.
        """
        frames: list[int] = num_frames.tolist()
        if self.config.speed_perturb == 0:
            for example, count in zip(batch.examples, frames, strict=True):
                refuse_misfit(example, count)
        needed = [frames_needed(example.labels) for example in batch.examples]
        return sum(n > count for n, count in zip(needed, frames, strict=True))

    def _use_rate(self, epoch: int, batch: int, num_batches: int) -> float:
        rate = self.config.learning_rate * rate_factor(
            self.config.schedule,
            epoch - 1 + batch / num_batches,
            warm_up_epochs=self.config.warm_up_epochs,
            max_epochs=self.config.max_epochs,
            valid_losses=[metrics.valid_loss for metrics in self.history],
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def _restore_random_state(self, unfinished: UnfinishedEpoch) -> None:
        torch.set_rng_state(unfinished.random_state)
        if unfinished.cuda_random_state is not None and self._device.type == "cuda":
            torch.cuda.set_rng_state(unfinished.cuda_random_state, self._device)

    def _validate(self, epoch: int, sums: _Sums, rate: float, started: float) -> EpochMetrics:
        windows = transcribe(
            self.checkpoint,
            [example.utterance for example in self.valid_examples],
            batch_seconds=self.config.batch_seconds,
            with_loss=True,
        )
        try:
            transcripts = [transcript for window in windows for transcript in window]
        except AudioError as error:
            self._save(sums, time.monotonic() - started)
            raise _lost(error) from None
        except ModelError as error:
            raise ModelError(
                f"training diverged in epoch {epoch}: {error}; lower --learning-rate"
            ) from None
        for transcript, example in zip(transcripts, self.valid_examples, strict=True):
            refuse_misfit(example, transcript.num_frames)
        rates = error_rates(transcripts)
        assert rates.cer is not None
        assert rates.wer is not None
        return EpochMetrics(
            epoch=epoch,
            train_loss=sums.mean_loss,
            # A mean over some of the texts could win by ruling the others out.
            valid_loss=None if rates.num_infinite else rates.loss,
            valid_cer=rates.cer,
            valid_wer=rates.wer,
            learning_rate=rate,
            seconds=round(time.monotonic() - started, 2),
            num_misfits=sums.num_misfits,
        )

    def _save(self, sums: _Sums | None = None, seconds: float = 0.0) -> None:
        """Save the state, after some batches of the next epoch if there are any."""
        if sums is not None and sums.num_batches > 0:
            on_gpu = self._device.type == "cuda"
            self.unfinished = UnfinishedEpoch(
                num_batches=sums.num_batches,
                loss_sum=sums.loss,
                num_utterances=sums.num_utterances,
                num_misfits=sums.num_misfits,
                seconds=seconds,
                random_state=torch.get_rng_state(),
                cuda_random_state=torch.cuda.get_rng_state(self._device) if on_gpu else None,
            )
        self.folder.save(
            TrainingState(
                checkpoint=checkpoint_content(self.checkpoint),
                optimizer=self.optimizer.state_dict(),
                history=tuple(self.history),
                unfinished=self.unfinished,
            )
        )
        self._saved_at = time.monotonic()


def _lost(error: AudioError) -> AudioError:
    """What to say where a recording fails that could be read before the training began."""
    return AudioError(
        f"{error}; it could be read when training began: the state is saved, and once it can be "
        "read again the same command with --resume goes on"
    )


def _make_optimizer(model: torch.nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    decayed = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=config.learning_rate)
