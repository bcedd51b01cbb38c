"""What becomes of a pool's utterances. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from egl_fast.data.manifest import Utterance
from egl_fast.errors import EglError
from egl_fast.records import ScoreRecord

#: Utterances whose order batches may change. Batches never reach across windows, so what has been
#: scored of a manifest decides nothing about how the rest is batched.
WINDOW = 64


@dataclass(frozen=True)
class Outcome:
    """What became of one utterance of a pool: a record, or the error that prevented one.

    Attributes:
        position: its place in the pool, from 0.
        utterance: its line of the manifest.
        record: its scores, or None.
        error: what prevented them, or None.
    """

    position: int
    utterance: Utterance
    record: ScoreRecord | None
    error: EglError | None

    @classmethod
    def of(cls, position: int, utterance: Utterance, result: ScoreRecord | EglError) -> Outcome:
        """The outcome of a record or an error."""
        if isinstance(result, ScoreRecord):
            return cls(position, utterance, result, None)
        return cls(position, utterance, None, result)


def in_order(outcomes: Iterable[Sequence[Outcome]]) -> Iterator[Outcome]:
    """Outcomes of a whole pool by position, each as soon as all before it are there."""
    waiting: dict[int, Outcome] = {}
    position = 0
    for some in outcomes:
        waiting |= {outcome.position: outcome for outcome in some}
        while position in waiting:
            yield waiting.pop(position)
            position += 1
