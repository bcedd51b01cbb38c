"""``egl-fast select``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from egl_fast.cli import options
from egl_fast.cli.console import say, warn
from egl_fast.cli.idle_options import refuse_idle_options
from egl_fast.data.audio_folder import audio_folder
from egl_fast.data.json_reading import decompressed, json_lines, read_file, text_of
from egl_fast.data.jsonl import JsonlWriter
from egl_fast.data.manifest import seconds_of
from egl_fast.display import printable
from egl_fast.errors import ManifestError
from egl_fast.records import STRATEGIES
from egl_fast.selection import low_mass_warning, parse_budget, select

#: What a table is laid out for where no terminal says how wide it is.
_PIPED_COLUMNS = 100
_MAX_ID_CHARACTERS = 20


@click.command(
    "select",
    epilog="\b\nStrategies:\n" + "\n".join(f"  {k:<15} {v}" for k, v in STRATEGIES.items()),
)
@click.argument("scores", type=options.FILE)
@click.option(
    "--budget",
    required=True,
    metavar="BUDGET",
    help="How much: 20% of the utterances, 500 utterances, or 3.5h (90m, 45s) of audio.",
)
@click.option(
    "--strategy",
    default="egl",
    show_default=True,
    metavar="NAME",
    help="What to rank by, see below.",
)
@click.option("--out", type=options.FILE, help="Where to write [default: standard output].")
@click.option("--overwrite", is_flag=True, help="Replace --out if it is there.")
@click.option("--table", is_flag=True, help="Show a table on standard output, not JSONL.")
@click.option(
    "--show", type=click.IntRange(min=1), metavar="N", help="A --table of the first N only."
)
@click.option(
    "--pool",
    type=options.FILE,
    help="With --out: the manifest that was scored, where SCORES.meta.json does not name it.",
)
@options.quiet
@refuse_idle_options(without={"--overwrite": "--out", "--pool": "--out"})
def command(
    scores: str,
    budget: str,
    strategy: str,
    out: str | None,
    overwrite: bool,
    table: bool,
    show: int | None,
    pool: str | None,
) -> None:
    """Pick the most informative utterances of a scores file, within a budget.

    SCORES is what `egl-fast score` wrote; - is standard input. The chosen lines come out whole,
    most informative first, with a `rank` from 1: a manifest, ready to be transcribed. Equal scores
    keep the order of SCORES. A budget of hours stops before it would overflow.

    Relative paths of audio are counted from the folder of the pool's manifest: that of --pool, or
    that which SCORES.meta.json names, or else the folder of SCORES. With --out they are rewritten,
    if need be, so that they hold from the folder of --out. They stay as they are on standard
    output, and when SCORES is standard input and --pool is not given.

    \b
    Examples:
      egl-fast select scores.jsonl --budget 20% --out to_transcribe.jsonl
      egl-fast select scores.jsonl --budget 3.5h --strategy egl_normalized --table
    """
    writer = JsonlWriter(out, overwrite=overwrite, inputs=[scores, pool])
    records = _read_scores(scores)
    chosen = [
        {**records[index], "rank": rank}
        for rank, index in enumerate(select(records, budget=budget, strategy=strategy), start=1)
    ]
    if strategy in ("egl", "egl_unsquared"):
        warning = low_mass_warning(records)
        if warning is not None:
            warn(warning)
    if writer.path is not None:
        # Where all paths are absolute, it does not matter whether the manifest is still there.
        folder = audio_folder(scores, pool) if pool or any(map(_is_relative, chosen)) else None
        if folder is not None:
            _move_audio_paths(chosen, folder, writer.path.parent)
    as_table = table or show is not None
    if writer.path is not None or not as_table:
        _write(writer, chosen)
    if as_table:
        _print_table(chosen[:show], strategy)
    seconds = parse_budget(budget).seconds
    if seconds is not None and sum(Fraction(str(r["duration"])) for r in records) < seconds:
        warn(f"budget {budget}: is more than all {len(records)} utterances take; all are selected")
    say(_summary(chosen, records, strategy))


def _read_scores(path: str) -> list[dict[str, Any]]:
    """The objects of a scores file, in its order; blank lines are skipped."""
    source = "scores from standard input" if path == "-" else f"scores {path}"
    content = sys.stdin.buffer.read() if path == "-" else read_file(path, source)
    text = text_of(decompressed(content, source), source)
    records: list[dict[str, Any]] = []
    first_line: dict[str, int] = {}
    for number, where, record in json_lines(text, source):
        _refuse_other_records(record, where)
        identity = record["id"]
        if identity in first_line:
            raise ManifestError(
                f"{where}: id {identity!r} is already on line {first_line[identity]}; "
                "a recording is transcribed once: remove one of the lines"
            )
        first_line[identity] = number
        records.append(record)
    if not records:
        raise ManifestError(f"{source}: holds no record; write it with `egl-fast score`")
    return records


def _refuse_other_records(record: dict[str, Any], where: str) -> None:
    if not isinstance(record.get("id"), str):
        raise ManifestError(
            f"{where}: holds no 'id'; is this a scores file, as `egl-fast score` writes it?"
        )
    seconds_of(record, "duration", where)


def _is_relative(record: dict[str, Any]) -> bool:
    audio = record.get("audio_filepath")
    return isinstance(audio, str) and not os.path.isabs(audio)


def _move_audio_paths(records: list[dict[str, Any]], old: Path, new: Path) -> None:
    """Makes relative audio paths that hold from folder ``old`` hold from folder ``new``."""
    # Where a folder is a symbolic link, .. leads out of its target: only real paths can be counted.
    new_folder = os.path.realpath(new)
    if os.path.realpath(old) == new_folder:
        return
    for record in records:
        if _is_relative(record):
            folder, name = os.path.split(old / record["audio_filepath"])
            # A path that no file can have, with a NUL or half of a surrogate pair, leads nowhere.
            with suppress(ValueError):
                moved = os.path.relpath(os.path.join(os.path.realpath(folder), name), new_folder)
                record["audio_filepath"] = Path(moved).as_posix()


def _write(writer: JsonlWriter, records: Iterable[dict[str, Any]]) -> None:
    with writer:
        for record in records:
            writer.write(record)


def _summary(chosen: list[dict[str, Any]], records: list[dict[str, Any]], strategy: str) -> str:
    taken, total = (sum(record["duration"] for record in part) for part in (chosen, records))
    unit, seconds = ("h", 3600) if total >= 3600 else ("min", 60)
    return (
        f"selected {len(chosen)} of {len(records)} utterances by {strategy}: "
        f"{taken / seconds:.2f} of {total / seconds:.2f} {unit}, "
        f"{taken / len(chosen):.1f} s on average"
    )


def _print_table(records: list[dict[str, Any]], strategy: str) -> None:
    has_text = any(isinstance(record.get("text"), str) for record in records)
    numbers = {"EGL": "egl", "entropy": "entropy"}
    if strategy not in numbers.values():
        numbers = {strategy: strategy, **numbers}
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), expand=True)
    table.add_column("rank", justify="right", no_wrap=True)
    table.add_column("id", no_wrap=True)
    for header in numbers:
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    table.add_column("model heard", no_wrap=True, ratio=1)
    if has_text:
        table.add_column("really said", no_wrap=True, ratio=1)
    for record in records:
        cells = [
            str(record["rank"]),
            _shorten(_shown(record["id"])),
            *(_number(record.get(name)) for name in numbers.values()),
            f"{record['duration']:.1f}",
            _shown(record.get("pred_text")),
        ]
        if has_text:
            cells.append(_shown(record.get("text")))
        # Text, not str: square brackets in a transcript are no markup.
        table.add_row(*(Text(cell, overflow="ellipsis") for cell in cells))
    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    Console(width=_PIPED_COLUMNS if piped else None, highlight=False).print(table)


def _number(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "-"
    return f"{value:,.0f}" if 100 <= abs(value) < 1e9 else f"{value:.3g}"


def _shown(value: object) -> str:
    return printable(value) if isinstance(value, str) else "-"


def _shorten(identity: str) -> str:
    """The end of a long id: most are paths, alike at the start."""
    if len(identity) <= _MAX_ID_CHARACTERS:
        return identity
    return "…" + identity[1 - _MAX_ID_CHARACTERS :]
