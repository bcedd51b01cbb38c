"""``egl-fast select``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from egl_fast.cli import options, selection_options
from egl_fast.cli.console import warn
from egl_fast.cli.idle_options import refuse_idle_options
from egl_fast.cli.scored_pool import ScoredPool
from egl_fast.cli.selection_output import FORMAT_OPTIONS, PicksOutput, described, format_options
from egl_fast.cli.selection_summary import say_nothing_left_out, summarize
from egl_fast.cli.selection_table import print_table
from egl_fast.data.audio_folder import audio_folder, read_metadata
from egl_fast.data.jsonl import JsonlWriter, refuse_unwritable
from egl_fast.embeddings.file import embeddings_path, load_embeddings
from egl_fast.errors import OutputError
from egl_fast.files import atomic
from egl_fast.selection import Candidates, Scored, batches, low_mass_warning, strategies
from egl_fast.selection.gate import default_drop, likeness_in, too_few_trusted
from egl_fast.selection.ranking import Selection


@click.command(
    "select",
    epilog=selection_options.listed("Strategies", strategies.described())
    + "\n\n"
    + selection_options.listed("Batches", batches.described())
    + "\n\n"
    + selection_options.listed("Formats", described()),
)
@click.argument("scores", type=options.FILE)
@selection_options.selection
@click.option(
    "--strategy",
    show_default=strategies.RECOMMENDED[0],
    metavar="NAME",
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
@click.option("--out", type=options.FILE, help="Where to write [default: standard output].")
@click.option("--overwrite", is_flag=True, help="Replace --out if it exists.")
@format_options
@click.option("--table", is_flag=True, help="Print a table on standard output instead of JSONL.")
@click.option(
    "--show", type=click.IntRange(min=1), metavar="N", help="Print a --table of the first N only."
)
@click.option(
    "--pool",
    type=options.FILE,
    help="With --out: the manifest that was scored, if SCORES.meta.json does not name it.",
)
@options.quiet
@refuse_idle_options(
    without={"--overwrite": "--out", "--pool": "--out", "--seed": "--batch"},
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
    `egl-fast report --scores OUT` lets you listen to a few of each; take a group back with
    --keep-group.

    With --out, OUT.meta.json says how the selection was made.

    Relative audio paths start from the folder of the pool's manifest: that of --pool, or the one
    named in SCORES.meta.json, or else the folder of SCORES. With --out, they are rewritten, if
    necessary, to start from the folder of --out. They stay as they are on standard output, and when
    SCORES is standard input and --pool is not given.

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
    writer = PicksOutput(out, format_chosen, overwrite=overwrite, inputs=inputs)
    if writer.path is not None:
        _refuse_metadata(_beside(writer.path, ".meta.json"), inputs, overwrite=overwrite)
    as_table = table or show is not None
    if as_table and writer.path is None and format_chosen["format_name"] is not None:
        raise click.UsageError("--format does nothing beside --table and --show without --out")
    metadata = read_metadata(scores)
    likeness = likeness_in(metadata)
    no_gate = chosen_by["drop_atypical"] is None and chosen_by["min_typicality"] is None
    if no_gate and "thresholds" in likeness:
        chosen_by["drop_atypical"] = default_drop(likeness.get("num_trusted"))
    options_given = {
        "budget": budget,
        "strategy": strategy,
        "cost": cost,
        "seed": seed,
        **chosen_by,
    }
    selection = selection_options.chosen_selection(
        **options_given,
        exclude={identity for path in exclude for identity in selection_options.ids_in(path)},
        metadata=metadata,
    )
    with ScoredPool(scores) as pool_of_scores:
        # A strategy of one's own may look at anything.
        is_own = ":" in (strategy or "")
        records: Sequence[Scored] = (
            list(pool_of_scores) if is_own else pool_of_scores.columns(_keys(selection, strategy))
        )
        ids = list(Candidates(records).values("id"))
        embeddings = None
        if scores != "-":
            embeddings = load_embeddings(scores, ids, ids_sha256=likeness.get("ids_sha256"))
        candidates = Candidates(records, embeddings)
        if embeddings is None and any(x is not None for x in candidates.values("typicality")):
            warn(
                f"no {embeddings_path(scores).name} beside the scores: copies are not recognized, "
                "and what is left out is one group"
            )
        if selection.ranked_by is None:
            options_given["strategy"] = strategies.recommended(candidates)
            selection = replace(selection, strategy=options_given["strategy"])
        ranked_by = str(selection.ranked_by)
        choice = selection.choose(candidates)
        whole = pool_of_scores.records_at([*choice.picks, *dict(choice.turned_away)], ids)
    if exclude and not any(identity in selection.exclude for identity in ids):
        warn("--exclude: none of its ids is in the scores; nothing is excluded")
    picked, turned_away = whole[: len(choice.picks)], whole[len(choice.picks) :]
    chosen = [{**record, "rank": rank} for rank, record in enumerate(picked, start=1)]
    away = [
        {**record, "group": group}
        for record, (_, group) in zip(turned_away, choice.turned_away, strict=True)
    ]
    few = too_few_trusted(likeness.get("num_trusted"))
    if chosen_by["drop_atypical"] == "auto" and few is not None:
        warn(few)
    if ranked_by in ("egl", "egl_unsquared"):
        warning = low_mass_warning(candidates)
        if warning is not None:
            warn(warning)
    listed_in = ""
    if writer.path is not None:
        # With only absolute paths, the manifest may be gone by now.
        both = [*chosen, *away]
        folder = audio_folder(scores, pool) if pool or any(map(_is_relative, both)) else None
        if folder is not None:
            move_audio_paths(both, folder, writer.path.parent)
        atypical = _beside(writer.path, ".atypical.jsonl")
        listed_in = str(atypical)
        left_out = JsonlWriter(atypical, overwrite=overwrite, inputs=inputs, only_if_any=True)
        gate = selection.gate
        said = {
            "scores": os.path.abspath(scores) if scores != "-" else scores,
            **selection_options.as_settings({**options_given, "exclude": exclude}),
            "num_picks": len(chosen),
            "gate": None if gate is None else gate.metadata(candidates),
            "typicality": {k: value for k, value in likeness.items() if k != "ids_sha256"},
        }
        is_found = folder is not None or not any(map(_is_relative, chosen))
        with writer.written(chosen, choice.scores, is_found=is_found):
            with left_out:
                _write(left_out, away)
            atomic.write_json(_beside(writer.path, ".meta.json"), said)
    elif not as_table:
        with writer.written(chosen, choice.scores, is_found=False):
            pass
    if as_table:
        print_table(chosen[:show], ranked_by)
    if not likeness and selection.gate is None:
        say_nothing_left_out("score the pool with --typicality")
    summarize(selection, choice, candidates, listed_in=listed_in)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _refuse_metadata(path: Path, inputs: list[str | None], *, overwrite: bool) -> None:
    refuse_unwritable(path, inputs=inputs)
    if path.exists() and not overwrite:
        raise OutputError(
            f"output {path}: already exists; give --overwrite to replace it, or another name"
        )


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


def _is_relative(record: dict[str, Any]) -> bool:
    audio = record.get("audio_filepath")
    return isinstance(audio, str) and not os.path.isabs(audio)


def move_audio_paths(records: list[dict[str, Any]], old: Path, new: Path) -> None:
    """Make relative audio paths that start from folder ``old`` start from folder ``new``."""
    # In a folder that is a symbolic link, .. leads out of its target, so real paths are needed.
    new_folder = os.path.realpath(new)
    if os.path.realpath(old) == new_folder:
        return
    for record in records:
        if _is_relative(record):
            folder, name = os.path.split(old / record["audio_filepath"])
            # Impossible paths, with a NUL or a lone surrogate, stay as they are.
            with suppress(ValueError):
                moved = os.path.relpath(os.path.join(os.path.realpath(folder), name), new_folder)
                record["audio_filepath"] = Path(moved).as_posix()


def _write(writer: JsonlWriter, records: Iterable[dict[str, Any]]) -> None:
    for record in records:
        writer.write(record)
