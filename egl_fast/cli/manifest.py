"""``egl-fast manifest``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from egl_fast.cli import options
from egl_fast.cli.console import progress_bar, say, warn
from egl_fast.cli.extras import require_packages
from egl_fast.cli.failures import Failures
from egl_fast.cli.idle_options import refuse_idle_options
from egl_fast.cli.manifest_looks import Look, Looks
from egl_fast.data.jsonl import JsonlWriter
from egl_fast.data.sources.kinds import entries, recognized
from egl_fast.data.true_lengths import TrueLengths
from egl_fast.errors import AudioError, EglError
from egl_fast.files.addresses import Address, Place, path_from
from egl_fast.files.copies import folder_of

if TYPE_CHECKING:
    from egl_fast.data.manifest import Utterance

#: What --segment takes.
DETECTOR = {"silero_vad": "silero-vad", "onnxruntime": "onnxruntime"}

#: Reading headers waits for disks more than it computes.
_NUM_THREADS = 8


@click.command("manifest")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True, type=options.MANIFEST)
@click.option("--out", "out_path", type=options.OUT,
              help="Manifest to write (JSONL) [default: standard output].")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace --out if it exists.")
@click.option("--segment", "segment_seconds", type=options.FiniteFloat(min=1), metavar="SECONDS",
              help="Cut longer recordings at pauses into segments of at most that length "
              "(pip install 'egl-fast[segment]').")  # fmt: skip
@options.read_timeout
@options.quiet
@refuse_idle_options(without={"--overwrite": "--out"}, beside={"--read-timeout": "--segment"})
def command(
    sources: tuple[str, ...],
    out_path: str | None,
    overwrite: bool,
    segment_seconds: float | None,
    read_timeout: float,
) -> int:
    """Make a manifest from folders of recordings, or from other toolkits' files.

    SOURCE is a folder, with all folders in it; a list of recordings, one path per line; a
    Kaldi data folder; Lhotse recordings, supervisions, or cuts; a CSV or TSV table with a header
    (SpeechBrain, Common Voice, Hugging Face's metadata.csv); a metadata.jsonl; Parquet or a folder
    that Hugging Face's save_to_disk wrote; a NeMo manifest, tarred or not; a recording; or - for
    standard input. The kind is recognized, gzip is fine, and docs/file-formats.md says what is read
    of each. Other commands take the same sources in place of a manifest.

    Every recording is opened, and its length filled in where the source does not give it. Those
    that cannot be read are listed in OUT.errors.jsonl or, without --out, on standard error (exit
    status 3). Ids must be unique: NAME=SOURCE puts NAME/ before the ids of one source. If a run
    with --out is interrupted, the same command continues: recordings that have not changed are not
    opened again.

    \b
    Examples:
      egl-fast manifest recordings/ --out pool.jsonl
      egl-fast manifest calls=calls/ studio=studio/ --out pool.jsonl
      egl-fast manifest kaldi/data/train cuts.jsonl.gz validated.tsv --out pool.jsonl
      find . -name '*.opus' | egl-fast manifest - --out pool.jsonl
      egl-fast manifest lectures/ --segment 15 --out pool.jsonl
    """
    writer = JsonlWriter(out_path, overwrite=overwrite, inputs=sources)
    failures = Failures(writer.path, overwrite=overwrite, inputs=sources)
    if segment_seconds is not None:
        require_packages("--segment", DETECTOR, extra="segment")

    from egl_fast.data.manifest import utterance_from

    folder = Path.cwd() if writer.path is None else folder_of(writer.path.absolute())
    # Listening to hours takes longer than any hanging disk should.
    timeout = read_timeout if segment_seconds is None else None
    lengths = TrueLengths()
    num_seconds, num_untold = 0.0, 0
    looks = Looks(writer.path, segment_seconds)
    with recognized(sources) as found, writer, failures, looks, progress_bar() as bar:
        task = bar.add_task("reading", total=None, note="")
        utterances = (utterance_from(entry, n) for n, entry in enumerate(entries(found), start=1))
        load = partial(_look, segment_seconds=segment_seconds, looks=looks)
        for utterance, look in _looked_at(utterances, load, timeout_seconds=timeout):
            if isinstance(look, EglError):
                failures.add(utterance, look)
                bar.update(task, advance=1)
                continue
            looks.keep(utterance, look)
            if look.whole_seconds is not None:
                lengths.add(utterance, look.whole_seconds - utterance.offset_seconds)
            num_untold += len(look.segments) > 1 and utterance.text is not None
            for record in _records(utterance, look, folder):
                num_seconds += record["duration"]
                writer.write(record)
            bar.update(task, advance=1, note=f"{num_seconds / 3600:.1f} h")
    warning = lengths.warning()
    if warning is not None:
        warn(warning)
    if num_untold:
        warn(f"{num_untold} texts are left out: they belong to recordings that were cut")
    for one in found:
        say(f"{one.source.name}: {one.kind.name}")
    say(
        f"{writer.num_records} recordings, {num_seconds / 3600:.2f} h: "
        f"{writer.path or 'standard output'}"
    )
    failures.summarize("read")
    return failures.status


def _look(utterance: Utterance, *, segment_seconds: float | None, looks: Looks) -> Look:
    from egl_fast.data.audio import audio_seconds, header_seconds

    known = looks.known(utterance)
    if known is not None:
        return known
    offset, seconds = utterance.offset_seconds, utterance.duration_seconds
    whole = header_seconds(utterance)
    if whole is not None and offset >= whole:
        what = (
            f"offset {offset:g} s is beyond the end ({whole:g} s)" if offset else "has no samples"
        )
        raise AudioError(f"audio {utterance.audio_path}: {what}")
    if seconds is None:
        seconds = audio_seconds(utterance)
    if segment_seconds is None or seconds <= segment_seconds:
        return Look([(offset, seconds)], whole)
    from egl_fast.data.pauses import pieces

    return Look(pieces(utterance, most_seconds=segment_seconds), whole)


def _looked_at(
    utterances: Iterable[Utterance],
    look: Callable[[Utterance], Look],
    *,
    timeout_seconds: float | None,
) -> Iterator[tuple[Utterance, Look | EglError]]:
    from egl_fast.data.reading import read_ahead

    mine, theirs = tee(utterances)
    looks = read_ahead(look, theirs, num_threads=_NUM_THREADS, timeout_seconds=timeout_seconds)
    with closing(looks):  # its threads end with it, whatever is wrong with a source
        yield from zip(mine, looks, strict=True)


def _records(utterance: Utterance, look: Look, folder: Place) -> Iterator[dict[str, Any]]:
    """The lines of a manifest in ``folder``. Paths below it are relative, others absolute."""
    audio = utterance.audio_path
    if isinstance(audio, Address):
        path = path_from(folder, audio)
    elif isinstance(folder, Path) and audio.is_relative_to(folder):
        path = os.path.relpath(audio, folder)
    else:
        path = str(audio)
    record = {"id": utterance.id, "audio_filepath": path}
    others = {k: v for k, v in utterance.record.items() if k not in (*record, "offset", "duration")}
    is_cut = len(look.segments) > 1
    if is_cut:
        others.pop("text", None)
    for offset, seconds in look.segments:
        yield {
            **record,
            **({"id": f"{utterance.id}@{offset:.2f}"} if is_cut else {}),
            **({"offset": offset} if offset else {}),
            "duration": seconds,
            **others,
        }
