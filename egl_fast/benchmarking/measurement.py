"""One measurement of a model on this machine: everything in rounds, and operations counted."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import cached_property

from egl_fast.benchmarking import operation_count
from egl_fast.benchmarking.comparison import (
    INFERENCE,
    LOOP,
    METHODS,
    NO_GRADIENTS,
    READING,
    Comparison,
    Run,
)
from egl_fast.benchmarking.interleaved import Timings, one_round
from egl_fast.benchmarking.product_rate import LargeProduct
from egl_fast.benchmarking.recordings import Stratum
from egl_fast.benchmarking.results import Part
from egl_fast.benchmarking.stopwatch import StopwatchEngine
from egl_fast.scorer import Scorer

#: Labelings that the plain loop goes through; its backward passes all cost the same.
LOOPED = 3


class Measurement:
    """The methods and baselines on the recordings of all strata.

    Args:
        scorer: of the model.
        strata: what is measured.
        k: hypotheses.

    Attributes:
        comparisons: by stratum.
        rounds: by stratum, then by round: what ran, by name.
    """

    def __init__(self, scorer: Scorer, strata: Sequence[Stratum], *, k: int) -> None:
        self.scorer = scorer
        self.engine = StopwatchEngine(
            scorer.model,
            params=scorer.recognizer.pattern(scorer.params),
            memory_bytes=scorer.memory_bytes,
            precision=scorer.precision,
        )
        self.comparisons = [
            Comparison(scorer, self.engine, stratum.recordings, k=k, looped=LOOPED)
            for stratum in strata
        ]
        self.rounds: list[list[dict[str, Run]]] = [[] for _ in strata]
        self._product_timings = Timings()

    def run_round(self, number: int) -> None:
        """Run everything once on a stratum's recordings."""
        self.rounds[number].append(self.comparisons[number].run_round())
        self._product_timings.add(dict(one_round(self._product.works, self.scorer.device)))

    @cached_property
    def _product(self) -> LargeProduct:
        """Created in the first round, so as not to count toward the peak memory of scoring."""
        return LargeProduct(self.scorer.device, self.scorer.precision)

    @property
    def product_rate(self) -> float:
        """Multiply-adds per second of a large matrix product: the median."""
        return statistics.median(self._product.rates(self._product_timings))

    def parts(self) -> dict[str, list[Part]]:
        """The time of each method and baseline, by stratum."""
        return {
            name: [
                self._part(name, comparison, [runs[name] for runs in rounds])
                for comparison, rounds in zip(self.comparisons, self.rounds, strict=True)
            ]
            for name in (LOOP, *METHODS, NO_GRADIENTS, INFERENCE, READING)
        }

    def _part(self, name: str, comparison: Comparison, runs: list[Run]) -> Part:
        """The time of one method on a stratum whose recordings all have the same number of rows."""
        audio_seconds, seconds = comparison.audio_seconds(name), [run.seconds for run in runs]
        if name not in METHODS:
            return Part(audio_seconds, seconds)
        rows = runs[0].rows / len(comparison.scored)
        forward = backward = 0.0
        for recording in comparison.scored:
            counts = operation_count.count(
                self.scorer.model,
                comparison.inputs([recording]),
                num_cotangents=max(1, round(rows)),
            )
            forward += operation_count.total_forward(counts)
            backward += rows * operation_count.total(counts)
        return Part(
            audio_seconds,
            seconds,
            forward=[run.forward for run in runs],
            backward=[run.backward for run in runs],
            rows=rows,
            forward_multiply_adds=forward,
            backward_multiply_adds=backward,
        )
