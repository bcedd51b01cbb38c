"""A recording's whole score on real speech: against the plain loop and one inference pass.

Everyone starts from the same features and model, in float32, on the same threads. ``exact``,
``lowrank`` and ``probe`` include forward pass, search, occupancy, backward pass, norms and record.
The plain loop gets the labelings for nothing: it runs the model once with torch's own layers and
takes one ``torch.autograd.grad`` of torch's CTC loss a labeling. Each round is another recording
of about 2 s; all squared norms are compared.
"""

from __future__ import annotations

import statistics
from functools import partial
from pathlib import Path

import pytest
import speech
from contest import Contest, Turns

from egl_fast.benchmarking import operation_count
from egl_fast.benchmarking.contenders import INFERENCE, LOOP, LOOP_FORWARD, METHODS, Contenders
from egl_fast.benchmarking.product_rate import LargeProduct
from egl_fast.benchmarking.stopwatch import StopwatchEngine

ESTIMATES = {
    "lowrank, 1 %": METHODS["lowrank --tolerance 0.01"],
    "lowrank, 10 %": METHODS["lowrank --tolerance 0.1"],
    "probe, 4": METHODS["probe --probes 4"],
}

#: Of the plain loop, whose float32 recurrence errs by up to 5e-4 on some recordings.
AGREEMENT = 2e-3


@pytest.mark.benchmark(group="pipeline")
@pytest.mark.parametrize("model", ["small", "deep"])
def test_pipeline(contest: Contest, model_file: Path, pool: Path, model: str) -> None:
    settings = contest.settings
    trained = speech.trained_scorer(model_file)
    scorer = trained if model == "small" else speech.random_scorer(settings.deep, model_file)
    assert trained.features is not None
    index = 0 if model == "small" else 1
    num_clips, looped = settings.clips[index], settings.looped[index]
    clips = speech.clips_of_two_seconds(pool, num_clips, trained.features)
    # A few hypotheses show that results are right; all of them are compared where they are timed.
    engine = StopwatchEngine(scorer.model)
    contestants = [
        Contenders(scorer, engine, [clip], k=settings.k, looped=looped) for clip in clips
    ]
    contestants[0].warm_up()
    contestants[0].check()
    current = contestants[0]
    product = LargeProduct()
    num_rows = []

    def choose(number: int) -> None:
        nonlocal current
        current = contestants[number]
        current.score_exactly()
        num_rows.append(engine.rows)
        contest.say(f"{current.first.id}, {len(current.labelings)} hypotheses")

    turns = contest.take_turns(
        lambda: current.score_exactly(),
        {
            LOOP: lambda: current.loop(),
            LOOP_FORWARD: lambda: current.forward(),
            INFERENCE: lambda: current.infer(),
            **{
                name: partial(lambda options: current.score(**options), options)
                for name, options in ESTIMATES.items()
            },
            **product.contenders,
        },
        rounds=len(clips),
        before=choose,
        warm_up=False,
    )
    measured = contestants[: len(turns.own)]
    worst = max(scoring.largest_error() for scoring in measured)
    assert worst <= AGREEMENT
    extrapolate(turns, measured)
    multiply_adds = [num_multiply_adds(scoring) for scoring in measured]
    share = statistics.median(
        count / seconds / rate
        for count, seconds, rate in zip(
            multiply_adds, turns.own, product.rates(turns.peers), strict=True
        )
    )
    contest.note(
        model=model,
        seconds=[scoring.first.seconds for scoring in measured],
        hypotheses=[len(scoring.labelings) for scoring in measured],
        rows=num_rows,
        looped=looped,
        largest_error=worst,
        share=share,
        peers=turns.summary(),
    )
    rows = ", ".join(
        f"{count} for {len(scoring.labelings)}"
        for count, scoring in zip(num_rows, measured, strict=True)
    )
    contest.say(f"rows that exact scoring pulled back for hypotheses: {rows}")
    contest.figure(f"pipeline_{model}", turns.times(LOOP))
    contest.figure(f"pipeline_share_{model}", share)
    contest.say(
        f"exact: {turns.times(LOOP):.1f} times the plain loop, {1 / turns.times(INFERENCE):.0f} "
        f"inference passes, {share:.0%} of the machine's rate over all cotangents; "
        f"largest error {worst:.1e}"
    )


def extrapolate(turns: Turns, scorings: list[Contenders]) -> None:
    """Make of the loop's time that of all hypotheses."""
    for number, scoring in enumerate(scorings):
        looped, forward = turns.peers[LOOP][number], turns.peers[LOOP_FORWARD][number]
        turns.peers[LOOP][number] = scoring.loop_over_all(looped, forward)


def num_multiply_adds(scoring: Contenders) -> float:
    """Counted operations of all hypotheses' cotangents, though a basis of them is pulled back."""
    k = len(scoring.labelings)
    counts = operation_count.count(scoring.scorer.model, scoring.first.inputs, num_cotangents=k)
    return k * operation_count.total(counts)
