"""Scores the recordings of a pool: decoded ahead, in independent units.

A pool is split into windows in its order, and a window into units (see ``BatchScoring.units``).
Units depend on their window alone, and an utterance's scores, to the last bit, on its unit alone.
So a run that was stopped computes what is missing as if it had never stopped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice

from egl_fast.data.audio import audio_seconds
from egl_fast.data.manifest import Utterance, recording_name
from egl_fast.data.reading import READ_TIMEOUT_SECONDS, decoders_beside, read_ahead
from egl_fast.errors import AudioError, EglError
from egl_fast.gradients.coverage import Coverage
from egl_fast.recognizers.front_end import RecordingInput
from egl_fast.scoring.run.outcome import WINDOW, Outcome
from egl_fast.scoring.schedule.batches import BatchLimit, BatchScoring, Scored
from egl_fast.scoring.task import ScoringTask


@dataclass(frozen=True)
class ReadingLimits:
    """What a recording may cost before it is given up."""

    max_duration: float | None = None  # longest recording, in seconds; None: any
    # For reading and decoding one; None: forever.
    timeout_seconds: float | None = READ_TIMEOUT_SECONDS

    def __post_init__(self) -> None:
        limits = {"max_duration": self.max_duration, "read_timeout": self.timeout_seconds}
        for name, limit in limits.items():
            if limit is not None and not limit > 0:
                raise ValueError(f"{name}: expected more than 0, got {limit}")


@dataclass(frozen=True)
class PoolScoring:
    """Scores the recordings of a pool."""

    task: ScoringTask
    batch_seconds: float  # padded audio that shares a forward pass
    limits: ReadingLimits

    def __post_init__(self) -> None:
        BatchLimit(self.batch_seconds)  # refuses it here, not when the first outcome is asked for

    def outcomes(
        self, utterances: Iterable[Utterance], *, completed: Container[int] = frozenset()
    ) -> Iterator[list[Outcome]]:
        """The outcome of each utterance, as soon as it is known; no failure stops the others.

        Args:
            utterances: lines of a manifest; taken a window at a time, little ahead of their turn.
            completed: positions whose outcome an earlier run has left, which are skipped. Windows
                that are complete are not even decoded.

        Yields:
            Outcomes in the order of computation: window by window; within it the recordings that
            cannot be read, then unit by unit, roughly shortest first.
        """
        windows: deque[dict[int, Utterance]] = deque()  # being decoded, or computed

        def decoded() -> Iterator[Utterance]:
            source = enumerate(utterances)
            while window := dict(islice(source, WINDOW)):
                if not all(position in completed for position in window):
                    windows.append(window)
                    yield from window.values()

        loaded = read_ahead(
            self.load,
            decoded(),
            num_threads=decoders_beside(self.task.engine.device),
            timeout_seconds=self.limits.timeout_seconds,
        )
        limit = BatchLimit(self.batch_seconds)
        for first in loaded:
            window = windows.popleft()
            found = dict(zip(window, chain([first], islice(loaded, len(window) - 1)), strict=True))
            for results in self._window(window, found, limit, completed):
                new = [
                    _outcome(position, window[position], result)
                    for position, result in results.items()
                    if position not in completed
                ]
                if new:
                    yield new

    def _window(
        self,
        utterances: Mapping[int, Utterance],
        loaded: dict[int, RecordingInput | EglError],
        limit: BatchLimit,
        completed: Container[int],
    ) -> Iterator[dict[int, Scored | EglError]]:
        yield {p: found for p, found in loaded.items() if isinstance(found, EglError)}
        readable = {p: found for p, found in loaded.items() if not isinstance(found, EglError)}
        positions = list(readable)
        scoring = BatchScoring(
            self.task,
            list(readable.values()),
            [utterances[position].id for position in positions],
            limit=limit,
            skip=True,
        )
        for unit in scoring.units():
            if not all(positions[i] in completed for batch in unit for i in batch):
                yield {positions[i]: result for i, result in scoring.score(unit).items()}

    def coverage(self, scored: Utterance) -> Coverage | None:
        """Which parameters have a norm rule; None for methods without gradients.

        If nothing was scored since the model was loaded, as all was scored before a run was
        stopped, the model runs once on a recording that was; None if it cannot be read any more.
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
        return self.task.recognizer.load(utterance, max_seconds=longest)


def _outcome(position: int, utterance: Utterance, result: Scored | EglError) -> Outcome:
    if isinstance(result, EglError):
        return Outcome(position, utterance, result)
    return Outcome(position, utterance, result.record, result.embedding)
