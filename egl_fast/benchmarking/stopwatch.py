"""An engine that says where its time goes."""

from __future__ import annotations

import time
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
    """Counts rows, and times forward and backward passes.

    On a GPU, it times them by events between the commands, so the timing adds no waiting.

    Attributes:
        rows: cotangents pulled back since ``restart``, padding included.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.restart()

    def restart(self) -> None:
        """Reset all counts and times."""
        self.rows = 0
        self._forward: list[tuple[_Mark, _Mark]] = []
        self._backward: list[tuple[_Mark, _Mark]] = []

    def seconds(self) -> tuple[float, float]:
        """Seconds of forward passes on tape and of backward passes since ``restart``.

        The device must have finished its work.
        """
        forward, backward = (sum(map(_between, laps)) for laps in (self._forward, self._backward))
        return forward, backward

    def run(self, *inputs: Any, **named: Any) -> Tape:
        """See ``GradientEngine``."""
        with self._timed(self._forward):
            return super().run(*inputs, **named)

    def sq_norms(self, tape: Tape, cotangents: Tensor) -> dict[str, Tensor]:
        """See ``GradientEngine``."""
        self.rows += cotangents.shape[0] * cotangents.shape[1]
        with self._timed(self._backward):
            return super().sq_norms(tape, cotangents)

    def gram(self, tape: Tape, cotangents: Tensor) -> dict[str, Tensor]:
        """See ``GradientEngine``."""
        self.rows += cotangents.shape[0] * cotangents.shape[1]
        with self._timed(self._backward):
            return super().gram(tape, cotangents)

    @contextmanager
    def _timed(self, laps: list[tuple[_Mark, _Mark]]) -> Iterator[None]:
        start = self._mark()
        yield
        laps.append((start, self._mark()))

    def _mark(self) -> _Mark:
        if self.device.type != "cuda":
            return time.perf_counter()
        mark = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        mark.record(torch.cuda.current_stream(self.device))
        return mark


def _between(lap: tuple[_Mark, _Mark]) -> float:
    start, end = lap
    if isinstance(start, float):
        return float(end - start)
    return float(start.elapsed_time(end)) * 1e-3
