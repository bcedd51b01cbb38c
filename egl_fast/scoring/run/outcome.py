"""Outcomes of a pool's utterances: scores or errors. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from egl_fast.data.manifest import Utterance
from egl_fast.errors import EglError
from egl_fast.records import ScoreRecord

if TYPE_CHECKING:
    from torch import Tensor

#: Utterances within which batches may change the order. Batches never cross windows, so how the
#: rest of a manifest is batched does not depend on how much of it has been scored.
WINDOW = 64


@dataclass(frozen=True)
class Outcome:
    """The outcome of one utterance of a pool."""

    position: int  # its place in the pool, from 0
    utterance: Utterance  # its line of the manifest
    result: ScoreRecord | EglError  # its scores, or the error that prevented them
    embedding: Tensor | None = None  # [d] float32, its spectrum last; None unless asked for

    @property
    def record(self) -> ScoreRecord | None:
        """Its scores, or None."""
        return self.result if isinstance(self.result, ScoreRecord) else None


def in_order(outcomes: Iterable[Sequence[Outcome]]) -> Generator[Outcome, None, None]:
    """Outcomes of a whole pool by position, each as soon as all before it are known."""
    waiting: dict[int, Outcome] = {}
    position = 0
    for some in outcomes:
        waiting |= {outcome.position: outcome for outcome in some}
        while position in waiting:
            yield waiting.pop(position)
            position += 1
