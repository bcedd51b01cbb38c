"""``egl-fast evaluate``."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from egl_fast.cli import operations, options
from egl_fast.cli.console import tell, tell_json, warn
from egl_fast.cli.failures import Failures
from egl_fast.cli.idle_options import refuse_idle_options
from egl_fast.cli.transcribe import base_record, transcripts_with_progress
from egl_fast.data.jsonl import JsonlWriter
from egl_fast.display import printable, shortened
from egl_fast.errors import ManifestError
from egl_fast.recognizers.spec import load_recognizer, parse

if TYPE_CHECKING:
    from egl_fast.data.manifest import Utterance
    from egl_fast.tracking.listener import Listeners
    from egl_fast.training.metrics import ErrorRates, Transcript

#: Of a group's name in the table.
_MOST_CHARACTERS = 60


@click.command("evaluate")
@options.model
@options.sources("--data", required=True, help="Manifest of transcribed speech")
@click.option("--out", "out_path", type=options.OUT, help="File for a JSON line per utterance.")
@click.option("--overwrite", is_flag=True, help="Replace --out if it exists.")
@click.option("--by", "key", metavar="KEY", help="Add the rates of each value of a manifest key.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, not a table.")
@options.limit("Evaluate only the first N recordings.")
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
    key: str | None,
    as_json: bool,
    limit: int | None,
    batch_seconds: float,
    device: str,
    threads: int | None,
    watch: Listeners,
) -> int:
    """CTC loss, character and word error rate of a model on transcribed speech.

    Every line of the manifest needs a `text`; it is compared in lower case for a model that was
    trained with --lowercase, and in the model's case if that has only one. The loss is the mean of
    -log p(text | audio) over utterances, in nats. It is infinite for a text that needs more frames
    than its audio has; these are counted, and left out of the mean. CER and WER are edits divided
    by the characters and words of the texts (by utterances, if all texts are empty); the model's
    own text is its most probable alignment, collapsed. Recordings that cannot be read are left out,
    and listed in OUT.errors.jsonl or, without --out, on standard error (exit status 3).

    \b
    A line of --out: the manifest's keys, then id, duration (seconds), loss (null: infinite),
    pred_text, char_edits, chars, word_edits, words.

    \b
    Example:
      egl-fast evaluate --model base.pt --data test.jsonl --by corpus
    """
    inputs = [*data, *parse(model_spec).files]
    writer = None
    if out_path is not None:
        writer = JsonlWriter(out_path, overwrite=overwrite, inputs=inputs)
        if writer.path is None:
            raise click.UsageError("--out -: the table is on standard output; name a file")
    out = None if writer is None else writer.path
    failures = Failures(out, overwrite=overwrite, inputs=inputs)

    from egl_fast.data.manifest import read_manifest
    from egl_fast.training.metrics import error_rates
    from egl_fast.training.texts import (
        all_labels,
        lowercased,
        num_empty,
        required_text,
        uppercased,
    )

    utterances, listed = read_manifest(*data)[:limit], ", ".join(data)
    if key is not None and not any(key in utterance.record for utterance in utterances):
        raise ManifestError(f"manifest {listed}: no line has the key {key!r} that --by names")
    recognizer = load_recognizer(model_spec, device=options.set_up_torch(device, threads))
    if recognizer.case is not None:
        utterances = {"lower": lowercased, "upper": uppercased}[recognizer.case](utterances)
    with_loss = recognizer.classes.can_spell
    try:
        if with_loss:
            all_labels(utterances, recognizer.classes)
        else:
            for utterance in utterances:
                required_text(utterance)
    except ManifestError as error:
        raise ManifestError(f"manifest {listed}: {error}") from None
    if not with_loss:
        warn(
            "this model's classes are not characters, and it has no tokenizer that turns a text "
            "into them: the loss is left out"
        )
    if num_empty(utterances) == len(utterances):
        warn("all texts are empty: CER and WER are what the model heard in silence, per utterance")
    transcripts: list[Transcript] = []
    with ExitStack() as stack:
        if writer is not None:
            stack.enter_context(writer)
        stack.enter_context(failures)
        for window in transcripts_with_progress(
            recognizer,
            utterances,
            failures,
            watch,
            batch_seconds=batch_seconds,
            with_loss=with_loss,
        ):
            transcripts += window
            if writer is not None:
                for transcript in window:
                    writer.write(_record(transcript))
                writer.flush()
    failures.summarize("evaluated")
    total = _Row(error_rates(transcripts), len(failures.utterances))
    rows = {} if key is None else _rows(utterances, transcripts, failures.utterances, key)
    if as_json:
        summary = total.as_json()
        if key is not None:
            summary["by"] = {value: row.as_json() for value, row in rows.items()}
        tell_json(summary)
    else:
        _print_table(total, rows, key)
    return failures.status


@dataclass(frozen=True)
class _Row:
    """Rates over some utterances, and how many more could not be evaluated."""

    rates: ErrorRates
    left_out: int

    def as_json(self) -> dict[str, Any]:
        rates = self.rates
        return {
            "utterances": rates.num_utterances,
            "left_out": self.left_out,
            "loss": rates.loss,
            "infinite_losses": rates.num_infinite,
            "cer": rates.cer,
            "wer": rates.wer,
        }


def _record(transcript: Transcript) -> dict[str, Any]:
    from egl_fast.training.metrics import count_edits

    loss = transcript.loss
    counts = count_edits(transcript.utterance.text or "", transcript.text)
    return {
        **base_record(transcript),
        "loss": loss if loss is not None and math.isfinite(loss) else None,
        "pred_text": transcript.text,
        "char_edits": counts.char_edits,
        "chars": counts.chars,
        "word_edits": counts.word_edits,
        "words": counts.words,
    }


def _rows(
    utterances: Sequence[Utterance],
    transcripts: Sequence[Transcript],
    failed: Sequence[Utterance],
    key: str,
) -> dict[str, _Row]:
    """Rates by the value of a manifest key, in order of first appearance."""
    from egl_fast.training.metrics import error_rates

    group_of = _groups(utterances, key)
    names = dict.fromkeys(group_of.values())
    heard: dict[str, list[Transcript]] = {name: [] for name in names}
    for transcript in transcripts:
        heard[group_of[transcript.utterance.id]].append(transcript)
    left_out = Counter(group_of[utterance.id] for utterance in failed)
    return {name: _Row(error_rates(heard[name]), left_out[name]) for name in names}


def _groups(utterances: Sequence[Utterance], key: str) -> dict[str, str]:
    """Id -> name of its group: the value itself where it is a string, or else its JSON.

    The string "1" and the number 1 are two groups: where there are both, strings are quoted.
    """
    values = {u.id: u.record.get(key) for u in utterances}
    as_json = {i: json.dumps(v, ensure_ascii=False, sort_keys=True) for i, v in values.items()}
    others = {as_json[i] for i, value in values.items() if not isinstance(value, str)}
    return {
        i: value if isinstance(value, str) and value not in others else as_json[i]
        for i, value in values.items()
    }


def _print_table(total: _Row, rows: dict[str, _Row], key: str | None) -> None:
    from egl_fast.training.metrics import in_nats

    lines = [*rows.items(), ("all" if rows else "", total)]
    lines = [(shortened(printable(name), _MOST_CHARACTERS), row) for name, row in lines]
    title = shortened(printable(key or ""), _MOST_CHARACTERS)
    width = max(len(title), *(len(name) for name, _ in lines))
    tell(f"{title:{width}}  utterances  CTC loss     CER     WER".strip())
    for name, row in lines:
        rates = row.rates
        line = (
            f"{name:{width}}  {rates.num_utterances:10}  {in_nats(rates.loss):>8}  "
            f"{_rate(rates.cer)}  {_rate(rates.wer)}"
        )
        tell(line if width else line[2:])
    if total.rates.num_infinite:
        tell(
            f"{total.rates.num_infinite} of {total.rates.num_utterances} texts need more frames "
            "than their audio has; the mean loss leaves them out"
        )
    if total.left_out:
        tell(
            f"{total.left_out} of {total.rates.num_utterances + total.left_out} recordings could "
            "not be evaluated; all numbers leave them out"
        )


def _rate(rate: float | None) -> str:
    return f"{'-':>6}" if rate is None else f"{rate:6.3f}"
