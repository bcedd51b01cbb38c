"""What people who run many scorings look at: a log in JSON, and metrics for Prometheus."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import click

from egl_fast import __version__
from egl_fast.benchmarking.memory import peak_memory_bytes
from egl_fast.cli.options import ON_DISK, Decorator
from egl_fast.data.jsonl import refuse_unwritable
from egl_fast.errors import OutputError, one_line
from egl_fast.files import atomic
from egl_fast.scoring.run.outcome import Outcome

#: Between two looks at the progress of a run.
INTERVAL_SECONDS = 10.0

#: Name -> type and help. Counters start anew with each process, as Prometheus expects.
_METRICS = {
    "recordings_scored_total": ("counter", "Recordings scored by this process."),
    "recordings_failed_total": ("counter", "Recordings that could not be scored."),
    "audio_seconds_total": ("counter", "Decoded audio of the recordings scored."),
    "recordings": ("gauge", "Recordings to score, those of earlier processes included."),
    "recordings_done": ("gauge", "Recordings scored or failed, likewise."),
    "recordings_per_second": ("gauge", "Since the process began to score."),
    "peak_memory_bytes": ("gauge", "The most memory that the process has held."),
    "finished": ("gauge", "1 once the scores file is complete, or was already, else 0."),
    "last_update_seconds": ("gauge", "Unix time of these numbers."),
}


def options(command: Any) -> Any:
    """``--log-json`` and ``--metrics``."""
    decorators: Sequence[Decorator] = (
        click.option(
            "--log-json",
            "log_json",
            type=ON_DISK,
            help="Append what happens to this file: a JSON object per line.",
        ),
        click.option(
            "--metrics",
            type=ON_DISK,
            metavar="FILE.prom",
            help="Keep numbers of the run there, in the text format of Prometheus.",
        ),
    )
    for decorator in reversed(decorators):
        command = decorator(command)
    return command


class Operations:
    """The log and the metrics of one process that scores; nothing happens without either file.

    Args:
        log: where the log goes; None: nowhere.
        metrics: the file of metrics, replaced as a whole; None: none.
        inputs: files that neither may be.
        labels: what tells this run from others in both.

    Raises:
        OutputError: a file cannot be written; also of the methods.
    """

    def __init__(
        self,
        log: str | None,
        metrics: str | None,
        *,
        inputs: Iterable[str | None] = (),
        **labels: str | None,
    ) -> None:
        files = [path for path in (log, metrics) if path is not None]
        for path in files:
            if path == metrics or os.path.isfile(path):  # a log may go to a pipe or terminal
                refuse_unwritable(Path(path), inputs=inputs)
        if len(set(map(os.path.realpath, files))) < len(files):
            raise OutputError(f"output {log}: is both log and metrics; name two files")
        if metrics is not None and Path(metrics).suffix != ".prom":
            raise OutputError(
                f"output {metrics}: Prometheus's text-file collector reads names that end in .prom "
                "alone; give such a name"
            )
        self._labels = {key: value for key, value in labels.items() if value is not None}
        self._metrics = None if metrics is None else Path(metrics)
        self._log: BinaryIO | None = None
        self._log_path = log
        if log is not None:
            with atomic.as_output_error(log):
                self._log = open(log, "ab")  # noqa: SIM115 (closed by the context)
        self._numbers = dict.fromkeys(_METRICS, 0.0)
        self._started = self._updated = time.monotonic()

    def begin(self, total: int, done: int) -> None:
        """Scoring begins."""
        self._numbers |= {"recordings": total, "recordings_done": done}
        self._started = time.monotonic()
        self._event("started", version=__version__, recordings=total, done=done)
        self._update()

    def add(self, outcomes: Iterable[Outcome]) -> None:
        """Some recordings are done."""
        numbers = self._numbers
        for outcome in outcomes:
            numbers["recordings_done"] += 1
            if outcome.record is not None:
                numbers["recordings_scored_total"] += 1
                numbers["audio_seconds_total"] += outcome.record.duration
            else:
                numbers["recordings_failed_total"] += 1
                assert isinstance(outcome.result, Exception)
                error = one_line(outcome.result)
                self._event("failed", id=outcome.utterance.id, error=error)
        if time.monotonic() - self._updated >= INTERVAL_SECONDS:
            self._event("progress", **self._summary())
            self._update()

    def __enter__(self) -> Operations:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self._numbers["finished"] = 1
            self._event("finished", **self._summary())
        else:
            cause = "interrupted" if error is None or not str(error) else one_line(error)
            self._event("stopped", cause=cause, **self._summary())
        self._update()
        if self._log is not None:
            self._log.close()

    def _summary(self) -> dict[str, Any]:
        keys = ("recordings_done", "recordings", "recordings_failed_total", "recordings_per_second")
        self._measure()
        return {key.removesuffix("_total"): self._numbers[key] for key in keys}

    def _measure(self) -> None:
        numbers = self._numbers
        new = numbers["recordings_scored_total"] + numbers["recordings_failed_total"]
        seconds = time.monotonic() - self._started
        numbers["recordings_per_second"] = new / seconds if new else 0.0
        numbers["peak_memory_bytes"] = peak_memory_bytes()
        numbers["last_update_seconds"] = time.time()

    def _event(self, event: str, **facts: Any) -> None:
        if self._log is None:
            return
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        line = {"time": now, "event": event, **self._labels, **facts}
        with atomic.as_output_error(self._log_path):
            # One write: lines of several processes in one file do not mix.
            self._log.write(f"{json.dumps(line)}\n".encode())
            self._log.flush()

    def _update(self) -> None:
        self._updated = time.monotonic()
        if self._metrics is None:
            return
        self._measure()
        labels = ",".join(f'{key}="{_escaped(value)}"' for key, value in self._labels.items())
        lines = []
        for name, (kind, help) in _METRICS.items():
            full = f"egl_fast_{name}"
            lines += [f"# HELP {full} {help}", f"# TYPE {full} {kind}"]
            lines.append(f"{full}{{{labels}}} {self._numbers[name]:.17g}")
        atomic.write_bytes(self._metrics, "".join(f"{line}\n" for line in lines).encode())


def _escaped(value: str) -> str:
    escaped = value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return escaped.encode("utf-8", "backslashreplace").decode()
