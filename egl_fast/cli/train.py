"""``egl-fast train``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from egl_fast.cli import operations, options
from egl_fast.cli.console import progress_bar, say, tell_json, warn
from egl_fast.cli.help_groups import GroupedCommand
from egl_fast.cli.idle_options import refuse_idle_options
from egl_fast.cli.interruption import interruption_after
from egl_fast.cli.several_processes import connected_processes, is_first_process
from egl_fast.cli.training_data import Transcribed, prepared, shared_audio
from egl_fast.data.true_lengths import TrueLengths
from egl_fast.errors import one_line
from egl_fast.tracking.listener import Entry, Listeners
from egl_fast.training.config import TrainingConfig

if TYPE_CHECKING:
    from egl_fast.checkpoint import Checkpoint
    from egl_fast.tracking.reports import Target
    from egl_fast.training.examples import LeftOut
    from egl_fast.training.loop import Trainer
    from egl_fast.training.run_folder import EpochMetrics


@click.command("train", cls=GroupedCommand)
@options.sources("--train", "train_paths", required=True, help="Manifest to train on")
@options.sources("--valid", "valid_paths", required=True, help="Manifest to validate on")
@click.option(
    "--run-dir",
    required=True,
    type=options.FOLDER,
    help="Folder for the model, metrics, and state.",
)
@click.option("--resume", is_flag=True, help="Continue the run in --run-dir, if there is one.")
@click.option(
    "--save-minutes",
    type=options.FiniteFloat(min=0),
    default=10.0,
    show_default=True,
    help="How often to save the state within an epoch; it is also saved after each epoch.",
)
@click.option(
    "--init", "init_path", type=options.FILE, help="Model file to start from (warm start)."
)
@click.option(
    "--preset",
    "preset_name",
    type=click.Choice(["tiny", "small", "paper"]),
    default="small",
    show_default=True,
    help="Size of a new model.",
)
@click.option(
    "--cell",
    type=click.Choice(["rnn_tanh", "rnn_clipped_relu", "gru", "lstm"]),
    help="Recurrent cell of a new model [default: the preset's].",
)
@click.option(
    "--dropout", type=options.FiniteFloat(0, 1, max_open=True), help="Dropout of a new model."
)
@click.option(
    "--vocabulary",
    "vocabulary_path",
    type=options.FILE,
    help="Characters of a new model: a file with one per line, <space> for the space, or a JSON "
    "list. The blank is added [default: space, apostrophe, a to z].",
)
@click.option(
    "--lowercase",
    is_flag=True,
    help="Convert all texts to lower case; `evaluate` does the same for the model.",
)
@click.option(
    "--skip-unwritable",
    is_flag=True,
    help="Leave out recordings whose text has characters that the model cannot write, or that have "
    "none, instead of refusing all.",
)
@click.option(
    "--typicality/--no-typicality",
    "keeps_trusted",
    default=True,
    show_default=True,
    help="Whether the finished model file holds embeddings of up to 250 training recordings, which "
    "`score --typicality` and `query --typicality` compare with. They are not audio or text, but "
    "tell how a recording sounds.",
)
@options.of_fields(TrainingConfig, but=("batch_seconds", "seed"))
@options.batch_seconds
@options.seed
@options.report_to
@options.device
@options.threads
@operations.options(speaks=lambda values: is_first_process())
@click.option(
    "--json", "as_json", is_flag=True, help="Print the best epoch's metrics, a JSON object."
)
@options.quiet
@refuse_idle_options(
    beside=dict.fromkeys(("--preset", "--cell", "--dropout", "--vocabulary"), "--init")
)
def command(
    train_paths: tuple[str, ...],
    valid_paths: tuple[str, ...],
    run_dir: str,
    resume: bool,
    save_minutes: float,
    init_path: str | None,
    preset_name: str,
    cell: str | None,
    dropout: float | None,
    vocabulary_path: str | None,
    lowercase: bool,
    skip_unwritable: bool,
    keeps_trusted: bool,
    report_to: tuple[Target, ...],
    device: str,
    threads: int | None,
    as_json: bool,
    watch: Listeners,
    **training: Any,
) -> int:
    """Train a Deep Speech 2 model with CTC until validation stops improving.

    The model of the best epoch is DIR/model.pt; the metrics of every epoch are in
    DIR/metrics.jsonl. A run can be stopped at any time: by Ctrl-C (exit status 130, after the
    current batch is finished and the state saved), a signal, or a power cut. The same command with
    --resume continues it, and ends with the same weights as an uninterrupted run. If there is
    nothing to continue, --resume starts from the beginning, so it can always be given.

    `torchrun --nproc-per-node N -m egl_fast train ...` trains in N processes, each on its share of
    every batch and, if there are GPUs, on a GPU of its own. Losses are those of one process, to
    rounding.

    Every recording is decoded once before training starts. Recordings that cannot be read, or are
    too short for their text, are left out and listed in DIR/errors.jsonl; the exit status is then
    3. A text that the model cannot write, or that is missing, stops the command before that, unless
    --skip-unwritable leaves out these recordings, too.

    \b
    Example:
      egl-fast train --train train.jsonl --valid valid.jsonl --run-dir runs/base --resume
    """
    import torch

    from egl_fast.checkpoint import plain_config
    from egl_fast.training.examples import digest
    from egl_fast.training.loop import Trainer
    from egl_fast.training.metrics import in_nats
    from egl_fast.training.run_folder import RunFolder

    with connected_processes(device, threads) as (processes, torch_device):
        torch.manual_seed(training["seed"])
        with processes.together():
            manifests = [
                Transcribed.read(paths, lowercase=lowercase) for paths in (train_paths, valid_paths)
            ]
            checkpoint = _initial_checkpoint(init_path, preset_name, cell, dropout, vocabulary_path)
            manifests = [
                manifest.writable(
                    checkpoint,
                    skip=skip_unwritable,
                    is_new=init_path is None,
                    lowercase=lowercase,
                )
                for manifest in manifests
            ]
        config = TrainingConfig(**{f.name: training[f.name] for f in fields(TrainingConfig)})
        settings = {
            "model": plain_config(checkpoint.model.config),
            "vocabulary": list(checkpoint.vocabulary),
            "lowercase": lowercase,
            "init": init_path and checkpoint.sha256,
            "train": manifests[0].sha256,
            "valid": manifests[1].sha256,
        }
        circumstances = {"training": asdict(config), "device": torch_device.type}
        processes.refuse_differences({**settings, **circumstances})
        if not resume:
            processes.from_first(RunFolder(Path(run_dir), {}).refuse_a_run)
        checkpoint.model.to(torch_device)
        train, valid = prepared(manifests, checkpoint, processes, watch)
        unwritable = [one for manifest in manifests for one in manifest.left_out]
        left_out = [*unwritable, *train.left_out, *valid.left_out]
        trainer = Trainer(
            checkpoint,
            config,
            train=train.examples,
            valid=valid.examples,
            run_dir=Path(run_dir),
            settings={**settings, "recordings": digest(train.examples, valid.examples)},
            save_seconds=60 * save_minutes,
            processes=processes,
        )
        if not processes.is_first:
            _follow(trainer, resume=resume)
            return 0
        with trainer.folder.locked():
            if resume:
                trainer.resume()
            else:
                trainer.start()
            trainer.folder.write_errors({"id": u.id, "error": one_line(e)} for u, e in left_out)
            for utterance, error in left_out:
                watch.failed(utterance.id, error)
            _say_what_is_trained(trainer, manifests, left_out)
            try:
                best = _reported(trainer, report_to, watch)
            except KeyboardInterrupt:
                epoch = len(trainer.history) + 1
                say(f"interrupted in epoch {epoch}; the same command with --resume continues")
                return 130
            try:
                _keep_trusted(trainer, wanted=keeps_trusted)
            except KeyboardInterrupt:
                say(
                    f"interrupted after the last epoch; the model in {trainer.folder.model_path} "
                    "is complete but for its embeddings, which the same command with --resume adds"
                )
                return 130
    say(
        f"best: epoch {best.epoch}, valid loss {in_nats(best.valid_loss)}, "
        f"CER {best.valid_cer:.3f}, WER {best.valid_wer:.3f}; model in {trainer.folder.model_path}"
    )
    if as_json:
        tell_json({**asdict(best), "model": str(trainer.folder.model_path)})
    return 3 if left_out else 0


def _follow(trainer: Trainer, *, resume: bool) -> None:
    """What all processes but the first do: the same steps, without files and words."""
    if resume:
        trainer.resume()
    else:
        trainer.start()
    with suppress(KeyboardInterrupt):
        _run(trainer, Listeners())


def _say_what_is_trained(
    trainer: Trainer, manifests: Sequence[Transcribed], left_out: Sequence[LeftOut]
) -> None:
    from egl_fast.training.texts import num_empty

    examples = [*trainer.train_examples, *trainer.valid_examples]
    lengths = TrueLengths()
    for example in examples:
        lengths.add(example.utterance, example.seconds)
    shared = shared_audio(*(manifest.utterances for manifest in manifests))
    empty = num_empty(example.utterance for example in examples)
    weights = sum(p.numel() for p in trainer.checkpoint.model.parameters())
    say(
        f"training {weights:,} weights on {len(trainer.train_examples)} utterances "
        f"({sum(e.seconds for e in trainer.train_examples) / 3600:.2f} h), "
        f"validating on {len(trainer.valid_examples)}"
        + (f"; {empty} texts are empty" if empty else "")
    )
    if left_out:
        warn(
            f"{len(left_out)} of {len(examples) + len(left_out)} recordings cannot be used and are "
            f"left out: see {trainer.folder.errors_path}"
        )
    for warning in (lengths.warning(), shared):
        if warning is not None:
            warn(warning)


def _reported(trainer: Trainer, targets: Sequence[Target], watch: Listeners) -> EpochMetrics:
    from egl_fast.tracking.reports import Reports

    settings = trainer.settings
    reports = Reports(targets, trainer.folder.path, axis="epoch", settings=settings)
    watch.all.append(reports)
    reports.measured([*map(_entry, trainer.history)])  # what an earlier process left unsaid
    return _run(trainer, watch)


def _entry(metrics: EpochMetrics) -> Entry:
    return Entry(str(metrics.epoch), metrics.epoch, asdict(metrics))


def _run(trainer: Trainer, watch: Listeners) -> EpochMetrics:
    from egl_fast.training.loop import Progress
    from egl_fast.training.metrics import in_nats

    max_epochs = trainer.config.max_epochs
    with operations.shown(watch), interruption_after("the batch") as stop:
        has_started = False

        def on_batch(epoch: int, batch: int, num_batches: int, loss: float | None) -> None:
            nonlocal has_started
            total, done = max_epochs * num_batches, (epoch - 1) * num_batches + batch
            if not has_started:
                watch.started("training", "batches", total, done - 1)
            has_started = True
            watch.progressed(done, total, note=f"epoch {epoch}/{max_epochs}, loss {in_nats(loss)}")

        def on_epoch(metrics: EpochMetrics, best: bool) -> None:
            watch.measured([_entry(metrics)])
            say(
                f"epoch {metrics.epoch}: train loss {in_nats(metrics.train_loss)}, "
                f"valid loss {in_nats(metrics.valid_loss)}, CER {metrics.valid_cer:.3f}, "
                f"WER {metrics.valid_wer:.3f}, {metrics.seconds:.0f} s{' *' if best else ''}"
                + (
                    f"; {metrics.num_misfits} too fast for their texts"
                    if metrics.num_misfits
                    else ""
                )
            )

        return trainer.run(Progress(on_batch, on_epoch, stop.is_set))


def _keep_trusted(trainer: Trainer, *, wanted: bool) -> None:
    from egl_fast.training.trusted import keep_trusted

    with progress_bar() as bar:
        task = bar.add_task("embeddings", total=None, note="recordings")
        keep_trusted(
            trainer,
            wanted=wanted,
            advance=lambda count, total: bar.update(task, advance=count, total=total),
        )


def _initial_checkpoint(
    init_path: str | None,
    preset_name: str,
    cell: str | None,
    dropout: float | None,
    vocabulary_path: str | None,
) -> Checkpoint:
    from egl_fast.checkpoint import Checkpoint, load_checkpoint
    from egl_fast.data.vocabulary_file import read_vocabulary
    from egl_fast.features import FeatureConfig
    from egl_fast.model import DeepSpeech2, preset
    from egl_fast.vocabulary import ENGLISH_CHARACTERS

    if init_path is not None:
        return load_checkpoint(init_path)
    vocabulary = ENGLISH_CHARACTERS if vocabulary_path is None else read_vocabulary(vocabulary_path)
    features = FeatureConfig()
    config = replace(
        preset(preset_name, cell=cell, dropout=dropout),
        num_bins=features.num_bins,
        num_classes=len(vocabulary),
    )
    return Checkpoint(DeepSpeech2(config), features, vocabulary)
