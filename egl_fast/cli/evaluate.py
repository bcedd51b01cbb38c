"""``egl-fast evaluate``."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from egl_fast.cli import options
from egl_fast.cli.transcribe import base_record, transcripts_with_progress
from egl_fast.data.jsonl import JsonlWriter
from egl_fast.errors import ManifestError

if TYPE_CHECKING:
    from egl_fast.training.metrics import ErrorRates, Transcript


@click.command("evaluate")
@options.model
@click.option(
    "--data", "data_path", required=True, type=options.FILE, help="Manifest of transcribed speech."
)
@click.option("--out", "out_path", type=options.FILE, help="Write a JSON line an utterance there.")
@click.option("--overwrite", is_flag=True, help="Replace --out if it is there.")
@click.option("--by", "key", metavar="KEY", help="Add the rates of each value of a manifest key.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, not a table.")
@options.batch_seconds
@options.device
@options.threads
@options.quiet
def command(
    model_path: str,
    data_path: str,
    out_path: str | None,
    overwrite: bool,
    key: str | None,
    as_json: bool,
    batch_seconds: float,
    device: str,
    threads: int | None,
) -> None:
    """CTC loss, character and word error rate of a model on transcribed speech.

    Every line of the manifest needs its `text`. The loss is the mean of -log p(text | audio) an
    utterance, in nats; a text that needs more frames than its audio has makes it infinite: such
    are counted, and left out of the mean. CER and WER are edits divided by the characters and
    words of the texts (by utterances, where all texts are empty); the model's own text is its
    most probable alignment, collapsed.

    \b
    A line of --out: the manifest's keys, then id, duration (seconds), loss (null: infinite),
    pred_text, char_edits, chars, word_edits, words.

    \b
    Example:
      egl-fast evaluate --model base.pt --data test.jsonl --by corpus
    """
    writer = _file_writer(out_path, overwrite=overwrite, inputs=[data_path, model_path])

    from egl_fast.checkpoint import load_checkpoint
    from egl_fast.data.manifest import read_manifest
    from egl_fast.training.metrics import error_rates, reference_labels

    utterances = read_manifest(data_path)
    if key is not None and not any(key in utterance.record for utterance in utterances):
        raise ManifestError(f"manifest {data_path}: no line has the key {key!r} that --by names")
    checkpoint = load_checkpoint(model_path, device=options.set_up_torch(device, threads))
    for utterance in utterances:
        try:
            reference_labels(utterance, checkpoint.vocabulary)
        except ManifestError as error:
            raise ManifestError(f"manifest {data_path}: {error}") from None
    transcripts: list[Transcript] = []
    with ExitStack() as stack:
        if writer is not None:
            stack.enter_context(writer)
        for window in transcripts_with_progress(
            checkpoint, utterances, batch_seconds=batch_seconds, with_loss=True
        ):
            transcripts += window
            if writer is not None:
                for transcript in window:
                    writer.write(_record(transcript))
                writer.flush()
    groups = {} if key is None else _grouped(transcripts, key)
    total = error_rates(transcripts)
    rates = {value: error_rates(group) for value, group in groups.items()}
    if as_json:
        summary = _as_json(total)
        if key is not None:
            summary["by"] = {value: _as_json(r) for value, r in rates.items()}
        click.echo(json.dumps(summary, ensure_ascii=False, allow_nan=False))
    else:
        _print_table(total, rates, key)


def _file_writer(
    out_path: str | None, *, overwrite: bool, inputs: Sequence[str]
) -> JsonlWriter | None:
    if out_path is None:
        return None
    writer = JsonlWriter(out_path, overwrite=overwrite, inputs=inputs)
    if writer.path is None:
        raise click.UsageError("--out -: the table is on standard output; name a file")
    return writer


def _record(transcript: Transcript) -> dict[str, Any]:
    from egl_fast.training.metrics import count_edits

    assert transcript.loss is not None
    counts = count_edits(transcript.utterance.text or "", transcript.text)
    return {
        **base_record(transcript),
        "loss": _finite_or_none(transcript.loss),
        "pred_text": transcript.text,
        "char_edits": counts.char_edits,
        "chars": counts.chars,
        "word_edits": counts.word_edits,
        "words": counts.words,
    }


def _finite_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _grouped(transcripts: list[Transcript], key: str) -> dict[str, list[Transcript]]:
    """Transcripts by the value of a manifest key, values in order of first appearance."""
    groups: dict[str, list[Transcript]] = {}
    for transcript in transcripts:
        value = transcript.utterance.record.get(key)
        name = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        groups.setdefault(name, []).append(transcript)
    return groups


def _as_json(rates: ErrorRates) -> dict[str, Any]:
    return {
        "utterances": rates.num_utterances,
        "loss": _finite_or_none(rates.loss),
        "infinite_losses": rates.num_infinite,
        "cer": rates.cer,
        "wer": rates.wer,
    }


def _print_table(total: ErrorRates, rates: dict[str, ErrorRates], key: str | None) -> None:
    rows = [*rates.items(), ("all" if rates else "", total)]
    width = max(len(key or ""), *(len(name) for name, _ in rows))
    header = f"{key or '':{width}}  utterances  CTC loss     CER     WER".strip()
    click.echo(header)
    for name, row in rows:
        loss = f"{row.loss:.2f}" if math.isfinite(row.loss) else "-"
        line = f"{name:{width}}  {row.num_utterances:10}  {loss:>8}  {row.cer:6.3f}  {row.wer:6.3f}"
        click.echo(line if width else line[2:])
    if total.num_infinite:
        click.echo(
            f"{total.num_infinite} of {total.num_utterances} texts need more frames than their "
            "audio has; the mean loss leaves them out"
        )
