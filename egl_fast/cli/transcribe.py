"""``egl-fast transcribe``."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from egl_fast.cli import options
from egl_fast.cli.console import progress_bar, say
from egl_fast.data.jsonl import JsonlWriter

if TYPE_CHECKING:
    from egl_fast.checkpoint import Checkpoint
    from egl_fast.data.manifest import Utterance
    from egl_fast.training.metrics import Transcript


@click.command("transcribe")
@options.model
@click.option(
    "--data", "data_path", required=True, type=options.FILE, help="Manifest of recordings."
)
@click.option(
    "--out", "out_path", type=options.FILE, help="Where to write [default: standard output]."
)
@click.option("--overwrite", is_flag=True, help="Replace --out if it is there.")
@options.batch_seconds
@options.device
@options.threads
@options.quiet
def command(
    model_path: str,
    data_path: str,
    out_path: str | None,
    overwrite: bool,
    batch_seconds: float,
    device: str,
    threads: int | None,
) -> None:
    """Write down what a model hears: its most probable alignment, collapsed.

    One JSON line a recording, in the manifest's order: the manifest's keys, then id, duration
    (seconds), pred_text.

    \b
    Example:
      egl-fast transcribe --model base.pt --data pool.jsonl --out transcripts.jsonl
    """
    writer = JsonlWriter(out_path, overwrite=overwrite, inputs=[data_path, model_path])

    from egl_fast.checkpoint import load_checkpoint
    from egl_fast.data.manifest import read_manifest

    utterances = read_manifest(data_path)
    checkpoint = load_checkpoint(model_path, device=options.set_up_torch(device, threads))
    with writer:
        for window in transcripts_with_progress(
            checkpoint,
            utterances,
            batch_seconds=batch_seconds,
            quiet=writer.path is None and sys.stdout.isatty(),
        ):
            for transcript in window:
                writer.write({**base_record(transcript), "pred_text": transcript.text})
            writer.flush()


def base_record(transcript: Transcript) -> dict[str, Any]:
    """The manifest's keys, then what every output says of an utterance."""
    return {
        **transcript.utterance.record,
        "id": transcript.utterance.id,
        "duration": transcript.seconds,
    }


def transcripts_with_progress(
    checkpoint: Checkpoint,
    utterances: Sequence[Utterance],
    *,
    batch_seconds: float,
    with_loss: bool = False,
    quiet: bool = False,
) -> Iterator[list[Transcript]]:
    """``metrics.transcribe`` under a progress bar, with a closing line on standard error.

    Args:
        checkpoint: the model.
        utterances: what to transcribe.
        batch_seconds: bound on the padded audio of a batch.
        with_loss: compute CTC losses, too.
        quiet: no bar; for results that go to the terminal the bar would be drawn on.
    """
    from egl_fast.training.metrics import transcribe

    started = time.monotonic()
    done, audio_seconds = 0, 0.0
    with progress_bar() as bar:
        bar.disable |= quiet
        task = bar.add_task("transcribing", total=len(utterances), note="")
        for window in transcribe(
            checkpoint, utterances, batch_seconds=batch_seconds, with_loss=with_loss
        ):
            done += len(window)
            audio_seconds += sum(transcript.seconds for transcript in window)
            rate = done / (time.monotonic() - started)
            bar.update(task, completed=done, note=f"{rate:.1f} utterances/s")
            yield window
    seconds = time.monotonic() - started
    say(
        f"{done} utterances, {audio_seconds:.0f} s of audio, in {seconds:.1f} s "
        f"({done / seconds:.1f} utterances/s)"
    )
