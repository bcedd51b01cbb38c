"""An engine that says where its time goes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from egl_fast.gradients.engine import GradientEngine
from egl_fast.gradients.tape import Tape

#: A time, or an event of a GPU.
_Mark = Any


class StopwatchEngine(GradientEngine):
    """Counts rows, and times the engine's two halves.

    On a GPU they are timed by marks between its commands, so that nothing waits for anything more
    than it would.

    Attributes:
        rows: cotangents pulled back since ``restart``, padding included.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.restart()

    def restart(self) -> None:
        """Begin at zero."""
        self.rows = 0
        self._laps: list[tuple[str, _Mark, _Mark]] = []

    def seconds(self) -> dict[str, float]:
        """Of the "forward" passes that are recorded and of the "backward" passes, since then.

        The device must have finished its work.
        """
        total: dict[str, float] = defaultdict(float)
        for name, start, end in self._laps:
            total[name] += _between(start, end)
        return dict(total)

    def run(self, *inputs: Any) -> Tape:
        """See ``GradientEngine``."""
        with self._lap("forward"):
            return super().run(*inputs)

    def sq_norms(self, tape: Tape, cotangents: Tensor) -> dict[str, Tensor]:
        """See ``GradientEngine``."""
        self.rows += cotangents.shape[0] * cotangents.shape[1]
        with self._lap("backward"):
            return super().sq_norms(tape, cotangents)

    def gram(self, tape: Tape, cotangents: Tensor) -> dict[str, Tensor]:
        """See ``GradientEngine``."""
        self.rows += cotangents.shape[0] * cotangents.shape[1]
        with self._lap("backward"):
            return super().gram(tape, cotangents)

    @contextmanager
    def _lap(self, name: str) -> Iterator[None]:
        start = self._mark()
        yield
        self._laps.append((name, start, self._mark()))

    def _mark(self) -> _Mark:
        if self.device.type != "cuda":
            return time.perf_counter()
        mark = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        mark.record(torch.cuda.current_stream(self.device))
        return mark


def _between(start: _Mark, end: _Mark) -> float:
    if isinstance(start, float):
        return float(end - start)
    return float(start.elapsed_time(end)) * 1e-3
