"""One measurement of a model on this machine: who takes turns, and what is counted beside."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from egl_fast.benchmarking import operation_count
from egl_fast.benchmarking.contenders import (
    INFERENCE,
    LOOP,
    LOOP_FORWARD,
    METHODS,
    READING,
    Contenders,
)
from egl_fast.benchmarking.product_rate import LargeProduct
from egl_fast.benchmarking.recordings import Stratum
from egl_fast.benchmarking.results import Stage, Timing
from egl_fast.benchmarking.stopwatch import StopwatchEngine
from egl_fast.benchmarking.turns import turns
from egl_fast.scorer import Scorer

#: Labelings that the plain loop goes through; its backward passes all cost the same.
LOOPED = 3


@dataclass(frozen=True)
class _Turn:
    seconds: float
    forward: float
    backward: float
    rows: int


class Measurement:
    """All contenders on the recordings of all strata.

    Args:
        scorer: of the model.
        strata: what is measured.
        k: hypotheses.
    """

    def __init__(self, scorer: Scorer, strata: Sequence[Stratum], *, k: int) -> None:
        self.scorer = scorer
        engine = StopwatchEngine(
            scorer.model, memory_bytes=scorer.memory_bytes, precision=scorer.precision
        )
        self.engine = engine
        self.strata = [
            Contenders(scorer, engine, stratum.recordings, k=k, looped=LOOPED) for stratum in strata
        ]
        self._product: LargeProduct | None = None
        self._turns: dict[str, list[list[_Turn]]] = defaultdict(lambda: [[] for _ in strata])
        self._product_seconds: dict[str, list[float]] = defaultdict(list)

    def take_turns(self, number: int) -> None:
        """Everyone's turn on a stratum's recordings."""
        if self._product is None:
            self._product = LargeProduct(self.scorer.device, self.scorer.precision)
        self.engine.restart()
        for name, seconds in turns(self.strata[number].work(), self.scorer.device):
            laps = self.engine.seconds()
            turn = _Turn(
                seconds, laps.get("forward", 0.0), laps.get("backward", 0.0), self.engine.rows
            )
            self._turns[name][number].append(turn)
        for name, seconds in turns(self._product.contenders, self.scorer.device):
            self._product_seconds[name].append(seconds)

    @property
    def product_rate(self) -> float:
        """Multiply-adds a second of a large matrix product: the median."""
        assert self._product is not None
        return statistics.median(self._product.rates(self._product_seconds))

    @property
    def num_hypotheses(self) -> list[int]:
        """Labelings of each stratum's first recording."""
        return [len(stratum.labelings) for stratum in self.strata]

    def timings(self) -> dict[str, Timing]:
        """What each contender took; of the plain loop, for all labelings."""
        rounds = {
            name: [[turn.seconds for turn in of_stratum] for of_stratum in of_name]
            for name, of_name in self._turns.items()
        }
        forwards = rounds.pop(LOOP_FORWARD)
        rounds[LOOP] = [
            [
                stratum.loop_over_all(looped, forward)
                for looped, forward in zip(*of_stratum, strict=True)
            ]
            for stratum, *of_stratum in zip(self.strata, rounds[LOOP], forwards, strict=True)
        ]
        return {
            name: Timing(
                seconds=rounds[name],
                audio_seconds=[stratum.audio_seconds(name) for stratum in self.strata],
            )
            for name in (LOOP, *METHODS, INFERENCE, READING)
        }

    def stages(self) -> dict[str, list[Stage]]:
        """Where the time of each method went, by stratum; medians, and counted operations."""
        return {
            name: [
                Stage(
                    forward=statistics.median(turn.forward for turn in of_stratum),
                    backward=statistics.median(turn.backward for turn in of_stratum),
                    rows=of_stratum[0].rows / len(stratum.scored),
                    forward_multiply_adds=forward,
                    backward_multiply_adds=backward,
                )
                for stratum, of_stratum in zip(self.strata, self._turns[name], strict=True)
                for forward, backward in [self._multiply_adds(stratum, of_stratum[0].rows)]
            ]
            for name in METHODS
        }

    def _multiply_adds(self, stratum: Contenders, rows: int) -> tuple[float, float]:
        """Of one forward pass a recording, and of rows that are shared out evenly."""
        num_recordings = len(stratum.scored)
        forward = backward = 0.0
        for recording in stratum.scored:
            features, lengths = recording.inputs
            inputs = (features.to(self.scorer.device, self.engine.dtype), lengths)
            own_rows = rows / num_recordings
            counts = operation_count.count(
                self.scorer.model, inputs, num_cotangents=max(1, round(own_rows))
            )
            forward += operation_count.total_forward(counts)
            backward += own_rows * operation_count.total(counts)
        return forward, backward
