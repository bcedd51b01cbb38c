"""Embeddings of trusted recordings: a forward pass over each, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from egl_fast.data.batching import length_batches
from egl_fast.data.manifest import Utterance
from egl_fast.errors import EglError
from egl_fast.scoring.formula.embedding import embeddings_of
from egl_fast.scoring.formula.outputs import model_outputs
from egl_fast.scoring.run.pool import PoolScoring
from egl_fast.scoring.run.scoring import Scoring, WindowWork, with_spectrum


def trusted_embeddings(
    scoring: Scoring, utterances: Sequence[Utterance], advance: Callable[[int], object]
) -> npt.NDArray[np.float32]:
    """[m, d], the same embeddings that recordings of the pool get when they are scored.

    Args:
        scoring: of the pool, which ``embeds``.
        utterances: the trusted ones.
        advance: called after every few recordings, with their number.

    Raises:
        EglError: one cannot be read or run; the message names it.
    """
    rows: dict[int, npt.NDArray[np.float32]] = {}
    for _, found in scoring.in_windows(embed_window, utterances):
        for position, row in found.items():
            if isinstance(row, EglError):
                raise row
            rows[position] = row
        advance(len(found))
    return np.stack([rows[position] for position in range(len(utterances))])


def embed_window(
    scoring: PoolScoring, window: WindowWork
) -> Iterator[dict[int, npt.NDArray[np.float32] | EglError]]:
    """Embeddings of a window, batch by batch."""
    yield dict(window.unreadable)
    engine, recognizer = scoring.task.engine, scoring.task.recognizer
    readable = window.readable
    positions = list(readable)
    seconds = [recording.seconds for recording in readable.values()]
    batches = length_batches(seconds, batch_seconds=scoring.batch_seconds)
    if not engine.shares_batches:
        batches = [[i] for batch in batches for i in batch]
    for batch in batches:
        own = [positions[i] for i in batch]
        inputs = recognizer.inputs(
            [readable[position] for position in own], device=engine.device, dtype=engine.dtype
        )
        tape = engine.run_output_layer(*inputs.positional, **inputs.named)
        _, num_frames = model_outputs(
            tape.outputs,
            ids=[window.utterances[position].id for position in own],
            num_classes=len(scoring.task.classes.vocabulary),
        )
        yield {
            position: with_spectrum(seen, readable[position]).numpy()
            for position, seen in zip(own, embeddings_of(tape, num_frames), strict=True)
        }
