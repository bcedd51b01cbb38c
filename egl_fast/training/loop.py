"""The training loop: epochs of batches, validation, states to go on from.

Every random draw is a function of the seed, the epoch and the utterance, but for dropout, whose
generator is part of the state. So a run that was killed goes through the same numbers as one that
was not. What is kept where: ``run_folder``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from egl_fast.checkpoint import (
    Checkpoint,
    checkpoint_content,
    plain_values,
)
from egl_fast.data.audio import audio_seconds, load_audio
from egl_fast.data.batching import length_batches
from egl_fast.data.loading import pad_features, spectrogram_of
from egl_fast.data.manifest import Utterance
from egl_fast.data.prefetch import decoders_beside, prefetch
from egl_fast.errors import ManifestError, ModelError
from egl_fast.precision import products_in
from egl_fast.recurrent import scanned_recurrence
from egl_fast.training.augment import SpecAugment, change_speed, seed_epoch, utterance_rng
from egl_fast.training.metrics import error_rates, reference_labels, transcribe
from egl_fast.training.run_folder import (
    EpochMetrics,
    RunFolder,
    TrainingState,
    UnfinishedEpoch,
)
from egl_fast.training.saved_state import load_state
from egl_fast.training.schedule import rate_factor

#: How often the state is saved within an epoch: what a kill can cost.
SAVE_SECONDS = 600.0


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides the weights, but for data, model and initialisation.

    Attributes:
        max_epochs: upper limit of epochs.
        patience: stop after so many epochs without a better validation ``monitor``; 0: never.
        monitor: what "better" means, "loss" or "cer" on the validation set.
        batch_seconds: padded audio in a batch.
        optimizer: "adamw", or "sgd" with Nesterov momentum 0.9.
        learning_rate: peak rate.
        weight_decay: decoupled for AdamW, L2 for SGD; not applied to biases and norms.
        schedule: see ``schedule.rate_factor``.
        warm_up_epochs: length of the linear warm-up.
        max_grad_norm: gradients are scaled down to this Euclidean norm.
        spec_augment: masks over frequency and time.
        speed_perturb: playback speed is drawn from 1 -+ this share.
        seed: of all random draws.
    """

    max_epochs: int = 40
    patience: int = 5
    monitor: str = "loss"
    batch_seconds: float = 80.0
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    schedule: str = "cosine"
    warm_up_epochs: float = 1.0
    max_grad_norm: float = 100.0
    spec_augment: bool = False
    speed_perturb: float = 0.0
    seed: int = 0


@dataclass
class Example:
    """An utterance ready for training: its labels, and its length for batching."""

    utterance: Utterance
    labels: list[int]
    seconds: float


@dataclass
class Progress:
    """What the loop tells its caller while it runs, and asks: whether to stop after a batch."""

    on_batch: Callable[[int, int, int, float], None] = field(
        default=lambda epoch, batch, num_batches, loss: None
    )
    on_epoch: Callable[[EpochMetrics, bool], None] = field(default=lambda metrics, best: None)
    stop: Callable[[], bool] = field(default=lambda: False)


def prepare_examples(utterances: Sequence[Utterance], checkpoint: Checkpoint) -> list[Example]:
    """Check every transcript against the vocabulary and the number of frames.

    Raises:
        ManifestError: a text is missing, has a character outside the vocabulary, or needs more
            frames than the audio has; the message names the utterance.
        AudioError: a length is not in the manifest and the file's header cannot be read.
    """
    examples = []
    for utterance in utterances:
        labels = reference_labels(utterance, checkpoint.vocabulary)
        seconds = audio_seconds(utterance)
        samples = int(seconds * checkpoint.features.sample_rate_hz)
        frames = checkpoint.model.num_output_frames(checkpoint.features.num_frames(samples))
        needed = len(labels) + sum(a == b for a, b in pairwise(labels))
        if needed > frames or frames == 0:
            raise ManifestError(
                f"utterance {utterance.id!r} (line {utterance.line}): its text needs {needed} "
                f"frames, the audio ({seconds:.2f} s) gives {frames}; remove it or fix its text"
            )
        examples.append(Example(utterance, labels, seconds))
    return examples


class Trainer:
    """Trains a model in a run folder.

    Args:
        checkpoint: the model to start from, its features and vocabulary. Trained in place.
        config: how to train.
        train: training utterances with text.
        valid: validation utterances with text.
        run_dir: folder of the run, made if missing.
        settings: what to record and compare on resumption, beside ``config``.
        save_seconds: how often the state is saved within an epoch.

    Raises:
        ManifestError: see ``prepare_examples``.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        config: TrainingConfig,
        *,
        train: Sequence[Utterance],
        valid: Sequence[Utterance],
        run_dir: Path,
        settings: dict[str, Any] | None = None,
        save_seconds: float = SAVE_SECONDS,
    ) -> None:
        self.checkpoint = checkpoint
        self.config = config
        self.train_examples = prepare_examples(train, checkpoint)
        self.valid_utterances = [e.utterance for e in prepare_examples(valid, checkpoint)]
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
        """Go back to the last state that was saved; a run that had none starts anew.

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
            AudioError: a recording cannot be read.
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
                products_in("float32", self._device),
            ):
                train_loss, rate = self._train_epoch(epoch, progress, started)
            metrics = self._validate(epoch, train_loss, rate, started)
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
        return metrics.valid_cer if self.config.monitor == "cer" else metrics.valid_loss

    def _best(self) -> EpochMetrics:
        return min(self.history, key=self._monitored)

    def _finished(self) -> bool:
        epochs = len(self.history)
        if epochs == 0 or epochs >= self.config.max_epochs:
            return epochs > 0
        return 0 < self.config.patience <= epochs - self._best().epoch

    def _train_epoch(self, epoch: int, progress: Progress, started: float) -> tuple[float, float]:
        rng = seed_epoch(self.config.seed, epoch)
        # Jitter decides who shares a batch, so that batches differ between epochs.
        jitter = 1 + 0.1 * rng.uniform(-1, 1, len(self.train_examples))
        seconds = [e.seconds * j for e, j in zip(self.train_examples, jitter, strict=True)]
        plan = length_batches(seconds, batch_seconds=self.config.batch_seconds)
        if epoch > 1:  # The first epoch runs from short to long (Amodei et al., 2016, sec. 3.2).
            plan = [plan[i] for i in rng.permutation(len(plan))]
        model = self.checkpoint.model.train()
        first, total, count = 0, 0.0, 0
        if self.unfinished is not None:
            first, total = self.unfinished.num_batches, self.unfinished.loss_sum
            count = self.unfinished.num_utterances
            self._restore_random_state(self.unfinished)
        rate = self._rate(epoch, max(0, first - 1), len(plan))
        for number, (features, lengths, targets, target_lengths) in enumerate(
            self._batches(plan[first:], epoch), start=first
        ):
            rate = self._rate(epoch, number, len(plan))
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            logits, num_frames = model(features, lengths)
            # Faster playback can leave a text without enough frames: such a draw counts nothing.
            loss = F.ctc_loss(
                logits.log_softmax(2).transpose(0, 1),
                targets,
                num_frames,
                target_lengths,
                reduction="sum",
                zero_infinity=True,
            )
            if not math.isfinite(loss.item()):
                raise ModelError(
                    f"training diverged in epoch {epoch}: the loss is {loss.item()}; "
                    "lower --learning-rate"
                )
            self.optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss / len(lengths))
            torch.nn.utils.clip_grad_norm_(model.parameters(), self.config.max_grad_norm)
            self.optimizer.step()
            total, count = total + loss.item(), count + len(lengths)
            progress.on_batch(epoch, number + 1, len(plan), total / count)
            stop = progress.stop()
            if stop or time.monotonic() - self._saved_at >= self.save_seconds:
                self._save(number + 1, total, count, time.monotonic() - started)
            if stop:
                raise KeyboardInterrupt
        model.eval()
        return total / count, rate

    def _rate(self, epoch: int, batch: int, num_batches: int) -> float:
        return self.config.learning_rate * rate_factor(
            self.config.schedule,
            epoch - 1 + batch / num_batches,
            warm_up_epochs=self.config.warm_up_epochs,
            max_epochs=self.config.max_epochs,
            valid_losses=[metrics.valid_loss for metrics in self.history],
        )

    def _restore_random_state(self, unfinished: UnfinishedEpoch) -> None:
        torch.set_rng_state(unfinished.random_state)
        if unfinished.cuda_random_state is not None and self._device.type == "cuda":
            torch.cuda.set_rng_state(unfinished.cuda_random_state, self._device)

    def _batches(
        self, plan: list[list[int]], epoch: int
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        device = self._device
        features_config = self.checkpoint.features
        spec_augment = SpecAugment() if self.config.spec_augment else None

        def load(example: Example) -> Tensor:
            rng = utterance_rng(self.config.seed, epoch, example.utterance.id)
            waveform = load_audio(example.utterance, sample_rate_hz=features_config.sample_rate_hz)
            if self.config.speed_perturb > 0:
                spread = self.config.speed_perturb
                waveform = change_speed(waveform, 1 + spread * rng.uniform(-1, 1))
            name = f"audio {example.utterance.audio_path}"
            features = spectrogram_of(waveform, features_config, name=name).features
            return features if spec_augment is None else spec_augment(features, rng)

        order = [self.train_examples[i] for batch in plan for i in batch]
        loaded = prefetch(load, order, num_threads=decoders_beside(device))
        for batch in plan:
            features, lengths = pad_features([next(loaded) for _ in batch], device=device)
            labels = [self.train_examples[i].labels for i in batch]
            yield (
                features,
                lengths,
                torch.tensor([label for row in labels for label in row], dtype=torch.int64),
                torch.tensor([len(row) for row in labels]),
            )

    def _validate(self, epoch: int, train_loss: float, rate: float, started: float) -> EpochMetrics:
        windows = transcribe(
            self.checkpoint,
            self.valid_utterances,
            batch_seconds=self.config.batch_seconds,
            with_loss=True,
        )
        transcripts = [transcript for window in windows for transcript in window]
        rates = error_rates(transcripts)
        return EpochMetrics(
            epoch=epoch,
            train_loss=train_loss,
            valid_loss=rates.loss,
            valid_cer=rates.cer,
            valid_wer=rates.wer,
            learning_rate=rate,
            seconds=round(time.monotonic() - started, 2),
        )

    def _save(
        self, num_batches: int = 0, loss_sum: float = 0.0, count: int = 0, seconds: float = 0.0
    ) -> None:
        """Save the state after some batches of the next epoch."""
        if num_batches > 0:
            on_gpu = self._device.type == "cuda"
            self.unfinished = UnfinishedEpoch(
                num_batches=num_batches,
                loss_sum=loss_sum,
                num_utterances=count,
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
