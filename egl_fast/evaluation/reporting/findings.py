"""Sentences made of a run's numbers, with their intervals; none says more than the numbers do.

A difference is called one only where its interval excludes zero. Elsewhere the sentence says that
the two cannot be told apart, which does not mean that they are equal.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from egl_fast.evaluation.reporting.evaluation import Comparison, Evaluation
from egl_fast.evaluation.reporting.measures import METRICS, Metric, Query, Series
from egl_fast.evaluation.reporting.names import label, look
from egl_fast.evaluation.reporting.wording import (
    SAME_HOURS,
    Finding,
    duration,
    listed,
    number,
    percent,
    percent_range,
    shown,
)
from egl_fast.evaluation.statistics.bootstrap import Interval

#: The budget at which the paper states its main claim; the nearest query is taken.
_MAIN_FRACTION = 0.20


def main_query(evaluation: Evaluation) -> Query | None:
    """The query nearest to 20% of the pool; None where there are end points only."""
    return min(
        evaluation.queries, key=lambda query: abs(query.fraction - _MAIN_FRACTION), default=None
    )


def double_query(evaluation: Evaluation, query: Query) -> Query | None:
    """The query of twice the budget, if there is one."""
    for other in evaluation.queries:
        if query.fraction > 0 and abs(other.fraction / query.fraction - 2) <= SAME_HOURS:
            return other
    return None


def run_findings(
    evaluation: Evaluation, metric: Metric = METRICS[0], *, subject: Series | None = None
) -> list[Finding]:
    """What an evaluation found, most important first.

    Args:
        evaluation: the results.
        metric: what the sentences are about.
        subject: which of the series they are about; None: EGL, or else the first that is not
            random selection.
    """
    query, baseline = main_query(evaluation), evaluation.baseline
    others = [series for series in evaluation.series if series.strategy != "random"]
    if subject is None:
        egl = (series for series in others if series.strategy == "egl")
        subject = next(egl, next(iter(others), None))
    if query is None or subject is None:
        return []
    about = _About(evaluation, subject, query, metric)
    found: list[Finding | None] = []
    if baseline is not None:
        against = (_against_random, _half_the_labels, _label_efficiency, _equal_hours)
        found += [finding(about, baseline) for finding in against]
    found += [finding(about) for finding in (_against_confidence, _lowest, _sequential)]
    return [finding for finding in found if finding is not None]


class _About(NamedTuple):
    """What sentences are about."""

    evaluation: Evaluation
    subject: Series
    query: Query
    metric: Metric

    @property
    def name(self) -> str:
        return look(self.subject).label

    def against(
        self, other: Series, *, query: Query | None = None, other_query: str | None = None
    ) -> Comparison | None:
        at = query or self.query
        return self.evaluation.compare(
            self.subject, other, at.name, self.metric, other_query=other_query
        )


def _against_random(about: _About, baseline: Series) -> Finding | None:
    evaluation, subject, query, metric = about
    comparison = about.against(baseline)
    ours = evaluation.value(subject, query.name, metric)
    theirs = evaluation.value(baseline, query.name, metric)
    if comparison is None or ours is None or theirs is None:
        return None
    text = (
        f"With {shown(query)} of the pool labeled, its {metric.label} is "
        f"{number(ours.estimate, metric)}, and random selection's is "
        f"{number(theirs.estimate, metric)}: {_relative(comparison)}{_in_seeds(comparison)}."
    )
    others = [about.against(baseline, query=q) for q in evaluation.queries if q != query]
    verdicts = [other.verdict for other in others if other is not None]
    better, worse = verdicts.count("better"), verdicts.count("worse")
    if len(verdicts) == 1:
        found = "it better" if better else "it worse" if worse else "no clear difference"
        text += f" At the other budget, the same comparison finds {found}."
    elif verdicts:
        text += (
            f" It is better at {better} and worse at {worse} of the {len(verdicts)} other budgets."
        )
    title = f"{_versus(comparison, about.name, 'random selection')} at {shown(query)}"
    return Finding(comparison.verdict, title, text)


def _half_the_labels(about: _About, baseline: Series) -> Finding | None:
    """The paper's claim that EGL needs half of the labels."""
    double = double_query(about.evaluation, about.query)
    comparison = None if double is None else about.against(baseline, other_query=double.name)
    if double is None or comparison is None:
        return None
    name, other = f"{shown(about.query)} by {about.name}", f"{shown(double)} at random"
    text = (
        f"Its {about.metric.label} is {_relative(comparison)} with half of the labels"
        f"{_in_seeds(comparison)}."
    )
    return Finding(comparison.verdict, _versus(comparison, name, other), text)


def _label_efficiency(about: _About, baseline: Series) -> Finding | None:
    evaluation, subject, query, metric = about
    span = evaluation.label_efficiency(subject, baseline, query.name, metric)
    if span is None:
        return None
    name = about.name
    if math.isinf(span.estimate) and span.estimate > 0:
        title = f"{shown(query)} by {name} is beyond anything random selection reached"
        text = f"Random selection never gets down to that {metric.label}"
    elif math.isinf(span.estimate):
        title = f"{shown(query)} by {name} is worth no random labels at all"
        text = f"Its {metric.label} is above where random selection starts"
    else:
        title = f"{shown(query)} by {name} is worth {percent(span.estimate)} at random"
        text = (
            f"Random selection needs {percent(span.estimate)} of the pool to come down to the "
            f"{metric.label} that {name} has at {shown(query)}"
        )
    text += (
        f" (95% interval: {percent_range(span)}), read off straight lines between measured budgets."
    )
    last = evaluation.queries[-1].fraction
    if last < span.estimate < 1:
        text += f" Nothing was measured between {percent(last)} and 100%, so this is rough."
    low, high = sorted((span.low, span.high))
    verdict = "better" if low > query.fraction else "worse" if high < query.fraction else "open"
    return Finding(verdict, title, text)


def _equal_hours(about: _About, baseline: Series) -> Finding | None:
    """How the comparison changes when hours are held equal, not numbers of recordings."""
    evaluation, subject, query, metric = about
    ours = evaluation.mean_hours(subject, query.name)
    theirs = evaluation.mean_hours(baseline, query.name)
    if not ours or not theirs:
        return None
    comparison = evaluation.compare_at_hours(subject, baseline, theirs, metric)
    if comparison is None:
        return None
    name, ratio = about.name, ours / theirs
    own, at_random = (duration(hours, digits=(1, 1)) for hours in (ours, theirs))
    length = f"{name} picks recordings of about average length"
    if abs(ratio - 1) > SAME_HOURS:
        length = (
            f"{shown(query)} of the recordings is {own} of audio by {name} and {at_random} at "
            f"random: its picks are {'longer' if ratio > 1 else 'shorter'}"
        )
    return Finding(
        comparison.verdict,
        f"At equal hours, {_versus(comparison, name, 'random selection')}",
        f"{length}. With {at_random} labeled by both, its {metric.label} is "
        f"{_relative(comparison)}{_in_seeds(comparison)}.",
    )


def _against_confidence(about: _About) -> Finding | None:
    parts, verdicts, title = [], [], ""
    for strategy in ("entropy", "pctc"):
        other = Series(strategy, "single")
        if other not in about.evaluation.series or other == about.subject:
            continue
        comparison = about.against(other)
        if comparison is not None:
            title = title or _versus(comparison, about.name, "confidence")
            verdicts.append(comparison.verdict)
            parts.append(f"{_relative(comparison)} than with {label(strategy)}")
    if not parts:
        return None
    title, verdict = f"{title} at {shown(about.query)}", verdicts[0]
    if len(set(verdicts)) > 1:
        title, verdict = f"{about.name} against confidence at {shown(about.query)}: mixed", "open"
    return Finding(verdict, title, f"Its {about.metric.label} is {', and '.join(parts)}.")


def _lowest(about: _About) -> Finding | None:
    evaluation, _, query, metric = about
    values = {
        series: value
        for series in evaluation.series
        if (value := evaluation.value(series, query.name, metric)) is not None
    }
    if len(values) < 3:
        return None
    best = min(values, key=lambda series: values[series].estimate)
    level = []
    for series in values:
        comparison = evaluation.compare(series, best, query.name, metric)
        # In an incomplete run, two may share no seed, or only seeds that say otherwise.
        if series != best and (comparison is None or comparison.verdict not in ("worse", "behind")):
            level.append(look(series).label)
    low, high = (f"{end * metric.scale:.1f}" for end in (values[best].low, values[best].high))
    text = (
        f"At {shown(query)} its mean {metric.label} over seeds is "
        f"{number(values[best].estimate, metric)} (95% interval {low} to {high}{metric.unit})."
    )
    if level:
        text += f" By the paired intervals, {listed(level)} cannot be told apart from it."
    else:
        text += " Every other strategy is worse, with intervals that exclude zero."
    text += " Part of being the lowest of several is luck."
    return Finding("fact", f"Lowest at {shown(query)}: {look(best).label}", text)


def _sequential(about: _About) -> Finding | None:
    evaluation, subject, query, metric = about
    rounds = Series(subject.strategy, "sequential")
    shared = [
        q for q in evaluation.queries if evaluation.seeds_of([(subject, q.name), (rounds, q.name)])
    ]
    if subject == rounds or rounds not in evaluation.series or not shared:
        return None
    at = query if query in shared else shared[-1]
    comparison = evaluation.compare(rounds, subject, at.name, metric)
    if comparison is None:
        return None
    return Finding(
        comparison.verdict,
        _versus(comparison, f"{about.name} in rounds", f"{about.name} in a single batch"),
        f"At {shown(at)}, with the pool scored again after each round, the {metric.label} is "
        f"{_relative(comparison)} than with a single batch{_in_seeds(comparison)}.",
    )


def _versus(comparison: Comparison, name: str, other: str) -> str:
    return {
        "better": f"{name} beats {other}",
        "ahead": f"{name} tends to beat {other}",
        "worse": f"{name} does worse than {other}",
        "behind": f"{name} tends to do worse than {other}",
        "open": f"{name} and {other} cannot be told apart",
    }[comparison.verdict]


def _relative(comparison: Comparison) -> str:
    """ "12% lower (95% interval 8 to 16%)"; ends that point the other way carry a minus."""
    span, word = comparison.reduction, "lower"
    if span.estimate < 0:
        span, word = Interval(-span.estimate, -span.high, -span.low), "higher"
    return (
        f"{percent(span.estimate, digits=1)} {word} (95% interval {percent_range(span, digits=1)})"
    )


def _in_seeds(comparison: Comparison) -> str:
    seeds = comparison.by_seed
    if len(seeds) < 2:
        return ", in a single seed"
    return f", and lower in {sum(value < 0 for value in seeds)} of {len(seeds)} seeds"
