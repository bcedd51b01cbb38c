"""What an evaluation measured, as tables and as rows of charts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from egl_fast.evaluation.reporting import paper
from egl_fast.evaluation.reporting.evaluation import Comparison, Evaluation
from egl_fast.evaluation.reporting.findings import main_query
from egl_fast.evaluation.reporting.measures import METRICS, Metric, Series
from egl_fast.evaluation.reporting.names import label, look
from egl_fast.evaluation.reporting.page_model import Cell, Page, Row, Table
from egl_fast.evaluation.reporting.wording import MINUS, duration, percent, percent_range, shown
from egl_fast.evaluation.statistics.bootstrap import Interval


def add_metrics(page: Page, evaluation: Evaluation) -> None:
    """Table 1, the curves of Fig. 1, the comparison with random, what is read off the curves."""
    page.data["metrics"] = [
        {"key": metric.key, "label": metric.label, "title": _titled(metric)} for metric in METRICS
    ]
    page.data["points"] = list(_points(evaluation))
    page.data["queries"] = [shown(query) for query in evaluation.queries]
    baseline = evaluation.baseline
    page.data["reductions"] = [] if baseline is None else list(_reductions(evaluation, baseline))
    for metric in METRICS:
        page.metric_tables.append(_table_1(evaluation, metric))
        page.curve_tables.append(_behind_the_curves(evaluation, metric))
        if baseline is not None:
            page.reduction_tables.append(_behind_the_reductions(evaluation, baseline, metric))
            page.efficiency_tables.append(_efficiency(evaluation, baseline, metric))
            page.equal_tables.append(_equal_hours(evaluation, baseline, metric))


def paper_tables(evaluation: Evaluation) -> list[Table]:
    """The paper's Table 1 beside ours: relative reductions, which compare across data sets."""
    asked = {query.name for query in evaluation.queries}
    tables = []
    for metric in METRICS:
        rows = []
        for query, published in paper.TABLE_1[metric.key].items():
            for strategy, theirs in zip(paper.STRATEGIES, published, strict=True):
                if query not in asked:
                    continue
                series = Series(strategy, "single")
                ours = evaluation.value(series, query, metric)
                change = "" if strategy == "random" else _change(1 - theirs / published[0])
                cells = (
                    Cell(f"{theirs:.2f}"),
                    Cell(change),
                    Cell("" if ours is None else _value(ours.estimate, metric)),
                    _change_cell(_against_baseline(evaluation, series, query, metric)),
                )
                place = evaluation.series.index(series) if series in evaluation.series else None
                rows.append(Row(f"{label(strategy)} at {query[:-1]}%", place, cells))
        if rows:
            caption = f"{metric.label}: the paper's Table 1 and this run"
            columns = ("paper", "compared with random", "this run", "against random")
            tables.append(Table(caption, columns, tuple(rows)))
    return tables


def _against_baseline(
    evaluation: Evaluation, series: Series, query: str, metric: Metric
) -> Comparison | None:
    """None for the baseline itself, and where there is none."""
    baseline = evaluation.baseline
    if baseline is None or series == baseline or series.strategy == "random":
        return None
    return evaluation.compare(series, baseline, query, metric)


def _points(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    """A row for each point of each curve, end points included; metrics in their order."""
    own = {query.name for query in evaluation.queries}
    for place, series in enumerate(evaluation.series):
        curves = [(metric, evaluation.curve(series, metric)) for metric in METRICS]
        drawn = [(metric, curve) for metric, curve in curves if curve is not None]
        for at, query in enumerate(drawn[0][1].queries if drawn else ()):
            values = [(metric, evaluation.value(series, query, metric)) for metric in METRICS]
            yield {
                "s": place,
                "q": query,
                "end": query not in own,
                "recordings": round(float(drawn[0][1].fractions[at]) * 100, 3),
                "hours": round(float(drawn[0][1].hours[at]), 5),
                "y": [_rounded(curve.values[0, at] * m.scale) for m, curve in drawn],
                "said": [
                    ""
                    if v is None
                    else f"{m.label} {_value(v.estimate, m)}{m.unit} ({_ends(v, m)})"
                    for m, v in values
                ],
                "seeds": [
                    [_rounded(y * m.scale) for y in curve.by_seed[:, at]] for m, curve in drawn
                ],
            }


def _reductions(evaluation: Evaluation, baseline: Series) -> Iterator[dict[str, Any]]:
    for place, series in enumerate(evaluation.series):
        for query in evaluation.queries:
            for at, metric in enumerate(METRICS):
                comparison = evaluation.compare(series, baseline, query.name, metric)
                if series == baseline or comparison is None:
                    continue
                span = comparison.reduction
                yield {
                    "s": place,
                    "q": shown(query),
                    "m": at,
                    "y": _rounded(span.estimate * 100),
                    "low": _rounded(span.low * 100),
                    "high": _rounded(span.high * 100),
                    "seeds": [_rounded(value * 100) for value in comparison.reduction_by_seed],
                }


def _table_1(evaluation: Evaluation, metric: Metric) -> Table:
    """One metric's part of Table 1: a row per budget, a column per strategy."""
    rows = []
    for query in evaluation.queries:
        values = {s: evaluation.value(s, query.name, metric) for s in evaluation.series}
        lowest = min((v.estimate for v in values.values() if v is not None), default=None)
        cells = []
        for series, value in values.items():
            cell = _value_cell(value, metric)
            if value is not None:
                comparison = _against_baseline(evaluation, series, query.name, metric)
                verdict = "" if comparison is None else comparison.verdict
                cell = replace(cell, best=value.estimate == lowest, verdict=verdict)
            cells.append(cell)
        rows.append(Row(shown(query), None, tuple(cells)))
    columns = tuple(look(series).label for series in evaluation.series)
    return Table(_titled(metric), columns, tuple(rows), more=_end_points(evaluation, metric))


def _end_points(evaluation: Evaluation, metric: Metric) -> str:
    """What is the same for every strategy, as far as it was measured."""
    series = evaluation.series[0]
    parts = []
    for query in evaluation.end_points(series.mode):
        value = evaluation.value(series, query, metric)
        curve = evaluation.curve(series, metric)
        if value is not None and curve is not None and query in curve.queries:
            fraction = curve.fractions[curve.queries.index(query)]
            what = "nothing labeled" if fraction == 0 else "all of the pool labeled"
            parts.append(f"{what}: {_value(value.estimate, metric)} ({_ends(value, metric)})")
    return "; ".join(parts)


def _behind_the_curves(evaluation: Evaluation, metric: Metric) -> Table:
    rows = []
    for place, series in enumerate(evaluation.series):
        for query in (q.name for q in evaluation.queries):
            value = evaluation.value(series, query, metric)
            hours = evaluation.mean_hours(series, query)
            if value is None or hours is None:
                continue
            seeds = evaluation.by_seed(series, query, metric)
            texts = (
                _value(value.estimate, metric),
                _ends(value, metric),
                f"{hours:.3f}",
                ", ".join(_value(seed, metric) for seed in seeds),
            )
            rows.append(Row(f"{look(series).label}, {query}", place, tuple(map(Cell, texts))))
    caption = f"{_titled(metric)}: the points of the curves"
    columns = ("mean", "95% interval", "hours labeled", "each seed")
    return Table(caption, columns, tuple(rows), corner="Strategy, budget")


def _by_series(
    caption: str,
    columns: Sequence[str],
    evaluation: Evaluation,
    cells: Callable[[Series], Iterable[Cell]],
    *,
    but: Series | None = None,
) -> Table:
    """A row per series."""
    rows = (
        Row(look(series).label, place, tuple(cells(series)))
        for place, series in enumerate(evaluation.series)
        if series != but
    )
    return Table(caption, tuple(columns), tuple(rows))


def _behind_the_reductions(evaluation: Evaluation, baseline: Series, metric: Metric) -> Table:
    def cells(series: Series) -> Iterator[Cell]:
        for query in evaluation.queries:
            yield _change_cell(evaluation.compare(series, baseline, query.name, metric))

    caption = f"{metric.label}: change against random selection, with 95% intervals"
    columns = [shown(query) for query in evaluation.queries]
    return _by_series(caption, columns, evaluation, cells, but=baseline)


def _efficiency(evaluation: Evaluation, baseline: Series, metric: Metric) -> Table:
    def cells(series: Series) -> Iterator[Cell]:
        for query in evaluation.queries:
            span = evaluation.label_efficiency(series, baseline, query.name, metric)
            yield Cell("–") if span is None else Cell(_budget(span.estimate), percent_range(span))

    caption = f"{metric.label}: how much of the pool random selection needs to do as well"
    columns = [f"as at {shown(query)}" for query in evaluation.queries]
    return _by_series(caption, columns, evaluation, cells, but=baseline)


def _budget(share: float) -> str:
    return percent(share) if math.isfinite(share) else ("> 100%" if share > 0 else "< 0%")


def _equal_hours(evaluation: Evaluation, baseline: Series, metric: Metric) -> Table:
    query = main_query(evaluation)

    def hours_of(series: Series) -> float | None:
        return None if query is None else evaluation.mean_hours(series, query.name)

    hours = hours_of(baseline)

    def cells(series: Series) -> Iterator[Cell]:
        value = comparison = against = None
        if hours is not None:
            value = evaluation.at_hours(series, hours, metric)
        if hours is not None and series != baseline:
            comparison = evaluation.compare_at_hours(series, baseline, hours, metric)
        if series != baseline:
            against = evaluation.compare_mean_height(series, baseline, metric)
        yield Cell(_duration(hours_of(series)))
        yield _value_cell(value, metric)
        yield _change_cell(comparison)
        yield _value_cell(evaluation.mean_height(series, metric), metric)
        if against is None:
            yield Cell("")
        else:
            ends = (against.estimate, against.low, against.high)
            middle, low, high = (_signed(end * metric.scale, 2) for end in ends)
            yield Cell(middle, f"{low} to {high}")

    caption = f"{_titled(metric)}: at equal hours, and over the whole curve"
    columns = (
        f"audio in {'–' if query is None else shown(query)} of the recordings",
        f"{metric.label} at {_duration(hours)} labeled",
        "compared with random",
        "mean over budgets",
        "difference from random",
    )
    return _by_series(caption, columns, evaluation, cells)


def _duration(hours: float | None) -> str:
    return "–" if hours is None else duration(hours)


def _titled(metric: Metric) -> str:
    long = metric.long_label[0].upper() + metric.long_label[1:]
    return f"{long} ({metric.label}), {metric.unit.strip()}" if metric.unit else long


def _value(value: float, metric: Metric) -> str:
    return f"{value * metric.scale:.2f}"


def _ends(value: Interval, metric: Metric) -> str:
    return f"{value.low * metric.scale:.1f} to {value.high * metric.scale:.1f}"


def _value_cell(value: Interval | None, metric: Metric) -> Cell:
    if value is None:
        return Cell("–")
    return Cell(_value(value.estimate, metric), _ends(value, metric))


def _change(reduction: float) -> str:
    """A relative reduction as a change: 0.05 is "−5.0%"."""
    return f"{_signed(-reduction * 100, 1)}%"


def _change_cell(comparison: Comparison | None) -> Cell:
    if comparison is None:
        return Cell("")
    span = comparison.reduction
    ends = f"{_signed(-span.high * 100, 1)} to {_change(span.low)}"
    return Cell(_change(span.estimate), ends, verdict=comparison.verdict)


def _signed(value: float, digits: int) -> str:
    text = f"{value:+.{digits}f}".replace("-", MINUS)
    return text.lstrip("+" + MINUS) if float(f"{value:.{digits}f}") == 0 else text


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")
