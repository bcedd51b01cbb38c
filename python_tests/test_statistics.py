"""The statistics of the evaluation, against scipy, enumeration and values worked by hand."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from egl_fast.evaluation.statistics import rank_correlation
from egl_fast.evaluation.statistics.bootstrap import bootstrap_ratios, interval, resampled_counts
from egl_fast.evaluation.statistics.curves import budget_to_reach, interpolate, mean_height
from egl_fast.evaluation.statistics.rank_correlation import midranks, spearman

INF = float("inf")


class TestBootstrap:
    def test_the_first_row_is_the_sample(self):
        errors = np.array([[1.0, 0, 3], [2, 2, 2]])
        lengths = np.array([10.0, 5, 5])
        values = bootstrap_ratios(errors, lengths, replicates=3, seed=0)
        assert values.shape == (4, 2)
        assert values[0].tolist() == [4 / 20, 6 / 20]

    def test_the_distribution_is_that_of_all_resamples(self):
        # 4^4 equally probable resamples can be listed; their quantiles are the truth.
        errors = np.array([[0.0, 1, 4, 2]])
        lengths = np.array([3.0, 5, 6, 2])
        ratios = sorted(
            sum(errors[0, list(drawn)]) / sum(lengths[list(drawn)])
            for drawn in itertools.product(range(4), repeat=4)
        )
        values = bootstrap_ratios(errors, lengths, replicates=20_000, seed=1)[1:, 0]
        support = np.unique(np.round(ratios, 12))
        assert set(np.round(values, 12)) <= set(support)
        share = [np.mean(np.isclose(values, ratio)) for ratio in support]
        truth = [np.mean(np.isclose(ratios, ratio)) for ratio in support]
        # Binomial standard error at most 0.5 / sqrt(20000) = 0.0035; five of them.
        assert np.abs(np.subtract(share, truth)).max() < 0.018

    def test_rows_see_the_same_resamples(self):
        errors = np.random.default_rng(0).poisson(3.0, (2, 50)).astype(float)
        errors = np.vstack([errors, errors[0] - errors[1]])
        values = bootstrap_ratios(errors, np.ones(50), replicates=100, seed=3)
        np.testing.assert_allclose(values[:, 0] - values[:, 1], values[:, 2], atol=1e-12)

    def test_pairing_narrows_what_two_noisy_runs_share(self):
        rng = np.random.default_rng(0)
        hard = rng.exponential(10.0, 300)
        values = bootstrap_ratios(
            np.stack([hard, hard + rng.normal(0.5, 0.1, 300)]), np.ones(300), replicates=500, seed=0
        )
        alone, paired = interval(values[:, 1]), interval(values[:, 1] - values[:, 0])
        assert paired.excludes_zero
        assert paired.high - paired.low < (alone.high - alone.low) / 20

    def test_blocks_change_nothing(self, monkeypatch):
        errors = np.arange(12.0).reshape(1, 12)
        whole = bootstrap_ratios(errors, np.ones(12), replicates=50, seed=5)
        monkeypatch.setattr("egl_fast.evaluation.statistics.bootstrap._BLOCK_NUMBERS", 40)
        assert np.array_equal(bootstrap_ratios(errors, np.ones(12), replicates=50, seed=5), whole)

    def test_the_seed_decides(self):
        errors = np.arange(12.0).reshape(1, 12)
        one, again, other = (
            bootstrap_ratios(errors, np.ones(12), replicates=9, seed=seed) for seed in (1, 1, 2)
        )
        assert np.array_equal(one, again)
        assert not np.array_equal(one[1:], other[1:])

    def test_every_resample_has_the_size_of_the_sample(self):
        counts = np.concatenate([block for _, block in resampled_counts(7, 100, 0)])
        assert counts.shape == (100, 7)
        assert (counts.sum(axis=1) == 7).all()

    def test_a_resample_without_reference_repeats_the_sample(self):
        # Only utterance 1 has a length: resamples without it have no ratio of their own. Those
        # with both have the sample's 5 / 2, those with only 1 have 4 / 4.
        values = bootstrap_ratios(
            np.array([[3.0, 2.0]]), np.array([0.0, 2.0]), replicates=99, seed=0
        )
        assert set(values[:, 0]) == {2.5, 1.0}

    @pytest.mark.parametrize(
        ("errors", "lengths", "message"),
        [
            (np.ones((1, 2)), np.ones(3), "expected"),
            (np.ones((1, 0)), np.ones(0), "n > 0"),
            (np.ones((1, 2)), np.zeros(2), "above 0"),
        ],
    )
    def test_what_has_no_ratio_is_refused(self, errors, lengths, message):
        with pytest.raises(ValueError, match=message):
            bootstrap_ratios(errors, lengths, replicates=1, seed=0)


class TestInterval:
    def test_it_holds_95_of_100_resamples(self):
        got = interval(np.array([50.0, *range(1, 101)]))
        assert (got.estimate, got.low, got.high) == (50.0, 3.0, 98.0)
        # The sample is none of them, wherever it lies.
        got = interval(np.array([1000.0, *range(1, 101)]))
        assert (got.estimate, got.low, got.high) == (1000.0, 3.0, 98.0)

    def test_infinities_are_values_like_others(self):
        got = interval(np.array([40.0, *[30.0] * 50, *[INF] * 50]))
        assert (got.low, got.high) == (30.0, INF)

    def test_without_resamples_nothing_is_known(self):
        got = interval(np.array([1.0]))
        assert (got.low, got.high) == (-INF, INF)
        assert not got.excludes_zero

    def test_intervals_cover_as_often_as_they_say(self):
        # The mean of 80 exponentials: 400 data sets, of which about 95% should be covered. The
        # percentile interval is a little short at this size; three standard errors of 400 trials.
        rng = np.random.default_rng(0)
        covered = 0
        for trial in range(400):
            sample = rng.exponential(1.0, (1, 80))
            got = interval(bootstrap_ratios(sample, np.ones(80), replicates=300, seed=trial)[:, 0])
            covered += got.low <= 1.0 <= got.high
        assert 0.95 - 0.02 - 0.033 < covered / 400 < 0.95 + 0.033


class TestCurves:
    X = np.array([0.0, 20.0, 40.0, 100.0])
    Y = np.array([[16.0, 12.0, 10.0, 4.0], [16.0, 16.0, 17.0, 8.0]])

    def test_interpolation(self):
        assert interpolate(self.X, self.Y, 30.0).tolist() == [11.0, 16.5]
        assert interpolate(self.X, self.Y, 0.0).tolist() == [16.0, 16.0]
        assert interpolate(self.X, self.Y, 100.0).tolist() == [4.0, 8.0]
        assert np.isnan(interpolate(self.X, self.Y, 100.1)).all()
        assert interpolate(self.X[:1], self.Y[:, :1], 0.0).tolist() == [16.0, 16.0]

    def test_mean_height(self):
        assert mean_height(self.X[:3], self.Y[:, :3]).tolist() == [12.5, 16.25]
        assert mean_height(self.X[1:3], self.Y[:, 1:3]).tolist() == [11.0, 16.5]

    def test_budget_to_reach(self):
        targets = np.array([11.0, 17.0])
        assert budget_to_reach(self.X, self.Y, targets).tolist() == [30.0, -INF]
        assert budget_to_reach(self.X, self.Y, np.array([3.0, 7.9])).tolist() == [INF, INF]
        assert budget_to_reach(self.X, self.Y, np.array([16.0, 16.0])).tolist() == [0.0, 0.0]
        assert budget_to_reach(self.X, self.Y, np.array([4.0, 12.5])).tolist() == [100.0, 70.0]

    def test_the_first_crossing_counts(self):
        wavy = np.array([10.0, 6.0, 9.0, 5.0])
        assert budget_to_reach(self.X, wavy, np.array(8.0)).tolist() == 10.0

    @given(
        st.lists(st.floats(0, 100), min_size=2, max_size=6),
        st.floats(-10, 110),
    )
    def test_at_the_budget_the_curve_has_the_height(self, heights, target):
        x = np.arange(len(heights), dtype=float)
        y = np.array(heights)
        budget = float(budget_to_reach(x, y, np.array(target)))
        if budget == INF:
            assert y.min() > target
        elif budget == -INF:
            assert y[0] < target
        else:
            np.testing.assert_allclose(interpolate(x, y, budget), target, atol=1e-6)
            assert (y[x < budget] > target).all() or y[0] == target

    def test_shapes_are_checked(self):
        with pytest.raises(ValueError, match="expected"):
            interpolate(self.X, np.ones(3), 1.0)
        with pytest.raises(ValueError, match="rising"):
            mean_height(np.array([0.0, 0.0]), np.ones(2))
        with pytest.raises(ValueError, match="two points"):
            mean_height(np.array([0.0]), np.ones(1))


class TestRankCorrelation:
    @given(st.lists(st.integers(0, 5), min_size=1, max_size=12))
    def test_midranks_agree_with_scipy(self, values):
        values = np.array(values, dtype=float)
        assert midranks(values).tolist() == scipy.stats.rankdata(values).tolist()

    @given(st.data())
    def test_counts_are_repetitions(self, data):
        values = np.array(data.draw(st.lists(st.integers(0, 3), min_size=2, max_size=8)), float)
        counts = np.array(
            data.draw(st.lists(st.integers(0, 3), min_size=len(values), max_size=len(values)))
        )
        repeated = np.repeat(values, counts)
        expected = scipy.stats.rankdata(repeated)
        got = np.repeat(midranks(values, counts.astype(float)), counts)
        assert got.tolist() == expected.tolist()

    def test_estimates_agree_with_scipy(self):
        rows = np.random.default_rng(0).integers(0, 9, (3, 40)).astype(float)
        rows[2] += rows[0]
        got = spearman(rows, replicates=0).estimate
        np.testing.assert_allclose(got, scipy.stats.spearmanr(rows, axis=1).statistic, atol=1e-12)

    def test_intervals_agree_with_resampling_one_by_one(self):
        rng = np.random.default_rng(0)
        rows = rng.normal(size=(2, 60))
        rows[1] += rows[0]
        got = spearman(rows, replicates=400, seed=7)
        values = []
        for _, block in resampled_counts(60, 400, 7, rows=2):
            for counts in block.astype(int):
                drawn = np.repeat(np.arange(60), counts)
                values.append(scipy.stats.spearmanr(*rows[:, drawn]).statistic)
        low, high = np.quantile(values, [0.025, 0.975])
        assert got.low[0, 1] == pytest.approx(low, abs=1e-9)
        assert got.high[0, 1] == pytest.approx(high, abs=1e-9)

    def test_the_formula_for_many_agrees_with_resampling(self, monkeypatch):
        rng = np.random.default_rng(1)
        rows = rng.normal(size=(2, 3000))
        rows[1] += 0.8 * rows[0]
        sampled = spearman(rows, replicates=1000, seed=0)
        monkeypatch.setattr(rank_correlation, "MAX_BOOTSTRAP_SIZE", 100)
        formula = spearman(rows)
        width = sampled.high[0, 1] - sampled.low[0, 1]
        assert formula.estimate[0, 1] == sampled.estimate[0, 1]
        assert formula.low[0, 1] == pytest.approx(sampled.low[0, 1], abs=0.15 * width)
        assert formula.high[0, 1] == pytest.approx(sampled.high[0, 1], abs=0.15 * width)
        assert formula.high[0, 0] == 1.0

    def test_a_constant_ranks_nothing(self):
        rows = np.array([[1.0] * 10, list(range(10))])
        for replicates in (0, 20):
            got = spearman(rows, replicates=replicates)
            assert np.isnan(got.estimate[0, 1])
            assert got.estimate[1, 1] == pytest.approx(1.0)

    def test_three_utterances_tell_nothing(self):
        got = spearman(np.array([[1.0, 2, 3], [1, 2, 3]]))
        assert (got.low[0, 1], got.high[0, 1]) == (-1.0, 1.0)

    def test_the_formula_on_a_value_worked_by_hand(self):
        # rho = 0.6, N = 4: z = 0.6931, its standard error sqrt((1 + 0.18) / 1) = 1.0863; 1.96 of
        # them to both sides are -1.4359 and 2.8222.
        got = spearman(np.array([[1.0, 2, 3, 4], [2, 1, 4, 3]]), replicates=0)
        assert got.estimate[0, 1] == pytest.approx(0.6)
        assert got.low[0, 1] == pytest.approx(math.tanh(-1.4359), abs=1e-4)
        assert got.high[0, 1] == pytest.approx(math.tanh(2.8222), abs=1e-4)

    def test_resamples_of_equal_values_say_nothing(self):
        # A third of the resamples leaves out the one value that differs, and ranks nothing.
        rows = np.array([[0.0] * 9 + [1.0], list(range(10))])
        got = spearman(rows, replicates=200)
        assert np.isfinite(got.low).all()
        assert np.isfinite(got.high).all()
        assert got.low[0, 1] <= got.estimate[0, 1] <= got.high[0, 1]
