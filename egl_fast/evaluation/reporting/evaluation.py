"""The numbers of an evaluation: means over seeds, and every comparison with its interval.

All metrics of all training runs are bootstrapped together, on the same resampled test sets
(``statistics.bootstrap``). Whatever is asked later - a difference, a label efficiency, the height
of a curve at equal hours - is computed from these values along with its interval, seeds in pairs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from egl_fast.errors import ReportError
from egl_fast.evaluation.reporting.measures import METRICS, Metric, Query, Series
from egl_fast.evaluation.statistics.bootstrap import Floats, Interval, bootstrap_ratios, interval
from egl_fast.evaluation.statistics.curves import budget_to_reach, interpolate, mean_height

if TYPE_CHECKING:
    import polars as pl

    from egl_fast.evaluation.reporting.run_folder import RunFolder

REPLICATES = 2000


@dataclass(frozen=True)
class Comparison:
    """One series against another at one query, over the seeds that both have.

    Attributes:
        difference: mean over seeds of (this - other); below zero is better.
        reduction: the same relative to the other, as a share; above zero is better.
        by_seed: the difference of each seed.
        reduction_by_seed: the relative reduction of each seed.
    """

    difference: Interval
    reduction: Interval
    by_seed: tuple[float, ...]
    reduction_by_seed: tuple[float, ...]

    @property
    def verdict(self) -> str:
        """What can be said about the difference.

        "better" or "worse": the interval excludes zero and every seed points the same way.
        "ahead" or "behind": the interval excludes zero, but not every seed agrees; the interval
        does not cover how much training runs differ. "open": neither.
        """
        if not self.difference.excludes_zero:
            return "open"
        if self.difference.high < 0:
            return "better" if max(self.by_seed) < 0 else "ahead"
        return "worse" if min(self.by_seed) > 0 else "behind"


@dataclass(frozen=True)
class Curve:
    """A series' metric against what was labeled, averaged over seeds.

    Attributes:
        queries: names of the points, end points included where the run has them.
        fractions: [Q] share of the pool's recordings, mean over seeds, rising.
        hours: [Q] hours labeled, mean over seeds.
        values: [1 + B, Q] bootstrapped means over seeds.
        by_seed: [S, Q].
        seeds: [S], those that have every point.
    """

    queries: tuple[str, ...]
    fractions: Floats
    hours: Floats
    values: Floats
    by_seed: Floats
    seeds: tuple[int, ...]


class Evaluation:
    """The results of a run, ready for questions.

    Args:
        run: its tables.
        replicates: resamples of the bootstrap.

    Raises:
        ReportError: training runs were tested on different utterances, or a table contradicts
            another.

    Attributes:
        series: in the order of the results; sequential ones after all single ones.
        queries: budgets between the end points, ascending.
        seeds: all of them, ascending.
        num_test: utterances of the test set.
        baseline: random selection, or None where it was not run.
    """

    def __init__(self, run: RunFolder, *, replicates: int = REPLICATES) -> None:
        rows = run.results.to_dicts()
        units, self._values = _bootstrapped(run.test_utterances, replicates)
        self.num_test = len(run.test_utterances) // len(units)
        self.replicates = replicates
        keys = ("pool_clips", "pool_seconds", "base_clips", "base_seconds")
        self.facts = {key: rows[0][key] for key in keys}
        self.seeds = tuple(sorted({int(row["seed"]) for row in rows}))
        self._points: dict[tuple[Series, str, int], tuple[dict[str, Any], int]] = {}
        fractions = defaultdict(list)
        for row in sorted(rows, key=lambda row: int(row["round"])):
            if row["unit"] not in units:
                raise ReportError(
                    f"run {run.path}: results name the unit {row['unit']!r}, which "
                    "test_utterances.parquet does not hold; run `egl-fast simulate` again"
                )
            # Of several rounds that lead to the same budget, the last one is the result.
            key = (Series(row["strategy"], row["mode"]), row["query"], int(row["seed"]))
            self._points[key] = (row, units[row["unit"]])
        for (series, query, _), (row, _) in self._points.items():
            if series.strategy:
                fractions[query].append(float(row["fraction"]))
        named = dict.fromkeys(series for series, _, _ in self._points if series.strategy)
        self.series = tuple(sorted(named, key=lambda series: series.mode != "single"))
        queries = [Query(name, float(np.mean(of))) for name, of in fractions.items()]
        self.queries = tuple(sorted(queries, key=lambda query: query.fraction))
        self.baseline = next((one for one in self.series if one.strategy == "random"), None)

    def end_points(self, mode: str) -> list[str]:
        """Queries that belong to every strategy of a mode (0% and 100%), ascending."""
        found = {
            query: float(row["fraction"])
            for (series, query, _), (row, _) in self._points.items()
            if series == self._ends(mode)
        }
        return sorted(found, key=lambda query: found[query])

    def _ends(self, mode: str) -> Series:
        """What a mode's end points are filed under: the mode, or else the single batch."""
        has_own = any(series == Series("", mode) for series, _, _ in self._points)
        return Series("", mode if has_own else "single")

    def _point(self, series: Series, query: str, seed: int) -> tuple[dict[str, Any], int] | None:
        own = self._points.get((series, query, seed))
        return own or self._points.get((self._ends(series.mode), query, seed))

    def seeds_of(self, wanted: Iterable[tuple[Series, str]]) -> tuple[int, ...]:
        """Seeds for which every (series, query) of ``wanted`` was run."""
        asked = list(wanted)
        return tuple(seed for seed in self.seeds if all(self._point(*one, seed) for one in asked))

    def _of_seeds(self, series: Series, query: str, metric: Metric, seeds: Sequence[int]) -> Floats:
        """Bootstrapped values [1 + B, S] of seeds out of ``seeds_of``."""
        points = [self._point(series, query, seed) for seed in seeds]
        return self._values[metric.key][:, [point[1] for point in points if point is not None]]

    def value(self, series: Series, query: str, metric: Metric) -> Interval | None:
        """A metric's mean over the seeds that have it; None where no seed does."""
        seeds = self.seeds_of([(series, query)])
        if not seeds:
            return None
        return interval(self._of_seeds(series, query, metric, seeds).mean(axis=1))

    def by_seed(self, series: Series, query: str, metric: Metric) -> tuple[float, ...]:
        """A metric's value for each seed that has it."""
        seeds = self.seeds_of([(series, query)])
        return tuple(self._of_seeds(series, query, metric, seeds)[0].tolist()) if seeds else ()

    def compare(
        self,
        this: Series,
        other: Series,
        query: str,
        metric: Metric,
        *,
        other_query: str | None = None,
    ) -> Comparison | None:
        """One series against another at a query, or the other at its own query.

        None where they share no seed.
        """
        pairs = (this, query), (other, other_query or query)
        seeds = self.seeds_of(pairs)
        return _comparison(*(self._of_seeds(*pair, metric, seeds) for pair in pairs))

    def curve(
        self, series: Series, metric: Metric, *, seeds: Sequence[int] | None = None
    ) -> Curve | None:
        """A metric against what was labeled, over all queries that the series has.

        Args:
            series: which.
            metric: which.
            seeds: take only these; otherwise all that have every query.

        Returns:
            None where no seed has every query.
        """
        names = [*self.end_points(series.mode), *(query.name for query in self.queries)]
        present = [name for name in names if self.seeds_of([(series, name)])]
        having = self.seeds_of((series, name) for name in present)
        if seeds is not None:
            having = tuple(seed for seed in seeds if seed in having)
        if not having or not present:
            return None
        x = {name: self._mean(series, name, "fraction", having) for name in present}
        # Two budgets may come down to the same recordings; a curve has one point there.
        first_at = {x[name]: name for name in reversed(present)}
        present = [first_at[fraction] for fraction in sorted(first_at)]
        hours = [self._mean(series, name, "labeled_seconds", having) / 3600 for name in present]
        each = [self._of_seeds(series, name, metric, having) for name in present]
        values = np.stack(each, axis=-1)
        return Curve(
            tuple(present),
            np.array(sorted(first_at)),
            np.array(hours),
            values.mean(axis=1),
            values[0],
            having,
        )

    def label_efficiency(
        self, this: Series, other: Series, query: str, metric: Metric
    ) -> Interval | None:
        """The share of the pool at which ``other`` does as well as ``this`` does at a query.

        Infinite where the other's curve never comes down that far, or starts below. None where
        they share no seed or the other has no curve.
        """
        curve = self.curve(other, metric, seeds=self.seeds_of([(this, query)]))
        if curve is None:
            return None
        target = self._of_seeds(this, query, metric, curve.seeds).mean(axis=1)
        return interval(budget_to_reach(curve.fractions, curve.values, target))

    def mean_height(self, series: Series, metric: Metric) -> Interval | None:
        """The metric averaged over budgets from none to the largest query (area / width)."""
        heights = self._mean_heights(series, metric)
        return None if heights is None else interval(heights)

    def compare_mean_height(self, this: Series, other: Series, metric: Metric) -> Interval | None:
        """Difference of two mean heights over the seeds that both have."""
        curve = self.curve(this, metric)
        other_curve = self.curve(other, metric, seeds=None if curve is None else curve.seeds)
        if curve is None or other_curve is None:
            return None
        ours, theirs = (self._mean_heights(s, metric, other_curve.seeds) for s in (this, other))
        return None if ours is None or theirs is None else interval(ours - theirs)

    def _mean_heights(
        self, series: Series, metric: Metric, seeds: Sequence[int] | None = None
    ) -> Floats | None:
        """[1 + B], up to the largest query: what lies beyond is the same for every strategy.

        None where a query is missing: the mean over other budgets could not be compared.
        """
        curve = self.curve(series, metric, seeds=seeds)
        if curve is None or not {query.name for query in self.queries} <= set(curve.queries):
            return None
        own = curve.fractions <= self.queries[-1].fraction + 1e-9
        return mean_height(curve.fractions[own], curve.values[:, own]) if own.sum() > 1 else None

    def at_hours(self, series: Series, hours: float, metric: Metric) -> Interval | None:
        """The metric at a number of labeled hours, along each seed's own curve; then their mean.

        None where no seed's curve covers that many hours.
        """
        values = self._at_hours(series, hours, metric)
        return interval(np.mean(list(values.values()), axis=0)) if values else None

    def compare_at_hours(
        self, this: Series, other: Series, hours: float, metric: Metric
    ) -> Comparison | None:
        """One series against another where both have labeled the same number of hours."""
        ours, theirs = (self._at_hours(series, hours, metric) for series in (this, other))
        seeds = [seed for seed in ours if seed in theirs]
        if not seeds:
            return None
        return _comparison(*(np.stack([of[s] for s in seeds], axis=-1) for of in (ours, theirs)))

    def _at_hours(self, series: Series, hours: float, metric: Metric) -> dict[int, Floats]:
        """Bootstrapped values [1 + B] of each seed whose curve covers that many hours."""
        found = {}
        for seed in self.seeds:
            curve = self.curve(series, metric, seeds=[seed])
            if curve is not None and (np.diff(curve.hours) > 0).all():
                values = interpolate(curve.hours, curve.values, hours)
                if not np.isnan(values[0]):
                    found[seed] = values
        return found

    def num_missing(self) -> int:
        """How many more points a complete run would have; not every series has every query."""
        counts = (
            len(self.seeds_of([(series, query.name)]))
            for series in self.series
            for query in self.queries
        )
        return sum(len(self.seeds) - count for count in counts if count)

    def num_labeled(self, series: Series, query: str, seed: int) -> int | None:
        """Recordings of the pool labeled at a query; None where this seed was not run."""
        point = self._point(series, query, seed)
        return None if point is None else int(point[0]["num_labeled"])

    def mean_hours(self, series: Series, query: str) -> float | None:
        """Hours labeled at a query, averaged over seeds."""
        seeds = self.seeds_of([(series, query)])
        return self._mean(series, query, "labeled_seconds", seeds) / 3600 if seeds else None

    def _mean(self, series: Series, query: str, column: str, seeds: Sequence[int]) -> float:
        points = (self._point(series, query, seed) for seed in seeds)
        return float(np.mean([point[0][column] for point in points if point is not None]))


def _comparison(ours: Floats, theirs: Floats) -> Comparison | None:
    """Of bootstrapped values [1 + B, S], seeds in pairs; None without a seed."""
    if ours.shape[1] == 0:
        return None
    means = ours.mean(axis=1), theirs.mean(axis=1)
    return Comparison(
        interval(means[0] - means[1]),
        interval(_reduction(*means)),
        tuple((ours - theirs)[0].tolist()),
        tuple(_reduction(ours, theirs)[0].tolist()),
    )


def _reduction(ours: Floats, theirs: Floats) -> Floats:
    return np.divide(theirs - ours, theirs, out=np.zeros_like(theirs), where=theirs > 0)


def _bootstrapped(
    test_utterances: pl.DataFrame, replicates: int
) -> tuple[dict[str, int], dict[str, Floats]]:
    """Places of the U units, and each metric's values [1 + B, U]."""
    table = test_utterances.sort("unit", "id")
    if table.select("unit", "id").is_duplicated().any():
        raise ReportError("test_utterances: holds a unit's test utterance twice")
    parts = table.partition_by("unit", maintain_order=True)
    first = parts[0]
    for part in parts:
        for column in ("id", "num_chars", "num_words"):
            if not part[column].equals(first[column]):
                of = f"the units {first['unit'][0]!r} and {part['unit'][0]!r}"
                raise ReportError(
                    f"test_utterances: {of} were tested on different utterances; only results on "
                    "the same test set can be compared"
                    if column == "id"
                    else f"test_utterances: {column} differs between {of}; their references were "
                    "not the same"
                )
    values = {}
    for metric in METRICS:
        numerators = np.stack([part[metric.numerator].to_numpy() for part in parts]).astype(float)
        below = np.ones(len(first))
        if metric.denominator is not None:
            below = first[metric.denominator].to_numpy().astype(float)
        if not below.sum() > 0:
            raise ReportError(
                f"test_utterances: {metric.denominator} is 0 in every row, so there is no "
                f"{metric.long_label}"
            )
        # One seed for all metrics: they are resampled together, too.
        values[metric.key] = bootstrap_ratios(numerators, below, replicates=replicates, seed=0)
    return {part["unit"][0]: place for place, part in enumerate(parts)}, values
