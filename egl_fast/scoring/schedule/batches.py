"""Decides which utterances share a forward or a backward pass, and scores them.

Utterances of similar length share forward passes. How many rows each has to pull back may be known
only after its search (``Method.likely_rows``). If the numbers differ little, the forward pass of
the search is also used for the gradients. Otherwise utterances wait until there are several, and
those with similar numbers of rows run once more, together.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias, TypeVar

import torch
from torch import Tensor

from egl_fast.compute.memory import is_out_of_memory
from egl_fast.data.batching import length_batches
from egl_fast.errors import EglError, ModelError, one_line
from egl_fast.gradients.tape import Tape
from egl_fast.progress import counted
from egl_fast.recognizers.front_end import RecordingInput
from egl_fast.records import ScoreRecord
from egl_fast.scoring.formula.record import pull_back, without_gradients
from egl_fast.scoring.formula.search import Searched, search
from egl_fast.scoring.schedule.sharing import (
    CUDA_PASS_OVERHEAD_ROWS,
    PASS_OVERHEAD_ROWS,
    share_passes,
)
from egl_fast.scoring.task import ScoringTask
from egl_fast.warning import warn

#: Cost of running a model once more, in rows. Numbers of rows that differ by less are padded.
FORWARD_ROWS = 2

#: Neighbors in length that wait for each other. More would find closer matches in rows, but worse
#: ones in length.
WAITING = 16

#: The same on a GPU, which needs more rows per pass.
CUDA_WAITING = 64

#: Bytes of cotangents that may wait: with thousands of classes, fewer utterances can.
WAITING_BYTES = 2**28


class Scored(NamedTuple):
    """The result of an utterance."""

    record: ScoreRecord
    embedding: Tensor | None  # [d], if the task wants it


#: Forward batches, of indices, that may wait for each other.
Unit: TypeAlias = list[list[int]]

_T = TypeVar("_T")


@dataclass
class BatchLimit:
    """Padded audio that shares a forward pass."""

    planned: float  # the limit that batches are planned for, in seconds; never changes
    seconds: float = 0.0  # the limit of what runs at once; lowered for good when memory runs out

    def __post_init__(self) -> None:
        if not self.planned > 0:
            raise ValueError(f"batch_seconds: expected more than 0, got {self.planned}")
        self.seconds = self.planned


class BatchScoring:
    """Scores utterances, sharing passes if the model allows it.

    With ``skip``, an error becomes the result of the utterance that caused it; else it is raised.
    """

    def __init__(
        self,
        task: ScoringTask,
        recordings: Sequence[RecordingInput],
        ids: Sequence[str],
        *,
        limit: BatchLimit,
        skip: bool = False,
    ) -> None:
        self._task = task
        self._engine = task.engine
        self._recordings = recordings
        self._seconds = [recording.seconds for recording in recordings]
        self._ids = ids
        self._limit = limit
        self._skip = skip
        self._row_bytes_per_second = 0.0

    @property
    def _on_gpu(self) -> bool:
        return self._engine.device.type == "cuda"

    def units(self) -> list[Unit]:
        """Batches in independent units: no result depends on other units.

        Returns:
            Units of forward batches, roughly shortest first. Utterances that may wait for each
            other are in one unit; a batch of one utterance, which never waits, is its own unit.
        """
        size = 1
        if self._engine.shares_batches:
            # If one utterance's cotangents fill a backward pass, sharing gains nothing.
            options = self._task.options
            likely = options.chosen_method.likely_rows(options.k)
            size = max(1, self._engine.memory.rows_per_pass // likely)
        batches = [
            batch[start : start + size]
            for batch in length_batches(self._seconds, batch_seconds=self._limit.planned)
            for start in range(0, len(batch), size)
        ]
        units: list[Unit] = []
        places = 0
        for batch in batches:
            if len(batch) == 1:
                units.append([batch])
                places = 0
                continue
            if places <= 0:
                units.append([])
                places = CUDA_WAITING if self._on_gpu else WAITING
            units[-1].append(batch)
            places -= len(batch)
        return units

    def records(self, *, progress: bool = False) -> list[ScoreRecord]:
        """Records of all utterances that did not fail, in their order; ``progress`` shows a bar."""
        scored: Iterable[dict[int, Scored | EglError]] = map(self.score, self.units())
        if progress:
            scored = counted(scored, len(self._ids), description="scoring", size=len)
        found = {i: result for unit in scored for i, result in unit.items()}
        return [result.record for _, result in sorted(found.items()) if isinstance(result, Scored)]

    def score(self, unit: Unit) -> dict[int, Scored | EglError]:
        """Results and errors of a unit's utterances, by index."""
        self._row_bytes_per_second = 0.0
        results: dict[int, Scored | EglError] = {}
        waiting: dict[int, Searched] = {}
        for batch in unit:
            for i, found in self._each(batch, self._search).items():
                if isinstance(found, Searched):
                    waiting[i] = found
                else:
                    results[i] = found
            if sum(one.cotangents.nbytes for one in waiting.values()) >= WAITING_BYTES:
                results |= self._pull_back_together(waiting)
                waiting = {}
        return results | self._pull_back_together(waiting)

    def _search(self, batch: list[int]) -> Mapping[int, Searched | Scored]:
        """Already results, where the forward pass of the search is used for the gradients, too."""
        tape = self._run(batch)
        durations = [self._seconds[i] for i in batch]
        ids = [self._ids[i] for i in batch]
        if not self._task.options.chosen_method.pulls_back:
            found = without_gradients(self._task, tape, ids=ids, durations=durations)
            return {i: Scored(*own) for i, own in zip(batch, found, strict=True)}
        searched = search(self._task, tape, ids=ids, durations=durations)
        longest = max(durations)
        row_bytes = self._engine.memory.row_bytes(tape) / (len(batch) * longest)
        self._row_bytes_per_second = max(self._row_bytes_per_second, row_bytes)
        widest = max(one.num_rows for one in searched)
        padding = sum(widest - one.num_rows for one in searched)
        saved = CUDA_PASS_OVERHEAD_ROWS if self._on_gpu else FORWARD_ROWS * len(batch)
        alike = padding <= saved and self._fits(len(batch), widest, longest)
        if len(batch) == 1 or alike:
            return self._pull_back(tape, batch, searched)
        return dict(zip(batch, searched, strict=True))

    def _pull_back_together(self, waiting: Mapping[int, Searched]) -> dict[int, Scored | EglError]:
        indices = list(waiting)

        def run_once_more(group: list[int]) -> dict[int, Scored]:
            return self._pull_back(self._run(group), group, [waiting[i] for i in group])

        results: dict[int, Scored | EglError] = {}
        for group in share_passes(
            [waiting[i].num_rows for i in indices],
            [self._seconds[i] for i in indices],
            fits=self._fits,
            overhead_rows=CUDA_PASS_OVERHEAD_ROWS if self._on_gpu else PASS_OVERHEAD_ROWS,
        ):
            results |= self._each([indices[position] for position in group], run_once_more)
        return results

    def _pull_back(
        self, tape: Tape, batch: list[int], searched: Sequence[Searched]
    ) -> dict[int, Scored]:
        records = pull_back(self._task, tape, searched)
        return {
            i: Scored(record, one.embedding)
            for i, record, one in zip(batch, records, searched, strict=True)
        }

    def _run(self, batch: list[int]) -> Tape:
        engine = self._engine
        inputs = self._task.recognizer.inputs(
            [self._recordings[i] for i in batch], device=engine.device, dtype=engine.dtype
        )
        return self._task.run(*inputs.positional, **inputs.named)

    def _fits(self, num_utterances: int, num_rows: int, seconds: float) -> bool:
        total_rows = num_utterances * num_rows
        return (
            total_rows <= self._engine.memory.rows_per_pass
            and num_utterances * seconds <= self._limit.planned
            and total_rows * seconds * self._row_bytes_per_second <= self._engine.memory.pass_bytes
        )

    def _each(
        self, batch: list[int], work: Callable[[list[int]], Mapping[int, _T]]
    ) -> dict[int, _T | EglError]:
        """Work on a batch; if that fails, on parts of it, so that only the one at fault is lost."""
        results: dict[int, _T | EglError] = {}
        memory_bytes = self._engine.memory.total_bytes
        parts = [batch]
        while parts:
            part = parts.pop()
            if len(part) > 1 and self._padded_seconds(part) > self._limit.seconds:
                middle = (len(part) + 1) // 2
                parts += [part[middle:], part[:middle]]  # what is popped first comes first
                continue
            try:
                results |= work(part)
                continue
            except Exception as error:
                out_of_memory = is_out_of_memory(error)
                if not (self._skip or out_of_memory):
                    raise
                kept = error if isinstance(error, EglError) else self._named(part[0], error)
            # Not inside `except`, where the error still references what filled the memory.
            if out_of_memory and self._can_do_with_less(part):
                parts.append(part)
                continue
            if out_of_memory:
                # It is this utterance's fault: others get their memory back.
                self._engine.memory.use(memory_bytes)
                kept = ModelError(
                    f"utterance {self._ids[part[0]]!r}: {self._seconds[part[0]]:.1f} s do not fit "
                    "into memory; cut it, or leave it out, as `score --max-duration` does"
                )
                if not self._skip:
                    raise kept
            if len(part) == 1:
                results[part[0]] = kept
            else:
                parts += [[i] for i in reversed(part)]
        return results

    def _padded_seconds(self, batch: list[int]) -> float:
        return len(batch) * max(self._seconds[i] for i in batch)

    def _can_do_with_less(self, batch: list[int]) -> bool:
        """Lower the limit that caused memory to run out; False if none can be lowered."""
        memory, limit = self._engine.memory, self._limit
        if self._engine.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(batch) > 1:
            limit.seconds = min(limit.seconds, self._padded_seconds(batch) / 2)
            warn(f"out of memory: continuing with at most {limit.seconds:.3g} s at once")
            return True
        if memory.halve():
            mebibytes = memory.total_bytes >> 20
            warn(f"out of memory: continuing with {mebibytes} MiB for gradients")
            return True
        return False

    def _named(self, index: int, error: Exception) -> ModelError:
        """The error for what the model's code raised: with its traceback, without its tensors."""
        traceback.clear_frames(error.__traceback__)
        kept = ModelError(
            f"utterance {self._ids[index]!r}: failed with {type(error).__name__}: {one_line(error)}"
        )
        kept.__cause__ = error
        return kept
