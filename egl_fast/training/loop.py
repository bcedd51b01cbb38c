"""The training loop: epochs of batches, validation, states to continue from.

All randomness is a function of the seed, the epoch, and the utterance, except for dropout, whose
generator is part of the state; or, with several processes, seeded at every batch. So a run that was
killed computes the same numbers as one that was not. See ``run_folder`` for what is saved where,
and ``processes`` for what several do together.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from egl_fast.checkpoint import Checkpoint, checkpoint_content, plain_values
from egl_fast.compute.precision import matmul_precision
from egl_fast.data.batching import length_batches
from egl_fast.errors import AudioError, ModelError
from egl_fast.progress import bar
from egl_fast.recognizers.checkpoint import recognizer_of
from egl_fast.recurrent import scanned_recurrence
from egl_fast.training.augment import seed_epoch, seed_step
from egl_fast.training.batches import Batch, training_batches
from egl_fast.training.config import TrainingConfig
from egl_fast.training.examples import Example, refuse_misfit
from egl_fast.training.metrics import WINDOW_UTTERANCES, error_rates, transcribe
from egl_fast.training.processes import Processes
from egl_fast.training.run_folder import (
    EpochMetrics,
    EpochSums,
    RunFolder,
    TrainingState,
    UnfinishedEpoch,
)
from egl_fast.training.saved_state import load_state
from egl_fast.training.schedule import rate_factor
from egl_fast.training.texts import frames_needed

#: How often the state is saved within an epoch, and so what a kill can cost.
SAVE_SECONDS = 600.0


@dataclass
class Progress:
    """What the loop reports to its caller, and asks it: whether to stop after a batch."""

    on_batch: Callable[[int, int, int, float | None], None] = field(
        default=lambda epoch, batch, num_batches, loss: None
    )
    on_epoch: Callable[[EpochMetrics, bool], None] = field(default=lambda metrics, best: None)
    stop: Callable[[], bool] = field(default=lambda: False)


@contextmanager
def epochs_bar(max_epochs: int) -> Iterator[Progress]:
    """A bar that counts batches, and shows the losses (``tqdm.auto``)."""
    with bar(None, description="training", units="batches") as shown:

        def on_batch(epoch: int, batch: int, num_batches: int, loss: float | None) -> None:
            shown.total = max_epochs * num_batches
            shown.n = (epoch - 1) * num_batches + batch
            loss_now = "-" if loss is None else f"{loss:.2f}"
            shown.set_postfix_str(f"epoch {epoch}, loss {loss_now}")

        yield Progress(on_batch)


class Trainer:
    """Trains a model in a run folder.

    Args:
        checkpoint: the model to start from, its features and vocabulary. Trained in place, and
            without its embeddings of trusted recordings.
        config: how to train.
        train: what to train on, at least one example.
        valid: what to validate on, at least one example.
        run_dir: folder of the run, created if missing.
        settings: what else to record, and to compare when resuming.
        save_seconds: how often the state is saved within an epoch.
        processes: the processes that train this model together, with equal trainers. Only the
            first one has a run folder.
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
        processes: Processes = Processes(),  # noqa: B008 (a constant)
    ) -> None:
        self.checkpoint = checkpoint
        self.checkpoint.trusted = None  # computed with the earlier weights
        self.config = config
        self.train_examples = list(train)
        self.valid_examples = list(valid)
        # Plain, so that they equal what a resumed run reads back.
        self.settings = plain_values({**(settings or {}), "training": asdict(config)})
        self.folder = RunFolder(run_dir, self.settings)
        self.save_seconds = save_seconds
        self.processes = processes
        self.optimizer = _make_optimizer(checkpoint.model, config)
        self.history: list[EpochMetrics] = []
        self.unfinished: UnfinishedEpoch | None = None
        self._saved_at = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time spent on the run so far."""
        unfinished = 0.0 if self.unfinished is None else self.unfinished.seconds
        return sum(metrics.seconds for metrics in self.history) + unfinished

    def start(self) -> None:
        """Begin a run; raises ``OutputError`` if the folder contains one already."""
        self.processes.from_first(self.folder.start)

    def resume(self) -> None:
        """Return to the last saved state, or start over if there is none.

        Raises:
            CheckpointError: every state is damaged, or the best model is lost.
            OutputError: they belong to other settings, or the folder cannot be written.
        """
        state = self.processes.from_first(self.folder.resume)
        if state is None:
            return
        load_state(state, self.checkpoint, self.optimizer, self.folder.last_path)
        self.history = list(state.history)
        self.unfinished = state.unfinished
        if self.history:
            self.processes.from_first(self.folder.refuse_without_model)

    def run(self, progress: Progress | bool = False) -> EpochMetrics:
        """Train until the last epoch, or until validation stops improving.

        Args:
            progress: gets reports; True: a bar (``tqdm.auto``).

        Returns:
            The metrics of the best epoch, whose model is in ``model.pt``.

        Raises:
            ModelError: the loss is not finite.
            AudioError: a recording has become unreadable; the state is saved.
            ManifestError: a text needs more frames than its audio has.
            KeyboardInterrupt: as requested by ``progress.stop``, of any process; the state is
                saved.
        """
        if progress is True:
            with epochs_bar(self.config.max_epochs) as shown:
                return self.run(shown)
        progress = progress or Progress()
        model = self.processes.replicated(self.checkpoint.model)
        while not self._finished():
            epoch = len(self.history) + 1
            started = time.monotonic()
            if self.unfinished is not None:
                started -= self.unfinished.seconds
            with (
                scanned_recurrence(self.checkpoint.model),
                matmul_precision("float32", self.device),
            ):
                sums, rate = self._train_epoch(model, epoch, progress, started)
            metrics = self._validate(epoch, sums, rate, started)
            self.history.append(metrics)
            self.unfinished = None
            best = self._best() is metrics
            if best:
                self.checkpoint.training = {**self.settings, **asdict(metrics)}
                if self.processes.is_first:
                    self.folder.save_model(self.checkpoint)
            self._save()
            if self.processes.is_first:
                self.folder.write_metrics(self.history)
            progress.on_epoch(metrics, best)
            if self.processes.any(progress.stop()) and not self._finished():
                raise KeyboardInterrupt
        return self._best()

    @property
    def device(self) -> torch.device:
        """The device that the model is trained on."""
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

    def _train_epoch(
        self, model: torch.nn.Module, epoch: int, progress: Progress, started: float
    ) -> tuple[EpochSums, float]:
        rng = seed_epoch(self.config.seed, epoch)
        # With jitter, batches differ between epochs.
        jitter = 1 + 0.1 * rng.uniform(-1, 1, len(self.train_examples))
        seconds = [e.seconds * j for e, j in zip(self.train_examples, jitter, strict=True)]
        plan = length_batches(seconds, batch_seconds=self.config.batch_seconds)
        if epoch > 1:  # The first epoch runs from short to long (Amodei et al., 2016, sec. 3.2).
            plan = [plan[i] for i in rng.permutation(len(plan))]
        model.train()
        sums = EpochSums(num_batches=0, loss_sum=0.0, num_utterances=0)
        if self.unfinished is not None:
            facts = vars(self.unfinished)
            sums = EpochSums(**{own.name: facts[own.name] for own in fields(EpochSums)})
            self._restore_random_state(self.unfinished)
        # Even if no batch is left, since the rate is part of the next state.
        rate = self._use_rate(epoch, max(0, sums.num_batches - 1), len(plan))
        batches = training_batches(
            [
                [self.train_examples[i] for i in self.processes.share(batch)]
                for batch in plan[sums.num_batches :]
            ],
            self.checkpoint.features,
            epoch=epoch,
            seed=self.config.seed,
            speed_perturb=self.config.speed_perturb,
            with_masks=self.config.spec_augment,
            device=self.device,
        )
        for number in range(sums.num_batches, len(plan)):
            try:
                with self.processes.together():
                    batch = next(batches)
            except AudioError as error:
                self._save(sums, time.monotonic() - started)
                raise lost(error) from None
            rate = self._use_rate(epoch, number, len(plan))
            if self.processes.count > 1:
                seed_step(self.config.seed, epoch, number, self.processes.rank)
            with self.processes.joint_statistics(model, counts=bool(batch.examples)):
                logits, num_frames = model(batch.features, batch.lengths)
            loss, num_misfits = self._loss(epoch, batch, logits, num_frames)
            self.optimizer.zero_grad(set_to_none=True)
            # Gradients become means over processes.
            torch.autograd.backward(loss / (len(plan[number]) / self.processes.count))
            torch.nn.utils.clip_grad_norm_(model.parameters(), self.config.max_grad_norm)
            self.optimizer.step()
            loss_sum, all_misfits = self.processes.sums(loss.item(), num_misfits)
            sums.num_batches = number + 1
            sums.loss_sum += loss_sum
            sums.num_utterances += len(plan[number]) - int(all_misfits)
            sums.num_misfits += int(all_misfits)
            progress.on_batch(epoch, number + 1, len(plan), sums.mean_loss)
            stop = self.processes.any(progress.stop())
            if stop or time.monotonic() - self._saved_at >= self.save_seconds:
                self._save(sums, time.monotonic() - started)
            if stop:
                raise KeyboardInterrupt
        model.eval()
        return sums, rate

    def _loss(
        self, epoch: int, batch: Batch, logits: Tensor, num_frames: Tensor
    ) -> tuple[Tensor, int]:
        """The sum of this process's losses, and how many of its texts do not fit."""
        with self.processes.together():
            num_misfits = self._num_misfits(batch, num_frames) if batch.examples else 0
            # A text without enough frames counts as zero.
            loss = F.ctc_loss(
                logits.log_softmax(2).transpose(0, 1),
                batch.labels,
                num_frames,
                batch.label_lengths,
                reduction="sum",
                zero_infinity=True,
            )
            # zero_infinity hides infinite losses; with finite logits, only texts without enough
            # frames have one.
            if not (math.isfinite(loss.item()) and logits.isfinite().all()):
                raise ModelError(
                    f"training diverged in epoch {epoch}: the loss is {loss.item()}; "
                    "lower --learning-rate"
                )
        return (loss if batch.examples else 0 * loss), num_misfits

    def _num_misfits(self, batch: Batch, num_frames: Tensor) -> int:
        """How many texts of a batch have no alignment.

        Faster playback can make a recording too short; nothing else may.
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
        if unfinished.cuda_random_state is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(unfinished.cuda_random_state, self.device)

    def _validate(self, epoch: int, sums: EpochSums, rate: float, started: float) -> EpochMetrics:
        utterances = [example.utterance for example in self.valid_examples]
        starts = self.processes.share(range(0, len(utterances), WINDOW_UTTERANCES))
        windows = transcribe(
            recognizer_of(self.checkpoint),
            [u for n in starts for u in utterances[n : n + WINDOW_UTTERANCES]],
            batch_seconds=self.config.batch_seconds,
            with_loss=True,
        )
        try:
            transcripts = [t for window in self.processes.joined(windows) for t in window]
        except AudioError as error:
            self._save(sums, time.monotonic() - started)
            raise lost(error) from None
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
            # Otherwise, a model could win by ruling out the texts it gets wrong.
            valid_loss=None if rates.num_infinite else rates.loss,
            valid_cer=rates.cer,
            valid_wer=rates.wer,
            learning_rate=rate,
            seconds=round(time.monotonic() - started, 2),
            num_misfits=sums.num_misfits,
        )

    def _save(self, sums: EpochSums | None = None, seconds: float = 0.0) -> None:
        """Save the state, including the finished batches of the next epoch, if any."""
        if sums is not None and sums.num_batches > 0:
            on_gpu = self.device.type == "cuda"
            self.unfinished = UnfinishedEpoch(
                **vars(sums),
                seconds=seconds,
                random_state=torch.get_rng_state(),
                cuda_random_state=torch.cuda.get_rng_state(self.device) if on_gpu else None,
            )
        if self.processes.is_first:
            self.folder.save(
                TrainingState(
                    checkpoint=checkpoint_content(self.checkpoint),
                    optimizer=self.optimizer.state_dict(),
                    history=tuple(self.history),
                    unfinished=self.unfinished,
                )
            )
        self._saved_at = time.monotonic()


def lost(error: AudioError) -> AudioError:
    """The error for a recording that was readable before training began."""
    return AudioError(
        f"{error}; it could be read when training began: the state is saved, and once it can be "
        "read again, the same command with --resume continues"
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
