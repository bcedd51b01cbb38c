"""How a run goes, told to all who listen: a log, a file of metrics, a bar, other people's tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import isfinite

#: Between two times that progress is written to a file.
INTERVAL_SECONDS = 10.0


@dataclass(frozen=True)
class Entry:
    """Numbers at one step of a run.

    Attributes:
        key: distinguishes it from the other entries of the run.
        step: where on the axis.
        values: by name; None where there is no number.
    """

    key: str
    step: int
    values: Mapping[str, float | None]

    @property
    def numbers(self) -> dict[str, float]:
        """The values that are finite numbers."""
        return {key: x for key, x in self.values.items() if x is not None and isfinite(x)}


class Listener:
    """Is told how a run goes; each method does nothing unless a subclass says otherwise.

    A run consists of steps, one after the other, and each step counts something: recordings,
    batches, units of work.
    """

    def started(self, step: str, unit: str, total: int, done: int) -> None:
        """A step begins.

        Args:
            step: what it is called, such as "scoring" or "round 2".
            unit: what it counts, in the plural.
            total: how many there are.
            done: how many of them earlier runs did.
        """

    def progressed(
        self, done: int, total: int, *, audio_seconds: float = 0.0, note: str = ""
    ) -> None:
        """The step has come this far.

        Args:
            done: how many are done, failures and those of earlier runs included.
            total: how many there are; this may have changed.
            audio_seconds: audio that was decoded since the last call.
            note: the speed, the loss, or whatever else a person may want to know.
        """

    def failed(self, identity: str, error: Exception) -> None:
        """A recording could not be used."""

    def measured(self, entries: Sequence[Entry]) -> None:
        """There are new results."""

    def finished(self, status: int, error: BaseException | None) -> None:
        """The run ends, one way or another.

        Args:
            status: the exit status.
            error: why it ends early; None if it does not, or was interrupted.
        """


class Listeners(Listener):
    """Several listeners, which may change during a run."""

    def __init__(self) -> None:
        self.all: list[Listener] = []

    def started(self, step: str, unit: str, total: int, done: int) -> None:
        for one in self.all:
            one.started(step, unit, total, done)

    def progressed(
        self, done: int, total: int, *, audio_seconds: float = 0.0, note: str = ""
    ) -> None:
        for one in self.all:
            one.progressed(done, total, audio_seconds=audio_seconds, note=note)

    def failed(self, identity: str, error: Exception) -> None:
        for one in self.all:
            one.failed(identity, error)

    def measured(self, entries: Sequence[Entry]) -> None:
        for one in self.all:
            one.measured(entries)

    def finished(self, status: int, error: BaseException | None) -> None:
        """See ``Listener``; all are told, even if one of them raises."""
        with ExitStack() as stack:
            for one in self.all:
                stack.callback(one.finished, status, error)
