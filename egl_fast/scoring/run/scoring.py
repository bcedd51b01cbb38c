"""Scoring a pool window by window, wherever the model is.

Commands use only this interface. ``pool`` scores in this process, ``egl_fast.ray`` on a cluster.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import torch
from torch import Tensor

from egl_fast.data.manifest import Utterance
from egl_fast.errors import EglError
from egl_fast.recognizers.front_end import RecordingInput
from egl_fast.scoring.options import ScoringOptions
from egl_fast.scoring.run.outcome import Outcome
from egl_fast.scoring.schedule.batches import BatchScoring, Scored

if TYPE_CHECKING:
    from egl_fast.scoring.run.pool import PoolScoring

Answer = TypeVar("Answer")
Found = TypeVar("Found")


@dataclass(frozen=True)
class WindowWork:
    """A window of a pool, by position: from 0, in the pool or in a part of it."""

    utterances: Mapping[int, Utterance]
    loaded: Mapping[int, RecordingInput | EglError]  # what was read of each
    completed: Container[int]  # positions whose result is known

    @property
    def unreadable(self) -> dict[int, EglError]:
        """What is wrong with those that cannot be read."""
        return {p: found for p, found in self.loaded.items() if isinstance(found, EglError)}

    @property
    def readable(self) -> dict[int, RecordingInput]:
        """The others."""
        return {p: found for p, found in self.loaded.items() if not isinstance(found, EglError)}


#: Work on a window: yields results by position, as they are found.
Work: TypeAlias = Callable[["PoolScoring", WindowWork], Iterator[dict[int, Found | EglError]]]


class Scoring(ABC):
    """Scores the recordings of a pool."""

    @property
    @abstractmethod
    def options(self) -> ScoringOptions:
        """What to compute."""

    @abstractmethod
    def ask(self, question: Callable[..., Answer], *arguments: Any) -> Answer:
        """Call a function with the ``PoolScoring`` that has the model, where that is.

        Args:
            question: a function of a module, or a method of ``PoolScoring``.
            *arguments: of it, after the scoring.
        """

    @abstractmethod
    def in_windows(
        self,
        work: Work[Found],
        utterances: Iterable[Utterance],
        *,
        completed: Container[int] = frozenset(),
        stop: Event | None = None,
    ) -> Iterator[tuple[Mapping[int, Utterance], dict[int, Found | EglError]]]:
        """Do work on each window, where the model is.

        Args:
            work: a function of a module. Its results depend on the window alone.
            utterances: lines of a manifest; taken a window at a time, little ahead of their turn.
            completed: positions whose result an earlier run has left. Windows that are complete
                are not even decoded.
            stop: when set, nothing more is begun.

        Yields:
            A window's utterances and results of some of them, by position; results of
            ``completed`` positions may be among them.
        """

    def outcomes(
        self,
        utterances: Iterable[Utterance],
        *,
        completed: Container[int] = frozenset(),
        stop: Event | None = None,
    ) -> Iterator[list[Outcome]]:
        """The outcome of each utterance, as soon as it is known; failures stop no others.

        Args:
            utterances: see ``in_windows``.
            completed: positions to be skipped.
            stop: when set, work in progress is finished, and nothing new is begun.

        Yields:
            Outcomes in the order of computation: window by window; within it the recordings that
            cannot be read, then unit by unit, roughly shortest first.
        """
        for window, results in self.in_windows(
            score_window, utterances, completed=completed, stop=stop
        ):
            new = [
                _outcome(position, window[position], result)
                for position, result in results.items()
                if position not in completed
            ]
            if new:
                yield new


def score_window(
    scoring: PoolScoring, window: WindowWork
) -> Iterator[dict[int, Scored | EglError]]:
    """Scores of a window, unit by unit; units without anything new are skipped."""
    yield dict(window.unreadable)
    readable = window.readable
    positions = list(readable)
    batches = BatchScoring(
        scoring.task,
        list(readable.values()),
        [window.utterances[position].id for position in positions],
        limit=scoring.limit,
        skip=True,
    )
    for unit in batches.units():
        if not all(positions[i] in window.completed for batch in unit for i in batch):
            yield {
                positions[i]: _with_spectrum(result, readable[positions[i]])
                for i, result in batches.score(unit).items()
            }


def _with_spectrum(result: Scored | EglError, recording: RecordingInput) -> Scored | EglError:
    if isinstance(result, EglError) or result.embedding is None:
        return result
    return result._replace(embedding=with_spectrum(result.embedding, recording))


def with_spectrum(seen: Tensor, recording: RecordingInput) -> Tensor:
    """The whole embedding: the model's part [d], then the spectrum of the recording."""
    assert recording.spectrum is not None, "recordings of a task that embeds have one"
    return torch.cat([seen, torch.from_numpy(recording.spectrum)])


def _outcome(position: int, utterance: Utterance, result: Scored | EglError) -> Outcome:
    if isinstance(result, EglError):
        return Outcome(position, utterance, result)
    return Outcome(position, utterance, result.record, result.embedding)
