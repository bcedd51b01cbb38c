"""The ``Scoring`` of a Ray cluster: the same windows as in one process, and the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from itertools import islice
from threading import Event
from typing import Any

from egl_fast.data.manifest import Utterance
from egl_fast.errors import EglError
from egl_fast.ray.worker import ScoringPlan
from egl_fast.ray.workers import Workers
from egl_fast.scoring.options import ScoringOptions
from egl_fast.scoring.run.outcome import WINDOW
from egl_fast.scoring.run.scoring import Answer, Found, Scoring, Work


class RayScoring(Scoring):
    """Scores the recordings of a pool on a cluster; windows are done in any order.

    Args:
        workers: with the model.
        plan: what they compute.
    """

    def __init__(self, workers: Workers, plan: ScoringPlan) -> None:
        self._workers = workers
        self._plan = plan

    @property
    def options(self) -> ScoringOptions:
        """What to compute."""
        return self._plan.options

    def ask(self, question: Callable[..., Answer], *arguments: Any) -> Answer:
        """See ``Scoring.ask``."""
        answer: Answer = self._workers.ask(self._plan, question, *arguments)
        return answer

    def in_windows(
        self,
        work: Work[Found],
        utterances: Iterable[Utterance],
        *,
        completed: Container[int] = frozenset(),
        stop: Event | None = None,
    ) -> Iterator[tuple[Mapping[int, Utterance], dict[int, Found | EglError]]]:
        """See ``Scoring.in_windows``; whole windows, in the order in which they are done."""

        def windows() -> Iterator[tuple[dict[int, Utterance], frozenset[int]]]:
            source = enumerate(utterances)
            while window := dict(islice(source, WINDOW)):
                known = frozenset(position for position in window if position in completed)
                if len(known) < len(window):
                    yield window, known

        return self._workers.results(self._plan, work, windows(), stop)
