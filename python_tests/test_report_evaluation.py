"""The numbers of an evaluation, against values worked by hand for small tables."""

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import scipy.stats
from synthetic_run import synthetic_scores, write_run

from egl_fast.errors import ReportError
from egl_fast.evaluation.reporting.evaluation import Evaluation
from egl_fast.evaluation.reporting.measures import METRICS, Series
from egl_fast.evaluation.reporting.run_folder import RunFolder, read_run_folder

CER, WER, LOSS = METRICS
EGL, RANDOM = Series("egl", "single"), Series("random", "single")


def run_of(points, *, tests=None):
    """A run whose units have given character errors on two utterances of 10 and 30 characters.

    Args:
        points: (strategy, mode, round, seed, query, fraction, hours, errors [2]).
    """
    results, utterances = [], []
    for number, (strategy, mode, round_, seed, query, fraction, hours, errors) in enumerate(points):
        unit = f"unit{number}"
        results.append(
            {
                "strategy": strategy, "mode": mode, "round": round_, "seed": seed, "query": query,
                "fraction": fraction, "num_labeled": round(100 * fraction),
                "labeled_seconds": 3600.0 * hours, "pool_clips": 100, "pool_seconds": 7200.0,
                "base_clips": 5, "base_seconds": 9.0, "unit": unit, "cer": 0.0, "wer": 0.0,
                "ctc_loss": 0.0,
            }
        )  # fmt: skip
        for name, wrong, length in zip("ab", errors, (10, 30), strict=True):
            utterances.append(
                {
                    "unit": unit, "id": name, "ctc_loss": 2.0 * wrong, "char_errors": wrong,
                    "num_chars": length, "word_errors": wrong, "num_words": length // 5,
                }
            )  # fmt: skip
    table = pl.DataFrame(utterances) if tests is None else tests(pl.DataFrame(utterances))
    return RunFolder(Path("run"), pl.DataFrame(results), table, None, {}, None)


#: Random: CER 40%, 30%, 20%, 10% at 0, 20, 40, 100%; EGL 20% and 15% at 20 and 40%.
POINTS = [
    (strategy, "single", 1, seed, query, fraction, hours, errors)
    for seed in (0, 1)
    for strategy, query, fraction, hours, errors in [
        ("", "0%", 0.0, 0.0, (4, 12)),
        ("random", "20%", 0.2, 0.4, (3, 9)),
        ("random", "40%", 0.4, 0.8, (2, 6)),
        ("egl", "20%", 0.2, 0.2, (2, 6)),
        ("egl", "40%", 0.4, 0.6, (1, 5)),
        ("", "100%", 1.0, 2.0, (1, 3)),
    ]
]


@pytest.fixture(scope="module")
def evaluation():
    return Evaluation(run_of(POINTS), replicates=200)


def test_an_evaluation_knows_what_was_run(evaluation):
    assert evaluation.series == (RANDOM, EGL)
    assert [query.name for query in evaluation.queries] == ["20%", "40%"]
    assert evaluation.seeds == (0, 1)
    assert evaluation.num_test == 2
    assert evaluation.baseline == RANDOM
    assert evaluation.end_points("single") == ["0%", "100%"]


def test_metrics_are_ratios_of_sums(evaluation):
    assert evaluation.value(EGL, "40%", CER).estimate == pytest.approx(6 / 40)
    assert evaluation.value(EGL, "40%", WER).estimate == pytest.approx(6 / 8)
    assert evaluation.value(EGL, "40%", LOSS).estimate == pytest.approx(2 * 6 / 2)


def test_intervals_are_over_resampled_utterances(evaluation):
    # Two utterances have three resamples: a a (1/10), a b (6/40), b b (5/30).
    span = evaluation.value(EGL, "40%", CER)
    assert (span.low, span.high) == (pytest.approx(1 / 10), pytest.approx(5 / 30))


def test_differences_are_paired_within_resamples(evaluation):
    comparison = evaluation.compare(EGL, RANDOM, "20%", CER)
    # In every resample EGL has exactly two thirds of random's errors.
    assert comparison.reduction.estimate == pytest.approx(1 / 3)
    assert (comparison.reduction.low, comparison.reduction.high) == (
        pytest.approx(1 / 3),
        pytest.approx(1 / 3),
    )
    assert comparison.difference.estimate == pytest.approx(-0.1)
    assert comparison.by_seed == (pytest.approx(-0.1), pytest.approx(-0.1))
    assert comparison.reduction_by_seed == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert comparison.verdict == "better"
    assert evaluation.compare(RANDOM, EGL, "20%", CER).verdict == "worse"
    assert evaluation.compare(EGL, EGL, "20%", CER).verdict == "open"


def test_label_efficiency_is_the_budget_with_which_random_does_as_well(evaluation):
    # EGL has 20% CER at 20%; random comes down to it at 40%.
    assert evaluation.label_efficiency(EGL, RANDOM, "20%", CER).estimate == pytest.approx(0.4)
    # EGL's 15% at 40% lie half way between random's 40 and 100%.
    assert evaluation.label_efficiency(EGL, RANDOM, "40%", CER).estimate == pytest.approx(0.7)


def test_mean_height_is_over_the_budgets_alone(evaluation):
    # Random: 40, 30, 20 at 0, 20, 40%; what is shared at 100% is left out.
    assert evaluation.mean_height(RANDOM, CER).estimate == pytest.approx(0.3)
    assert evaluation.mean_height(EGL, CER).estimate == pytest.approx((0.3 + 0.175) / 2)
    assert evaluation.compare_mean_height(EGL, RANDOM, CER).estimate == pytest.approx(-0.0625)


def test_equal_hours_follow_each_series_own_curve(evaluation):
    # At 0.4 h: random 30%; EGL between 20% (0.2 h) and 15% (0.6 h).
    assert evaluation.mean_hours(RANDOM, "20%") == pytest.approx(0.4)
    assert evaluation.at_hours(EGL, 0.4, CER).estimate == pytest.approx(0.175)
    comparison = evaluation.compare_at_hours(EGL, RANDOM, 0.4, CER)
    assert comparison.difference.estimate == pytest.approx(-0.125)
    assert evaluation.at_hours(EGL, 2.5, CER) is None


def test_at_equal_hours_each_seed_follows_its_own_curve():
    # Seed 1 of EGL has 0.8 and 1.2 h, no 0.2 and 0.6: at 0.4 h it is half way from 40 to 20%.
    points = [(*p[:6], p[6] + 0.6, p[7]) if p[0] == "egl" and p[3] == 1 else p for p in POINTS]
    evaluation = Evaluation(run_of(points), replicates=20)
    assert evaluation.at_hours(EGL, 0.4, CER).estimate == pytest.approx((0.175 + 0.3) / 2)
    assert evaluation.mean_hours(EGL, "20%") == pytest.approx(0.5)


def test_at_equal_hours_seeds_are_compared_in_pairs():
    # Seed 1 of EGL was never run, and that of random is far worse.
    points = [p for p in POINTS if not (p[0] == "egl" and p[3] == 1)]
    points = [(*p[:7], (9, 27)) if p[0] == "random" and p[3] == 1 else p for p in points]
    comparison = Evaluation(run_of(points), replicates=20).compare_at_hours(EGL, RANDOM, 0.6, CER)
    assert comparison.difference.estimate == pytest.approx(0.15 - 0.25)
    assert len(comparison.by_seed) == 1


def test_budgets_rise_whatever_the_order_of_the_results():
    turned = Evaluation(run_of(POINTS[::-1]), replicates=5)
    assert [query.name for query in turned.queries] == ["20%", "40%"]


def test_rounds_alone_have_end_points_of_their_own():
    rounds = Evaluation(
        run_of([(p[0], "sequential", *p[2:]) for p in POINTS if p[0] != "random"]), replicates=5
    )
    curve = rounds.curve(Series("egl", "sequential"), CER)
    assert curve.queries == ("0%", "20%", "40%", "100%")


def test_label_efficiency_is_of_common_seeds():
    points = [p for p in POINTS if not (p[0] == "random" and p[3] == 1)]
    points = [(*p[:7], (9, 27)) if p[0] == "egl" and p[3] == 1 else p for p in points]
    half = Evaluation(run_of(points), replicates=5)
    assert half.label_efficiency(EGL, RANDOM, "20%", CER).estimate == pytest.approx(0.4)


def test_budgets_with_the_same_recordings_are_one_point():
    points = [
        *POINTS,
        *(("egl", "single", 1, seed, "0.2h", 0.2, 0.2, (2, 6)) for seed in (0, 1)),
    ]
    curve = Evaluation(run_of(points), replicates=5).curve(EGL, CER)
    assert curve.fractions.tolist() == [0.0, 0.2, 0.4, 1.0]


def test_a_curve_that_never_comes_down_is_said_to():
    points = [
        (s, m, r, seed, q, f, h, (0, 0) if (s, q) == ("egl", "20%") else e)
        for s, m, r, seed, q, f, h, e in POINTS
    ]
    span = Evaluation(run_of(points), replicates=50).label_efficiency(EGL, RANDOM, "20%", CER)
    assert (span.estimate, span.low, span.high) == (math.inf,) * 3


def test_only_seeds_that_both_have_are_compared():
    points = [p for p in POINTS if not (p[0] == "egl" and p[3] == 1)]
    points = [(*p[:7], (9, 27)) if p[0] == "random" and p[3] == 1 else p for p in points]
    half = Evaluation(run_of(points), replicates=50)
    assert half.compare(EGL, RANDOM, "20%", CER).by_seed == (pytest.approx(-0.1),)
    assert half.value(RANDOM, "20%", CER).estimate == pytest.approx((0.3 + 0.9) / 2)
    assert half.label_efficiency(EGL, RANDOM, "20%", CER).estimate == pytest.approx(0.4)
    assert half.compare_mean_height(EGL, RANDOM, CER).estimate == pytest.approx(-0.0625)
    assert half.num_missing() == 2
    none = [p for p in points if p[0] != "egl" or p[4] != "20%"]
    assert Evaluation(run_of(none), replicates=5).compare(EGL, RANDOM, "20%", CER) is None


def test_means_over_different_budgets_are_not_compared():
    points = [p for p in POINTS if p[:1] != ("egl",) or p[4] == "20%"]
    short = Evaluation(run_of(points), replicates=5)
    assert short.mean_height(EGL, CER) is None
    assert short.compare_mean_height(EGL, RANDOM, CER) is None
    assert short.mean_height(RANDOM, CER).estimate == pytest.approx(0.3)
    assert short.num_missing() == 0


def test_a_difference_that_not_every_seed_shows_is_not_claimed():
    points = [(*p[:7], (3, 10)) if p[:2] == ("egl", "single") and p[3] == 1 else p for p in POINTS]
    points = [(*p[:7], (0, 0)) if p[:1] == ("egl",) and p[3] == 0 else p for p in points]
    comparison = Evaluation(run_of(points), replicates=200).compare(EGL, RANDOM, "20%", CER)
    assert comparison.difference.high < 0
    assert comparison.verdict == "ahead"
    turned = Evaluation(run_of(points), replicates=200).compare(RANDOM, EGL, "20%", CER)
    assert turned.verdict == "behind"


def test_a_relative_reduction_is_that_of_the_means():
    # Seeds: 20 against 30%, and 20 against 10%. Of the means, 20 against 20%.
    points = [(*p[:7], (1, 3)) if p[0] == "random" and p[3] == 1 else p for p in POINTS]
    comparison = Evaluation(run_of(points), replicates=20).compare(EGL, RANDOM, "20%", CER)
    assert comparison.reduction.estimate == pytest.approx(0.0)
    assert comparison.reduction_by_seed == (pytest.approx(1 / 3), pytest.approx(-1.0))
    assert comparison.verdict == "open"


def test_of_several_rounds_to_one_budget_the_last_counts():
    points = [
        *POINTS,
        ("egl", "sequential", 1, 0, "20%", 0.1, 0.1, (9, 9)),
        ("egl", "sequential", 2, 0, "20%", 0.2, 0.2, (1, 1)),
    ]
    rounds = Evaluation(run_of(points), replicates=5)
    assert rounds.series[-1] == Series("egl", "sequential")
    assert rounds.value(Series("egl", "sequential"), "20%", CER).estimate == pytest.approx(2 / 40)
    # Its end points are those of the single batch.
    curve = rounds.curve(Series("egl", "sequential"), CER)
    assert curve.queries == ("0%", "20%", "100%")
    assert curve.fractions.tolist() == [0.0, 0.2, 1.0]


def test_tables_that_contradict_each_other():
    def missing(table):
        return table.filter(pl.col("unit") != "unit3")

    def other_utterances(table):
        return table.with_columns(
            pl.when(pl.col("unit") == "unit3").then(pl.col("id") + "x").otherwise("id").alias("id")
        )

    def other_references(table):
        changed = pl.when(pl.col("unit") == "unit3").then(99).otherwise("num_chars")
        return table.with_columns(changed.alias("num_chars"))

    for tests, message in (
        (missing, "'unit3', which test_utterances"),
        (other_utterances, "different utterances"),
        (other_references, "num_chars differs"),
    ):
        with pytest.raises(ReportError, match=message):
            Evaluation(run_of(POINTS, tests=tests))


def test_a_run_of_many_points_agrees_with_scipy(tmp_path, examples):
    run = read_run_folder(
        write_run(tmp_path, synthetic_scores(examples / "pool.jsonl"), num_test=80, seeds=(0,))
    )
    evaluation = Evaluation(run, replicates=4000)
    got = evaluation.compare(EGL, RANDOM, "20%", CER).difference
    units = {
        row["strategy"]: row["unit"]
        for row in run.results.filter(pl.col("query") == "20%").to_dicts()
    }
    egl, random = (
        run.test_utterances.filter(pl.col("unit") == units[name]).sort("id")
        for name in ("egl", "random")
    )

    def statistic(ours, theirs, lengths, axis):
        return ours.sum(axis) / lengths.sum(axis) - theirs.sum(axis) / lengths.sum(axis)

    expected = scipy.stats.bootstrap(
        (egl["char_errors"].to_numpy(), random["char_errors"].to_numpy(),
         egl["num_chars"].to_numpy()),
        statistic, paired=True, vectorized=True, method="percentile", n_resamples=4000, rng=1,
    ).confidence_interval  # fmt: skip
    width = expected.high - expected.low
    # Ends of 4000 resamples have a standard error of about 2% of the width each.
    assert got.low == pytest.approx(expected.low, abs=0.1 * width)
    assert got.high == pytest.approx(expected.high, abs=0.1 * width)
    assert np.isfinite([got.low, got.high]).all()
