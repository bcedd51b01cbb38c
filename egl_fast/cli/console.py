"""Progress bars and tables; all but results goes to standard error."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

#: Where progress, notes and warnings go: standard output is for results alone.
stderr = Console(stderr=True, highlight=False)


def progress_bar() -> Progress:
    """A bar with count, rate (task field ``note``), time spent and time left, on standard error."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=stderr,
        disable=not stderr.is_terminal,
    )
