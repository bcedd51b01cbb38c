"""The sentences of a report: they follow the numbers and claim no more than the intervals allow."""

import math

import numpy as np
import pytest
from test_report_evaluation import POINTS, run_of

from egl_fast.evaluation.reporting.evaluation import Evaluation
from egl_fast.evaluation.reporting.findings import run_findings
from egl_fast.evaluation.reporting.measures import METRICS, Series
from egl_fast.evaluation.reporting.names import look as look_of
from egl_fast.evaluation.reporting.picked import describe, group_names, overlap
from egl_fast.evaluation.reporting.pool_findings import picked_findings, ranking_findings
from egl_fast.evaluation.reporting.ranking import GRID_SIZE, MAX_POINTS, SAMPLE_SIZE, rank_pool
from egl_fast.evaluation.reporting.run_page import run_page
from egl_fast.evaluation.reporting.scores_file import Groups, ScoresFile
from egl_fast.evaluation.reporting.wording import percent_range
from egl_fast.evaluation.statistics.bootstrap import Interval
from egl_fast.evaluation.table_columns import CONTROLS
from egl_fast.records import STRATEGIES


def findings_of(points, subject=None):
    evaluation = Evaluation(run_of(points), replicates=200)
    return {f.title: f for f in run_findings(evaluation, subject=subject)}


def test_a_clear_difference_is_stated_with_its_interval():
    found = findings_of(POINTS)
    first = found["EGL beats random selection at 20%"]
    assert first.verdict == "better"
    assert (
        "its CER is 20.0%, and random selection's is 30.0%: 33.3% lower "
        "(95% interval 33.3 to 33.3%), and lower in 2 of 2 seeds" in first.text
    )
    assert "At the other budget, the same comparison finds it better." in first.text


def test_the_worth_of_a_label():
    found = findings_of(POINTS)["20% by EGL is worth 40% at random"]
    assert found.verdict == "better"
    assert "(95% interval: 40 to 40%)" in found.text


def test_a_label_whose_worth_is_not_certain():
    # 30% on average, which random has at 20%; in resamples 0 to 40%: all of the curve.
    points = [(*p[:7], (0, 12)) if p[0] == "egl" and p[4] == "20%" else p for p in POINTS]
    assert findings_of(points)["20% by EGL is worth 20% at random"].verdict == "open"


def test_half_of_the_labels():
    same = findings_of(POINTS)["20% by EGL and 40% at random cannot be told apart"]
    assert same.verdict == "open"
    better = [(*p[:7], (0, 1)) if p[0] == "egl" else p for p in POINTS]
    found = findings_of(better)["20% by EGL beats 40% at random"]
    assert "with half of the labels, and lower in 2 of 2 seeds" in found.text
    only_20 = [p for p in POINTS if p[4] != "40%"]
    assert not any("40% at random" in title for title in findings_of(only_20))


def test_results_beyond_the_curve_of_random_are_said():
    best = [(*p[:7], (0, 0)) if p[0] == "egl" else p for p in POINTS]
    assert "20% by EGL is beyond anything random selection reached" in findings_of(best)
    worst = [(*p[:7], (9, 27)) if p[0] == "egl" else p for p in POINTS]
    found = findings_of(worst)
    assert "20% by EGL is worth no random labels at all" in found
    assert found["EGL does worse than random selection at 20%"].verdict == "worse"
    assert "200.0% higher" in found["EGL does worse than random selection at 20%"].text


def test_the_budget_nearest_to_the_papers_is_spoken_of():
    more = [(*p[:4], "5%", 0.05, 0.1, p[7]) for p in POINTS if p[4] == "20%"]
    rounds = [("egl", "sequential", *p[2:]) for p in [*more, *POINTS] if p[0] == "egl"]
    found = findings_of([*more, *POINTS, *rounds])
    assert "EGL beats random selection at 20%" in found
    again = found["EGL in rounds and EGL in a single batch cannot be told apart"]
    assert again.text.startswith("At 20%, with the pool scored again")


def test_an_extrapolation_carries_a_warning():
    assert not any("Nothing was measured" in f.text for f in findings_of(POINTS).values())
    points = [(*p[:7], (1, 5)) if p[:1] == ("egl",) else p for p in POINTS]
    found = findings_of(points)["20% by EGL is worth 70% at random"]
    assert "Nothing was measured between 40% and 100%" in found.text


def test_equal_hours_are_compared():
    found = findings_of(POINTS)["At equal hours, EGL beats random selection"]
    assert "20% of the recordings is 12.0 min of audio by EGL and 24.0 min at random" in found.text
    assert "its picks are shorter" in found.text
    assert "With 24.0 min labeled by both, its CER is 41.7% lower" in found.text


def test_no_difference_is_no_claim():
    # Errors move from one utterance to the other.
    points = [(*p[:7], (6, 6)) if p[0] == "egl" and p[4] == "20%" else p for p in POINTS]
    found = findings_of(points)
    assert found["EGL and random selection cannot be told apart at 20%"].verdict == "open"
    assert not any("beats random selection at 20" in title for title in found)


def test_seeds_that_disagree_are_no_win():
    points = [(*p[:7], (3, 10)) if p[0] == "egl" and p[3] == 1 else p for p in POINTS]
    points = [(*p[:7], (0, 0)) if p[0] == "egl" and p[3] == 0 else p for p in points]
    found = findings_of(points)
    assert "EGL tends to beat random selection at 20%" in found


def test_a_seed_that_is_level_is_not_lower():
    points = [(*p[:7], (3, 9)) if p[0] == "egl" and p[3] == 1 else p for p in POINTS]
    found = findings_of(points)["EGL tends to beat random selection at 20%"]
    assert "lower in 1 of 2 seeds" in found.text


def test_against_confidence_and_the_lowest():
    entropy = [("entropy", *p[1:7], (2, 9)) for p in POINTS if p[0] == "random"]
    pctc = [("pctc", *p[1:7], (1, 3)) for p in POINTS if p[0] == "random"]
    found = findings_of([*POINTS, *entropy, *pctc])
    mixed = found["EGL against confidence at 20%: mixed"]
    assert mixed.verdict == "open"
    assert "27.3% lower (95% interval" in mixed.text
    assert "100.0% higher (95% interval" in mixed.text
    lowest = found["Lowest at 20%: pCTC"]
    assert lowest.verdict == "fact"
    assert "Every other strategy is worse" in lowest.text
    assert "is luck" in lowest.text


def test_what_cannot_be_told_from_the_lowest_is_named():
    entropy = [("entropy", *p[1:7], (0, 7)) for p in POINTS if p[0] == "random"]
    found = findings_of([*POINTS, *entropy])["Lowest at 20%: entropy"]
    assert "its mean CER over seeds is 17.5%" in found.text
    assert "By the paired intervals, EGL cannot be told apart from it." in found.text


def test_what_shares_no_seed_with_the_lowest_is_not_called_worse():
    entropy = [("entropy", *p[1:7], (0, 1)) for p in POINTS if p[0] == "random" and p[3] == 1]
    points = [p for p in POINTS if not (p[0] == "egl" and p[3] == 1)]
    found = findings_of([*points, *entropy])["Lowest at 20%: entropy"]
    assert "By the paired intervals, EGL cannot be told apart from it." in found.text


def test_the_interval_of_something_worse_goes_upwards():
    # Random's errors are (3, 9): one more in a is 33% more there, three more in b too.
    points = [(*p[:7], (4, 18)) if p[0] == "egl" else p for p in POINTS]
    found = findings_of(points)["EGL does worse than random selection at 20%"]
    assert "83.3% higher (95% interval 33.3 to 100.0%)" in found.text


def test_without_random_nothing_is_said_against_it():
    found = findings_of([p for p in POINTS if p[0] != "random"])
    assert "random" not in str(found)


def test_rounds_are_compared_with_a_single_batch():
    rounds = [("egl", "sequential", *p[2:7], (1, 1)) for p in POINTS if p[0] == "egl"]
    found = findings_of([*POINTS, *rounds])["EGL in rounds beats EGL in a single batch"]
    assert "75.0% lower" in found.text
    of_rounds = findings_of([*POINTS, *rounds], subject=Series("egl", "sequential"))
    assert not [title for title in of_rounds if "in a single batch" in title]


def test_rounds_on_the_way_are_not_missing():
    singles = [p for p in POINTS if p[4] != "40%"]
    rounds = [
        ("egl", "sequential", number, seed, query, fraction, 0.1, (1, 1))
        for number, (query, fraction) in enumerate([("10%", 0.1), ("20%", 0.2)], start=1)
        for seed in (0, 1)
    ]

    def warnings(points):
        run = run_of(points)
        evaluation = Evaluation(run, replicates=20)
        return run_page(
            run, evaluation, {}, {}, with_paper=False, audio=0, advance=lambda *_: None
        ).warnings

    assert warnings([*singles, *rounds]) == []
    [warning] = warnings([*singles, *rounds[:-1]])
    assert "lack a seed" in warning


def test_an_interval_from_nothing_to_more_than_everything():
    assert percent_range(Interval(0.5, -math.inf, math.inf)) == "nothing to more than 100%"


@pytest.mark.parametrize(
    ("egl", "title"),
    [
        (np.arange(30.0), "EGL's ranking agrees with entropy's (ρ = 1.00)"),
        (-np.arange(30.0), "EGL's ranking runs against entropy's (ρ = −1.00)"),
        (np.cos(np.arange(30.0) * 2.0), "EGL's ranking is unrelated to entropy's (ρ = −0.01)"),
    ],
)
def test_correlation_with_entropy_is_put_into_words(egl, title):
    ranking = rank_pool({"egl": egl, "entropy": np.arange(30.0)}, replicates=200)
    [found] = ranking_findings(ranking, [ranking, ranking])
    assert found.title == title
    assert "2 base models" in found.text
    assert ranking_findings(rank_pool({"egl": egl})) == []


def a_pool(durations, kinds):
    names = tuple(dict.fromkeys(kinds))
    return ScoresFile(
        path=None,
        strategies={},
        stderrs={},
        durations=np.array(durations, float),
        beam_mass=np.ones(len(durations)),
        typicality=np.full(len(durations), np.nan),
        groups={"kind": Groups(names, np.array([names.index(kind) for kind in kinds]))},
        ids=(),
        incomplete=(),
    )


def test_picks_are_compared_with_the_pool():
    pool = a_pool([1, 2, 3, 4], ["", "noise", "", ""])
    everything = describe(pool, [np.arange(4)])
    assert everything.shares["kind"] == (0.75, 0.25)
    assert everything.mean_seconds == 2.5
    picked = describe(pool, [np.array([0, 1]), np.array([1])])
    assert picked.shares["kind"] == (0.25, 0.75)
    assert picked.recordings == 1.5
    assert picked.mean_seconds == pytest.approx((1.5 + 2) / 2)
    found = picked_findings(everything, {"egl": picked}, group_names(pool.groups["kind"]), "20%")
    assert [finding.title for finding in found] == [
        "EGL picks more outliers than chance",
        "EGL picks shorter recordings than average",
    ]
    assert "75.0% of its top 20% and 25.0% of the pool: noise 75.0%" in found[0].text
    with pytest.raises(ValueError, match="at least one"):
        describe(pool, [np.array([], int)])


def test_small_groups_are_added_up():
    groups = Groups(tuple("abcdefghij"), np.repeat(np.arange(10), [9, 8, 7, 6, 5, 4, 3, 2, 1, 1]))
    assert group_names(groups) == (*"abcdefg", "other")
    pool = a_pool(np.ones(46), [groups.names[code] for code in groups.codes])
    shares = describe(pool, [np.arange(46)]).shares["kind"]
    assert shares == pytest.approx([9 / 46, 8 / 46, 7 / 46, 6 / 46, 5 / 46, 4 / 46, 3 / 46, 4 / 46])


def test_lengths_and_speakers_are_averaged_over_seeds():
    pool = a_pool([*range(1, 12)], [""] * 11)
    pool.groups["speaker"] = Groups(("a", "b"), np.array([0, 1] + [0] * 9))
    picked = describe(pool, [np.arange(11), np.array([0, 2, 3])])
    assert picked.hours == pytest.approx((66 + 8) / 2 / 3600)
    assert picked.speakers == 1.5
    assert "speaker" not in picked.shares
    everything = describe(pool, [np.arange(11)])
    assert everything.quantiles == pytest.approx((2.0, 3.5, 6.0, 8.5, 10.0))


def test_overlap_is_of_common_seeds():
    one = {0: np.array([1, 2]), 1: np.array([3, 4])}
    assert overlap(one, {0: np.array([2, 9]), 7: np.array([3])}) == 0.5
    assert overlap(one, {2: np.array([1])}) is None
    # Budgets of time take different numbers of recordings; the share is that of the first.
    assert overlap({0: np.array([1, 2, 3, 4])}, {0: np.array([4])}) == 0.25


class TestRanking:
    def test_ties_share_a_rank_and_one_is_most_informative(self):
        ranking = rank_pool({"egl": np.array([7.0, 1, 7, 9, 0])}, replicates=0)
        assert ranking.ranks.tolist() == [[0.625, 0.25, 0.625, 1.0, 0.0]]
        assert not ranking.is_sampled
        assert rank_pool({"egl": np.array([7.0])}).ranks.tolist() == [[0.0]]

    def test_a_large_pool_is_counted_in_cells(self):
        size = MAX_POINTS + 1
        scores = {"egl": np.arange(size), "entropy": -np.arange(size), "random": np.zeros(size)}
        ranking = rank_pool({k: v.astype(float) for k, v in scores.items()}, replicates=0)
        assert ranking.is_sampled
        assert len(np.unique(ranking.shown)) == SAMPLE_SIZE
        grids = {(one, other): counts for one, other, counts in ranking.grids()}
        assert set(grids) == {("egl", "entropy"), ("egl", "random"), ("entropy", "random")}
        opposed = grids["egl", "entropy"]
        assert opposed.sum() == size
        # Equal scores are all in the middle, whatever the other rank.
        assert grids["egl", "random"][:, GRID_SIZE // 2].sum() == size
        # Rows by egl ascending: all lies on the other diagonal, give or take the cell's edge.
        rows, columns = np.nonzero(opposed)
        assert set(rows + columns) <= {GRID_SIZE - 2, GRID_SIZE - 1, GRID_SIZE}


def luminance(color):
    """Relative luminance by WCAG 2."""
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("strategy", [*STRATEGIES, *CONTROLS, "badge", "x", "coreset"])
def test_colors_stand_out_from_the_page(strategy):
    look = look_of(Series(strategy, "single"))
    for color, page in ((look.light, "#ffffff"), (look.dark, "#12161b")):
        bright, dim = sorted((luminance(color), luminance(page)), reverse=True)
        assert (bright + 0.05) / (dim + 0.05) >= 3.0


def test_no_two_strategies_look_alike():
    assert not {*STRATEGIES} & {*CONTROLS}, "a strategy has the name of a control of simulate"
    looks = [look_of(Series(name, mode)) for name in [*STRATEGIES, *CONTROLS]
             for mode in ("single", "sequential")]  # fmt: skip
    assert len({look.label for look in looks}) == len(looks)
    count = len([*STRATEGIES, *CONTROLS])
    assert len({look.light for look in looks}) == len({look.dark for look in looks}) == count


def test_metrics_are_those_of_the_paper():
    assert [metric.label for metric in METRICS] == ["CER", "WER", "CTC loss"]
