"""``egl-fast labels``."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from egl_fast.cli import options
from egl_fast.cli.console import say, warn
from egl_fast.cli.extras import require_packages
from egl_fast.cli.help_groups import GroupedCommand
from egl_fast.cli.idle_options import refuse_idle_options
from egl_fast.cli.labels_audit import Spelled, list_suspicious
from egl_fast.data.audio_folder import audio_folder, move_audio_paths
from egl_fast.data.jsonl import JsonlWriter
from egl_fast.errors import OutputError
from egl_fast.files.addresses import Place, absolute, place_of
from egl_fast.files.copies import as_given, folder_of, origin_of
from egl_fast.labeling.formats import Delivered, Record, Sending, read_back
from egl_fast.labeling.returned import PROBLEMS, Returned, by_id, match, training_line


@click.command("labels", cls=GroupedCommand)
@click.argument("picks", type=options.SCORES)
@click.argument("exports", nargs=-1, required=True, type=options.FILE, metavar="EXPORT...")
@click.option("--out", required=True, type=options.OUT, help="Training manifest to write.")
@click.option(
    "--rest",
    type=options.OUT,
    help="Also write what is still to be transcribed: --pool, or else PICKS, without what somebody "
    "has transcribed, skipped, or handed in empty.",
)
@click.option(
    "--pool", type=options.MANIFEST, help="With --rest: the manifest that PICKS are from."
)
@click.option("--overwrite", is_flag=True, help="Replace --out and --rest if they exist.")
@click.option(
    "--latest",
    is_flag=True,
    help="Of different transcripts of a recording, take the last, in the order of the EXPORTs.",
)
@click.option(
    "--keep-empty",
    is_flag=True,
    help='Take an empty transcript (`"text": ""`, an empty cell) as "nothing is said".',
)
@click.option(
    "--from-name",
    default=Sending.from_name,
    show_default=True,
    metavar="NAME",
    help="Label Studio's name for the text area with the transcript.",
)
@click.option(
    "--model",
    "model_spec",
    type=options.FILE,
    metavar="SPEC",
    help="Find the transcripts with characters that this model cannot write, as `train --init` "
    "would refuse them.",
)
@click.option(
    "--audit",
    "audit_spec",
    type=options.FILE,
    metavar="SPEC",
    help="The same, and compare each transcript with what this --model believes, and list the "
    "suspicious ones.",
)
@click.option(
    "--draws",
    type=click.IntRange(min=0),
    default=16,
    show_default=True,
    help="With --audit: labelings drawn from the model to compare a transcript with; the ranking "
    "does not need them, and 0 is faster.",
)
@click.option(
    "--params",
    metavar="GLOB",
    help="With --audit: parameters whose gradients count, as for `score`.",
)
@options.seed
@options.memory
@options.device
@options.threads
@options.quiet
@refuse_idle_options(
    without={
        "--pool": "--rest",
        **dict.fromkeys(("--draws", "--params", "--seed"), "--audit"),
    },
    beside={"--model": "--audit"},
)
def command(
    picks: str,
    exports: tuple[str, ...],
    out: str,
    rest: str | None,
    pool: str | None,
    overwrite: bool,
    latest: bool,
    keep_empty: bool,
    from_name: str,
    model_spec: str | None,
    audit_spec: str | None,
    device: str,
    threads: int | None,
    **auditing: Any,
) -> int:
    """Make a training manifest of the transcripts that came back.

    PICKS is what `select` or `query` wrote, in any --format. EXPORT is a file with transcripts, or
    several: what Label Studio exports (JSON, JSON-MIN, CSV), the table of --format csv, a manifest
    of JSON Lines or NeMo, Lhotse cuts, or a folder with a Hugging Face dataset; gzipped or not.
    What a file is shows in its content.

    Recordings are matched by id. A line of --out has the keys of PICKS, without scores, and the
    transcript as `text`, its spaces cleaned up. What cannot be used is listed in OUT.errors.jsonl,
    with a `kind`, and the exit status is 3: missing (no transcript yet), skipped (by an annotator),
    empty, conflict (different transcripts), changed (the audio's name, offset, or duration is not
    what was sent), or unknown (an id that was not sent).

    With --audit, lines also have audit_rank (1: most suspicious), audit_nll (-log p of the
    transcript, in nats per label), audit_percentile, and audit_norm_percentile: the share of
    labelings drawn from the model that are less surprising, or have a shorter gradient. The first
    few are printed: listen to them before you train on them.

    \b
    Examples:
      egl-fast labels tasks.json export.json --out labeled.jsonl
      egl-fast labels picks.csv monday.csv tuesday.csv --latest --out labeled.jsonl \\
          --pool pool.jsonl --rest rest.jsonl
      egl-fast labels picks.jsonl export.json --out labeled.jsonl --audit base.pt
    """
    inputs = [picks, *exports, pool]
    writers = [JsonlWriter(out, overwrite=overwrite, inputs=inputs)]
    if rest is not None:
        writers.append(JsonlWriter(rest, overwrite=overwrite, inputs=inputs))
    if any(writer.path is None for writer in writers):
        raise OutputError("output -: transcripts go to a file; name one")
    if rest is not None and absolute(origin_of(rest)) == absolute(origin_of(out)):
        raise OutputError(f"output {rest}: is given for both --out and --rest")
    errors = JsonlWriter(
        f"{out}.errors.jsonl", overwrite=overwrite, inputs=inputs, only_if_any=True
    )
    if any(map(os.path.isdir, (picks, *exports))):
        require_packages("a Hugging Face dataset", {"pyarrow": "pyarrow"}, extra="datasets")
    sent = by_id(read_back(picks, from_name=from_name))
    answers = (one for path in exports for one in read_back(path, from_name=from_name))
    returned = match(sent, answers, latest=latest, keep_empty=keep_empty)
    folder = audio_folder(picks, None) or Path()
    lines = {
        identity: training_line({**sent[identity].record, "id": identity}, text)
        for identity, text in returned.texts.items()
    }
    spec = model_spec or audit_spec
    if spec is not None:
        from egl_fast.recognizers.spec import load_recognizer

        recognizer = load_recognizer(spec, device=options.set_up_torch(device, threads))
        spelled = Spelled(lines, folder, recognizer)
        returned.problems += spelled.problems
        if audit_spec is not None:
            lines, failed = spelled.audited(**auditing)
            returned.problems += failed
    left: list[Record] = []
    # The manifest gets its name last: what is beside it is of the same run, or older than it.
    with writers[0], ExitStack() as stack:
        _write(writers[0], lines.values(), folder)
        if rest is not None:
            left = _left(sent if pool is None else by_id(_pool(pool, from_name)), returned)
            stack.enter_context(writers[1])
            _write(writers[1], left, folder if pool is None else place_of(pool).parent)
        stack.enter_context(errors)
        for problem in returned.problems:
            errors.write({**vars(problem), "error": as_given(problem.error)})
        errors.flush()
    if rest is not None:
        say(f"{len(left)} recordings are left: see {rest}")
    _summarize(returned, len(sent), f"{out}.errors.jsonl")
    if audit_spec is not None:
        list_suspicious(lines.values())
    return 3 if returned.problems else 0


def _pool(path: str, from_name: str) -> Iterator[Delivered]:
    """The recordings of a pool, in any form that ``--pool`` of other commands takes."""
    if not os.path.isdir(path) or Path(path, "state.json").exists():
        yield from read_back(path, from_name=from_name)
        return
    from egl_fast.data.manifest import read_manifest

    for one in read_manifest(path):
        yield Delivered(one.id, one.text, one.record, one.place or path)


def _left(pool: Mapping[str, Delivered], returned: Returned) -> list[Record]:
    seen = returned.seen
    # Ids are written: one that was made of a path would change with it.
    return [
        {**one.record, "id": identity} for identity, one in pool.items() if identity not in seen
    ]


def _write(writer: JsonlWriter, records: Iterable[Record], folder: Place) -> None:
    moved = [dict(record) for record in records]
    assert writer.path is not None
    move_audio_paths(moved, folder, folder_of(writer.path))
    for record in moved:
        writer.write(record)
    writer.flush()


def _summarize(returned: Returned, num_sent: int, listed_in: str) -> None:
    say(f"{len(returned.texts)} of {num_sent} recordings have a transcript")
    if returned.num_unchanged:
        say(f"{returned.num_unchanged} are word for word what the model had heard")
    if returned.num_as_sent:
        warn(
            f"{returned.num_as_sent} have the text that the pool had already: perhaps nobody has "
            "typed it"
        )
    if returned.num_repeated:
        say(f"{returned.num_repeated} came back more than once, with the same transcript")
    kinds = Counter(problem.kind for problem in returned.problems)
    if kinds:
        counts = ", ".join(
            f"{kinds[kind]} {what}" for kind, what in PROBLEMS.items() if kinds[kind]
        )
        warn(f"{counts}: see {listed_in}")
