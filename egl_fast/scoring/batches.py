"""Many utterances' spectrograms to records: who shares a forward pass, and who a backward pass.

Forward passes are shared by utterances of like length. How many rows each has to pull back, only
its search tells where the method is "lowrank". Where neighbours differ little, the forward pass of
the search serves for the gradients, too; otherwise they wait until there are several, and those of
like rank run once more, together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from egl_fast.data.batching import length_batches
from egl_fast.data.loading import Spectrogram, pad_features
from egl_fast.errors import EglError, ModelError, one_line
from egl_fast.gradients.engine import GradientEngine
from egl_fast.gradients.tape import Tape
from egl_fast.records import ScoreRecord
from egl_fast.scoring.options import Classes, ScoringOptions
from egl_fast.scoring.pending import PendingScore
from egl_fast.scoring.pipeline import pull_back, search
from egl_fast.scoring.sharing import share_passes

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


class BatchScoring:
    """Scores of utterances that work together where their model allows it.

    Args:
        engine: of the model.
        classes: its classes.
        options: what to compute.
        spectrograms: of the utterances.
        ids: their names.
        batch_seconds: padded audio that shares a forward pass.
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
        batch_seconds: float,
        skip: bool,
    ) -> None:
        self._engine = engine
        self._classes = classes
        self._options = options
        self._spectrograms = spectrograms
        self._ids = ids
        self._batch_seconds = batch_seconds
        self._skip = skip
        self._waiting: dict[int, PendingScore] = {}
        self._row_bytes_per_second = 0.0

    def results(self) -> Iterator[dict[int, ScoreRecord | EglError]]:
        """Records and errors by index, in the order of computation: about shortest first."""
        most_waiting = CUDA_WAITING if self._engine.device.type == "cuda" else WAITING
        for batch in self._forward_plan():
            found = self._each(batch, self._search)
            done = {i: x for i, x in found.items() if not isinstance(x, PendingScore)}
            self._waiting |= {i: x for i, x in found.items() if isinstance(x, PendingScore)}
            if done:
                yield done
            waiting_bytes = sum(score.cotangents.nbytes for score in self._waiting.values())
            if len(self._waiting) >= most_waiting or waiting_bytes >= WAITING_BYTES:
                yield from self._results_of_waiting()
        yield from self._results_of_waiting()

    def _results_of_waiting(self) -> Iterator[dict[int, ScoreRecord | EglError]]:
        indices = list(self._waiting)
        for group in share_passes(
            [self._waiting[i].num_rows for i in indices],
            [self._spectrograms[i].seconds for i in indices],
            fits=self._fits,
        ):
            yield self._each([indices[position] for position in group], self._pull_back)
        self._waiting.clear()

    def _forward_plan(self) -> list[list[int]]:
        seconds = [spectrogram.seconds for spectrogram in self._spectrograms]
        size = 1
        if self._engine.shares_batches:
            # Where one utterance's cotangents fill a backward pass, sharing gains nothing.
            most_rows = {"exact": self._options.k, "probe": self._options.probes, "lowrank": 1}
            size = max(1, self._engine.rows_per_pass // most_rows[self._options.method])
        return [
            batch[start : start + size]
            for batch in length_batches(seconds, batch_seconds=self._batch_seconds)
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
        alike = padding <= FORWARD_ROWS * len(batch) and self._fits(len(batch), widest, longest)
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
            and num_utterances * seconds <= self._batch_seconds
            and total_rows * seconds * self._row_bytes_per_second <= self._engine.pass_bytes
        )

    def _each(
        self, batch: list[int], work: Callable[[list[int]], Mapping[int, _T]]
    ) -> dict[int, _T | EglError]:
        """Work on a batch, or, where it fails, on one after another: only the culprit is lost."""
        try:
            return dict(work(batch))
        except Exception as error:
            if not self._skip:
                raise
            if len(batch) == 1:
                kept = error if isinstance(error, EglError) else ModelError(one_line(error))
                return {batch[0]: kept}
        results: dict[int, _T | EglError] = {}
        for i in batch:
            results |= self._each([i], work)
        return results
