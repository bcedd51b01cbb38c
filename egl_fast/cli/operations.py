"""``--log-json`` and ``--metrics``: what people look at who run many long commands."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any

import click
from rich.progress import Progress

from egl_fast import __version__
from egl_fast.cli.console import progress_bar
from egl_fast.cli.options import ON_DISK, Decorator
from egl_fast.data.jsonl import refuse_unwritable
from egl_fast.errors import EglError, OutputError
from egl_fast.files.copies import as_given, publish_all
from egl_fast.recognizers.spec import parse
from egl_fast.tracking.event_log import EventLog
from egl_fast.tracking.listener import Listener, Listeners
from egl_fast.tracking.metrics_file import MetricsFile

#: Argument of a command -> what it is called in the log and the metrics.
_LABELS = {
    "pool": "pool",
    "data": "data",
    "train_paths": "train",
    "config_path": "config",
    "out": "out",
    "out_path": "out",
    "run_dir": "run_dir",
    "shard": "shard",
}


def options(
    speaks: Callable[[Mapping[str, Any]], bool] = lambda values: True,
) -> Decorator:
    """``--log-json`` and ``--metrics``; the command gets ``Listeners`` as ``watch``.

    They are told of the end here, and of everything else by the command.

    Args:
        speaks: given the command's arguments, whether this process is the one, of several that
            share the work, that writes.
    """

    def decorated(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def watched(
            *arguments: Any, log_json: str | None, metrics: str | None, **values: Any
        ) -> Any:
            watch = Listeners()
            if speaks(values):
                watch.all += _files(log_json, metrics, values)
            try:
                status = command(*arguments, **values, watch=watch)
                if status in (None, 0, 3):
                    publish_all()  # a run whose output did not reach its store has failed
            except BaseException as error:
                with suppress(OutputError):  # the other error comes first
                    watch.finished(_status_of(error), error if str(error) else None)
                raise
            watch.finished(status or 0, None)
            return status

        found: Callable[..., Any] = watched
        for option in (
            click.option(
                "--metrics",
                type=ON_DISK,
                metavar="FILE.prom",
                help="Keep numbers of the run there, in the text format of Prometheus.",
            ),
            click.option(
                "--log-json",
                "log_json",
                type=ON_DISK,
                help="Append what happens to this file: a JSON object per line.",
            ),
        ):
            found = option(found)
        return found

    return decorated


@contextmanager
def shown(watch: Listeners, *, with_time_left: bool = True, hidden: bool = False) -> Iterator[None]:
    """A progress bar that listens, too; see ``progress_bar``.

    Args:
        watch: whom the command tells.
        with_time_left: whether to estimate it.
        hidden: show nothing after all, for results that go to the same terminal.
    """
    with progress_bar(with_time_left=with_time_left) as bar:
        bar.disable |= hidden
        listener = _Bar(bar)
        watch.all.append(listener)
        try:
            yield
        finally:
            watch.all.remove(listener)


class _Bar(Listener):
    def __init__(self, bar: Progress) -> None:
        self._bar = bar

    def started(self, step: str, unit: str, total: int, done: int) -> None:
        self._task = self._bar.add_task(step, total=total, completed=done, note="")

    def progressed(
        self, done: int, total: int, *, audio_seconds: float = 0.0, note: str = ""
    ) -> None:
        self._bar.update(self._task, completed=done, total=total, note=note)


def _files(log: str | None, metrics: str | None, values: Mapping[str, Any]) -> list[Listener]:
    """The listeners that write files.

    Raises:
        OutputError: a file cannot be written, or is one that the command uses otherwise.
    """
    paths = [path for path in (log, metrics) if path is not None]
    if metrics is not None and Path(metrics).suffix != ".prom":
        raise OutputError(
            f"output {metrics}: Prometheus's text-file collector only reads names that end in "
            ".prom; give such a name"
        )
    others = set(map(_real_path, _files_of(values)))
    for path in paths:
        if path == metrics or os.path.isfile(path):  # a log may go to a pipe or terminal
            refuse_unwritable(Path(path), inputs=_files_of(values))
        if _real_path(path) in others:  # an output that does not exist yet
            raise OutputError(
                f"output {path}: is a file that this command uses otherwise; give another name"
            )
    if len(set(map(_real_path, paths))) < len(paths):
        raise OutputError(f"output {log}: is both log and metrics; name two files")
    command = click.get_current_context().info_name or ""
    labels = {"command": command}
    for name, label in _LABELS.items():
        value = values.get(name)
        if value is not None:
            values_of = value if isinstance(value, tuple) else (value,)
            labels[label] = ", ".join(as_given(str(one)) for one in values_of)
    found: list[Listener] = []
    if metrics is not None:
        found.append(MetricsFile(Path(metrics), labels))
    if log is not None:
        found.append(EventLog(log, labels, version=__version__))
    return found


def _real_path(path: str) -> str:
    try:
        return os.path.realpath(path)
    except ValueError:  # no file can have this name: it holds NUL or a lone surrogate
        return path


def _files_of(values: Mapping[str, Any]) -> Iterator[str]:
    """Whatever in a command's arguments may be the name of a file."""
    for name, value in values.items():
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, str):
                yield from parse(one).files if name == "model_spec" else (one,)


def _status_of(error: BaseException) -> int:
    """The exit status that an error leads to; see ``main``."""
    if isinstance(error, (KeyboardInterrupt, click.exceptions.Abort)):
        return 130
    if isinstance(error, (click.exceptions.Exit, click.ClickException)):
        return error.exit_code
    if isinstance(error, BrokenPipeError):
        return 0
    return 2 if isinstance(error, (EglError, OSError)) else 1
