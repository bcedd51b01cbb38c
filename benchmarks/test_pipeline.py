"""A recording's whole score on real speech: against the plain loop and one inference pass.

``egl_fast.benchmarking.comparison`` says what runs. Each round is another recording of about 2 s.
All squared norms that the plain loop computes are compared.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
import workloads
from entry import Entry
from settings import Settings

from egl_fast.benchmarking import operation_count
from egl_fast.benchmarking.comparison import EXACT, INFERENCE, LOOP, Comparison
from egl_fast.benchmarking.interleaved import Timings
from egl_fast.benchmarking.product_rate import LargeProduct
from egl_fast.benchmarking.stopwatch import StopwatchEngine

#: Of the plain loop, whose float32 recurrence is off by up to 5e-4 on some recordings.
AGREEMENT = 2e-3


@pytest.mark.parametrize("model", ["small", "deep"])
def test_pipeline(
    entry: Entry, settings: Settings, model_file: Path, pool: Path, model: str
) -> None:
    trained = workloads.trained_scorer(model_file)
    scorer = trained if model == "small" else workloads.random_scorer(settings.deep, model_file)
    index = 0 if model == "small" else 1
    looped = settings.looped[index]
    recordings = workloads.recordings_of_two_seconds(
        pool, settings.recordings[index], trained.recognizer
    )
    engine = StopwatchEngine(scorer.model)
    product = LargeProduct()
    timings = Timings()
    rows, hypotheses, multiply_adds = [], [], []
    worst = 0.0
    for number, recording in enumerate(recordings):
        comparison = Comparison(scorer, engine, [recording], k=settings.k, looped=looped)
        if number == 0:
            comparison.warm_up()
            comparison.check()
        comparison.score_exactly()
        # Exactly with every hypothesis's norm, so that what is timed is what is compared.
        works = {**comparison.works(), EXACT: comparison.score_exactly, **product.works}
        runs = comparison.run_round(works)
        timings.add({name: run.seconds for name, run in runs.items()})
        worst = max(worst, comparison.largest_error())
        rows.append(runs[EXACT].rows)
        hypotheses.append(len(comparison.labelings))
        multiply_adds.append(num_multiply_adds(comparison))
        entry.say(f"{recording.id}: {rows[-1]} rows for {hypotheses[-1]} hypotheses")
    assert worst <= AGREEMENT
    share = statistics.median(
        count / seconds / rate
        for count, seconds, rate in zip(
            multiply_adds, timings[EXACT], product.rates(timings), strict=True
        )
    )
    entry.keep(
        "pipeline",
        timings,
        own=EXACT,
        model=model,
        seconds=[recording.seconds for recording in recordings],
        hypotheses=hypotheses,
        rows=rows,
        looped=looped,
        largest_error=worst,
        share=share,
    )
    entry.figure(f"pipeline_{model}", timings.ratio(LOOP, EXACT))
    entry.figure(f"pipeline_share_{model}", share)
    entry.say(
        f"exact takes as long as {timings.ratio(EXACT, INFERENCE):.0f} inference passes, and runs "
        f"at {share:.0%} of the machine's rate over all cotangents; largest error {worst:.1e}"
    )


def num_multiply_adds(comparison: Comparison) -> float:
    """Counted for every hypothesis's cotangent, though only a basis of them is pulled back."""
    k = len(comparison.labelings)
    model, inputs = comparison.scorer.model, comparison.inputs([comparison.first])
    return k * operation_count.total(operation_count.count(model, inputs, num_cotangents=k))
