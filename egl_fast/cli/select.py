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

#: The width of a table if it is not shown on a terminal.
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
    help="What to rank by; see below.",
)
@click.option("--out", type=options.FILE, help="Where to write [default: standard output].")
@click.option("--overwrite", is_flag=True, help="Replace --out if it exists.")
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

    SCORES is what `egl-fast score` wrote; - is standard input. The chosen lines are written
    unchanged except for a `rank` from 1, most informative first: a manifest, ready for
    transcription. Equal scores keep the order of SCORES. A budget in hours stops before it would be
    exceeded.

    Relative audio paths start from the folder of the pool's manifest: that of --pool, or the one
    named in SCORES.meta.json, or else the folder of SCORES. With --out, they are rewritten, if
    necessary, to start from the folder of --out. They stay as they are on standard output, and when
    SCORES is standard input and --pool is not given.

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
        # With only absolute paths, the manifest need not exist any more.
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
        warn(f"budget {budget}: exceeds the length of all {len(records)} utterances; selected all")
    say(_summary(chosen, records, strategy))


def _read_scores(path: str) -> list[dict[str, Any]]:
    """The objects of a scores file, in order, without blank lines."""
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
                "a recording need be transcribed only once: remove one of the lines"
            )
        first_line[identity] = number
        records.append(record)
    if not records:
        raise ManifestError(f"{source}: contains no records; write it with `egl-fast score`")
    return records


def _refuse_other_records(record: dict[str, Any], where: str) -> None:
    if not isinstance(record.get("id"), str):
        raise ManifestError(
            f"{where}: has no 'id'; is this a scores file written by `egl-fast score`?"
        )
    seconds_of(record, "duration", where)


def _is_relative(record: dict[str, Any]) -> bool:
    audio = record.get("audio_filepath")
    return isinstance(audio, str) and not os.path.isabs(audio)


def _move_audio_paths(records: list[dict[str, Any]], old: Path, new: Path) -> None:
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
        # Text, not str: square brackets in a transcript are not markup.
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
    """The end of a long id: most are paths that start alike."""
    if len(identity) <= _MAX_ID_CHARACTERS:
        return identity
    return "…" + identity[1 - _MAX_ID_CHARACTERS :]
