"""All that commands print: results on standard output, the rest on standard error.

Nothing here lets a control character through to a terminal, whatever ids and paths hold. Progress
is a bar for a person who watches, a line now and then for a log.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from datetime import timedelta
from typing import IO, Any, cast

import click
from rich.console import Console
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

from egl_fast.display import json_text, printable


class _Notes:
    """Standard error, whose loss ends no run: a full disk under a log, a closed terminal."""

    def write(self, text: str) -> int:
        stream = self._stream()
        if stream is not None:
            try:
                stream.write(text)
                stream.flush()
            except OSError:
                # What is buffered has to go somewhere, or it would fail again at the end.
                discard(2)
        return len(text)

    @property
    def encoding(self) -> str:
        return getattr(self._stream(), "encoding", None) or "utf-8"

    def flush(self) -> None:
        """Nothing is left to be flushed."""

    def isatty(self) -> bool:
        stream = self._stream()
        return stream is not None and stream.isatty()

    @staticmethod
    def _stream() -> IO[str] | None:
        # While a bar is drawn, rich has its own in the place of standard error.
        stream: IO[str] | None = getattr(sys.stderr, "rich_proxied_file", sys.stderr)
        return stream


def discard(descriptor: int) -> None:
    """Let what is written to standard output (1) or standard error (2) go nowhere from now on."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


notes = _Notes()

#: Where progress, notes and warnings go: standard output is for results alone.
stderr = Console(file=cast(IO[str], notes), highlight=False, emoji=False)

#: Seconds between two lines of progress where standard error is a file or a pipe.
LOG_INTERVAL_SECONDS = 60.0


def say(line: str) -> None:
    """A note on standard error; nothing with --quiet."""
    stderr.print(printable(line), markup=False, soft_wrap=True)


def warn(line: str) -> None:
    """A warning on standard error, with --quiet, too."""
    quiet, stderr.quiet = stderr.quiet, False
    say(f"warning: {line}")
    stderr.quiet = quiet


def complain(line: str) -> None:
    """An error on standard error, with --quiet, too."""
    notes.write(f"{printable(line)}\n")


def tell(line: str) -> None:
    """A line of the result, on standard output."""
    click.echo(printable(line))


def tell_json(value: Any, *, indent: int | None = None) -> None:
    """The result as JSON, on standard output: UTF-8, whatever the locale says of text."""
    click.echo(json_text(value, indent=indent).encode())


class _Warnings(logging.Handler):
    """Lets what modules log come out as warnings do."""

    def emit(self, record: logging.LogRecord) -> None:
        warn(record.getMessage())


#: For the package's logger, while a command runs.
log_handler = _Warnings(logging.WARNING)


class _Bar(Progress):
    """A bar whose texts may hold anything."""

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """Change a task."""
        safe: dict[str, Any] = {
            key: printable(value) if isinstance(value, str) else value
            for key, value in changes.items()
        }
        super().update(task_id, **safe)


class LoggedProgress(Progress):
    """Progress as plain lines, one a minute at most, for logs of long runs."""

    def __init__(self, *, with_time_left: bool = True) -> None:
        super().__init__(console=stderr, disable=True)
        self._said_at = time.monotonic()
        self._with_time_left = with_time_left

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """Change a task, and say where it is if a minute has passed."""
        super().update(task_id, **changes)
        if time.monotonic() - self._said_at < LOG_INTERVAL_SECONDS:
            return
        self._said_at = time.monotonic()
        task = self._tasks[task_id]
        left = task.time_remaining if self._with_time_left else None
        when = "" if left is None else f", {timedelta(seconds=round(left))} left"
        total = "?" if task.total is None else f"{task.total:.0f}"
        note = task.fields.get("note", "")
        say(f"{task.description}: {task.completed:.0f}/{total} {note}{when}")


def progress_bar(*, with_time_left: bool = True) -> Progress:
    """Count, rate (task field ``note``), time spent and time left, on standard error.

    Args:
        with_time_left: estimate it from the count; False where steps take unlike times, and the
            note says more.
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
