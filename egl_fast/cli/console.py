"""Everything that commands print: results on standard output, the rest on standard error.

No control character reaches a terminal, whatever ids and paths contain. Progress is a bar on a
terminal, and an occasional line in a log.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from datetime import timedelta
from typing import IO, Any, cast

import click
from rich.console import Console
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from egl_fast.display import json_text, printable
from egl_fast.files.copies import as_given
from egl_fast.warning import EglWarning


class _Notes:
    """Standard error; losing it (a full disk under a log, a closed terminal) does not end a run."""

    def write(self, text: str) -> int:
        stream = self._stream()
        if stream is not None:
            try:
                stream.write(text)
                stream.flush()
            except OSError:
                # What is buffered must go somewhere, or it would fail again at exit.
                discard(2)
        return len(text)

    @property
    def encoding(self) -> str:
        return getattr(self._stream(), "encoding", None) or "utf-8"

    def flush(self) -> None:
        """Does nothing: every write is flushed."""

    def isatty(self) -> bool:
        stream = self._stream()
        return stream is not None and stream.isatty()

    @staticmethod
    def _stream() -> IO[str] | None:
        # While a bar is drawn, rich replaces standard error.
        stream: IO[str] | None = getattr(sys.stderr, "rich_proxied_file", sys.stderr)
        return stream


def discard(descriptor: int) -> None:
    """Discard what is written to standard output (1) or standard error (2) from now on."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


notes = _Notes()

#: For progress, notes, and warnings: standard output is only for results.
stderr = Console(file=cast(IO[str], notes), highlight=False, emoji=False)

#: Between two lines of progress if standard error is a file or a pipe.
LOG_INTERVAL_SECONDS = 60.0


def say(line: str) -> None:
    """A note on standard error, unless --quiet."""
    stderr.print(printable(as_given(line)), markup=False, soft_wrap=True)


def warn(line: str) -> None:
    """A warning on standard error, even with --quiet."""
    quiet, stderr.quiet = stderr.quiet, False
    say(f"warning: {line}")
    stderr.quiet = quiet


def complain(line: str) -> None:
    """An error on standard error, even with --quiet."""
    notes.write(f"{printable(as_given(line))}\n")


def tell(line: str) -> None:
    """A line of the result, on standard output."""
    click.echo(printable(as_given(line)))


def tell_json(value: Any, *, indent: int | None = None) -> None:
    """The result as JSON, on standard output, in UTF-8 whatever the locale."""
    click.echo(json_text(value, indent=indent).encode())


def tell_table(table: Table) -> None:
    """A table on standard output, as wide as it needs to be: a number that is cut off is wrong."""
    console = Console(highlight=False)
    needed = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
    console.width = max(console.width, needed)
    console.print(table, soft_wrap=True)


def print_warnings() -> None:
    """From now on, print what the package warns of as ``warn`` does, each time."""
    others = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, EglWarning):
            warn(str(message))
        else:
            others(message, category, *where, **more)

    warnings.showwarning = show
    warnings.simplefilter("always", EglWarning)


class _Bar(Progress):
    """A bar that escapes its texts."""

    def update(self, task_id: TaskID, **changes: Any) -> None:
        safe: dict[str, Any] = {
            key: printable(value) if isinstance(value, str) else value
            for key, value in changes.items()
        }
        super().update(task_id, **safe)


class LoggedProgress(Progress):
    """Progress as plain lines, at most one per minute, for logs of long runs."""

    def __init__(self, *, with_time_left: bool = True) -> None:
        super().__init__(console=stderr, disable=True)
        self._logged_at = time.monotonic()
        self._with_time_left = with_time_left

    def update(self, task_id: TaskID, **changes: Any) -> None:
        super().update(task_id, **changes)
        if time.monotonic() - self._logged_at < LOG_INTERVAL_SECONDS:
            return
        self._logged_at = time.monotonic()
        task = self._tasks[task_id]
        left = task.time_remaining if self._with_time_left else None
        when = "" if left is None else f", {timedelta(seconds=round(left))} left"
        total = "?" if task.total is None else f"{task.total:.0f}"
        note = task.fields.get("note", "")
        say(f"{task.description}: {task.completed:.0f}/{total} {note}{when}")


def progress_bar(*, with_time_left: bool = True) -> Progress:
    """Count, rate (task field ``note``), elapsed and remaining time, on standard error.

    ``with_time_left=False`` is for steps of uneven length, for which counts predict nothing.
    """
    if stderr.quiet or not stderr.is_terminal:
        return LoggedProgress(with_time_left=with_time_left)
    return _Bar(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
        *([TextColumn("left"), TimeRemainingColumn()] if with_time_left else []),
        console=stderr,
    )
