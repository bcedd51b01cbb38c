"""``egl-fast select``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import click

from egl_fast.cli import options, selection_options
from egl_fast.cli.console import warn
from egl_fast.cli.help_groups import GroupedCommand
from egl_fast.cli.idle_options import refuse_idle_options
from egl_fast.cli.selection_output import FORMAT_OPTIONS, PicksOutput, described, format_options
from egl_fast.cli.selection_summary import say_nothing_left_out, summarize
from egl_fast.cli.selection_table import print_table
from egl_fast.data.audio_folder import audio_folder, is_relative, move_audio_paths, read_metadata
from egl_fast.files.addresses import Place
from egl_fast.files.copies import as_given, folder_of
from egl_fast.scores import ScoredPool, embeddings_beside
from egl_fast.selection import Candidates, Scored, batches, strategies
from egl_fast.selection.gate import how_to_close, likeness_in
from egl_fast.selection.ranking import Selection
from egl_fast.selection.request import Request, choose

#: What a selection's metadata repeat of those of its scores, by the keys that `query` has, too.
_HOW_SCORED = (
    "model", "model_sha256", "pool_sha256", "k", "beam_width", "method", "tolerance", "probes",
    "full_samples",
)  # fmt: skip


@click.command(
    "select",
    cls=GroupedCommand,
    epilog=selection_options.listed("Strategies", strategies.described())
    + "\n\n"
    + selection_options.listed("Batches", batches.described())
    + "\n\n"
    + selection_options.listed("Formats", described()),
)
@click.argument("scores", type=options.SCORES)
@selection_options.selection
@click.option(
    "--strategy",
    show_default=strategies.RECOMMENDED[0],
    metavar="NAME",
    shell_complete=options.completed_from(strategies.described()),
    help="What to rank by: a name from the list below; NAME/second for the score per second of "
    "audio, since sums such as egl grow with length; or FILE.py:FUNCTION of your own, whose code "
    "is run.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Seed of --batch.",
)
@click.option("--out", type=options.OUT, help="Where to write [default: standard output].")
@click.option("--overwrite", is_flag=True, help="Replace --out if it exists.")
@format_options
@click.option("--table", is_flag=True, help="Print a table on standard output instead of JSONL.")
@click.option(
    "--show", type=click.IntRange(min=1), metavar="N", help="Print a --table of the first N only."
)
@click.option(
    "--pool",
    type=options.MANIFEST,
    help="The manifest that was scored, if SCORES.meta.json does not name it.",
)
@options.quiet
@refuse_idle_options(
    without={"--overwrite": "--out", "--seed": "--batch"},
    beside={"--share": "--batch", "--strategy": f"--batch {'|'.join(batches.without_scores())}"},
)
def command(
    scores: str,
    budget: str,
    strategy: str | None,
    cost: str | None,
    exclude: tuple[str, ...],
    seed: int,
    out: str | None,
    overwrite: bool,
    table: bool,
    show: int | None,
    pool: str | None,
    **chosen_by: Any,
) -> None:
    """Pick the utterances of a scores file that a budget is best spent on.

    SCORES is what `egl-fast score` wrote; - is standard input. The chosen lines are written
    unchanged except for a `rank` from 1, most informative first: a manifest, ready for
    transcription. Equal scores keep the order of SCORES. A budget in hours stops before it would be
    exceeded.

    If the pool was scored with --typicality, of several copies of a recording one is taken, also if
    the other is one of --exclude, and a gate leaves out what does not sound like the trusted
    recordings: noise, music, other languages. It is --drop-atypical auto if there are at least 50
    trusted recordings and nothing else is asked for; --drop-atypical 0% opens it. With --out,
    OUT.atypical.jsonl lists what was left out, with its scores, in groups of like recordings.
    `egl-fast report --scores OUT`, for an OUT.jsonl, lets you listen to a few of each; take a group
    back with --keep-group.

    With --out, OUT.meta.json says how the selection was made.

    Relative audio paths start from the folder of the pool's manifest: that of --pool, or the one
    named in SCORES.meta.json, or else the folder of SCORES. With --out, they are rewritten, if
    necessary, to start from the folder of --out; on standard output, they become absolute. When
    SCORES is standard input and --pool is not given, they stay as they are, with a warning.

    \b
    Examples:
      egl-fast select scores.jsonl --budget 20% --out to_transcribe.jsonl
      egl-fast select scores.jsonl --budget 3.5h --strategy egl_normalized --table
      egl-fast select scores.jsonl --budget 5h --drop-atypical 10% --per speaker=20 \\
          --exclude last_round.jsonl --out this_round.jsonl
      egl-fast select scores.jsonl --budget 400 --cost "0.5 + 0.02*seconds" --out batch.jsonl
    """
    inputs = [scores, pool, *exclude]
    format_chosen = {name: chosen_by.pop(name) for name in FORMAT_OPTIONS}
    writer = PicksOutput(
        out, format_chosen, overwrite=overwrite, inputs=inputs, lists=("atypical",)
    )
    only_table = (table or show is not None) and writer.path is None
    for option, given in (("--format", format_chosen["format_name"]), ("--pool", pool)):
        if only_table and given is not None:
            raise click.UsageError(f"{option} does nothing beside --table and --show without --out")
    metadata = read_metadata(scores)
    request = Request(budget, strategy, cost, seed, **chosen_by).with_default_gate(metadata)
    # Complain of options before reading a million records.
    selection = request.selection(metadata=metadata)
    excluded = {identity for path in exclude for identity in selection_options.ids_in(path)}
    with ScoredPool(scores) as read:
        # A strategy of one's own may look at anything.
        is_own = strategy is not None and ":" in strategy
        known: Sequence[Scored] = list(read) if is_own else read.columns(_keys(selection, strategy))
        ids = list(Candidates(known).values("id"))
        holds_typicality = any(x is not None for x in Candidates(known).values("typicality"))
        embeddings = embeddings_beside(scores, ids, metadata, holds_typicality=holds_typicality)
        candidates = Candidates(known, embeddings)
        chosen = choose(request, candidates, metadata, exclude=excluded)
        choice, gate = chosen.choice, chosen.selection.gate
        whole = read.records_at([*choice.picks, *dict(choice.turned_away)], ids)
    # Not copied: there may be hundreds of thousands.
    picks, away = whole[: len(choice.picks)], whole[len(choice.picks) :]
    for rank, record in enumerate(picks, start=1):
        record["rank"] = rank
    for record, (_, group) in zip(away, choice.turned_away, strict=True):
        record["group"] = group
    if not only_table:
        is_found = _move_audio(
            [*picks, *away], scores, pool, None if writer.path is None else folder_of(writer.path)
        )
        likeness = likeness_in(metadata)
        said = {
            "scores": as_given(os.path.abspath(scores)) if scores != "-" else scores,
            **selection_options.as_settings(chosen.request),
            "exclude": [as_given(path) for path in exclude],
            "num_scored": len(ids),
            "num_picks": len(picks),
            **_how_scored(metadata, len(ids)),
            "gate": None if gate is None else gate.metadata(candidates),
            "typicality": {k: v for k, v in likeness.items() if not k.endswith("_sha256")},
        }
        writer.write(
            picks, choice.scores, is_found=is_found, lists={"atypical": away}, metadata=said
        )
    if table or show is not None:
        print_table(picks[:show], str(chosen.selection.ranked_by))
    if gate is None:
        read_from: Literal["pipe", "file"] = "pipe" if scores == "-" else "file"
        say_nothing_left_out(
            how_to_close(metadata, holds_typicality=holds_typicality, read_from=read_from)
        )
    listed_in = "" if writer.path is None else str(writer.beside(".atypical.jsonl"))
    summarize(chosen.selection, choice, candidates, listed_in=listed_in)


def _how_scored(metadata: Mapping[str, Any], num_records: int) -> dict[str, Any]:
    """What is known about the scores; nothing where the metadata belong to another file."""
    if metadata.get("num_scored") != num_records:
        return {}
    said = {key: metadata[key] for key in _HOW_SCORED if key in metadata}
    # Not under "pool": relative audio paths of picks start from their own folder.
    return {**said, "manifest": metadata.get("pool")}


def _keys(selection: Selection, strategy: str | None) -> set[str]:
    """Keys of the records that a selection by a strategy is likely to look at."""
    ranked_by = strategies.RECOMMENDED if strategy is None else [strategies.split_unit(strategy)[0]]
    keys = {"id", "duration", "typicality", "beam_mass", *ranked_by}
    keys |= {key for key, _ in selection.most}
    if selection.share is not None:
        keys.add(selection.share)
    if selection.cost is not None and selection.cost.per_word:
        keys.add("pred_text")
    return keys


def _move_audio(
    records: list[dict[str, Any]], scores: str, pool: str | None, to: Place | None
) -> bool:
    """Make audio paths right for a file in a folder, or absolute; whether that can be done."""
    if pool is None and not any(map(is_relative, records)):
        return True  # the manifest may be gone by now
    folder = audio_folder(scores, pool)
    if folder is None:
        warn(
            "relative audio paths are written as they are, because it is unknown what folder they "
            "start from; give the pool's manifest with --pool"
        )
        return False
    move_audio_paths(records, folder, to)
    return True
