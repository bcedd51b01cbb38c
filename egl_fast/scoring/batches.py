"""Many utterances' spectrograms to records: who shares a forward pass, and who a backward pass.

Forward passes are shared by utterances of like length. How many rows each has to pull back, only
its search tells where the method is "lowrank". Where neighbours differ little, the forward pass of
the search serves for the gradients, too; otherwise they wait until there are several, and those of
like rank run once more, together.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from egl_fast.data.batching import length_batches
from egl_fast.data.loading import Spectrogram, pad_features
from egl_fast.errors import EglError, ModelError, one_line
from egl_fast.gradients.engine import GradientEngine
from egl_fast.gradients.tape import Tape
from egl_fast.memory import is_out_of_memory
from egl_fast.records import ScoreRecord
from egl_fast.scoring.classes import Classes
from egl_fast.scoring.options import ScoringOptions
from egl_fast.scoring.pending import PendingScore
from egl_fast.scoring.pipeline import pull_back, search
from egl_fast.scoring.sharing import CUDA_PASS_OVERHEAD_ROWS, PASS_OVERHEAD_ROWS, share_passes

#: What running a model once more costs, in rows: where ranks differ by less, they are padded.
FORWARD_ROWS = 2

#: Neighbours in length that wait for each other. More would find closer matches in rank, and worse
#: ones in length.
WAITING = 16

#: The same on a GPU, which needs more rows a pass.
CUDA_WAITING = 64

#: Bytes of cotangents that may wait: with thousands of classes, fewer utterances do.
WAITING_BYTES = 2**28

_T = TypeVar("_T")

_log = logging.getLogger("egl_fast")


@dataclass
class BatchLimit:
    """Padded audio that shares a forward pass; it falls where memory runs out, and stays there.

    Attributes:
        planned: what batches are planned for, in seconds. Plans do not depend on what happens.
        seconds: what runs at once, in seconds.
    """

    planned: float
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if not self.planned > 0:
            raise ValueError(f"batch_seconds: expected more than 0, got {self.planned}")
        self.seconds = self.planned

    def halve(self, seconds: float) -> None:
        """Let no batch of so much padded audio run again, only of half as much."""
        self.seconds = min(self.seconds, seconds / 2)


class BatchScoring:
    """Scores of utterances that work together where their model allows it.

    Args:
        engine: of the model.
        classes: its classes.
        options: what to compute.
        spectrograms: of the utterances.
        ids: their names.
        limit: bounds the padded audio that shares a forward pass.
        skip: a failure becomes the culprit's result; otherwise it is raised.
    """

    def __init__(
        self,
        engine: GradientEngine,
        classes: Classes,
        options: ScoringOptions,
        spectrograms: Sequence[Spectrogram],
        ids: Sequence[str],
        *,
        limit: BatchLimit,
        skip: bool,
    ) -> None:
        self._engine = engine
        self._classes = classes
        self._options = options
        self._spectrograms = spectrograms
        self._ids = ids
        self._limit = limit
        self._skip = skip
        self._waiting: dict[int, PendingScore] = {}
        self._row_bytes_per_second = 0.0

    @property
    def _on_gpu(self) -> bool:
        return self._engine.device.type == "cuda"

    def units(self) -> list[list[list[int]]]:
        """Batches by what they may share: nothing of a unit's results depends on other units.

        Returns:
            Units of forward batches of indices, about shortest first. Who may wait for whom is
            together; a batch of one utterance, which never waits, is a unit of its own.
        """
        most_waiting = CUDA_WAITING if self._on_gpu else WAITING
        units: list[list[list[int]]] = []
        room = 0
        for batch in self._forward_plan():
            if len(batch) == 1:
                units.append([batch])
                room = 0
                continue
            if room <= 0:
                units.append([])
                room = most_waiting
            units[-1].append(batch)
            room -= len(batch)
        return units

    def results(self) -> dict[int, ScoreRecord | EglError]:
        """Records and errors of all utterances, by index."""
        return {i: result for unit in self.units() for i, result in self.score(unit).items()}

    def score(self, unit: list[list[int]]) -> dict[int, ScoreRecord | EglError]:
        """Records and errors of a unit's utterances, by index."""
        self._row_bytes_per_second = 0.0
        results: dict[int, ScoreRecord | EglError] = {}
        for batch in unit:
            found = self._each(batch, self._search)
            results |= {i: x for i, x in found.items() if not isinstance(x, PendingScore)}
            self._waiting |= {i: x for i, x in found.items() if isinstance(x, PendingScore)}
            if sum(score.cotangents.nbytes for score in self._waiting.values()) >= WAITING_BYTES:
                results |= self._results_of_waiting()
        return results | self._results_of_waiting()

    def _results_of_waiting(self) -> dict[int, ScoreRecord | EglError]:
        indices = list(self._waiting)
        groups = share_passes(
            [self._waiting[i].num_rows for i in indices],
            [self._spectrograms[i].seconds for i in indices],
            fits=self._fits,
            overhead_rows=CUDA_PASS_OVERHEAD_ROWS if self._on_gpu else PASS_OVERHEAD_ROWS,
        )
        results: dict[int, ScoreRecord | EglError] = {}
        for group in groups:
            results |= self._each([indices[position] for position in group], self._pull_back)
        self._waiting.clear()
        return results

    def _forward_plan(self) -> list[list[int]]:
        seconds = [spectrogram.seconds for spectrogram in self._spectrograms]
        size = 1
        if self._engine.shares_batches:
            # Where one utterance's cotangents fill a backward pass, sharing gains nothing.
            most_rows = {"exact": self._options.k, "probe": self._options.probes, "lowrank": 1}
            size = max(1, self._engine.rows_per_pass // most_rows[self._options.method])
        return [
            batch[start : start + size]
            for batch in length_batches(seconds, batch_seconds=self._limit.planned)
            for start in range(0, len(batch), size)
        ]

    def _search(self, batch: list[int]) -> dict[int, PendingScore | ScoreRecord]:
        """Records already, where the forward pass of the search serves for the gradients, too."""
        tape = self._run(batch)
        pending = search(
            tape,
            ids=[self._ids[i] for i in batch],
            durations=[self._spectrograms[i].seconds for i in batch],
            classes=self._classes,
            options=self._options,
        )
        longest = max(self._spectrograms[i].seconds for i in batch)
        row_bytes = self._engine.row_bytes(tape, tape.outputs[0]) / (len(batch) * longest)
        self._row_bytes_per_second = max(self._row_bytes_per_second, row_bytes)
        widest = max(score.num_rows for score in pending)
        padding = sum(widest - score.num_rows for score in pending)
        saved = CUDA_PASS_OVERHEAD_ROWS if self._on_gpu else FORWARD_ROWS * len(batch)
        alike = padding <= saved and self._fits(len(batch), widest, longest)
        if len(batch) == 1 or alike:
            return dict(zip(batch, pull_back(self._engine, tape, pending), strict=True))
        return dict(zip(batch, pending, strict=True))

    def _pull_back(self, group: list[int]) -> dict[int, ScoreRecord]:
        pending = [self._waiting[i] for i in group]
        return dict(zip(group, pull_back(self._engine, self._run(group), pending), strict=True))

    def _run(self, batch: list[int]) -> Tape:
        features, lengths = pad_features(
            [self._spectrograms[i].features for i in batch], device=self._engine.device
        )
        return self._engine.run(features.to(self._engine.dtype), lengths.to(self._engine.device))

    def _fits(self, num_utterances: int, num_rows: int, seconds: float) -> bool:
        total_rows = num_utterances * num_rows
        return (
            total_rows <= self._engine.rows_per_pass
            and num_utterances * seconds <= self._limit.planned
            and total_rows * seconds * self._row_bytes_per_second <= self._engine.pass_bytes
        )

    def _each(
        self, batch: list[int], work: Callable[[list[int]], Mapping[int, _T]]
    ) -> dict[int, _T | EglError]:
        """Work on a batch; where it fails, on less of it at a time: only the culprit is lost."""
        results: dict[int, _T | EglError] = {}
        memory_bytes = self._engine.memory_bytes
        parts = [batch]
        while parts:
            part = parts.pop()
            if len(part) > 1 and self._padded_seconds(part) > self._limit.seconds:
                parts += _halves(part)
                continue
            try:
                results |= work(part)
                continue
            except Exception as error:
                out_of_memory = is_out_of_memory(error)
                if not (self._skip or out_of_memory):
                    raise
                kept = error if isinstance(error, EglError) else self._named(part, error)
            # Here, because while it is handled the error holds on to what filled the memory.
            if not out_of_memory:
                parts += [[i] for i in reversed(part)] if len(part) > 1 else []
            elif self._can_do_with_less(part):
                parts.append(part)
                continue
            else:
                # With however little: that was the utterance's fault, and others need not do so.
                self._engine.use_memory(memory_bytes)
                kept = self._too_large(part[0])
                if not self._skip:
                    raise kept
            if len(part) == 1:
                results[part[0]] = kept
        return results

    def _padded_seconds(self, batch: list[int]) -> float:
        return len(batch) * max(self._spectrograms[i].seconds for i in batch)

    def _can_do_with_less(self, batch: list[int]) -> bool:
        """Lower what caused memory to run out; False where nothing is left to lower."""
        if self._engine.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(batch) > 1:
            self._limit.halve(self._padded_seconds(batch))
            _log.warning("out of memory: going on with at most %.3g s at once", self._limit.seconds)
            return True
        if self._engine.halve_memory():
            _log.warning(
                "out of memory: going on with gradients in %d MiB", self._engine.memory_bytes >> 20
            )
            return True
        return False

    def _named(self, part: list[int], error: Exception) -> ModelError:
        """What the model's code raised, with its traceback, but without the tensors in there."""
        traceback.clear_frames(error.__traceback__)
        kept = ModelError(
            f"utterance {self._ids[part[0]]!r}: failed with {type(error).__name__}: "
            f"{one_line(error)}"
        )
        kept.__cause__ = error
        return kept

    def _too_large(self, index: int) -> ModelError:
        return ModelError(
            f"utterance {self._ids[index]!r}: {self._spectrograms[index].seconds:.1f} s do not fit "
            "into memory; cut it, or refuse the like by --max-duration"
        )


def _halves(batch: list[int]) -> list[list[int]]:
    """The second half, then the first: what is popped first comes first."""
    middle = (len(batch) + 1) // 2
    return [batch[middle:], batch[:middle]]
