"""``egl-fast transcribe``."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from egl_fast.cli import options
from egl_fast.cli.console import progress_bar, say, warn
from egl_fast.cli.failures import Failures
from egl_fast.cli.idle_options import refuse_idle_options
from egl_fast.data.jsonl import JsonlWriter
from egl_fast.data.true_lengths import TrueLengths
from egl_fast.recognizers.spec import load_recognizer, parse

if TYPE_CHECKING:
    from egl_fast.data.manifest import Utterance
    from egl_fast.recognizers.recognizer import Recognizer
    from egl_fast.training.metrics import Transcript


@click.command("transcribe")
@options.model
@options.sources("--data", required=True, help="Manifest of recordings")
@click.option(
    "--out", "out_path", type=options.OUT, help="Where to write [default: standard output]."
)
@click.option("--overwrite", is_flag=True, help="Replace --out if it exists.")
@options.batch_seconds
@options.device
@options.threads
@options.quiet
@refuse_idle_options(without={"--overwrite": "--out"})
def command(
    model_spec: str,
    data: tuple[str, ...],
    out_path: str | None,
    overwrite: bool,
    batch_seconds: float,
    device: str,
    threads: int | None,
) -> int:
    """Transcribe recordings with a model: its most probable alignment, collapsed.

    Writes one JSON line per recording, in the manifest's order: the manifest's keys, then id,
    duration (seconds), pred_text. Recordings that cannot be transcribed are listed in
    OUT.errors.jsonl or, without --out, on standard error (exit status 3).

    \b
    Example:
      egl-fast transcribe --model base.pt --data pool.jsonl --out transcripts.jsonl
    """
    inputs = [*data, *parse(model_spec).files]
    writer = JsonlWriter(out_path, overwrite=overwrite, inputs=inputs)
    failures = Failures(writer.path, overwrite=overwrite, inputs=inputs)

    from egl_fast.data.manifest import read_manifest

    utterances = read_manifest(*data)
    recognizer = load_recognizer(model_spec, device=options.set_up_torch(device, threads))
    with writer, failures:
        for window in transcripts_with_progress(
            recognizer,
            utterances,
            failures,
            batch_seconds=batch_seconds,
            quiet=writer.path is None and sys.stdout.isatty(),
        ):
            for transcript in window:
                writer.write({**base_record(transcript), "pred_text": transcript.text})
            writer.flush()
    failures.summarize("transcribed")
    return failures.status


def base_record(transcript: Transcript) -> dict[str, Any]:
    """The manifest's keys, then what every output says about an utterance."""
    return {
        **transcript.utterance.record,
        "id": transcript.utterance.id,
        "duration": transcript.seconds,
    }


def transcripts_with_progress(
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    failures: Failures,
    *,
    batch_seconds: float,
    with_loss: bool = False,
    quiet: bool = False,
) -> Iterator[list[Transcript]]:
    """``metrics.transcribe`` with a progress bar, and a final line on standard error.

    ``failures`` collects recordings that fail. ``quiet`` omits the bar, for results that go to the
    same terminal.
    """
    from egl_fast.training.metrics import transcribe

    started = time.monotonic()
    done, audio_seconds = 0, 0.0
    lengths = TrueLengths()
    with progress_bar() as bar:
        bar.disable |= quiet
        task = bar.add_task("transcribing", total=len(utterances), note="")
        for window in transcribe(
            recognizer,
            utterances,
            batch_seconds=batch_seconds,
            with_loss=with_loss,
            on_error=failures.add,
        ):
            done += len(window)
            for transcript in window:
                lengths.add(transcript.utterance, transcript.seconds)
            audio_seconds += sum(transcript.seconds for transcript in window)
            rate = done / (time.monotonic() - started)
            bar.update(
                task, completed=done + len(failures.utterances), note=f"{rate:.1f} utterances/s"
            )
            yield window
    seconds = time.monotonic() - started
    say(
        f"{done} utterances, {audio_seconds:.0f} s of audio, in {seconds:.1f} s "
        f"({done / seconds:.1f} utterances/s)"
    )
    warning = lengths.warning()
    if warning is not None:
        warn(warning)
