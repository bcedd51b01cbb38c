"""Embeddings of trusted recordings: a forward pass over each, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from egl_fast.data.batching import length_batches
from egl_fast.data.manifest import Utterance
from egl_fast.data.reading import decoders_beside, read_ahead
from egl_fast.errors import EglError
from egl_fast.recognizers.front_end import RecordingInput
from egl_fast.scoring.formula.embedding import embeddings_of
from egl_fast.scoring.formula.outputs import model_outputs
from egl_fast.scoring.run.outcome import WINDOW
from egl_fast.scoring.run.pool import PoolScoring


def trusted_embeddings(
    scoring: PoolScoring, utterances: Sequence[Utterance], advance: Callable[[int], object]
) -> npt.NDArray[np.float32]:
    """[m, d], as the recordings of the pool get them when they are scored.

    Args:
        scoring: of the pool.
        utterances: the trusted ones.
        advance: told of every few recordings that are done.

    Raises:
        EglError: one cannot be read or run; the message names it.
    """
    engine = scoring.task.engine
    rows: list[npt.NDArray[np.float32]] = []
    loaded = read_ahead(
        scoring.load,
        utterances,
        num_threads=decoders_beside(engine.device),
        timeout_seconds=scoring.limits.timeout_seconds,
    )
    for start in range(0, len(utterances), WINDOW):
        names = [utterance.id for utterance in utterances[start : start + WINDOW]]
        window = [_usable(next(loaded)) for _ in names]
        found: dict[int, npt.NDArray[np.float32]] = {}
        seconds = [recording.seconds for recording in window]
        batches = length_batches(seconds, batch_seconds=scoring.batch_seconds)
        if not engine.shares_batches:
            batches = [[i] for batch in batches for i in batch]
        for batch in batches:
            inputs = scoring.task.recognizer.inputs(
                [window[i] for i in batch], device=engine.device, dtype=engine.dtype
            )
            tape = engine.run_output_layer(*inputs.positional, **inputs.named)
            _, num_frames = model_outputs(
                tape.outputs,
                ids=[names[i] for i in batch],
                num_classes=len(scoring.task.classes.vocabulary),
            )
            for i, row in zip(batch, embeddings_of(tape, num_frames).numpy(), strict=True):
                found[i] = row
            advance(len(batch))
        rows += [found[i] for i in range(len(window))]
    return np.stack(rows)


def _usable(loaded: RecordingInput | EglError) -> RecordingInput:
    if isinstance(loaded, EglError):
        raise loaded
    return loaded
