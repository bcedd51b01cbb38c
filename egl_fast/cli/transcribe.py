"""``egl-fast transcribe``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from egl_fast.cli import operations, options
from egl_fast.cli.console import say
from egl_fast.cli.failures import Failures
from egl_fast.cli.idle_options import refuse_idle_options
from egl_fast.cli.meter import Meter
from egl_fast.data.jsonl import JsonlWriter
from egl_fast.recognizers.spec import load_recognizer, parse

if TYPE_CHECKING:
    from egl_fast.data.manifest import Utterance
    from egl_fast.errors import EglError
    from egl_fast.recognizers.recognizer import Recognizer
    from egl_fast.tracking.listener import Listeners
    from egl_fast.training.metrics import Transcript


@click.command("transcribe")
@options.model
@options.sources("--data", required=True, help="Manifest of recordings")
@click.option(
    "--out", "out_path", type=options.OUT, help="Where to write [default: standard output]."
)
@click.option("--overwrite", is_flag=True, help="Replace --out if it exists.")
@options.limit("Transcribe only the first N recordings.")
@options.batch_seconds
@options.device
@options.threads
@operations.options()
@options.quiet
@refuse_idle_options(without={"--overwrite": "--out"})
def command(
    model_spec: str,
    data: tuple[str, ...],
    out_path: str | None,
    overwrite: bool,
    limit: int | None,
    batch_seconds: float,
    device: str,
    threads: int | None,
    watch: Listeners,
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

    utterances = read_manifest(*data)[:limit]
    recognizer = load_recognizer(model_spec, device=options.set_up_torch(device, threads))
    with writer, failures:
        for window in transcripts_with_progress(
            recognizer,
            utterances,
            failures,
            watch,
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
    watch: Listeners,
    *,
    batch_seconds: float,
    with_loss: bool = False,
    quiet: bool = False,
) -> Iterator[list[Transcript]]:
    """``metrics.transcribe`` with a progress bar, and a final line on standard error.

    Args:
        recognizer: the model.
        utterances: what to transcribe.
        failures: collects recordings that fail.
        watch: told how far it has come.
        batch_seconds: of padded audio per batch.
        with_loss: whether the loss is wanted, too.
        quiet: omit the bar, for results that go to the same terminal.
    """
    from egl_fast.training.metrics import transcribe

    done = 0

    def on_error(utterance: Utterance, error: EglError) -> None:
        failures.add(utterance, error)
        meter.failed(utterance, error)

    with operations.shown(watch, hidden=quiet):
        meter = Meter(watch, "transcribing", len(utterances))
        for window in transcribe(
            recognizer,
            utterances,
            batch_seconds=batch_seconds,
            with_loss=with_loss,
            on_error=on_error,
        ):
            done += len(window)
            for transcript in window:
                meter.heard(transcript.utterance, transcript.seconds)
            meter.tell()
            yield window
        meter.tell()  # of failures after the last window
    say(
        f"{done} utterances, {meter.audio_seconds:.0f} s of audio, in {meter.seconds:.1f} s "
        f"({done / meter.seconds:.1f} utterances/s)"
    )
    meter.warn()
