"""Options of commands that choose recordings, so that they mean the same in each."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from egl_fast.cli import options
from egl_fast.cli.extras import require_packages
from egl_fast.data.parquet_records import is_parquet, record_lines
from egl_fast.errors import SelectionError
from egl_fast.labeling.formats import Sending, read_back
from egl_fast.selection import batches
from egl_fast.selection.gate import ENOUGH_TRUSTED, FALSE_ALARMS
from egl_fast.selection.request import Request

#: Fields of a request that options have other names for.
_NAMES = {"most": "per", "kept_groups": "keep_group"}


def _per(context: click.Context, param: click.Parameter, given: Any) -> tuple[tuple[str, int], ...]:
    found = []
    for text in given:
        key, equals, number = text.rpartition("=")
        if not (equals and key and number.isascii() and number.isdigit() and int(number)):
            raise click.BadParameter(f"{text}: expected KEY=N, such as speaker=5")
        found.append((key, int(number)))
    return tuple(found)


def listed(title: str, described: Mapping[str, str]) -> str:
    """Names and what they mean, for the end of a command's help."""
    lines = "\n".join(f"  {name:<15} {line}" for name, line in described.items())
    return f"\b\n{title}:\n{lines}"


_OPTIONS = (
    click.option(
        "--budget",
        required=True,
        metavar="BUDGET",
        help="How much: 500 recordings, 20% of the pool's recordings, however long they are, or "
        "3.5h (90m, 45s) of audio; with --cost, a plain number is money. A warning says if some of "
        "it is left over.",
    ),
    click.option(
        "--batch",
        metavar="NAME",
        shell_complete=options.completed_from(batches.described()),
        help="Choose a varied set instead of the top of the list, by one of the ways below; scores "
        "decide among recordings that are alike. Needs --typicality, here or when the pool was "
        "scored.",
    ),
    click.option(
        "--share",
        metavar="KEY",
        help="Give each value of a manifest key a fair share, such as corpus; instead of --batch.",
    ),
    click.option(
        "--per",
        "most",
        multiple=True,
        metavar="KEY=N",
        callback=_per,
        help="Take at most N utterances of each value of a key, such as speaker=5; may be "
        "repeated.",
    ),
    click.option(
        "--cost",
        metavar="SUM",
        help='What transcribing an utterance costs, in any currency: a sum such as "0.5 + '
        '0.02*seconds + 0.01*words", numbers first; words are those that the model hears. The '
        "summary says what the picks cost. Without --batch or --share, the order stays that of the "
        "scores: to get more for money that is paid by length, rank by NAME/second.",
    ),
    click.option(
        "--drop-atypical",
        metavar="SHARE",
        help="Gate: leave out what is least like the trusted recordings and the rest of the pool. "
        "10% of the pool's recordings, or auto: what lies below the typicality that "
        f"{FALSE_ALARMS:.0%} of the trusted ones lie below, the default if there are "
        f"{ENOUGH_TRUSTED} of these. How much of other speech that leaves out depends on its kind. "
        "Needs --typicality, here or when the pool was scored.",
    ),
    click.option(
        "--min-typicality",
        type=float,
        metavar="X",
        help="Gate: leave out what has a lower `typicality` than this; about 0 is typical, -0.7 "
        "lies half as densely among others as its neighbors.",
    ),
    click.option(
        "--keep-group",
        "kept_groups",
        type=click.IntRange(min=1),
        multiple=True,
        metavar="N",
        help="Take back a group of what the gate left out; OUT.atypical.jsonl and `report` show "
        "their numbers, which hold for the same scores and gate. May be repeated.",
    ),
    click.option(
        "--exclude",
        type=options.FILE,
        multiple=True,
        metavar="FILE",
        help="A manifest, or an earlier selection in any --format: recordings with its ids are not "
        "candidates. May be repeated.",
    ),
)


def selection(command: Callable[..., Any]) -> Callable[..., Any]:
    """All options that say what to choose by, except for the strategy; see ``Request``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def as_settings(request: Request) -> dict[str, Any]:
    """What is asked for as metadata hold it: by option, in plain values."""
    named = {_NAMES.get(own.name, own.name): getattr(request, own.name) for own in fields(request)}
    plain: dict[str, Any] = json.loads(json.dumps(named))
    return plain


def ids_in(path: str) -> Iterator[str]:
    """The ids in a file of ``--exclude``: picks in any format, or scores."""
    if os.path.isfile(path) and is_parquet(Path(path)):
        return _ids_in_parquet(path)
    if os.path.isdir(path):
        require_packages("a Hugging Face dataset", {"pyarrow": "pyarrow"}, extra="datasets")
    return (one.id for one in read_back(path, from_name=Sending.from_name))


def _ids_in_parquet(path: str) -> Iterator[str]:
    with open(path, "rb") as file:
        for record in map(json.loads, record_lines(file, path)):
            if not isinstance(record.get("id"), str):
                raise SelectionError(f"{path}: is not a scores file: it has no column of ids")
            yield record["id"]
