"""Scores the recordings of a pool: decoded ahead, in independent units.

A pool is split into windows in its order, and a window into units (see ``BatchScoring.units``).
Units depend on their window alone, and an utterance's scores, to the last bit, on its unit alone.
So a run that was stopped computes what is missing as if it had never stopped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from threading import Event
from typing import Any

from egl_fast.data.audio import audio_seconds
from egl_fast.data.manifest import Utterance, recording_name
from egl_fast.data.reading import READ_TIMEOUT_SECONDS, decoders_beside, read_ahead
from egl_fast.errors import AudioError, EglError
from egl_fast.gradients.coverage import Coverage
from egl_fast.recognizers.front_end import RecordingInput
from egl_fast.scoring.options import ScoringOptions
from egl_fast.scoring.run.outcome import WINDOW
from egl_fast.scoring.run.scoring import Answer, Found, Scoring, WindowWork, Work
from egl_fast.scoring.schedule.batches import BatchLimit
from egl_fast.scoring.task import ScoringTask


@dataclass(frozen=True)
class ReadingLimits:
    """Limits beyond which a recording is given up."""

    max_duration: float | None = None  # longest recording, in seconds; None: any
    # For reading and decoding one; None: forever.
    timeout_seconds: float | None = READ_TIMEOUT_SECONDS

    def __post_init__(self) -> None:
        limits = {"max_duration": self.max_duration, "read_timeout": self.timeout_seconds}
        for name, limit in limits.items():
            if limit is not None and not limit > 0:
                raise ValueError(f"{name}: expected more than 0, got {limit}")


@dataclass(frozen=True)
class PoolScoring(Scoring):
    """Scores the recordings of a pool in this process."""

    task: ScoringTask
    batch_seconds: float  # padded audio that shares a forward pass
    limits: ReadingLimits

    def __post_init__(self) -> None:
        self.limit  # noqa: B018 (refuses it here, not when the first outcome is asked for)

    @cached_property
    def limit(self) -> BatchLimit:
        """Of batches; lowered for good when memory runs out."""
        return BatchLimit(self.batch_seconds)

    @property
    def options(self) -> ScoringOptions:
        """What to compute."""
        return self.task.options

    def ask(self, question: Callable[..., Answer], *arguments: Any) -> Answer:
        """See ``Scoring.ask``."""
        return question(self, *arguments)

    def in_windows(
        self,
        work: Work[Found],
        utterances: Iterable[Utterance],
        *,
        completed: Container[int] = frozenset(),
        stop: Event | None = None,
    ) -> Iterator[tuple[Mapping[int, Utterance], dict[int, Found | EglError]]]:
        """See ``Scoring.in_windows``; yields windows in order, and stops between two results."""
        for window, loaded in self.loaded(utterances, completed):
            for found in work(self, WindowWork(window, loaded, completed)):
                yield window, found
                if stop is not None and stop.is_set():
                    return

    def loaded(
        self, utterances: Iterable[Utterance], completed: Container[int] = frozenset()
    ) -> Iterator[tuple[dict[int, Utterance], dict[int, RecordingInput | EglError]]]:
        """Windows with their recordings, decoded ahead; complete windows are skipped."""
        windows: deque[dict[int, Utterance]] = deque()  # being decoded, or computed

        def decoded() -> Iterator[Utterance]:
            source = enumerate(utterances)
            while window := dict(islice(source, WINDOW)):
                if not all(position in completed for position in window):
                    windows.append(window)
                    yield from window.values()

        found = read_ahead(
            self.load,
            decoded(),
            num_threads=decoders_beside(self.task.engine.device),
            timeout_seconds=self.limits.timeout_seconds,
        )
        for first in found:
            window = windows.popleft()
            rest = islice(found, len(window) - 1)
            yield window, dict(zip(window, chain([first], rest), strict=True))

    def coverage(self, scored: Utterance) -> Coverage | None:
        """Which parameters have a norm rule; None for methods without gradients.

        If nothing was scored since the model was loaded, because an earlier run had scored
        everything, the model runs once on one of the scored recordings; None if that recording
        cannot be read anymore.
        """
        engine = self.task.engine
        if not self.task.options.chosen_method.pulls_back:
            return None
        if engine.coverage is not None:
            return engine.coverage
        try:
            recording = self.load(scored)
        except EglError:
            return None
        inputs = self.task.recognizer.inputs([recording], device=engine.device, dtype=engine.dtype)
        return Coverage.of(engine.model, engine.run(*inputs.positional, **inputs.named))

    def load(self, utterance: Utterance) -> RecordingInput:
        """The model's input for one recording."""
        longest = self.limits.max_duration
        if longest is not None and utterance.held is None:
            seconds = audio_seconds(utterance, enough_seconds=longest)
            if seconds > longest:
                raise AudioError(
                    f"{recording_name(utterance.audio_path)}: {seconds:.1f} s is longer than the "
                    f"{longest:g} s allowed; cut it, or raise --max-duration"
                )
        return self.task.recognizer.load(
            utterance, max_seconds=longest, with_spectrum=self.task.embeds
        )
