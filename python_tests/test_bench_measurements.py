"""What ``egl-fast bench`` measures, and what it concludes."""

from __future__ import annotations

from pathlib import Path

import pytest

from egl_fast import Scorer
from egl_fast.benchmarking.comparison import (
    INFERENCE,
    LOOP,
    METHODS,
    NO_GRADIENTS,
    READING,
    Comparison,
)
from egl_fast.benchmarking.interleaved import Timings, seconds_of, time_interleaved
from egl_fast.benchmarking.product_rate import LargeProduct
from egl_fast.benchmarking.recordings import noise
from egl_fast.benchmarking.results import Bound, Part, Pool, Rate, advice
from egl_fast.benchmarking.stopwatch import StopwatchEngine
from egl_fast.reference import TOLERANCE


@pytest.fixture(scope="module")
def comparison(tiny_model: Path) -> Comparison:
    """On noise, warm."""
    scorer = Scorer.from_checkpoint(tiny_model)
    engine = StopwatchEngine(scorer.model)
    found = Comparison(scorer, engine, noise(scorer.recognizer, 2), k=8, looped=2)
    found.warm_up()
    return found


def test_the_engine_says_where_time_goes(comparison: Comparison) -> None:
    comparison.engine.restart()
    assert comparison.engine.seconds() == (0, 0)
    total = seconds_of(lambda: comparison.score(method="probe", probes=3))
    spent = comparison.engine.seconds()
    assert min(spent) > 0
    assert sum(spent) < total
    assert comparison.engine.rows == 3


def test_a_round_runs_everything_once(comparison: Comparison) -> None:
    runs = comparison.run_round()
    assert set(runs) == {LOOP, *METHODS, NO_GRADIENTS, INFERENCE, READING}
    for name, run in runs.items():
        assert (run.rows > 0) == (name in METHODS)
        assert run.forward + run.backward < run.seconds
    assert runs["probe --probes 4"].rows == 4


def test_rounds_are_compared_one_by_one() -> None:
    timings = Timings()
    for own, other in (
        (1.0, 2.0),
        (10.0, 40.0),
        (3.0, 9.0),
    ):  # the machine slows down, and recovers
        timings.add({"own": own, "other": other})
    assert timings.ratio("other", "own") == 3.0
    assert timings.summary(relative_to="own") == {
        "own": {"median_s": 3.0, "q1_s": 2.0, "q3_s": 6.5},
        "other": {"median_s": 9.0, "q1_s": 5.5, "q3_s": 24.5, "times": 3.0},
    }
    assert "times" not in timings.summary()["other"]


def test_rounds_are_interleaved_and_warm_ups_do_not_count() -> None:
    order: list[str] = []
    works = {name: lambda name=name: order.append(name) for name in "ab"}
    timings = time_interleaved(works, rounds=2, warm_ups=1)
    assert order == list("ababab")
    assert {name: len(seconds) for name, seconds in timings.items()} == {"a": 2, "b": 2}


def test_scores_are_those_of_the_scorer(comparison: Comparison) -> None:
    first = comparison.first
    [expected] = comparison.scorer.score_batch(
        *first.prepared.inputs.positional,
        ids=[first.id],
        durations=[first.seconds],
        k=8,
        per_hypothesis=True,
    )
    assert comparison.record == expected
    assert comparison.check() <= TOLERANCE["float32"]


def test_the_loop_is_scaled_by_its_backward_passes(comparison: Comparison) -> None:
    assert (len(comparison.labelings), len(comparison.looped)) == (8, 2)
    assert comparison.loop_over_all(5.0, 1.0) == pytest.approx(1.0 + 4.0 * 4)
    comparison.run_round()
    assert comparison.largest_error() < 1e-2


def test_the_faster_product_is_the_ceiling() -> None:
    product = LargeProduct()
    timings = Timings({name: [4.0, 2.0] for name in product.works})
    timings["oneDNN's product"] = [2.0, 4.0]
    timings["another"] = [0.1, 0.1]
    assert product.rates(timings) == [product.multiply_adds / 2.0] * 2
    assert set(product.works) == {"torch's product", "oneDNN's product"}


def bound_of(backward: float, *, countable: bool = True) -> Bound:
    """10 s for 5 of the pool's 20 s of audio; 120 multiply-adds backward, 8 forward."""
    part = Part(
        audio_seconds=5.0,
        seconds=[9.0, 10.0, 30.0],
        forward=[0.5],
        backward=[backward],
        rows=12.0,
        forward_multiply_adds=8.0,
        backward_multiply_adds=120.0,
    )
    return Bound.of([part], Pool(4, [20.0]), rate=20.0, countable=countable)


def test_bounds_are_put_into_words() -> None:
    bound = bound_of(8.0)
    assert (bound.forward, bound.backward) == (0.05, 0.8)
    assert bound.rest == pytest.approx(0.15)
    assert bound.share == pytest.approx(12.8 / 20)
    assert bound.backward_share == pytest.approx(15 / 20)
    assert bound.flop_per_second == pytest.approx(25.6)
    assert bound.sentence("exact") == (
        "exact: backward passes take 80% of the time and run at 75% of that rate: "
        "limited by arithmetic."
    )
    searching = Bound(4.0, 0.1, 0.3, 0.6, 1.0, 0.2, 0.9).sentence("probe")
    assert searching.startswith("probe: search, cotangents, and records take 60% of the time; ")
    assert searching.endswith(
        ": limited by something other than arithmetic, which was not measured."
    )
    assert bound_of(8.0, countable=False).sentence("exact") == (
        "exact: backward passes take 80% of the time; operations were not counted."
    )


def test_advice_names_what_was_faster() -> None:
    part = Part(5.0, [10.0])
    pool = Pool(4, [20.0])
    quick = Rate.of([Part(5.0, [2.5])], pool, [part])
    usual = Rate.of([part], pool, [part])
    bounds = {"exact": bound_of(8.0), "probe --probes 4": bound_of(2.0)}
    [line] = advice({"exact": usual, "probe --probes 4": quick}, bounds)
    assert line.startswith("--method probe --probes 4 took 25% of exact's time")
    assert advice({"exact": quick, "probe --probes 4": usual}, bounds) == []
