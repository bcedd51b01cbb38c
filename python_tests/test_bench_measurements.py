"""What ``egl-fast bench`` measures, and what it concludes."""

from __future__ import annotations

from pathlib import Path

import pytest

from egl_fast import Scorer
from egl_fast.benchmarking.contenders import Contenders
from egl_fast.benchmarking.product_rate import LargeProduct
from egl_fast.benchmarking.recordings import noise
from egl_fast.benchmarking.results import Bound, Pool, Rate, Stage, Timing, advice
from egl_fast.benchmarking.stopwatch import StopwatchEngine
from egl_fast.benchmarking.turns import seconds_of
from egl_fast.reference import TOLERANCE


@pytest.fixture(scope="module")
def contenders(tiny_model: Path) -> Contenders:
    """Contenders on noise, warmed up."""
    scorer = Scorer.from_checkpoint(tiny_model)
    assert scorer.features is not None
    engine = StopwatchEngine(scorer.model)
    found = Contenders(scorer, engine, noise(scorer.features, 2), k=8, looped=2)
    found.warm_up()
    return found


def test_the_engine_says_where_time_goes(contenders: Contenders) -> None:
    total = seconds_of(lambda: contenders.score(method="probe", probes=3))
    spent = contenders.engine.seconds()
    assert set(spent) == {"forward", "backward"}
    assert min(spent.values()) > 0
    assert sum(spent.values()) < total
    assert contenders.engine.rows == 3
    contenders.engine.restart()
    assert contenders.engine.seconds() == {}


def test_scores_are_those_of_the_scorer(contenders: Contenders) -> None:
    first = contenders.first
    [expected] = contenders.scorer.score_batch(
        *first.inputs, ids=[first.id], durations=[first.seconds], k=8, per_hypothesis=True
    )
    assert contenders.record == expected
    assert contenders.check() <= TOLERANCE["float32"]


def test_the_loop_is_scaled_by_its_backward_passes(contenders: Contenders) -> None:
    assert (len(contenders.labelings), len(contenders.looped)) == (8, 2)
    assert contenders.loop_over_all(5.0, 1.0) == pytest.approx(1.0 + 4.0 * 4)
    contenders.loop()
    assert contenders.largest_error() < 1e-2


def test_the_faster_product_is_the_ceiling() -> None:
    product = LargeProduct()
    seconds = {name: [4.0, 2.0] for name in product.contenders}
    seconds["oneDNN's product"] = [2.0, 4.0]
    seconds["another"] = [0.1, 0.1]
    assert product.rates(seconds) == [product.multiply_adds / 2.0] * 2
    assert set(product.contenders) == {"torch's product", "oneDNN's product"}


def bound_of(backward: float, *, countable: bool = True) -> Bound:
    """10 s for 5 of the pool's 20 s of audio; 120 multiply-adds backward, 8 forward."""
    stages = [
        Stage(
            forward=0.5,
            backward=backward,
            rows=12.0,
            forward_multiply_adds=8.0,
            backward_multiply_adds=120.0,
        )
    ]
    timing = Timing([[9.0, 10.0, 30.0]], [5.0])
    return Bound.of(timing, stages, Pool(4, [20.0]), rate=20.0, countable=countable)


def test_bounds_are_put_into_words() -> None:
    bound = bound_of(8.0)
    assert (bound.forward, bound.backward) == (0.05, 0.8)
    assert bound.rest == pytest.approx(0.15)
    assert bound.share == pytest.approx(12.8 / 20)
    assert bound.backward_share == pytest.approx(15 / 20)
    assert bound.flop_per_second == pytest.approx(25.6)
    assert bound.sentence("exact") == (
        "exact: backward passes take 80% of the time and run at 75% of that rate: "
        "bound by arithmetic."
    )
    searching = Bound(4.0, 0.1, 0.3, 0.6, 1.0, 0.2, 0.9).sentence("probe")
    assert searching.startswith("probe: search, cotangents and records take 60% of the time; ")
    assert searching.endswith("arithmetic is not what bounds it; what does was not measured.")
    assert bound_of(8.0, countable=False).sentence("exact") == (
        "exact: backward passes take 80% of the time; operations were not counted."
    )


def test_advice_names_what_was_faster() -> None:
    timing = Timing([[10.0]], [5.0])
    pool = Pool(4, [20.0])
    quick = Rate.of(Timing([[2.5]], [5.0]), pool, timing)
    usual = Rate.of(timing, pool, timing)
    bounds = {"exact": bound_of(8.0), "probe --probes 4": bound_of(2.0)}
    [line] = advice({"exact": usual, "probe --probes 4": quick}, bounds)
    assert line.startswith("--method probe --probes 4 took 25% of exact's time")
    assert advice({"exact": quick, "probe --probes 4": usual}, bounds) == []
