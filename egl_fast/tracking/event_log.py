"""``--log-json``: what happens in a run, as JSON Lines."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from egl_fast.display import json_text
from egl_fast.errors import one_line
from egl_fast.files import atomic
from egl_fast.files.copies import as_given
from egl_fast.tracking import listener
from egl_fast.tracking.listener import Entry, Listener


class EventLog(Listener):
    """Appends an object for each event to a file, which several runs may share.

    Args:
        path: the file, or a pipe.
        labels: what every event holds.
        facts: what the first event holds besides.

    Raises:
        OutputError: the file cannot be written; also of the methods.
    """

    def __init__(self, path: str, labels: Mapping[str, str], **facts: Any) -> None:
        self._path, self._labels = path, labels
        with atomic.as_output_error(path):
            # Without a buffer, which would keep what a full disk does not take.
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115 (closed when the run ends)
        self._step: dict[str, Any] = {}
        self._num_failed = self._earlier = 0
        self._began = self._written = time.monotonic()
        try:
            self._event("started", **facts)
        except BaseException:
            self._file.close()
            raise

    def started(self, step: str, unit: str, total: int, done: int) -> None:
        self._step = {"step": step, "unit": unit, "total": total, "done": done}
        self._began, self._earlier = time.monotonic(), done
        self._event("step", **self._step)

    def progressed(
        self, done: int, total: int, *, audio_seconds: float = 0.0, note: str = ""
    ) -> None:
        self._step |= {"total": total, "done": done}
        if time.monotonic() - self._written >= listener.INTERVAL_SECONDS:
            self._event("progress", **self._summary(), **({"note": note} if note else {}))

    def failed(self, identity: str, error: Exception) -> None:
        self._num_failed += 1
        self._event("failed", id=identity, kind=type(error).__name__, error=_said(error))

    def measured(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._event("measured", key=entry.key, at=entry.step, values=entry.numbers)

    def finished(self, status: int, error: BaseException | None) -> None:
        with self._file:
            if status in (0, 3):
                self._event("finished", status=status, **self._summary())
            else:
                cause = "interrupted" if error is None else _said(error)
                self._event("stopped", status=status, cause=cause, **self._summary())

    def _summary(self) -> dict[str, Any]:
        if not self._step:
            return {}
        seconds = time.monotonic() - self._began
        new = self._step["done"] - self._earlier
        rate = new / seconds if seconds > 0 else 0.0
        return {**self._step, "failed": self._num_failed, "per_second": round(rate, 3)}

    def _event(self, event: str, **facts: Any) -> None:
        self._written = time.monotonic()
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        line = json_text({"time": now, "event": event, **self._labels, **facts})
        with atomic.as_output_error(self._path):
            # Mostly one write, so that lines of several processes do not mix.
            rest = f"{line}\n".encode()
            while rest:
                rest = rest[self._file.write(rest) :]


def _said(error: BaseException) -> str:
    return as_given(one_line(error))
