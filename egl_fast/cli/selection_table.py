"""The table of ``egl-fast select``: what was chosen, at a glance."""

from __future__ import annotations

import os
import sys
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from egl_fast.display import printable

#: The width of a table if it is not shown on a terminal.
_PIPED_COLUMNS = 100
_MAX_ID_CHARACTERS = 20


def print_table(records: list[dict[str, Any]], strategy: str) -> None:
    """Print records in their order, on 100 columns where standard output is not a terminal."""
    has_text = any(isinstance(record.get("text"), str) for record in records)
    numbers = {"EGL": "egl", "entropy": "entropy"}
    if strategy not in numbers.values() and any(strategy in record for record in records):
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
