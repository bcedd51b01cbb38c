"""``--metrics``: numbers of a run in Prometheus's text format, for node_exporter's collector."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from egl_fast.files import atomic
from egl_fast.tracking import listener
from egl_fast.tracking.listener import Entry, Listener
from egl_fast.tracking.memory import gpu_memory_bytes, peak_memory_bytes, resident_memory_bytes

#: A failure that may yet come: a counter has to exist before it grows.
_MOST_LIKELY_FAILURE = "AudioError"


class MetricsFile(Listener):
    """A file that is replaced as a whole; its counters start from zero with each process.

    Args:
        path: the file.
        labels: what every number is labeled with.

    Raises:
        OutputError: the file cannot be written; also of the methods.
    """

    def __init__(self, path: Path, labels: Mapping[str, str]) -> None:
        self._path, self._labels = path, labels
        self._unit = ""
        self._total: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._new: dict[str, int] = {}
        self._failures = {_MOST_LIKELY_FAILURE: 0}
        self._audio_seconds = 0.0
        self._results: dict[str, float] = {}
        self._status: int | None = None
        self._began = time.time()
        self._write()

    def started(self, step: str, unit: str, total: int, done: int) -> None:
        self._unit = unit
        self._total[unit], self._done[unit] = total, done
        self._new.setdefault(unit, 0)
        self._write()

    def progressed(
        self, done: int, total: int, *, audio_seconds: float = 0.0, note: str = ""
    ) -> None:
        self._new[self._unit] += max(0, done - self._done[self._unit])
        self._total[self._unit], self._done[self._unit] = total, done
        self._audio_seconds += audio_seconds
        if time.monotonic() - self._written >= listener.INTERVAL_SECONDS:
            self._write()

    def failed(self, identity: str, error: Exception) -> None:
        kind = type(error).__name__
        self._failures[kind] = self._failures.get(kind, 0) + 1

    def measured(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._results |= entry.numbers

    def finished(self, status: int, error: BaseException | None) -> None:
        self._status = status
        self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        text = "".join(f"{line}\n" for line in self._lines())
        atomic.write_bytes(self._path, text.encode("utf-8", "backslashreplace"))

    def _lines(self) -> Iterator[str]:
        for unit, new in self._new.items():
            yield from self._metric(
                f"{unit}_total", "counter", f"The {unit} that this process is done with.", new
            )
            yield from self._metric(
                unit, "gauge", f"The {unit} of the current step.", self._total[unit]
            )
            yield from self._metric(
                f"{unit}_done", "gauge", "Those done, by earlier processes too.", self._done[unit]
            )
        yield from self._metrics(
            "failures_total", "counter", "Recordings that could not be used.", "kind",
            self._failures,
        )  # fmt: skip
        yield from self._metric(
            "audio_seconds_total", "counter", "Audio decoded by this process.", self._audio_seconds
        )
        if self._results:
            yield from self._metrics(
                "result", "gauge", "The latest results, by name.", "name", self._results
            )
        yield from self._metric(
            "resident_memory_bytes", "gauge", "Memory of the process.", resident_memory_bytes()
        )
        yield from self._metric(
            "peak_memory_bytes", "gauge", "The most memory it has held.", peak_memory_bytes()
        )
        on_gpu = gpu_memory_bytes()
        if on_gpu is not None:
            yield from self._metric("gpu_memory_bytes", "gauge", "Its memory on GPUs.", on_gpu)
        yield from self._metric(
            "start_time_seconds", "gauge", "Unix time at which it started.", self._began
        )
        yield from self._metric(
            "last_update_time_seconds", "gauge", "Unix time of these numbers.", time.time()
        )
        yield from self._metric(
            "finished", "gauge", "1 once everything is done, else 0.", self._status in (0, 3)
        )
        if self._status is not None:
            yield from self._metric("exit_status", "gauge", "How the process ended.", self._status)

    def _metric(self, name: str, kind: str, help: str, value: float) -> Iterator[str]:
        return self._metrics(name, kind, help, "", {"": value})

    def _metrics(
        self, name: str, kind: str, help: str, label: str, values: Mapping[str, float]
    ) -> Iterator[str]:
        """The lines of one metric, a sample for each value of a label."""
        full = f"egl_fast_{name}"
        yield f"# HELP {full} {help}"
        yield f"# TYPE {full} {kind}"
        for key, value in values.items():
            labels = {**self._labels, **({label: key} if label else {})}
            listed = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items())
            yield f"{full}{{{listed}}} {float(value):.17g}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
